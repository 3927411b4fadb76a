import { BookOpen, Check, CloudOff, CloudUpload, Flag, Keyboard, Redo2, SkipForward, Undo2 } from "lucide-react";
import { useEffect, useMemo, useRef, useState, type RefObject } from "react";
import { useTranslation } from "react-i18next";
import { ApiError } from "../api/client";
import { Spinner } from "../ui/fields";
import { SideButton } from "../ui/frame";
import { renew } from "./api";
import type { View } from "./answer";
import type { Clock } from "./clock";
import { Compare } from "./compare";
import { useDesk } from "./desk";
import { GuidelineDialog, KeysDialog, SkipDialog } from "./dialogs";
import { secondsOf, useKeys, useUndoKeys } from "./hooks";
import type { Keeper, KeeperStatus, Opened } from "./keeper";
import { Rank } from "./rank";
import { textOf } from "./ranking";
import { Rate } from "./rating";
import { FootContext, type ScreenProps } from "./screen";
import { excerptOf, labelOf, letterOf, missing, ratesFirst, writes, type Task, type Work } from "./task";
import { useDraft, useWork, type Opening } from "./work";
import { Write } from "./write";

type Sent = { uuid: string; task: Task; work: Work };
type FrameProps = { task: Task; given: Work | null; onSent: (sent: Sent) => void; onSkipped: () => void; onUndoSent: (() => void) | null };

/** A task with everything around it: its drafts are looked for first, so that nothing begun is begun again. */
export function TaskFrame(props: FrameProps) {
  const { t } = useTranslation();
  const { labeller } = useDesk();
  const { keeper, opening, status, conflict } = useDraft(props.task, labeller, props.given);
  if (!opening) return <Spinner label={t("common.loading")} />;
  return <OpenTask {...props} {...{ keeper, opening, status, conflict }} />;
}

type OpenProps = FrameProps & { keeper: Keeper<Work>; opening: Opening; status: KeeperStatus; conflict: Opened<Work>["conflict"] };

function OpenTask(props: OpenProps) {
  const { task, keeper, onSent } = props;
  const { t } = useTranslation();
  const { labeller, outbox } = useDesk();
  const [state, dispatch, clock] = useWork(task, props.opening.work, keeper);
  const [view, setView] = useState<View>({ raw: false, diff: false, reference: 0 });
  const [dialog, setDialog] = useState<"" | "skip" | "flag" | "guideline" | "keys">("");
  const sent = useRef(false);
  const lost = useLease(task, clock);
  const past = writes(task) ? state.texts : state.history;
  const canUndo = past.past.length > 0;
  const undo = () => { if (canUndo) dispatch({ type: "undo" }); else props.onUndoSent?.(); };
  useUndoKeys(undo, () => dispatch({ type: "redo" }));
  useKeys((key) => {
    const opened = ({ "?": "keys", o: "guideline", s: "skip", r: "flag" } as const)[key];
    if (!opened) return false;
    setDialog(opened);
    return true;
  });

  async function submit() {
    if (sent.current || missing(task, state.work) || props.conflict) return;
    sent.current = true;
    const work = { ...state.work, seconds: secondsOf(clock) };
    const uuid = newUuid();
    await outbox.add({ uuid, labeller, task: task.id, excerpt: excerptOf(task), body: labelOf(task, work, uuid), at: Date.now(), state: "waiting", reason: "" });
    keeper.stop();
    onSent({ uuid, task, work });
  }

  const foot = useMemo(() => [
    { label: t("label.skip.button"), icon: <SkipForward size={16} aria-hidden />, onSelect: () => setDialog("skip") },
    { label: t("label.flag.button"), icon: <Flag size={16} aria-hidden />, onSelect: () => setDialog("flag") },
  ], [t]);
  const screen: ScreenProps = { task, state, dispatch, onSubmit: () => void submit() };
  const tools = { canUndo: canUndo || props.onUndoSent !== null, canRedo: past.future.length > 0, undo, redo: () => dispatch({ type: "redo" }), open: setDialog, status: props.status };
  return (
    <>
      <Head task={task} {...tools} />
      {lost ? <p className="notice desk-notice" role="status">{t("label.leaseLost")}</p> : null}
      {props.conflict ? <Conflict task={task} conflict={props.conflict} onChoose={(which) => void keeper.choose(which).then((work) => dispatch({ type: "load", work }))} /> : null}
      <FootContext value={foot}>
        {writes(task) ? <Write {...screen} />
          : task.kind === "compare" ? <Compare {...screen} view={view} onView={setView} />
            : ratesFirst(task) && state.work.step === "rate" ? <Rate {...screen} view={view} onView={setView} />
              : <Rank {...screen} view={view} onView={setView} />}
      </FootContext>
      {dialog === "skip" || dialog === "flag" ? <SkipDialog task={task} how={dialog} onClose={() => setDialog("")} onDone={() => { keeper.stop(); props.onSkipped(); }} /> : null}
      {dialog === "guideline" ? <GuidelineDialog task={task} onClose={() => setDialog("")} /> : null}
      {dialog === "keys" ? <KeysDialog task={task} step={state.work.step} onClose={() => setDialog("")} /> : null}
    </>
  );
}

type HeadProps = { task: Task; status: KeeperStatus; canUndo: boolean; canRedo: boolean; undo: () => void; redo: () => void; open: (dialog: "guideline" | "keys") => void };

function Head({ task, status, canUndo, canRedo, undo, redo, open }: HeadProps) {
  const { t } = useTranslation();
  const button = (label: string, Icon: typeof Undo2, onClick: () => void, disabled = false) => (
    <button type="button" className="icon-button" aria-label={label} title={label} disabled={disabled} onClick={onClick}><Icon size={18} aria-hidden /></button>
  );
  return (
    <header className="top desk-top">
      <SideButton />
      <h1 className="grow ellipsis">{t(`label.kinds.${task.kind}`)}<span className="soft"> · {task.project_name}</span></h1>
      <span className="desk-saved soft small" role="status" data-status={status}>{status === "saved" ? <Check size={14} aria-hidden /> : status === "saving" ? <CloudUpload size={14} aria-hidden /> : <CloudOff size={14} aria-hidden />}<span>{t(`label.status.${status}`)}</span></span>
      {button(t("label.undo"), Undo2, undo, !canUndo)}
      {button(t("label.redo"), Redo2, redo, !canRedo)}
      {button(t("label.guideline.title"), BookOpen, () => open("guideline"))}
      {button(t("keys.title"), Keyboard, () => open("keys"))}
    </header>
  );
}

/** Two versions of one task's work: shown, and somebody chooses. Neither is dropped before that. */
function Conflict({ task, conflict, onChoose }: { task: Task; conflict: NonNullable<Opened<Work>["conflict"]>; onChoose: (which: "mine" | "theirs") => void }) {
  const { t } = useTranslation();
  return (
    <div className="notice desk-notice desk-conflict" role="alert">
      <p>{t("label.conflict.text")}</p>
      {(["mine", "theirs"] as const).map((which) => (
        <div key={which} className="row wrap">
          <span className="grow"><strong>{t(`label.conflict.${which}`)}</strong> {brief(task, conflict[which])}</span>
          <button type="button" className="button small" onClick={() => onChoose(which)}>{t(`label.conflict.${which}Use`)}</button>
        </div>
      ))}
    </div>
  );
}

/** What a version says, in a line. */
function brief(task: Task, work: Work): string {
  const { ranking, likert, verdict } = work.judged;
  const text = writes(task) ? work.messages.map((message) => message.content).join(" / ")
    : [textOf(ranking), likert.some((each) => each !== null) ? likert.map((each, place) => `${letterOf(place)} ${each ?? "–"}`).join(", ") : "", verdict.toUpperCase()].filter(Boolean).join(" · ");
  return [...text].slice(0, 160).join("") || "–";
}

const RENEW_MS = 240_000;

/** Keeps the place at the task while somebody works on it; true when the server has given it away. */
function useLease(task: Task, clock: RefObject<Clock>): boolean {
  const [lost, setLost] = useState(false);
  useEffect(() => {
    const timer = setInterval(() => {
      if (performance.now() - clock.current.since > RENEW_MS) return;
      renew(task.id).then(() => setLost(false), (failure) => { if (failure instanceof ApiError && [404, 409, 410].includes(failure.status)) setLost(true); });
    }, RENEW_MS);
    return () => clearInterval(timer);
  }, [task.id, clock]);
  return lost;
}

/** `crypto.randomUUID` is missing where a page comes over plain HTTP from another machine. */
export function newUuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
