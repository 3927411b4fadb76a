import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { becomeAdmin, MortalServer } from "./desk";
import { patience, test as base, type Page } from "./fixtures";

const repository = new URL("../..", import.meta.url).pathname;
type Storage = Awaited<ReturnType<ReturnType<Page["context"]>["storageState"]>>;

/** A server over a workspace in which much has been labelled, and a page of its administrator, who signs in once: the server slows guessing. */
export const test = base.extend<{ root: Page }, { desk: MortalServer; signedIn: Storage }>({
  desk: [
    async ({}, use) => {
      const folder = mkdtempSync(join(tmpdir(), "lead-"));
      execFileSync(process.env.PYTHON ?? `${repository}.venv/bin/python`, [`${repository}tests/web/labelled_workspace.py`, folder], { env: { ...process.env, PYTHONPATH: `${repository}src:${repository}tests`, OMP_NUM_THREADS: "1" } });
      const server = await MortalServer.start(folder);
      await use(server);
      await server.kill();
      rmSync(folder, { recursive: true, force: true });
    },
    { scope: "worker", timeout: 300_000 * patience },
  ],
  signedIn: [
    async ({ desk, browser }, use) => {
      const page = await browser.newPage();
      await becomeAdmin(page, desk);
      const storage = await page.context().storageState();
      await page.close();
      await use(storage);
    },
    { scope: "worker" },
  ],
  baseURL: async ({ desk }, use) => use(desk.origin),
  root: async ({ page, signedIn }, use) => {
    await page.context().addCookies(signedIn.cookies);
    await page.goto("/lead");
    await use(page);
  },
});
