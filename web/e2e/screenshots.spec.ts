/** The pictures of docs/screenshots, taken anew: `npm run screenshots`. Models answer by a script (tests/web/server.py); the labels are drawn (tests/web/labelled_workspace.py). */
import { call, makeProject, question, SHARED } from "./desk";
import { ask, expect, textsOf, type Language, type Page } from "./fixtures";
import { test } from "./labelled";

type Look = { language?: Language; width: number; height: number; dark?: boolean; phone?: boolean };
const ANSWERS = [
  `${SHARED}It is blue because of scattering. It is blue because of scattering. It is blue`,
  `${SHARED}Air scatters **short waves**, which we see as blue, far more than long ones. So blue light reaches us from every part of the sky, while red light goes straight on; that is also why sunsets are red.`,
  `${SHARED}The sky mirrors the sea, which is blue.`,
  `${SHARED}Molecules of air scatter blue light more than red:\n\n1. short waves scatter most,\n2. our eyes see violet badly,\n\nso the sky looks blue to us.`,
];

/** A page of the signed-in administrator that looks as told, and what stores it as a picture. */
async function pageOf(root: Page, { language = "en", width, height, dark = false, phone = false }: Look) {
  const context = await root.context().browser()!.newContext({
    baseURL: new URL(root.url()).origin, viewport: { width, height }, colorScheme: dark ? "dark" : "light", hasTouch: phone, isMobile: phone, reducedMotion: "reduce",
  });
  await context.addInitScript((chosen) => localStorage.setItem("language", chosen), language);
  await context.addCookies(await root.context().cookies());
  const page = await context.newPage();
  const store = async (name: string) => {
    await expect(page.locator(".spinner")).toHaveCount(0);
    await page.mouse.move(0, 0);
    await page.waitForTimeout(300); // colours that fade
    await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png` });
    await context.close();
  };
  return { page, t: textsOf(language), store };
}

test("the chat app", async ({ root }) => {
  test.slow();
  const { page, t, store } = await pageOf(root, { width: 1280, height: 800 });
  await page.goto("/");
  await ask(page, t, "What is 3457 * 43216?");
  await ask(page, t, "Explain why the sky is blue.");
  const address = page.url();
  await page.locator(".message-user").last().scrollIntoViewIfNeeded();
  await store("chat");

  const phone = await pageOf(root, { width: 360, height: 740, phone: true });
  await phone.page.goto(address);
  await expect(phone.page.locator(".message-assistant").last()).toContainText("Rayleigh");
  await phone.store("phone");

  const tokens = await pageOf(root, { width: 1280, height: 800 });
  await tokens.page.goto("/");
  await ask(tokens.page, t, "In two sentences: why is the sky blue?");
  await tokens.page.getByRole("button", { name: t("message.tokens") }).click();
  await tokens.page.locator(".token").nth(4).click();
  await expect(tokens.page.locator(".alternative")).toHaveCount(4);
  await tokens.store("tokens");

  const arena = await pageOf(root, { language: "zh-CN", width: 1280, height: 800 });
  await arena.page.goto("/arena");
  await arena.page.getByLabel(arena.t("arena.prompt")).fill("天空为什么是蓝色的？");
  await arena.page.keyboard.press("Enter");
  await expect(arena.page.getByRole("group", { name: arena.t("arena.vote") })).toBeVisible();
  await arena.store("arena-zh");
});

test("the labelling screens", async ({ root }) => {
  test.slow();
  const task = { kind: "rank", messages: question("Why is the sky blue, and sunsets red? Explain it to a child of ten."), answers: ANSWERS };
  const plain = await makeProject(root, { kinds: ["rank"] }, [task], "General English");
  const rated = await makeProject(root, { kinds: ["rank"], rate_first: true }, [task], "Rated first");
  const open = async (look: Look, project: string) => {
    const made = await pageOf(root, look);
    await made.page.goto(`/label/next?project=${project}&kind=rank`);
    await expect(made.page.getByTestId("sheet")).toBeVisible();
    await expect(made.page.locator(".desk-text .prose-plain")).toHaveCount(0);
    return made;
  };
  const rank = await open({ width: 1280, height: 800 }, plain);
  await rank.page.keyboard.type("dca=b");
  await expect(rank.page.locator("[data-status=saved]")).toBeVisible();
  await rank.store("label-rank");

  const phone = await open({ width: 360, height: 740, phone: true }, plain);
  await expect(phone.page.getByRole("textbox", { name: phone.t("label.typed.label") })).toHaveValue("D>C>A=B");
  await phone.store("label-phone");

  const both = await open({ language: "zh-CN", width: 1280, height: 800, dark: true }, rated);
  await both.page.keyboard.type("7261");
  await both.page.keyboard.press("Enter");
  await both.page.keyboard.type("bcad");
  await expect(both.page.locator("[data-status=saved]")).toBeVisible();
  await both.store("label-contradiction-zh");
});

test("the leads' screens", async ({ root }) => {
  test.slow();
  const project = (await call<{ id: string; name: string }[]>(root, "/api/desk/projects/all")).find((each) => each.name === "General helper")!.id;
  const take = async (name: string, path: string, look: Look) => {
    const made = await pageOf(root, look);
    await made.page.goto(`${path}?project=${project}`);
    await expect(made.page.getByRole("navigation", { name: made.t("lead.title") }).getByRole("link")).toHaveCount(8);
    await made.store(name);
  };
  await take("lead-overview", "/lead", { width: 1200, height: 1000 });
  const { tasks } = await call<{ tasks: { id: string }[] }>(root, `/api/desk/browse?project=${project}&kind=rank&text=bacterium`);
  await take("lead-task", `/lead/data/${tasks.at(-1)!.id}`, { width: 1200, height: 1240 });
  await take("lead-intake-zh", "/lead/intake", { language: "zh-CN", width: 1200, height: 900, dark: true });
  await take("lead-models", "/lead/models", { width: 1200, height: 900 });
  await take("lead-phone", "/lead", { width: 360, height: 740, phone: true });
});
