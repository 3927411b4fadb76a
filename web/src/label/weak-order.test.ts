import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fromRanks, levelsOf, letterIndex, OrderError, pairsOf, parseOrder, printOrder, readTyped, unrankedOf, weakOrder } from "./weak-order";

type Pair = [number, number, number];
type Vectors = {
  valid: { text: string; k: number; unranked: string[]; ranks: (number | null)[]; canonical: string; pairs: Pair[] }[];
  invalid: { text: string; k: number; unranked: string[]; error: string }[];
  typed: { text: string; k: number; ranks: (number | null)[] }[];
  mistyped: { text: string; k: number; error: string }[];
};
const vectors = JSON.parse(readFileSync(join(__dirname, "../../../tests/vectors/weak_orders.json"), "utf8")) as Vectors;

const orders = fc.array(fc.option(fc.integer({ min: -5, max: 5 })), { minLength: 2, maxLength: 9 })
  .filter((ranks) => ranks.some((each) => each !== null)).map(fromRanks);

describe("weak orders", () => {
  it.each(vectors.valid)("$text of $k", ({ text, k, unranked, ranks, canonical, pairs }) => {
    const order = parseOrder(text, k, unranked);
    expect(order.ranks).toEqual(ranks);
    expect(printOrder(order)).toBe(canonical);
    expect(pairsOf(order)).toEqual(pairs);
  });

  it.each(vectors.invalid)("not $text of $k", ({ text, k, unranked, error }) => {
    expect(() => parseOrder(text, k, unranked)).toThrow(OrderError);
    expect(() => parseOrder(text, k, unranked)).toThrow(error);
  });

  it.each(vectors.typed)("typed $text", ({ text, k, ranks }) => expect(readTyped(text, k)).toEqual(ranks));

  it.each(vectors.mistyped)("mistyped $text", ({ text, k, error }) => expect(() => readTyped(text, k)).toThrow(error));

  it("are printed and read back", () => {
    fc.assert(fc.property(orders, (order) => {
      expect(parseOrder(printOrder(order), order.ranks.length, unrankedOf(order))).toEqual(order);
      expect(readTyped(printOrder(order), order.ranks.length)).toEqual(order.ranks);
      expect(levelsOf(order).every((level) => level.length > 0)).toBe(true);
    }));
  });

  it("say the same of each pair as their levels do", () => {
    fc.assert(fc.property(orders, (order) => {
      const ranked = order.ranks.filter((each) => each !== null).length;
      expect(pairsOf(order)).toHaveLength((ranked * (ranked - 1)) / 2);
      for (const [i, j, relation] of pairsOf(order)) {
        const [a, b] = [order.ranks[i]!, order.ranks[j]!];
        expect(relation).toBe(a < b ? 1 : a > b ? -1 : 0);
      }
    }));
  });

  it("refuse what is no ranking", () => {
    expect(() => weakOrder([1, 3])).toThrow("without a gap");
    expect(() => weakOrder([null, null])).toThrow("at least one");
    expect(() => fromRanks([1, Number.NaN])).toThrow("finite");
    expect(() => letterIndex("J")).toThrow("letters");
    expect(() => letterIndex("C", 2)).toThrow("letters");
  });
});
