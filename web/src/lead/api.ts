import { queryOptions } from "@tanstack/react-query";
import { request, type Schemas } from "../api/client";

export type Project = Schemas["Project"];
export type ProjectSettings = Schemas["ProjectSettings"];
export type Guideline = Schemas["Guideline"];
export type Dashboard = Schemas["Dashboard"];
export type Estimate = NonNullable<Dashboard["agreement"]["percent"]>;
export type BrowsePage = Schemas["BrowsePage"];
export type TaskDetail = Schemas["TaskDetail"];
export type BrowsedLabel = Schemas["BrowsedLabel"];

export type Job = Schemas["Job"];
export type Retrain = Schemas["Retrain"];
export type LabelRun = Schemas["LabelRun"];
export type Export = Schemas["Export"];
export type Imported = Schemas["Imported"];
export type Model = Models["models"][number];
export type Models = Schemas["Models"];
export type Verdict = Schemas["Verdict"];
export type Lineage = Schemas["Lineage"];

export const peopleQuery = queryOptions({ queryKey: ["lead", "people"], queryFn: () => get<Schemas["Person"][]>("people"), staleTime: 60_000 });

export const TASK_KINDS = ["prompt", "demonstrate", "rate", "rank", "compare", "adjudicate"] as const;
export const MERGE_METHODS = ["ranked_pairs", "borda", "bradley_terry", "plackett_luce"] as const;

type Values = Record<string, string | number | readonly string[] | undefined>;

function queryOf(values: Values): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const each of Array.isArray(value) ? (value as readonly string[]) : [value as string | number | undefined]) {
      if (each !== undefined && each !== "") query.append(name, String(each));
    }
  }
  return query.size ? `?${query}` : "";
}

const get = async <T>(path: string, values: Values = {}) => (await (await request(`/api/desk/${path}${queryOf(values)}`)).json()) as T;
const send = async <T>(method: "POST" | "PATCH" | "DELETE", path: string, body?: unknown) => {
  const answer = await request(`/api/desk/${path}`, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  return (answer.status === 204 ? undefined : await answer.json()) as T; // 204: done, and nothing to say
};

export const projectsQuery = queryOptions({ queryKey: ["lead", "projects"], queryFn: () => get<Project[]>("projects/all"), staleTime: 30_000 });
export const createProject = (body: Schemas["NewProject"]) => send<Project>("POST", "projects", body);
export const changeProject = (id: string, body: Schemas["ProjectChange"]) => send<Project>("PATCH", `projects/${id}`, body);

export const guidelinesQuery = (project: string) => queryOptions({ queryKey: ["lead", "guidelines", project], queryFn: () => get<Guideline[]>(`guidelines/${project}`), enabled: Boolean(project) });
export const publishGuideline = (project: string, body: Schemas["NewGuideline"]) => send<Guideline>("POST", `guidelines/${project}`, body);

export const dashboardQuery = (project: string, kinds: readonly string[]) =>
  queryOptions({ queryKey: ["lead", "dashboard", project, kinds], queryFn: () => get<Dashboard>("dashboard", { project, labeller_kind: kinds }), enabled: Boolean(project), refetchInterval: 30_000 });
export const merge = (body: Schemas["MergeRequest"]) => send<Schemas["MergeCounts"]>("POST", "merge", body);

export const browseQuery = (values: Values) => queryOptions({ queryKey: ["lead", "browse", values], queryFn: () => get<BrowsePage>("browse", values), placeholderData: (before) => before, enabled: Boolean(values["project"]) });
export const taskQuery = (id: string) => queryOptions({ queryKey: ["lead", "task", id], queryFn: () => get<TaskDetail>(`tasks/${id}`) });
export const resolveTask = (id: string, action: "clear" | "close") => send<void>("POST", `tasks/${id}/resolve`, { action });

export const exportsQuery = queryOptions({ queryKey: ["lead", "exports"], queryFn: () => get<Export[]>("exports") });
export const makeExport = (body: Schemas["NewExport"]) => send<Export>("POST", "exports", body);
export const importRows = (body: Schemas["Import"]) => send<Imported>("POST", "import", body);
export const exportFile = (id: string, split: string, file: string) => `/api/desk/exports/${id}/${split}/${file}`;

export const isOver = (job: Job) => job.state === "done" || job.state === "failed" || job.state === "cancelled";
export const jobsQuery = queryOptions({ queryKey: ["lead", "jobs"], queryFn: () => get<Job[]>("jobs"), refetchInterval: ({ state }) => (state.data?.every(isOver) ? 30_000 : 2000) });
export const jobQuery = (id: string) => queryOptions({ queryKey: ["lead", "jobs", id], queryFn: () => get<Job>(`jobs/${id}`), refetchInterval: ({ state }) => (state.data && isOver(state.data) ? false : 1500) });
export const judgesQuery = queryOptions({ queryKey: ["lead", "judges"], queryFn: () => get<Schemas["JudgeRow"][]>("judges"), staleTime: 60_000 });
export const beginJob = (body: Schemas["NewJob"]) => send<Job>("POST", "jobs", body);
export const cancelJob = (id: string) => send<void>("DELETE", `jobs/${id}`);
export const jobLog = (id: string, after: number) => get<Schemas["JobLog"]>(`jobs/${id}/log`, { after });

export const modelsQuery = queryOptions({ queryKey: ["lead", "models"], queryFn: () => get<Models>("models") });
export const promote = (id: string, body: Schemas["Promotion"]) => send<Models>("POST", `models/${id}/promote`, body);
export const rollBack = (body: Schemas["RollBack"]) => send<Models>("POST", "models/rollback", body);
export const lineageQuery = (id: string, offset: number) => queryOptions({ queryKey: ["lead", "lineage", id, offset], queryFn: () => get<Lineage>(`lineage/${id}`, { offset }), placeholderData: (before) => before });

export type Intake = Schemas["IntakeInfo"];
export type Withdrawal = Schemas["Withdrawal"];
export const intakeQuery = (days: number) => queryOptions({ queryKey: ["lead", "intake", days], queryFn: () => get<Intake>("intake", { days }), placeholderData: (before) => before });
export const collectNow = () => send<Schemas["Collected"]>("POST", "intake/collect");
export const withdraw = (body: Schemas["NewWithdrawal"]) => send<Withdrawal>("POST", "withdrawals", body);
