import { useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { useTranslation } from "react-i18next";
import { Redirect, useSearchParams } from "wouter";
import client, { ok, type Schemas } from "../api/client";
import { messageOf } from "../api/message";
import { useSession, useSetSession } from "../api/session";
import { TextField } from "../ui/fields";
import { AuthShell } from "./shell";

/** Only addresses of this app: a link from elsewhere must not send people away after they signed in. */
export function safeNext(next: string | null): string {
  return next && /^\/(?![/\\])/.test(next) && !next.startsWith("/login") ? next : "/";
}

/** Where a role's work begins. */
export const homeOf = (role: Schemas["SessionInfo"]["role"]): string => (role === "labeller" ? "/label" : "/");

export default function Login() {
  const { t } = useTranslation();
  const session = useSession();
  const setSession = useSetSession();
  const [search] = useSearchParams();
  const failed = search.get("failed");
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [error, setError] = useState(failed === "account" ? t("login.notAllowed") : failed ? t("login.failed") : "");
  const [busy, setBusy] = useState(false);
  const provider = useQuery({ queryKey: ["oidc"], queryFn: () => ok(client.GET("/api/oidc")), retry: false }).data;
  if (session.signed_in) return <Redirect to={search.get("next") ? safeNext(search.get("next")) : homeOf(session.role)} replace />;

  async function submit(event: FormEvent) {
    event.preventDefault();
    setBusy(true);
    setError("");
    try {
      setSession(await ok(client.POST("/api/session", { body: { name, password } })));
    } catch (failure) {
      setError(messageOf(failure, t));
      setBusy(false);
    }
  }

  if (session.no_accounts) return <AuthShell title={t("login.first")} text={t("login.firstText")}><pre className="preview">first administrator: open {location.origin}/join#…</pre><p className="soft small">{t("login.firstHint")}</p></AuthShell>;
  return (
    <AuthShell title={t("login.title")}>
      <form onSubmit={(event) => void submit(event)}>
        <TextField label={t("login.name")} autoComplete="username" autoFocus required value={name} onChange={(event) => setName(event.target.value)} />
        <TextField label={t("login.password")} type="password" autoComplete="current-password" required value={password} onChange={(event) => setPassword(event.target.value)} />
        {error ? <p className="error-text" role="alert">{error}</p> : null}
        <button className="button primary wide" disabled={busy}>{t("login.submit")}</button>
      </form>
      {provider?.enabled ? <a className="button wide" href={`/api/oidc/login?next=${encodeURIComponent(safeNext(search.get("next")))}`}>{t("login.with", { name: provider.name })}</a> : null}
      <p className="soft small">{t("login.help")}</p>
    </AuthShell>
  );
}
