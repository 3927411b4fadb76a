import { readFileSync } from "node:fs";
import { ask, expect, patience, test } from "./fixtures";

const payloads = JSON.parse(readFileSync(new URL("./xss.json", import.meta.url), "utf8")) as string[];

declare global {
  interface Window { executed: string[] }
}

/** Every payload reports itself by alert(), which counts as a problem, or by `executed`. */
test.beforeEach(async ({ context }) => {
  await context.addInitScript(() => { window.executed = []; });
});

test("there are sixty payloads, all different", () => {
  expect(new Set(payloads).size).toBeGreaterThanOrEqual(60);
});

const BATCH = 12;
for (let start = 0; start < payloads.length; start += BATCH) {
  const some = payloads.slice(start, start + BATCH);
  test(`payloads ${start + 1} to ${start + some.length} do nothing in any text`, async ({ member: page, browser, server, t }) => {
    test.setTimeout(120_000 * patience);
    const foreign: string[] = [];
    page.on("request", (request) => { if (!request.url().startsWith(server.origin) && !/^(data|blob):/.test(request.url())) foreign.push(request.url()); });
    // All of the API's text fields, by its own routes; then every page that shows them is opened.
    const made = await page.evaluate(async (texts) => {
      const { csrf } = (await (await fetch("/api/session")).json()) as { csrf: string };
      const post = async (path: string, body: unknown, method = "POST") => (await fetch(path, { method, headers: { "content-type": "application/json", "x-csrf-token": csrf }, body: JSON.stringify(body) }));
      const conversation = (await (await post("/api/conversations", { title: texts[0]!.slice(0, 190), system: texts.join("\n") })).json()) as { id: string };
      for (const text of texts) {
        await (await post(`/api/conversations/${conversation.id}/messages`, { content: `echo: ${text}` })).text();
        await post("/api/prompts", { language: "en", title: text.slice(0, 190), text: `${text.replace(/[{}]/g, "")} {{a|${text.replace(/[{}|\n]/g, "")}}}` });
        await post("/api/keys", { name: text.slice(0, 120), scopes: ["chat"] });
        await post("/api/arena/entrants", { name: text.slice(0, 120), model: "alpha", system: text });
      }
      const { messages } = (await (await fetch(`/api/conversations/${conversation.id}`)).json()) as { messages: { id: string; role: string; content: string }[] };
      const answers = messages.filter((message) => message.role === "assistant");
      await post(`/api/messages/${answers[0]!.id}/feedback`, { vote: "down", comment: texts.join("\n") });
      await post(`/api/conversations/${conversation.id}`, { title: texts.at(-1)!.slice(0, 190) }, "PATCH");
      const share = (await (await post(`/api/conversations/${conversation.id}/share`, {})).json()) as { token: string };
      return { id: conversation.id, share: share.token, echoed: answers.map((answer) => answer.content) };
    }, some);
    expect(made.echoed.map((text) => text.trim())).toEqual(some.map((text) => text.trim())); // the model did say it

    const check = async () => expect(await page.evaluate(() => window.executed)).toEqual([]);
    await page.goto(`/c/${made.id}`);
    await expect(page.locator(".message-assistant")).toHaveCount(some.length);
    for (let at = 0; at < some.length; at++) {
      // Coming near completes a message, which replaces its element: scroll by what stands there now.
      await page.evaluate((index) => document.querySelectorAll(".message-assistant")[index]!.scrollIntoView(), at);
      await expect(page.locator(".message-assistant").nth(at).locator(".prose")).toBeVisible();
    }
    expect(await page.locator(".message img, .message script, .message iframe, .message svg:not([class*=lucide]):not(.katex svg), .message form, .message object").count()).toBe(0);
    const bad = await page.locator(".message a").evaluateAll((links) => links.map((link) => link.getAttribute("href") ?? "").filter((href) => href && !/^(https?:|mailto:|#|\/|[^:]*$)/i.test(href)));
    expect(bad).toEqual([]);
    const handlers = await page.locator(".message *").evaluateAll((all) => all.filter((each) => [...each.attributes].some((attribute) => attribute.name.startsWith("on"))).length);
    expect(handlers).toBe(0);
    await check();
    await page.getByRole("button", { name: t("panel.button"), exact: true }).click();
    await check();
    for (const path of ["/prompts", "/settings/keys", "/arena/board"]) {
      await page.goto(path);
      await page.waitForLoadState("networkidle");
      await check();
    }
    await page.goto("/prompts");
    await page.locator(".prompt-card", { hasText: t("prompts.own") }).first().getByRole("button", { name: new RegExp(t("prompts.use")) }).last().click();
    await expect(page.locator(".preview")).toBeVisible();
    await check();
    const outside = await browser.newContext({ baseURL: server.origin });
    const stranger = await outside.newPage();
    await stranger.addInitScript(() => { window.executed = []; });
    await stranger.goto(`/share/${made.share}`);
    await expect(stranger.locator(".message-assistant").last()).toBeVisible();
    expect(await stranger.evaluate(() => window.executed)).toEqual([]);
    await outside.close();
    expect(foreign).toEqual([]);
  });
}

test("payloads typed by hand into chat, arena and search do nothing", async ({ member: page, t }) => {
  for (const text of payloads.slice(0, 6)) await ask(page, t, text.replace(/\n/g, " "));
  await page.getByRole("searchbox").fill(payloads[0]!);
  await page.goto("/arena");
  await page.getByLabel(t("arena.prompt")).fill(`echo: ${payloads[1]!}`);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("group", { name: t("arena.vote") })).toBeVisible();
  for (const path of [`/login?next=${encodeURIComponent("javascript:alert(1)")}`, `/join#${payloads[2]!}`, `/share/${encodeURIComponent("<img src=x onerror=alert(1)>")}`]) {
    await page.goto(path);
    await page.waitForLoadState("networkidle");
    expect(await page.evaluate(() => window.executed)).toEqual([]);
  }
});
