import { useQuery } from "@tanstack/react-query";
import { useState, useSyncExternalStore, type FormEvent } from "react";
import { useTranslation } from "react-i18next";
import { useLocation } from "wouter";
import client, { ok } from "../api/client";
import { useSetSession } from "../api/session";
import { Spinner, TextField } from "../ui/fields";
import { messageOf } from "../api/message";
import { homeOf } from "./login";
import { AuthShell } from "./shell";

/** Pasting another link into the same tab changes the fragment and loads no page. */
function onHash(listener: () => void): () => void {
  addEventListener("hashchange", listener);
  return () => removeEventListener("hashchange", listener);
}

/** One-time links: the first administrator, invitations, new passwords. The secret stands in the fragment, so no log sees it. */
export default function Join() {
  const { t } = useTranslation();
  const [, navigate] = useLocation();
  const setSession = useSetSession();
  const token = useSyncExternalStore(onHash, () => location.hash.slice(1));
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const link = useQuery({ queryKey: ["link", token], queryFn: () => ok(client.POST("/api/links/look", { body: { token } })), enabled: token !== "", retry: false });

  async function submit(event: FormEvent) {
    event.preventDefault();
    if (password !== again) return setError(t("join.differ"));
    setBusy(true);
    setError("");
    try {
      const session = await ok(client.POST("/api/links/redeem", { body: { token, name, password } }));
      setSession(session);
      navigate(homeOf(session.role), { replace: true });
    } catch (failure) {
      setError(messageOf(failure, t));
      setBusy(false);
    }
  }

  if (!token || link.isError) return <AuthShell title={t("join.invalid")} text={t("join.invalidText")}><a className="button" href="/login">{t("login.title")}</a></AuthShell>;
  if (!link.data) return <Spinner label={t("common.loading")} />;
  const { kind } = link.data;
  const title = { admin: t("join.admin"), invite: t("join.invite"), reset: t("join.reset", { name: link.data.name }) }[kind];
  const text = { admin: t("join.adminText"), invite: t("join.inviteAs", { role: t(`roles.${link.data.role}`) }), reset: t("join.resetText") }[kind];
  return (
    <AuthShell title={title} text={text}>
      <form onSubmit={(event) => void submit(event)}>
        {kind === "reset"
          ? <input className="sr-only" type="text" autoComplete="username" value={link.data.name} readOnly tabIndex={-1} aria-hidden />
          : <TextField label={t("login.name")} autoComplete="username" autoFocus required maxLength={64} value={name} onChange={(event) => setName(event.target.value)} />}
        <TextField label={t("login.password")} hint={t("join.passwordHint")} type="password" autoComplete="new-password" required minLength={8} maxLength={256} value={password} onChange={(event) => setPassword(event.target.value)} />
        <TextField label={t("join.again")} type="password" autoComplete="new-password" required value={again} onChange={(event) => setAgain(event.target.value)} />
        {error ? <p className="error-text" role="alert">{error}</p> : null}
        <button className="button primary wide" disabled={busy}>{kind === "reset" ? t("join.setPassword") : t("join.create")}</button>
      </form>
    </AuthShell>
  );
}
