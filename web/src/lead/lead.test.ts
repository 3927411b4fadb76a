import { describe, expect, it } from "vitest";
import { diffLines, folded } from "./diff";

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
