import type { Thread } from "./thread";

/** Conversations that are open or being answered. Apart from thread.ts, so that signing out can forget them all. */
const threads = new Map<string, Thread>();
const KEPT = 8;

export function keptThread(id: string, make: () => Thread): Thread {
  let thread = threads.get(id);
  if (!thread) {
    for (const [key, each] of threads) if (threads.size > KEPT && !each.get().live.size) threads.delete(key);
    thread = make();
    threads.set(id, thread);
  }
  return thread;
}

export function forgetThreads(): void {
  threads.clear();
}
