import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { emptyRanking, isComplete, orderOf, rank, textOf, tiersOf, type RankAction, type Ranking } from "./ranking";
import { begin, record, redo, undo, type History } from "./undo";
import { fromRanks, levelsOf, LETTERS, printOrder, unrankedOf, type WeakOrder } from "./weak-order";

const rules = { allowUnranked: true };
const play = (k: number, actions: RankAction[], from = emptyRanking(k)) => actions.reduce((state, action) => rank(state, action, rules), from);

const orders = fc.array(fc.option(fc.integer({ min: 0, max: 8 }), { freq: 6 }), { minLength: 2, maxLength: 9 })
  .filter((ranks) => ranks.some((each) => each !== null)).map(fromRanks);
const shuffled = (length: number) => fc.shuffledSubarray([...Array(length).keys()], { minLength: length, maxLength: length });
const withOrder = orders.chain((order) => fc.tuple(fc.constant(order), shuffled(order.ranks.length)));

const leaves = (order: WeakOrder): RankAction[] => unrankedOf(order).map((name) => ({ type: "leave", place: LETTERS.indexOf(name) }));

const byField = (order: WeakOrder, blank: string): RankAction[] =>
  [...leaves(order), { type: "text", text: levelsOf(order).map((level) => level.map((place) => LETTERS[place]!.toLowerCase()).join(` = `)).join(blank) }];

const byKeys = (order: WeakOrder): RankAction[] =>
  [...leaves(order), ...levelsOf(order).flatMap((level) => level.flatMap((place, at): RankAction[] => (at ? [{ type: "tie" }, { type: "letter", place }] : [{ type: "letter", place }])))];

const byDigits = (order: WeakOrder, sequence: number[]): RankAction[] =>
  sequence.flatMap((place): RankAction[] => {
    const tier = order.ranks[place]!;
    return tier === null ? [{ type: "leave", place }] : [{ type: "focus", place }, { type: "digit", tier }];
  });

/** Drop the places one by one in any sequence, each where it belongs among those that lie there already. */
function byDrag(order: WeakOrder, sequence: number[]): RankAction[] {
  let state = emptyRanking(order.ranks.length);
  return sequence.map((place) => {
    const wanted = order.ranks[place]!;
    const placed = tiersOf(state).map(({ places }) => order.ranks[places[0]!]!);
    const same = placed.indexOf(wanted);
    const on = wanted === null ? "left" as const : same >= 0 ? { tier: same } : { gap: placed.filter((rank) => rank < wanted).length };
    const action: RankAction = { type: "drop", place, on };
    state = rank(state, action, rules);
    return action;
  });
}

const anyAction = (k: number): fc.Arbitrary<RankAction> => {
  const place = fc.integer({ min: 0, max: k - 1 });
  return fc.oneof(
    fc.record({ type: fc.constant("letter" as const), place }), fc.constant({ type: "tie" as const }), fc.constant({ type: "back" as const }),
    fc.record({ type: fc.constant("digit" as const), tier: fc.integer({ min: 1, max: 9 }) }), fc.record({ type: fc.constant("focus" as const), place }),
    fc.record({ type: fc.constant("drop" as const), place, on: fc.oneof(fc.constant("pool" as const), fc.constant("left" as const), fc.record({ tier: fc.nat(8) }), fc.record({ gap: fc.nat(9) })) }),
    fc.record({ type: fc.constant("nudge" as const), place, by: fc.constantFrom(-1 as const, 1 as const) }),
    fc.record({ type: fc.constant("leave" as const), place }), fc.constant({ type: "none" as const }), fc.constant({ type: "cannot" as const }), fc.constant({ type: "clear" as const }),
  );
};
const anyPlay = fc.integer({ min: 2, max: 9 }).chain((k) => fc.tuple(fc.constant(k), fc.array(anyAction(k), { maxLength: 40 })));

function isSound(state: Ranking): void {
  const k = state.tiers.length;
  expect(state.focus).toBeGreaterThanOrEqual(0);
  expect(state.focus).toBeLessThanOrEqual(k);
  state.tiers.forEach((tier, place) => {
    if (tier !== null) expect(Number.isInteger(tier) && tier >= 1 && !state.left[place]).toBe(true);
  });
  expect(state.noneAcceptable && state.cannotJudge).toBe(false);
  const order = orderOf(state);
  if (order) expect(order.ranks).toEqual(state.tiers); // no gaps once complete
}

describe("the ranking screen's machine", () => {
  it("comes to one state by typed order, key by key, digits and dragging", () => {
    fc.assert(fc.property(withOrder, fc.constantFrom(" ", ">", " > ", ""), ([order, sequence], blank) => {
      const k = order.ranks.length;
      const field = play(k, byField(order, blank));
      expect(orderOf(field)).toEqual(order);
      expect(textOf(field)).toBe(printOrder(order));
      expect(field.focus).toBe(k);
      expect(play(k, byKeys(order))).toEqual(field);
      expect(play(k, byDigits(order, sequence))).toEqual(field);
      expect(play(k, byDrag(order, sequence))).toEqual(field);
    }));
  });

  it("reaches every order from every other by half steps, the keyboard's way of dragging", () => {
    fc.assert(fc.property(orders, (order) => {
      const k = order.ranks.length;
      let state = play(k, byKeys(fromRanks(Array<number>(k).fill(1))));
      const full = fromRanks(order.ranks.map((each) => each ?? 9));
      // Level by level from the top: step a place up until it is where it belongs among those already settled.
      const settled: number[] = [];
      for (const level of levelsOf(full)) {
        for (const place of level) {
          const wanted = () => settled.every((other) => Math.sign(state.tiers[other]! - state.tiers[place]!) === Math.sign(full.ranks[other]! - full.ranks[place]!))
            && state.tiers.every((tier, other) => other === place || settled.includes(other) || tier! > state.tiers[place]!);
          for (let steps = 0; !wanted() && steps < 3 * k; steps++) state = rank(state, { type: "nudge", place, by: -1 }, rules);
          expect(wanted()).toBe(true);
          settled.push(place);
        }
      }
      expect(printOrder(orderOf(state)!)).toBe(printOrder(full));
    }));
  });

  it("is sound after anything that anybody does", () => {
    fc.assert(fc.property(anyPlay, ([k, actions]) => {
      let state = emptyRanking(k);
      for (const action of actions) {
        const before = JSON.stringify(state);
        const next = rank(state, action, rules);
        expect(JSON.stringify(state)).toBe(before); // pure
        isSound(next);
        state = next;
      }
    }));
  });

  it("undoes and redoes without a trace", () => {
    fc.assert(fc.property(anyPlay, ([k, actions]) => {
      let history: History<Ranking> = begin(emptyRanking(k));
      for (const action of actions) {
        const before = history;
        history = record(history, rank(history.now, action, rules));
        if (history !== before) {
          expect(undo(history).now).toBe(before.now);
          expect(redo(undo(history))).toEqual(history);
          if (before.past.length) expect(undo(redo(undo(history)))).toEqual(undo(history));
        }
      }
      const steps = history.past.length;
      let back = history;
      for (let step = 0; step < steps; step++) back = undo(back);
      expect(back.now).toEqual(emptyRanking(k));
      expect(undo(back)).toBe(back);
      for (let step = 0; step < steps; step++) back = redo(back);
      expect(back).toEqual(history);
    }));
  });

  it("ranks four answers with a tie in five keys by digits and six by letters, sending included", () => {
    const keys: RankAction[] = [3, 3, 2, 1].map((tier) => ({ type: "digit", tier }));
    expect(keys.length + 1).toBeLessThanOrEqual(8);
    expect(textOf(play(4, keys))).toBe("D>C>A=B");
    const letters: RankAction[] = [{ type: "letter", place: 3 }, { type: "letter", place: 2 }, { type: "letter", place: 0 }, { type: "tie" }, { type: "letter", place: 1 }];
    expect(letters.length + 1).toBeLessThanOrEqual(8);
    expect(play(4, letters)).toEqual(play(4, keys));
  });

  it("moves on to what is not placed, and back with Backspace", () => {
    let state = play(4, [{ type: "digit", tier: 2 }]);
    expect(state.focus).toBe(1);
    state = play(4, [{ type: "focus", place: 3 }, { type: "digit", tier: 1 }], state);
    expect(state.focus).toBe(1);
    expect(textOf(state)).toBe("D>A");
    state = play(4, [{ type: "back" }], state);
    expect([textOf(state), state.focus]).toEqual(["D", 0]);
    expect(play(4, [{ type: "back" }, { type: "back" }], state).tiers).toEqual([null, null, null, null]);
  });

  it("leaves out only where a project allows it", () => {
    const strict = { allowUnranked: false };
    const state = emptyRanking(3);
    expect(rank(state, { type: "leave", place: 1 }, strict)).toBe(state);
    expect(isComplete(rank(state, { type: "drop", place: 1, on: "left" }, strict))).toBe(false);
    const some = play(3, [{ type: "leave", place: 1 }, { type: "text", text: "c a" }]);
    expect(orderOf(some)!.ranks).toEqual([2, null, 1]);
    expect(orderOf(play(2, [{ type: "leave", place: 0 }, { type: "leave", place: 1 }]))).toBeNull();
  });

  it("holds none acceptable and cannot judge apart", () => {
    const none = play(2, [{ type: "none" }]);
    expect([none.noneAcceptable, none.cannotJudge]).toEqual([true, false]);
    const cannot = play(2, [{ type: "cannot" }], none);
    expect([cannot.noneAcceptable, cannot.cannotJudge]).toEqual([false, true]);
    expect(play(2, [{ type: "letter", place: 0 }], cannot).cannotJudge).toBe(false);
  });

  it("drags a card between tiers that stand as the screen shows them", () => {
    const abcd = play(4, [{ type: "text", text: "abcd" }]);
    const dropped = (place: number, on: { gap: number } | { tier: number }) => textOf(rank(abcd, { type: "drop", place, on }, rules));
    expect(dropped(0, { gap: 2 })).toBe("B>A>C>D");
    expect(dropped(0, { gap: 0 })).toBe("A>B>C>D");
    expect(dropped(0, { gap: 1 })).toBe("A>B>C>D");
    expect(dropped(3, { gap: 1 })).toBe("A>D>B>C");
    expect(dropped(0, { gap: 4 })).toBe("B>C>D>A");
    expect(dropped(0, { tier: 3 })).toBe("B>C>A=D");
  });
});
