import { ArrowUp, LoaderCircle, Square } from "lucide-react";
import { useEffect, useRef, useState, type ReactNode, type RefObject } from "react";
import { useTranslation } from "react-i18next";
import { loadDraft, saveDraft } from "../lib/drafts";
import { isSendKey } from "../lib/ime";

/** Where people write. What is typed is kept until it is sent, through reloads and crashes. */
export function Composer(props: {
  draftKey: string;
  /** The server has been asked something, and has not begun to answer. */
  waiting: boolean;
  /** Answers are being written. */
  answering: boolean;
  inputRef: RefObject<HTMLTextAreaElement | null>;
  insert: { text: string } | null;
  tools: ReactNode;
  onSend: (text: string) => Promise<boolean>;
  onStop: () => void;
}) {
  const { t } = useTranslation();
  const { draftKey, inputRef, insert } = props;
  const [text, setText] = useState("");
  const [sending, setSending] = useState(false);
  const edited = useRef(false);
  const waiting = sending || props.waiting;

  useEffect(() => {
    let current = true;
    edited.current = false;
    setText("");
    void loadDraft(draftKey).then((draft) => {
      if (current && !edited.current && draft) setText(draft);
    });
    return () => { current = false; };
  }, [draftKey]);

  useEffect(() => {
    if (!insert) return;
    change(insert.text);
    inputRef.current?.focus();
  }, [insert]);

  function change(value: string) {
    edited.current = true;
    setText(value);
    void saveDraft(draftKey, value);
  }

  /** The text stays until the server has it: nothing of what somebody wrote is lost, nor sent twice by a second Enter. */
  async function send() {
    const sent = text.trim();
    if (!sent || waiting || props.answering) return;
    setSending(true);
    if (await props.onSend(sent)) change("");
    setSending(false);
  }

  return (
    <form className="composer" aria-busy={waiting || props.answering} onSubmit={(event) => { event.preventDefault(); void send(); }}>
      <textarea
        ref={inputRef} rows={1} dir="auto" className={sending ? "sending" : undefined} value={text} aria-label={t("composer.label")} placeholder={t("composer.placeholder")} maxLength={100_000} enterKeyHint="send"
        onChange={(event) => { if (!sending) change(event.target.value); }}
        onKeyDown={(event) => {
          if (!isSendKey(event.nativeEvent)) return;
          event.preventDefault();
          void send();
        }}
      />
      <div className="composer-tools">
        <div className="row wrap grow">{props.tools}</div>
        {props.answering
          ? <button type="button" className="send stop" aria-label={t("composer.stop")} title={t("composer.stop")} onClick={props.onStop}><Square size={14} fill="currentColor" aria-hidden /></button>
          : <button type="submit" className="send" aria-label={t("composer.send")} title={t("composer.send")} disabled={!text.trim() || waiting}>{waiting ? <LoaderCircle className="turning" size={19} aria-hidden /> : <ArrowUp size={19} aria-hidden />}</button>}
      </div>
    </form>
  );
}
