import { Bot, Plus, Square, Trash2 } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { messageOf } from "../api/message";
import { LazyMarkdown } from "../chat/lazy-markdown";
import { isComposing } from "../lib/ime";
import { Segments } from "../ui/fields";
import { warn } from "../ui/toast";
import { modelDraft } from "./api";
import { Comment, Foot, Sheet, SubmitButton, type ScreenProps } from "./screen";
import { missing, type Message, type Role } from "./task";

const STYLES = ["plain", "few_shot", "user_based"] as const;
type Style = (typeof STYLES)[number];

/** Write the assistant's answer, turn by turn, or write a prompt: plain, with examples, or as a user would. */
export function Write(props: ScreenProps) {
  const { t } = useTranslation();
  const { task, state, dispatch } = props;
  const { messages, drafted } = state.work;
  const [mode, setMode] = useState<"write" | "preview">("write");
  const demonstrates = task.kind === "demonstrate";
  const style: Style = STYLES.find((each) => each === task.style) ?? "plain";
  const setMessages = (next: readonly Message[], byModel?: boolean) => dispatch({ type: "messages", messages: next, at: Date.now(), ...(byModel ? { drafted: true } : {}) });
  const [drafting, draft, stop] = useModelDraft(props, (text) => setMessages(replaceLast(latest.current, text), true));
  const latest = useRef(messages);
  latest.current = messages;
  const submit = () => { if (!missing(task, state.work) && !drafting) props.onSubmit(); };
  const pair: Message[] = demonstrates ? [{ role: "user", content: "" }, { role: "assistant", content: "" }] : [{ role: "assistant", content: "" }, { role: "user", content: "" }];

  return (
    <>
      <Sheet task={task}>
        <div className="row wrap desk-bar">
          <h2 className="grow">{demonstrates ? t("label.write.demonstrate") : t(`label.write.${style}`)}</h2>
          <Segments label={t("label.view.label")} value={mode} options={[["write", t("label.write.mode")], ["preview", t("label.write.preview")]]} onChange={setMode} />
        </div>
        {demonstrates ? null : <p className="soft">{t(`label.write.${style}Text`)}</p>}
        {drafted ? <p className="notice calm"><Bot size={17} aria-hidden />{t("label.write.drafted")}</p> : null}
        {messages.map((message, index) => (mode === "preview"
          ? <article key={index} className={`desk-turn turn-${message.role}`}><h3>{t(`label.roles.${message.role}`)}</h3><LazyMarkdown text={message.content} eager /></article>
          : <Turn key={index} {...{ message, index, drafting: drafting && index === messages.length - 1 }} first={index === 0} onSubmit={submit} onText={(content) => setMessages(messages.map((each, at) => (at === index ? { ...each, content } : each)))} />))}
        <div className="row wrap">
          {demonstrates || style === "few_shot" ? <button type="button" className="button" onClick={() => setMessages([...messages, ...pair])}><Plus size={16} aria-hidden />{demonstrates ? t("label.write.addTurn") : t("label.write.addExample")}</button> : null}
          {messages.length > 1 ? <button type="button" className="button plain" onClick={() => setMessages(messages.slice(0, -2))}><Trash2 size={16} aria-hidden />{demonstrates ? t("label.write.removeTurn") : t("label.write.removeExample")}</button> : null}
          {demonstrates && task.model_draft ? (drafting
            ? <button type="button" className="button" onClick={stop}><Square size={13} fill="currentColor" aria-hidden />{t("composer.stop")}</button>
            : <button type="button" className="button" disabled={messages.slice(0, -1).some((each) => !each.content.trim()) || messages.at(-1)!.content !== ""} title={t("label.write.draftHint")} onClick={draft}><Bot size={16} aria-hidden />{t("label.write.draft")}</button>) : null}
        </div>
        <Comment state={state} dispatch={dispatch} />
      </Sheet>
      <Foot action={<SubmitButton {...props} onSubmit={submit} waits={drafting} />} />
    </>
  );
}

const replaceLast = (messages: readonly Message[], content: string) => messages.map((each, at) => (at === messages.length - 1 ? { ...each, content } : each));

function Turn(props: { message: { role: Role; content: string }; index: number; first: boolean; drafting: boolean; onText: (text: string) => void; onSubmit: () => void }) {
  const { t } = useTranslation();
  const { message } = props;
  const label = `${t(`label.roles.${message.role}`)} ${props.index + 1}`;
  return (
    <div className={`desk-turn turn-${message.role}`}>
      <h3>{t(`label.roles.${message.role}`)}</h3>
      <textarea dir="auto"
        className="input desk-writing" aria-label={label} value={message.content} maxLength={100_000} autoFocus={props.first && !message.content} readOnly={props.drafting} aria-busy={props.drafting}
        onChange={(event) => props.onText(event.target.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || isComposing(event.nativeEvent)) return;
          event.preventDefault();
          props.onSubmit();
        }}
      />
      <span className="soft small desk-count">{t("label.signs", { count: [...message.content].length, number: [...message.content].length })}</span>
    </div>
  );
}

/** A model's draft of the last turn, word by word. What a person wrote is never overwritten: the button waits for an empty field. */
function useModelDraft({ task, state }: ScreenProps, onText: (text: string) => void): [boolean, () => void, () => void] {
  const { t } = useTranslation();
  const [running, setRunning] = useState<AbortController | null>(null);
  useEffect(() => () => running?.abort(), [running]);
  async function begin() {
    const controller = new AbortController();
    setRunning(controller);
    let text = "";
    try {
      for await (const more of modelDraft(task.id, state.work.messages.slice(0, -1), controller.signal)) onText((text += more));
    } catch (failure) {
      if (!controller.signal.aborted) warn(messageOf(failure, t));
    }
    setRunning(null);
  }
  return [running !== null, () => void begin(), () => running?.abort()];
}
