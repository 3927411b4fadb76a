import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import client, { ok } from "../api/client";
import { messageOf } from "../api/message";
import { forgetThreads } from "../chat/threads";
import { formatDate } from "../lib/format";
import { Confirm } from "../ui/dialog";
import { toast, warn } from "../ui/toast";

/** Links to chats that work now: one's own, or for administrators everyone's. */
export function ChatLinks({ everyone = false }: { everyone?: boolean }) {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  const key = ["chat-links", everyone];
  const { data: links = [] } = useQuery({ queryKey: key, queryFn: () => ok(client.GET("/api/shares", { params: { query: { everyone } } })) });
  const [ending, setEnding] = useState(false);

  async function attempt(action: () => Promise<unknown>, said: string) {
    try {
      await action();
      toast(said);
      forgetThreads();
      queries.removeQueries({ queryKey: ["conversation"] });
    } catch (failure) {
      warn(messageOf(failure, t));
    }
    void queries.invalidateQueries({ queryKey: ["chat-links"] });
  }
  const end = (conversation_id: string) => attempt(() => ok(client.DELETE("/api/conversations/{conversation_id}/share", { params: { path: { conversation_id } } })), t("share.revoked"));
  const endAll = () => attempt(() => ok(client.DELETE("/api/shares", { params: { query: { everyone } } })), t("chatLinks.ended"));

  return (
    <div className="setting">
      <div><strong>{t("chatLinks.title")}</strong><p className="soft small">{everyone ? t("chatLinks.everyone") : t("chatLinks.text")}</p></div>
      <div className="stack">
        {links.length ? <div><button type="button" className="button danger" onClick={() => setEnding(true)}>{t("chatLinks.endAll", { count: links.length })}</button></div> : <span className="soft small">{t("chatLinks.none")}</span>}
        <ul className="plain stack small">
          {links.map((link) => (
            <li key={link.conversation_id} className="row">
              <span className="grow">{everyone ? link.owner : <Link href={`/c/${link.conversation_id}`} dir="auto">{link.title || t("side.untitled")}</Link>} · {t("share.until", { made: formatDate(link.created_at, i18n.language), ends: formatDate(link.expires_at, i18n.language) })}</span>
              {everyone ? null : <button type="button" className="button plain" onClick={() => void end(link.conversation_id)}>{t("share.revoke")}</button>}
            </li>
          ))}
        </ul>
      </div>
      {ending ? <Confirm title={t("chatLinks.endAll", { count: links.length })} text={t("chatLinks.endText")} action={t("share.revoke")} onConfirm={() => void endAll()} onClose={() => setEnding(false)} /> : null}
    </div>
  );
}
