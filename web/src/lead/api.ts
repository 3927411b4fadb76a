import { queryOptions } from "@tanstack/react-query";
import { request, type Schemas } from "../api/client";
import type { components } from "./wire.gen";

type Wire = Schemas & Omit<components["schemas"], keyof Schemas>;
export type Project = Wire["Project"];
export type ProjectSettings = Wire["ProjectSettings"];
export type Guideline = Wire["Guideline"];
export type Dashboard = Wire["Dashboard"];
export type Estimate = NonNullable<Dashboard["agreement"]["percent"]>;
export type BrowsePage = Wire["BrowsePage"];
export type TaskDetail = Wire["TaskDetail"];
export type BrowsedLabel = Wire["BrowsedLabel"];

export type Job = Wire["Job"];
export type Retrain = Wire["Retrain"];
export type LabelRun = Wire["LabelRun"];
export type Export = Wire["Export"];
export type Imported = Wire["Imported"];
export type Model = Wire["Model"];
export type Models = Wire["Models"];
export type Verdict = Wire["Verdict"];
export type Lineage = Wire["Lineage"];

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
const send = async <T>(method: "POST" | "PATCH" | "DELETE", path: string, body?: unknown) =>
  (await (await request(`/api/desk/${path}`, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })).json()) as T;

export const projectsQuery = queryOptions({ queryKey: ["lead", "projects"], queryFn: () => get<Project[]>("projects/all"), staleTime: 30_000 });
export const createProject = (body: Wire["NewProject"]) => send<Project>("POST", "projects", body);
export const changeProject = (id: string, body: Wire["ProjectChange"]) => send<Project>("PATCH", `projects/${id}`, body);

export const guidelinesQuery = (project: string) => queryOptions({ queryKey: ["lead", "guidelines", project], queryFn: () => get<Guideline[]>(`guidelines/${project}`), enabled: Boolean(project) });
export const publishGuideline = (project: string, body: Wire["NewGuideline"]) => send<Guideline>("POST", `guidelines/${project}`, body);

export const dashboardQuery = (project: string, kinds: readonly string[]) =>
  queryOptions({ queryKey: ["lead", "dashboard", project, kinds], queryFn: () => get<Dashboard>("dashboard", { project, labeller_kind: kinds }), enabled: Boolean(project), refetchInterval: 30_000 });
export const merge = (body: Wire["MergeRequest"]) => send<Wire["MergeResult"]>("POST", "merge", body);

export const browseQuery = (values: Values) => queryOptions({ queryKey: ["lead", "browse", values], queryFn: () => get<BrowsePage>("browse", values), placeholderData: (before) => before, enabled: Boolean(values["project"]) });
export const taskQuery = (id: string) => queryOptions({ queryKey: ["lead", "task", id], queryFn: () => get<TaskDetail>(`tasks/${id}`) });
export const resolveTask = (id: string, action: "clear" | "close") => send<unknown>("POST", `tasks/${id}/resolve`, { action });

export const exportsQuery = queryOptions({ queryKey: ["lead", "exports"], queryFn: () => get<Export[]>("exports") });
export const makeExport = (body: Wire["NewExport"]) => send<Export>("POST", "exports", body);
export const importRows = (body: Wire["Import"]) => send<Imported>("POST", "import", body);
export const exportFile = (id: string, split: string, file: string) => `/api/desk/exports/${id}/${split}/${file}`;

export const isOver = (job: Job) => job.state === "done" || job.state === "failed" || job.state === "cancelled";
export const jobsQuery = queryOptions({ queryKey: ["lead", "jobs"], queryFn: () => get<Job[]>("jobs"), refetchInterval: ({ state }) => (state.data?.every(isOver) ? 30_000 : 2000) });
export const jobQuery = (id: string) => queryOptions({ queryKey: ["lead", "jobs", id], queryFn: () => get<Job>(`jobs/${id}`), refetchInterval: ({ state }) => (state.data && isOver(state.data) ? false : 1500) });
export const beginJob = (body: Wire["NewJob"]) => send<Job>("POST", "jobs", body);
export const cancelJob = (id: string) => request(`/api/desk/jobs/${id}`, { method: "DELETE" });
export const jobLog = (id: string, after: number) => get<Wire["JobLog"]>(`jobs/${id}/log`, { after });

export const modelsQuery = queryOptions({ queryKey: ["lead", "models"], queryFn: () => get<Models>("models") });
export const promote = (id: string, body: Wire["Promotion"]) => send<Models>("POST", `models/${id}/promote`, body);
export const rollBack = (body: Wire["RollBack"]) => send<Models>("POST", "models/rollback", body);
export const lineageQuery = (id: string, offset: number) => queryOptions({ queryKey: ["lead", "lineage", id, offset], queryFn: () => get<Lineage>(`lineage/${id}`, { offset }), placeholderData: (before) => before });

export type Intake = Wire["IntakeInfo"];
export type Withdrawal = Wire["Withdrawal"];
export const intakeQuery = (days: number) => queryOptions({ queryKey: ["lead", "intake", days], queryFn: () => get<Intake>("intake", { days }), placeholderData: (before) => before });
export const collectNow = () => send<Wire["Collected"]>("POST", "intake/collect");
export const withdraw = (body: Wire["NewWithdrawal"]) => send<Withdrawal>("POST", "withdrawals", body);
