import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { defaultSettings, modelsQuery, type Settings } from "../api/chat";
import client, { ok } from "../api/client";
import { Dialog } from "../ui/dialog";
import { Check, Field, Segments, TextField } from "../ui/fields";

/** Models that answer: one, or several side by side. */
export function ModelPicker(props: { chosen: string[]; onChange: (models: string[]) => void; onClose: () => void }) {
  const { t, i18n } = useTranslation();
  const { data: models = [] } = useQuery(modelsQuery);
  const [several, setSeveral] = useState(props.chosen.length > 1);
  const number = new Intl.NumberFormat(i18n.language);
  function pick(name: string, on: boolean) {
    if (!several) {
      props.onChange([name]);
      return props.onClose();
    }
    const next = on ? [...props.chosen, name].slice(-4) : props.chosen.filter((each) => each !== name);
    if (next.length) props.onChange(next);
  }
  return (
    <Dialog title={t("models.title")} onClose={props.onClose}>
      {models.length > 1 ? <Check label={t("models.several")} checked={several} onChange={(on) => { setSeveral(on); if (!on) props.onChange(props.chosen.slice(0, 1)); }} /> : null}
      <div className="stack" role="group" aria-label={t("models.title")}>
        {models.map((model) => (
          <label key={model.name} className="check">
            <input type={several ? "checkbox" : "radio"} name="model" checked={props.chosen.includes(model.name)} disabled={!model.ready} onChange={(event) => pick(model.name, event.target.checked)} />
            <span className="grow">{model.name}{model.default ? <> <span className="badge">{t("models.default")}</span></> : null}{model.upstream ? <> <span className="badge warn">{t("models.elsewhere", { host: model.upstream })}</span></> : null}</span>
            <span className="soft small">{model.ready ? t("models.context", { tokens: number.format(model.context_length) }) : t("models.loading")}</span>
          </label>
        ))}
      </div>
    </Dialog>
  );
}

/** System prompt and how answers are drawn. */
export function SettingsPanel(props: { system: string; settings: Settings; onSave: (system: string, settings: Settings) => void; onClose: () => void }) {
  const { t, i18n } = useTranslation();
  const [system, setSystem] = useState(props.system);
  const [settings, setSettings] = useState(props.settings);
  const set = <K extends keyof Settings>(key: K, value: Settings[K]) => setSettings((now) => ({ ...now, [key]: value }));
  const { data: prompts = [] } = useQuery({ queryKey: ["prompts"], queryFn: () => ok(client.GET("/api/prompts")) });
  const language = i18n.language === "zh-CN" ? "zh-CN" : "en";
  const plain = prompts.filter((prompt) => prompt.language === language && !Object.keys(prompt.variables).length);
  return (
    <Dialog title={t("panel.title")} wide onClose={props.onClose}>
      <form className="stack" onSubmit={(event) => { event.preventDefault(); props.onSave(system, settings); props.onClose(); }}>
        <Field label={t("panel.system")} hint={t("panel.systemHint")}>
          {(ids) => <textarea className="input" {...ids} rows={5} maxLength={20_000} value={system} onChange={(event) => setSystem(event.target.value)} placeholder={t("panel.systemPlaceholder")} />}
        </Field>
        {plain.length ? (
          <Field label={t("panel.fromLibrary")}>
            {(ids) => (
              <select className="input" {...ids} value="" onChange={(event) => { const found = plain.find((prompt) => prompt.id === event.target.value); if (found) setSystem(found.text); }}>
                <option value="">{t("panel.choose")}</option>
                {plain.map((prompt) => <option key={prompt.id} value={prompt.id}>{prompt.title}</option>)}
              </select>
            )}
          </Field>
        ) : null}
        <Slider label={t("panel.temperature")} hint={t("panel.temperatureHint")} min={0} max={2} step={0.05} value={settings.temperature} onChange={(value) => set("temperature", value)} />
        <Slider label="top-p" hint={t("panel.topPHint")} min={0.05} max={1} step={0.05} value={settings.top_p} onChange={(value) => set("top_p", value)} />
        <div className="figures">
          <TextField label="top-k" hint={t("panel.topKHint")} type="number" min={0} max={1000} value={settings.top_k} onChange={(event) => set("top_k", Number(event.target.value))} />
          <TextField label={t("panel.maxTokens")} type="number" min={1} max={32768} value={settings.max_tokens} onChange={(event) => set("max_tokens", Number(event.target.value))} />
          <TextField label={t("panel.seed")} hint={t("panel.seedHint")} type="number" min={0} value={settings.seed ?? ""} onChange={(event) => set("seed", event.target.value === "" ? null : Number(event.target.value))} />
        </div>
        <div className="row wrap">
          <button type="button" className="button plain" onClick={() => setSettings(defaultSettings)}>{t("panel.defaults")}</button>
          <span className="grow" />
          <button className="button primary">{t("common.save")}</button>
        </div>
      </form>
    </Dialog>
  );
}

function Slider(props: { label: string; hint: string; min: number; max: number; step: number; value: number; onChange: (value: number) => void }) {
  return (
    <Field label={`${props.label}: ${props.value.toFixed(2)}`} hint={props.hint}>
      {(ids) => <input type="range" {...ids} min={props.min} max={props.max} step={props.step} value={props.value} onChange={(event) => props.onChange(Number(event.target.value))} />}
    </Field>
  );
}

/** Keeps answers to one script: a guarantee about characters, which no language can be given. */
export function ScriptPicker(props: { value: string; onChange: (script: string) => void; onClose: () => void }) {
  const { t } = useTranslation();
  const known = ["", "Latin", "Han", "Hiragana|Katakana|Han", "Cyrillic", "Arabic", "emoji"];
  const [own, setOwn] = useState(known.includes(props.value) ? "" : props.value);
  const names = {
    "": t("script.any"), Latin: t("script.latin"), Han: t("script.han"), "Hiragana|Katakana|Han": t("script.japanese"), Cyrillic: t("script.cyrillic"), Arabic: t("script.arabic"), emoji: t("script.emoji"),
  } as Record<string, string>;
  return (
    <Dialog title={t("script.title")} onClose={props.onClose}>
      <p className="soft small">{t("script.text")}</p>
      <Segments label={t("script.title")} value={props.value} options={known.map((value) => [value, names[value] ?? value] as const)} onChange={(value) => { props.onChange(value); props.onClose(); }} />
      <form className="row" onSubmit={(event) => { event.preventDefault(); if (own.trim()) { props.onChange(own.trim()); props.onClose(); } }}>
        <div className="grow"><TextField label={t("script.other")} hint={t("script.otherHint")} value={own} onChange={(event) => setOwn(event.target.value)} /></div>
        <button className="button" disabled={!own.trim()}>{t("common.apply")}</button>
      </form>
    </Dialog>
  );
}
