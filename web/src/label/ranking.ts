import { fromRanks, LETTERS, readTyped, type WeakOrder } from "./weak-order";

/**
 * The ranking screen as one machine without side effects. Typed order, digits and dragging are three ways into it, and what
 * they say ends in the same state. Everything here speaks of places on the screen; answers come in when a label is sent.
 */
export type Ranking = {
  /** Tier of each place; 1 is best, null is not placed yet. Gaps are allowed until every answer is placed. */
  readonly tiers: readonly (number | null)[];
  /** Places that were left out on purpose; only where a project allows it. */
  readonly left: readonly boolean[];
  /** Place that the next digit is for; `tiers.length` when there is nothing left to do but to send. */
  readonly focus: number;
  /** The next typed letter ties with the tier before it. */
  readonly tie: boolean;
  readonly noneAcceptable: boolean;
  readonly cannotJudge: boolean;
};

export type Target = { tier: number } | { gap: number } | "pool" | "left";

export type RankAction =
  /** A letter of the typed order: below all that is placed, or beside the last after `=`. */
  | { type: "letter"; place: number }
  | { type: "tie" }
  | { type: "back" }
  /** The whole typed order, from the field. */
  | { type: "text"; text: string }
  /** A digit for the focused place. */
  | { type: "digit"; tier: number }
  /** Dropped onto tier number n (counted from 0, best first), or into the gap before it. */
  | { type: "drop"; place: number; on: Target }
  /** Half a step up or down: out of a tie, or into the next tier. */
  | { type: "nudge"; place: number; by: -1 | 1 }
  | { type: "leave"; place: number }
  | { type: "focus"; place: number }
  | { type: "none" }
  | { type: "cannot" }
  | { type: "clear" };

export type Rules = { allowUnranked: boolean };

export function emptyRanking(k: number): Ranking {
  return { tiers: Array<null>(k).fill(null), left: Array<boolean>(k).fill(false), focus: 0, tie: false, noneAcceptable: false, cannotJudge: false };
}

/** The tiers that are in use, best first, each with its places. */
export function tiersOf({ tiers }: Ranking): { tier: number; places: number[] }[] {
  const used = [...new Set(tiers.filter((tier) => tier !== null))].sort((a, b) => a - b);
  return used.map((tier) => ({ tier, places: tiers.flatMap((each, place) => (each === tier ? [place] : [])) }));
}

export const isOpen = ({ tiers, left }: Ranking, place: number) => tiers[place] === null && !left[place];

/** Every answer is placed or left out, and at least one is placed. */
export function isComplete(state: Ranking): boolean {
  return state.tiers.some((tier) => tier !== null) && state.tiers.every((_, place) => !isOpen(state, place));
}

/** The order of the places, once it is complete. */
export function orderOf(state: Ranking): WeakOrder | null {
  return isComplete(state) ? fromRanks(state.tiers) : null;
}

/** What stands in the field of the typed order. */
export function textOf(state: Ranking): string {
  const placed = tiersOf(state).map(({ places }) => places.map((place) => LETTERS[place]).join("=")).join(">");
  return state.tie ? `${placed}=` : placed;
}

/** After every change: no gaps once complete, and the focus on what is to be done next. */
function settle(state: Ranking, after: number): Ranking {
  const k = state.tiers.length;
  if (isComplete(state)) return { ...state, tiers: fromRanks(state.tiers).ranks, focus: k, tie: false };
  const next = Array.from({ length: k }, (_, step) => (after + 1 + step) % k).find((place) => isOpen(state, place));
  return { ...state, focus: next ?? k };
}

function put(state: Ranking, place: number, tier: number | null, left = false): Ranking {
  return {
    ...state, cannotJudge: false, tie: false,
    tiers: state.tiers.map((each, at) => (at === place ? tier : each)),
    left: state.left.map((each, at) => (at === place ? left : each)),
  };
}

/** `place` alone in a tier before the n-th of the others; those below make room only where there is none. */
function insert(state: Ranking, place: number, n: number): Ranking {
  const without = put(state, place, null);
  const used = tiersOf(without).map((each) => each.tier);
  const above = n === 0 ? 0 : used[n - 1]!;
  const below = used[n] ?? Infinity;
  if (below - above > 1) return put(without, place, above + 1);
  const moved = { ...without, tiers: without.tiers.map((tier) => (tier !== null && tier >= below ? tier + 1 : tier)) };
  return put(moved, place, below);
}

/** Where a place lies among the tiers in use, and how many share its tier. */
function whereIs(state: Ranking, place: number): { at: number; alone: boolean } {
  const tiers = tiersOf(state);
  const at = tiers.findIndex((each) => each.places.includes(place));
  return { at, alone: at >= 0 && tiers[at]!.places.length === 1 };
}

function drop(state: Ranking, place: number, on: Target, rules: Rules): Ranking {
  if (on === "pool") return put(state, place, null);
  if (on === "left") return rules.allowUnranked ? put(state, place, null, true) : state;
  const { at, alone } = whereIs(state, place);
  if ("tier" in on) {
    const target = tiersOf(state)[on.tier];
    return target ? put(state, place, target.tier) : state;
  }
  // A gap is counted on the screen, where the dragged card still stands: alone in its tier, it takes that tier with it.
  const gap = alone && at >= 0 && on.gap > at ? on.gap - 1 : on.gap;
  const gaps = tiersOf(put(state, place, null)).length;
  return insert(state, place, Math.max(0, Math.min(gap, gaps)));
}

function nudge(state: Ranking, place: number, by: -1 | 1): Ranking {
  const tiers = tiersOf(state);
  const { at, alone } = whereIs(state, place);
  if (at < 0) return insert(state, place, by < 0 ? 0 : tiers.length);
  if (!alone) return insert(state, place, by < 0 ? at : at + 1);
  const neighbour = tiers[at + by];
  return neighbour ? put(state, place, neighbour.tier) : state;
}

function letter(state: Ranking, place: number): Ranking {
  const without = put(state, place, null);
  const last = tiersOf(without).at(-1)?.tier ?? 0;
  return put(without, place, state.tie && last > 0 ? last : last + 1);
}

function back(state: Ranking): Ranking {
  if (state.tie) return { ...state, tie: false };
  const last = tiersOf(state).at(-1)?.places.at(-1);
  if (last === undefined) return state;
  return { ...put(state, last, null), focus: last };
}

/** Throws OrderError when the text is no order. */
function typed(state: Ranking, text: string): Ranking {
  const tiers = readTyped(text, state.tiers.length);
  const tie = /[=＝]\s*$/.test(text);
  return settle({ ...state, tiers, left: state.left.map((left, place) => left && tiers[place] === null), tie, cannotJudge: false }, -1);
}

/** One step. An action that says nothing new gives back the same object. */
export function rank(state: Ranking, action: RankAction, rules: Rules): Ranking {
  const k = state.tiers.length;
  const known = (place: number) => place >= 0 && place < k;
  switch (action.type) {
    case "letter": return known(action.place) ? settle(letter(state, action.place), action.place) : state;
    case "tie": return state.tiers.some((tier) => tier !== null) && !isComplete(state) ? { ...state, tie: true } : state;
    case "back": return back(state);
    case "text": return typed(state, action.text);
    case "digit": return known(state.focus) && action.tier >= 1 && action.tier <= k ? settle(put(state, state.focus, action.tier), state.focus) : state;
    case "drop": return known(action.place) ? settle(drop(state, action.place, action.on, rules), action.place) : state;
    case "nudge": return known(action.place) ? { ...settle(nudge(state, action.place, action.by), action.place), focus: action.place } : state;
    case "leave": return rules.allowUnranked && known(action.place) ? settle(put(state, action.place, null, true), action.place) : state;
    case "focus": return state.focus === action.place ? state : { ...state, focus: Math.max(0, Math.min(action.place, k)) };
    case "none": return { ...state, noneAcceptable: !state.noneAcceptable, cannotJudge: false };
    case "cannot": return { ...state, cannotJudge: !state.cannotJudge, noneAcceptable: false };
    case "clear": return { ...emptyRanking(k), focus: 0 };
  }
}
