import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { becomeAdmin, FOUR, labels, makeProject, MortalServer, question } from "./desk";
import { ask, draftKept, expect, languages, patience, rankingKept, test, type Page } from "./fixtures";

const language = languages[0]!;
test.use({ language, serviceWorkers: "allow" });

/** The shell is kept: the worker has filled its cache and answers for the page. */
async function kept(page: Page): Promise<string[]> {
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  return page.evaluate(async () => (await (await caches.open("shell")).keys()).map((request) => new URL(request.url).pathname));
}

test("with the server killed, a reload finds the app, the task and the draft; the label arrives later", async ({ browser, t }) => {
  test.slow();
  const folder = mkdtempSync(join(tmpdir(), "away-"));
  const server = await MortalServer.start(folder);
  try {
    const context = await browser.newContext({ baseURL: server.origin, serviceWorkers: "allow" });
    await context.addInitScript((chosen) => localStorage.setItem("language", chosen), language);
    const page = await context.newPage();
    await becomeAdmin(page, server);
    const project = await makeProject(page, { kinds: ["rank"] }, Array(2).fill({ kind: "rank", messages: question("Why is the sky blue?"), answers: FOUR }));
    const address = `/label/next?project=${project}`;
    await page.goto(address);
    await expect(page.getByTestId("sheet")).toBeVisible();
    const paths = await kept(page);
    expect(paths.length).toBeGreaterThan(20);
    expect(paths.filter((path) => !/^\/(assets\/[\w.-]+|theme\.js|icon\.svg|skeleton\.css)?$/.test(path))).toEqual([]); // code, and no texts of anybody
    await page.keyboard.type("dc");
    await server.kill();
    await page.reload();
    const field = page.getByRole("textbox", { name: t("label.typed.label") });
    await expect(field).toHaveValue("D>C", { timeout: 20_000 * patience });
    await expect(page.getByText(t("offline.away"))).toBeVisible();
    await page.keyboard.type("a=b");
    await rankingKept(page);
    await page.close(); // and the tab dies
    const again = await context.newPage();
    await again.goto(address);
    const same = again.getByRole("textbox", { name: t("label.typed.label") });
    await expect(same).toHaveValue("D>C>A=B", { timeout: 20_000 * patience });
    await again.locator("#desk-submit").click();
    await expect(again.getByTestId("outbox-waiting")).toBeVisible();
    await again.reload();
    await expect(again.getByTestId("outbox-waiting")).toBeVisible({ timeout: 20_000 * patience });
    await expect(again.getByTestId("sheet")).toHaveCount(0); // it was sent: it does not come a second time
    await server.rise();
    await expect.poll(() => labels(again, project).then((all) => all.map((label) => label.value.ranking)), { timeout: 30_000 * patience }).toEqual(["D>C>A=B"]);
    await expect(again.getByTestId("sheet")).toBeVisible({ timeout: 20_000 * patience }); // the next one
    await expect(same).toHaveValue("");
    await context.close();
  } finally {
    await server.kill();
    rmSync(folder, { recursive: true, force: true });
  }
});

test("without a network, a reload of a chat keeps what was typed, and it can be sent when the network is back", async ({ member: page, context, t }) => {
  await ask(page, t, "before the tunnel");
  await kept(page);
  const field = page.getByRole("textbox", { name: t("composer.label") });
  await field.fill("half a thought");
  await draftKept(page, "half a thought");
  await context.setOffline(true);
  await page.reload();
  await expect(field).toHaveValue("half a thought", { timeout: 20_000 * patience });
  await expect(page.getByText(t("offline.away"))).toBeVisible();
  await context.setOffline(false);
  await expect(page.getByText(t("offline.away"))).toHaveCount(0, { timeout: 20_000 * patience });
  await expect(page.locator(".message-user")).toContainText("before the tunnel");
  await ask(page, t, "half a thought, and the rest");
  await expect(page.locator(".message-assistant").last()).toContainText("half a thought, and the rest");
});

test("nobody is signed in without the server, and signing out forgets who it was", async ({ member: page, context, t }) => {
  await kept(page);
  await page.getByRole("button", { name: t("side.signOut") }).click();
  await expect(page).toHaveURL(/\/login/);
  await context.setOffline(true);
  await page.goto("/label");
  await expect(page.getByRole("heading", { name: t("offline.title") })).toBeVisible({ timeout: 20_000 * patience });
  await context.setOffline(false);
});
