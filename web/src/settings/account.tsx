import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import client, { ok } from "../api/client";
import { messageOf } from "../api/message";
import { useSession, useSetSession } from "../api/session";
import { forgetDrafts } from "../lib/drafts";
import { formatDate } from "../lib/format";
import { Dialog } from "../ui/dialog";
import { TextField } from "../ui/fields";
import { toast, warn } from "../ui/toast";

const KEY = ["own-sessions"];

/** The account's password and the browsers that are signed in. */
export function Account() {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  const [changing, setChanging] = useState(false);
  const [deleting, setDeleting] = useState(false);
  const { data: sessions = [] } = useQuery({ queryKey: KEY, queryFn: () => ok(client.GET("/api/sessions")) });

  async function end(id: string) {
    try {
      await ok(client.DELETE("/api/sessions/{session_id}", { params: { path: { session_id: id } } }));
    } catch (failure) {
      warn(messageOf(failure, t));
    }
    void queries.invalidateQueries({ queryKey: KEY });
  }

  return (
    <div className="setting">
      <div><strong>{t("account.title")}</strong><p className="soft small">{t("account.text")}</p></div>
      <div className="stack">
        <div className="row wrap">
          <button type="button" className="button" onClick={() => setChanging(true)}>{t("account.change")}</button>
          <button type="button" className="button" onClick={() => setDeleting(true)}>{t("account.delete")}</button>
          {sessions.length > 1 ? <button type="button" className="button" onClick={() => void end("others")}>{t("account.endOthers")}</button> : null}
        </div>
        <ul className="plain stack small">
          {sessions.map((each) => (
            <li key={each.id} className="row">
              <span className="grow">{t("account.since", { date: formatDate(each.created_at, i18n.language) })} <span className="soft">{t("account.used", { date: formatDate(each.last_used_at, i18n.language) })}</span></span>
              {each.current ? <span className="badge accent">{t("account.here")}</span> : <button type="button" className="button plain" onClick={() => void end(each.id)}>{t("account.end")}</button>}
            </li>
          ))}
        </ul>
      </div>
      {deleting ? <DeleteAccount onClose={() => setDeleting(false)} /> : null}
      {changing ? <NewPassword onClose={() => setChanging(false)} onDone={() => void queries.invalidateQueries({ queryKey: KEY })} /> : null}
    </div>
  );
}

function NewPassword({ onClose, onDone }: { onClose: () => void; onDone: () => void }) {
  const { t } = useTranslation();
  const [old, setOld] = useState("");
  const [next, setNext] = useState("");
  const [error, setError] = useState("");

  async function change() {
    try {
      await ok(client.POST("/api/password", { body: { old, new: next } }));
    } catch (failure) {
      return setError(messageOf(failure, t));
    }
    toast(t("account.changed"));
    onDone();
    onClose();
  }

  return (
    <Dialog title={t("account.change")} onClose={onClose}>
      <form className="stack" onSubmit={(event) => { event.preventDefault(); void change(); }}>
        <TextField label={t("account.old")} type="password" autoComplete="current-password" required maxLength={256} value={old} onChange={(event) => setOld(event.target.value)} />
        <TextField label={t("account.new")} hint={t("account.newHint")} type="password" autoComplete="new-password" required minLength={8} maxLength={256} value={next} onChange={(event) => setNext(event.target.value)} />
        {error ? <p className="error-text" role="alert">{error}</p> : null}
        <div className="row end"><button type="button" className="button plain" onClick={onClose}>{t("common.cancel")}</button><button className="button primary">{t("common.save")}</button></div>
      </form>
    </Dialog>
  );
}

function DeleteAccount({ onClose }: { onClose: () => void }) {
  const { t } = useTranslation();
  const user = useSession().user_id;
  const setSession = useSetSession();
  const [password, setPassword] = useState("");
  const [error, setError] = useState("");

  async function remove() {
    try {
      await ok(client.POST("/api/account/delete", { body: { password } }));
      await forgetDrafts(user);
      setSession(await ok(client.GET("/api/session")));
    } catch (failure) {
      setError(messageOf(failure, t));
    }
  }

  return (
    <Dialog title={t("account.delete")} onClose={onClose}>
      <form className="stack" onSubmit={(event) => { event.preventDefault(); void remove(); }}>
        <p>{t("account.deleteText")}</p>
        <TextField label={t("account.deletePassword")} hint={t("account.deleteHint")} type="password" autoComplete="current-password" maxLength={256} value={password} onChange={(event) => setPassword(event.target.value)} />
        {error ? <p className="error-text" role="alert">{error}</p> : null}
        <div className="row end"><button type="button" className="button plain" onClick={onClose}>{t("common.cancel")}</button><button className="button danger">{t("account.deleteNow")}</button></div>
      </form>
    </Dialog>
  );
}
