import type { TFunction } from "i18next";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { formatNumber } from "../lib/format";
import { Dialog } from "../ui/dialog";
import { TextField } from "../ui/fields";

export const LIMITS = ["requests_per_minute", "tokens_per_minute", "tokens_per_day", "tokens_total"] as const;
export type Limits = Record<(typeof LIMITS)[number], number>;

/** The limits of a key or an account in words; a dash without any. */
export function limitsOf(row: Limits, language: string, t: TFunction): string {
  const set = LIMITS.filter((name) => row[name]);
  return set.map((name) => t(`limits.short.${name}`, { value: formatNumber(row[name], language) })).join(", ") || "–";
}

/** Asks for the four limits; an empty field means none of its own. */
export function LimitsDialog(props: { title: string; text: string; row: Limits; onSave: (limits: Limits) => Promise<void>; onClose: () => void }) {
  const { t } = useTranslation();
  const [values, setValues] = useState(() => Object.fromEntries(LIMITS.map((name) => [name, props.row[name] ? String(props.row[name]) : ""])) as Record<(typeof LIMITS)[number], string>);
  async function save() {
    await props.onSave(Object.fromEntries(LIMITS.map((name) => [name, Number(values[name])])) as Limits);
    props.onClose();
  }
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form className="stack" onSubmit={(event) => { event.preventDefault(); void save(); }}>
        <p className="soft">{props.text}</p>
        {LIMITS.map((name) => <TextField key={name} label={t(`limits.${name}`)} type="number" min={1} max={name.endsWith("minute") ? 1e9 : 1e15} value={values[name]} onChange={(event) => setValues({ ...values, [name]: event.target.value })} />)}
        <div className="row end"><button type="button" className="button plain" onClick={props.onClose}>{t("common.cancel")}</button><button className="button primary">{t("common.save")}</button></div>
      </form>
    </Dialog>
  );
}
