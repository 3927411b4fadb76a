import { expect, it } from "vitest";
import type { Token } from "../api/chat";
import { groupTokens, spell } from "./token-groups";

const piece = (text: string, hex = "", probability = 0.5, top: Token["top"] = []): Token => ({ id: 0, text, hex, logprob: Math.log(probability), top, outside_script: false });
const parts = (text: string) => [...new TextEncoder().encode(text)].map((byte) => piece("\ufffd", byte.toString(16).padStart(2, "0")));

it("puts the parts of a character together", () => {
  const groups = groupTokens([piece("a"), ...parts("舟"), piece("b"), ...parts("🍎🍎")], "a舟b🍎🍎");
  expect(groups.map((each) => each.text)).toEqual(["a", "舟", "b", "🍎", "🍎"]);
  expect(groups.map((each) => each.first)).toEqual([0, 1, 4, 5, 9]);
  expect(Math.exp(groups[1]!.logprob)).toBeCloseTo(0.125);
  expect(groups[1]!.tokens.map(spell)).toEqual(["<E8>", "<88>", "<9F>"]);
});
it("takes tokens that end one character and begin the next", () => {
  const tokens = [piece("\ufffd", "e888"), piece("\ufffd", "9fe8"), piece("\ufffd", "889f"), piece("!")];
  expect(groupTokens(tokens, "舟舟!").map((each) => each.text)).toEqual(["舟舟", "!"]);
});
it("names bytes that are no character", () => {
  const groups = groupTokens([piece("\ufffd", "e8"), piece("x"), piece("\ufffd", "ff"), piece("\ufffd", "e8")], "�x��");
  expect(groups.map((each) => [each.text, each.lone])).toEqual([["<E8>", true], ["x", false], ["<FF>", true], ["<E8>", true]]);
});
it("shows an alternative as the character that it would make", () => {
  const [group] = groupTokens(parts("舟"), "舟");
  expect(group!.withAlternative(2, { text: "\ufffd", hex: "9e" })).toBe("舞".length ? new TextDecoder().decode(new Uint8Array([0xe8, 0x88, 0x9e])) : "");
  expect(group!.withAlternative(0, { text: "A", hex: "" })).toBe("A");
  expect(group!.withAlternative(0, { text: "\ufffd", hex: "e9" })).toBe("<E9>");
});
it("tells the token that ends an answer from the same characters in a text", () => {
  expect(groupTokens([piece("hi"), piece("<|im_end|>")], "hi").map((each) => each.end)).toEqual([false, true]);
  expect(groupTokens([piece("hi"), piece("<b>")], "hi<b>").map((each) => each.end)).toEqual([false, false]);
});
