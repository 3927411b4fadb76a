import { ask, checkAxe, expect, languages, PASSWORD, test } from "./fixtures";

for (const language of languages) {
  test.describe(`pages (${language})`, () => {
    test.use({ language });

    test("invites, joins, signs out and in, resets a password", async ({ page, admin, browser, server, t }) => {
      const context = await browser.newContext({ baseURL: server.origin, storageState: admin.storage });
      await context.addInitScript((chosen) => localStorage.setItem("language", chosen), language);
      const root = await context.newPage();
      await root.goto("/settings/users");
      await checkAxe(root);
      await root.getByRole("button", { name: t("users.invite") }).click();
      await root.getByRole("button", { name: t("users.makeLink") }).click();
      const invite = await root.getByTestId("secret").innerText();
      await checkAxe(root);
      await page.goto(invite);
      await checkAxe(page);
      const name = `guest-${language.toLowerCase()}`;
      await page.getByLabel(t("login.name")).fill(name);
      await page.getByLabel(t("login.password"), { exact: true }).fill(PASSWORD);
      await page.getByLabel(t("join.again")).fill("something else");
      await page.getByRole("button", { name: t("join.create") }).click();
      await expect(page.getByRole("alert")).toHaveText(t("join.differ"));
      await page.getByLabel(t("join.again")).fill(PASSWORD);
      await page.getByRole("button", { name: t("join.create") }).click();
      await expect(page.getByRole("heading", { name: t("welcome.title") })).toBeVisible();
      await page.getByRole("button", { name: t("side.signOut") }).click();
      await expect(page).toHaveURL(/\/login/);
      await checkAxe(page);
      await page.getByLabel(t("login.name")).fill(name);
      await page.getByLabel(t("login.password")).fill("wrong password");
      await page.getByRole("button", { name: t("login.submit") }).click();
      await expect(page.getByRole("alert")).toHaveText(t("errors.wrongPassword"));
      await page.goto(invite);
      await expect(page.getByRole("heading", { name: t("join.invalid") })).toBeVisible();
      await root.reload();
      await root.getByRole("button", { name: t("side.more", { title: name }) }).click();
      await root.getByRole("menuitem", { name: t("users.reset") }).click();
      await page.goto(await root.getByTestId("secret").innerText());
      await page.getByLabel(t("login.password"), { exact: true }).fill("another password");
      await page.getByLabel(t("join.again")).fill("another password");
      await page.getByRole("button", { name: t("join.setPassword") }).click();
      await expect(page.getByRole("heading", { name: t("welcome.title") })).toBeVisible();
      await root.goto("/settings/audit");
      await expect(root.locator("table")).toContainText(t("audit.actions.link_reset"));
      await checkAxe(root);
      await context.close();
    });

    test("makes and revokes a key that works, and shows usage and models", async ({ member: page, t, server }) => {
      await ask(page, t, "use some tokens");
      await page.goto("/settings/keys");
      await page.getByRole("button", { name: t("apiKeys.new") }).click();
      await page.getByLabel(t("apiKeys.name")).fill("laptop");
      await checkAxe(page);
      await page.getByRole("button", { name: t("apiKeys.make") }).click();
      const key = await page.getByTestId("secret").innerText();
      const call = async () => (await fetch(`${server.origin}/v1/models`, { headers: { authorization: `Bearer ${key}` } })).status;
      expect(await call()).toBe(200);
      await page.getByRole("dialog").getByRole("button", { name: t("common.close") }).last().click();
      await checkAxe(page);
      await page.getByRole("button", { name: t("apiKeys.revoke"), exact: true }).click();
      await page.getByRole("dialog").getByRole("button", { name: t("apiKeys.revoke"), exact: true }).click();
      await expect(page.locator("table .badge")).toHaveText(t("apiKeys.revoked"));
      expect(await call()).toBe(401);
      for (const tab of ["usage", "models"]) {
        await page.goto(`/settings/${tab}`);
        await expect(page.locator("table")).toContainText("alpha");
        await checkAxe(page);
      }
    });

    test("battles blind, tells names after the vote, and ranks", async ({ member: page, t }) => {
      await page.goto("/arena");
      await checkAxe(page);
      await page.getByLabel(t("arena.prompt")).fill("blind: who are you?");
      await page.keyboard.press("Enter");
      await expect(page.getByRole("group", { name: t("arena.vote") })).toBeVisible();
      expect(await page.locator(".page").innerText()).not.toMatch(/alpha|beta/);
      await checkAxe(page);
      await page.getByRole("button", { name: t("arena.tie"), exact: true }).click();
      const names = [await page.getByTestId("name-a").innerText(), await page.getByTestId("name-b").innerText()];
      expect(names.sort()).toEqual(["alpha", "beta"]);
      await page.getByLabel(t("arena.prompt")).fill("tell me your name");
      await page.keyboard.press("Enter");
      await page.getByRole("button", { name: t("arena.a"), exact: true }).click();
      await expect(page.getByText(t("arena.void"))).toBeVisible();
      await page.goto("/arena/board");
      await expect(page.locator("table tbody tr")).toHaveCount(2);
      await checkAxe(page);
      await page.getByLabel(t("board.lengthControl")).check();
      await expect(page.locator("table tbody tr")).toHaveCount(2);
      await page.getByRole("button", { name: t("arena.addEntrant") }).click();
      await page.getByLabel(t("apiKeys.name")).fill(`pirate ${language}`);
      await page.getByLabel(t("panel.system")).fill("You are a pirate.");
      await checkAxe(page);
      await page.getByRole("button", { name: t("common.save") }).click();
      await expect(page.getByText(`pirate ${language}`)).toBeVisible();
      await page.getByRole("button", { name: t("entrants.remove", { name: `pirate ${language}` }) }).click();
      await expect(page.getByText(`pirate ${language}`)).toHaveCount(0);
    });

    test("keeps prompts and fills in their variables", async ({ member: page, t }) => {
      await page.goto("/prompts");
      await expect(page.locator(".prompt-card").first()).toBeVisible();
      await checkAxe(page);
      await page.getByRole("button", { name: t("prompts.new") }).click();
      await page.getByLabel(t("side.title")).fill("Greeting");
      await page.getByLabel(t("prompts.body")).fill("Greet {{who}} in a {{tone|kind}} way.");
      await page.getByRole("button", { name: t("common.save") }).click();
      await page.getByRole("button", { name: t("prompts.useNamed", { title: "Greeting" }) }).click();
      await page.getByLabel("who").fill("小明");
      await expect(page.locator(".preview")).toHaveText("Greet 小明 in a kind way.");
      await checkAxe(page);
      await page.getByRole("button", { name: t("prompts.asMessage") }).click();
      await expect(page.getByRole("textbox", { name: t("composer.label") })).toHaveValue("Greet 小明 in a kind way.");
      await page.goto("/prompts");
      const card = page.locator(".prompt-card", { hasText: "Greeting" });
      await card.getByRole("button", { name: t("side.more", { title: "Greeting" }) }).click();
      await page.getByRole("menuitem", { name: t("common.delete") }).click();
      await page.getByRole("dialog").getByRole("button", { name: t("common.delete") }).click();
      await expect(card).toHaveCount(0);
    });

    test("changes language, colours and consent; dark is as readable", async ({ member: page, t }) => {
      await ask(page, t, "markdown in the dark");
      await page.goto("/settings");
      await page.getByRole("button", { name: t("theme.dark"), exact: true }).click();
      await checkAxe(page);
      await page.route("**/api/consent*", async (route) => { await new Promise((done) => setTimeout(done, 400)); await route.continue(); });
      const saved = page.waitForResponse((answer) => answer.url().includes("/api/consent") && answer.request().method() === "PUT");
      await page.getByRole("checkbox", { name: t("settings.trainingAllow") }).check(); // shows at once, though the answer takes its time
      await saved;
      await page.reload();
      await expect(page.getByRole("checkbox", { name: t("settings.trainingAllow") })).toBeChecked();
      await page.goBack();
      await expect(page.locator(".message-assistant h2")).toBeVisible();
      await checkAxe(page);
      await page.goto("/settings");
      await page.getByRole("button", { name: language === "en" ? "简体中文" : "English" }).click();
      await expect(page.locator("html")).toHaveAttribute("lang", language === "en" ? "zh-CN" : "en");
    });

    test("says so when there is nothing, and guards what needs a session", async ({ page, t }) => {
      await page.goto("/nowhere/at/all");
      await expect(page.getByRole("heading", { name: t("missing.title") })).toBeVisible();
      await checkAxe(page);
      await page.goto("/settings/keys");
      await expect(page).toHaveURL(/\/login\?next=%2Fsettings%2Fkeys/);
    });
  });
}
