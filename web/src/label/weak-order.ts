/** Rankings with ties as one value, `D>C>A=B`: the same as the server's `records/weak_order.py`, held to it by tests/vectors. */

export const LETTERS = "ABCDEFGHI";
export const MIN_K = 2;
export const MAX_K = 9;

/** `ranks[i]` is the level of answer i: 1 is best, levels have no gaps, null is unranked, which is not the same as tied. */
export type WeakOrder = { readonly ranks: readonly (number | null)[] };

export type OrderReason = "size" | "letters" | "twice" | "both" | "missing" | "empty" | "gap" | "numbers";

/** A text or a list that is no ranking; `reason` is for translation, `letters` are those it is about. */
export class OrderError extends Error {
  constructor(readonly reason: OrderReason, message: string, readonly letters = "") {
    super(message);
  }
}

// What Python's str.strip removes, which is not what String.trim does.
const EDGES = /^[\s\u001c-\u001f\u0085]+|[\s\u001c-\u001f\u0085]+$/g;
const strip = (text: string) => text.replace(/\ufeff/g, "\0").replace(EDGES, "");

function checkSize(k: number): void {
  if (!(k >= MIN_K && k <= MAX_K)) throw new OrderError("size", `a ranking has ${MIN_K} to ${MAX_K} answers, not ${k}`);
}

/** Place of an answer letter among K. */
export function letterIndex(name: string, k = MAX_K): number {
  const letter = strip(name);
  const index = /^[A-Ia-i]$/.test(letter) ? LETTERS.indexOf(letter.toUpperCase()) : -1;
  if (index >= 0 && index < k) return index;
  throw new OrderError("letters", `'${letter}' is not one of the letters ${LETTERS[0]}..${LETTERS[k - 1]}; write a ranking like D>C>A=B, best first`, letter);
}

export function weakOrder(ranks: readonly (number | null)[]): WeakOrder {
  checkSize(ranks.length);
  const levels = [...new Set(ranks.filter((rank) => rank !== null))].sort((a, b) => a - b);
  if (!levels.length) throw new OrderError("empty", "a ranking needs at least one ranked answer");
  if (levels.some((level, at) => level !== at + 1)) throw new OrderError("gap", `levels must be 1, 2, ... without a gap, not ${levels.join(", ")}`);
  return { ranks: [...ranks] };
}

/** From any numbers where lower is better: gaps are allowed, equal numbers tie, null is unranked. */
export function fromRanks(ranks: readonly (number | null)[]): WeakOrder {
  if (ranks.some((rank) => rank !== null && !Number.isFinite(rank))) throw new OrderError("numbers", "scores and ranks must be finite numbers");
  const levels = [...new Set(ranks.filter((rank) => rank !== null))].sort((a, b) => a - b);
  return weakOrder(ranks.map((rank) => (rank === null ? null : levels.indexOf(rank) + 1)));
}

/** Read `D>C>A=B` for K answers; `unranked` lists the letters left out on purpose. Blanks and small letters are allowed. */
export function parseOrder(text: string, k: number, unranked: readonly string[] = []): WeakOrder {
  checkSize(k);
  const ranks: (number | null)[] = Array<null>(k).fill(null);
  text.split(">").forEach((group, level) => {
    for (const name of group.split("=")) {
      const index = letterIndex(name, k);
      if (ranks[index] !== null) throw new OrderError("twice", `${LETTERS[index]} appears twice in '${text}'`, LETTERS[index]);
      ranks[index] = level + 1;
    }
  });
  const leftOut = new Set(unranked.map((name) => letterIndex(name, k)));
  const both = [...leftOut].filter((index) => ranks[index] !== null);
  if (both.length) throw new OrderError("both", `${LETTERS[Math.min(...both)]} is ranked and listed as unranked`, LETTERS[Math.min(...both)]);
  const missing = ranks.flatMap((rank, index) => (rank === null && !leftOut.has(index) ? [LETTERS[index]!] : []));
  if (missing.length) throw new OrderError("missing", `${missing.join(", ")} missing in '${text}'; rank it or list it in "unranked"`, missing.join(", "));
  return weakOrder(ranks);
}

/** Answers level by level, best first, ascending inside a level. */
export function levelsOf({ ranks }: WeakOrder): number[][] {
  const levels: number[][] = [];
  ranks.forEach((rank, index) => { if (rank !== null) (levels[rank - 1] ??= []).push(index); });
  return levels;
}

export function printOrder(order: WeakOrder): string {
  return levelsOf(order).map((level) => level.map((index) => LETTERS[index]).join("=")).join(">");
}

export function unrankedOf({ ranks }: WeakOrder): string[] {
  return ranks.flatMap((rank, index) => (rank === null ? [LETTERS[index]!] : []));
}

/** All pairs [i, j, relation] with i < j of ranked answers: 1 when i wins, -1 when j wins, 0 for a tie. */
export function pairsOf({ ranks }: WeakOrder): [number, number, number][] {
  const pairs: [number, number, number][] = [];
  ranks.forEach((a, i) => ranks.forEach((b, j) => { if (i < j && a !== null && b !== null) pairs.push([i, j, Math.sign(b - a)]); }));
  return pairs;
}

/**
 * An order as it is typed in a hurry: `d c a = b`, `dca=b`, `D > C > A = B`. Letters side by side or with a blank between them
 * mean "better than"; `=` (also the full-width one) ties. Answers that are not named are not placed: `ranks` may have nulls.
 */
export function readTyped(text: string, k: number): (number | null)[] {
  checkSize(k);
  const ranks: (number | null)[] = Array<null>(k).fill(null);
  let level = 0;
  let joint = ">";
  for (const sign of text.normalize("NFKC")) {
    if (/[\s>,]/.test(sign)) { if (sign === ">" && joint === "=") throw new OrderError("letters", `'=>' in '${text}'`, "=>"); continue; }
    if (sign === "=") {
      if (level === 0 || joint === "=") throw new OrderError("letters", `'=' without a letter before it in '${text}'`, "=");
      joint = "=";
      continue;
    }
    const index = letterIndex(sign, k);
    if (ranks[index] !== null) throw new OrderError("twice", `${LETTERS[index]} appears twice in '${text}'`, LETTERS[index]);
    if (joint === ">") level++;
    ranks[index] = level;
    joint = ">";
  }
  return ranks;
}
