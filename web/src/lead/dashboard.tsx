import { useQuery, useQueryClient } from "@tanstack/react-query";
import { GitMerge } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import { messageOf } from "../api/message";
import { formatDate, formatNumber, formatPercent } from "../lib/format";
import { Few, isEnough } from "../ui/few";
import { toast, warn } from "../ui/toast";
import { dashboardQuery, intakeQuery, merge, type Dashboard, type Estimate } from "./api";
import { Cost } from "./cost";
import { FunnelTable, received } from "./intake";
import { Figure, KindBadge, KindFilter, Loaded, Progress, Section, Spread, Table, Warning, type Kind } from "./parts";
import { Labellers } from "./labellers";
import { useNames } from "./names";
import { ProjectSelect, useProject } from "./project";
import { duration } from "./text";

/** A project at a glance: how far it is, how far its labellers agree, what labels cost, who labels how. */
export default function Overview() {
  const { t } = useTranslation();
  const { project } = useProject();
  const [kinds, setKinds] = useState<Kind[]>([]);
  const query = useQuery(dashboardQuery(project?.id ?? "", kinds));
  return (
    <>
      <div className="lead-tools">
        <ProjectSelect />
        <div className="field"><span className="label">{t("lead.kinds.counted")}</span><KindFilter value={kinds.length ? kinds : (query.data?.labeller_kinds ?? [])} onChange={setKinds} /></div>
      </div>
      <Loaded query={query}>{(data) => <Board data={data} />}</Loaded>
    </>
  );
}

/** What to do in a project that has no tasks yet. */
function FirstSteps() {
  const { t } = useTranslation();
  const steps = [["/lead/guidelines", "guide"], ["/lead/transfer", "import"], ["/lead/intake", "intake"], ["/lead/jobs", "jobs"]] as const;
  return (
    <Section title={t("lead.first.title")} text={t("lead.first.text")}>
      <ol className="steps first-steps">{steps.map(([href, name]) => <li key={name}><Link href={href}>{t(`lead.first.${name}`)}</Link></li>)}</ol>
    </Section>
  );
}

function Board({ data }: { data: Dashboard }) {
  const { t, i18n } = useTranslation();
  if (!data.progress.length) return <><FirstSteps /><Labellers lines={data.labellers} /></>;
  return (
    <>
      <Warnings data={data} />
      <Numbers data={data} />
      <ProgressTable data={data} />
      <div className="grid"><Agreement data={data} /><Cost cost={data.cost} /></div>
      <Labellers lines={data.labellers} />
      <Incoming />
      <p className="soft small">{t("lead.dash.measured", { at: formatDate(data.measured_at, i18n.language) })}</p>
    </>
  );
}

/** The intake in short; without traffic it says nothing. */
function Incoming() {
  const { data } = useQuery(intakeQuery(30));
  return data && received(data) ? <FunnelTable data={data} brief /> : null;
}

function Warnings({ data }: { data: Dashboard }) {
  const { t } = useTranslation();
  const nameOf = useNames();
  return data.warnings.map((warning) => {
    const percent = warning.code !== "few_overlaps" && warning.code !== "labeller_gold";
    const show = (value: number) => (percent ? formatPercent(value) : String(Math.round(value * 100) / 100));
    return <Warning key={`${warning.code} ${warning.labeller}`}>{t(`lead.warnings.${warning.code}`, { labeller: nameOf(warning.labeller ?? ""), value: show(warning.value), limit: show(warning.limit) })}</Warning>;
  });
}

function Numbers({ data }: { data: Dashboard }) {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  const [merging, setMerging] = useState(false);
  const number = (value: number) => formatNumber(value, i18n.language);
  const labels = data.progress.reduce((sum, row) => sum + row.labels, 0);
  const wanted = data.progress.reduce((sum, row) => sum + row.wanted, 0);
  async function mergeAll() {
    setMerging(true);
    try {
      const done = await merge({ project: data.project });
      toast(t("lead.dash.mergedResult", { merged: done.merged, adjudicate: done.adjudicate, cycles: done.cycles }));
      await queries.invalidateQueries({ queryKey: ["lead"] });
    } catch (failure) {
      warn(messageOf(failure, t));
    } finally {
      setMerging(false);
    }
  }
  return (
    <div className="card figures">
      <Figure value={<>{number(labels)} <small>/ {number(wanted)}</small></>} text={t("lead.dash.labels")} />
      <Figure value={data.agreement.percent && isEnough(data.agreement.num_tasks, data.agreement.percent.low, data.agreement.percent.high) ? formatPercent(data.agreement.percent.value) : "–"} text={t("lead.dash.agreement")} note={data.agreement.percent && !isEnough(data.agreement.num_tasks, data.agreement.percent.low, data.agreement.percent.high) ? <Few count={data.agreement.num_tasks} unit="tasks" /> : null} />
      <Figure value={number(data.labellers.length)} text={t("lead.dash.labellers")} />
      <Figure value={number(data.mergeable)} text={t("lead.dash.mergeable")} note={data.mergeable ? <button type="button" className="button" disabled={merging} onClick={() => void mergeAll()}><GitMerge size={16} aria-hidden />{t("lead.dash.merge")}</button> : null} />
      <Figure value={number(data.adjudication)} text={t("lead.dash.adjudication")} note={data.adjudication ? <Link href="/lead/data?kind=adjudicate&state=open">{t("lead.dash.show")}</Link> : null} />
    </div>
  );
}

function ProgressTable({ data }: { data: Dashboard }) {
  const { t, i18n } = useTranslation();
  const number = (value: number) => formatNumber(value, i18n.language);
  return (
    <Section title={t("lead.dash.progress")} text={t("lead.dash.progressText")}>
      <Table label={t("lead.dash.progress")} head={<>
        <th>{t("lead.dash.kind")}</th><th>{t("lead.dash.labels")}</th>
        {(["open", "complete", "merged", "closed"] as const).map((state) => <th key={state} className="number">{t(`lead.states.${state}`)}</th>)}
        <th className="number">{t("lead.dash.left")}</th><th className="number">{t("lead.dash.median")}</th><th className="number">{t("lead.dash.cost")}</th>
      </>}>
        {data.progress.map((row) => (
          <tr key={row.kind}>
            <td><Link href={`/lead/data?kind=${row.kind}`}>{t(`lead.tasks.${row.kind}`)}</Link></td>
            <td className="progress-cell"><Progress done={row.labels} all={row.wanted} label={t(`lead.tasks.${row.kind}`)} /></td>
            <td className="number">{number(row.open)}</td><td className="number">{number(row.complete)}</td><td className="number">{number(row.merged)}</td><td className="number">{number(row.closed)}</td>
            <td className="number">{number(row.skipped)} / {number(row.flagged)} / {number(row.undone)}</td>
            <td className="number">{row.median_seconds === null ? "–" : duration(row.median_seconds, t)}</td><td className="number">{row.cost === null ? "–" : row.cost.toFixed(2)}</td>
          </tr>
        ))}
      </Table>
    </Section>
  );
}

type Measure = "percent" | "percent_without_ties" | "held_out" | "tau_b" | "spearman" | "alpha_ordinal" | "alpha_nominal" | "likert_alpha";
const MEASURES: [Measure, number][] = [["percent", 0], ["percent_without_ties", 0], ["held_out", 0], ["tau_b", -1], ["spearman", -1], ["alpha_ordinal", -1], ["alpha_nominal", -1], ["likert_alpha", -1]];

function Agreement({ data }: { data: Dashboard }) {
  const { t, i18n } = useTranslation();
  const nameOf = useNames();
  const { agreement } = data;
  const known = MEASURES.flatMap(([name, from]) => { const figure = agreement[name]; return figure ? [[name, from, figure] as [Measure, number, Estimate]] : []; });
  return (
    <Section title={t("lead.agree.title")} text={known.length ? t("lead.agree.text", { tasks: formatNumber(agreement.num_tasks, i18n.language), pairs: formatNumber(agreement.num_pairs, i18n.language) }) : t("lead.agree.none")}>
      {known.length ? (
        <Table label={t("lead.agree.title")} head={<><th>{t("lead.agree.measure")}</th><th className="number">{t("lead.agree.value")}</th><th>{t("board.interval")}</th></>}>
          {known.map(([name, from, figure]) => {
            const show = (value: number) => (from === 0 ? formatPercent(value) : value.toFixed(2));
            return (
              <tr key={name}>
                <td>{t(`lead.agree.${name}`)}</td><td className="number"><strong>{show(figure.value)}</strong></td>
                <td><Spread count={agreement.num_tasks} unit="tasks" low={figure.low} point={figure.value} high={figure.high} from={from} {...(from ? { mark: 0 } : {})} show={show} /></td>
              </tr>
            );
          })}
        </Table>
      ) : null}
      {agreement.kinds.length ? (
        <Table label={t("lead.agree.kinds")} head={<><th>{t("lead.agree.kinds")}</th><th className="number">{t("lead.agree.tasks")}</th><th>{t("lead.dash.agreement")}</th><th className="number">{t("lead.agree.tau_b")}</th></>}>
          {agreement.kinds.map(({ first, second, num_tasks, percent, tau_b }) => (
            <tr key={`${first} ${second}`}>
              <td><span className="row wrap"><KindBadge kind={first} /><KindBadge kind={second} /></span></td><td className="number">{formatNumber(num_tasks, i18n.language)}</td>
              <td><strong>{formatPercent(percent.value)}</strong><br />{isEnough(num_tasks, percent.low, percent.high) ? <span className="soft small nowrap">{formatPercent(percent.low)} – {formatPercent(percent.high)}</span> : <Few count={num_tasks} unit="tasks" />}</td>
              <td className="number">{tau_b ? tau_b.value.toFixed(2) : "–"}</td>
            </tr>
          ))}
        </Table>
      ) : null}
      {agreement.held_out_labellers.length ? <p className="soft small">{t("lead.agree.heldOutWho", { names: agreement.held_out_labellers.map(nameOf).join(", ") })}</p> : null}
    </Section>
  );
}
