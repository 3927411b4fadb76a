import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { modelsQuery as servedQuery } from "../api/chat";
import { messageOf } from "../api/message";
import { Dialog } from "../ui/dialog";
import { Check, Segments, TextField } from "../ui/fields";
import { beginJob, type Job, type Retrain as Settings } from "./api";
import { KindFilter, KINDS, Select, Warning, type Kind } from "./parts";
import { useProject } from "./project";

type Dials = NonNullable<Settings["stages"]>;
const DIALS: [keyof Dials, number, number][] = [["sft_epochs", 1, 50], ["reward_epochs", 1, 50], ["ppo_steps", 1, 1000], ["ppo_batch", 4, 512], ["max_new_tokens", 8, 1024], ["beta", 0, 10], ["ptx_gamma", 0, 100], ["eval_questions", 0, 5000]];

/** From the labels to a candidate: export, fine-tuning, reward model, PPO, and the comparison with the model that serves. */
export function Retrain({ onClose, onStarted }: { onClose: () => void; onStarted: (job: Job) => void }) {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const { projects } = useProject();
  const { data: served = [] } = useQuery(servedQuery);
  const [project, setProject] = useState("");
  const [name, setName] = useState("");
  const [kinds, setKinds] = useState<Kind[]>([...KINDS]);
  const [rankings, setRankings] = useState<"labels" | "merged">("labels");
  const [compare, setCompare] = useState("20");
  const [rubric, setRubric] = useState(false);
  const [ignoreGate, setIgnoreGate] = useState(false);
  const [seed, setSeed] = useState("0");
  const [dials, setDials] = useState<Partial<Record<keyof Dials, string>>>({});
  const [error, setError] = useState("");
  async function begin() {
    const stages = Object.fromEntries(Object.entries(dials).filter(([, value]) => value !== "").map(([key, value]) => [key, Number(value)])) as Dials;
    const retrain: Settings = { project, serving_name: name, labeller_kinds: kinds, rankings, compare_tasks: Number(compare), judge: rubric ? "general-en" : "", ignore_gate: ignoreGate, seed: Number(seed), stages };
    try {
      const job = await beginJob({ kind: "retrain", retrain, label: null });
      void queries.invalidateQueries({ queryKey: ["lead", "jobs"] });
      onStarted(job);
    } catch (failure) {
      setError(messageOf(failure, t));
    }
  }
  return (
    <Dialog wide title={t("lead.jobs.retrain")} onClose={onClose}>
      <form className="stack lead" onSubmit={(event) => { event.preventDefault(); void begin(); }}>
        <p className="soft">{t("lead.retrain.text")}</p>
        <div className="filters two">
          <Select label={t("lead.project")} value={project} options={[["", t("lead.retrain.allProjects")], ...projects.map((each) => [each.id, each.name] as const)]} onChange={setProject} />
          <Select label={t("lead.retrain.serving")} value={name} options={[["", t("lead.retrain.default")], ...served.map((each) => [each.name, each.name] as const)]} onChange={setName} />
        </div>
        <div className="field"><span className="label">{t("lead.retrain.kinds")}</span><KindFilter value={kinds} onChange={setKinds} /></div>
        {kinds.includes("simulated") ? <Warning>{t("lead.retrain.simulated")}</Warning> : null}
        <div className="field"><span className="label">{t("lead.export.rankings")}</span><Segments label={t("lead.export.rankings")} value={rankings} options={[["labels", t("lead.export.perLabel")], ["merged", t("lead.export.merged")]]} onChange={setRankings} /></div>
        <TextField label={t("lead.retrain.compare")} hint={t("lead.retrain.compareHint")} type="number" required min={0} max={1000} value={compare} onChange={(event) => setCompare(event.target.value)} />
        <Check label={t("lead.retrain.rubric")} checked={rubric} onChange={setRubric} />
        <details>
          <summary>{t("lead.retrain.more")}</summary>
          <div className="stack">
            <p className="soft small">{t("lead.retrain.moreText")}</p>
            <div className="filters">
              {DIALS.map(([dial, min, max]) => <TextField key={dial} label={t(`lead.dials.${dial}`)} type="number" min={min} max={max} step="any" value={dials[dial] ?? ""} onChange={(event) => setDials((now) => ({ ...now, [dial]: event.target.value }))} />)}
              <TextField label={t("lead.dials.seed")} type="number" min={0} value={seed} onChange={(event) => setSeed(event.target.value)} />
            </div>
            <Check label={t("lead.retrain.ignoreGate")} checked={ignoreGate} onChange={setIgnoreGate} />
          </div>
        </details>
        {error ? <p className="error-text" role="alert">{error}</p> : null}
        <div className="row end"><button type="button" className="button plain" onClick={onClose}>{t("common.cancel")}</button><button className="button primary" disabled={!kinds.length}>{t("lead.retrain.begin")}</button></div>
      </form>
    </Dialog>
  );
}
