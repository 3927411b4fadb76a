import { Copy } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import type { Message, Reason } from "../api/chat";
import client, { ok, type Schemas } from "../api/client";
import { messageOf } from "../api/message";
import { copyText, formatDate } from "../lib/format";
import { Dialog } from "../ui/dialog";
import { Field } from "../ui/fields";
import { toast, warn } from "../ui/toast";

const DAYS = [1, 7, 30, 90, 365];
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

type Link = Schemas["ShareInfo"];

/** A read-only copy behind a link: made for some days, renewed, switched off. The link itself is shown once. */
export function ShareDialog(props: { conversationId: string; link: Link | null; onChange: (link: Link | null) => void; onClose: () => void }) {
  const { t, i18n } = useTranslation();
  const [busy, setBusy] = useState(false);
  const [url, setUrl] = useState("");
  const [days, setDays] = useState("");
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
    const { token, ...link } = await ok(client.POST("/api/conversations/{conversation_id}/share", { ...path, body: { expires_in_days: days ? Number(days) : null } }));
    props.onChange(link);
    setUrl(`${location.origin}/share/${token}`);
    if (await copyText(`${location.origin}/share/${token}`)) toast(t("share.linkCopied"));
  });
  const renew = () => run(async () => {
    props.onChange(await ok(client.PUT("/api/conversations/{conversation_id}/share", path)));
    toast(t("share.renewed"));
  });
  const revoke = () => run(async () => {
    await ok(client.DELETE("/api/conversations/{conversation_id}/share", path));
    props.onChange(null);
    setUrl("");
    toast(t("share.revoked"));
  });
  return (
    <Dialog title={t("share.title")} onClose={props.onClose}>
      <p className="soft">{t("share.text")}</p>
      {props.link ? <p>{t("share.until", { made: formatDate(props.link.created_at, i18n.language), ends: formatDate(props.link.expires_at, i18n.language) })}{url ? "" : ` ${t("share.once")}`}</p> : null}
      {url ? (
        <div className="secret">
          <span className="grow" data-testid="share-url">{url}</span>
          <button type="button" className="icon-button" aria-label={t("common.copy")} onClick={() => void copyText(url).then((done) => (done ? toast(t("share.linkCopied")) : warn(t("common.copyFailed"))))}><Copy size={16} aria-hidden /></button>
        </div>
      ) : null}
      {url ? null : (
        <Field label={t("share.expires")}>
          {(ids) => (
            <select className="input" {...ids} value={days} onChange={(event) => setDays(event.target.value)}>
              <option value="">{t("share.serverDays")}</option>
              {DAYS.map((count) => <option key={count} value={count}>{t("share.days", { count })}</option>)}
            </select>
          )}
        </Field>
      )}
      <div className="row end wrap">
        {props.link ? <button type="button" className="button danger" disabled={busy} onClick={() => void revoke()}>{t("share.revoke")}</button> : null}
        {props.link ? <button type="button" className="button" disabled={busy} onClick={() => void renew()}>{t("share.renew")}</button> : null}
        {url ? null : <button type="button" className="button primary" disabled={busy} onClick={() => void create()}>{props.link ? t("share.createNew") : t("share.create")}</button>}
      </div>
    </Dialog>
  );
}
