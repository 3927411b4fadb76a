import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Download, FileUp, PackageOpen, Snowflake } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { messageOf } from "../api/message";
import { formatDate, formatNumber } from "../lib/format";
import { badRow, slug } from "../lib/said";
import { Segments, TextField } from "../ui/fields";
import { Menu } from "../ui/menu";
import { toast, warn } from "../ui/toast";
import { exportFile, exportsQuery, importRows, makeExport, type Export, type Imported } from "./api";
import { useNames } from "./names";
import { Empty, Figure, KindBadge, KindFilter, KINDS, Loaded, Section, Select, Table, Warning, type Kind } from "./parts";
import { partsOf, sum } from "./parts-of-file";
import { ProjectSelect, useProject } from "./project";

const FILES = ["rankings", "demonstrations", "prompts", "ratings"] as const;

/** Rows in, frozen and hashed folders out. */
export default function Transfer() {
  return <><Import /><Exports /></>;
}

function Import() {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  const { project, ready } = useProject();
  const [over, setOver] = useState(false);
  const [progress, setProgress] = useState<{ name: string; done: number; all: number } | null>(null);
  const [result, setResult] = useState<Imported | null>(null);
  const [error, setError] = useState("");
  const [by, setBy] = useState<"" | Kind>("");
  async function take(file: File | undefined) {
    if (!file || progress || !ready) return; // not into another project than the one that will be shown
    setResult(null);
    setError("");
    const got: Imported[] = [];
    try {
      const parts = partsOf(file.name, new Uint8Array(await file.arrayBuffer()));
      if (!parts) setError(t("lead.import.tooLarge"));
      for (const [at, part] of (parts ?? []).entries()) {
        setProgress({ name: file.name, done: at, all: parts?.length ?? 1 });
        got.push(await importRows({ project: project?.id ?? "", file: file.name.slice(-256), encoding: "", labeller_kind: by, ...part }));
      }
    } catch (failure) {
      setError(messageOf(failure, t));
    }
    // Parts that were taken in stay; sending the file again skips them.
    if (got.length) setResult(sum(got));
    setProgress(null);
    void queries.invalidateQueries({ queryKey: ["lead"] });
  }
  const number = (value: number) => formatNumber(value, i18n.language);
  return (
    <Section title={t("lead.import.title")} text={t("lead.import.text")}>
      <div className="filters two"><ProjectSelect /><Select label={t("lead.import.by")} value={by} options={[["", t("lead.import.bySays")], ...KINDS.map((kind) => [kind, t(`lead.kinds.${kind}`)] as const)]} onChange={setBy} /></div>
      <div className={over ? "drop over" : "drop"} onDragOver={(event) => { event.preventDefault(); setOver(true); }} onDragLeave={() => setOver(false)} onDrop={(event) => { event.preventDefault(); setOver(false); void take(event.dataTransfer.files[0]); }}>
        <FileUp size={28} aria-hidden />
        <p>{progress ? t("lead.import.running", { name: progress.name }) : t("lead.import.drop")}</p>
        {progress ? <progress className="bar" max={progress.all} value={progress.done} aria-label={t("lead.import.title")} /> : <label className="button">{t("lead.import.choose")}<input className="sr-only" type="file" disabled={!ready} accept=".jsonl,.ndjson,.json,.csv,.tsv,.xlsx,.txt,application/jsonl,application/json,text/plain,text/csv" onChange={(event) => { void take(event.target.files?.[0]); event.target.value = ""; }} /></label>}
      </div>
      {error ? <p className="notice danger" role="alert">{error}</p> : null}
      {result ? (
        <div className="stack" role="status">
          <div className="figures">
            <Figure value={number(result.tasks)} text={t("lead.import.tasks")} /><Figure value={number(result.labels)} text={t("lead.import.labels")} />
            <Figure value={number(result.known)} text={t("lead.import.known")} /><Figure value={number(result.num_bad)} text={t("lead.import.bad")} />
          </div>
          {result.surplus ? <p className="soft small">{t("lead.import.surplus", { count: result.surplus })}</p> : null}
          {Object.keys(result.kinds).length ? <p className="soft small">{Object.entries(result.kinds).map(([kind, count]) => `${t(`lead.files.${kind}`)}: ${number(count)}`).join(" · ")}</p> : null}
          <p className="soft small">{t("lead.import.read", { format: result.format, rows: number(result.rows), used: number(result.used) })}</p>
          <Counts text={t("lead.import.leftOut")} counts={result.left_out} />
          <Counts text={t("lead.import.lostFields")} counts={result.lost_fields} />
          <Counts text={t("lead.import.unusedMarks")} counts={result.unused_marks} />
          {result.bad.length ? <><h3>{t("lead.import.badRows")}</h3><ul className="bad-rows">{result.bad.map((line, at) => <BadRow key={at} said={line} />)}</ul></> : null}
        </div>
      ) : null}
    </Section>
  );
}

/** Reasons or fields of an import with their numbers, in the server's words. */
function Counts({ text, counts }: { text: string; counts: Record<string, number> }) {
  const { i18n } = useTranslation();
  const entries = Object.entries(counts);
  return entries.length ? <p className="small">{text} <span lang="en">{entries.map(([name, count]) => `${name} (${formatNumber(count, i18n.language)})`).join(" · ")}</span></p> : null;
}

function BadRow({ said }: { said: string }) {
  const { t } = useTranslation();
  const row = badRow(said, t);
  return row ? <li>{t("lead.badRows.line", { line: row.line })} {row.field ? <code>{row.field}</code> : null} {row.reason}</li> : <li lang="en">{said}</li>;
}

function Exports() {
  const { t } = useTranslation();
  const query = useQuery(exportsQuery);
  return (
    <Section title={t("lead.export.title")} text={t("lead.export.text")}>
      <Freeze />
      <Loaded query={query}>{(exports) => exports.length ? <ExportTable exports={exports} /> : <Empty icon={<PackageOpen size={32} aria-hidden />} title={t("lead.export.none")} />}</Loaded>
    </Section>
  );
}

function Freeze() {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const { projects } = useProject();
  const [project, setProject] = useState("");
  const [kinds, setKinds] = useState<Kind[]>([...KINDS]);
  const [languages, setLanguages] = useState("");
  const [rankings, setRankings] = useState<"labels" | "merged">("labels");
  const [busy, setBusy] = useState(false);
  async function make() {
    setBusy(true);
    try {
      const made = await makeExport({ project, labeller_kinds: kinds, languages: languages.split(/[,，、\s]+/).filter(Boolean), rankings });
      await queries.invalidateQueries({ queryKey: exportsQuery.queryKey });
      toast(t("lead.export.made", { hash: made.id.slice(0, 12) }));
    } catch (failure) {
      warn(messageOf(failure, t));
    } finally {
      setBusy(false);
    }
  }
  return (
    <form className="stack" onSubmit={(event) => { event.preventDefault(); void make(); }}>
      <div className="filters two">
        <Select label={t("lead.project")} value={project} options={[["", t("lead.retrain.allProjects")], ...projects.map((each) => [each.id, each.name] as const)]} onChange={setProject} />
        <TextField label={t("lead.projects.languages")} placeholder={t("lead.data.all")} value={languages} onChange={(event) => setLanguages(event.target.value)} />
        <div className="field"><span className="label">{t("lead.retrain.kinds")}</span><KindFilter value={kinds} onChange={setKinds} /></div>
        <div className="field"><span className="label">{t("lead.export.rankings")}</span><Segments label={t("lead.export.rankings")} value={rankings} options={[["labels", t("lead.export.perLabel")], ["merged", t("lead.export.merged")]]} onChange={setRankings} /></div>
      </div>
      <div className="row end"><button className="button primary" disabled={busy || !kinds.length}><Snowflake size={16} aria-hidden />{t("lead.export.make")}</button></div>
    </form>
  );
}

export function ExportTable({ exports }: { exports: Export[] }) {
  const { t, i18n } = useTranslation();
  const { projects } = useProject();
  const projectOf = (filters: Export["filters"]) => { const id = filters["project"]; return typeof id === "string" && id ? (projects.find((each) => each.id === id)?.name ?? id) : t("lead.retrain.allProjects"); };
  if (!exports.length) return <p className="soft">{t("lead.export.none")}</p>;
  return (
    <>
      {exports.some((each) => each.withdrawn) ? <Warning>{t("lead.export.withdrawnText")}</Warning> : null}
      {exports.some((each) => each.undone && !each.withdrawn) ? <p className="soft small">{t("lead.export.undoneText")}</p> : null}
      <Table label={t("lead.export.title")} head={<><th>{t("lead.export.hash")}</th><th>{t("lead.data.at")}</th><th>{t("lead.export.what")}</th>{FILES.map((file) => <th key={file} className="number">{t(`lead.files.${file}`)}</th>)}<th><span className="sr-only">{t("apiKeys.action")}</span></th></>}>
        {exports.map((each) => (
          <tr key={each.id}>
            <td><span className="mono" title={each.id}>{each.id.slice(0, 12)}</span>{each.withdrawn ? <> <span className="badge bad">{t("lead.export.withdrawn", { count: each.withdrawn })}</span></> : null}{each.undone ? <> <span className="badge">{t("lead.export.undone", { count: each.undone })}</span></> : null}{each.models.length ? <> <span className="badge accent">{t("lead.export.models", { count: each.models.length })}</span></> : null}</td>
            <td className="nowrap">{formatDate(each.created_at, i18n.language)}</td>
            <td><div className="row wrap"><span>{projectOf(each.filters)}</span>{kindsOf(each).map((kind) => <KindBadge key={kind} kind={kind} />)}{each.filters["rankings"] === "merged" ? <span className="badge">{t("lead.export.merged")}</span> : null}</div><LeftOut counts={each.left_out} />{each.withdrawn ? <Copies made={each} /> : null}</td>
            {FILES.map((file) => <td key={file} className="number" title={t("lead.export.split")}>{formatNumber(each.counts["train"]?.[file] ?? 0, i18n.language)} + {formatNumber(each.counts["held_out"]?.[file] ?? 0, i18n.language)}</td>)}
            <td><Downloads made={each} /></td>
          </tr>
        ))}
      </Table>
      <p className="soft small">{t("lead.export.split")}</p>
    </>
  );
}

const kindsOf = (made: Export) => (Array.isArray(made.filters["labeller_kinds"]) ? (made.filters["labeller_kinds"] as string[]) : []);

/** Why labels are not in an export. */
function LeftOut({ counts }: { counts: Export["left_out"] }) {
  const { t, i18n } = useTranslation();
  const reasons = Object.entries(counts).filter(([, count]) => count);
  if (!reasons.length) return null;
  return <span className="soft small">{t("lead.export.leftOut")}: {reasons.map(([reason, count]) => `${t(`lead.leftOut.${slug(reason)}`, { defaultValue: reason })} ${formatNumber(count, i18n.language)}`).join(" · ")}</span>;
}

/** Where copies of an export went whose texts were withdrawn: they are deleted by hand. */
function Copies({ made }: { made: Export }) {
  const { t, i18n } = useTranslation();
  const nameOf = useNames();
  if (!made.copies.length) return null;
  return <ul className="small">{made.copies.map((copy, index) => <li key={index}>{t("lead.export.copy", { file: copy.place, by: nameOf(copy.actor), date: formatDate(copy.at, i18n.language) })}</li>)}</ul>;
}

function Downloads({ made }: { made: Export }) {
  const { t } = useTranslation();
  const files = (["train", "held_out"] as const).flatMap((split) => FILES.filter((file) => made.counts[split]?.[file]).map((file) => [split, file] as const));
  if (!files.length) return null;
  const save = (split: string, file: string) => { const link = document.createElement("a"); link.href = exportFile(made.id, split, file); link.download = `${made.id.slice(0, 12)}-${split}-${file}.jsonl`; link.click(); };
  return <Menu label={t("lead.export.download", { hash: made.id.slice(0, 12) })} icon={<Download size={17} aria-hidden />} items={files.map(([split, file]) => ({ label: `${t(`lead.splits.${split}`)} · ${t(`lead.files.${file}`)}`, onSelect: () => save(split, file) }))} />;
}
