import { useQuery, useQueryClient } from "@tanstack/react-query";
import { FileText } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { messageOf } from "../api/message";
import { LazyMarkdown } from "../chat/lazy-markdown";
import { formatDate } from "../lib/format";
import { Field, Segments } from "../ui/fields";
import { toast, warn } from "../ui/toast";
import { guidelinesQuery, publishGuideline, type Guideline } from "./api";
import { diffLines, folded } from "./diff";
import { Empty, Loaded, Section, Select } from "./parts";
import { ProjectSelect, useProject } from "./project";
import { languageName } from "./text";

/** What labellers are asked to do: every change is a new version, and each label remembers which one its labeller had read. */
export default function Guidelines() {
  const { t, i18n } = useTranslation();
  const { project } = useProject();
  const languages = project?.settings.languages ?? ["en"];
  const [chosen, setLanguage] = useState("");
  const language = languages.includes(chosen) ? chosen : (languages[0] ?? "en");
  const query = useQuery(guidelinesQuery(project?.id ?? ""));
  return (
    <>
      <div className="lead-tools"><p>{t("lead.guide.text")}</p><ProjectSelect /></div>
      <Segments label={t("settings.language")} value={language} options={languages.map((each) => [each, languageName(each, i18n.language)] as const)} onChange={setLanguage} />
      <Loaded query={query}>{(all) => <Versions key={`${project?.id} ${language}`} project={project?.id ?? ""} language={language} versions={all.filter((each) => each.language === language).sort((a, b) => b.version - a.version)} />}</Loaded>
    </>
  );
}

function Versions({ project, language, versions }: { project: string; language: string; versions: Guideline[] }) {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  const latest = versions[0];
  const [editing, setEditing] = useState(false);
  const [text, setText] = useState(latest?.text ?? "");
  async function publish() {
    try {
      const made = await publishGuideline(project, { language, text });
      await queries.invalidateQueries({ queryKey: ["lead", "guidelines"] });
      setEditing(false);
      toast(t("lead.guide.published", { version: made.version }));
    } catch (failure) {
      warn(messageOf(failure, t));
    }
  }
  if (editing) {
    return (
      <Section title={latest ? t("lead.guide.next", { version: latest.version + 1 }) : t("lead.guide.first")}>
        <Field label={t("lead.guide.label")} hint={t("lead.guide.hint")}>{(ids) => <textarea dir="auto" className="input tall" {...ids} maxLength={100_000} value={text} onChange={(event) => setText(event.target.value)} />}</Field>
        {latest && text !== latest.text ? <><h3>{t("lead.guide.changes")}</h3><Diff before={latest.text} after={text} /></> : null}
        <div className="row end">
          <button type="button" className="button plain" onClick={() => { setEditing(false); setText(latest?.text ?? ""); }}>{t("common.cancel")}</button>
          <button type="button" className="button primary" disabled={!text.trim() || text === latest?.text} onClick={() => void publish()}>{t("lead.guide.publish")}</button>
        </div>
      </Section>
    );
  }
  const edit = <button type="button" className="button" onClick={() => setEditing(true)}>{latest ? t("lead.guide.edit") : t("lead.guide.write")}</button>;
  if (!latest) return <div className="card"><Empty icon={<FileText size={32} aria-hidden />} title={t("lead.guide.none")} text={t("lead.guide.noneText")} /><div className="center-row">{edit}</div></div>;
  return (
    <>
      <Section title={t("lead.guide.version", { version: latest.version })} text={t("lead.guide.since", { date: formatDate(latest.created_at, i18n.language) })} tools={edit}>
        <LazyMarkdown text={latest.text} eager />
      </Section>
      {versions.length > 1 ? <Compare versions={versions} /> : null}
    </>
  );
}

function Compare({ versions }: { versions: Guideline[] }) {
  const { t, i18n } = useTranslation();
  const [older, setOlder] = useState(versions[1]!.id);
  const [newer, setNewer] = useState(versions[0]!.id);
  const options = versions.map((each) => [each.id, `${each.version} · ${formatDate(each.created_at, i18n.language)}`] as const);
  const text = (id: string) => versions.find((each) => each.id === id)?.text ?? "";
  return (
    <Section title={t("lead.guide.compare")}>
      <div className="filters two">
        <Select label={t("lead.guide.older")} value={older} options={options} onChange={setOlder} />
        <Select label={t("lead.guide.newer")} value={newer} options={options} onChange={setNewer} />
      </div>
      <Diff before={text(older)} after={text(newer)} />
    </Section>
  );
}

/** Two versions, line by line; signs say what colours say. */
function Diff({ before, after }: { before: string; after: string }) {
  const { t } = useTranslation();
  if (before === after) return <p className="soft small">{t("lead.guide.equal")}</p>;
  return (
    <div className="diff" tabIndex={0} role="group" aria-label={t("lead.guide.changes")}>
      {folded(diffLines(before, after)).map((line, at) =>
        typeof line === "number"
          ? <div key={at} className="gap">{t("lead.guide.unchanged", { count: line })}</div>
          : <div key={at} className={line.kind}>{{ added: "+ ", removed: "− ", same: "  " }[line.kind]}{line.text}</div>,
      )}
    </div>
  );
}
