import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { TFunction } from "i18next";
import { useTranslation } from "react-i18next";
import { messageOf } from "../api/message";
import { formatPercent } from "../lib/format";
import { showAnswer } from "../lib/queries";
import { Dialog } from "../ui/dialog";
import { Check, TextField } from "../ui/fields";
import { toast } from "../ui/toast";
import { modelsQuery, promote, type Model, type Models } from "./api";
import { Verdicts } from "./models";
import { Select, Warning } from "./parts";

/** Why a comparison does not allow a promotion; the server has the last word. */
function whyNot({ gate, against, refusal_codes: codes, attempt, alpha }: Model, name: string, t: TFunction): string {
  const code = codes[name];
  if (code === "other_serves") return t("lead.models.otherServes", { model: against, name });
  if (code === "upper_bound") return t("lead.models.upperBound");
  if (code !== "not_above" || gate === null) return t("lead.models.neverCompared");
  const judge = gate.judge_kind === "held_out" ? t("lead.models.heldOut") : gate.judge;
  const values = { model: against, name, judge, rate: formatPercent(gate.rate), low: formatPercent(gate.low), high: formatPercent(gate.high) };
  return `${t("lead.models.notAbove", values)} ${t("lead.models.attempt", { attempt, alpha: formatPercent(alpha) })}`;
}

/** One click when the comparison allows it; else it takes a reason, which is kept. */
export function Promote({ model, all, onClose }: { model: Model; all: Models; onClose: () => void }) {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const names = all.serving.map((line) => line.name);
  const [name, setName] = useState(names[0] ?? "");
  const [force, setForce] = useState(false);
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const refusal = model.refusals[name] ?? "";
  async function go() {
    setBusy(true);
    try {
      await showAnswer(queries, modelsQuery.queryKey, promote(model.id, { name, force: Boolean(refusal), reason: reason.trim() }));
      void queries.invalidateQueries({ queryKey: ["models"] });
      toast(t("lead.models.promotedNow", { model: model.name, name }));
      onClose();
    } catch (failure) {
      setError(messageOf(failure, t));
      setBusy(false);
    }
  }
  return (
    <Dialog wide title={t("lead.models.promoteTitle", { model: model.name })} onClose={onClose}>
      <form className="stack lead" onSubmit={(event) => { event.preventDefault(); void go(); }}>
        <p className="soft">{t("lead.models.promoteText")}</p>
        <Verdicts model={model} />
        {names.length > 1 ? <Select label={t("lead.models.servedName")} value={name} options={names.map((each) => [each, each] as const)} onChange={setName} /> : <p>{t("lead.models.takes", { name })}</p>}
        {refusal ? (
          <>
            <Warning><span className="stack"><span>{whyNot(model, name, t)}</span><span>{t("lead.models.forceHint")}</span></span></Warning>
            <Check label={t("lead.models.force")} checked={force} onChange={setForce} />
            {force ? <TextField label={t("lead.models.reason")} hint={t("lead.models.reasonHint")} required maxLength={2000} value={reason} onChange={(event) => setReason(event.target.value)} /> : null}
          </>
        ) : null}
        {error ? <p className="error-text" role="alert">{error}</p> : null}
        <div className="row end"><button type="button" className="button plain" onClick={onClose}>{t("common.cancel")}</button><button className="button primary" disabled={busy || (Boolean(refusal) && (!force || !reason.trim()))}>{busy ? t("lead.models.swapping") : t("lead.models.promote")}</button></div>
      </form>
    </Dialog>
  );
}
