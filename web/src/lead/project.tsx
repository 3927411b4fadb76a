import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { useSearchParams } from "wouter";
import { projectsQuery, type Project } from "./api";
import { Select } from "./parts";

const KEPT = "lead.project";

/** The project that the leads' pages are about: named by the address, else the one looked at last, else the first. */
export function useProject(): { project: Project | undefined; projects: Project[]; ready: boolean; choose: (id: string) => void } {
  const { data: projects = [], isSuccess: ready } = useQuery(projectsQuery);
  const [params, setParams] = useSearchParams();
  const wanted = params.get("project") ?? sessionStorage.getItem(KEPT);
  const project = projects.find((each) => each.id === wanted) ?? projects[0];
  const choose = (id: string) => {
    sessionStorage.setItem(KEPT, id);
    setParams((now) => { now.set("project", id); now.delete("page"); return now; }, { replace: true });
  };
  return { project, projects, ready, choose };
}

export function ProjectSelect() {
  const { t } = useTranslation();
  const { project, projects, choose } = useProject();
  if (!project) return null;
  return <Select label={t("lead.project")} value={project.id} options={projects.map((each) => [each.id, each.name] as const)} onChange={choose} />;
}
