import { ArrowDown } from "lucide-react";
import { useLayoutEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Message } from "../api/chat";
import { BusyContext, MessageView, type MessageActions } from "./message";
import { siblingsOf, type Tree } from "./tree";

const NEAR_PX = 80;

/** The messages of the active branch. While the end is in sight it stays in sight; who has scrolled up is left in peace. */
export function ThreadView(props: { tree: Tree<Message>; path: Message[]; busy: boolean; sending: string; actions: MessageActions }) {
  const { t } = useTranslation();
  const { tree, path, busy, sending, actions } = props;
  const box = useRef<HTMLDivElement>(null);
  const inner = useRef<HTMLDivElement>(null);
  const stick = useRef(true);
  const lastTop = useRef(0);
  const [away, setAway] = useState(false);
  const toEnd = () => { if (box.current) box.current.scrollTop = box.current.scrollHeight; };

  useLayoutEffect(() => {
    toEnd();
    if (!inner.current) return;
    const observer = new ResizeObserver(() => {
      if (stick.current) toEnd();
      else if (box.current && box.current.scrollHeight <= box.current.clientHeight + NEAR_PX) { stick.current = true; setAway(false); } // a short branch: there is nothing to scroll
    });
    observer.observe(inner.current);
    return () => observer.disconnect();
  }, []);

  const question = path.at(-1)?.parent_id;
  useLayoutEffect(() => { stick.current = true; setAway(false); toEnd(); }, [question, sending]);

  function onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = box.current!;
    const near = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    // Only readers scroll up; the end also moves away by itself, when an answer grows faster than events come.
    if (near) stick.current = true;
    else if (scrollTop < lastTop.current) stick.current = false;
    lastTop.current = scrollTop;
    setAway(!stick.current && scrollHeight > clientHeight + NEAR_PX);
  }

  const last = path.at(-1);
  const side = last?.role === "assistant" ? siblingsOf(tree, last) : [];
  const abreast = side.filter((each) => each.origin === "new");
  const compare = last !== undefined && abreast.length > 1 && abreast.includes(last);
  return (
    <BusyContext value={busy}>
      <div className="thread" ref={box} onScroll={onScroll} tabIndex={0} role="log" aria-label={t("chat.thread")} aria-live="off">
        <div className={compare ? "thread-inner wide" : "thread-inner"} ref={inner}>
          {(compare ? path.slice(0, -1) : path).map((message, index) => (
            <MessageView key={message.id} message={message} siblings={siblingsOf(tree, message)} last={index >= path.length - 2} actions={actions} />
          ))}
          {compare ? (
            <div className="columns" role="group" aria-label={t("models.several")} tabIndex={0}>
              {abreast.map((message) => (
                <section key={message.id} className={message === last ? "column chosen" : "column"}>
                  <MessageView message={message} siblings={[message]} last actions={actions} />
                  <label className="check small">
                    <input type="radio" name="continue" checked={message === last} disabled={busy} onChange={() => actions.select(message)} />
                    {t("models.goOn")}
                  </label>
                </section>
              ))}
            </div>
          ) : null}
          {sending ? <article className="message message-user" aria-label={t("message.yours")}><div className="bubble sending" dir="auto">{sending}</div></article> : null}
        </div>
      </div>
      <div style={{ position: "relative" }}>
        {away ? <button type="button" className="icon-button to-end" aria-label={t("chat.toEnd")} onClick={() => { stick.current = true; toEnd(); }}><ArrowDown size={18} aria-hidden /></button> : null}
      </div>
      <div className="sr-only" role="status">{busy ? t("message.waiting") : last?.status === "complete" && last.role === "assistant" ? t("chat.done") : ""}</div>
    </BusyContext>
  );
}
