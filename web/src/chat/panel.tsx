import { useQuery } from "@tanstack/react-query";
import { X } from "lucide-react";
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
            <span className="soft small">{model.ready ? t("models.context", { tokens: number.format(model.context_length) }) : t(model.unreachable ? "models.unreachable" : "models.loading")}</span>
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
          {(ids) => <textarea dir="auto" className="input" {...ids} rows={5} maxLength={20_000} value={system} onChange={(event) => setSystem(event.target.value)} placeholder={t("panel.systemPlaceholder")} />}
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

/** As the server knows them (text/scripts.py). */
const SCRIPTS = [
  "Arabic", "Armenian", "Bengali", "Cyrillic", "Devanagari", "Ethiopic", "Georgian", "Greek", "Gujarati", "Han", "Hangul", "Hebrew", "Hiragana", "Kannada", "Katakana", "Khmer",
  "Lao", "Latin", "Malayalam", "Myanmar", "Tamil", "Telugu", "Thai", "Tibetan", "emoji",
] as const;
/** ISO 15924, by which browsers know scripts' names. */
const CODES: Record<string, string> = {
  Arabic: "Arab", Armenian: "Armn", Bengali: "Beng", Cyrillic: "Cyrl", Devanagari: "Deva", Ethiopic: "Ethi", Georgian: "Geor", Greek: "Grek", Gujarati: "Gujr", Han: "Hani", Hangul: "Hang", Hebrew: "Hebr",
  Hiragana: "Hira", Kannada: "Knda", Katakana: "Kana", Khmer: "Khmr", Lao: "Laoo", Latin: "Latn", Malayalam: "Mlym", Myanmar: "Mymr", Tamil: "Taml", Telugu: "Telu", Thai: "Thai", Tibetan: "Tibt",
};

/** Keeps answers to one script: a guarantee about characters, which no language can be given. */
export function ScriptPicker(props: { value: string; onChange: (script: string) => void; onClose: () => void }) {
  const { t, i18n } = useTranslation();
  const known = ["", "Latin", "Han", "Hiragana|Katakana|Han", "Cyrillic", "Arabic", "emoji"];
  const [own, setOwn] = useState(known.includes(props.value) ? "" : props.value);
  const scriptName = (name: string) => (name === "emoji" ? t("script.emoji") : CODES[name] ? (new Intl.DisplayNames([i18n.language], { type: "script" }).of(CODES[name]) ?? name) : name);
  const names = {
    "": t("script.any"), Latin: t("script.latin"), Han: t("script.han"), "Hiragana|Katakana|Han": t("script.japanese"), Cyrillic: t("script.cyrillic"), Arabic: t("script.arabic"), emoji: t("script.emoji"),
  } as Record<string, string>;
  return (
    <Dialog title={t("script.title")} onClose={props.onClose}>
      <p className="soft small">{t("script.text")}</p>
      <Segments label={t("script.title")} value={props.value} options={known.map((value) => [value, names[value] ?? value] as const)} onChange={(value) => { props.onChange(value); props.onClose(); }} />
      <form className="row wrap script-own" onSubmit={(event) => { event.preventDefault(); if (own) { props.onChange(own); props.onClose(); } }}>
        <Field label={t("script.other")} hint={t("script.otherHint")}>
          {(ids) => (
            <select className="input" {...ids} value="" onChange={(event) => { const name = event.target.value; if (name) setOwn(own.split("|").filter(Boolean).concat(name).join("|")); }}>
              <option value="">{t("panel.choose")}</option>
              {SCRIPTS.filter((name) => !own.split("|").includes(name)).map((name) => <option key={name} value={name}>{scriptName(name)}</option>)}
            </select>
          )}
        </Field>
        <div className="row wrap grow">{own.split("|").filter(Boolean).map((name) => <button key={name} type="button" className="button small" aria-label={t("script.without", { name: scriptName(name) })} onClick={() => setOwn(own.split("|").filter((each) => each !== name).join("|"))}>{scriptName(name)} <X size={13} aria-hidden /></button>)}</div>
        <button className="button primary" disabled={!own}>{t("common.apply")}</button>
      </form>
    </Dialog>
  );
}
