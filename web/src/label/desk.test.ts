import fc from "fast-check";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../api/client";
import { IDLE_MS, rounded, startClock, tick, type Phase } from "./clock";
import { isPassing, Outbox, pauseAfter, type Parcel } from "./outbox";
import { openDB } from "idb";
import { BrowserStore, closeOpen, keepOpen, keyOf, MemoryStore, stillOpen } from "./store";
import { differences, lengthOf, scriptsOf, sharedPrefix } from "./texts";

const parcel = (uuid: string, at = 1, labeller = "me"): Parcel => ({ uuid, labeller, task: `task-${uuid}`, excerpt: uuid, body: { uuid }, at, state: "waiting", reason: "" });

describe("the outbox", () => {
  beforeEach(() => { vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }); return () => vi.useRealTimers(); });

  it("sends every parcel once, whatever is lost on the way there or back", async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.constantFrom("ok", "lost before", "lost after", "busy", "signed out"), { maxLength: 30 }), fc.integer({ min: 1, max: 6 }), async (faults, count) => {
      const store = new MemoryStore();
      const stored: string[] = []; // what the server has, by UUID: the second copy of a parcel changes nothing
      const left = [...faults];
      const send = async ({ uuid }: Parcel) => {
        const fault = left.shift() ?? "ok";
        if (fault === "lost before") throw new TypeError("Failed to fetch");
        if (fault === "busy") throw new ApiError(503, "busy", "");
        if (fault === "signed out") throw new ApiError(401, "who", "not_signed_in");
        if (!stored.includes(uuid)) stored.push(uuid);
        if (fault === "lost after") throw new TypeError("Failed to fetch");
      };
      let outbox = new Outbox(store, "me", send);
      for (let n = 0; n < count; n++) await outbox.add(parcel(`p${n}`, n));
      for (let round = 0; round < 40; round++) {
        await outbox.drain();
        if (round % 3 === 2) outbox = new Outbox(store, "me", send); // the tab was killed, and opened again
      }
      await outbox.drain();
      expect(stored).toEqual(Array.from({ length: count }, (_, n) => `p${n}`));
      expect(await store.all("outbox")).toEqual([]);
      expect(outbox.snapshot().parcels).toEqual([]);
    }), { numRuns: 60 });
  });

  it("keeps what is refused, and goes on with the rest", async () => {
    const store = new MemoryStore();
    const sent: string[] = [];
    let refuse = true;
    const outbox = new Outbox(store, "me", async ({ uuid }) => { if (uuid === "b" && refuse) throw new ApiError(409, "other content", "conflict"); sent.push(uuid); });
    for (const [at, uuid] of ["a", "b", "c"].entries()) await outbox.add(parcel(uuid, at));
    await outbox.drain();
    expect(sent).toEqual(["a", "c"]);
    expect(outbox.snapshot().parcels).toMatchObject([{ uuid: "b", state: "refused", reason: "other content" }]);
    await outbox.drain();
    expect(sent).toEqual(["a", "c"]);
    refuse = false;
    await outbox.retry("b");
    await outbox.drain();
    expect(sent).toEqual(["a", "c", "b"]);
  });

  it("sends by itself after a pause, and not what belongs to somebody else", async () => {
    const store = new MemoryStore();
    await store.put("outbox", keyOf("you", "y"), parcel("y", 0, "you"));
    const sent: string[] = [];
    let down = true;
    const outbox = new Outbox(store, "me", async ({ uuid }) => { if (down) throw new TypeError("Failed to fetch"); sent.push(uuid); });
    await outbox.add(parcel("x"));
    await outbox.drain();
    expect(outbox.snapshot()).toMatchObject({ failures: expect.any(Number), parcels: [{ uuid: "x" }] });
    down = false;
    await vi.advanceTimersByTimeAsync(120_000);
    expect(sent).toEqual(["x"]);
    expect((await store.all<Parcel>("outbox")).map((each) => each.uuid)).toEqual(["y"]);
  });

  it("gives back what is not sent yet, and says when it was", async () => {
    let down = true;
    const outbox = new Outbox(new MemoryStore(), "me", async () => { if (down) throw new TypeError("Failed to fetch"); });
    await outbox.add(parcel("x"));
    expect(await outbox.takeBack("x")).toBe(true);
    down = false;
    await outbox.add(parcel("y"));
    expect(await outbox.takeBack("y")).toBe(false);
  });

  it("waits longer each time, and tells passing failures from final ones", () => {
    expect([1, 2, 3, 20].map(pauseAfter)).toEqual([1000, 2000, 4000, 60_000]);
    expect([new TypeError("x"), new ApiError(502, "", ""), new ApiError(429, "", ""), new ApiError(401, "", ""), new ApiError(403, "", "csrf_failed")].map(isPassing)).toEqual([true, true, true, true, true]);
    expect([400, 403, 404, 409, 422].map((status) => isPassing(new ApiError(status, "", "")))).toEqual([false, false, false, false, false]);
  });
});

describe("the store", () => {
  it("knows the task that was open, for its labeller and for what was asked", async () => {
    const store = new BrowserStore("test-open");
    await keepOpen(store, { labeller: "me", task: { id: "1" }, search: "p rank" });
    await keepOpen(store, { labeller: "me", task: { id: "2" }, search: "p rank" });
    const again = new BrowserStore("test-open");
    expect(await stillOpen(again, "me", "p rank")).toEqual({ id: "2" });
    expect(await stillOpen(again, "me", "p ")).toBeNull();
    expect(await stillOpen(again, "you", "p rank")).toBeNull();
    await closeOpen(again, "me");
    expect(await stillOpen(store, "me", "p rank")).toBeNull();
  });

  it("takes over what an older version kept", async () => {
    const old = await openDB("test-old", 1, { upgrade: (db) => { db.createObjectStore("work"); db.createObjectStore("outbox"); } });
    await old.put("outbox", { uuid: "a" }, keyOf("me", "a"));
    old.close();
    const store = new BrowserStore("test-old");
    expect(await store.all("outbox")).toEqual([{ uuid: "a" }]);
    await keepOpen(store, { labeller: "me", task: { id: "1" }, search: "" });
    expect(await new BrowserStore("test-old").get("open", keyOf("me", "open"))).toMatchObject({ task: { id: "1" } });
  });

  it("is there again for the next tab", async () => {
    const first = new BrowserStore("test-a");
    await first.put("work", "me/1", { text: "你好" });
    const second = new BrowserStore("test-a");
    expect(await second.get("work", "me/1")).toEqual({ text: "你好" });
    await second.remove("work", "me/1");
    expect(await first.all("work")).toEqual([]);
    expect(await first.lasting()).toBe(true);
  });

  it("goes on in memory where the browser refuses", async () => {
    const refusing = { open: () => { throw new Error("no"); } };
    vi.stubGlobal("indexedDB", refusing);
    const store = new BrowserStore("test-b");
    await store.put("outbox", "me/1", parcel("1"));
    expect(await store.get("outbox", "me/1")).toEqual(parcel("1"));
    expect(await store.all("outbox")).toHaveLength(1);
    expect(await store.lasting()).toBe(false);
    vi.unstubAllGlobals();
  });
});

describe("the clock", () => {
  it("counts what lies between signs of life, by phase, and cuts idle time at a minute", () => {
    let clock = startClock({}, "read", 0);
    clock = tick(clock, 5_000, "read");
    clock = tick(clock, 7_500, "rank");
    clock = tick(clock, 7_500 + 10 * IDLE_MS, "rank"); // a cup of tea
    clock = tick(clock, 7_500 + 10 * IDLE_MS + 1_000, null); // the window lost the focus
    clock = tick(clock, 7_500 + 99 * IDLE_MS, "rank");
    expect(rounded(clock.seconds)).toEqual({ read: 7.5, rank: 61 });
  });

  it("never counts more than passed, nor less than nothing", () => {
    const steps = fc.array(fc.tuple(fc.integer({ min: -1000, max: 200_000 }), fc.constantFrom<Phase | null>("read", "rate", "rank", "edit", null)), { maxLength: 30 });
    fc.assert(fc.property(steps, (all) => {
      let now = 0;
      let clock = startClock({ edit: 2 }, "read", now);
      let passed = 0;
      for (const [step, phase] of all) { now += step; passed += Math.max(0, step); clock = tick(clock, now, phase); }
      const total = Object.values(clock.seconds).reduce((sum, value) => sum + value, 0);
      expect(total).toBeLessThanOrEqual(2 + passed / 1000 + 1e-6);
      expect(Object.values(clock.seconds).every((value) => value >= 0)).toBe(true);
    }));
  });
});

describe("texts side by side", () => {
  it("name their scripts and lengths", () => {
    expect(scriptsOf("Hello, world 123")).toEqual(["latin"]);
    expect(scriptsOf("天空为什么是蓝色的 blue")).toEqual(["han", "latin"]);
    expect(scriptsOf("🙂🙂🙂")).toEqual(["emoji"]);
    expect(scriptsOf("12, 34")).toEqual([]);
    expect(lengthOf("Two words.")).toEqual({ words: 2, signs: 10 });
    expect(lengthOf("😀").signs).toBe(1);
  });

  it("fold a beginning that all share, at the end of a sentence", () => {
    const same = "Photosynthesis is how plants turn light into sugar. It happens in leaves. ";
    expect(sharedPrefix([`${same}It is green.`, `${same}It is slow.`])).toBe(same.length);
    expect(sharedPrefix(["Yes. It is.", "Yes. It was."])).toBe(0);
    expect(sharedPrefix([same, same])).toBe(0);
    expect(sharedPrefix([`${same}`, `${same}More.`])).toBe("Photosynthesis is how plants turn light into sugar. ".length);
    expect(sharedPrefix(["光合作用是植物把光变成糖的过程，它发生在叶子里，需要水和二氧化碳，也需要叶绿素的帮助才行。一", "光合作用是植物把光变成糖的过程，它发生在叶子里，需要水和二氧化碳，也需要叶绿素的帮助才行。二"])).toBe(45);
  });

  it("join to the text again, with what is equal marked", () => {
    fc.assert(fc.property(fc.array(fc.constantFrom("a ", "b ", "c ", "蓝", "\n")), fc.array(fc.constantFrom("a ", "b ", "c ", "蓝", "\n")), (left, right) => {
      const [a, b] = [left.join(""), right.join("")];
      const pieces = differences(a, b);
      expect(pieces.map((piece) => piece.text).join("")).toBe(b);
      expect(pieces.every((piece, at) => at === 0 || piece.same !== pieces[at - 1]!.same)).toBe(true);
      if (a === b && b) expect(pieces).toEqual([{ text: b, same: true }]);
    }));
    expect(differences("the sky is blue today", "the sea is blue today").filter((piece) => !piece.same)).toEqual([{ text: "sea", same: false }]);
  });
});
