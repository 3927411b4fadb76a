import { useQuery, useQueryClient } from "@tanstack/react-query";
import { ArrowLeft, Download, Plus, Trash2, Trophy } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import { defaultSettings, modelsQuery } from "../api/chat";
import client, { ok } from "../api/client";
import { useSession } from "../api/session";
import { messageOf } from "../api/message";
import { formatNumber, formatPercent } from "../lib/format";
import { useTitle } from "../lib/title";
import { Dialog } from "../ui/dialog";
import { Few } from "../ui/few";
import { Check, Field, TextField } from "../ui/fields";
import { SideButton } from "../ui/frame";
import { warn } from "../ui/toast";
import { Version } from "../ui/version";

/** Where a value lies between the board's lowest and highest bound, in per cent of the width. */
export function placeOf(value: number, low: number, high: number): number {
  return high > low ? 4 + (92 * (value - low)) / (high - low) : 50;
}

export default function Board() {
  const { t, i18n } = useTranslation();
  useTitle(t("board.title"));
  const lead = ["lead", "admin"].includes(useSession().role);
  const [lengthControl, setLengthControl] = useState(false);
  const [byVersion, setByVersion] = useState(true);
  const { data } = useQuery({ queryKey: ["board", lengthControl, byVersion], queryFn: () => ok(client.GET("/api/arena/board", { params: { query: { length_control: lengthControl, by_version: byVersion } } })) });
  const lines = data?.lines ?? [];
  const low = Math.min(...lines.map((line) => line.low ?? line.rating));
  const high = Math.max(...lines.map((line) => line.high ?? line.rating));
  return (
    <>
      <header className="top"><SideButton /><Link className="button plain" href="/arena"><ArrowLeft size={16} aria-hidden />{t("side.arena")}</Link></header>
      <div className="page">
        <div className="page-inner">
          <div className="page-head">
            <div className="grow"><h1>{t("board.title")}</h1><p>{t("board.text")}</p></div>
            {lead ? <a className="button" href="/api/arena/export" download="arena.jsonl"><Download size={16} aria-hidden />{t("board.export")}</a> : null}
          </div>
          <Check label={t("board.lengthControl")} checked={lengthControl} onChange={setLengthControl} />
          <Check label={t("board.byVersion")} checked={byVersion} onChange={setByVersion} />
          <p className="soft small">{byVersion ? t("board.byVersionText") : t("board.mixedText")}</p>
          {lines.length ? (
            <div className="card table-scroll" tabIndex={0} role="group" aria-label={t("board.title")}>
              <table className="data">
                <thead><tr><th className="number">#</th><th>{t("board.name")}</th><th className="number">{t("board.rating")}</th><th>{t("board.interval")}</th><th className="number">{t("board.winRate")}</th><th className="number">{t("board.votes")}</th></tr></thead>
                <tbody>
                  {lines.map((line, index) => (
                    <tr key={`${line.name} ${line.model_version ?? ""}`}>
                      <td className="number">{index + 1}</td><td>{line.name} {line.model_version === null ? <span className="badge warn">{t("board.versions", { count: line.num_versions })}</span> : <Version of={line.model_version} />}</td><td className="number"><strong>{formatNumber(Math.round(line.rating), i18n.language)}</strong></td>
                      <td>{line.low === null || line.high === null ? <Few count={line.num_votes} unit="votes" /> : <>
                        <svg className="interval" viewBox="0 0 100 22" preserveAspectRatio="none" role="img" aria-label={t("board.between", { low: formatNumber(Math.round(line.low), i18n.language), high: formatNumber(Math.round(line.high), i18n.language) })}>
                          <line x1={placeOf(line.low, low, high)} x2={placeOf(line.high, low, high)} y1="11" y2="11" vectorEffect="non-scaling-stroke" />
                          <line className="point" x1={placeOf(line.rating, low, high)} x2={placeOf(line.rating, low, high)} y1="4" y2="18" vectorEffect="non-scaling-stroke" />
                        </svg>
                        <span className="soft small nowrap">{formatNumber(Math.round(line.low), i18n.language)} – {formatNumber(Math.round(line.high), i18n.language)}</span>
                      </>}</td>
                      <td className="number">{formatPercent(line.win_rate)}</td><td className="number">{formatNumber(line.num_votes, i18n.language)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          ) : data ? <div className="empty card"><Trophy size={34} aria-hidden /><h2>{t("board.none")}</h2><p>{t("board.noneText")}</p></div> : null}
          {data?.num_votes ? <p className="soft small">{t("board.counts", { votes: data.num_votes, void: data.num_void })} {data.regularised ? t("board.regularised") : ""}</p> : null}
          <Entrants lead={lead} />
        </div>
      </div>
    </>
  );
}

function Entrants({ lead }: { lead: boolean }) {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const [adding, setAdding] = useState(false);
  const { data = [] } = useQuery({ queryKey: ["entrants"], queryFn: () => ok(client.GET("/api/arena/entrants")) });
  async function remove(id: string) {
    await ok(client.DELETE("/api/arena/entrants/{entrant_id}", { params: { path: { entrant_id: id } } })).catch((failure: unknown) => warn(messageOf(failure, t)));
    void queries.invalidateQueries({ queryKey: ["entrants"] });
  }
  return (
    <section className="stack">
      <div className="row wrap"><h2 className="grow">{t("entrants.title")}</h2>{lead ? <button type="button" className="button" onClick={() => setAdding(true)}><Plus size={16} aria-hidden />{t("arena.addEntrant")}</button> : null}</div>
      <div className="card">
        {data.map((entrant) => (
          <div key={entrant.id} className="setting">
            <div><strong>{entrant.name}</strong>{entrant.variant ? <p className="soft small">{entrant.model}{entrant.system ? ` · ${entrant.system.slice(0, 120)}` : ""}</p> : null}</div>
            {entrant.variant && lead ? <button type="button" className="icon-button" aria-label={t("entrants.remove", { name: entrant.name })} onClick={() => void remove(entrant.id)}><Trash2 size={16} aria-hidden /></button> : null}
          </div>
        ))}
      </div>
      {adding ? <Add onClose={() => setAdding(false)} /> : null}
    </section>
  );
}

function Add({ onClose }: { onClose: () => void }) {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const { data: models = [] } = useQuery(modelsQuery);
  const [name, setName] = useState("");
  const [model, setModel] = useState("");
  const [system, setSystem] = useState("");
  const [temperature, setTemperature] = useState("0.7");
  const [error, setError] = useState("");
  async function add() {
    try {
      await ok(client.POST("/api/arena/entrants", { body: { name: name.trim(), model: model || (models[0]?.name ?? ""), system, settings: { ...defaultSettings, temperature: Number(temperature) } } }));
      void queries.invalidateQueries({ queryKey: ["entrants"] });
      onClose();
    } catch (failure) {
      setError(messageOf(failure, t));
    }
  }
  return (
    <Dialog title={t("arena.addEntrant")} onClose={onClose}>
      <p className="soft small">{t("entrants.text")}</p>
      <form className="stack" onSubmit={(event) => { event.preventDefault(); void add(); }}>
        <TextField label={t("apiKeys.name")} required maxLength={128} value={name} onChange={(event) => setName(event.target.value)} />
        <Field label={t("usage.model")}>{(ids) => <select className="input" {...ids} value={model} onChange={(event) => setModel(event.target.value)}>{models.map((each) => <option key={each.name}>{each.name}</option>)}</select>}</Field>
        <Field label={t("panel.system")}>{(ids) => <textarea dir="auto" className="input" {...ids} maxLength={20_000} value={system} onChange={(event) => setSystem(event.target.value)} />}</Field>
        <TextField label={t("panel.temperature")} type="number" min={0} max={2} step={0.05} value={temperature} onChange={(event) => setTemperature(event.target.value)} />
        {error ? <p className="error-text" role="alert">{error}</p> : null}
        <div className="row end"><button className="button primary">{t("common.save")}</button></div>
      </form>
    </Dialog>
  );
}
