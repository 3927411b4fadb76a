import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import react from "@vitejs/plugin-react";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

// `npm run dev` beside `chatwright serve`: the page comes from Vite, everything else from the server.
const server = process.env.CHATWRIGHT_SERVER ?? "http://127.0.0.1:8000";

/** The list of what public/sw.js keeps: all code and styles (fonts of formulas are not worth it). */
const shell: Plugin = {
  name: "shell",
  generateBundle(_, bundle) {
    const names = Object.keys(bundle).filter((name) => /\.(js|css)$/.test(name)).sort().map((name) => `/${name}`);
    this.emitFile({ type: "asset", fileName: "shell.json", source: JSON.stringify(names) });
  },
};

/** Each file in the codings that serve/web.py gives out; what is small or compressed already stays as it is. */
const precompressed: Plugin = {
  name: "precompressed",
  writeBundle: { order: "post", sequential: true, handler({ dir = "" }) {
    for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !/\.(js|css|html|svg|json)$/.test(entry.name)) continue;
      const path = join(entry.parentPath, entry.name);
      const bytes = readFileSync(path);
      if (bytes.length < 1024) continue;
      writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }));
      writeFileSync(`${path}.br`, brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: bytes.length > 200_000 ? 9 : 11 } }));
    }
  } },
};

export default defineConfig({
  plugins: [react(), shell, precompressed],
  resolve: {
    // Its version for browsers reads KaTeX's output with DOMParser, and every style attribute in it breaks the page's policy.
    alias: { "hast-util-from-html-isomorphic": fileURLToPath(new URL("node_modules/hast-util-from-html-isomorphic/lib/index.js", import.meta.url)) },
  },
  build: { outDir: "../src/chatwright/serve/static", emptyOutDir: true, target: "es2022", manifest: true, assetsInlineLimit: 0, chunkSizeWarningLimit: 900 },
  server: { proxy: { "/api": server, "/v1": server } },
  test: {
    environment: "jsdom",
    include: ["src/**/*.test.{ts,tsx}"],
    setupFiles: ["src/test/setup.ts"],
    restoreMocks: true,
  },
});
