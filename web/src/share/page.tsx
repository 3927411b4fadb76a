import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { useTranslation } from "react-i18next";
import { useParams } from "wouter";
import client, { ok } from "../api/client";
import { LazyMarkdown } from "../chat/lazy-markdown";
import { formatDate } from "../lib/format";
import { useTitle } from "../lib/title";
import { Spinner } from "../ui/fields";
import { Version } from "../ui/version";

/** A conversation as somebody shared it: for reading, without an account. */
export default function Shared() {
  const { t, i18n } = useTranslation();
  const { token } = useParams<{ token: string }>();
  const { data, isError } = useQuery({ queryKey: ["share", token], queryFn: () => ok(client.GET("/api/shares/{token}", { params: { path: { token } } })), retry: false });
  const title = data?.title || t("side.untitled");
  useTitle(data ? title : undefined);
  const messages = useMemo(() => data?.messages ?? [], [data]);
  if (isError) return <main className="center"><div className="empty"><h1>{t("share.gone")}</h1><p>{t("share.goneText")}</p></div></main>;
  if (!data) return <Spinner label={t("common.loading")} />;
  return (
    <main className="page">
      <header className="shared-head">
        <a className="brand" href="/"><img src="/icon.svg" alt="" />Chatwright</a>
        <h1 className="shared-title" dir="auto">{title}</h1>
        <p className="soft small">{t("share.readOnly", { date: formatDate(data.created_at, i18n.language) })} · {t("composer.foot")}</p>
      </header>
      <div className="thread-inner">
        {messages.map((message, index) => (
          <article key={index} className={`message message-${message.role}`} aria-label={message.role === "user" ? t("share.question") : t("message.answerOf", { model: message.model })}>
            {message.role === "user" ? <div className="bubble" dir="auto">{message.content}</div> : <><div className="message-model">{message.model} {message.model_version ? <Version of={message.model_version} /> : null}</div><LazyMarkdown text={message.content} eager={index < 6} /></>}
          </article>
        ))}
      </div>
    </main>
  );
}
