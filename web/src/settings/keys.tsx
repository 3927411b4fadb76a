import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Copy, KeyRound, Plus } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import client, { ok, type Schemas } from "../api/client";
import { useSession } from "../api/session";
import { messageOf } from "../api/message";
import { copyText, formatDate } from "../lib/format";
import { Confirm, Dialog } from "../ui/dialog";
import { Check, TextField } from "../ui/fields";
import { toast, warn } from "../ui/toast";
import { limitsOf } from "./limits";

type Scope = Schemas["NewKey"]["scopes"][number];

export function Secret({ value }: { value: string }) {
  const { t } = useTranslation();
  return (
    <div className="secret">
      <span className="grow" data-testid="secret">{value}</span>
      <button type="button" className="icon-button" aria-label={t("common.copy")} onClick={() => void copyText(value).then((done) => (done ? toast(t("common.copied")) : warn(t("common.copyFailed"))))}><Copy size={16} aria-hidden /></button>
    </div>
  );
}

export default function Keys() {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  const admin = useSession().role === "admin";
  const [everyone, setEveryone] = useState(false);
  const { data = [] } = useQuery({ queryKey: ["keys", everyone], queryFn: () => ok(client.GET("/api/keys", { params: { query: { everyone } } })) });
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Schemas["KeyRow"] | null>(null);

  async function revoke(id: string) {
    await ok(client.DELETE("/api/keys/{key_id}", { params: { path: { key_id: id } } })).catch((failure: unknown) => warn(messageOf(failure, t)));
    void queries.invalidateQueries({ queryKey: ["keys"] });
  }

  return (
    <div className="stack">
      <div className="row wrap">
        <p className="soft grow">{t("apiKeys.text", { base: `${location.origin}/v1` })}</p>
        <button type="button" className="button primary" onClick={() => setMaking(true)}><Plus size={17} aria-hidden />{t("apiKeys.new")}</button>
      </div>
      {admin ? <Check label={t("apiKeys.everyone")} checked={everyone} onChange={setEveryone} /> : null}
      {data.length ? (
        <div className="card table-scroll" tabIndex={0} role="group" aria-label={t("settings.keys")}>
          <table className="data">
            <thead><tr><th>{t("apiKeys.name")}</th>{everyone ? <th>{t("apiKeys.owner")}</th> : null}<th>{t("apiKeys.key")}</th><th>{t("apiKeys.scopes")}</th><th>{t("apiKeys.limits")}</th><th>{t("apiKeys.made")}</th><th><span className="sr-only">{t("apiKeys.action")}</span></th></tr></thead>
            <tbody>
              {data.map((key) => (
                <tr key={key.id}>
                  <td>{key.name}</td>{everyone ? <td>{key.user_id ? key.owner : <span className="badge">{t("apiKeys.atStart")}</span>}</td> : null}<td className="mono">{key.prefix}…</td><td>{key.scopes.map((scope) => t(`scopes.${scope}`)).join(", ")}</td><td>{limitsOf(key, i18n.language, t)}</td><td>{formatDate(key.created_at, i18n.language)}</td>
                  <td>{key.revoked_at ? <span className="badge">{t("apiKeys.revoked")}</span> : <button type="button" className="button plain danger" onClick={() => setRevoking(key)}>{t("apiKeys.revoke")}</button>}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : <div className="empty card"><KeyRound size={32} aria-hidden /><h2>{t("apiKeys.none")}</h2></div>}
      {making ? <Make onClose={() => setMaking(false)} /> : null}
      {revoking ? <Confirm title={t("apiKeys.revokeTitle")} text={t("apiKeys.revokeText", { name: revoking.name })} action={t("apiKeys.revoke")} onConfirm={() => void revoke(revoking.id)} onClose={() => setRevoking(null)} /> : null}
    </div>
  );
}

function Make({ onClose }: { onClose: () => void }) {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const admin = useSession().role === "admin";
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState<Scope[]>(["inference"]);
  const [days, setDays] = useState("");
  const [rate, setRate] = useState("");
  const [budget, setBudget] = useState("");
  const [consent, setConsent] = useState(false);
  const [made, setMade] = useState("");
  const [error, setError] = useState("");
  const choices: Scope[] = ["inference", "chat", "completions", "embeddings", "models", "moderations", ...(admin ? (["metrics", "admin"] as const) : [])];
  async function make() {
    try {
      const body = { name: name.trim(), scopes, expires_in_days: days ? Number(days) : null, requests_per_minute: Number(rate), tokens_per_minute: 0, tokens_per_day: Number(budget), tokens_total: 0, training_consent: consent };
      setMade((await ok(client.POST("/api/keys", { body }))).key);
      void queries.invalidateQueries({ queryKey: ["keys"] });
    } catch (failure) {
      setError(messageOf(failure, t));
    }
  }
  if (made) {
    return (
      <Dialog title={t("apiKeys.made1")} onClose={onClose}>
        <p className="notice">{t("apiKeys.once")}</p><Secret value={made} />
        <div className="row end"><button type="button" className="button primary" onClick={onClose}>{t("common.close")}</button></div>
      </Dialog>
    );
  }
  return (
    <Dialog title={t("apiKeys.new")} onClose={onClose}>
      <form className="stack" onSubmit={(event) => { event.preventDefault(); void make(); }}>
        <TextField label={t("apiKeys.name")} required maxLength={128} value={name} onChange={(event) => setName(event.target.value)} />
        <fieldset className="scopes"><legend>{t("apiKeys.scopes")}</legend>
          {choices.map((scope) => <Check key={scope} label={t(`scopes.${scope}`)} checked={scopes.includes(scope)} onChange={(on) => setScopes(on ? [...scopes, scope] : scopes.filter((each) => each !== scope))} />)}
        </fieldset>
        <div className="figures">
          <TextField label={t("apiKeys.days")} hint={t("apiKeys.noLimit")} type="number" min={1} max={3650} value={days} onChange={(event) => setDays(event.target.value)} />
          <TextField label={t("apiKeys.rate")} hint={t("apiKeys.noLimit")} type="number" min={1} value={rate} onChange={(event) => setRate(event.target.value)} />
          <TextField label={t("apiKeys.budget")} hint={t("apiKeys.noLimit")} type="number" min={1} value={budget} onChange={(event) => setBudget(event.target.value)} />
        </div>
        <Check label={t("apiKeys.consent")} checked={consent} onChange={setConsent} />
        {error ? <p className="error-text" role="alert">{error}</p> : null}
        <div className="row end"><button className="button primary" disabled={!scopes.length}>{t("apiKeys.make")}</button></div>
      </form>
    </Dialog>
  );
}
