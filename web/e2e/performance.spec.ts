import type { Page } from "@playwright/test";
import { expect, patience, test } from "./fixtures";

type TraceEvent = { name: string; ph: string; pid: number; tid: number; dur?: number; tdur?: number; args?: { name?: string } };

/**
 * Longest task of the page's main thread while `work` runs, in ms of processor time (what others do on a shared machine does
 * not count) and, for the record, of wall time. From the browser's own trace.
 */
async function longest(page: Page, work: () => Promise<void>): Promise<{ cpu: number; wall: number }> {
  const browser = page.context().browser()!;
  await browser.startTracing(page, { categories: ["-*", "toplevel", "disabled-by-default-devtools.timeline", "__metadata"] });
  await work();
  await page.waitForTimeout(300);
  const { traceEvents } = JSON.parse((await browser.stopTracing()).toString()) as { traceEvents: TraceEvent[] };
  const main = new Set(traceEvents.filter((each) => each.name === "thread_name" && each.args?.name === "CrRendererMain").map((each) => `${each.pid}.${each.tid}`));
  const tasks = traceEvents.filter((each) => each.ph === "X" && each.name.endsWith("RunTask") && main.has(`${each.pid}.${each.tid}`));
  expect(tasks.filter((each) => each.tdur !== undefined).length).toBeGreaterThan(20); // the trace holds what is measured
  return { cpu: Math.max(...tasks.map((each) => each.tdur ?? 0)) / 1000, wall: Math.max(...tasks.map((each) => each.dur ?? 0)) / 1000 };
}

test("a chat of 500 messages is opened, scrolled and answered without freezes over 100 ms", async ({ member: page, t }) => {
  test.setTimeout(120_000 * patience);
  const paragraph = "Some **bold** words, `code`, and a list:\n\n- one\n- two\n\n```python\nprint('hello')\n```\n\nThe end, with $x^2$.";
  const id = await page.evaluate(async (text) => {
    const headers = { "content-type": "application/json", "x-csrf-token": ((await (await fetch("/api/session")).json()) as { csrf: string }).csrf };
    const messages = Array.from({ length: 500 }, (_, at) => ({ id: `m${at}`, parent_id: at ? `m${at - 1}` : null, role: at % 2 ? "assistant" : "user", content: `${at}: ${at % 2 ? text : "A question of some length, as people ask them."}`, model: at % 2 ? "alpha" : "" }));
    const response = await fetch("/api/conversations/import", { method: "POST", headers, body: JSON.stringify({ format: "chatwright-conversation-1", title: "long", system: "", model: "alpha", active_leaf: "m499", messages }) });
    if (!response.ok) throw new Error(await response.text());
    return ((await response.json()) as { id: string }).id;
  }, paragraph);
  await page.reload(); // the list knows it, and its code is loaded
  const link = page.locator(`a[href="/c/${id}"]`);
  await link.waitFor();
  // Code is compiled and fonts are loaded once, by whatever chat comes first.
  const field = page.getByRole("textbox", { name: t("composer.label") });
  await field.fill("markdown");
  await page.keyboard.press("Enter");
  await expect(page.locator(".message-assistant .katex").first()).toBeVisible();
  await page.locator(".composer .send:not(.stop)").waitFor();

  const opening = await longest(page, async () => {
    await link.click();
    await expect(page.locator(".message")).toHaveCount(500);
    await expect(page.locator(".message-assistant").last().locator(".prose")).toBeVisible();
  });
  const scrolling = await longest(page, async () => {
    await page.locator(".thread").hover();
    for (let step = 0; step < 40; step++) {
      await page.mouse.wheel(0, -900);
      await page.waitForTimeout(40);
    }
  });
  const typing = await longest(page, async () => { await field.pressSequentially("markdown once more, typed by hand", { delay: 15 }); });
  const answering = await longest(page, async () => {
    await page.keyboard.press("Enter");
    await expect(page.locator(".message")).toHaveCount(502);
    await page.locator(".composer .send:not(.stop)").waitFor(); // by CSS: looking by role walks the whole page, in its main thread
  });
  const figures = { opening, scrolling, typing, answering };
  console.log(`longest tasks, ms: ${JSON.stringify(figures)}`);
  for (const [what, ms] of Object.entries(figures)) expect(ms.cpu, what).toBeLessThanOrEqual(100);
});
