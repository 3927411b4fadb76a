import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import en from "./en.json";
import zh from "./zh-CN.json";

function flat(tree: object, prefix = ""): Map<string, string> {
  const found = new Map<string, string>();
  for (const [key, value] of Object.entries(tree)) {
    if (typeof value === "string") found.set(prefix + key, value);
    else for (const [inner, text] of flat(value as object, `${prefix}${key}.`)) found.set(inner, text);
  }
  return found;
}

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? sources(path) : /\.tsx?$/.test(path) && !path.includes(".test.") ? [readFileSync(path, "utf8")] : [];
  });
}

const english = flat(en);
const chinese = flat(zh);
const code = sources(join(__dirname, "..")).join("\n");
// Tables from the server's words to texts: every quoted key in them is used.
const tables = ["../api/message.ts", "server-words.json"].map((name) => readFileSync(join(__dirname, name), "utf8")).join("\n");
const plain = new Set([...code.matchAll(/\bt\(\s*"([^"]+)"/g), ...tables.matchAll(/"([a-z]\w*(?:\.\w+)+)"/g)].map((match) => match[1]!));
// t(`reasons.${reason}`): every key that fits the pattern is used.
const patterns = [...code.matchAll(/\bt\(`([^`]+)`/g)].map((match) => new RegExp(`^${match[1]!.replace(/\./g, "\\.").replace(/\$\{[^}]+\}/g, "\\w+")}$`));
// The options of each call of t with a whole key, read to the closing brace; "..." where they hold a spread or come from elsewhere.
const calls = [...code.matchAll(/\bt\("([^"]+)"(, \{)?/g)].map((match) => {
  let depth = 1;
  let end = match.index + match[0].length;
  if (match[2]) for (; depth; end += 1) depth += code[end] === "{" ? 1 : code[end] === "}" ? -1 : 0;
  const options = match[2] ? code.slice(match.index + match[0].length, end - 1) : code[end] === "," ? "..." : "";
  return [match[1]!, options] as const;
});
const base = (key: string) => key.replace(/_(one|other)$/, "");

describe("texts of the app", () => {
  it("are the same keys in both languages", () => {
    expect([...chinese.keys()].sort()).toEqual([...english.keys()].sort());
  });

  it("are given every value that they show", () => {
    const missing = calls.filter(([, options]) => !options.includes("...")).flatMap(([key, options]) =>
      [...english].filter(([name]) => base(name) === key).flatMap(([name, text]) =>
        [...text.matchAll(/\{\{(\w+)\}\}/g)].filter(([, value]) => !new RegExp(`\\b${value}\\b`).test(options)).map(([, value]) => `${name}: ${value}`)));
    expect(calls.length).toBeGreaterThan(500);
    expect(missing).toEqual([]);
  });

  it("take the same values in both languages", () => {
    const values = (text: string) => [...text.matchAll(/\{\{(\w+)\}\}/g)].map((match) => match[1]).sort();
    for (const [key, text] of english) if (!key.includes("_one")) expect(values(chinese.get(key)!), key).toEqual(values(text));
  });

  it("has every key that the code asks for", () => {
    const known = new Set([...english.keys()].map(base));
    expect([...plain].filter((key) => !known.has(key))).toEqual([]);
    for (const pattern of patterns) expect([...known].some((key) => pattern.test(key)), String(pattern)).toBe(true);
  });

  it("has no key that the code does not ask for", () => {
    expect([...english.keys()].filter((key) => !plain.has(base(key)) && !patterns.some((pattern) => pattern.test(key)))).toEqual([]);
  });

  // One Chinese word for each term, wherever it stands; the words after it are those that pages used to differ by.
  const glossary: [english: RegExp, chinese: RegExp, never: RegExp][] = [
    [/\bguidelines?\b/i, /标注指南/, /标注准则/], [/\blabellers?\b(?!_)/i, /标注员|程序|个人|\{\{labeller\}\}/, /标注者/], [/\b(?:a|your|the) lead\b/i, /组长/, /负责人/], [/\badjudicat/i, /仲裁/, /裁决/],
    [/^(?:to )?compare\b/i, /比较/, /对比/], [/\breport this task\b|^Report$/i, /举报/, /报告/], [/\btaken back\b|\btake (?:it|that label) back\b/i, /收回/, /撤回/],
    [/\bwithdraw/i, /撤回|撤销/, /收回/], [/\bjobs?\b/i, /作业/, /任务队列/], [/\bprompts?\b/i, /提示词/, /提示(?!词|：)/],
  ];
  it("calls a thing by one Chinese name", () => {
    const differing = [...english].flatMap(([key, text]) => glossary.flatMap(([term, wanted, never]) => {
      const said = chinese.get(key)!;
      return term.test(text) && (!wanted.test(said) || never.test(said)) ? [`${key}: ${text} = ${said}`] : [];
    }));
    expect(differing).toEqual([]);
    expect([...chinese].filter(([, said]) => glossary.some(([, , never]) => /标注者|标注准则|负责人|裁决|任务队列/.test(said) && never.test(said))).map(([key]) => key)).toEqual([]);
  });

  it("leaves nothing untranslated", () => {
    const same = [...english].filter(([key, text]) => chinese.get(key) === text).map(([key]) => key);
    expect(same).toEqual([]);
  });
});
