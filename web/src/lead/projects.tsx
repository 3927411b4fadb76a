import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Plus } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { messageOf } from "../api/message";
import { formatDate } from "../lib/format";
import { Menu } from "../ui/menu";
import { warn } from "../ui/toast";
import { changeProject, projectsQuery, type Project } from "./api";
import { Loaded, Section, Table } from "./parts";
import { NewProject, ProjectDialog } from "./project-form";
import { languageName, shareText } from "./text";

/** What is labelled together: which kinds of task, how often each, who may, what it costs. */
export default function Projects() {
  const { t } = useTranslation();
  const query = useQuery(projectsQuery);
  const [open, setOpen] = useState<Project | "new" | null>(null);
  return (
    <>
      <div className="lead-tools"><p>{t("lead.projects.text")}</p><button type="button" className="button primary" onClick={() => setOpen("new")}><Plus size={17} aria-hidden />{t("lead.projects.new")}</button></div>
      <Loaded query={query}>{(projects) => <List projects={projects} onOpen={setOpen} />}</Loaded>
      {open === "new" ? <NewProject onClose={() => setOpen(null)} onMade={setOpen} /> : open ? <ProjectDialog key={open.id} project={open} onClose={() => setOpen(null)} /> : null}
    </>
  );
}

function List({ projects, onOpen }: { projects: Project[]; onOpen: (project: Project) => void }) {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  async function archive(project: Project) {
    try {
      await changeProject(project.id, { archived: !project.archived_at, settings: {} });
    } catch (failure) {
      warn(messageOf(failure, t));
    }
    void queries.invalidateQueries({ queryKey: ["lead"] });
  }
  return (
    <Section title={t("lead.tabs.projects")}>
      <Table label={t("lead.tabs.projects")} head={<><th>{t("lead.projects.name")}</th><th>{t("lead.projects.kinds")}</th><th>{t("lead.projects.languages")}</th><th className="number">{t("lead.projects.gold")}</th><th>{t("lead.projects.mergeMethod")}</th><th>{t("lead.data.at")}</th><th><span className="sr-only">{t("apiKeys.action")}</span></th></>}>
        {projects.map((project) => {
          const { settings } = project;
          return (
            <tr key={project.id}>
              <td><button type="button" className="linkish" onClick={() => onOpen(project)}>{project.name}</button> {project.archived_at ? <span className="badge">{t("lead.projects.archived")}</span> : null}</td>
              <td><div className="badges">{(settings.kinds ?? []).map((kind) => <span key={kind} className="badge">{t(`lead.tasks.${kind}`)} × {settings.overlap?.[kind] ?? 1}</span>)}</div></td>
              <td>{(settings.languages ?? []).map((each) => languageName(each, i18n.language)).join(", ")}</td>
              <td className="number">{shareText(settings.gold_share)}</td>
              <td>{settings.merge_method ? t(`lead.merge.${settings.merge_method}`) : "–"}</td>
              <td className="nowrap">{formatDate(project.created_at, i18n.language)}</td>
              <td><Menu label={t("side.more", { title: project.name })} items={[{ label: t("lead.projects.edit"), onSelect: () => onOpen(project) }, { label: project.archived_at ? t("lead.projects.restore") : t("lead.projects.archive"), onSelect: () => void archive(project) }]} /></td>
            </tr>
          );
        })}
      </Table>
    </Section>
  );
}
