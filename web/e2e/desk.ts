import { spawn, type ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { expect, PASSWORD, type Page } from "./fixtures";

/** A project of its own for each test, filled through the leads' routes by whoever is signed in on the page. */
export type NewTask = { kind: string; messages?: { role: string; content: string }[]; answers?: string[]; style?: string; language?: string };

export async function call<T>(page: Page, path: string, method = "GET", body?: unknown): Promise<T> {
  const { status, text } = await page.evaluate(async ([url, verb, sent]) => {
    const { csrf } = (await (await fetch("/api/session")).json()) as { csrf: string };
    const init: RequestInit = { method: verb as string, headers: { "x-csrf-token": csrf, "content-type": "application/json" } };
    if (sent !== null) init.body = sent as string;
    const response = await fetch(url as string, init);
    return { status: response.status, text: await response.text() };
  }, [path, method, body === undefined ? null : JSON.stringify(body)] as const);
  if (status >= 300) throw new Error(`${method} ${path}: ${status} ${text}`);
  return (text ? JSON.parse(text) : null) as T;
}

let projects = 0;

export async function makeProject(page: Page, settings: Record<string, unknown>, tasks: NewTask[], name = `Project ${process.pid}-${projects++}`): Promise<string> {
  const { id } = await call<{ id: string }>(page, "/api/desk/projects", "POST", { name, settings });
  for (const task of tasks) await call(page, "/api/desk/tasks", "POST", { project: id, language: "en", ...task });
  return id;
}

export const question = (content: string) => [{ role: "user", content }];

export const SHARED = "Light from the sun looks white, and yet it holds all the colours of the rainbow. ";
export const FOUR = [
  `${SHARED}Air scatters the **short waves**, blue, far more than the long ones, and so blue light reaches us from everywhere.`,
  `${SHARED}Because the sea is blue and the sky mirrors it.`,
  `${SHARED}Molecules of air scatter blue light more than red:\n\n1. short waves scatter most,\n2. our eyes see violet badly,\n\nso the sky looks blue.`,
  `${SHARED}天空因为瑞利散射而呈蓝色 🙂.`,
];

/** Labels of whoever is signed in, the newest first. */
export type Label = { uuid: string; state: string; kind: string; value: { ranking: string; likert: number[] | null; flags: string[][] | null; verdict: string | null; none_acceptable: boolean; cannot_judge: boolean }; payload: { messages: { role: string; content: string }[]; comment: string } | null };
export async function labels(page: Page, project: string): Promise<Label[]> {
  return (await call<{ labels: Label[] }>(page, `/api/desk/labels?project=${project}`)).labels;
}

/** A server that can be killed and started again, with the same folder and the same port. */
export class MortalServer {
  private child: ChildProcess | null = null;
  origin = "";
  token = "";
  private constructor(private folder: string, private port: number) {}

  static async start(folder: string): Promise<MortalServer> {
    const server = new MortalServer(folder, 0);
    await server.rise();
    return server;
  }

  async rise(): Promise<void> {
    const repository = new URL("../..", import.meta.url).pathname;
    const child = spawn(process.env.PYTHON ?? `${repository}.venv/bin/python`, [`${repository}tests/web/server.py`, this.folder, String(this.port)], {
      stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, PYTHONPATH: `${repository}src:${repository}tests`, OMP_NUM_THREADS: "1" },
    });
    this.child = child;
    const line = await new Promise<string>((resolve, reject) => {
      createInterface(child.stdout).once("line", resolve);
      child.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
    });
    const told = JSON.parse(line) as { origin: string; token: string };
    this.origin = told.origin;
    this.token ||= told.token;
    this.port = Number(new URL(told.origin).port);
  }

  /** As the kernel does it when memory runs out: no farewell. */
  async kill(): Promise<void> {
    const child = this.child;
    this.child = null;
    if (!child) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }
}

export async function becomeAdmin(page: Page, server: MortalServer): Promise<void> {
  await page.goto(`${server.origin}/login`);
  const status = await page.evaluate(async (body) => (await fetch("/api/links/redeem", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) })).status, { token: server.token, name: "root", password: PASSWORD });
  expect(status).toBeLessThan(300);
}
