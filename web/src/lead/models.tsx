import { useQuery, useQueryClient } from "@tanstack/react-query";
import { ChartLine, GitBranch, RotateCcw, Sparkles } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useParams } from "wouter";
import { messageOf } from "../api/message";
import { useSession } from "../api/session";
import { formatDate, formatNumber, formatPercent } from "../lib/format";
import { showAnswer } from "../lib/queries";
import { cardRefusal, fieldName } from "../lib/said";
import { Confirm } from "../ui/dialog";
import { toast, warn } from "../ui/toast";
import { Version } from "../ui/version";
import { modelsQuery, rollBack, type Model, type Models } from "./api";
import { LineagePage } from "./lineage";
import { useNames } from "./names";
import { Empty, KindBadge, Loaded, Section, Spread, Table, Warning } from "./parts";
import { Promote } from "./promote";

/** Which model answers, which could, and where each comes from. */
export default function ModelsPage() {
  const { id } = useParams<{ id?: string }>();
  const { t } = useTranslation();
  const query = useQuery(modelsQuery);
  if (id) return <LineagePage id={id} />;
  return <><p className="soft">{t("lead.models.text")}</p><Loaded query={query}>{(data) => <Overview data={data} />}</Loaded></>;
}

function Overview({ data }: { data: Models }) {
  const { t } = useTranslation();
  return (
    <>
      <ServingNow data={data} />
      <h2>{t("lead.models.candidates")}</h2>
      {data.models.length ? data.models.map((model) => <Candidate key={model.id} model={model} all={data} />) : <div className="card"><Empty icon={<Sparkles size={32} aria-hidden />} title={t("lead.models.none")} text={t("lead.models.noneText")} /></div>}
      {data.history.length ? <History data={data} /> : null}
    </>
  );
}

/** A model's name by its id. */
export function useModelName(data: Pick<Models, "models">): (id: string) => string {
  const { t } = useTranslation();
  return (id) => (id === "configured" ? t("lead.models.configured") : (data.models.find((model) => model.id === id)?.name ?? id.slice(0, 14)));
}

function ServingNow({ data }: { data: Models }) {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const nameOf = useModelName(data);
  const admin = useSession().role === "admin";
  const [leaving, setLeaving] = useState<Models["serving"][number] | null>(null);
  async function back(name: string) {
    try {
      await showAnswer(queries, modelsQuery.queryKey, rollBack({ name, reason: "" }));
      toast(t("lead.models.rolledBack", { name }));
    } catch (failure) {
      warn(messageOf(failure, t));
    }
    void queries.invalidateQueries({ queryKey: ["models"] });
  }
  return (
    <Section title={t("lead.models.serving")}>
      <Table label={t("lead.models.serving")} head={<><th>{t("lead.models.servedName")}</th><th>{t("lead.models.answers")}</th><th><span className="sr-only">{t("apiKeys.action")}</span></th></>}>
        {data.serving.map((line) => (
          <tr key={line.name}>
            <td className="mono">{line.name}</td>
            <td>{line.model_id === "configured" ? nameOf(line.model_id) : <Link href={`/lead/models/${line.model_id}`}>{nameOf(line.model_id)}</Link>}{line.not_promoted ? <Warning>{t("lead.models.notPromoted", { why: line.not_promoted })}</Warning> : null}</td>
            <td className="number">{line.can_roll_back && admin ? <button type="button" className="button" onClick={() => setLeaving(line)}><RotateCcw size={15} aria-hidden />{t("lead.models.rollBack")}</button> : null}</td>
          </tr>
        ))}
      </Table>
      {leaving ? <Confirm title={t("lead.models.rollBackTitle")} text={t("lead.models.rollBackText", { name: leaving.name, before: nameOf(leaving.before) })} action={t("lead.models.rollBack")} onConfirm={() => void back(leaving.name)} onClose={() => setLeaving(null)} /> : null}
    </Section>
  );
}

function Candidate({ model, all }: { model: Model; all: Models }) {
  const { t, i18n } = useTranslation();
  const admin = useSession().role === "admin";
  const [promoting, setPromoting] = useState(false);
  return (
    <Section title={model.name} tools={<>
      {model.serves.map((name) => <span key={name} className="badge good">{t("lead.models.serves", { name })}</span>)}
      {model.has_report ? <a className="button" href={`/api/desk/models/${model.id}/report`} target="_blank" rel="noreferrer"><ChartLine size={15} aria-hidden />{t("lead.models.report")}</a> : null}
      <Link className="button" href={`/lead/models/${model.id}`}><GitBranch size={15} aria-hidden />{t("lead.models.lineage")}</Link>
      {admin && all.serving.some((line) => line.model_id !== model.id) ? <button type="button" className={model.serves.length ? "button" : "button primary"} onClick={() => setPromoting(true)}>{model.serves.length ? t("lead.models.promoteMore") : t("lead.models.promote")}</button> : null}
    </>}>
      <div className="row wrap">
        <span className="soft small">{formatDate(model.created_at, i18n.language)} · <Version of={model.manifest} /> · {t("lead.models.from", { base: model.base })}</span>
        {Object.entries(model.labeller_kinds).map(([kind, count]) => <span key={kind} className="row"><KindBadge kind={kind} /><span className="small">{formatNumber(count, i18n.language)}</span></span>)}
        {model.job_id ? <Link className="small" href={`/lead/jobs/${model.job_id}`}>{t("lead.models.job")}</Link> : null}
      </div>
      {model.withdrawn ? <Warning>{t("lead.models.withdrawn", { count: model.withdrawn })}</Warning> : null}
      {model.against ? <p className="soft small">{t("lead.models.against", { model: model.against })}</p> : null}
      <Verdicts model={model} />
      <Card card={model.report_card} />
      {promoting ? <Promote model={model} all={all} onClose={() => setPromoting(false)} /> : null}
    </Section>
  );
}

/** Who judged. A reward model says whether the model was trained against it. */
function JudgeName({ verdict }: { verdict: Model["verdicts"][number] }) {
  const { t } = useTranslation();
  if (verdict.judge_kind === "learned") return <span className="badge warn">{t("lead.models.learned")}</span>;
  if (verdict.judge_kind === "held_out") return <><span className="badge">{t("lead.models.heldOut")}</span>{verdict.judge_gate ? <span className="soft small"> {t("lead.models.judgeWeak")}</span> : null}</>;
  return <><KindBadge kind={verdict.judge_kind} /> {verdict.judge}{verdict.unreadable ? <span className="soft small"> {t("lead.models.unreadable", { count: verdict.unreadable, all: verdict.replies })}</span> : null}</>;
}

/** Blind win rates, each with its judge. */
export function Verdicts({ model }: { model: Model }) {
  const { t, i18n } = useTranslation();
  if (!model.verdicts.length) return <p className="soft small">{t("lead.models.noComparison")}</p>;
  return (
    <Table label={t("lead.models.winRate")} head={<><th>{t("lead.models.judge")}</th><th className="number">{t("lead.models.winRate")}</th><th>{t("board.interval")}</th><th className="number">{t("lead.models.comparisons")}</th><th className="number">{t("lead.people.ties")}</th></>}>
      {model.verdicts.map((verdict) => {
        const decides = model.gate !== null && model.gate.judge === verdict.judge && model.gate.judge_kind === verdict.judge_kind;
        return (
          <tr key={`${verdict.judge_kind} ${verdict.judge}`}>
            <td><JudgeName verdict={verdict} /> {decides ? <span className="badge accent">{t("lead.models.decides")}</span> : null}</td>
            <td className="number"><strong>{formatPercent(verdict.rate)}</strong></td>
            <td><Spread count={verdict.n} unit="comparisons" low={verdict.low} point={verdict.rate} high={verdict.high} mark={0.5} show={formatPercent} /></td>
            <td className="number">{formatNumber(verdict.n, i18n.language)}</td><td className="number">{formatPercent(verdict.ties)}</td>
          </tr>
        );
      })}
    </Table>
  );
}

/** The reward model's report card: figures as they are, whatever their number, and whether it let the training go on. */
function Card({ card }: { card: Model["report_card"] }) {
  const { t } = useTranslation();
  const { gate, ...figures } = card;
  const rows = flat(figures, (name) => fieldName(name, t));
  if (!rows.length) return null;
  const passed = gate === null ? t("lead.models.cardPassed") : typeof gate === "string" ? cardRefusal(gate, t) : "";
  return (
    <details>
      <summary>{t("lead.models.card")}</summary>
      {passed ? <p className="small">{passed}</p> : null}
      <dl className="facts">{rows.map(([name, value]) => [<dt key={`${name} name`}>{name}</dt>, <dd key={name} className={/^[-–.,\d\s]+$/.test(value) ? "" : "mono"}>{value}</dd>])}</dl>
    </details>
  );
}

/** Nested figures as rows with dotted names; long numbers are rounded. */
export function flat(values: Record<string, unknown>, nameOf: (key: string) => string = (key) => key.replaceAll("_", " "), before = ""): [string, string][] {
  return Object.entries(values).flatMap(([key, value]): [string, string][] => {
    const name = `${before}${nameOf(key)}`;
    if (value === null || value === "") return [];
    if (Array.isArray(value)) return value.every((each) => typeof each !== "object") ? [[name, value.map(plain).join(" – ")]] : [];
    if (typeof value === "object") return flat(value as Record<string, unknown>, nameOf, `${name} · `);
    return [[name, plain(value)]];
  });
}

const plain = (value: unknown) => (typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(3) : String(value));

function History({ data }: { data: Models }) {
  const { t, i18n } = useTranslation();
  const nameOf = useModelName(data);
  const personOf = useNames();
  return (
    <Section title={t("lead.models.history")}>
      <Table label={t("lead.models.history")} head={<><th>{t("audit.at")}</th><th>{t("audit.action")}</th><th>{t("lead.models.servedName")}</th><th>{t("lead.models.answers")}</th><th>{t("lead.jobs.by")}</th><th>{t("lead.models.reason")}</th></>}>
        {data.history.map((step) => (
          <tr key={`${step.at} ${step.name}`}>
            <td className="nowrap">{formatDate(step.at, i18n.language)}</td><td>{t(`lead.models.${step.action}`)} {step.forced ? <span className="badge warn">{t("lead.models.forced")}</span> : null}</td>
            <td className="mono">{step.name}</td><td>{nameOf(step.model_id)}</td><td>{personOf(step.actor)}</td><td className="text" dir="auto">{step.reason || "–"}</td>
          </tr>
        ))}
      </Table>
    </Section>
  );
}
