/** A value with its past and its future: undo and redo for anything that is replaced and never changed in place. */
export type History<T> = { readonly past: readonly T[]; readonly now: T; readonly future: readonly T[] };

/** More steps than anybody takes back. */
const LONGEST = 500;

export const begin = <T>(now: T): History<T> => ({ past: [], now, future: [] });

/** A change that can be taken back. */
export function record<T>(history: History<T>, next: T): History<T> {
  return next === history.now ? history : { past: [...history.past.slice(-LONGEST), history.now], now: next, future: [] };
}

/** A change that is not worth a step, such as a moved focus. */
export function replace<T>(history: History<T>, next: T): History<T> {
  return next === history.now ? history : { ...history, now: next };
}

export function undo<T>(history: History<T>): History<T> {
  const before = history.past.at(-1);
  return before === undefined ? history : { past: history.past.slice(0, -1), now: before, future: [history.now, ...history.future] };
}

export function redo<T>(history: History<T>): History<T> {
  const [next, ...future] = history.future;
  return next === undefined ? history : { past: [...history.past, history.now], now: next, future };
}
