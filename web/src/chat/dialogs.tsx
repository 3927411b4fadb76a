import { Copy } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import type { Message, Reason } from "../api/chat";
import client, { ok } from "../api/client";
import { messageOf } from "../api/message";
import { copyText } from "../lib/format";
import { Dialog } from "../ui/dialog";
import { Field } from "../ui/fields";
import { toast, warn } from "../ui/toast";

const GOOD: Reason[] = ["correct", "helpful", "clear", "creative", "style", "other"];
const BAD: Reason[] = ["incorrect", "unhelpful", "off_topic", "wrong_language", "too_long", "too_short", "unsafe", "style", "other"];

/** Why an answer was good or bad; the thumb itself has been kept already. */
export function FeedbackDialog(props: { message: Message; vote: "up" | "down"; onSave: (reasons: Reason[], comment: string) => void; onClose: () => void }) {
  const { t } = useTranslation();
  const [reasons, setReasons] = useState<Reason[]>((props.message.feedback?.reasons ?? []) as Reason[]);
  const [comment, setComment] = useState(props.message.feedback?.comment ?? "");
  const toggle = (reason: Reason) => setReasons((now) => (now.includes(reason) ? now.filter((each) => each !== reason) : [...now, reason]));
  return (
    <Dialog title={props.vote === "up" ? t("feedback.good") : t("feedback.bad")} onClose={props.onClose}>
      <form className="stack" onSubmit={(event) => { event.preventDefault(); props.onSave(reasons, comment.trim()); props.onClose(); }}>
        <div className="row wrap" role="group" aria-label={t("feedback.reasons")}>
          {(props.vote === "up" ? GOOD : BAD).map((reason) => (
            <button key={reason} type="button" className={reasons.includes(reason) ? "button primary" : "button"} aria-pressed={reasons.includes(reason)} onClick={() => toggle(reason)}>{t(`reasons.${reason}`)}</button>
          ))}
        </div>
        <Field label={t("feedback.comment")}>{(ids) => <textarea dir="auto" className="input" {...ids} maxLength={4000} value={comment} onChange={(event) => setComment(event.target.value)} />}</Field>
        <div className="row end"><button className="button primary">{t("feedback.send")}</button></div>
      </form>
    </Dialog>
  );
}

/** A read-only copy behind a link, and taking it back. */
export function ShareDialog(props: { conversationId: string; token: string | null; onChange: (token: string | null) => void; onClose: () => void }) {
  const { t } = useTranslation();
  const [busy, setBusy] = useState(false);
  const url = props.token ? `${location.origin}/share/${props.token}` : "";
  const path = { params: { path: { conversation_id: props.conversationId } } };
  async function run(action: () => Promise<void>) {
    setBusy(true);
    try {
      await action();
    } catch (failure) {
      warn(messageOf(failure, t));
    }
    setBusy(false);
  }
  const create = () => run(async () => {
    const share = await ok(client.POST("/api/conversations/{conversation_id}/share", path));
    props.onChange(share.token);
    if (await copyText(`${location.origin}/share/${share.token}`)) toast(t("share.linkCopied"));
  });
  const revoke = () => run(async () => {
    await client.DELETE("/api/conversations/{conversation_id}/share", path);
    props.onChange(null);
    toast(t("share.revoked"));
  });
  return (
    <Dialog title={t("share.title")} onClose={props.onClose}>
      <p className="soft">{t("share.text")}</p>
      {url ? (
        <div className="secret">
          <span className="grow" data-testid="share-url">{url}</span>
          <button type="button" className="icon-button" aria-label={t("common.copy")} onClick={() => void copyText(url).then((done) => (done ? toast(t("share.linkCopied")) : warn(t("common.copyFailed"))))}><Copy size={16} aria-hidden /></button>
        </div>
      ) : null}
      <div className="row end wrap">
        {url ? <button type="button" className="button danger" disabled={busy} onClick={() => void revoke()}>{t("share.revoke")}</button> : null}
        <button type="button" className="button primary" disabled={busy} onClick={() => void create()}>{url ? t("share.renew") : t("share.create")}</button>
      </div>
    </Dialog>
  );
}
