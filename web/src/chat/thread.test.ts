import { QueryClient } from "@tanstack/react-query";
import { expect, it, vi } from "vitest";
import { loadConversation, type Conversation, type Message } from "../api/chat";
import { request } from "../api/client";
import { Thread } from "./thread";

vi.mock("../api/chat", async (original) => ({ ...(await original<object>()), loadConversation: vi.fn() }));
vi.mock("../api/client", async (original) => ({ ...(await original<object>()), request: vi.fn() }));

const good = { vote: "up", reasons: [], comment: "" } as const;
const message = (feedback: Message["feedback"]) => ({ id: "m", parent_id: null, role: "assistant", status: "complete", content: "hello", feedback }) as unknown as Message;
const conversation = (feedback: Message["feedback"]) => ({ id: "c", title: "", active_leaf: "m", messages: [message(feedback)] }) as unknown as Conversation;
const voteOf = (thread: Thread) => thread.get().thread.messages[0]!.feedback?.vote;

it("shows no answer from before a change, however long the server takes to hear of the change", async () => {
  let saved: Message["feedback"] = null;
  const reads: ((value: Conversation) => void)[] = [];
  vi.mocked(loadConversation).mockImplementation(() => new Promise((resolve) => reads.push(resolve)));
  const answer = async () => {
    await vi.waitFor(() => expect(reads).toHaveLength(1));
    reads.pop()!(conversation(saved));
  };
  const thread = new Thread("c", new QueryClient());
  const first = thread.load();
  await answer();
  await first;

  const again = thread.load();
  await vi.waitFor(() => expect(reads).toHaveLength(1));
  let tell = () => {};
  thread.patch("m", { feedback: { ...good, reasons: [] } }, new Promise<void>((resolve) => { tell = resolve; }));
  await answer(); // what was read before the thumb
  await new Promise((resolve) => setTimeout(resolve));
  expect(voteOf(thread)).toBe("up");
  expect(reads).toHaveLength(0); // not read again before the server knows
  saved = { ...good, reasons: [] };
  tell();
  await answer();
  await again;
  expect(voteOf(thread)).toBe("up");
});

it("is busy from the moment of asking, and free again when the server refuses or has answered", async () => {
  vi.mocked(loadConversation).mockResolvedValue(conversation(null));
  const thread = new Thread("c", new QueryClient());
  const seen: string[] = [];
  thread.subscribe(() => { const { asking, live } = thread.get(); seen.push(asking ? (live.size ? "both" : "asking") : live.size ? "live" : "free"); });
  vi.mocked(request).mockRejectedValueOnce(new Error("refused"));
  await expect(thread.ask("/api", {}, null)).rejects.toThrow("refused");
  expect(seen).toEqual(["asking", "free"]);

  seen.length = 0;
  const event = (name: string, data: object) => `event: ${name}\ndata: ${JSON.stringify({ message_id: "n", ...data })}\n\n`;
  vi.mocked(request).mockResolvedValueOnce(new Response(`${event("start", { parent_id: "m", model: "alpha" })}${event("done", { status: "complete" })}`));
  await thread.ask("/api", {}, null);
  await vi.waitFor(() => expect(seen.at(-1)).toBe("free"));
  expect(seen.filter((each, at) => each !== seen[at - 1])).toEqual(["asking", "both", "live", "free"]);
});
