import { describe, expect, it } from "vitest";
import { heatOf, visible } from "../chat/tokens";
import { threadReducer, emptyThread } from "../chat/state";
import { keepEqual } from "../chat/thread";
import { leafBelow, pathTo, siblingsOf, treeOf } from "../chat/tree";
import { safeNext } from "../auth/login";
import { placeOf } from "../arena/board";
import { fill } from "../prompts/template";
import { splitBlocks } from "./blocks";
import { forgetDrafts, loadDraft, saveDraft } from "./drafts";
import { ageOf, formatPercent } from "./format";
import { isComposing, isSendKey, isTyping } from "./ime";
import { readEvents } from "./sse";

const key = (change: Partial<KeyboardEvent> = {}) => ({ key: "Enter", isComposing: false, keyCode: 13, timeStamp: 1e9, shiftKey: false, altKey: false, ctrlKey: false, metaKey: false, ...change });

describe("Enter and input methods", () => {
  it("sends on a plain Enter only", () => {
    expect(isSendKey(key())).toBe(true);
    expect(isSendKey(key({ shiftKey: true }))).toBe(false);
    expect(isSendKey(key({ key: "a" }))).toBe(false);
  });
  it("leaves Enter to the input method while it composes", () => {
    expect(isSendKey(key({ isComposing: true }))).toBe(false);
    expect(isSendKey(key({ keyCode: 229 }))).toBe(false);
  });
  it("ignores Enter within 30 ms after a composition, as Safari sends it", () => {
    const end = new CompositionEvent("compositionend");
    document.dispatchEvent(end);
    expect(isSendKey(key({ timeStamp: end.timeStamp + 12 }))).toBe(false);
    expect(isSendKey(key({ timeStamp: end.timeStamp + 31 }))).toBe(true);
    expect(isComposing(key({ key: "a", timeStamp: end.timeStamp + 5 }))).toBe(false);
  });
  it("knows where people type", () => {
    document.body.innerHTML = "<textarea></textarea><input type=checkbox><button></button>";
    expect([...document.body.children].map((each) => isTyping(each))).toEqual([true, false, false]);
  });
});

describe("markdown blocks", () => {
  const cases: [string, string[]][] = [
    ["a\n\nb", ["a\n", "b"]],
    ["```py\nx\n\ny\n```\n\nz", ["```py\nx\n\ny\n```\n", "z"]],
    ["````\n```\n\n```\n````\n\nz", ["````\n```\n\n```\n````\n", "z"]],
    ["```\nopen\n\nstill", ["```\nopen\n\nstill"]],
    ["$$\na\n\nb\n$$\n\nc", ["$$\na\n\nb\n$$\n", "c"]],
    ["1. a\n\n2. b\n\n   c\n\nd", ["1. a\n\n2. b\n\n   c\n", "d"]],
    ["\n\n", []],
  ];
  it.each(cases)("%j", (text, blocks) => expect(splitBlocks(text)).toEqual(blocks));
  it("keeps all finished blocks as they are while text is added", () => {
    const text = "# T\n\nFirst **bold** words.\n\n```js\nlet a;\n\nlet b;\n```\n\n- x\n- y\n\nEnd.";
    let before: string[] = [];
    for (let end = 1; end <= text.length; end++) {
      const now = splitBlocks(text.slice(0, end));
      const done = before.slice(0, -1);
      expect(now.slice(0, done.length).map((block) => block.trimEnd())).toEqual(done.map((block) => block.trimEnd()));
      before = now;
    }
  });
});

describe("the tree of a conversation", () => {
  const messages = [["1", null], ["2", "1"], ["3", "1"], ["4", "3"], ["5", "3"]].map(([id, parent_id]) => ({ id: id!, parent_id: parent_id! }));
  const tree = treeOf(messages);
  it("is read from the root to a leaf", () => {
    expect(pathTo(tree, "4").map((each) => each.id)).toEqual(["1", "3", "4"]);
    expect(pathTo(tree, "gone")).toEqual([]);
    expect(pathTo(treeOf([{ id: "a", parent_id: "b" }, { id: "b", parent_id: "a" }]), "a")).toHaveLength(2);
  });
  it("knows versions and the newest end of a branch", () => {
    expect(siblingsOf(tree, messages[1]!).map((each) => each.id)).toEqual(["2", "3"]);
    expect(leafBelow(tree, "3")).toBe("5");
    expect(leafBelow(tree, "2")).toBe("2");
  });
  it("takes events in without touching what did not change", () => {
    const message = (id: string) => ({ id, content: "", steps: [] }) as never;
    let thought = threadReducer(emptyThread, { type: "add", messages: [message("a")], leaf: "a" });
    for (const text of ["Let me ", "think."]) thought = threadReducer(thought, { type: "think", id: "a", text });
    thought = threadReducer(thought, { type: "load", messages: [message("a")], leaf: "a" });
    expect(thought.messages[0]).toMatchObject({ id: "a", reasoning: "Let me think." }); // the server's word does not take it away
    const state = threadReducer(emptyThread, { type: "add", messages: [message("a"), message("b")], leaf: "b" });
    const next = threadReducer(state, { type: "append", pieces: { b: "hi" } });
    expect(next.messages[0]).toBe(state.messages[0]);
    expect(next.messages[1]!.content).toBe("hi");
    expect(threadReducer(next, { type: "step", id: "b", step: { x: 1 } }).messages[1]!.steps).toEqual([{ x: 1 }]);
  });
});

describe("reading a conversation again", () => {
  it("keeps what has not changed as the same object", () => {
    const before = [{ id: "a", text: "1" }, { id: "b", text: "2" }];
    const after = keepEqual(before, [{ id: "a", text: "1" }, { id: "b", text: "3" }, { id: "c", text: "4" }]);
    expect(after[0]).toBe(before[0]);
    expect(after[1]).toEqual({ id: "b", text: "3" });
    expect(after).toHaveLength(3);
  });
});

describe("small things", () => {
  it("keeps drafts and forgets empty ones", async () => {
    await saveDraft("k", "写到一半");
    expect(await loadDraft("k")).toBe("写到一半");
    await saveDraft("k", "");
    expect(await loadDraft("k")).toBe("");
  });
  it("keeps drafts by account, and forgets those of the account that signs out", async () => {
    await saveDraft("user_a/new", "mine");
    await saveDraft("user_ab/new", "another's");
    await saveDraft("new", "of an earlier version");
    await forgetDrafts("user_a");
    expect(await Promise.all(["user_a/new", "user_ab/new", "new"].map(loadDraft))).toEqual(["", "another's", ""]);
  });
  it("leads nobody away after signing in", () => {
    expect(["/c/1", "//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", null, "/login"].map(safeNext)).toEqual(["/c/1", "/", "/", "/", "/", "/", "/"]);
  });
  it("shows percentages, heat and white space", () => {
    expect([0.9999, 0.5, 0.012, 0.0001, 0].map(formatPercent)).toEqual(["100 %", "50 %", "1.2 %", "< 0.1 %", "0 %"]);
    expect([0.95, 0.7, 0.4, 0.2, 0.01].map((p) => heatOf(Math.log(p)))).toEqual([0, 1, 2, 3, 4]);
    expect([" a", "\n", ""].map(visible)).toEqual(["␣a", "⏎", "∅"]);
  });
  it("sorts by the reader's days", () => {
    const noon = new Date(2026, 10, 26, 12).getTime();
    expect([1, 20, 5 * 24, 30 * 24].map((hours) => ageOf(noon / 1000 - hours * 3600, noon))).toEqual(["today", "yesterday", "week", "older"]);
  });
  it("fills templates for the preview", () => {
    expect(fill("Hi {{name}}, {{tone|kind}}!", { name: "<b>" })).toEqual([
      { text: "Hi ", variable: null }, { text: "<b>", variable: "name" }, { text: ", ", variable: null }, { text: "kind", variable: "tone" }, { text: "!", variable: null },
    ]);
  });
  it("places a rating between the bounds", () => expect([placeOf(0, 0, 10), placeOf(10, 0, 10), placeOf(3, 3, 3)]).toEqual([4, 96, 50]));
  it("reads events that arrive in pieces, cut within a character", async () => {
    const bytes = new TextEncoder().encode('id: 1\nevent: delta\ndata: {"text":"你好"}\n\n: ping\n\nevent: done\ndata: {}\n\n');
    const body = new ReadableStream<Uint8Array>({ start(controller) { for (const byte of bytes) controller.enqueue(new Uint8Array([byte])); controller.close(); } });
    const events = [];
    for await (const event of readEvents(body)) events.push([event.event, event.data]);
    expect(events).toEqual([["delta", { text: "你好" }], ["done", {}]]);
  });
});
