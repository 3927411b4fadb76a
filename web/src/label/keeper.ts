import { ApiError } from "../api/client";
import { keyOf, type Store } from "./store";

/** A draft as the server has it: `revision` counts its versions, 0 is none. */
export type Draft<T> = { revision: number; content: T | null; at: number };
export interface Remote<T> {
  get(): Promise<Draft<T>>;
  /** ApiError 409 when `revision`, on which the content is based, is not the server's newest. */
  put(revision: number, content: T): Promise<number>;
}
type Kept<T> = { labeller: string; task: string; content: T; revision: number; synced: boolean; at: number };
/** "saving": on this device, and on its way; "device": on this device, while the server cannot be reached. */
export type KeeperStatus = "saved" | "saving" | "device" | "conflict";
export type Opened<T> = { content: T | null; conflict: { mine: T; theirs: T; at: number } | null };

/** Milliseconds of quiet after which a change goes to the server. */
const QUIET_MS = 1000;
const RETRY_MS = 5000;
/** How long the server's copy is waited for when a task is opened; later it counts as unreachable. */
const PATIENCE_MS = 5000;

/**
 * Keeps the work on one task: on this device with every change, on the server when typing pauses. Two versions that grew
 * apart (two devices, two tabs) are both kept until somebody chooses.
 */
export class Keeper<T> {
  status: KeeperStatus = "saved";
  private revision = 0;
  private latest: T | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private sending: Promise<void> = Promise.resolve();
  private conflict: Opened<T>["conflict"] = null;
  private closed = false;

  constructor(
    private store: Store,
    private labeller: string,
    private task: string,
    private remote: Remote<T>,
    private onStatus: (status: KeeperStatus, conflict: Opened<T>["conflict"]) => void = () => {},
  ) {}

  private say(status: KeeperStatus): void {
    this.status = status;
    if (!this.closed) this.onStatus(status, this.conflict);
  }

  private keep(content: T, synced: boolean): Promise<void> {
    const kept: Kept<T> = { labeller: this.labeller, task: this.task, content, revision: this.revision, synced, at: Date.now() };
    return this.store.put("work", keyOf(this.labeller, this.task), kept);
  }

  /** The work so far, wherever it is newest. Without a network what is on this device is enough. */
  async open(): Promise<Opened<T>> {
    const mine = await this.store.get<Kept<T>>("work", keyOf(this.labeller, this.task));
    const patience = new Promise<null>((resolve) => setTimeout(() => resolve(null), PATIENCE_MS));
    const theirs = await Promise.race([this.remote.get().catch(() => null), patience]);
    const newer = theirs?.content != null && theirs.revision !== (mine?.revision ?? 0);
    if (!mine || (mine.synced && newer)) {
      this.revision = theirs?.revision ?? 0;
      this.latest = theirs?.content ?? null;
      return { content: this.latest, conflict: null };
    }
    this.latest = mine.content;
    this.revision = mine.revision;
    if (newer && JSON.stringify(theirs.content) !== JSON.stringify(mine.content)) this.clash(theirs);
    else {
      this.revision = theirs?.revision ?? mine.revision;
      if (!mine.synced) {
        this.say(theirs ? "saving" : "device");
        this.later();
      }
    }
    return { content: mine.content, conflict: this.conflict };
  }

  private clash(theirs: Draft<T>): void {
    this.revision = theirs.revision;
    this.conflict = { mine: this.latest!, theirs: theirs.content!, at: theirs.at };
    this.say("conflict");
  }

  /** Resolves when the change lies on this device. */
  async change(content: T): Promise<void> {
    if (this.closed) return;
    this.latest = content;
    if (this.conflict) this.conflict = { ...this.conflict, mine: content };
    else if (this.status !== "device") this.say("saving");
    const done = this.keep(content, false);
    this.later();
    await done;
  }

  /** One of two versions goes on; the other is overwritten on the server only now. */
  async choose(which: "mine" | "theirs"): Promise<T> {
    const content = this.conflict ? this.conflict[which] : this.latest!;
    this.conflict = null;
    await this.change(content);
    return content;
  }

  private later(ms = QUIET_MS): void {
    clearTimeout(this.timer);
    if (!this.closed) this.timer = setTimeout(() => void this.sync(), ms);
  }

  /** Bring the newest version to the server now, one request at a time. */
  sync(): Promise<void> {
    clearTimeout(this.timer);
    this.sending = this.sending.then(() => this.push());
    return this.sending;
  }

  private async push(): Promise<void> {
    const content = this.latest;
    if (content === null || this.conflict || this.closed || this.status === "saved") return;
    try {
      this.revision = await this.remote.put(this.revision, content);
      if (this.closed) return;
      if (this.latest === content) { await this.keep(content, true); this.say("saved"); } else { await this.keep(this.latest!, false); this.later(); }
    } catch (failure) {
      if (failure instanceof ApiError && failure.status === 409) {
        const theirs = await this.remote.get().catch(() => null);
        if (theirs && theirs.content === null) { this.revision = theirs.revision; this.later(); } else if (theirs) this.clash(theirs);
        else this.later(RETRY_MS);
      } else if (!(failure instanceof ApiError) || failure.status >= 500 || failure.status === 429) {
        this.say("device");
        this.later(RETRY_MS);
      }
    }
  }

  start(): void {
    this.closed = false;
  }

  /** The page goes: no more requests. What is on this device stays for the next time. */
  stop(): void {
    this.closed = true;
    clearTimeout(this.timer);
  }
}
