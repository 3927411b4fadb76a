import { call, makeProject, question } from "./desk";
import { answered, ask, expect, PASSWORD, patience, textsOf, type Page } from "./fixtures";
import { test } from "./labelled";

/** What people and models wrote, names, identifiers, code and keys: in any language, on purpose. */
const CONTENT = [
  "script", "style", "code", "pre", "kbd", ".mono", ".prose", ".prose-plain", ".bubble", ".desk-raw", ".desk-text", ".excerpt", ".snippet", ".side-item", ".main > .top .sr-only", "h1.sr-only", ".message-model", ".model-button",
  ".letter", ".desk-letter", ".order", ".chip", ".tokens", ".alternative", ".step", ".prompt-card h2", ".prompt-card p", ".preview", ".secret", ".brand", "[lang=en]", "[data-testid^=name-]", ".diff", ".guide-text", ".desk-history .ellipsis",
].join(",");
const NAMES = [
  "alpha", "beta", "helper-1", "helper-2", "helper-3", "smollm2-135m-instruct", "general-en", "judge-7b", "ai:judge-7b", "simulated:general-en:1", "ann", "bo", "chen", "dora", "eva", "root", "pirate", "laptop", "worker-1", "old", "new",
  "General helper", "Empty project", "Words", "Chatwright", "chatwright", "chatwright serve --model", "chatwright data import", "English", "JUDGE_API_KEY",
];
/** Terms that Chinese texts of the field use as they are. */
const TERMS = [
  "AI", "API", "JSON", "JSONL", "Markdown", "Unicode", "rho", "OpenAI", "LaTeX", "SFT", "PPO", "KL", "RM", "tau-b", "Bradley-Terry", "top-p", "top-k", "Top-p", "Top-k", "UTC", "ID", "IP", "MAC", "Greek", "Latin|emoji", "Latin", "Han", "GPT",
  "en", "zh-CN", "zh", "beta", "gamma", "Ctrl", "Shift", "Enter", "Esc", "Alt", "Backspace", "Delete", "kB", "MB", "rows.jsonl", "JSON Lines", "CSV", "Excel", "TRL", "HH-RLHF", "Argilla", "OASST",
];

async function foreign(page: Page): Promise<string[]> {
  const texts = await page.evaluate((content) => {
    const found = new Set<string>();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const parent = node.parentElement!;
      if (!parent.closest(content) && parent.checkVisibility()) found.add(node.textContent!.trim());
    }
    for (const element of document.body.querySelectorAll("[aria-label], [title], [placeholder], [alt]")) {
      if (element.closest(content) || !element.checkVisibility()) continue;
      for (const name of ["aria-label", "title", "placeholder", "alt"]) found.add(element.getAttribute(name) ?? "");
    }
    return [...found];
  }, CONTENT);
  const plain = (text: string) => {
    let left = text.replace(/https?:\S+|\/v1\b|[\w.-]+@[\w.]+|\{\{[^}]*\}\}|\b(?:task|model|job|proj|export|user|key|conv)_\w+|\bProject \d+-\d+|\bmember\d+x\d+|\b[0-9a-f]{12}\b/g, " ");
    for (const each of [...NAMES, ...TERMS].sort((a, b) => b.length - a.length)) left = left.replace(new RegExp(`(?<![A-Za-z])${each.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}(?![A-Za-z])`, "g"), " ");
    return left;
  };
  return texts.filter((text) => /[A-Za-z]{2,}/.test(plain(text)));
}

test.describe("nothing of the app is in English for those who read Chinese", () => {
  test.use({ language: "zh-CN" });
  test.describe.configure({ timeout: 180_000 * patience });
  const t = textsOf("zh-CN");
  let page: Page;
  const check = async (what: string) => {
    await expect(page.locator(".spinner")).toHaveCount(0, { timeout: 20_000 * patience });
    expect.soft(await foreign(page), what).toEqual([]);
  };
  const visit = async (address: string) => {
    await page.goto(address);
    await page.locator("h1, h2").first().waitFor();
    await check(address);
  };

  test("pages of leads and administrators", async ({ root }) => {
    page = root;
    for (const tab of ["", "/data", "/projects", "/guidelines", "/transfer", "/intake", "/jobs", "/models"]) await visit(`/lead${tab}`);
    for (const tab of ["", "/keys", "/usage", "/models", "/users", "/audit"]) await visit(`/settings${tab}`);
    const jobs = await call<{ id: string }[]>(page, "/api/desk/jobs");
    for (const job of jobs) await visit(`/lead/jobs/${job.id}`);
    await page.locator("summary").first().click();
    await check("settings of a job");
    const { models } = await call<{ models: { id: string }[] }>(page, "/api/desk/models");
    await visit(`/lead/models/${models[0]!.id}`);
    const [project] = (await call<{ id: string; name: string }[]>(page, "/api/desk/projects/all")).filter((each) => each.name === "General helper");
    for (const kind of ["rank", "rate", "compare", "demonstrate"]) {
      const { tasks } = await call<{ tasks: { id: string }[] }>(page, `/api/desk/browse?project=${project!.id}&kind=${kind}&limit=3`);
      await visit(`/lead/data/${tasks.at(-1)!.id}`);
    }
    await page.goto("/lead/models");
    const card = page.locator("section", { has: page.getByRole("heading", { name: "helper-1", exact: true }) });
    await card.locator("summary").click();
    await check("report card");
    await card.getByRole("button", { name: t("lead.models.promote") }).click();
    await check("refusal of a promotion");
    for (const button of ["lead.jobs.retrain", "lead.run.title"]) {
      await page.goto("/lead/jobs");
      await page.getByRole("button", { name: t(button) }).click();
      for (const summary of await page.getByRole("dialog").locator("summary").all()) await summary.click();
      await check(button);
    }
    await page.goto("/lead/transfer");
    const file = ['{"messages": 3}', "{", '{"prompt": "a"}', "[]", '{"prompt": "a", "completions": ["a", "b"], "ranking": "A>C"}'].join("\n");
    await expect(page.locator("input[type=file]")).toBeEnabled(); // its project is known
    await page.locator("input[type=file]").setInputFiles({ name: "rows.jsonl", mimeType: "application/jsonl", buffer: Buffer.from(file) });
    await expect(page.locator(".bad-rows li").first()).toBeVisible();
    await check("bad rows");
  });

  test("chat, arena, prompts, and what the server refuses", async ({ root }) => {
    page = root;
    await visit("/");
    await ask(page, t, "what is 1/0");
    await page.getByRole("textbox", { name: t("composer.label"), exact: true }).fill("fail please");
    await page.keyboard.press("Enter");
    await answered(page, t);
    await expect(page.locator(".notice.danger")).toHaveText(t("errors.modelGone"));
    await ask(page, t, "long story");
    await check("a chat");
    for (const button of ["panel.button", "share.title"]) {
      await page.getByRole("button", { name: t(button), exact: true }).click();
      await check(button);
      await page.keyboard.press("Escape");
    }
    await page.getByRole("button", { name: t("message.bad") }).last().click();
    await check("feedback");
    await page.keyboard.press("Escape");
    await page.getByRole("heading").first().click();
    await page.keyboard.press("?");
    await check("keys");
    await page.keyboard.press("Escape");
    await visit("/prompts");
    await visit("/arena");
    await page.getByLabel(t("arena.prompt")).fill("blind: who are you?");
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: t("arena.tie"), exact: true }).click();
    await check("a vote");
    await visit("/arena/board");
    await page.goto("/settings/keys");
    await page.getByRole("button", { name: t("apiKeys.new") }).click();
    await page.getByLabel(t("apiKeys.name")).fill("laptop");
    await check("a new key");
    await page.getByRole("button", { name: t("apiKeys.make") }).click();
    await check("a key that was made");
    await page.goto("/settings/users");
    await page.getByRole("button", { name: t("users.invite") }).click();
    await check("an invitation");
    await visit("/nowhere");
    await visit("/share/nothing");
    await visit("/join#nothing");
    await page.context().clearCookies();
    await visit("/login");
    await page.getByLabel(t("login.name")).fill("root");
    await page.getByLabel(t("login.password")).fill(`${PASSWORD}?`);
    await page.getByRole("button", { name: t("login.submit") }).click();
    await expect(page.getByRole("alert")).toBeVisible();
    await check("a wrong password");
  });

  test("the labelling desk", async ({ root }) => {
    page = root;
    const answers = ["一个回答。", "another answer", "第三个"];
    const project = await makeProject(page, { kinds: ["rank", "rate", "compare", "demonstrate", "prompt"], rate_first: true, allow_unranked: true, model_draft: true }, [
      { kind: "rank", messages: question("天空为什么是蓝色的？"), answers }, { kind: "rate", messages: question("why?"), answers: answers.slice(0, 2) }, { kind: "compare", messages: question("why?"), answers: answers.slice(0, 2) },
      { kind: "demonstrate", messages: question("why?") }, { kind: "prompt", style: "few_shot" },
    ]);
    await visit("/label");
    for (const kind of ["rank", "rate", "compare", "demonstrate", "prompt"]) {
      await page.goto(`/label/next?project=${project}&kind=${kind}`);
      await expect(page.getByTestId("sheet")).toBeVisible();
      await check(kind);
      for (const button of ["keys.title", "label.guideline.title"]) {
        await page.locator(".desk-top").getByRole("button", { name: t(button), exact: true }).click();
        await check(`${kind}: ${button}`);
        await page.keyboard.press("Escape");
      }
    }
    await page.getByRole("button", { name: t("label.flag.button") }).click();
    await check("report");
    await page.keyboard.press("Escape");
    await page.goto(`/label/next?project=${project}&kind=compare`);
    await expect(page.getByTestId("sheet")).toBeVisible();
    await page.keyboard.press("a");
    await page.keyboard.press("Enter");
    await expect(page.getByText(t("label.allDone"))).toBeVisible();
    await check("all done");
    await visit("/label/history");
  });
});
