import { useQuery } from "@tanstack/react-query";
import { ChartNoAxesCombined, Globe, ListOrdered, MessageSquare, Swords, UserPlus } from "lucide-react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import type { ModelInfo } from "../api/chat";
import client, { ok } from "../api/client";
import { useSession } from "../api/session";

/** Host names of other servers that a model's messages go to. */
export const elsewhere = (models: readonly ModelInfo[]) => models.filter((model) => model.upstream).map((model) => `${model.name} (${model.upstream})`).join(", ");

/** An empty chat: who will answer, where the messages go, and questions that suit the model. */
export function Welcome({ models, onPick }: { models: readonly ModelInfo[]; onPick: (text: string) => void }) {
  const { t } = useTranslation();
  const far = elsewhere(models);
  const own = models.find((model) => model.starters.length)?.starters ?? [];
  const generic = (["explain", "calculate", "advise", "write"] as const).map((name) => [t(`starters.${name}.title`), t(`starters.${name}.text`)] as const);
  const starters = own.length ? own.map((text) => ["", text] as const) : generic;
  return (
    <div className="thread">
      <div className="welcome">
        <h1>{t("welcome.title")}</h1>
        {far
          ? <p className="notice welcome-far" data-testid="passed-on"><Globe size={17} aria-hidden />{t("welcome.passedOn", { names: far })}</p>
          : models.length ? <p className="soft">{t("welcome.here")}</p> : null}
        <div className="starters">
          {starters.map(([title, text]) => (
            <button key={text} type="button" className="starter" onClick={() => onPick(text)}>
              {title ? <strong>{title}</strong> : null}<span className={title ? "soft" : undefined} dir="auto">{text}</span>
            </button>
          ))}
        </div>
        <p className="soft small">{t("welcome.hint")}</p>
        <Introduction />
      </div>
    </div>
  );
}

/** What there is besides the chat, for somebody who has not written one yet. */
function Introduction() {
  const { t } = useTranslation();
  const { role } = useSession();
  const chats = useQuery({ queryKey: ["conversations", "", "any"], queryFn: () => ok(client.GET("/api/conversations", { params: { query: { q: "", before: null } } })) });
  if (chats.data?.conversations.length !== 0) return null;
  const parts = [
    ["/", MessageSquare, "chat"], ["/arena", Swords, "arena"],
    ...(role === "member" ? [] : [["/label", ListOrdered, "label"] as const]),
    ...(role === "lead" || role === "admin" ? [["/lead", ChartNoAxesCombined, "lead"] as const] : []),
    ...(role === "admin" ? [["/settings/users", UserPlus, "users"] as const] : []),
  ] as const;
  return (
    <section className="introduction" aria-label={t("intro.title")}>
      <h2>{t("intro.title")}</h2>
      <ul>{parts.map(([href, Icon, name]) => <li key={name}><Icon size={17} aria-hidden /><span>{href === "/" ? <strong>{t(`intro.${name}.name`)}</strong> : <Link href={href}>{t(`intro.${name}.name`)}</Link>} {t(`intro.${name}.text`)}</span></li>)}</ul>
    </section>
  );
}
