import { defineConfig } from "@playwright/test";

const patience = Number(process.env.WEB_PATIENCE ?? 1);

export default defineConfig({
  testDir: "e2e",
  testIgnore: process.env.SCREENSHOTS ? [] : "screenshots.spec.ts", // pictures for the documentation, no tests
  workers: 2,
  fullyParallel: false,
  timeout: 45_000 * patience,
  expect: { timeout: 7_000 * patience },
  reporter: [["list"]],
  outputDir: "test-results",
  use: {
    trace: "off",
    serviceWorkers: "block", // offline.spec.ts lets it work; elsewhere each of many contexts would fill its cache
    viewport: { width: 1280, height: 800 },
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    },
  },
});
