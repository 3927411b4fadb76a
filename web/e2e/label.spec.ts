import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { becomeAdmin, call, FOUR, labels, makeProject, MortalServer, question, SHARED } from "./desk";
import { anotherLead, checkAxe, expect, languages, PASSWORD, patience, test, textsOf, type Page } from "./fixtures";

const SKY = question("Why is the sky blue?");
const rankTask = { kind: "rank", messages: SKY, answers: FOUR };

async function open(page: Page, project: string, kind = ""): Promise<void> {
  await page.goto(`/label/next?project=${project}${kind ? `&kind=${kind}` : ""}`);
  await expect(page.getByTestId("sheet")).toBeVisible();
  await expect(page.locator(".desk-text .prose-plain")).toHaveCount(0); // formatted: nothing moves any more
}

/** Move something to the middle of something else, in the small steps of a hand. */
async function drag(page: Page, from: string, to: string): Promise<void> {
  const middle = async (selector: string) => {
    const box = (await page.locator(selector).first().boundingBox())!;
    return [box.x + box.width / 2, box.y + box.height / 2] as const;
  };
  await page.mouse.move(...(await middle(from)));
  await page.mouse.down();
  const [x, y] = await middle(from);
  await page.mouse.move(x + 6, y - 6, { steps: 3 });
  await page.mouse.move(...(await middle(to)), { steps: 8 });
  await page.mouse.move(...(await middle(to))); // gaps widen while something is dragged
  await page.mouse.up();
}
const chip = (letter: string) => `.desk-foot .chip:text-is("${letter}")`;
const ORDER = "D>C>A=B";

for (const language of languages) {
  test.describe(`labelling desk (${language})`, () => {
    test.use({ language });
    test.slow(); // many pages and many looks by axe, on whatever machine this is

    test("the line about the last label moves nothing, and notes leave the tiers free", async ({ member: page }) => {
      const project = await makeProject(page, { kinds: ["rank"] }, Array(3).fill(rankTask));
      for (const width of [900, 360]) {
        await page.setViewportSize({ width, height: 800 });
        await open(page, project);
        const top = async () => (await page.getByTestId("sheet").boundingBox())!.y;
        const before = await top();
        await page.locator("body").press("d");
        for (const key of ["c", "a", "=", "b", "Enter"]) await page.keyboard.press(key);
        await expect(page.locator(".desk-last")).toBeVisible();
        await expect(page.getByTestId("sheet")).toBeVisible();
        await expect.poll(top).toBe(before);
        if (process.env.LOOK) await page.screenshot({ path: `${process.env.LOOK}/desk-${language}-${width}.png` });
        await page.locator(".desk-last button").click();
        const note = page.locator(".toast").first();
        await expect(note).toBeVisible();
        await expect(page.locator(".desk-foot")).toBeVisible();
        const gap = async () => { const [toast, foot] = [await note.boundingBox(), await page.locator(".desk-foot").boundingBox()]; return toast && foot ? foot.y - toast.y - toast.height : -1; };
        await expect.poll(gap).toBeGreaterThanOrEqual(0);
        if (process.env.LOOK) await page.screenshot({ path: `${process.env.LOOK}/note-${language}-${width}.png` });
      }
    });

    test("ranks by typed letters, digits, the field and dragging into one order", { tag: "@smoke" }, async ({ member: page, t }) => {
      const project = await makeProject(page, { kinds: ["rank"] }, Array(4).fill(rankTask));
      const field = page.getByRole("textbox", { name: t("label.typed.label") });
      const submit = page.locator("#desk-submit");
      const done = async (count: number) => {
        await expect.poll(async () => (await labels(page, project)).length).toBe(count);
        expect((await labels(page, project))[0]!.value.ranking).toBe(ORDER);
      };

      await open(page, project);
      await expect(page.locator(".desk-card")).toHaveCount(4);
      let keys = 0;
      const press = async (...all: string[]) => { for (const key of all) { await page.keyboard.press(key); keys++; } };
      await press("d", "c", "a", "=", "b");
      await expect(field).toHaveValue(ORDER);
      await press("Enter");
      expect(keys).toBeLessThanOrEqual(8);
      await done(1);

      await expect(field).toHaveValue("");
      keys = 0;
      await press("3", "3", "2", "1");
      await expect(field).toHaveValue(ORDER);
      await expect(submit).toBeFocused();
      await press("Enter");
      expect(keys).toBeLessThanOrEqual(8);
      await done(2);

      await expect(field).toHaveValue("");
      await field.fill("d c a = b");
      await field.press("Enter");
      await done(3);

      await expect(field).toHaveValue("");
      await drag(page, chip("A"), "[data-drop=gap-0]");
      await expect(field).toHaveValue("A");
      await drag(page, chip("C"), "[data-drop=gap-0]");
      await drag(page, '.desk-card[data-place="1"] .chip', "[data-drop=tier-1]");
      await drag(page, chip("D"), "[data-drop=gap-0]");
      await expect(field).toHaveValue(ORDER);
      await submit.click();
      await done(4);
      await expect(page.getByText(t("label.allDone"))).toBeVisible();
    });

    test("undoes, redoes, moves by half steps, leaves out, and sends what cannot be ranked", async ({ member: page, t }) => {
      const project = await makeProject(page, { kinds: ["rank"], allow_unranked: true }, Array(3).fill(rankTask));
      const field = page.getByRole("textbox", { name: t("label.typed.label") });
      await open(page, project);
      await page.keyboard.type("dca");
      await page.keyboard.press("u");
      await expect(field).toHaveValue("D>C>A");
      await page.keyboard.press("Control+z");
      await page.keyboard.press("Control+z");
      await expect(field).toHaveValue("D>C");
      await page.keyboard.press("Control+Shift+z");
      await page.keyboard.press("Control+y");
      await expect(field).toHaveValue("D>C>A");
      await page.getByRole("button", { name: t("label.undo") }).click();
      await page.keyboard.press("b");
      await expect(field).toHaveValue("D>C>A>B");
      await page.locator(chip("B")).press("ArrowLeft");
      await expect(field).toHaveValue(ORDER);
      await page.locator(chip("A")).press("ArrowLeft");
      await expect(field).toHaveValue("D>C>A>B");
      await page.locator(chip("B")).press("Delete");
      await expect(page.locator("#desk-submit")).toBeDisabled();
      await page.getByRole("group", { name: t("label.tierOf", { letter: "B" }) }).getByRole("button", { name: t("label.leave") }).click();
      await page.locator("#desk-submit").click();
      await expect.poll(async () => (await labels(page, project)).length).toBe(1);
      expect((await labels(page, project))[0]!.value).toMatchObject({ ranking: "D>C>A", unranked: ["B"] });
      await expect(field).toHaveValue("");
      await page.keyboard.press("x");
      await page.keyboard.press("Enter");
      await expect.poll(async () => (await labels(page, project)).length).toBe(2);
      expect((await labels(page, project))[0]!.value).toMatchObject({ ranking: "", cannot_judge: true });
      await expect(page.getByRole("button", { name: t("label.rank.cannot") })).toHaveAttribute("aria-pressed", "false");
      await page.keyboard.type("b=a d c");
      await page.getByRole("button", { name: t("label.rank.none") }).click();
      await page.locator("#desk-submit").click();
      await expect.poll(async () => (await labels(page, project)).length).toBe(3);
      expect((await labels(page, project))[0]!.value).toMatchObject({ ranking: "A=B>D>C", none_acceptable: true, cannot_judge: false });
    });

    test("rates with flags before it ranks, and names contradictions without a wall", async ({ member: page, t }) => {
      const project = await makeProject(page, { kinds: ["rank", "rate"], rate_first: true }, [rankTask, { kind: "rate", messages: SKY, answers: FOUR.slice(0, 2) }]);
      await open(page, project, "rank");
      await expect(page.getByRole("heading", { name: t("label.rate.title") })).toBeVisible();
      await page.keyboard.type("72");
      await page.keyboard.press("f");
      await page.locator('[data-place="2"]').getByLabel(t("label.flags.expresses_opinion")).check();
      await page.locator('[data-place="1"]').focus();
      await page.keyboard.press("f");
      await page.locator('[data-place="1"]').getByLabel(t("label.flags.hallucination")).check();
      await page.locator('[data-place="2"]').getByRole("group", { name: t("label.rate.of", { letter: "C" }) }).getByRole("button", { name: "6" }).click();
      await page.locator('[data-place="3"]').focus();
      await page.keyboard.press("3");
      await checkAxe(page);
      await page.keyboard.press("Enter");
      await page.keyboard.type("bcad");
      await expect(page.getByText(t("label.contradiction.pair", { rated: "A", ranked: "B" }))).toBeVisible();
      await page.keyboard.press("Enter");
      await expect.poll(async () => (await labels(page, project)).length).toBe(1);
      expect((await labels(page, project))[0]!.value).toMatchObject({ ranking: "B>C>A>D", likert: [7, 2, 6, 3], flags: [[], ["hallucination"], ["expresses_opinion"], []] });
      await open(page, project, "rate");
      await page.keyboard.type("54");
      await page.keyboard.press("Enter");
      await expect.poll(async () => (await labels(page, project)).length).toBe(2);
      expect((await labels(page, project))[0]!.value).toMatchObject({ likert: [5, 4], ranking: "" });
    });

    test("compares by key and by mouse", { tag: "@smoke" }, async ({ member: page, t }) => {
      const project = await makeProject(page, { kinds: ["compare"] }, Array(2).fill({ kind: "compare", messages: SKY, answers: FOUR.slice(0, 2) }));
      await open(page, project);
      await checkAxe(page);
      await page.keyboard.press("b");
      await page.keyboard.press("Enter");
      await expect.poll(async () => (await labels(page, project)).length).toBe(1);
      await expect(page.getByRole("button", { name: t("label.compare.b") })).toHaveAttribute("aria-pressed", "false");
      await page.getByRole("button", { name: t("label.compare.both_bad") }).click();
      await page.locator("#desk-submit").click();
      await expect.poll(async () => (await labels(page, project)).length).toBe(2);
      expect((await labels(page, project)).map((label) => label.value.verdict)).toEqual(["both_bad", "b"]);
    });

    test("writes demonstrations over several turns, begun by a model, and prompts with examples", async ({ member: page, t }) => {
      const project = await makeProject(page, { kinds: ["demonstrate", "prompt"], model_draft: true }, [{ kind: "demonstrate", messages: SKY }, { kind: "prompt", style: "few_shot" }]);
      const turn = (role: string, number: number) => page.getByRole("textbox", { name: `${t(`label.roles.${role}`)} ${number}`, exact: true });
      await open(page, project, "demonstrate");
      await page.getByRole("button", { name: t("label.write.draft") }).click();
      await expect(turn("assistant", 1)).toHaveValue("alpha heard: Why is the sky blue?");
      await expect(page.getByText(t("label.write.drafted"))).toBeVisible();
      await turn("assistant", 1).fill("Air scatters blue light most. ds=1?");
      await page.getByRole("button", { name: t("label.write.addTurn") }).click();
      await expect(page.locator("#desk-submit")).toBeDisabled();
      await turn("user", 2).fill("And sunsets?");
      await turn("assistant", 3).fill("Red light is what is left.");
      await checkAxe(page);
      await turn("assistant", 3).press("Enter");
      await turn("assistant", 3).press("Backspace");
      await turn("assistant", 3).press("Control+Enter");
      await expect.poll(async () => (await labels(page, project)).length).toBe(1);
      expect((await labels(page, project))[0]!.payload!.messages).toEqual([
        { role: "assistant", content: "Air scatters blue light most. ds=1?" }, { role: "user", content: "And sunsets?" }, { role: "assistant", content: "Red light is what is left." },
      ]);
      await open(page, project, "prompt");
      await expect(page.getByRole("heading", { name: t("label.write.few_shot") })).toBeVisible();
      await turn("user", 1).fill("Give the opposite. hot");
      await page.getByRole("button", { name: t("label.write.addExample") }).click();
      await turn("assistant", 2).fill("cold");
      await turn("user", 3).fill("wet");
      await page.locator("#desk-submit").click();
      await expect.poll(async () => (await labels(page, project)).length).toBe(2);
      expect((await labels(page, project))[0]!.payload!.messages.map((message) => message.content)).toEqual(["Give the opposite. hot", "cold", "wet"]);
    });

    test("adjudicates what two labellers see differently", async ({ member: page, admin, browser, server, t }) => {
      const project = await makeProject(page, { kinds: ["rank"], overlap: { rank: 2 }, adjudicate_below: 0.9 }, [{ kind: "rank", messages: SKY, answers: ["first", "second", "third"] }]);
      const other = await browser.newContext({ baseURL: server.origin, storageState: admin.storage });
      await other.addInitScript((chosen) => localStorage.setItem("language", chosen), language);
      const second = await other.newPage();
      for (const [who, texts] of [[page, ["first", "second", "third"]], [second, ["third", "second", "first"]]] as const) {
        await open(who, project);
        for (const text of texts) await who.keyboard.press("ABC"[await who.locator(".desk-card").evaluateAll((cards, wanted) => cards.findIndex((card) => card.querySelector(".desk-text")!.textContent === wanted), text)]!.toLowerCase());
        await who.keyboard.press("Enter");
        await expect.poll(async () => (await labels(who, project)).length).toBe(1);
      }
      await call(page, "/api/desk/merge", "POST", { project });
      const lead = await anotherLead(browser, server, admin, language); // one who has labelled the task may not decide
      await open(lead, project, "adjudicate");
      await expect(lead.locator(".desk-others li")).toHaveCount(2);
      await expect(lead.locator(".desk-others")).not.toContainText("member");
      await checkAxe(lead);
      await lead.keyboard.type("b a c");
      await lead.keyboard.press("Enter");
      await expect.poll(async () => (await labels(lead, project)).map((label) => label.kind)).toEqual(["adjudicate"]);
      await lead.context().close();
      await other.close();
      expect(t("label.others.title")).toBeTruthy();
    });

    test("takes a label back after it was sent, at once and from the history", async ({ member: page, t }) => {
      const project = await makeProject(page, { kinds: ["rank"] }, [rankTask, rankTask]);
      const field = page.getByRole("textbox", { name: t("label.typed.label") });
      await open(page, project);
      await page.keyboard.type("dcab");
      await page.getByText(t("label.comment")).click();
      await page.getByRole("textbox", { name: t("label.comment") }).fill("C is best written, 很好");
      await page.locator("#desk-submit").click();
      await expect.poll(async () => (await labels(page, project)).map((label) => label.state)).toEqual(["current"]);
      await expect(field).toHaveValue("");
      await page.keyboard.press("Control+z"); // nothing to undo on the new task: the label itself comes back
      await expect(field).toHaveValue("D>C>A>B");
      await expect(page.getByRole("textbox", { name: t("label.comment") })).toHaveValue("C is best written, 很好");
      expect((await labels(page, project)).map((label) => label.state)).toEqual(["undone"]);
      await page.locator(chip("B")).press("ArrowLeft");
      await expect(field).toHaveValue(ORDER);
      await page.locator("#desk-submit").click();
      await expect.poll(async () => (await labels(page, project)).map((label) => label.state)).toEqual(["current", "undone"]);
      await expect(field).toHaveValue("");
      await page.goto("/label/history");
      await checkAxe(page);
      await page.getByRole("button", { name: t("label.history.undo") }).first().click();
      await expect(field).toHaveValue(ORDER);
      await expect(page.getByRole("textbox", { name: t("label.comment") })).toHaveValue("C is best written, 很好");
      await page.keyboard.press("Backspace");
      await page.keyboard.press("Backspace");
      await page.keyboard.type("ba");
      await page.keyboard.press("Enter");
      await expect.poll(async () => (await labels(page, project))[0]!.value.ranking).toBe("D>C>B>A");
    });

    test("skips and reports with a reason, shows guideline and keys", async ({ member: page, t }) => {
      const project = await makeProject(page, { kinds: ["rank"] }, [rankTask, rankTask, rankTask]);
      await call(page, `/api/desk/guidelines/${project}`, "POST", { language: "en", text: "# Be fair\n\nHelpful first, then truthful." });
      await open(page, project);
      await page.keyboard.press("o");
      await expect(page.getByRole("heading", { name: "Be fair" })).toBeVisible();
      await checkAxe(page);
      await page.keyboard.press("Escape");
      await page.keyboard.press("?");
      await expect(page.getByRole("dialog", { name: t("keys.title") })).toContainText(t("label.keys.typed"));
      await checkAxe(page);
      await page.keyboard.press("d"); // dead under a dialog
      await page.keyboard.press("Escape");
      await expect(page.getByRole("textbox", { name: t("label.typed.label") })).toHaveValue("");
      await page.keyboard.press("s");
      await checkAxe(page);
      await page.getByLabel(t("label.reasons.too_difficult")).check();
      await page.getByRole("dialog").getByRole("button", { name: t("label.skip.action"), exact: true }).click();
      await expect(page.getByText(t("label.skipped"))).toBeVisible();
      await page.getByRole("button", { name: t("label.flag.button") }).click();
      await page.getByLabel(t("label.reasons.personal_data")).check();
      await page.getByRole("textbox", { name: t("label.reasonComment") }).fill("a telephone number");
      await page.getByRole("dialog").getByRole("button", { name: t("label.flag.action"), exact: true }).click();
      await expect(page.getByRole("dialog")).toBeHidden();
      await expect(page.getByTestId("sheet")).toBeVisible();
      await page.keyboard.type("abcd");
      await page.keyboard.press("Enter");
      await expect(page.getByText(t("label.allDone"))).toBeVisible();
      expect(await labels(page, project)).toHaveLength(1);
    });

    test("shows all texts: folded beginnings, differences, raw text", async ({ member: page, t }) => {
      const project = await makeProject(page, { kinds: ["rank"] }, [rankTask]);
      await open(page, project);
      const cards = page.locator(".desk-card");
      await expect(page.getByText(SHARED.trim())).toHaveCount(0);
      await cards.nth(0).getByRole("button", { name: t("label.prefix_other", { number: SHARED.length }) }).click();
      await expect(cards.filter({ hasText: SHARED.trim() })).toHaveCount(1);
      await expect(page.locator(".desk-card strong")).toHaveText(["short waves"]);
      await page.getByRole("button", { name: t("label.view.raw"), exact: true }).click();
      await expect(cards.filter({ hasText: "**short waves**" })).toHaveCount(1);
      await page.keyboard.press("v");
      await expect(page.locator(".desk-card mark").first()).toBeVisible();
      await expect(cards.filter({ hasText: t("label.scripts.han") })).toHaveCount(1);
      await checkAxe(page);
    });

    test("keys are dead in fields and while an input method composes", async ({ member: page, t, context }) => {
      const project = await makeProject(page, { kinds: ["rank"] }, [rankTask]);
      const field = page.getByRole("textbox", { name: t("label.typed.label") });
      await open(page, project);
      await page.getByText(t("label.comment")).click();
      const note = page.getByRole("textbox", { name: t("label.comment") });
      await note.pressSequentially("dcab 1234 nx");
      await note.press("Enter");
      await expect(note).toHaveValue("dcab 1234 nx\n");
      await expect(field).toHaveValue("");
      await field.fill("d c a b");
      const cdp = await context.newCDPSession(page);
      await cdp.send("Input.imeSetComposition", { text: "b", selectionStart: 1, selectionEnd: 1 });
      await page.keyboard.press("Enter"); // it confirms the word
      await page.waitForTimeout(300);
      expect(await labels(page, project)).toHaveLength(0);
      await expect(page.getByTestId("sheet")).toBeVisible();
    });

    test("keeps unfinished work through a closed tab and on another device, and shows two versions", async ({ member: page, t, context, browser, server }) => {
      const project = await makeProject(page, { kinds: ["rank", "demonstrate"] }, [rankTask, { kind: "demonstrate", messages: SKY }]);
      await open(page, project, "rank");
      await page.keyboard.type("dc");
      const again = await context.newPage();
      await page.close({ runBeforeUnload: false }); // at once: nothing had time to reach the server
      await open(again, project, "rank");
      const field = (where: Page) => where.getByRole("textbox", { name: t("label.typed.label") });
      await expect(field(again)).toHaveValue("D>C");
      await expect(again.locator("[data-status=saved]")).toBeVisible();

      const device = await browser.newContext({ baseURL: server.origin, storageState: await context.storageState() });
      await device.addInitScript((chosen) => localStorage.setItem("language", chosen), language);
      const elsewhere = await device.newPage();
      await open(elsewhere, project, "rank");
      await expect(field(elsewhere)).toHaveValue("D>C");
      await elsewhere.keyboard.type("a");
      await expect(elsewhere.locator("[data-status=saved]")).toBeVisible();
      await again.keyboard.type("b");
      await expect(again.getByText(t("label.conflict.text"))).toBeVisible();
      await expect(again.locator(".desk-conflict")).toContainText("D>C>B");
      await expect(again.locator(".desk-conflict")).toContainText("D>C>A");
      await checkAxe(again);
      await again.getByRole("button", { name: t("label.conflict.theirsUse") }).click();
      await expect(field(again)).toHaveValue("D>C>A");
      await again.keyboard.type("b");
      await again.keyboard.press("Enter");
      await expect.poll(async () => (await labels(again, project)).map((label) => label.value.ranking)).toEqual(["D>C>A>B"]);
      await device.close();
    });

    test("goes on without a network, and sends when it is back", async ({ member: page, t, context }) => {
      const project = await makeProject(page, { kinds: ["demonstrate"] }, [{ kind: "demonstrate", messages: SKY }]);
      await open(page, project);
      await context.setOffline(true);
      await page.getByRole("textbox", { name: `${t("label.roles.assistant")} 1` }).fill("Written in a tunnel, 在隧道里写的。");
      await page.locator("#desk-submit").click();
      await expect(page.getByTestId("outbox-waiting")).toBeVisible();
      await expect(page.getByText(t("label.offline"))).toBeVisible();
      await checkAxe(page);
      await context.setOffline(false);
      await expect.poll(async () => (await labels(page, project)).map((label) => label.payload?.messages[0]!.content)).toEqual(["Written in a tunnel, 在隧道里写的。"]);
      await expect(page.getByTestId("outbox-waiting")).toBeHidden();
    });

    test("fits a telephone, by touch, in dark colours", async ({ member: page, context, browser, server, t }) => {
      const project = await makeProject(page, { kinds: ["rank", "rate", "compare", "demonstrate", "prompt"] }, [rankTask, rankTask, { kind: "compare", messages: SKY, answers: FOUR.slice(0, 2) }, { kind: "rate", messages: SKY, answers: FOUR.slice(0, 2) }, { kind: "demonstrate", messages: SKY }, { kind: "prompt", style: "user_based", messages: SKY }]);
      const phone = await browser.newContext({ baseURL: server.origin, storageState: await context.storageState(), viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, colorScheme: "dark" });
      await phone.addInitScript((chosen) => localStorage.setItem("language", chosen), language);
      const small = await phone.newPage();
      const fits = async () => expect(await small.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
      await small.goto("/label");
      await expect(small.getByRole("link", { name: t("label.start") }).first()).toBeVisible();
      await fits();
      await checkAxe(small);
      await open(small, project, "rank");
      for (const [letter, tier] of [["D", 1], ["C", 2], ["A", 3], ["B", 3]] as const) await small.getByRole("group", { name: t("label.tierOf", { letter }) }).getByRole("button", { name: String(tier), exact: true }).tap();
      await expect(small.locator(".desk-foot > .sr-only")).toContainText(ORDER);
      await fits();
      await checkAxe(small);
      await small.locator("#desk-submit").tap();
      await expect.poll(async () => (await labels(page, project))[0]?.value.ranking).toBe(ORDER);
      // Dragging by finger: A to the best place, then the others onto it and below.
      await expect(small.locator(".desk-foot > .sr-only")).toHaveText("");
      await touchDrag(small, chip("D"), "[data-drop=gap-0]");
      await expect(small.locator(".desk-foot > .sr-only")).toHaveText("D");
      await touchDrag(small, chip("A"), "[data-drop=gap-1]");
      await touchDrag(small, chip("B"), "[data-drop=tier-1]");
      await touchDrag(small, chip("C"), "[data-drop=gap-1]");
      await expect(small.locator(".desk-foot > .sr-only")).toContainText(ORDER);
      await small.locator("#desk-submit").tap();
      await expect.poll(async () => (await labels(page, project)).map((label) => label.value.ranking)).toEqual([ORDER, ORDER]);
      await open(small, project, "compare");
      await fits();
      await small.getByRole("button", { name: t("label.compare.a") }).tap();
      await small.locator("#desk-submit").tap();
      await expect.poll(async () => (await labels(page, project)).length).toBe(3);
      await open(small, project, "rate");
      await fits();
      await checkAxe(small);
      for (const letter of ["A", "B"]) await small.getByRole("group", { name: t("label.rate.of", { letter }) }).getByRole("button", { name: "5", exact: true }).tap();
      await small.locator("#desk-submit").tap();
      await expect.poll(async () => (await labels(page, project)).length).toBe(4);
      for (const [kind, role] of [["demonstrate", "assistant"], ["prompt", "user"]] as const) {
        await open(small, project, kind);
        await fits();
        await small.getByRole("textbox", { name: `${t(`label.roles.${role}`)} 1` }).fill("Written on a telephone");
        await small.locator("#desk-submit").tap();
        await expect.poll(async () => (await labels(page, project))[0]!.kind).toBe(kind);
      }
      await phone.close();
    });
  });
}

/** A finger's way: real touch events, as the browser makes pointer events of them. */
async function touchDrag(page: Page, from: string, to: string): Promise<void> {
  const cdp = await page.context().newCDPSession(page);
  const middle = async (selector: string) => {
    const box = (await page.locator(selector).first().boundingBox())!;
    return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
  };
  const start = await middle(from);
  await cdp.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: [start] });
  await cdp.send("Input.dispatchTouchEvent", { type: "touchMove", touchPoints: [{ x: start.x + 7, y: start.y - 7 }] });
  for (const part of [0.3, 0.6, 0.9, 1, 1]) {
    const end = await middle(to);
    await cdp.send("Input.dispatchTouchEvent", { type: "touchMove", touchPoints: [{ x: start.x + (end.x - start.x) * part, y: start.y + (end.y - start.y) * part }] });
    await page.waitForTimeout(30);
  }
  await cdp.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
  await cdp.detach();
}

test("a killed server loses nothing that was written, sent or confirmed", async ({ browser }) => {
  test.slow();
  const t = textsOf("en");
  const folder = mkdtempSync(join(tmpdir(), "desk-"));
  const server = await MortalServer.start(folder);
  try {
    const context = await browser.newContext({ baseURL: server.origin });
    const page = await context.newPage();
    await becomeAdmin(page, server);
    const project = await makeProject(page, { kinds: ["demonstrate"] }, Array(3).fill({ kind: "demonstrate", messages: SKY }));
    const field = page.getByRole("textbox", { name: `${t("label.roles.assistant")} 1` });
    await open(page, project);
    await field.fill("confirmed before the server died");
    await page.locator("#desk-submit").click();
    await expect.poll(async () => (await labels(page, project)).length).toBe(1);
    await expect(field).toHaveValue("");
    await field.fill("begun while it was alive");
    await server.kill();
    await field.pressSequentially(", finished while it was dead");
    await page.locator("#desk-submit").click();
    await expect(page.getByTestId("outbox-waiting")).toBeVisible();
    await page.close(); // and the tab dies too
    await server.rise();
    const again = await context.newPage();
    await again.goto(`${server.origin}/`); // not even the desk: what waits goes out from any page
    const kept = () => labels(again, project).then((all) => all.map((label) => label.payload?.messages[0]!.content).sort());
    await expect.poll(kept, { timeout: 20_000 * patience }).toEqual(["begun while it was alive, finished while it was dead", "confirmed before the server died"]);
    await open(again, project);
    await expect(again.getByRole("textbox", { name: `${t("label.roles.assistant")} 1` })).toHaveValue("");
    await context.close();
  } finally {
    await server.kill();
    rmSync(folder, { recursive: true, force: true });
  }
});

test("only labellers see the desk", async ({ page, admin, browser, server }) => {
  const root = await browser.newContext({ baseURL: server.origin, storageState: admin.storage });
  const { url } = (await (await root.request.post("/api/invites", { data: { role: "member" }, headers: { "x-csrf-token": admin.csrf } })).json()) as { url: string };
  await root.close();
  await page.goto("/login");
  await page.evaluate(async (body) => { await fetch("/api/links/redeem", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }); }, { token: url.split("#")[1], name: `plain${process.pid}`, password: PASSWORD });
  await page.goto("/label");
  await expect(page.getByText(textsOf("en")("label.notAllowed"))).toBeVisible();
  await expect(page.getByRole("link", { name: textsOf("en")("label.title"), exact: true })).toHaveCount(0);
});
