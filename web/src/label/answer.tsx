import { ChevronsDownUp, ChevronsUpDown, Scissors } from "lucide-react";
import { useMemo, useState, type ReactNode, type Ref } from "react";
import { useTranslation } from "react-i18next";
import { LazyMarkdown } from "../chat/lazy-markdown";
import { formatNumber } from "../lib/format";
import { letterOf, type Message, type Task } from "./task";
import { differences, lengthOf, scriptsOf } from "./texts";

/** How answers are shown; the same for all of them, or they could not be compared. */
export type View = { raw: boolean; diff: boolean; reference: number };

/** The conversation that the task is about. */
export function Conversation({ messages }: { messages: readonly Message[] }) {
  const { t } = useTranslation();
  if (!messages.length) return null;
  return (
    <section className="desk-conversation" aria-label={t("label.conversation")}>
      {messages.map((message, index) => (
        <article key={index} className={`desk-turn turn-${message.role}`}>
          <h2>{t(`label.roles.${message.role}`)}</h2>
          {message.role === "assistant" ? <LazyMarkdown text={message.content} eager /> : <div className="desk-raw" dir="auto">{message.content}</div>}
        </article>
      ))}
    </section>
  );
}

type CardProps = {
  task: Task; place: number; prefix: number; view: View; focused?: boolean; cardRef?: Ref<HTMLElement>; onFocus?: () => void;
  handle?: ReactNode; tools?: ReactNode; onReference?: () => void; children?: ReactNode;
};

/** One answer with its whole text; what all begin with alike is folded. */
export function AnswerCard(props: CardProps) {
  const { t } = useTranslation();
  const { task, place, view } = props;
  const answer = task.answers[place]!;
  const diffed = view.diff && place !== view.reference;
  return (
    <article
      ref={props.cardRef} tabIndex={0} className={props.focused ? "desk-card focused" : "desk-card"} onFocus={props.onFocus} data-place={place}
      aria-label={t("label.answer", { letter: letterOf(place) })} aria-current={props.focused ? "true" : undefined}
    >
      <div className="desk-card-head">{props.handle ?? <span className="desk-letter">{letterOf(place)}</span>}<div className="grow row wrap">{props.tools}</div></div>
      <AnswerText text={answer.text} reference={diffed ? task.answers[view.reference]!.text : null} plain={view.diff} raw={view.raw} prefix={props.prefix} />
      <Facts text={answer.text} finish={answer.finish_reason} />
      {view.diff ? (diffed && props.onReference
        ? <button type="button" className="button plain small" onClick={props.onReference}>{t("label.diff.use")}</button>
        : <p className="soft small">{t("label.diff.reference")}</p>) : null}
      {props.children}
    </article>
  );
}

function AnswerText({ text, reference, plain, raw, prefix }: { text: string; reference: string | null; plain: boolean; raw: boolean; prefix: number }) {
  const { t, i18n } = useTranslation();
  const [unfolded, setUnfolded] = useState(false);
  const folded = prefix > 0 && !unfolded;
  const shown = folded ? text.slice(prefix) : text;
  const pieces = useMemo(() => (reference === null ? null : differences(folded ? reference.slice(prefix) : reference, shown)), [reference, shown, folded, prefix]);
  const Icon = folded ? ChevronsUpDown : ChevronsDownUp;
  return (
    <div className="desk-text">
      {prefix > 0 ? (
        <button type="button" className="desk-fold" aria-expanded={!folded} onClick={() => setUnfolded(!unfolded)}>
          <Icon size={14} aria-hidden />{t("label.prefix", { count: prefix, number: formatNumber(prefix, i18n.language) })}
        </button>
      ) : null}
      {!text ? <p className="soft">{t("label.emptyAnswer")}</p> : pieces
        ? <div className="desk-raw" dir="auto">{pieces.map((piece, index) => (piece.same ? piece.text : <mark key={index}>{piece.text}</mark>))}</div>
        : plain ? <div className="desk-raw" dir="auto">{shown}</div> : raw ? <div className="desk-raw mono" dir="auto">{shown}</div> : <LazyMarkdown text={shown} eager />}
    </div>
  );
}

/** Length, script and how the answer ended: what people overlook. */
function Facts({ text, finish }: { text: string; finish: string }) {
  const { t, i18n } = useTranslation();
  const { words, signs } = useMemo(() => lengthOf(text), [text]);
  const scripts = useMemo(() => scriptsOf(text), [text]);
  const number = (value: number) => formatNumber(value, i18n.language);
  return (
    <p className="desk-facts">
      <span>{t("label.words", { count: words, number: number(words) })}</span>
      <span>{t("label.signs", { count: signs, number: number(signs) })}</span>
      {scripts.length ? <span>{scripts.map((script) => t(`label.scripts.${script}`)).join(" + ")}</span> : null}
      {finish === "length" ? <span className="badge warn"><Scissors size={12} aria-hidden /> {t("label.cutOff")}</span> : <span>{finish === "stop" || !finish ? t("label.complete") : t("label.finished", { reason: finish })}</span>}
    </p>
  );
}

/** Switches for how texts are shown. */
export function ViewTools({ view, onView }: { view: View; onView: (view: View) => void }) {
  const { t } = useTranslation();
  return (
    <div className="segments" role="group" aria-label={t("label.view.label")}>
      <button type="button" aria-pressed={!view.raw && !view.diff} onClick={() => onView({ ...view, raw: false, diff: false })}>{t("label.view.markdown")}</button>
      <button type="button" aria-pressed={view.raw && !view.diff} onClick={() => onView({ ...view, raw: true, diff: false })}>{t("label.view.raw")}</button>
      <button type="button" aria-pressed={view.diff} onClick={() => onView({ ...view, diff: true })}>{t("label.view.diff")}</button>
    </div>
  );
}
