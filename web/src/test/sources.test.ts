import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";

function files(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? files(path) : /\.tsx$/.test(path) && !path.includes(".test.") ? [path] : [];
  });
}

const sources = files(join(__dirname, "..")).map((path) => [path.split("/src/")[1]!, readFileSync(path, "utf8")] as const);
const tagsOf = (source: string, name: string) => [...source.matchAll(new RegExp(`<${name}\\s(?:[^>{]|\\{(?:[^{}]|\\{(?:[^{}]|\\{[^{}]*\\})*\\})*\\}|=>)*>`, "g"))].map((match) => match[0]);

it("sets every field for free text in the direction of what is typed", () => {
  const found = sources.flatMap(([path, source]) => tagsOf(source, "textarea").map((tag) => [path, tag] as const));
  expect(found.length).toBeGreaterThan(9);
  expect(found.filter(([, tag]) => !tag.includes("dir=\"auto\""))).toEqual([]);
});
it("shows the text of models by one component", () => {
  expect(sources.filter(([path, source]) => /from "react-markdown"/.test(source) && path !== "chat/markdown.tsx").map(([path]) => path)).toEqual([]);
  for (const path of ["chat/message.tsx", "label/answer.tsx", "arena/page.tsx", "share/page.tsx", "lead/task.tsx"]) {
    expect(sources.find(([each]) => each === path)![1], path).toContain("<LazyMarkdown");
  }
});
it("says that something was done only after it was", () => {
  for (const [path, source] of sources) {
    expect(source, path).not.toMatch(/toast\(messageOf/); // a failure is a warning, which stays until it is closed
    // A failure that was caught and shown, and then a word of success all the same.
    expect(source, path).not.toMatch(/await [^;]*\.catch\([^;]*;(?:(?!\n {2}\}|try \{)[\s\S]){0,200}\btoast\(/);
  }
});
it("has a title of its own on every page", () => {
  for (const path of ["chat/page.tsx", "label/home.tsx", "label/next.tsx", "label/history.tsx", "lead/page.tsx", "arena/page.tsx", "arena/board.tsx", "prompts/page.tsx", "settings/page.tsx", "share/page.tsx", "auth/shell.tsx"]) {
    expect(sources.find(([each]) => each === path)![1], path).toMatch(/useTitle\(/);
  }
});
