import { useQuery, useQueryClient } from "@tanstack/react-query";
import { BookOpen, Columns2, Gavel, History as HistoryIcon, ListOrdered, MessageSquareText, PencilLine, Star } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import { messageOf } from "../api/message";
import { LazyMarkdown } from "../chat/lazy-markdown";
import { formatDate, formatNumber } from "../lib/format";
import { useTitle } from "../lib/title";
import { Dialog } from "../ui/dialog";
import { Check, Spinner } from "../ui/fields";
import { SideButton } from "../ui/frame";
import { warn } from "../ui/toast";
import { languageName } from "../lead/text";
import { guidelines, myLabels, profile, projects, saveProfile, type Profile, type ProjectInfo } from "./api";
import { KINDS, type TaskKind } from "./task";

const ICONS: Record<TaskKind, typeof Star> = { rank: ListOrdered, rate: Star, compare: Columns2, demonstrate: MessageSquareText, prompt: PencilLine, adjudicate: Gavel };

/** The most that the server counts. */
const MANY = 1000;

/** What waits for this labeller, by project and kind. */
export default function Home() {
  const { t } = useTranslation();
  useTitle(t("label.title"));
  const { data, error, refetch } = useQuery({ queryKey: ["desk", "projects"], queryFn: projects });
  const languages = [...new Set((data ?? []).flatMap((project) => project.languages))].sort();
  return (
    <>
      <header className="top"><SideButton /></header>
      <div className="page">
        <div className="page-inner">
          <div className="page-head">
            <div className="grow"><h1>{t("label.title")}</h1><p>{t("label.text")}</p></div>
            <Link className="button" href="/label/history"><HistoryIcon size={16} aria-hidden />{t("label.history.title")}</Link>
          </div>
          {data ? null : error ? <div className="empty" role="alert"><p>{messageOf(error, t)}</p><button type="button" className="button" onClick={() => void refetch()}>{t("common.retry")}</button></div> : <Spinner label={t("common.loading")} />}
          <Introduction />
          {data?.length === 0 ? <div className="empty"><ListOrdered size={34} aria-hidden /><h2>{t("label.noProjects")}</h2><p>{t("label.noProjectsText")}</p></div> : null}
          {data?.map((project) => <ProjectCard key={project.id} project={project} />)}
          {languages.length > 1 ? <Languages languages={languages} /> : null}
        </div>
      </div>
    </>
  );
}

/** How labelling goes, open for somebody who has not labelled yet. */
function Introduction() {
  const { t } = useTranslation();
  const mine = useQuery({ queryKey: ["desk", "mine", "any"], queryFn: () => myLabels(0) });
  if (!mine.data) return null;
  return (
    <details className="card desk-introduction" open={mine.data.labels.length === 0 || undefined}>
      <summary><h2>{t("label.intro.title")}</h2></summary>
      <ol>{(["read", "judge", "keys", "send", "undo"] as const).map((step) => <li key={step}>{t(`label.intro.${step}`)}</li>)}</ol>
    </details>
  );
}

function ProjectCard({ project }: { project: ProjectInfo }) {
  const { t, i18n } = useTranslation();
  const [reading, setReading] = useState(false);
  const kinds = KINDS.filter((kind) => project.kinds.includes(kind) || project.left[kind]);
  const left = (kind: TaskKind) => project.left[kind] ?? 0;
  const all = kinds.reduce((sum, kind) => sum + left(kind), 0);
  const count = (value: number) => (value >= MANY ? `${formatNumber(MANY, i18n.language)}+` : formatNumber(value, i18n.language));
  return (
    <section className="card stack desk-project">
      <div className="row wrap">
        <h2 className="grow">{project.name}</h2>
        <button type="button" className="button plain" onClick={() => setReading(true)}><BookOpen size={16} aria-hidden />{t("label.guideline.title")}</button>
        {all > 0 ? <Link className="button primary" href={`/label/next?project=${project.id}`}>{t("label.start")}</Link> : null}
      </div>
      <ul className="desk-kinds">
        {kinds.map((kind) => {
          const Icon = ICONS[kind];
          const inside = <><Icon size={18} aria-hidden /><span className="grow">{t(`label.kinds.${kind}`)}</span><span className="soft small">{t("label.waits", { count: left(kind), number: count(left(kind)) })}</span></>;
          return <li key={kind}>{left(kind) ? <Link className="desk-kind" href={`/label/next?project=${project.id}&kind=${kind}`}>{inside}</Link> : <span className="desk-kind done">{inside}</span>}</li>;
        })}
      </ul>
      {reading ? <ProjectGuidelines project={project} onClose={() => setReading(false)} /> : null}
    </section>
  );
}

/** The newest version in each language; the reader's own first. */
function ProjectGuidelines({ project, onClose }: { project: ProjectInfo; onClose: () => void }) {
  const { t, i18n } = useTranslation();
  const { data, error } = useQuery({ queryKey: ["desk", "guidelines", project.id], queryFn: () => guidelines(project.id) });
  const newest = [...new Map((data ?? []).sort((a, b) => a.version - b.version).map((each) => [each.language, each])).values()];
  const own = (language: string) => (i18n.language.startsWith(language.slice(0, 2)) ? 0 : 1);
  return (
    <Dialog title={t("label.guideline.title")} wide onClose={onClose}>
      {data ? null : error ? <p className="error-text" role="alert">{messageOf(error, t)}</p> : <Spinner label={t("common.loading")} />}
      {data && !newest.length ? <p className="soft">{t("label.guideline.none")}</p> : null}
      {newest.sort((a, b) => own(a.language) - own(b.language)).map((each) => (
        <article key={each.id} lang={each.language} className="stack">
          <p className="soft small"><span className="badge">{each.language}</span> {t("label.guideline.version", { version: each.version, date: formatDate(each.created_at, i18n.language) })}</p>
          <LazyMarkdown text={each.text} eager />
        </article>
      ))}
    </Dialog>
  );
}

/** Which languages somebody reads well enough to judge. */
function Languages({ languages }: { languages: string[] }) {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  const key = ["desk", "profile"];
  const { data } = useQuery({ queryKey: key, queryFn: profile });
  if (!data) return null;
  const name = (language: string) => languageName(language, i18n.language);
  const chosen = (language: string) => data.languages.length === 0 || data.languages.includes(language);
  async function change(language: string, on: boolean) {
    const now = languages.filter((each) => (each === language ? on : chosen(each)));
    if (!now.length) { warn(t("label.languages.one")); return; }
    const wanted = now.length === languages.length ? [] : now;
    await queries.cancelQueries({ queryKey: key });
    queries.setQueryData<Profile>(key, { ...data!, languages: wanted }); // what a second click changes, before the first is confirmed
    try {
      await saveProfile(wanted);
    } catch (failure) {
      warn(messageOf(failure, t));
    }
    await queries.invalidateQueries({ queryKey: ["desk"] });
  }
  return (
    <section className="card stack">
      <h2>{t("label.languages.title")}</h2>
      <p className="soft small">{t("label.languages.text")}</p>
      <div className="row wrap desk-languages">{languages.map((language) => <Check key={language} label={name(language)} checked={chosen(language)} onChange={(on) => change(language, on)} />)}</div>
    </section>
  );
}
