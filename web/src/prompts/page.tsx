import { useQuery, useQueryClient } from "@tanstack/react-query";
import { NotebookText, Pencil, Plus, Trash2 } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { useLocation } from "wouter";
import client, { ok, type Schemas } from "../api/client";
import { messageOf } from "../api/message";
import { giveInsert } from "../chat/insert";
import { useTitle } from "../lib/title";
import { Confirm, Dialog } from "../ui/dialog";
import { Check, Field, Segments, TextField } from "../ui/fields";
import { SideButton } from "../ui/frame";
import { Menu } from "../ui/menu";
import { warn } from "../ui/toast";
import { fill } from "./template";

type Prompt = Schemas["PromptInfo"];
type Language = Prompt["language"];

export default function Prompts() {
  const { t, i18n } = useTranslation();
  useTitle(t("prompts.title"));
  const queries = useQueryClient();
  const [language, setLanguage] = useState<Language>(i18n.language === "zh-CN" ? "zh-CN" : "en");
  const [using, setUsing] = useState<Prompt | null>(null);
  const [editing, setEditing] = useState<Prompt | "new" | null>(null);
  const [deleting, setDeleting] = useState<Prompt | null>(null);
  const { data = [] } = useQuery({ queryKey: ["prompts"], queryFn: () => ok(client.GET("/api/prompts")) });
  const shown = data.filter((prompt) => prompt.language === language);
  const kinds = { builtin: t("prompts.builtin"), own: t("prompts.own"), shared: t("prompts.shared") };

  async function remove(prompt: Prompt) {
    await ok(client.DELETE("/api/prompts/{prompt_id}", { params: { path: { prompt_id: prompt.id } } })).catch((failure: unknown) => warn(messageOf(failure, t)));
    void queries.invalidateQueries({ queryKey: ["prompts"] });
  }

  return (
    <>
      <header className="top"><SideButton /></header>
      <div className="page">
        <div className="page-inner">
          <div className="page-head">
            <div className="grow"><h1>{t("prompts.title")}</h1><p>{t("prompts.text")}</p></div>
            <button type="button" className="button primary" onClick={() => setEditing("new")}><Plus size={17} aria-hidden />{t("prompts.new")}</button>
          </div>
          <Segments label={t("prompts.language")} value={language} options={[["en", "English"], ["zh-CN", "简体中文"]]} onChange={setLanguage} />
          {shown.length ? (
            <div className="cards">
              {shown.map((prompt) => (
                <article key={prompt.id} className="card prompt-card">
                  <div className="row">
                    <h2 className="grow" dir="auto">{prompt.title}</h2>
                    {prompt.kind === "own" ? (
                      <Menu label={t("side.more", { title: prompt.title })} items={[
                        { label: t("message.edit"), icon: <Pencil size={15} aria-hidden />, onSelect: () => setEditing(prompt) },
                        { label: t("common.delete"), icon: <Trash2 size={15} aria-hidden />, danger: true, onSelect: () => setDeleting(prompt) },
                      ]} />
                    ) : null}
                  </div>
                  <p dir="auto">{prompt.text}</p>
                  <div className="row wrap">
                    <span className="badge">{kinds[prompt.kind]}</span>
                    <span className="grow" />
                    <button type="button" className="button" onClick={() => setUsing(prompt)} aria-label={t("prompts.useNamed", { title: prompt.title })}>{t("prompts.use")}</button>
                  </div>
                </article>
              ))}
            </div>
          ) : <div className="empty"><NotebookText size={34} aria-hidden /><h2>{t("prompts.none")}</h2><p>{t("prompts.noneText")}</p></div>}
        </div>
      </div>
      {using ? <Use prompt={using} onClose={() => setUsing(null)} /> : null}
      {editing ? <Edit prompt={editing === "new" ? null : editing} language={language} onClose={() => setEditing(null)} /> : null}
      {deleting ? <Confirm title={t("prompts.deleteTitle")} text={deleting.title} action={t("common.delete")} onConfirm={() => void remove(deleting)} onClose={() => setDeleting(null)} /> : null}
    </>
  );
}

function Use({ prompt, onClose }: { prompt: Prompt; onClose: () => void }) {
  const { t } = useTranslation();
  const [, navigate] = useLocation();
  const names = Object.keys(prompt.variables);
  const [values, setValues] = useState<Record<string, string>>({});
  async function apply(as: "text" | "system") {
    try {
      const given = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
      const { text } = await ok(client.POST("/api/prompts/{prompt_id}/render", { params: { path: { prompt_id: prompt.id } }, body: { values: given } }));
      giveInsert(as === "text" ? { text } : { system: text });
      navigate("/");
    } catch (failure) {
      warn(messageOf(failure, t));
    }
  }
  return (
    <Dialog title={prompt.title} wide onClose={onClose}>
      <form className="stack" onSubmit={(event) => { event.preventDefault(); void apply("text"); }}>
        {names.map((name) => (
          <Field key={name} label={name}>
            {(ids) => <textarea dir="auto" className="input" {...ids} rows={1} placeholder={prompt.variables[name] ?? ""} required={prompt.variables[name] === null} value={values[name] ?? ""} onChange={(event) => setValues({ ...values, [name]: event.target.value })} />}
          </Field>
        ))}
        <div className="field"><span className="label">{t("prompts.preview")}</span>
          <div className="preview" dir="auto">{fill(prompt.text, values).map((part, index) => (part.variable === null ? part.text : <mark key={index}>{part.text}</mark>))}</div>
        </div>
        <div className="row end wrap">
          <button type="button" className="button" onClick={() => void apply("system")}>{t("prompts.asSystem")}</button>
          <button className="button primary">{t("prompts.asMessage")}</button>
        </div>
      </form>
    </Dialog>
  );
}

function Edit(props: { prompt: Prompt | null; language: Language; onClose: () => void }) {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const [title, setTitle] = useState(props.prompt?.title ?? "");
  const [text, setText] = useState(props.prompt?.text ?? "");
  const [shared, setShared] = useState(props.prompt?.shared ?? false);
  const [error, setError] = useState("");
  async function save() {
    const body = { title: title.trim(), text, shared, language: props.prompt?.language ?? props.language };
    try {
      await (props.prompt ? ok(client.PUT("/api/prompts/{prompt_id}", { params: { path: { prompt_id: props.prompt.id } }, body })) : ok(client.POST("/api/prompts", { body })));
      void queries.invalidateQueries({ queryKey: ["prompts"] });
      props.onClose();
    } catch (failure) {
      setError(messageOf(failure, t));
    }
  }
  return (
    <Dialog title={props.prompt ? t("prompts.edit") : t("prompts.new")} wide onClose={props.onClose}>
      <form className="stack" onSubmit={(event) => { event.preventDefault(); void save(); }}>
        <TextField label={t("side.title")} required maxLength={200} value={title} onChange={(event) => setTitle(event.target.value)} />
        <Field label={t("prompts.body")} hint={t("prompts.bodyHint", { variable: "{{name}}", fallback: "{{name|default}}", interpolation: { skipOnVariables: true } })}>
          {(ids) => <textarea dir="auto" className="input" {...ids} rows={8} required maxLength={20_000} value={text} onChange={(event) => setText(event.target.value)} />}
        </Field>
        <Check label={t("prompts.share")} checked={shared} onChange={setShared} />
        {error ? <p className="error-text" role="alert">{error}</p> : null}
        <div className="row end"><button className="button primary">{t("common.save")}</button></div>
      </form>
    </Dialog>
  );
}
