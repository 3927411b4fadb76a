import type { QueryClient } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";
import { loadConversation, type Conversation, type Message } from "../api/chat";
import { ApiError, request } from "../api/client";
import { readEvents, type ServerEvent } from "../lib/sse";
import { keptThread } from "./threads";
import { emptyThread, threadReducer, type ThreadEvent, type ThreadState } from "./state";

export type ThreadSnapshot = {
  thread: ThreadState;
  conversation: Conversation | null;
  /** Ids of answers that are being written. */
  live: ReadonlySet<string>;
  phase: "loading" | "ready" | "missing" | "failed";
  /** Something was sent to the server, which has not begun to answer. */
  asking: boolean;
  /** The connection to the server broke while an answer was being written; it is being looked for again. */
  lost: boolean;
};

/** A message that is being sent, until the server's own copy is read. */
export type Question = { content: string; parent: string | null };

/** Messages that have not changed stay the same objects, so that nothing of them is drawn again. */
export function keepEqual<T extends { id: string }>(before: readonly T[], after: readonly T[]): T[] {
  const known = new Map(before.map((each) => [each.id, each]));
  return after.map((each) => {
    const old = known.get(each.id);
    return old && (old === each || JSON.stringify(old) === JSON.stringify(each)) ? old : each;
  });
}

const RETRY_MS = [500, 1000, 2000, 4000, 8000];

/**
 * One conversation, outside of React: an answer goes on being written while its reader looks at another page. The server
 * writes it whether anybody listens or not, so a lost connection is mended by following the answer again from its start.
 */
export class Thread {
  private snapshot: ThreadSnapshot = { thread: emptyThread, conversation: null, live: new Set(), asking: false, phase: "loading", lost: false };
  private readonly listeners = new Set<() => void>();
  private pending: Record<string, string> = {};
  private frame = 0;
  /** Models that answer side by side here, as long as the page is open; empty: the conversation's own. */
  chosen: string[] = [];
  /** Ends when the server has been told of all changes that are shown already; another promise after each of them. */
  private telling: Promise<unknown> = Promise.resolve();

  constructor(
    readonly id: string,
    private readonly queries: QueryClient,
  ) {}

  readonly subscribe = (listener: () => void) => {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  };

  readonly get = () => this.snapshot;

  private set(change: Partial<ThreadSnapshot>): void {
    this.snapshot = { ...this.snapshot, ...change };
    this.listeners.forEach((listener) => listener());
  }

  private dispatch(event: ThreadEvent): void {
    this.set({ thread: threadReducer(this.snapshot.thread, event) });
  }

  /** Begin with what the server said of a conversation that it has just made. */
  adopt(conversation: Conversation): void {
    this.set({ conversation, phase: "ready", thread: { messages: conversation.messages, leaf: conversation.active_leaf } });
  }

  async load(): Promise<void> {
    try {
      const conversation = await this.read();
      const streaming = conversation.messages.filter((message) => message.status === "streaming" && !this.snapshot.live.has(message.id));
      // What is being written is known better here than there: the server saves it now and then only.
      const mine = new Map(this.snapshot.thread.messages.filter((message) => this.snapshot.live.has(message.id)).map((message) => [message.id, message]));
      const messages = keepEqual(this.snapshot.thread.messages, conversation.messages.map((message) => mine.get(message.id) ?? message));
      // The branch on the screen is the reader's own choice, which the server may not have heard of yet.
      const { leaf } = this.snapshot.thread;
      const shown = leaf !== null && messages.some((message) => message.id === leaf) ? leaf : conversation.active_leaf;
      this.set({ conversation, phase: "ready", thread: { messages, leaf: shown } });
      for (const message of streaming) void this.follow(message.id);
    } catch (failure) {
      if (this.snapshot.phase === "ready") return; // what is on the screen stays
      this.set({ phase: failure instanceof ApiError && failure.status === 404 ? "missing" : "failed" });
    }
  }

  /** What the server has, with every change that is shown: an answer from before a change would undo it on the page. */
  private async read(): Promise<Conversation> {
    for (;;) {
      const { telling } = this;
      await telling;
      const conversation = await loadConversation(this.id);
      if (telling === this.telling) return conversation;
    }
  }

  /** Show a change at once, while `told` brings it to the server. */
  update(change: Partial<Conversation>, told?: Promise<unknown>): void {
    this.telling = Promise.allSettled([this.telling, told]);
    if (this.snapshot.conversation) this.set({ conversation: { ...this.snapshot.conversation, ...change } });
  }

  select(leaf: string): void {
    this.dispatch({ type: "select", leaf });
  }

  /** The same for a message. */
  patch(id: string, change: Partial<Message>, told?: Promise<unknown>): void {
    this.telling = Promise.allSettled([this.telling, told]);
    this.dispatch({ type: "patch", id, change });
  }

  /** Send something that is answered by a stream of events. Resolves once the server has taken it; throws what it refused. */
  async ask(path: string, body: object, question: Question | null, origin: Message["origin"] = "new"): Promise<void> {
    this.set({ asking: true });
    try {
      const response = await request(path, { method: "POST", body: JSON.stringify(body) });
      void this.consume(response, question, origin);
    } catch (failure) {
      this.set({ asking: false });
      throw failure;
    }
  }

  private async consume(response: Response, question: Question | null, origin: Message["origin"]): Promise<void> {
    const mine = new Set<string>();
    try {
      if (response.body) for await (const event of readEvents(response.body)) this.take(event, mine, question, origin);
    } catch {
      // The connection broke; what is unfinished is followed below.
    }
    this.flush();
    this.set({ asking: false });
    const unfinished = [...mine].filter((id) => this.snapshot.live.has(id));
    if (unfinished.length) for (const id of unfinished) void this.follow(id, true);
    else void this.settle();
  }

  private async follow(id: string, lost = false): Promise<void> {
    this.live(id, true);
    if (lost) this.set({ lost: true });
    for (let attempt = 0; this.snapshot.live.has(id); attempt++) {
      if (attempt || lost) await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]));
      try {
        const response = await request(`/api/generations/${id}`);
        this.set({ lost: false });
        if (response.body) for await (const event of readEvents(response.body)) this.take(event, new Set(), null, "new");
        this.flush();
      } catch (failure) {
        if (failure instanceof ApiError && failure.status < 500) {
          this.live(id, false); // it ended meanwhile; the whole conversation is read again
          this.set({ lost: false });
        } else this.set({ lost: true });
      }
    }
    void this.settle();
  }

  private live(id: string, on: boolean): void {
    const live = new Set(this.snapshot.live);
    if (on) live.add(id);
    else live.delete(id);
    this.set({ live });
  }

  private take(event: ServerEvent, mine: Set<string>, question: Question | null, origin: Message["origin"]): void {
    const data = event.data as { message_id: string; parent_id: string; model: string; model_version?: string; text?: string; message?: string; steps?: Message["steps"]; step?: Message["steps"][number]; dropped_messages?: number; status?: Message["status"]; finish_reason?: string };
    const id = data.message_id;
    switch (event.event) {
      case "start":
        this.begin(data, question, origin, mine.size === 0);
        mine.add(id);
        break;
      case "context":
        this.dispatch({ type: "patch", id, change: { dropped_messages: data.dropped_messages ?? 0, model_version: data.model_version ?? "" } });
        break;
      case "delta":
        this.pending[id] = (this.pending[id] ?? "") + (data.text ?? "");
        this.frame ||= requestAnimationFrame(() => this.flush());
        break;
      case "reasoning":
        if (data.text) this.dispatch({ type: "think", id, text: data.text });
        break;
      case "step":
        if (data.step) this.dispatch({ type: "step", id, step: data.step });
        break;
      case "error":
        this.dispatch({ type: "patch", id, change: { error: data.message ?? "" } });
        break;
      case "done":
        this.flush();
        this.dispatch({ type: "patch", id, change: { status: data.status ?? "complete", finish_reason: data.finish_reason ?? "" } });
        this.live(id, false);
    }
  }

  private begin(data: { message_id: string; parent_id: string; model: string; steps?: Message["steps"] }, question: Question | null, origin: Message["origin"], first: boolean): void {
    delete this.pending[data.message_id];
    const known = this.snapshot.thread.messages;
    const now = Date.now() / 1000;
    const blank = { model_version: "", status: "complete", origin: "new", settings: {}, steps: [], error: "", finish_reason: "", prompt_tokens: 0, completion_tokens: 0, dropped_messages: 0, has_tokens: false, feedback: null, created_at: now } as const;
    const added: Message[] = [];
    if (question && !known.some((message) => message.id === data.parent_id)) {
      added.push({ ...blank, id: data.parent_id, parent_id: question.parent, role: "user", content: question.content, model: "", settings: {}, steps: [] });
    }
    const before = known.find((message) => message.id === data.message_id);
    if (before) this.dispatch({ type: "patch", id: before.id, change: { content: "", reasoning: "", status: "streaming", steps: data.steps ?? [], error: "" } as Partial<Message> });
    else added.push({ ...blank, origin, id: data.message_id, parent_id: data.parent_id, role: "assistant", content: "", status: "streaming", model: data.model, settings: {}, steps: data.steps ?? [] });
    this.live(data.message_id, true);
    this.set({ asking: false });
    if (added.length) this.dispatch({ type: "add", messages: added, leaf: first ? data.message_id : null });
  }

  /** Pieces are shown once per frame, however fast they come. */
  private flush(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const pieces = this.pending;
    this.pending = {};
    if (Object.keys(pieces).length) this.dispatch({ type: "append", pieces });
  }

  /** When nothing is being written any more, the server's word counts. */
  private async settle(): Promise<void> {
    if (this.snapshot.live.size) return;
    await this.load();
    void this.queries.invalidateQueries({ queryKey: ["conversations"] });
  }

  async stop(): Promise<void> {
    await Promise.all([...this.snapshot.live].map((id) => request(`/api/generations/${id}`, { method: "DELETE" }).catch(() => undefined)));
  }
}

/** The one Thread of a conversation. */
export function threadOf(id: string, queries: QueryClient): Thread {
  return keptThread(id, () => new Thread(id, queries));
}

const nothing = { subscribe: () => () => undefined, get: (): ThreadSnapshot => blankSnapshot };
const blankSnapshot: ThreadSnapshot = { thread: emptyThread, conversation: null, live: new Set(), asking: false, phase: "ready", lost: false };

export function useThread(thread: Thread | null): ThreadSnapshot {
  const source = thread ?? nothing;
  return useSyncExternalStore(source.subscribe, source.get);
}
