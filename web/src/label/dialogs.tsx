import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { messageOf } from "../api/message";
import { LazyMarkdown } from "../chat/lazy-markdown";
import { formatDate } from "../lib/format";
import { Dialog } from "../ui/dialog";
import { Field, Spinner } from "../ui/fields";
import { flagTask, guidelines, skipTask } from "./api";
import { SKIP_REASONS, writes, type SkipReason, type Task } from "./task";

/** Skip: somebody else may do it. Flag: a lead should look at it first. Both with a reason. */
export function SkipDialog({ task, how, onDone, onClose }: { task: Task; how: "skip" | "flag"; onDone: () => void; onClose: () => void }) {
  const { t } = useTranslation();
  const [reason, setReason] = useState<SkipReason | null>(null);
  const [comment, setComment] = useState("");
  const [problem, setProblem] = useState("");
  async function send() {
    if (!reason) return;
    try {
      await (how === "skip" ? skipTask : flagTask)(task.id, reason, comment.trim());
      onDone();
    } catch (failure) {
      setProblem(messageOf(failure, t));
    }
  }
  return (
    <Dialog title={t(`label.${how}.title`)} onClose={onClose}>
      <p className="soft">{t(`label.${how}.text`)}</p>
      <form className="stack" onSubmit={(event) => { event.preventDefault(); void send(); }}>
        <fieldset className="desk-reasons">
          <legend>{t("label.reason")}</legend>
          {SKIP_REASONS.map((each) => (
            <label key={each} className="check"><input type="radio" name="reason" checked={reason === each} onChange={() => setReason(each)} /><span>{t(`label.reasons.${each}`)}</span></label>
          ))}
        </fieldset>
        <Field label={t("label.reasonComment")}>{(ids) => <textarea dir="auto" className="input" {...ids} maxLength={2000} value={comment} onChange={(event) => setComment(event.target.value)} />}</Field>
        {problem ? <p className="error-text" role="alert">{problem}</p> : null}
        <div className="row end">
          <button type="button" className="button plain" onClick={onClose}>{t("common.cancel")}</button>
          <button type="submit" className="button primary" disabled={!reason}>{t(`label.${how}.action`)}</button>
        </div>
      </form>
    </Dialog>
  );
}

/** The rules to label by, in the version that the label will name. */
export function GuidelineDialog({ task, onClose }: { task: Task; onClose: () => void }) {
  const { t, i18n } = useTranslation();
  const { data, error } = useQuery({ queryKey: ["desk", "guidelines", task.project], queryFn: () => guidelines(task.project), staleTime: 60_000 });
  const guideline = data?.find((each) => each.id === task.guideline);
  return (
    <Dialog title={t("label.guideline.title")} wide onClose={onClose}>
      {guideline ? (
        <>
          <p className="soft small">{t("label.guideline.version", { version: guideline.version, date: formatDate(guideline.created_at, i18n.language) })}</p>
          <LazyMarkdown text={guideline.text} eager />
        </>
      ) : error ? <p className="error-text" role="alert">{messageOf(error, t)}</p> : data ? <p className="soft">{t("label.guideline.none")}</p> : <Spinner label={t("common.loading")} />}
    </Dialog>
  );
}

const mod = /Mac|iPhone|iPad/.test(navigator.userAgent) ? "⌘" : "Ctrl";

/** The keys of the task at hand. */
export function KeysDialog({ task, step, onClose }: { task: Task; step: "rate" | "judge"; onClose: () => void }) {
  const { t } = useTranslation();
  type Row = [string[], string];
  const send: Row = [writes(task) ? [mod, "Enter"] : ["Enter"], t("label.submit")];
  const texts: Row[] = [[["M"], t("label.keys.raw")], [["V"], t("label.keys.diff")]];
  const move: Row = [["J", "K", "→", "←"], t("label.keys.move")];
  const kinds: Row[] = writes(task) ? [] : task.kind === "compare"
    ? [[["A", "←"], t("label.compare.a")], [["B", "→"], t("label.compare.b")], [["T", "="], t("label.compare.tie")], [["X"], t("label.compare.both_bad")], ...texts]
    : step === "rate"
      ? [[["1", "…", "7"], t("label.keys.rate")], move, [["F"], t("label.keys.flags")], ...texts]
      : [
          [["D", "C", "A", "=", "B"], t("label.keys.typed")], [["1", "…", String(task.answers.length)], t("label.keys.digits")], move, [["[", "]"], t("label.keys.nudge")],
          [["⌫"], t("label.keys.back")], ...(task.allow_unranked ? [[["0", "U"], t("label.leave")] as Row] : []), [["N"], t("label.rank.none")], [["X"], t("label.rank.cannot")], ...texts,
        ];
  const common: Row[] = [[[mod, "Z"], t("label.undo")], [[mod, "Shift", "Z"], t("label.redo")], [["O"], t("label.guideline.title")], [["S"], t("label.skip.title")], [["R"], t("label.flag.title")], [["?"], t("keys.title")]];
  return (
    <Dialog title={t("keys.title")} onClose={onClose}>
      <dl className="keys">
        {[...kinds, send, ...common].map(([keys, text]) => (
          <div key={text} className="key-row"><dt>{keys.map((key) => <kbd key={key}>{key}</kbd>)}</dt><dd>{text}</dd></div>
        ))}
      </dl>
    </Dialog>
  );
}
