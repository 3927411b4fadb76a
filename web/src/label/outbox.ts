import { ApiError } from "../api/client";
import { keyOf, type Store } from "./store";

/** A label on its way. It leaves the outbox when the server has confirmed it, or when its author throws it away, never otherwise. */
export type Parcel<Body = unknown> = {
  uuid: string;
  labeller: string;
  task: string;
  /** First words of the task, for the list of what waits. */
  excerpt: string;
  body: Body;
  /** Milliseconds since 1970. */
  at: number;
  /** "refused": the server said no for good; its author decides what becomes of it. */
  state: "waiting" | "refused";
  reason: string;
  /** What the refusal was, for a text in the reader's language. */
  refusal?: { status: number; code: string; param: string };
};

export type OutboxState = { parcels: readonly Parcel[]; sending: boolean; failures: number };

/** Whether trying again can help: the network, a busy or restarting server, a session that has to be renewed. */
export function isPassing(failure: unknown): boolean {
  if (!(failure instanceof ApiError)) return true;
  return failure.status >= 500 || [401, 408, 425, 429].includes(failure.status) || (failure.status === 403 && failure.code.includes("csrf"));
}

/** Milliseconds until the next try: 1 s, 2 s, 4 s, ... at most a minute. */
export const pauseAfter = (failures: number) => Math.min(60_000, 1000 * 2 ** Math.max(0, failures - 1));

/**
 * Sends parcels one after the other, oldest first, until each is confirmed. The server knows them by UUID, so that a parcel
 * whose confirmation was lost can be sent again. Two tabs may both send: that is the same case.
 */
export class Outbox {
  private listeners = new Set<() => void>();
  private state: OutboxState = { parcels: [], sending: false, failures: 0 };
  private running: Promise<void> | null = null;
  private again = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private store: Store,
    private labeller: string,
    private send: (parcel: Parcel) => Promise<unknown>,
    private onSent: (parcel: Parcel, answer: unknown) => void = () => {},
  ) {}

  subscribe = (listener: () => void) => { this.listeners.add(listener); return () => void this.listeners.delete(listener); };
  snapshot = () => this.state;

  private set(change: Partial<OutboxState>): void {
    this.state = { ...this.state, ...change };
    this.listeners.forEach((listener) => listener());
  }

  private async read(): Promise<Parcel[]> {
    const mine = (await this.store.all<Parcel>("outbox")).filter((parcel) => parcel.labeller === this.labeller).sort((a, b) => a.at - b.at);
    this.set({ parcels: mine });
    return mine;
  }

  /** Resolves when the parcel lies in the store: from then on it cannot be lost. Sending begins by itself. */
  async add(parcel: Parcel): Promise<void> {
    await this.store.put("outbox", keyOf(parcel.labeller, parcel.uuid), parcel);
    await this.read();
    void this.drain();
  }

  /** Take a parcel out again; false when it was sent meanwhile. */
  async takeBack(uuid: string): Promise<boolean> {
    if (this.running) await this.running;
    const held = (await this.read()).some((parcel) => parcel.uuid === uuid);
    if (held) await this.store.remove("outbox", keyOf(this.labeller, uuid));
    await this.read();
    return held;
  }

  /** Try a refused parcel once more. */
  async retry(uuid: string): Promise<void> {
    const parcel = (await this.read()).find((each) => each.uuid === uuid);
    if (parcel) await this.add({ ...parcel, state: "waiting", reason: "" });
  }

  /** Send what waits. Calls meanwhile are remembered, so that nothing added during a run waits for the next one. */
  drain = (): Promise<void> => {
    if (this.running) { this.again = true; return this.running; }
    clearTimeout(this.timer);
    this.running = this.run().finally(() => {
      this.running = null;
      this.set({ sending: false });
      if (this.again) { this.again = false; void this.drain(); }
    });
    return this.running;
  };

  stop(): void {
    clearTimeout(this.timer);
  }

  private async run(): Promise<void> {
    for (const parcel of (await this.read()).filter((each) => each.state === "waiting")) {
      this.set({ sending: true });
      try {
        const answer = await this.send(parcel);
        await this.store.remove("outbox", keyOf(parcel.labeller, parcel.uuid));
        this.set({ failures: 0 });
        this.onSent(parcel, answer);
      } catch (failure) {
        if (isPassing(failure)) {
          this.set({ failures: this.state.failures + 1 });
          clearTimeout(this.timer);
          this.timer = setTimeout(() => void this.drain(), pauseAfter(this.state.failures));
          break;
        }
        const { status, code, param, message } = failure as ApiError; // what is not the server's answer passes
        await this.store.put("outbox", keyOf(parcel.labeller, parcel.uuid), { ...parcel, state: "refused", reason: message, refusal: { status, code, param } });
      }
      await this.read();
    }
  }
}
