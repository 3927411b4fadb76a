import { useQuery, useQueryClient } from "@tanstack/react-query";
import { UserPlus } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import client, { ok, type Schemas } from "../api/client";
import { useSession, useSetSession } from "../api/session";
import { messageOf } from "../api/message";
import { formatDate } from "../lib/format";
import { Confirm, Dialog } from "../ui/dialog";
import { Segments } from "../ui/fields";
import { Menu } from "../ui/menu";
import { toast, warn } from "../ui/toast";
import { ChatLinks } from "./chat-links";
import { Secret } from "./keys";
import { LimitsDialog, limitsOf } from "./limits";
import { Links, LINKS } from "./links";

type User = Schemas["UserRow"];
const ROLES = ["member", "labeller", "lead", "admin"] as const;

export default function Users() {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  const me = useSession().user_id;
  const setSession = useSetSession();
  const { data = [] } = useQuery({ queryKey: ["users"], queryFn: () => ok(client.GET("/api/users")) });
  const [inviting, setInviting] = useState(false);
  const [limiting, setLimiting] = useState<User | null>(null);
  const [deleting, setDeleting] = useState<User | null>(null);
  const [link, setLink] = useState<{ title: string; url: string } | null>(null);
  const attempt = async (action: () => Promise<unknown>) => {
    try {
      await action();
      void queries.invalidateQueries({ queryKey: ["users"] });
      void queries.invalidateQueries({ queryKey: LINKS });
    } catch (failure) {
      warn(messageOf(failure, t));
    }
  };
  const change = (user: User, body: Schemas["UserChange"]) => attempt(() => ok(client.PATCH("/api/users/{user_id}", { params: { path: { user_id: user.id } }, body })));
  const remove = (user: User) => attempt(async () => {
    await ok(client.DELETE("/api/users/{user_id}", { params: { path: { user_id: user.id } } }));
    if (user.id === me) setSession(await ok(client.GET("/api/session")));
    else toast(t("users.deleted"));
  });
  const reset = (user: User) => attempt(async () => {
    const made = await ok(client.POST("/api/users/{user_id}/reset", { params: { path: { user_id: user.id } } }));
    setLink({ title: t("users.resetLink", { name: user.name }), url: made.url });
  });
  return (
    <div className="stack">
      <div className="row wrap"><p className="soft grow">{t("users.text")}</p><button type="button" className="button primary" onClick={() => setInviting(true)}><UserPlus size={17} aria-hidden />{t("users.invite")}</button></div>
      <div className="card table-scroll" tabIndex={0} role="group" aria-label={t("settings.users")}>
        <table className="data">
          <thead><tr><th>{t("login.name")}</th><th>{t("users.role")}</th><th>{t("limits.title")}</th><th>{t("users.since")}</th><th><span className="sr-only">{t("apiKeys.action")}</span></th></tr></thead>
          <tbody>
            {data.map((user) => (
              <tr key={user.id}>
                <td>{user.name} {user.id === me ? <span className="badge accent">{t("users.you")}</span> : null} {user.disabled_at ? <span className="badge">{t("users.disabled")}</span> : null}</td>
                <td>
                  <select className="input" aria-label={t("users.roleOf", { name: user.name })} value={user.role} onChange={(event) => void change(user, { role: event.target.value as User["role"] })}>
                    {ROLES.map((role) => <option key={role} value={role}>{t(`roles.${role}`)}</option>)}
                  </select>
                </td>
                <td>{limitsOf(user, i18n.language, t)}</td>
                <td>{formatDate(user.created_at, i18n.language)}</td>
                <td>
                  <Menu label={t("side.more", { title: user.name })} items={[
                    { label: t("limits.change"), onSelect: () => setLimiting(user) },
                    { label: t("users.reset"), onSelect: () => void reset(user) },
                    user.disabled_at ? { label: t("users.enable"), onSelect: () => void change(user, { disabled: false }) } : { label: t("users.disable"), danger: true, onSelect: () => void change(user, { disabled: true }) },
                    { label: t("users.delete"), danger: true, onSelect: () => setDeleting(user) },
                  ]} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <Links />
      <div className="card"><ChatLinks everyone /></div>
      {inviting ? <Invite onClose={() => setInviting(false)} onMade={(url) => { setInviting(false); void queries.invalidateQueries({ queryKey: LINKS }); setLink({ title: t("users.inviteLink"), url }); }} /> : null}
      {limiting ? <LimitsDialog title={t("limits.of", { name: limiting.name })} text={t("limits.text")} row={limiting} onSave={(limits) => change(limiting, limits)} onClose={() => setLimiting(null)} /> : null}
      {deleting ? <Confirm title={t("users.deleteTitle", { name: deleting.name })} text={t("users.deleteText")} action={t("users.delete")} onConfirm={() => void remove(deleting)} onClose={() => setDeleting(null)} /> : null}
      {link ? <Dialog title={link.title} onClose={() => setLink(null)}><p className="notice">{t("users.linkOnce")}</p><Secret value={link.url} /></Dialog> : null}
    </div>
  );
}

function Invite(props: { onMade: (url: string) => void; onClose: () => void }) {
  const { t } = useTranslation();
  const [role, setRole] = useState<User["role"]>("member");
  async function make() {
    try {
      props.onMade((await ok(client.POST("/api/invites", { body: { role } }))).url);
    } catch (failure) {
      warn(messageOf(failure, t));
    }
  }
  return (
    <Dialog title={t("users.invite")} onClose={props.onClose}>
      <p className="soft">{t("users.inviteText")}</p>
      <Segments label={t("users.role")} value={role} options={ROLES.map((each) => [each, t(`roles.${each}`)] as const)} onChange={setRole} />
      <div className="row end"><button type="button" className="button primary" onClick={() => void make()}>{t("users.makeLink")}</button></div>
    </Dialog>
  );
}
