import { describe, expect, it } from "vitest";
import { perDay } from "./days";
import { diffLines, folded } from "./diff";
import { flat } from "./models";
import { cutIntoParts, partsOf } from "./parts-of-file";
import { changed } from "./project-form";
import { bytes, duration, languageName } from "./text";

const apply = (lines: ReturnType<typeof diffLines>, without: "added" | "removed") => lines.filter((line) => line.kind !== without).map((line) => line.text).join("\n");

describe("comparison of two versions", () => {
  it("rebuilds both texts, whatever they are", () => {
    let seed = 7;
    const random = (below: number) => (seed = (seed * 48271) % 2147483647) % below;
    const text = () => Array.from({ length: random(9) }, () => "abc"[random(3)]).join("\n");
    for (let round = 0; round < 300; round++) {
      const [before, after] = [text(), text()];
      const lines = diffLines(before, after);
      expect(apply(lines, "added")).toBe(before);
      expect(apply(lines, "removed")).toBe(after);
    }
  });

  it("changes as little as possible", () => {
    expect(diffLines("a\nb\nc\nd", "a\nc\nx\nd").map(({ kind, text }) => `${kind[0]}${text}`)).toEqual(["sa", "rb", "sc", "ax", "sd"]);
  });

  it("leaves out what is far from every change", () => {
    const before = Array.from({ length: 10 }, (_, at) => `line ${at}`).join("\n");
    expect(folded(diffLines(before, before.replace("line 5", "changed")), 1)).toEqual([
      4, { kind: "same", text: "line 4" }, { kind: "removed", text: "line 5" }, { kind: "added", text: "changed" }, { kind: "same", text: "line 6" }, 3,
    ]);
    expect(folded(diffLines("a\nb", "a\nb"))).toEqual([2]);
  });
});

describe("a file in parts", () => {
  const lines = (part: string) => part.split("\n").flatMap((text, at) => (text ? [[at + 1, text] as const] : []));

  it("loses no line, and each keeps its number", () => {
    const text = Array.from({ length: 40 }, (_, at) => (at % 7 === 3 ? "" : `row ${at} ${"x".repeat((at * 13) % 31)}`)).join("\n");
    for (const limit of [1, 10, 37, 100, 5000]) {
      const parts = cutIntoParts(text, limit);
      expect(parts.flatMap(lines)).toEqual(lines(text));
      if (limit >= 50) expect(parts.every((part) => part.trimStart().length <= limit)).toBe(true);
    }
    expect(cutIntoParts(text, 100).length).toBeGreaterThan(5);
    expect(cutIntoParts("")).toEqual([]);
  });
});

describe("figures", () => {
  it("fills days without traffic", () => {
    const now = Date.UTC(2026, 2, 1, 0, 30);
    expect(perDay([{ day: "2026-02-28", count: 2 }, { day: "2026-02-28", count: 3 }, { day: "2026-02-01", count: 9 }], 3, now)).toEqual([{ day: "2026-02-27", count: 0 }, { day: "2026-02-28", count: 5 }, { day: "2026-03-01", count: 0 }]);
  });

  it("lays nested figures flat", () => {
    expect(flat({ accuracy: { value: 0.73123, low: null }, pairs: 20, interval: [0.1, 0.25] })).toEqual([["accuracy · value", "0.731"], ["pairs", "20"], ["interval", "0.100 – 0.250"]]);
  });

  it("sends only settings that were changed", () => {
    expect(changed({ k: 4, languages: ["en"], overlap: { rank: 2 } }, { k: 4, languages: ["en", "zh-CN"], overlap: { rank: 3 } })).toEqual({ languages: ["en", "zh-CN"], overlap: { rank: 3 } });
  });

  it("says durations and sizes as people do", () => {
    const t = ((key: string, values: { value: unknown }) => `${String(values.value)} ${key.split(".").at(-1)}`) as never;
    expect([4.25, 61, 300, 7200].map((seconds) => duration(seconds, t))).toEqual(["4.3 seconds", "61 seconds", "5 minutes", "2.0 hours"]);
    expect([0, 999, 1500, 25_000_000].map(bytes)).toEqual(["0 B", "999 B", "1.5 kB", "25 MB"]);
  });
});

describe("a file as requests", () => {
  const bytes = (text: string) => new TextEncoder().encode(text);
  it("sends JSON lines as text and everything else as bytes", () => {
    expect(partsOf("x.jsonl", bytes('{"prompt": "q"}\n'))).toEqual([{ rows: '{"prompt": "q"}\n', content: "" }]);
    for (const [name, text] of [["x.csv", "prompt\nq\n"], ["x.json", '[{"prompt": "q"}]'], ["x.json", '{\n "data": []\n}']] as const)
      expect(partsOf(name, bytes(text))).toEqual([{ rows: "", content: btoa(text) }]);
  });
  it("leaves other encodings and large files to the server", () => {
    const western = new Uint8Array([...bytes('{"prompt": "sch'), 0xf6, ...bytes('n"}')]);
    expect(atob(partsOf("x.jsonl", western)?.[0]?.content ?? "").length).toBe(western.length);
    expect(partsOf("x.xlsx", new Uint8Array(2_000_000))).toBeNull();
  });
});

it("names Chinese by its characters, not by a country", () => {
  expect(["en", "zh-CN", "zh-TW", "no code"].map((code) => languageName(code, "en"))).toEqual(["English", "Simplified Chinese", "Traditional Chinese", "no code"]);
  expect(languageName("zh-CN", "zh-CN")).toBe("简体中文");
});
