import { call } from "./desk";
import { ask, checkAxe, expect, languages, PASSWORD, patience, type Page } from "./fixtures";
import { test } from "./labelled";

const SLOW_END = "word199";

async function serving(page: Page): Promise<string> {
  const { serving: lines, models } = await call<{ serving: { name: string; model_id: string }[]; models: { id: string; name: string }[] }>(page, "/api/desk/models");
  const id = lines.find((line) => line.name === "alpha")!.model_id;
  return models.find((model) => model.id === id)?.name ?? id;
}

for (const language of languages) {
  test.describe(`the loop closes (${language})`, () => {
    test.use({ language });
    test.describe.configure({ timeout: 120_000 * patience });

    test("a candidate is promoted by a click while an answer is written, refused once, forced with a reason, and rolled back", async ({ root: page, t }) => {
      const chat = await page.context().newPage();
      await chat.goto("/");
      await chat.getByRole("textbox", { name: t("composer.label"), exact: true }).fill("slow: begun on the old model");
      await chat.keyboard.press("Enter");
      await expect(chat.locator(".message-assistant")).toContainText("word3");

      await page.goto("/lead/models");
      const card = (name: string) => page.locator("section", { has: page.getByRole("heading", { name, exact: true }) });
      const dialog = page.getByRole("dialog");
      const go = dialog.getByRole("button", { name: t("lead.models.promote"), exact: true });
      const now = page.getByRole("row", { name: /^alpha/ });
      await expect(now).toContainText(t("lead.models.configured"));
      await card("helper-2").getByRole("button", { name: t("lead.models.promote") }).click();
      await go.click();
      await expect(dialog).toHaveCount(0);
      await expect(now).toContainText("helper-2");
      await expect(card("helper-2").locator(".badge.good")).toHaveText(t("lead.models.serves", { name: "alpha" }));
      expect(await serving(page)).toBe("helper-2");
      await checkAxe(page);

      // The stream that ran goes on to its end on the model it began with; the next answer is the new one's.
      await expect(chat.locator(".message-assistant").last()).toContainText(SLOW_END, { timeout: 25_000 * patience });
      await ask(chat, t, "who answers now?");
      await expect(chat.locator(".message-assistant").last()).toContainText("helper-2 heard: who answers now?");

      await card("helper-1").getByRole("button", { name: t("lead.models.promote") }).click();
      await expect(dialog.locator(".notice")).toBeVisible();
      await expect(go).toBeDisabled();
      await dialog.getByLabel(t("lead.models.force")).check();
      await dialog.getByLabel(t("lead.models.reason")).fill("to see it for myself");
      await go.click();
      await expect(now).toContainText("helper-1");
      await expect(page.getByRole("row", { name: /to see it for myself/ })).toContainText(t("lead.models.forced"));

      for (const before of ["helper-2", t("lead.models.configured")]) {
        await now.getByRole("button", { name: t("lead.models.rollBack") }).click();
        await expect(dialog).toContainText(before);
        await dialog.getByRole("button", { name: t("lead.models.rollBack") }).click();
        await expect(now).toContainText(before);
      }
      await expect(now.getByRole("button")).toHaveCount(0);
      await ask(chat, t, "and now?");
      await expect(chat.locator(".message-assistant").last()).toContainText("alpha heard: and now?");
      await page.goto("/settings/audit");
      for (const action of ["model_promoted", "model_rolled_back"]) await expect(page.getByRole("cell", { name: t(`audit.actions.${action}`) }).first()).toBeVisible();
      await chat.close();
    });

    test("what a member agreed to give is collected, exported, withdrawn by a click, and marked where it was used", async ({ root: page, browser, desk, t }) => {
      const name = `giver-${language.toLowerCase()}`;
      const { url } = await call<{ url: string }>(page, "/api/invites", "POST", { role: "member" });
      const context = await browser.newContext({ baseURL: desk.origin });
      await context.addInitScript((chosen) => localStorage.setItem("language", chosen), language);
      const giver = await context.newPage();
      await giver.goto("/login");
      await giver.evaluate(async (body) => { await fetch("/api/links/redeem", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }); }, { token: url.split("#")[1], name, password: PASSWORD });
      await giver.goto("/settings");
      await giver.getByRole("checkbox", { name: t("settings.trainingAllow") }).check();
      await expect(giver.getByText(t("consent.since", { date: "" }).trim())).toBeVisible(); // the server has it
      await giver.goto("/");
      await ask(giver, t, `A question of ${name} that is like no other: how do moles find their way?`);
      await giver.goto("/settings");
      await expect(async () => {
        await giver.reload();
        await expect(giver.getByRole("button", { name: t("consent.erase") })).toBeVisible({ timeout: 2_000 * patience });
      }).toPass({ timeout: 20_000 * patience });

      await page.goto("/lead/transfer");
      await page.getByRole("button", { name: t("lead.export.make") }).click();
      await expect(page.locator(".toast")).toBeVisible({ timeout: 60_000 * patience });
      const newest = page.locator("tbody tr").first();
      const marked = newest.locator(".badge.bad");
      await expect(marked).toHaveCount(0);

      await page.goto("/lead/intake");
      await page.getByLabel(t("lead.withdraw.whose")).selectOption({ label: name });
      await page.getByRole("button", { name: t("lead.withdraw.erase") }).click();
      await expect(page.getByRole("dialog")).toContainText(name);
      await page.getByRole("dialog").getByRole("button", { name: t("lead.withdraw.erase") }).click();
      await expect(page.getByRole("status").filter({ hasText: name })).toBeVisible();
      await expect(page.getByRole("status").getByText(t("lead.withdraw.marked_one", { count: 1 }))).toBeVisible();
      await checkAxe(page);
      await page.goto("/lead/transfer");
      await expect(marked).toBeVisible();
      await giver.reload();
      await expect(giver.getByRole("checkbox", { name: t("settings.trainingAllow") })).not.toBeChecked();
      await expect(giver.getByRole("button", { name: t("consent.erase") })).toHaveCount(0);

      // And by themselves: agree again, be collected, take it back.
      await giver.getByRole("checkbox", { name: t("settings.trainingAllow") }).check();
      await expect(giver.getByText(t("consent.since", { date: "" }).trim())).toBeVisible(); // the server has it
      await giver.goto("/");
      await ask(giver, t, `Another question of ${name}: why do cats purr?`);
      await giver.goto("/settings");
      const erase = giver.getByRole("button", { name: t("consent.erase") });
      await expect(async () => { await giver.reload(); await expect(erase).toBeVisible({ timeout: 2_000 * patience }); }).toPass({ timeout: 20_000 * patience });
      await erase.click();
      await giver.getByRole("dialog").getByRole("button", { name: t("consent.erase") }).click();
      await expect(giver.locator(".toast")).toBeVisible();
      await expect(erase).toHaveCount(0);
      await context.close();
    });
  });
}
