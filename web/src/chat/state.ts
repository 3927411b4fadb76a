import type { Message, Step } from "../api/chat";

/** What the page knows of one conversation's messages. The reducer is pure: everything that comes from the server goes through it. */
export type ThreadState = { messages: Message[]; leaf: string | null };

/** A message with its model's reasoning, which the server does not keep: it is there until the page is loaded again. */
export type ThoughtMessage = Message & { reasoning?: string };

export type ThreadEvent =
  | { type: "think"; id: string; text: string }
  | { type: "load"; messages: Message[]; leaf: string | null }
  | { type: "add"; messages: Message[]; leaf: string | null }
  | { type: "append"; pieces: Record<string, string> }
  | { type: "step"; id: string; step: Step }
  | { type: "replace"; message: Message }
  | { type: "patch"; id: string; change: Partial<Message> }
  | { type: "select"; leaf: string };

export const emptyThread: ThreadState = { messages: [], leaf: null };

function update(state: ThreadState, id: string, change: (message: Message) => Message): ThreadState {
  return { ...state, messages: state.messages.map((message) => (message.id === id ? change(message) : message)) };
}

export function threadReducer(state: ThreadState, event: ThreadEvent): ThreadState {
  switch (event.type) {
    case "load": {
      const thoughts = new Map(state.messages.map((message: ThoughtMessage) => [message.id, message.reasoning]));
      return { messages: event.messages.map((message) => (thoughts.get(message.id) ? { ...message, reasoning: thoughts.get(message.id) } : message)), leaf: event.leaf };
    }
    case "think":
      return update(state, event.id, (message: ThoughtMessage) => ({ ...message, reasoning: (message.reasoning ?? "") + event.text }));
    case "add": {
      const known = new Set(event.messages.map((message) => message.id));
      return { messages: [...state.messages.filter((message) => !known.has(message.id)), ...event.messages], leaf: event.leaf ?? state.leaf };
    }
    case "append":
      return { ...state, messages: state.messages.map((message) => (event.pieces[message.id] ? { ...message, content: message.content + event.pieces[message.id] } : message)) };
    case "step":
      return update(state, event.id, (message) => ({ ...message, steps: [...message.steps, event.step] }));
    case "replace":
      return update(state, event.message.id, () => event.message);
    case "patch":
      return update(state, event.id, (message) => ({ ...message, ...event.change }));
    case "select":
      return { ...state, leaf: event.leaf };
  }
}
