import { readFileSync } from "node:fs";
import { call, makeProject, question } from "./desk";
import { checkAxe, expect, languages, PASSWORD, patience, type Page } from "./fixtures";
import { test } from "./labelled";

async function open(page: Page, path: string, name: string): Promise<void> {
  await page.goto(path);
  await expect(page.getByRole("navigation", { name }).getByRole("link")).toHaveCount(8);
}

for (const language of languages) {
  test.describe(`leads (${language})`, () => {
    test.use({ language });
    test.describe.configure({ timeout: 120_000 * patience }); // axe reads every row of long tables, several times per test

    test("see progress, agreement, cost and who labels, and merge", async ({ root: page, t }) => {
      await expect(page.getByText(t("lead.people.text"))).toBeVisible({ timeout: 20_000 * patience });
      const row = (name: string) => page.locator("tr", { has: page.getByText(name, { exact: true }) });
      await expect(row("dora")).toContainText("100 %");
      await expect(row("ai:judge-7b").locator(".kind-ai")).toBeVisible();
      await expect(row("simulated:general-en:1").locator(".kind-simulated")).toBeVisible();
      await expect(page.locator(".notice", { hasText: "dora" }).first()).toBeVisible();
      await expect(page.locator(".figure", { hasText: t("lead.cost.ratio") })).toContainText("×");
      await checkAxe(page);
      await page.getByRole("group", { name: t("lead.kinds.label") }).getByRole("button", { name: t("lead.kinds.simulated") }).click();
      await expect(row("simulated:general-en:1")).toHaveCount(0, { timeout: 20_000 * patience });
      await expect(row("ann")).toBeVisible();
      await page.getByLabel(t("lead.project")).selectOption({ label: "Empty project" });
      await expect(page.getByRole("heading", { name: t("lead.people.none") })).toBeVisible();
      await checkAxe(page);
    });

    test("find a task by filters and see all that was said about it", async ({ root: page, t }) => {
      await open(page, "/lead/data", t("lead.title"));
      await page.getByLabel(t("lead.project")).selectOption({ label: "General helper" });
      await expect(page.getByText(/1–25/)).toBeVisible();
      await page.getByRole("button", { name: t("lead.pages.next") }).click();
      await expect(page.getByText(/26–50/)).toBeVisible();
      await page.getByLabel(t("lead.dash.kind")).selectOption("rank");
      await page.getByLabel(t("lead.data.text")).fill("bacterium");
      await expect(page.locator("tbody tr")).toHaveCount(3);
      await expect(page).toHaveURL(/text=bacterium/);
      await checkAxe(page);
      await page.reload();
      await expect(page.locator("tbody tr")).toHaveCount(3);
      await page.locator("tbody tr").last().getByRole("link").click();
      await expect(page.getByRole("heading", { name: t("lead.data.answers") })).toBeVisible();
      await expect(page.locator(".answers .record")).toHaveCount(4);
      await expect(page.locator("article .order")).toHaveCount(3);
      await expect(page.getByRole("cell", { name: t("lead.events.label_submitted"), exact: true })).toHaveCount(3);
      await expect(page.getByRole("cell", { name: t("lead.events.task_created"), exact: true })).toHaveCount(1);
      await checkAxe(page);
      await page.getByRole("button", { name: t("lead.tabs.data") }).click();
      await expect(page.getByLabel(t("lead.data.text"))).toHaveValue("bacterium");
    });

    test("decide about a task that was flagged", async ({ root: page, t }) => {
      const project = await makeProject(page, {}, [{ kind: "demonstrate", messages: question("What is meant by that?") }]);
      const { task } = await call<{ task: { id: string } }>(page, `/api/desk/next?project=${project}`, "POST");
      await call(page, `/api/desk/tasks/${task.id}/flag`, "POST", { reason: "unclear", comment: "" });
      await open(page, `/lead/data?project=${project}&flagged=true`, t("lead.title"));
      await page.locator("tbody tr").getByRole("link").click();
      await expect(page.locator(".notice")).toBeVisible();
      await page.getByRole("button", { name: t("lead.data.clear") }).click();
      await expect(page.locator(".notice")).toHaveCount(0);
      await expect(page.getByRole("cell", { name: t("lead.events.task_cleared"), exact: true })).toBeVisible();
    });

    test("begin a project, set it up, and write its guideline", async ({ root: page, t }) => {
      const name = `Support ${language}`;
      await open(page, "/lead/projects", t("lead.title"));
      await page.getByRole("button", { name: t("lead.projects.new") }).click();
      await page.getByLabel(t("lead.projects.name")).fill(name);
      await page.keyboard.press("Enter");
      const dialog = page.getByRole("dialog", { name });
      await dialog.getByLabel(t("lead.projects.overlap", { kind: t("lead.tasks.rank") })).fill("5");
      await dialog.getByLabel(t("lead.settings.wage_per_hour")).fill("21.5");
      await dialog.getByLabel(t("lead.settings.screening")).check();
      await dialog.getByLabel(t("lead.settings.pass_score")).fill("0.7");
      await dialog.getByLabel(t("lead.projects.languages")).fill("en, zh-CN, de");
      await checkAxe(page);
      await dialog.getByRole("button", { name: t("common.save") }).click();
      await expect(dialog).toHaveCount(0);
      const made = (await call<{ id: string; name: string; settings: Record<string, unknown> }[]>(page, "/api/desk/projects/all")).find((each) => each.name === name)!;
      expect(made.settings).toMatchObject({ wage_per_hour: 21.5, screening: { required: true, pass_score: 0.7 }, languages: ["en", "zh-CN", "de"], gold_share: 0 });
      expect((made.settings["overlap"] as Record<string, number>)["rank"]).toBe(5);
      await page.goto(`/lead/guidelines?project=${made.id}`);
      const write = async (text: string, button: string) => {
        await page.getByRole("button", { name: t(button), exact: true }).click();
        await page.getByLabel(t("lead.guide.label")).fill(text);
        await page.getByRole("button", { name: t("lead.guide.publish") }).click();
      };
      await write("# Be kind\n\nAnd short.", "lead.guide.write");
      await expect(page.getByRole("heading", { name: "Be kind" })).toBeVisible();
      await write("# Be kind\n\nAnd truthful.", "lead.guide.edit");
      await expect(page.locator(".diff .added")).toHaveText("+ And truthful.");
      await expect(page.locator(".diff .removed")).toHaveText("− And short.");
      await checkAxe(page);
    });

    test("import rows, hear what was wrong with them, freeze an export and take it home", async ({ root: page, t }) => {
      await open(page, "/lead/transfer", t("lead.title"));
      const section = page.locator("section", { has: page.getByRole("heading", { name: t("lead.import.title"), exact: true }) });
      await section.getByLabel(t("lead.project")).selectOption({ label: "Empty project" });
      const row = (text: string) => JSON.stringify({ messages: [{ role: "user", content: text }], completions: ["a good answer", "a bad one"], ranking: "A>B", labeller: "eva", labeller_kind: "human" });
      const file = { name: "rows.jsonl", mimeType: "application/jsonl", buffer: Buffer.from(`${row(`one ${language}`)}\n{"messages": 3}\n${row(`two ${language}`)}\n`) };
      await expect(page.locator("input[type=file]")).toBeEnabled(); // its project is known
      await page.locator("input[type=file]").setInputFiles(file);
      const figure = (key: string) => page.locator(".figure", { hasText: t(key) }).locator("strong");
      await expect(figure("lead.import.tasks")).toHaveText("2");
      await expect(figure("lead.import.bad")).toHaveText("1");
      await expect(page.locator(".bad-rows li")).toContainText("2");
      await checkAxe(page);
      await page.locator("input[type=file]").setInputFiles(file);
      await expect(figure("lead.import.known")).toHaveText("2");
      await page.getByRole("button", { name: t("lead.export.make") }).click();
      await expect(page.locator(".toast")).toBeVisible({ timeout: 60_000 * patience }); // a process of its own makes it
      await page.locator("tbody tr").first().getByRole("button").click();
      const [saved] = await Promise.all([page.waitForEvent("download"), page.getByRole("menuitem", { name: `${t("lead.splits.train")} · ${t("lead.files.rankings")}` }).click()]);
      const rows = readFileSync(await saved.path(), "utf8").trim().split("\n").map((line) => JSON.parse(line) as { labeller_kind: string; ranking: string });
      expect(rows.length).toBeGreaterThan(50);
      expect(new Set(rows.map((each) => each.labeller_kind))).toEqual(new Set(["human", "simulated", "ai"]));
    });

    test("see the funnel", async ({ root: page, t }) => {
      await open(page, "/lead/intake", t("lead.title"));
      await expect(page.getByRole("row", { name: t("lead.steps.received") })).toContainText(/\d/);
      await expect(page.getByRole("row", { name: t("lead.steps.consent") })).toContainText(t("lead.reasons.not_given"));
      await expect(page.getByRole("img", { name: t("lead.intake.perDay") })).toBeVisible();
      await checkAxe(page);
    });

    test("begin a retraining, follow it and cancel it", async ({ root: page, t }) => {
      await open(page, "/lead/jobs", t("lead.title"));
      await page.getByRole("link", { name: t("lead.jobs.kind_retrain") }).last().click();
      await expect(page.getByRole("log")).toContainText("step 12/40");
      await checkAxe(page);
      await page.goto("/lead/jobs");
      await page.getByRole("button", { name: t("lead.jobs.retrain") }).click();
      await page.getByText(t("lead.retrain.more")).click();
      await page.getByLabel(t("lead.dials.ppo_steps")).fill("3");
      await page.getByRole("dialog").getByText(t("lead.export.merged"), { exact: true }).click();
      await checkAxe(page);
      await page.getByRole("button", { name: t("lead.retrain.begin") }).click();
      await expect(page).toHaveURL(/\/lead\/jobs\/job_/);
      const made = await call<{ settings: { rankings: string; stages: unknown }; state: string }>(page, `/api/desk/jobs/${page.url().split("/").at(-1)}`);
      expect(made.settings).toMatchObject({ rankings: "merged", stages: { ppo_steps: 3 } });
      await page.getByRole("button", { name: t("lead.jobs.cancel") }).click();
      await page.getByRole("dialog").getByRole("button", { name: t("lead.jobs.cancel") }).click();
      await expect(page.getByText(t("lead.jobs.state_cancelled"))).toBeVisible();
    });

    test("see candidates with intervals, why one may not be promoted, and which labels shaped it", async ({ root: page, t }) => {
      await open(page, "/lead/models", t("lead.title"));
      const card = (name: string) => page.locator("section", { has: page.getByRole("heading", { name, exact: true }) });
      await expect(card("helper-2").locator("tbody tr")).toHaveCount(3);
      await expect(card("helper-2").locator(".kind-simulated").first()).toBeVisible();
      await checkAxe(page);
      await card("helper-1").getByRole("button", { name: t("lead.models.promote") }).click();
      const go = page.getByRole("dialog").getByRole("button", { name: t("lead.models.promote"), exact: true });
      await expect(page.getByRole("dialog").locator(".notice")).toBeVisible();
      await expect(go).toBeDisabled();
      await page.getByLabel(t("lead.models.force")).check();
      await expect(go).toBeDisabled();
      await page.getByLabel(t("lead.models.reason")).fill("to see it");
      await expect(go).toBeEnabled();
      await checkAxe(page);
      await page.keyboard.press("Escape");
      await card("helper-2").getByRole("button", { name: t("lead.models.promote") }).click();
      await expect(page.getByRole("dialog").locator(".notice")).toHaveCount(0);
      await expect(go).toBeEnabled();
      await page.keyboard.press("Escape");
      await card("helper-2").getByRole("link", { name: t("lead.models.lineage") }).click();
      await expect(page.getByRole("heading", { name: t("lead.lineage.title", { model: "helper-2" }) })).toBeVisible();
      const { num_labels: number } = await call<{ num_labels: number }>(page, `/api/desk/lineage/${page.url().split("/").at(-1)}`);
      expect(number).toBeGreaterThan(100);
      await expect(page.locator("dd").first()).toHaveText(String(number));
      await checkAxe(page);
    });

    test("fit a telephone, in the dark", async ({ root: page, t }) => {
      await page.emulateMedia({ colorScheme: "dark" });
      await page.setViewportSize({ width: 360, height: 740 });
      for (const path of ["", "/data", "/projects", "/guidelines", "/transfer", "/intake", "/jobs", "/models"]) {
        await open(page, `/lead${path}`, t("lead.title"));
        await expect(page.locator(".spinner")).toHaveCount(0, { timeout: 20_000 * patience });
        await checkAxe(page);
        expect(await page.evaluate(() => { const { scrollWidth, clientWidth } = document.querySelector(".page")!; return scrollWidth - clientWidth; }), path).toBe(0);
      }
    });

    test("are asked in their own name: labellers see none of it, members agree and withdraw", async ({ root: page, browser, desk, t }) => {
      const { url } = await call<{ url: string }>(page, "/api/invites", "POST", { role: "labeller" });
      const context = await browser.newContext({ baseURL: desk.origin });
      await context.addInitScript((chosen) => localStorage.setItem("language", chosen), language);
      const other = await context.newPage();
      await other.goto("/login");
      await other.evaluate(async (body) => { await fetch("/api/links/redeem", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }); }, { token: url.split("#")[1], name: `lab-${language.toLowerCase()}`, password: PASSWORD });
      await other.goto("/lead");
      await expect(other.getByText(t("lead.notAllowed"))).toBeVisible();
      await expect(other.getByRole("link", { name: t("lead.title"), exact: true })).toHaveCount(0);
      await other.goto("/settings");
      const agree = other.getByRole("checkbox", { name: t("settings.trainingAllow") });
      await agree.check();
      await other.reload();
      await expect(agree).toBeChecked();
      await checkAxe(other);
      await context.close();
    });
  });
}
