import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { messageOf } from "../api/message";
import { Dialog } from "../ui/dialog";
import { Check, TextField } from "../ui/fields";
import { changeProject, createProject, MERGE_METHODS, TASK_KINDS, type Project, type ProjectSettings } from "./api";
import { Select } from "./parts";

type Kind = (typeof TASK_KINDS)[number];
type Method = (typeof MERGE_METHODS)[number];
type Numeric = "k" | "lease_hours" | "gold_share" | "too_fast_s" | "adjudicate_below" | "wage_per_hour";
const FIELDS: [Numeric, { min: number; max: number; step: number | "any" }][] = [
  ["k", { min: 2, max: 9, step: 1 }], ["gold_share", { min: 0, max: 0.5, step: "any" }], ["adjudicate_below", { min: 0, max: 1, step: "any" }],
  ["too_fast_s", { min: 0, max: 3600, step: "any" }], ["lease_hours", { min: 0.1, max: 1440, step: "any" }], ["wage_per_hour", { min: 0, max: 1_000_000, step: "any" }],
];
const SWITCHES = ["allow_unranked", "rate_first", "model_draft"] as const;
const OVERLAP = { prompt: 1, demonstrate: 1, rate: 2, rank: 2, compare: 2, adjudicate: 1 };

/** A name is enough to begin; the settings, with the server's own values, come next. */
export function NewProject({ onClose, onMade }: { onClose: () => void; onMade: (project: Project) => void }) {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const [name, setName] = useState("");
  const [error, setError] = useState("");
  async function make() {
    try {
      const made = await createProject({ name: name.trim(), settings: {} });
      await queries.invalidateQueries({ queryKey: ["lead"] });
      onMade(made);
    } catch (failure) {
      setError(messageOf(failure, t));
    }
  }
  return (
    <Dialog title={t("lead.projects.new")} onClose={onClose}>
      <form className="stack" onSubmit={(event) => { event.preventDefault(); void make(); }}>
        <TextField label={t("lead.projects.name")} required maxLength={128} value={name} onChange={(event) => setName(event.target.value)} />
        {error ? <p className="error-text" role="alert">{error}</p> : null}
        <div className="row end"><button type="button" className="button plain" onClick={onClose}>{t("common.cancel")}</button><button className="button primary" disabled={!name.trim()}>{t("lead.projects.begin")}</button></div>
      </form>
    </Dialog>
  );
}

/** Settings of a project. Only what was changed is sent, so that two leads do not undo one another. */
export function ProjectDialog({ project, onClose }: { project: Project; onClose: () => void }) {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const [name, setName] = useState(project.name);
  const before = project.settings;
  const [settings, setSettings] = useState(before);
  const [languages, setLanguages] = useState((before.languages ?? []).join(", "));
  const [error, setError] = useState("");
  const set = (change: Partial<ProjectSettings>) => setSettings((now) => ({ ...now, ...change }));
  const kinds = settings.kinds ?? [];
  async function save() {
    const wanted: ProjectSettings = { ...settings, languages: languages.split(/[,，、\s]+/).filter(Boolean) };
    try {
      await changeProject(project.id, { ...(name.trim() === project.name ? {} : { name: name.trim() }), settings: changed(before, wanted) });
      await queries.invalidateQueries({ queryKey: ["lead"] });
      onClose();
    } catch (failure) {
      setError(messageOf(failure, t));
    }
  }
  return (
    <Dialog wide title={project.name} onClose={onClose}>
      <form className="stack lead" onSubmit={(event) => { event.preventDefault(); void save(); }}>
        <div className="filters two">
          <TextField label={t("lead.projects.name")} required maxLength={128} value={name} onChange={(event) => setName(event.target.value)} />
          <TextField label={t("lead.projects.languages")} hint={t("lead.projects.languagesHint")} required value={languages} onChange={(event) => setLanguages(event.target.value)} />
        </div>
        <fieldset className="kinds"><legend>{t("lead.projects.kinds")}</legend><p className="soft small">{t("lead.projects.overlapHint")}</p>
          {TASK_KINDS.map((kind) => <KindRow key={kind} kind={kind} on={kinds.includes(kind)} overlap={settings.overlap?.[kind] ?? OVERLAP[kind]}
            onToggle={(on) => set({ kinds: TASK_KINDS.filter((each) => (each === kind ? on : kinds.includes(each))) })} onOverlap={(value) => set({ overlap: { ...settings.overlap, [kind]: value } })} />)}
        </fieldset>
        {SWITCHES.map((each) => <Check key={each} label={t(`lead.settings.${each}`)} checked={settings[each] ?? false} onChange={(on) => set({ [each]: on })} />)}
        <Check label={t("lead.settings.screening")} checked={settings.screening?.required ?? false} onChange={(required) => set({ screening: { pass_score: settings.screening?.pass_score ?? 0.6, required } })} />
        <div className="filters two">
          {settings.screening?.required ? <TextField label={t("lead.settings.pass_score")} type="number" min={-1} max={1} step={0.05} value={settings.screening.pass_score} onChange={(event) => set({ screening: { required: true, pass_score: Number(event.target.value) } })} /> : null}
          <Select label={t("lead.projects.mergeMethod")} value={settings.merge_method ?? "ranked_pairs"} options={MERGE_METHODS.map((each) => [each as Method, t(`lead.merge.${each}`)] as const)} onChange={(merge_method) => set({ merge_method })} />
          {FIELDS.map(([field, limits]) => <TextField key={field} label={t(`lead.settings.${field}`)} hint={t(`lead.hints.${field}`)} type="number" required {...limits} value={settings[field] ?? ""} onChange={(event) => set({ [field]: event.target.value === "" ? null : Number(event.target.value) })} />)}
        </div>
        {error ? <p className="error-text" role="alert">{error}</p> : null}
        <div className="row end"><button type="button" className="button plain" onClick={onClose}>{t("common.cancel")}</button><button className="button primary" disabled={!kinds.length || !name.trim()}>{t("common.save")}</button></div>
      </form>
    </Dialog>
  );
}

function KindRow(props: { kind: Kind; on: boolean; overlap: number; onToggle: (on: boolean) => void; onOverlap: (overlap: number) => void }) {
  const { t } = useTranslation();
  const name = t(`lead.tasks.${props.kind}`);
  return (
    <div className="row kind-row">
      <div className="grow"><Check label={name} checked={props.on} onChange={props.onToggle} /></div>
      <input className="input narrow" type="number" min={1} max={100} required disabled={!props.on} aria-label={t("lead.projects.overlap", { kind: name })} value={props.overlap} onChange={(event) => props.onOverlap(Number(event.target.value))} />
    </div>
  );
}

/** The settings that differ from those before. */
export function changed(before: ProjectSettings, after: ProjectSettings): ProjectSettings {
  const keys = Object.keys(after) as (keyof ProjectSettings)[];
  return Object.fromEntries(keys.filter((key) => JSON.stringify(after[key]) !== JSON.stringify(before[key])).map((key) => [key, after[key]]));
}
