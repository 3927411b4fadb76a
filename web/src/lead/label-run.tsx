import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { messageOf } from "../api/message";
import { Dialog } from "../ui/dialog";
import { Segments, TextField } from "../ui/fields";
import { beginJob, judgesQuery, type Job, type LabelRun as Settings } from "./api";
import { Select, Warning } from "./parts";
import { useProject } from "./project";

/** Starts an automatic labeller on the queue. Its labels keep its kind. */
export function LabelRun({ onClose, onStarted }: { onClose: () => void; onStarted: (job: Job) => void }) {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const { project: current, projects } = useProject();
  const [labeller, setLabeller] = useState<Settings["labeller"]>("simulated");
  const [project, setProject] = useState(current?.id ?? "");
  const [limit, setLimit] = useState("100");
  const { data: judges = [] } = useQuery(judgesQuery);
  const [chosen, setChosen] = useState("");
  const judge = chosen || (judges[0]?.name ?? "");
  const [noise, setNoise] = useState("0.15");
  const [seed, setSeed] = useState("0");
  const [error, setError] = useState("");
  async function begin() {
    try {
      const label: Settings = { labeller, project, limit: Number(limit), judge: labeller === "ai" ? judge : "", noise: Number(noise), seed: Number(seed) };
      const job = await beginJob({ kind: "label", retrain: null, label });
      void queries.invalidateQueries({ queryKey: ["lead", "jobs"] });
      onStarted(job);
    } catch (failure) {
      setError(messageOf(failure, t));
    }
  }
  return (
    <Dialog wide title={t("lead.run.title")} onClose={onClose}>
      <form className="stack lead" onSubmit={(event) => { event.preventDefault(); void begin(); }}>
        <Segments label={t("lead.kinds.label")} value={labeller} options={[["simulated", t("lead.kinds.simulated")], ["ai", t("lead.kinds.ai")]]} onChange={setLabeller} />
        <Warning calm={labeller === "ai"}>{labeller === "ai" ? t("lead.run.aiText") : t("lead.run.simulatedText")}</Warning>
        <div className="filters two">
          <Select label={t("lead.project")} value={project} options={projects.map((each) => [each.id, each.name] as const)} onChange={setProject} />
          <TextField label={t("lead.run.limit")} hint={t("lead.run.limitHint")} type="number" required min={0} max={100_000} value={limit} onChange={(event) => setLimit(event.target.value)} />
          {labeller === "ai" ? (
            <Select label={t("lead.run.judge")} value={judge} options={judges.map((each) => [each.name, `${each.name} (${each.model})`] as const)} onChange={setChosen} />
          ) : (
            <>
              <TextField label={t("lead.run.noise")} type="number" required min={0} max={0.49} step={0.01} value={noise} onChange={(event) => setNoise(event.target.value)} />
              <TextField label={t("lead.run.seed")} hint={t("lead.run.seedHint")} type="number" required min={0} value={seed} onChange={(event) => setSeed(event.target.value)} />
            </>
          )}
        </div>
        {labeller === "ai" && judges.length === 0 ? <Warning>{t("lead.run.noJudge")}</Warning> : null}
        {error ? <p className="error-text" role="alert">{error}</p> : null}
        <div className="row end"><button type="button" className="button plain" onClick={onClose}>{t("common.cancel")}</button><button className="button primary" disabled={labeller === "ai" && !judge}>{t("lead.retrain.begin")}</button></div>
      </form>
    </Dialog>
  );
}
