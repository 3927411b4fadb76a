import { useQuery, useQueryClient } from "@tanstack/react-query";
import { ArrowLeft, Bot, Hourglass, RefreshCw, Square } from "lucide-react";
import { useEffect, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useLocation, useParams } from "wouter";
import { messageOf } from "../api/message";
import { formatDate } from "../lib/format";
import { fieldName, slug } from "../lib/said";
import { Confirm } from "../ui/dialog";
import { warn } from "../ui/toast";
import { cancelJob, isOver, jobLog, jobQuery, jobsQuery, type Job } from "./api";
import { Empty, Loaded, Progress, Section, Table } from "./parts";
import { readFigures } from "./job-figures";
import { JobLive } from "./job-live";
import { LabelRun } from "./label-run";
import { useNames } from "./names";
import { Retrain } from "./retrain";
import { duration } from "./text";

/** Training in the background: what waits, runs and is done. */
export default function Jobs() {
  const { id } = useParams<{ id?: string }>();
  return id ? <Details id={id} /> : <List />;
}

function List() {
  const { t, i18n } = useTranslation();
  const [, navigate] = useLocation();
  const query = useQuery(jobsQuery);
  const nameOf = useNames();
  const [asking, setAsking] = useState<"retrain" | "label" | null>(null);
  const started = (job: Job) => navigate(`/lead/jobs/${job.id}`);
  return (
    <>
      <div className="lead-tools"><p>{t("lead.jobs.text")}</p><div className="row wrap"><button type="button" className="button" onClick={() => setAsking("label")}><Bot size={16} aria-hidden />{t("lead.run.title")}</button><button type="button" className="button primary" onClick={() => setAsking("retrain")}><RefreshCw size={16} aria-hidden />{t("lead.jobs.retrain")}</button></div></div>
      <Loaded query={query}>{(jobs) => jobs.length ? (
        <Section title={t("lead.tabs.jobs")}>
          <Table label={t("lead.tabs.jobs")} head={<><th>{t("lead.jobs.what")}</th><th>{t("lead.data.state")}</th><th>{t("lead.jobs.progress")}</th><th>{t("lead.jobs.began")}</th><th className="number">{t("lead.jobs.took")}</th><th>{t("lead.jobs.by")}</th></>}>
            {jobs.map((job) => (
              <tr key={job.id}>
                <td><Link href={`/lead/jobs/${job.id}`}>{t(`lead.jobs.kind_${job.kind}`)}</Link></td><td><JobState job={job} /></td><td className="progress-cell"><Stage job={job} /></td>
                <td className="nowrap">{formatDate(job.started_at ?? job.created_at, i18n.language)}</td><td className="number">{took(job, t)}</td><td>{nameOf(job.created_by)}</td>
              </tr>
            ))}
          </Table>
        </Section>
      ) : <div className="card"><Empty icon={<Hourglass size={32} aria-hidden />} title={t("lead.jobs.none")} text={t("lead.jobs.noneText")} /></div>}</Loaded>
      {asking === "retrain" ? <Retrain onClose={() => setAsking(null)} onStarted={started} /> : null}
      {asking === "label" ? <LabelRun onClose={() => setAsking(null)} onStarted={started} /> : null}
    </>
  );
}

function took(job: Job, t: Parameters<typeof duration>[1]): string {
  return job.started_at ? duration((job.ended_at ?? Date.now() / 1000) - job.started_at, t) : "–";
}

export function JobState({ job }: { job: Job }) {
  const { t } = useTranslation();
  const tone: Record<string, string> = { done: "badge good", failed: "badge bad", running: "badge accent" };
  return <span className={tone[job.state] ?? "badge"}>{job.cancel && !isOver(job) ? t("lead.jobs.cancelling") : t(`lead.jobs.state_${job.state}`)}</span>;
}

function Stage({ job }: { job: Job }) {
  const { t } = useTranslation();
  const { number, of, stage } = job.progress;
  if (job.state === "queued") return <span className="soft small">{t(`lead.jobs.lane_${job.lane}`)}</span>;
  const name = stage ? t(`lead.stages.${slug(stage)}`, { defaultValue: stage }) : "";
  if (!of) return name ? <span className="soft small">{name}</span> : <span className="soft small mono">{job.progress.line.slice(0, 80)}</span>;
  // The stage that runs is not done yet.
  return <><span className="small">{name}{isOver(job) ? "" : ` · ${t("lead.jobs.stageOf", { number, of })}`}</span><Progress done={job.state === "done" ? of : Math.max(0, number - 1)} all={of} label={name || t(`lead.jobs.kind_${job.kind}`)} /></>;
}

function Details({ id }: { id: string }) {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  const query = useQuery(jobQuery(id));
  const [stopping, setStopping] = useState(false);
  const log = useLog(id, query.data !== undefined && isOver(query.data));
  const figures = useMemo(() => readFigures(log), [log]);
  async function stop() {
    try {
      await cancelJob(id);
      await queries.invalidateQueries({ queryKey: ["lead", "jobs"] });
    } catch (failure) {
      warn(messageOf(failure, t));
    }
  }
  return (
    <>
      <div><Link className="button plain" href="/lead/jobs"><ArrowLeft size={16} aria-hidden />{t("lead.tabs.jobs")}</Link></div>
      <Loaded query={query}>{(job) => (
        <>
          <Section title={t(`lead.jobs.kind_${job.kind}`)} tools={isOver(job) ? undefined : <button type="button" className="button danger" disabled={job.cancel} onClick={() => setStopping(true)}><Square size={15} aria-hidden />{t("lead.jobs.cancel")}</button>}>
            <div className="row wrap"><JobState job={job} /><span className="soft small">{formatDate(job.started_at ?? job.created_at, i18n.language)} · {took(job, t)}{job.attempts > 1 ? ` · ${t("lead.jobs.attempts", { count: job.attempts })}` : ""}</span></div>
            <Stage job={job} />
            {figures ? <JobLive figures={figures} over={isOver(job)} /> : null}
            {job.message ? <p className={job.state === "failed" ? "notice danger" : "notice calm"}><span className="stack"><span>{t("lead.jobs.lastLine")}</span><span className="mono" lang="en">{job.message}</span></span></p> : null}
            <Values title={t("lead.jobs.settings")} values={job.settings} />
            {Object.keys(job.result).length ? <Values title={t("lead.jobs.result")} values={job.result} /> : null}
            {job.state !== "done" ? null : job.kind === "label" ? <div><Link className="button" href="/lead/data">{t("lead.jobs.toData")}</Link></div> : <div><Link className="button" href="/lead/models">{t("lead.jobs.toModels")}</Link></div>}
          </Section>
          <Log text={log} />
        </>
      )}</Loaded>
      {stopping ? <Confirm title={t("lead.jobs.cancelTitle")} text={t("lead.jobs.cancelText")} action={t("lead.jobs.cancel")} onConfirm={() => void stop()} onClose={() => setStopping(false)} /> : null}
    </>
  );
}

export function Values({ title, values }: { title: string; values: Record<string, unknown> }) {
  const { t } = useTranslation();
  const rows = Object.entries(values).filter(([, value]) => value !== null && value !== "" && (typeof value !== "object" || Object.keys(value as object).length));
  if (!rows.length) return null;
  return (
    <details>
      <summary>{title}</summary>
      <dl className="facts">{rows.map(([name, value]) => [<dt key={`${name} name`}>{fieldName(name, t)}</dt>, <dd key={name} className="mono">{typeof value === "object" ? JSON.stringify(value) : String(value)}</dd>])}</dl>
    </details>
  );
}

/** The log of a job as it grows: what is new is fetched. */
function useLog(id: string, over: boolean): string {
  const [text, setText] = useState("");
  useEffect(() => {
    let offset = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let stopped = false;
    const read = async () => {
      const part = await jobLog(id, offset).catch(() => null);
      if (stopped) return;
      if (part) {
        offset = part.end;
        if (part.text) setText((now) => (now + part.text).slice(-200_000));
      }
      if (!over || part?.text) timer = setTimeout(() => void read(), part?.text ? 500 : 2000);
    };
    setText("");
    void read();
    return () => { stopped = true; clearTimeout(timer); };
  }, [id, over]);
  return text;
}

/** The job's own words; the view stays at the end while its reader does. */
function Log({ text }: { text: string }) {
  const { t } = useTranslation();
  const box = useRef<HTMLPreElement>(null);
  const atEnd = useRef(true);
  useEffect(() => { if (atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight; }, [text]);
  return (
    <Section title={t("lead.jobs.log")}>
      <pre ref={box} className="log" tabIndex={0} role="log" aria-label={t("lead.jobs.log")} onScroll={(event) => { const at = event.currentTarget; atEnd.current = at.scrollHeight - at.scrollTop - at.clientHeight < 40; }}>{text || t("lead.jobs.noLog")}</pre>
    </Section>
  );
}
