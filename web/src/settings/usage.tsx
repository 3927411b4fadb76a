import { useQuery } from "@tanstack/react-query";
import { ChartNoAxesColumn } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import client, { ok } from "../api/client";
import { useSession } from "../api/session";
import { useNames } from "../lead/names";
import { formatNumber } from "../lib/format";
import { Check } from "../ui/fields";
import { Version } from "../ui/version";

export default function Usage() {
  const { t, i18n } = useTranslation();
  const admin = useSession().role === "admin";
  const [everyone, setEveryone] = useState(false);
  const nameOf = useNames(admin);
  const { data = [] } = useQuery({ queryKey: ["usage", everyone], queryFn: () => ok(client.GET("/api/usage", { params: { query: { everyone } } })) });
  const sum = (key: "requests" | "prompt_tokens" | "completion_tokens") => formatNumber(data.reduce((total, row) => total + row[key], 0), i18n.language);
  return (
    <div className="stack">
      <div className="row wrap"><p className="soft grow">{t("usage.text")}</p>{admin ? <Check label={t("usage.everyone")} checked={everyone} onChange={setEveryone} /> : null}</div>
      <div className="card figures">
        <div className="figure"><strong>{sum("requests")}</strong><span className="soft small">{t("usage.requests")}</span></div>
        <div className="figure"><strong>{sum("prompt_tokens")}</strong><span className="soft small">{t("usage.prompt")}</span></div>
        <div className="figure"><strong>{sum("completion_tokens")}</strong><span className="soft small">{t("usage.completion")}</span></div>
      </div>
      {data.length ? (
        <div className="card table-scroll" tabIndex={0} role="group" aria-label={t("settings.usage")}>
          <table className="data">
            <thead><tr><th>{t("usage.day")}</th><th>{t("usage.model")}</th>{everyone ? <th>{t("usage.owner")}</th> : null}<th className="number">{t("usage.requests")}</th><th className="number">{t("usage.prompt")}</th><th className="number">{t("usage.completion")}</th></tr></thead>
            <tbody>
              {data.map((row) => (
                <tr key={`${row.day}-${row.owner}-${row.model}-${row.model_version}`}>
                  <td>{row.day}</td><td>{row.model} <Version of={row.model_version} /></td>{everyone ? <td>{row.user_id ? nameOf(row.user_id) : t("usage.server")}{row.owner !== row.user_id ? <> <span className="badge" title={row.owner}>{t("usage.byKey")}</span></> : null}</td> : null}
                  <td className="number">{formatNumber(row.requests, i18n.language)}</td><td className="number">{formatNumber(row.prompt_tokens, i18n.language)}</td><td className="number">{formatNumber(row.completion_tokens, i18n.language)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : <div className="empty card"><ChartNoAxesColumn size={32} aria-hidden /><h2>{t("usage.none")}</h2></div>}
    </div>
  );
}
