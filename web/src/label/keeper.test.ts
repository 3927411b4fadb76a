import { beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../api/client";
import { Keeper, type Draft, type Remote } from "./keeper";
import { MemoryStore } from "./store";
import { blankWork, contradictions, fitted, isBlank, labelOf, letterOf, missing, payloadOf, rate, reopened, toggleFlag, valueOf, type Task, type Work } from "./task";
import { rank } from "./ranking";

class Server implements Remote<string> {
  draft: Draft<string> = { revision: 0, content: null, at: 0 };
  down = false;
  puts = 0;
  async get() { if (this.down) throw new TypeError("Failed to fetch"); return { ...this.draft }; }
  async put(revision: number, content: string) {
    if (this.down) throw new TypeError("Failed to fetch");
    if (revision !== this.draft.revision) throw new ApiError(409, "newer", "conflict");
    this.puts++;
    this.draft = { revision: revision + 1, content, at: 1 };
    return this.draft.revision;
  }
}

describe("the keeper of drafts", () => {
  beforeEach(() => { vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }); return () => vi.useRealTimers(); });
  const quiet = () => vi.advanceTimersByTimeAsync(20_000);

  it("keeps every change on the device at once, and on the server when typing pauses", async () => {
    const [store, server] = [new MemoryStore(), new Server()];
    const keeper = new Keeper(store, "me", "t", server);
    expect(await keeper.open()).toEqual({ content: null, conflict: null });
    for (const text of ["a", "ab", "abc"]) await keeper.change(text);
    expect(await store.get("work", "me/t")).toMatchObject({ content: "abc", synced: false });
    expect(server.puts).toBe(0);
    await quiet();
    expect(server.draft).toMatchObject({ revision: 1, content: "abc" });
    expect([server.puts, keeper.status]).toEqual([1, "saved"]);
  });

  it("loses nothing when tab and network go, and brings it to the server later", async () => {
    const [store, server] = [new MemoryStore(), new Server()];
    const first = new Keeper(store, "me", "t", server);
    await first.open();
    await first.change("one");
    await quiet();
    server.down = true;
    await first.change("one two");
    await quiet();
    expect(first.status).toBe("device");
    first.stop(); // the tab was killed
    const second = new Keeper(store, "me", "t", server);
    expect(await second.open()).toEqual({ content: "one two", conflict: null });
    expect(second.status).toBe("device"); // not "saved": the server has the first word only
    await second.change("one two three");
    expect(second.status).toBe("device");
    server.down = false;
    await quiet();
    expect(server.draft).toMatchObject({ revision: 2, content: "one two three" });
  });

  it("brings what was kept before a reload to the server, without another change", async () => {
    const [store, server] = [new MemoryStore(), new Server()];
    const first = new Keeper(store, "me", "t", server);
    await first.open();
    server.down = true;
    await first.change("kept");
    expect(first.status).toBe("saving");
    await quiet();
    first.stop();
    server.down = false;
    const second = new Keeper(store, "me", "t", server);
    await second.open();
    expect(second.status).toBe("saving");
    await quiet();
    expect([server.draft.content, second.status]).toEqual(["kept", "saved"]);
  });

  it("knows its own work again when the tab dies between one change and the next", async () => {
    const [store, server] = [new MemoryStore(), new Server()];
    const first = new Keeper(store, "me", "t", server);
    await first.open();
    await first.change("one");
    const put = server.put.bind(server);
    server.put = async (revision, content) => { const made = await put(revision, content); await first.change("one two"); return made; }; // typed while the server was asked
    await first.sync();
    first.stop();
    expect(await new Keeper(store, "me", "t", server).open()).toEqual({ content: "one two", conflict: null });
  });

  it("takes what was done on another device when nothing is unsent here", async () => {
    const [store, server] = [new MemoryStore(), new Server()];
    const here = new Keeper(store, "me", "t", server);
    await here.open();
    await here.change("here");
    await quiet();
    here.stop();
    server.draft = { revision: 2, content: "there", at: 2 };
    expect(await new Keeper(store, "me", "t", server).open()).toEqual({ content: "there", conflict: null });
    expect(await new Keeper(new MemoryStore(), "me", "t", server).open()).toEqual({ content: "there", conflict: null });
  });

  it.each(["mine", "theirs"] as const)("shows both of two versions, and %s goes on", async (which) => {
    const [store, server] = [new MemoryStore(), new Server()];
    const seen: unknown[] = [];
    const keeper = new Keeper(store, "me", "t", server, (status, conflict) => seen.push([status, conflict]));
    await keeper.open();
    await keeper.change("base");
    await quiet();
    server.draft = { revision: 2, content: "theirs", at: 2 };
    await keeper.change("mine");
    await quiet();
    expect(seen.at(-1)).toEqual(["conflict", { mine: "mine", theirs: "theirs", at: 2 }]);
    expect(server.draft.content).toBe("theirs");
    await keeper.change("mine still");
    await quiet();
    expect(server.draft.content).toBe("theirs"); // nothing is overwritten before somebody chose
    expect(await keeper.choose(which)).toBe(which === "mine" ? "mine still" : "theirs");
    await quiet();
    expect(server.draft).toMatchObject({ revision: 3, content: which === "mine" ? "mine still" : "theirs" });
    expect(keeper.status).toBe("saved");
  });

  it("finds two versions at the start as well", async () => {
    const [store, server] = [new MemoryStore(), new Server()];
    const first = new Keeper(store, "me", "t", server);
    await first.open();
    server.down = true;
    await first.change("mine");
    first.stop();
    server.down = false;
    server.draft = { revision: 4, content: "theirs", at: 9 };
    const second = new Keeper(store, "me", "t", server);
    expect(await second.open()).toEqual({ content: "mine", conflict: { mine: "mine", theirs: "theirs", at: 9 } });
    await second.choose("mine");
    await quiet();
    expect(server.draft).toMatchObject({ revision: 5, content: "mine" });
  });
});

const task = (kind: Task["kind"], texts: string[], rateFirst = false): Task => ({
  id: "t", kind, project: "p", project_name: "P", language: "en", messages: [], answers: texts.map((text, place) => ({ letter: letterOf(place), text, finish_reason: "stop" })),
  guideline: "g", rate_first: rateFirst, allow_unranked: true, model_draft: false, style: "", too_fast_s: 2, expires_at: 0, others: [],
});
const typed = (work: Work, text: string): Work => ({ ...work, judged: { ...work.judged, ranking: rank(work.judged.ranking, { type: "text", text }, { allowUnranked: true }) } });

describe("labels", () => {
  it("say what was done, in letters of the screen", () => {
    const one = task("rank", ["w", "x", "y", "z"]);
    expect(valueOf(one, typed(blankWork(one), "d c a = b"))).toEqual({ ranking: "D>C>A=B", unranked: [], none_acceptable: false });
    const cannot = { ...blankWork(one), judged: { ...blankWork(one).judged, ranking: rank(typed(blankWork(one), "d c a = b").judged.ranking, { type: "cannot" }, { allowUnranked: false }) } };
    expect(valueOf(one, cannot)).toEqual({ cannot_judge: true });
    const two = task("compare", ["x", "y"]);
    expect(valueOf(two, { ...blankWork(two), judged: { ...blankWork(two).judged, verdict: "b" } })).toEqual({ verdict: "b" });
    expect(labelOf(one, { ...typed(blankWork(one), "dcab"), seconds: { read: 1.26, rank: 0.01 }, comment: " hm " }, "u")).toEqual({
      uuid: "u", task: "t", value: { ranking: "D>C>A>B", unranked: [], none_acceptable: false }, payload: { messages: [], comment: "hm" }, seconds: { read: 1.3 }, guideline: "g",
    });
  });

  it("carry ratings, and show where ratings and ranking contradict each other", () => {
    const one = task("rank", ["x", "y", "z"], true);
    let work = blankWork(one);
    [7, 3, 5].forEach((value, place) => { work = { ...work, judged: rate(work.judged, place, value) }; });
    work = typed({ ...work, judged: toggleFlag(toggleFlag(work.judged, 1, "hallucination"), 1, "fails_instruction") }, "b a c");
    expect(contradictions(work.judged)).toEqual([[0, 1], [2, 1]]);
    expect(valueOf(one, work)).toMatchObject({ ranking: "B>A>C", likert: [7, 3, 5], flags: [[], ["fails_instruction", "hallucination"], []] });
    expect(valueOf({ ...one, kind: "rate" }, work)).toEqual({ likert: [7, 3, 5], flags: [[], ["fails_instruction", "hallucination"], []] });
    expect(contradictions(typed(work, "a=b=c").judged)).toEqual([]);
  });

  it("say when something is missing", () => {
    const one = task("rank", ["x", "y"]);
    expect(missing(one, blankWork(one))).toBe("ranking");
    expect(missing(one, typed(blankWork(one), "a"))).toBe("ranking");
    expect(missing(one, typed(blankWork(one), "a=b"))).toBe("");
    expect(missing(task("rate", ["x"]), blankWork(task("rate", ["x"])))).toBe("rating");
    const write = task("demonstrate", []);
    const written: Work = { ...blankWork(write), messages: [{ role: "assistant", content: " Yes. " }] };
    expect([missing(write, blankWork(write)), missing(write, written)]).toEqual(["text", ""]);
    expect([payloadOf(write, written), valueOf(write, written)]).toEqual([{ messages: [{ role: "assistant", content: "Yes." }], comment: "" }, {}]);
    expect([isBlank(write, blankWork(write)), isBlank(write, written)]).toEqual([true, false]);
  });

  it("follow their answers when these are shown in another order", () => {
    const before = task("rank", ["x", "y", "y"], true);
    const work = typed({ ...blankWork(before), judged: rate(blankWork(before).judged, 0, 6) }, "c a b");
    const after = task("rank", ["y", "x", "y"], true);
    expect(valueOf(after, fitted(after, work)!)).toMatchObject({ ranking: "C>B>A" });
    expect(fitted(after, work)!.judged.likert).toEqual([null, 6, null]);
    expect(fitted(task("rank", ["x", "y", "other"]), work)).toBeNull();
    const pair: Work = { ...blankWork(task("compare", ["x", "y"])), judged: { ...blankWork(task("compare", ["x", "y"])).judged, verdict: "a" } };
    expect(fitted(task("compare", ["y", "x"]), pair)!.judged.verdict).toBe("b");
    expect(fitted(task("compare", ["x", "y"]), pair)!.judged.verdict).toBe("a");
  });

  it("become work again when they are taken back", () => {
    const one = task("rank", ["x", "y", "z"], true);
    let work = blankWork(one);
    [7, 3, 5].forEach((value, place) => { work = { ...work, judged: rate(work.judged, place, value) }; });
    work = { ...typed(work, "c = a"), step: "judge", comment: "because" };
    work = { ...work, judged: { ...work.judged, ranking: rank(work.judged.ranking, { type: "leave", place: 1 }, { allowUnranked: true }) } };
    expect(reopened(one, valueOf(one, work), payloadOf(one, work))).toEqual(work);
    const write = task("prompt", []);
    const written: Work = { ...blankWork(write), messages: [{ role: "user", content: "Why?" }] };
    expect(reopened(write, {}, payloadOf(write, written))).toEqual(written);
  });
});
