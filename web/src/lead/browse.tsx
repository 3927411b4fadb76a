import { useQuery } from "@tanstack/react-query";
import { Flag, Inbox } from "lucide-react";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useParams, useSearchParams } from "wouter";
import { formatDate, formatPercent } from "../lib/format";
import { TextField } from "../ui/fields";
import { browseQuery, TASK_KINDS, type BrowsePage } from "./api";
import { Empty, KINDS, Loaded, Pager, Select, Table } from "./parts";
import { ProjectSelect, useProject } from "./project";
import { TaskPage } from "./task";

const PAGE = 25;
const STATES = ["open", "complete", "merged", "closed"] as const;
const SOURCES = ["api", "chat", "arena", "import", "written", "demo"] as const;
export const FLAGS = ["fails_instruction", "inappropriate_for_assistant", "hallucination", "satisfies_constraint", "sexual_content", "violent_content", "encourages_harm", "denigrates_protected_class", "harmful_advice", "expresses_opinion", "moral_judgement"] as const;
const NAMES = ["kind", "state", "split", "source", "labeller_kind", "flag", "language", "labeller", "model", "agreement_below", "flagged", "text"] as const;
type Name = (typeof NAMES)[number];
const RARE: Name[] = ["labeller", "agreement_below", "flag", "flagged", "source", "split", "language", "model"];

/** Every task with what was said about it; the filters are part of the address, so that a view can be passed on. */
export default function Browse() {
  const { id } = useParams<{ id?: string }>();
  return id ? <TaskPage id={id} /> : <List />;
}

function List() {
  const { project } = useProject();
  const [params, setParams] = useSearchParams();
  const page = Math.max(0, Number(params.get("page") ?? 0) || 0);
  const values = Object.fromEntries(NAMES.map((name) => [name, params.get(name) ?? ""])) as Record<Name, string>;
  const change = (name: string, value: string) => setParams((now) => {
    if (value) now.set(name, value);
    else now.delete(name);
    if (name !== "page") now.delete("page");
    if (name !== "page" && name !== "older_than") now.delete("older_than");
    return now;
  }, { replace: true });
  const query = useQuery(browseQuery({ project: project?.id, ...values, older_than: values.text ? params.get("older_than") ?? "" : "", offset: page * PAGE, limit: PAGE }));
  return (
    <>
      <Filters values={values} change={change} />
      <Loaded query={query}>{(data) => <Results data={data} page={page} onPage={(to) => change("page", to ? String(to) : "")} onOlder={(to) => change("older_than", String(to))} />}</Loaded>
    </>
  );
}

function Filters({ values, change }: { values: Record<Name, string>; change: (name: Name, value: string) => void }) {
  const { t } = useTranslation();
  const all = ["", t("lead.data.all")] as const;
  return (
    <div className="stack" role="search" aria-label={t("lead.data.filters")}>
      <div className="filters">
        <ProjectSelect />
        <Typed name="text" label={t("lead.data.text")} value={values.text} change={change} />
        <Select label={t("lead.dash.kind")} value={values.kind} options={[all, ...TASK_KINDS.map((each) => [each as string, t(`lead.tasks.${each}`)] as const)]} onChange={(value) => change("kind", value)} />
        <Select label={t("lead.data.state")} value={values.state} options={[all, ...STATES.map((each) => [each as string, t(`lead.states.${each}`)] as const)]} onChange={(value) => change("state", value)} />
        <Select label={t("lead.kinds.label")} value={values.labeller_kind} options={[all, ...KINDS.map((each) => [each as string, t(`lead.kinds.${each}`)] as const)]} onChange={(value) => change("labeller_kind", value)} />
      </div>
      <details open={RARE.some((name) => values[name])}>
        <summary>{t("lead.data.more")}</summary>
        <div className="filters">
          <Typed name="labeller" label={t("lead.people.labeller")} value={values.labeller} change={change} />
          <Select label={t("lead.data.below")} value={values.agreement_below} options={[all, ...["0.5", "0.65", "0.8", "1"].map((each) => [each, formatPercent(Number(each))] as const)]} onChange={(value) => change("agreement_below", value)} />
          <Select label={t("lead.data.flag")} value={values.flag} options={[all, ...FLAGS.map((each) => [each as string, t(`label.flags.${each}`)] as const)]} onChange={(value) => change("flag", value)} />
          <Select label={t("lead.data.flagged")} value={values.flagged} options={[all, ["true", t("lead.data.yes")]]} onChange={(value) => change("flagged", value)} />
          <Select label={t("lead.data.source")} value={values.source} options={[all, ...SOURCES.map((each) => [each as string, t(`lead.sources.${each}`)] as const)]} onChange={(value) => change("source", value)} />
          <Select label={t("lead.data.split")} value={values.split} options={[all, ["train", t("lead.splits.train")], ["held_out", t("lead.splits.held_out")]]} onChange={(value) => change("split", value)} />
          <Typed name="language" label={t("settings.language")} value={values.language} change={change} />
          <Typed name="model" label={t("usage.model")} value={values.model} change={change} />
        </div>
      </details>
    </div>
  );
}

/** A filter that waits until typing rests. */
function Typed({ name, label, value, change }: { name: Name; label: string; value: string; change: (name: Name, value: string) => void }) {
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  useEffect(() => {
    if (typed === value) return;
    const timer = setTimeout(() => change(name, typed.trim()), 400);
    return () => clearTimeout(timer);
    // eslint-disable-next-line -- `change` is new at every drawing
  }, [typed, value, name]);
  return <TextField label={label} type="search" value={typed} onChange={(event) => setTyped(event.target.value)} />;
}

function Results({ data, page, onPage, onOlder }: { data: BrowsePage; page: number; onPage: (page: number) => void; onOlder: (to: number) => void }) {
  const { t, i18n } = useTranslation();
  const next = data.next_older;
  const older = next === null ? null : (
    <div className="row end" role="status">
      <span className="soft small grow">{t("lead.data.searchedPart")}</span>
      <button type="button" className="button" onClick={() => onOlder(next)}>{t("lead.data.searchOlder")}</button>
    </div>
  );
  if (!data.tasks.length && older) return <div className="card stack">{older}</div>;
  if (!data.tasks.length) return <div className="card"><Empty icon={<Inbox size={32} aria-hidden />} title={t("lead.data.none")} text={t("lead.data.noneText")} /></div>;
  return (
    <div className="card stack section">
      <Table label={t("lead.tabs.data")} head={<><th>{t("lead.data.start")}</th><th>{t("lead.dash.kind")}</th><th>{t("lead.data.state")}</th><th className="number">{t("lead.dash.labels")}</th><th className="number">{t("lead.dash.agreement")}</th><th>{t("lead.data.ranking")}</th><th>{t("lead.data.source")}</th></>}>
        {data.tasks.map((task) => (
          <tr key={task.id}>
            <td><Link className="excerpt" dir="auto" href={`/lead/data/${task.id}`}>{task.erased ? t("lead.data.erased") : task.start || t("lead.data.noPrompt")}</Link></td>
            <td className="nowrap">{t(`lead.tasks.${task.kind}`)}{task.screening ? <> <span className="badge">{t("lead.data.screening")}</span></> : task.gold ? <> <span className="badge">{t("lead.data.gold")}</span></> : null}</td>
            <td><State state={task.state} />{task.flagged ? <> <Flag size={14} className="flagged" aria-label={t("lead.data.flagged")} /></> : null}</td>
            <td className="number">{task.labels} / {task.overlap}</td>
            <td className="number">{task.agreement === null ? "–" : formatPercent(task.agreement)}</td>
            <td>{task.ranking ? <span className="order">{task.ranking}</span> : "–"}</td>
            <td className="nowrap">{t(`lead.sources.${task.source}`, { defaultValue: task.source })} · {task.language}<br /><span className="soft small">{formatDate(task.created_at, i18n.language)}</span></td>
          </tr>
        ))}
      </Table>
      <Pager page={page} size={PAGE} total={data.total} onPage={onPage} />
      {older}
    </div>
  );
}

export function State({ state }: { state: string }) {
  const { t } = useTranslation();
  const tone: Record<string, string> = { merged: "badge good", complete: "badge accent" };
  return <span className={tone[state] ?? "badge"}>{t(`lead.states.${state}`)}</span>;
}
