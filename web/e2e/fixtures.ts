import { AxeBuilder } from "@axe-core/playwright";
import { test as base, expect, type Browser, type Page } from "@playwright/test";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

export type Language = "en" | "zh-CN";
type Texts = (key: string, values?: Record<string, string | number>) => string;
type Server = { origin: string; token: string };

const repository = new URL("../..", import.meta.url).pathname;
export const languages = (process.env.WEB_LANGUAGES ?? "en").split(",") as Language[];
/** How much longer to wait for everything than on a machine that has nothing else to do. */
export const patience = Number(process.env.WEB_PATIENCE ?? 1);
export const PASSWORD = "correct horse battery";

/** The app's own texts: a test says what it means, in whichever language runs. */
export function textsOf(language: Language): Texts {
  const tree = JSON.parse(readFileSync(new URL(`../src/i18n/${language}.json`, import.meta.url), "utf8")) as Record<string, unknown>;
  return (key, values = {}) => {
    const text = key.split(".").reduce<unknown>((at, part) => (at as Record<string, unknown>)[part], tree);
    if (typeof text !== "string") throw new Error(`no text ${key}`);
    return text.replace(/\{\{(\w+)\}\}/g, (_, name: string) => String(values[name] ?? ""));
  };
}

let people = 0;

export const test = base.extend<{ language: Language; t: Texts; member: Page; problems: string[] }, { server: Server; admin: { storage: Awaited<ReturnType<ReturnType<Page["context"]>["storageState"]>>; csrf: string } }>({
  language: ["en", { option: true }],
  t: async ({ language }, use) => use(textsOf(language)),
  server: [
    async ({}, use) => {
      const python = process.env.PYTHON ?? `${repository}.venv/bin/python`;
      const child = spawn(python, [`${repository}tests/web/server.py`], {
        stdio: ["pipe", "pipe", "inherit"],
        env: { ...process.env, PYTHONPATH: `${repository}src:${repository}tests`, OMP_NUM_THREADS: "1" },
      });
      const [line] = (await new Promise((resolve, reject) => {
        createInterface(child.stdout).once("line", (text) => resolve([text]));
        child.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
      })) as [string];
      await use(JSON.parse(line) as Server);
      child.stdin.end();
      await new Promise((resolve) => child.once("exit", resolve));
    },
    { scope: "worker", timeout: 180_000 * patience },
  ],
  admin: [
    async ({ server, browser }, use) => {
      const page = await browser.newPage({ baseURL: server.origin });
      await page.goto("/login");
      const csrf = await page.evaluate(async (body) => {
        const response = await fetch("/api/links/redeem", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
        return ((await response.json()) as { csrf: string }).csrf;
      }, { token: server.token, name: "root", password: PASSWORD });
      const storage = await page.context().storageState();
      await page.close();
      await use({ storage, csrf });
    },
    { scope: "worker" },
  ],
  baseURL: async ({ server }, use) => use(server.origin),
  context: async ({ context, language }, use) => {
    await context.addInitScript((chosen) => localStorage.setItem("language", chosen), language);
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    await use(context);
  },
  /** What went wrong in the page: exceptions, refused content, failed requests. Every test ends with none. */
  problems: [
    async ({ page }, use) => {
      const problems: string[] = [];
      page.on("pageerror", (error) => problems.push(String(error)));
      page.on("console", (message) => {
        if (message.type() === "error" && !/Failed to load resource/.test(message.text())) problems.push(message.text());
      });
      page.on("dialog", (dialog) => { problems.push(`dialog: ${dialog.message()}`); void dialog.dismiss(); });
      await use(problems);
      expect(problems).toEqual([]);
    },
    { auto: true },
  ],
  /** The page of a new member of their own: tests share a server and nothing else. */
  member: async ({ page, admin, browser, server }, use) => {
    const context = await browser.newContext({ baseURL: server.origin, storageState: admin.storage });
    const answer = await context.request.post("/api/invites", { data: { role: "lead" }, headers: { "x-csrf-token": admin.csrf } });
    const { url } = (await answer.json()) as { url: string };
    await context.close();
    await page.goto("/login");
    await page.evaluate(async (body) => { await fetch("/api/links/redeem", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }); },
      { token: url.split("#")[1], name: `member${process.pid}x${people++}`, password: PASSWORD });
    await page.goto("/");
    await use(page);
  },
});

/** A page of another lead, in a browser of their own; close its context at the end. */
export async function anotherLead(browser: Browser, server: Server, admin: { storage: Awaited<ReturnType<ReturnType<Page["context"]>["storageState"]>>; csrf: string }, language: Language): Promise<Page> {
  const root = await browser.newContext({ baseURL: server.origin, storageState: admin.storage });
  const answer = await root.request.post("/api/invites", { data: { role: "lead" }, headers: { "x-csrf-token": admin.csrf } });
  const { url } = (await answer.json()) as { url: string };
  await root.close();
  const context = await browser.newContext({ baseURL: server.origin });
  await context.addInitScript((chosen) => localStorage.setItem("language", chosen), language);
  const page = await context.newPage();
  await page.goto("/login");
  await page.evaluate(async (body) => { await fetch("/api/links/redeem", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }); },
    { token: url.split("#")[1], name: `lead${process.pid}x${people++}`, password: PASSWORD });
  return page;
}

export { expect, type Page };

/** What is typed lies on the device; before that, a reload may come too early. */
export async function draftKept(page: Page, text: string): Promise<void> {
  const read = () => new Promise<unknown[]>((resolve) => {
    const opening = indexedDB.open("chatwright");
    opening.onsuccess = () => {
      const all = opening.result.transaction("drafts").objectStore("drafts").getAll();
      all.onsuccess = () => { resolve(all.result); opening.result.close(); };
    };
  });
  await expect.poll(() => page.evaluate(read)).toContain(text);
}

/** All answers of the one task at hand are placed, on the screen and on this device. */
export async function rankingKept(page: Page): Promise<void> {
  const read = () => new Promise<boolean>((resolve) => {
    const opening = indexedDB.open("chatwright-label");
    opening.onsuccess = () => {
      const all = opening.result.transaction("work").objectStore("work").getAll();
      all.onsuccess = () => {
        opening.result.close();
        resolve(all.result.some((kept: { content: { judged: { ranking: { tiers: (number | null)[] } } } }) => kept.content.judged.ranking.tiers.every((tier) => tier !== null)));
      };
    };
  });
  await expect.poll(() => page.evaluate(read)).toBe(true);
}

/** Type into the message field, send, and wait for the answer to be complete. */
export async function ask(page: Page, t: Texts, text: string): Promise<void> {
  await page.getByRole("textbox", { name: t("composer.label"), exact: true }).fill(text);
  await page.getByRole("button", { name: t("composer.send"), exact: true }).click();
  await answered(page, t);
}

export async function answered(page: Page, t: Texts): Promise<void> {
  await expect(page.locator("form.composer")).toHaveAttribute("aria-busy", "false", { timeout: 20_000 * patience });
  await expect(page.getByRole("button", { name: t("composer.send"), exact: true })).toBeVisible();
  await expect(page.locator(".message-assistant").last()).toHaveAttribute("aria-busy", "false");
}

export async function checkAxe(page: Page): Promise<void> {
  await page.locator("h1").first().waitFor({ state: "attached" }); // the page is there, not its spinner
  await page.waitForTimeout(250); // transitions of colours would be measured half-way
  const result = await new AxeBuilder({ page }).analyze();
  expect(result.violations.map((each) => `${each.id}: ${each.nodes.map((node) => `${node.target.join(" ")} ${node.failureSummary ?? ""}`).join(" | ")}`)).toEqual([]);
}
