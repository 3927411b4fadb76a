import createClient, { type Middleware } from "openapi-fetch";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];

/** What the server refused, in its own words. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string,
    readonly retryAfter = 0,
    readonly param = "",
  ) {
    super(message);
  }
}

let csrf = "";
let onSignedOut = () => {};

export function setCsrf(token: string): void {
  csrf = token;
}

/** Called when the server says that this browser is not signed in any more. */
export function whenSignedOut(callback: () => void): void {
  onSignedOut = callback;
}

export async function errorOf(response: Response): Promise<ApiError> {
  const body: unknown = await response.json().catch(() => null);
  const error = (body as { error?: { message?: string; code?: string | null; param?: string | null } } | null)?.error;
  if (response.status === 401 && error?.code === "not_signed_in") onSignedOut();
  return new ApiError(response.status, error?.message ?? response.statusText, error?.code ?? "", Number(response.headers.get("retry-after")) || 0, error?.param ?? "");
}

const safety: Middleware = {
  onRequest({ request }) {
    if (request.method !== "GET") request.headers.set("X-CSRF-Token", csrf);
    return request;
  },
  async onResponse({ response }) {
    if (!response.ok) throw await errorOf(response);
    return response;
  },
};

const client = createClient<paths>({ baseUrl: typeof location === "undefined" ? "http://localhost" : location.origin });
client.use(safety);
export default client;

/** The body of a successful answer; failures have been thrown by the middleware. */
export async function ok<T>(answer: Promise<{ data?: T }>): Promise<T> {
  return (await answer).data as T;
}

/** For streams, which the typed client does not cover: the same headers, the same errors. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (init.method && init.method !== "GET") headers.set("X-CSRF-Token", csrf);
  if (init.body) headers.set("Content-Type", "application/json");
  const response = await fetch(path, { ...init, headers });
  if (!response.ok) throw await errorOf(response);
  return response;
}
