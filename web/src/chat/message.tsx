import { Calculator, Check, ChevronLeft, ChevronRight, Copy, Pencil, RotateCcw, Sigma, ThumbsDown, ThumbsUp } from "lucide-react";
import { createContext, memo, useContext, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Message } from "../api/chat";
import { copyText } from "../lib/format";
import { isSendKey } from "../lib/ime";
import { useNear } from "../lib/near";
import { answerFailure, stepFailure } from "../lib/said";
import { warn } from "../ui/toast";
import { Version } from "../ui/version";
import { LazyMarkdown } from "./lazy-markdown";
import type { ThoughtMessage } from "./state";
import { Tokens } from "./tokens";

export type MessageActions = {
  edit: (message: Message, text: string) => void;
  regenerate: (message: Message) => void;
  select: (message: Message) => void;
  rate: (message: Message, rating: "up" | "down") => void;
  branch: (message: Message, index: number, tokenId: number) => void;
};

type Props = { message: Message; siblings: Message[]; last: boolean; actions: MessageActions };

/** Whether an answer is being written; a context, so that only what is near the screen is drawn again when it changes. */
export const BusyContext = createContext(false);

/**
 * A message; text only while it is far from the screen, so that hundreds open at once. Memoised on what it shows: a streaming
 * answer redraws itself and none of its neighbours.
 */
export const MessageView = memo(
  function MessageView(props: Props) {
    const { t } = useTranslation();
    const { message } = props;
    const user = message.role === "user";
    const [ref, near] = useNear<HTMLDivElement>(props.last);
    if (near) return user ? <UserMessage {...props} /> : <AssistantMessage {...props} />;
    return (
      <article ref={ref} className={`message message-${message.role}`} aria-label={user ? t("message.yours") : t("message.answerOf", { model: message.model })}>
        {user ? <div className="bubble" dir="auto">{message.content}</div> : <><div className="message-model">{message.model}</div><div className="prose-plain" dir="auto">{message.content}</div></>}
      </article>
    );
  },
  (before, after) =>
    before.message === after.message && before.last === after.last && before.actions === after.actions &&
    before.siblings.length === after.siblings.length && before.siblings.every((each, index) => each.id === after.siblings[index]?.id),
);

function UserMessage({ message, siblings, last, actions }: Props) {
  const busy = useContext(BusyContext);
  const { t } = useTranslation();
  const [editing, setEditing] = useState(false);
  const pencil = useRef<HTMLButtonElement>(null);
  const cancelled = useRef(false);
  useEffect(() => { if (!editing && cancelled.current) { cancelled.current = false; pencil.current?.focus(); } }, [editing]);
  return (
    <article data-message={message.id} className={`message message-user${last ? " last" : ""}${editing ? " editing" : ""}`} aria-label={t("message.yours")}>
      {editing
        ? <EditBox text={message.content} onCancel={() => { cancelled.current = true; setEditing(false); }} onSave={(text) => { setEditing(false); actions.edit(message, text); }} />
        : <div className="bubble" dir="auto">{message.content}</div>}
      {editing ? null : (
        <div className="message-tools">
          <CopyButton text={message.content} />
          <button ref={pencil} type="button" className="icon-button" aria-label={t("message.edit")} title={t("message.edit")} disabled={busy} onClick={() => setEditing(true)}><Pencil size={16} aria-hidden /></button>
          <Branches message={message} siblings={siblings} onSelect={actions.select} />
        </div>
      )}
    </article>
  );
}

function EditBox(props: { text: string; onSave: (text: string) => void; onCancel: () => void }) {
  const { t } = useTranslation();
  const [text, setText] = useState(props.text);
  const input = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    input.current?.focus();
    input.current?.setSelectionRange(text.length, text.length);
  }, []);
  const save = () => { if (text.trim()) props.onSave(text.trim()); };
  return (
    <div className="edit-box">
      <textarea
        ref={input} className="input" dir="auto" aria-label={t("message.edit")} value={text} rows={3} onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if (isSendKey(event.nativeEvent)) { event.preventDefault(); save(); }
          else if (event.key === "Escape") props.onCancel();
        }}
      />
      <div className="row end">
        <span className="soft small grow">{t("message.editHint")}</span>
        <button type="button" className="button plain" onClick={props.onCancel}>{t("common.cancel")}</button>
        <button type="button" className="button primary" onClick={save} disabled={!text.trim()}>{t("composer.send")}</button>
      </div>
    </div>
  );
}

function AssistantMessage({ message, siblings, last, actions }: Props) {
  const busy = useContext(BusyContext);
  const { t } = useTranslation();
  const [showTokens, setShowTokens] = useState(false);
  const streaming = message.status === "streaming";
  const script = message.settings.script;
  const { reasoning } = message as ThoughtMessage;
  return (
    <article data-message={message.id} className={`message message-assistant${last ? " last" : ""}${streaming ? " live" : ""}`} aria-label={t("message.answerOf", { model: message.model })} aria-busy={streaming}>
      <div className="message-model">
        <span className="ellipsis">{message.model}</span>
        {streaming ? null : <Version of={message.model_version} />}
        {typeof script === "string" && script ? <span className="badge accent">{script}</span> : null}
      </div>
      {message.dropped_messages > 0 ? <p className="notice calm">{t("message.dropped", { count: message.dropped_messages })}</p> : null}
      {message.steps.map((step, index) => (
        <div className="step" key={index}>
          <Calculator size={16} aria-hidden />
          <span><span className="sr-only">{t("message.calculated")} </span>{String(step.expression)} {step.error ? ":" : step.exact === false ? "≈" : "="} <strong>{step.error ? stepFailure(String(step.error), t) : String(step.result)}</strong></span>
        </div>
      ))}
      {reasoning ? <details><summary>{t("message.reasoning")}</summary><p className="soft small" style={{ whiteSpace: "pre-wrap" }}>{reasoning}</p></details> : null}
      {showTokens
        ? <Tokens message={message} canBranch={!busy} onBranch={(index, id) => { setShowTokens(false); actions.branch(message, index, id); }} />
        : message.content
          ? <div className={streaming ? "caret" : undefined}><LazyMarkdown text={message.content} eager /></div>
          : streaming ? <div className="thinking" role="status"><i /><i /><i /><span className="sr-only">{t("message.waiting")}</span></div> : null}
      {message.status === "stopped" ? <p className="soft small">{t("message.stopped")}</p> : null}
      {message.status === "error" ? <p className="notice danger" role="alert">{answerFailure(message.error, t)}</p> : null}
      {message.finish_reason === "length" ? <p className="soft small">{t("message.length")}</p> : null}
      {message.finish_reason === "deadline" ? <p className="soft small">{t("message.deadline")}</p> : null}
      {message.finish_reason === "content_filter" ? <p className="notice">{t("message.filtered")}</p> : null}
      {streaming ? null : message.status === "error" && !message.content ? (
        <div className="row wrap">
          <button type="button" className="button" disabled={busy} onClick={() => actions.regenerate(message)}><RotateCcw size={15} aria-hidden />{t("common.retry")}</button>
          <Branches message={message} siblings={siblings} onSelect={actions.select} />
        </div>
      ) : (
        <div className="message-tools">
          <CopyButton text={message.content} />
          <button type="button" className="icon-button" aria-label={t("message.regenerate")} title={t("message.regenerate")} disabled={busy} onClick={() => actions.regenerate(message)}><RotateCcw size={16} aria-hidden /></button>
          <button type="button" className="icon-button" aria-label={t("message.good")} title={t("message.good")} aria-pressed={message.feedback?.vote === "up"} onClick={() => actions.rate(message, "up")}><ThumbsUp size={16} aria-hidden /></button>
          <button type="button" className="icon-button" aria-label={t("message.bad")} title={t("message.bad")} aria-pressed={message.feedback?.vote === "down"} onClick={() => actions.rate(message, "down")}><ThumbsDown size={16} aria-hidden /></button>
          <button type="button" className="icon-button" aria-label={t("message.tokens")} title={t("message.tokens")} disabled={!message.has_tokens} aria-pressed={showTokens} onClick={() => setShowTokens(!showTokens)}><Sigma size={16} aria-hidden /></button>
          <Branches message={message} siblings={siblings} onSelect={actions.select} />
        </div>
      )}
    </article>
  );
}

function CopyButton({ text }: { text: string }) {
  const { t } = useTranslation();
  const [copied, setCopied] = useState(false);
  async function copy() {
    if (!(await copyText(text))) return warn(t("common.copyFailed"));
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  }
  return <button type="button" className="icon-button" aria-label={copied ? t("common.copied") : t("common.copy")} title={t("common.copy")} onClick={() => void copy()}>{copied ? <Check size={16} aria-hidden /> : <Copy size={16} aria-hidden />}</button>;
}

/** The buttons that were pressed stand in a message that is gone; the focus goes on to those of the one in its place. */
function focusBranches(id: string): void {
  requestAnimationFrame(() => document.querySelector<HTMLElement>(`[data-message="${CSS.escape(id)}"] .branch button:enabled`)?.focus({ preventScroll: true }));
}

function Branches(props: { message: Message; siblings: Message[]; onSelect: (message: Message) => void }) {
  const { t } = useTranslation();
  const { siblings } = props;
  if (siblings.length < 2) return null;
  const at = siblings.findIndex((each) => each.id === props.message.id);
  const go = (to: number) => { const sibling = siblings[to]; if (sibling) { props.onSelect(sibling); focusBranches(sibling.id); } };
  return (
    <span className="branch" role="group" aria-label={t("message.versions")}>
      <button type="button" className="icon-button" aria-label={t("message.previous")} disabled={at <= 0} onClick={() => go(at - 1)}><ChevronLeft size={16} aria-hidden /></button>
      {at + 1}/{siblings.length}
      <button type="button" className="icon-button" aria-label={t("message.next")} disabled={at >= siblings.length - 1} onClick={() => go(at + 1)}><ChevronRight size={16} aria-hidden /></button>
    </span>
  );
}
