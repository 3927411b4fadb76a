import { ApiError, request, type Schemas } from "../api/client";
import { readEvents } from "../lib/sse";
import type { Draft, Remote } from "./keeper";
import type { LabelBody, Message, SkipReason, Work } from "./task";

export type Counts = Schemas["Counts"];
export type ProjectInfo = Schemas["ProjectInfo"];
export type Labelled = Schemas["Labelled"];
export type MyLabel = Schemas["MyLabel"];
export type Undone = Schemas["Undone"];

/** The desk's routes as labellers use them (serve/desk/wire.py). Ids are the server's own and need no quoting. */
/** A connection that hangs is a connection that is lost: what waits must be tried again. */
const PATIENCE_MS = 30_000;

async function json<T>(path: string, method = "GET", body?: unknown): Promise<T> {
  const init: RequestInit = { method, signal: AbortSignal.timeout(PATIENCE_MS) };
  if (body !== undefined) init.body = JSON.stringify(body);
  const response = await request(`/api/desk${path}`, init);
  return (response.status === 204 ? null : await response.json()) as T;
}

export const projects = () => json<ProjectInfo[]>("/projects");
export const guidelines = (project: string) => json<Schemas["Guideline"][]>(`/guidelines/${project}`);
export const sendLabel = (label: LabelBody) => json<Labelled>("/labels", "POST", label);
export const undoLabel = (uuid: string) => json<Undone>(`/labels/${uuid}/undo`, "POST", {});
export const renew = (task: string) => json<Schemas["Renewed"]>(`/tasks/${task}/renew`, "POST", {});
export const skipTask = (task: string, reason: SkipReason, comment: string) => json<unknown>(`/tasks/${task}/skip`, "POST", { reason, comment });
export const flagTask = (task: string, reason: SkipReason, comment: string) => json<unknown>(`/tasks/${task}/flag`, "POST", { reason, comment });
export const myLabels = (offset: number) => json<Schemas["MyLabels"]>(`/labels?offset=${offset}`);
export type Profile = Schemas["Profile"];
export const profile = () => json<Profile>("/profile");
export const saveProfile = (languages: string[]) => json<Profile>("/profile", "PUT", { languages });

/** A place at a task: the one that is held, or a new one. */
export function next(project: string, kind: string): Promise<Schemas["Next"]> {
  const query = new URLSearchParams(Object.entries({ project, kind }).filter(([, value]) => value));
  return json<Schemas["Next"]>(`/next?${query}`, "POST", {});
}

/** The server's copy of the draft of a task. */
export function remoteDraft(task: string): Remote<Work> {
  return {
    async get(): Promise<Draft<Work>> {
      const { revision, content } = await json<{ revision: number; content: Work | Record<string, never> }>(`/tasks/${task}/draft`);
      return { revision, content: "judged" in content ? (content as Work) : null, at: 0 };
    },
    put: async (revision, content) => (await json<{ revision: number }>(`/tasks/${task}/draft`, "PUT", { revision, content })).revision,
  };
}

/** A model's draft of the next turn, as it is written. */
export async function* modelDraft(task: string, messages: readonly Message[], signal: AbortSignal): AsyncGenerator<string> {
  const response = await request(`/api/desk/tasks/${task}/draft-answer`, { method: "POST", body: JSON.stringify({ messages }), signal });
  for await (const { event, data } of readEvents(response.body!)) {
    if (event === "error") throw new ApiError(502, (data as { message?: string }).message ?? "", "engine_unavailable");
    const { text } = data as { text?: string };
    if (event === "delta" && text) yield text;
  }
}
