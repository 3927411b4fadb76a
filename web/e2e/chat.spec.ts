import { answered, ask, checkAxe, draftKept, expect, languages, patience, test } from "./fixtures";

for (const language of languages) {
  test.describe(`chat (${language})`, () => {
    test.use({ language });

    test("sends, streams markdown, keeps the conversation through a reload", { tag: "@smoke" }, async ({ member: page, t }) => {
      await expect(page.getByRole("heading", { name: t("welcome.title") })).toBeVisible();
      await checkAxe(page);
      await ask(page, t, "markdown please");
      const answer = page.locator(".message-assistant").last();
      await expect(answer.locator("h2")).toHaveText("Why the sky is blue");
      await expect(answer.locator(".katex").first()).toBeVisible();
      await expect(answer.locator("pre .hljs-keyword").first()).toHaveText("def");
      await expect(answer.locator("img")).toHaveCount(0);
      await expect(answer.getByRole("link", { name: /a picture/ })).toHaveAttribute("rel", /noopener/);
      await answer.locator(".code-copy").click();
      expect(await page.evaluate(() => navigator.clipboard.readText())).toContain("def scattered(wavelength: float) -> float:\n");
      await checkAxe(page);
      await page.reload();
      await expect(page.locator(".message-assistant h2")).toHaveText("Why the sky is blue");
      await expect(page.locator(".side-item.active")).toContainText("markdown please");
    });

    test("stops, and the server stops too", async ({ member: page, t }) => {
      await page.getByRole("textbox", { name: t("composer.label") }).fill("slow one");
      await page.keyboard.press("Enter");
      await expect(page.locator(".message-assistant")).toContainText("word5");
      await page.getByRole("button", { name: t("composer.stop") }).click();
      await expect(page.getByText(t("message.stopped"))).toBeVisible();
      const { messages } = await conversation(page);
      expect(messages.at(-1)!.status).toBe("stopped");
      expect(messages.at(-1)!.content).not.toContain("word199");
    });

    test("a reload in the middle of an answer loses nothing", async ({ member: page, t }) => {
      await page.getByRole("textbox", { name: t("composer.label") }).fill("slow answer");
      await page.keyboard.press("Enter");
      await expect(page.locator(".message-assistant")).toContainText("word8");
      await page.reload();
      await expect(page.locator(".message-assistant")).toContainText("word199", { timeout: 25_000 * patience });
      await expect(page.locator(".message-assistant")).toContainText("word0 word1 word2");
      await answered(page, t);
    });

    test("a lost connection is shown and mended", async ({ member: page, t, context }) => {
      await page.getByRole("textbox", { name: t("composer.label") }).fill("slow again");
      await page.keyboard.press("Enter");
      await expect(page.locator(".message-assistant")).toContainText("word3");
      await context.setOffline(true);
      await expect(page.locator(".banner")).toBeVisible();
      await context.setOffline(false);
      await expect(page.locator(".message-assistant")).toContainText("word199", { timeout: 25_000 * patience });
      await expect(page.locator(".banner")).toHaveCount(0);
    });

    test("regenerates and edits into branches that can be walked", { tag: "@smoke" }, async ({ member: page, t }) => {
      await ask(page, t, "first question");
      await page.getByRole("button", { name: t("message.regenerate") }).click();
      await answered(page, t);
      await expect(page.locator(".branch")).toContainText("2/2");
      await ask(page, t, "second question");
      await page.locator(".message-user").first().hover();
      await page.getByRole("button", { name: t("message.edit") }).first().click();
      await page.getByRole("textbox", { name: t("message.edit") }).fill("edited question");
      await page.keyboard.press("Enter");
      await answered(page, t);
      await expect(page.locator(".message-user")).toHaveCount(1);
      await expect(page.locator(".message-assistant")).toContainText("heard: edited question");
      await page.locator(".message-user").getByRole("button", { name: t("message.previous") }).click();
      await expect(page.locator(".message-user")).toHaveText([/first question/, /second question/]);
      await page.reload();
      await expect(page.locator(".message-user")).toHaveText([/first question/, /second question/]);
    });

    test("takes thumbs with reasons, and takes them back", async ({ member: page, t }) => {
      await ask(page, t, "rate me");
      await page.getByRole("button", { name: t("message.bad") }).click();
      const dialog = page.getByRole("dialog");
      await dialog.getByRole("button", { name: t("reasons.too_short") }).click();
      await dialog.getByRole("textbox").fill("太短了");
      await checkAxe(page);
      await dialog.getByRole("button", { name: t("feedback.send") }).click();
      await expect(page.getByRole("button", { name: t("message.bad") })).toHaveAttribute("aria-pressed", "true");
      await expect.poll(async () => (await conversation(page)).messages.at(-1)!.feedback).toMatchObject({ vote: "down", reasons: ["too_short"], comment: "太短了" });
      await page.getByRole("button", { name: t("message.bad") }).click();
      await expect.poll(async () => (await conversation(page)).messages.at(-1)!.feedback?.vote ?? "none").toBe("none");
    });

    test("shows token probabilities and branches from another token", async ({ member: page, t }) => {
      await ask(page, t, "tokens please");
      await page.getByRole("button", { name: t("message.tokens") }).click();
      await expect(page.locator(".token").first()).toBeVisible();
      await checkAxe(page);
      await page.locator(".token").nth(1).click();
      await expect(page.locator(".alternative")).toHaveCount(4);
      await page.locator(".alternative", { hasText: "violet" }).click();
      await answered(page, t);
      await expect(page.locator(".message-assistant")).toContainText("alpha violet and so it goes on.");
      await expect(page.locator(".branch")).toContainText("2/2");
    });

    test("goes on with several models in a chat that was begun with them", async ({ member: page, t }) => {
      await page.getByRole("button", { name: "alpha" }).click();
      await page.getByRole("checkbox", { name: t("models.several") }).check();
      await page.getByRole("checkbox", { name: /beta/ }).check();
      await page.getByRole("button", { name: t("common.close"), exact: true }).click();
      await ask(page, t, "first");
      await expect(page.locator(".column")).toHaveCount(2);
      await expect(page.locator(".model-button")).toHaveText(t("models.count_other", { count: 2 }));
      await ask(page, t, "second");
      await expect(page.locator(".column .message-model .ellipsis")).toHaveText(["alpha", "beta"]);
    });

    test("gives the focus back after dialogs, edits and changes of branch", async ({ member: page, t }) => {
      await ask(page, t, "echo: one");
      const focused = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label"));
      for (const name of [t("share.title"), t("message.bad")]) {
        await page.getByRole("button", { name, exact: true }).focus();
        await page.keyboard.press("Enter");
        await expect(page.getByRole("dialog")).toBeVisible();
        await page.keyboard.press("Escape");
        await expect.poll(focused).toBe(name);
      }
      const edit = page.locator(".message-user").getByRole("button", { name: t("message.edit") });
      await edit.focus();
      await page.keyboard.press("Enter");
      await page.keyboard.press("Escape");
      await expect.poll(focused).toBe(t("message.edit"));
      await page.getByRole("button", { name: t("message.regenerate") }).click();
      await answered(page, t);
      await page.getByRole("button", { name: t("message.previous") }).focus();
      await page.keyboard.press("Enter");
      await expect(page.locator(".branch")).toContainText("1/2");
      await expect.poll(focused).toBe(t("message.next"));
    });

    test("shows the tokens of a character as that character, reached by keys, and keeps to its script", async ({ member: page, t }) => {
      await page.getByRole("button", { name: t("script.button") }).click();
      await page.getByRole("button", { name: t("script.han"), exact: true }).click();
      await ask(page, t, "bytes: 舟行");
      await page.getByRole("button", { name: t("message.tokens"), exact: true }).click();
      await expect(page.locator(".token")).toHaveText(["舟", "行"]);
      await page.locator(".token").first().focus();
      await page.keyboard.press("ArrowRight");
      await expect(page.locator(".token").nth(1)).toBeFocused();
      await page.keyboard.press("ArrowLeft");
      await page.keyboard.press("Enter");
      const dialog = page.getByRole("dialog");
      // Of the alternatives, one bit away each, only that of the last byte is a whole Chinese character.
      await expect(dialog.locator("button:enabled")).toHaveText(/舞/);
      await expect(dialog.locator("button:enabled")).toBeFocused();
      await expect(dialog.locator("button:disabled").filter({ hasText: "<E9>" })).toContainText(t("tokens.outside"));
      await checkAxe(page);
      await page.keyboard.press("Escape");
      await expect(page.locator(".token").first()).toBeFocused();
    });

    test("says that chats were deleted only when they were", async ({ member: page, t }) => {
      await ask(page, t, "echo: kept");
      await page.getByRole("link", { name: t("side.settings") }).click();
      await page.route("**/api/conversations", (route) => (route.request().method() === "DELETE" ? route.abort() : route.fallback()));
      await page.getByRole("button", { name: t("common.delete"), exact: true }).click();
      await page.getByRole("dialog").getByRole("button", { name: t("common.delete"), exact: true }).click();
      await expect(page.locator(".toast")).toHaveText(t("errors.network"));
      await page.unroute("**/api/conversations");
      await page.locator(".toast").getByRole("button", { name: t("common.close") }).click();
      await expect(page.locator(".toast")).toHaveCount(0);
    });

    test("leaves no draft to the next person at this browser", async ({ member: page, t }) => {
      await page.getByRole("textbox", { name: t("composer.label") }).fill("a secret wish");
      await draftKept(page, "a secret wish");
      await page.getByRole("button", { name: t("side.signOut") }).click();
      await expect(page.getByRole("heading", { name: t("login.title") })).toBeVisible();
      const left = await page.evaluate(() => new Promise<number>((resolve) => {
        const opening = indexedDB.open("chatwright");
        opening.onsuccess = () => { const all = opening.result.transaction("drafts").objectStore("drafts").count(); all.onsuccess = () => { resolve(all.result); opening.result.close(); }; };
      }));
      expect(left).toBe(0);
    });

    test("shows the calculator's steps, and what did not fit", async ({ member: page, t }) => {
      await ask(page, t, "What is 3457 * 43216?");
      await expect(page.locator(".step")).toContainText("149397712");
      await ask(page, t, "long story");
      await expect(page.getByText(t("message.dropped_other", { count: 2 }))).toBeVisible();
    });

    test("keeps system prompt, settings and script", async ({ member: page, t }) => {
      await page.getByRole("button", { name: t("panel.button"), exact: true }).click();
      await page.getByRole("textbox", { name: t("panel.system") }).fill("You are a pirate.");
      await page.getByRole("spinbutton", { name: t("panel.seed") }).fill("7");
      await checkAxe(page);
      await page.getByRole("button", { name: t("common.save") }).click();
      await page.getByRole("button", { name: t("script.button") }).click();
      await checkAxe(page);
      await page.getByRole("button", { name: t("script.han"), exact: true }).click();
      await ask(page, t, "hello");
      const kept = await conversation(page);
      expect(kept.system).toBe("You are a pirate.");
      expect(kept.settings).toMatchObject({ seed: 7, script: "Han" });
      await expect(page.locator(".message-assistant .badge")).toHaveText("Han");
    });

    test("asks several models side by side and goes on with one", async ({ member: page, t }) => {
      await page.locator(".model-button").click();
      await page.getByRole("checkbox", { name: t("models.several") }).check();
      await page.getByRole("checkbox", { name: /beta/ }).check();
      await checkAxe(page);
      await page.keyboard.press("Escape");
      await ask(page, t, "both of you");
      await expect(page.locator(".column")).toHaveCount(2);
      await expect(page.locator(".column").nth(1)).toContainText("beta heard: both of you");
      await checkAxe(page);
      await page.locator(".column").nth(1).getByRole("radio").check();
      await ask(page, t, "go on");
      const { messages } = await conversation(page);
      const chosen = messages.find((message) => message.content === "beta heard: both of you")!;
      expect(messages.find((message) => message.content === "go on")!.parent_id).toBe(chosen.id);
    });

    test("searches, also within Chinese words; renames; deletes", async ({ member: page, t }) => {
      await ask(page, t, "今天北京的天气怎么样");
      await page.getByRole("link", { name: t("side.new") }).first().click();
      await ask(page, t, "something else");
      await page.getByRole("searchbox").fill("京的天");
      await expect(page.locator(".side-item")).toHaveCount(1);
      await expect(page.locator(".side-item")).toContainText("今天北京");
      await page.locator(".side-item").getByRole("button").click();
      await page.getByRole("menuitem", { name: t("common.rename") }).click();
      await page.getByRole("textbox", { name: t("side.title") }).fill("Weather");
      await page.getByRole("button", { name: t("common.save") }).click();
      await page.getByRole("searchbox").fill("Weath");
      await expect(page.locator(".side-item")).toContainText("Weather");
      await page.locator(".side-item").getByRole("button").click();
      await page.getByRole("menuitem", { name: t("common.delete") }).click();
      await page.getByRole("dialog").getByRole("button", { name: t("common.delete") }).click();
      await expect(page.getByText(t("side.nothingFound"))).toBeVisible();
    });

    test("shares read-only, updates, revokes", async ({ member: page, t, browser, server }) => {
      await ask(page, t, "markdown to share");
      await page.getByRole("button", { name: t("share.title"), exact: true }).click();
      await page.getByRole("button", { name: t("share.create") }).click();
      const url = await page.getByTestId("share-url").innerText();
      await checkAxe(page);
      const outside = await browser.newContext({ baseURL: server.origin });
      const stranger = await outside.newPage();
      await stranger.goto(url);
      await expect(stranger.locator(".message-assistant h2")).toHaveText("Why the sky is blue");
      await expect(stranger.getByRole("textbox")).toHaveCount(0);
      await checkAxe(stranger);
      await page.getByRole("button", { name: t("share.revoke") }).click();
      await expect(page.getByRole("button", { name: t("share.create") })).toBeVisible();
      await stranger.reload();
      await expect(stranger.locator(".empty h1")).toBeVisible();
      await outside.close();
    });

    test("exports and takes the export in again", async ({ member: page, t }) => {
      await ask(page, t, "keep this");
      const save = async (key: string) => {
        await page.getByRole("button", { name: t("chat.more"), exact: true }).click();
        const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("menuitem", { name: t(key) }).click()]);
        return (await file.path())!;
      };
      const { readFile } = await import("node:fs/promises");
      expect(await readFile(await save("chat.exportMarkdown"), "utf8")).toContain("keep this");
      const json = await save("chat.exportJson");
      await page.goto("/settings");
      await checkAxe(page);
      await page.locator("input[type=file]").setInputFiles({ name: "chat.json", mimeType: "application/json", buffer: await readFile(json) });
      await expect(page).toHaveURL(/\/c\//);
      await expect(page.locator(".message-user")).toContainText("keep this");
    });

    test("keeps drafts, and leaves Enter to the input method", async ({ member: page, t }) => {
      const field = page.getByRole("textbox", { name: t("composer.label") });
      await field.fill("half a thought");
      await draftKept(page, "half a thought");
      await page.reload();
      await expect(field).toHaveValue("half a thought");
      await field.fill("");
      await field.pressSequentially("ni");
      await field.dispatchEvent("keydown", { key: "Enter", keyCode: 229, bubbles: true });
      await expect(field).toHaveValue("ni");
      await expect(page.locator(".message-user")).toHaveCount(0);
      await page.keyboard.press("Shift+Enter");
      await field.pressSequentially("hao");
      await page.keyboard.press("Enter");
      await expect(page.locator(".message-user")).toContainText("ni\nhao");
      await answered(page, t);
      await expect(field).toHaveValue("");
    });

    test("is worked by keyboard", async ({ member: page, t }) => {
      await page.getByRole("heading", { name: t("welcome.title") }).click();
      await page.keyboard.press("?");
      await expect(page.getByRole("dialog", { name: t("keys.title") })).toBeVisible();
      await checkAxe(page);
      await page.keyboard.press("Escape");
      await expect(page.getByRole("dialog")).toHaveCount(0);
      await page.keyboard.press("/");
      await expect(page.getByRole("textbox", { name: t("composer.label") })).toBeFocused();
      await page.keyboard.type("slow? no / shortcuts here");
      await page.keyboard.press("Enter");
      await expect(page.locator(".message-assistant")).toContainText("word2");
      await page.keyboard.press("Escape");
      await expect(page.getByText(t("message.stopped"))).toBeVisible();
      await page.keyboard.press("Control+k");
      await expect(page.getByRole("searchbox")).toBeFocused();
    });

    test("fits 360 pixels", async ({ member: page, t }) => {
      await page.setViewportSize({ width: 360, height: 740 });
      await page.reload();
      await ask(page, t, "markdown on a phone");
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
      await checkAxe(page);
      await page.getByRole("button", { name: t("side.open") }).click();
      await expect(page.locator(".side")).toBeVisible();
      await checkAxe(page);
      await page.getByRole("link", { name: t("side.prompts") }).click();
      await expect(page.locator(".side")).toHaveCount(0);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
    });
  });
}

type Kept = { system: string; settings: object; messages: { id: string; parent_id: string | null; content: string; status: string; feedback: { vote: string } | null }[] };

async function conversation(page: import("@playwright/test").Page): Promise<Kept> {
  await expect(page).toHaveURL(/\/c\//);
  return page.evaluate(async () => (await fetch(`/api/conversations/${location.pathname.split("/")[2]}`)).json() as Promise<Kept>);
}
