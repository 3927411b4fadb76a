import type { Token } from "../api/chat";

type Piece = Pick<Token, "text" | "hex">;

/** Tokens that are drawn together: one, or those whose bytes together are a character. */
export type TokenGroup = {
  /** Place of the first of them in the answer. */
  first: number;
  tokens: readonly Token[];
  text: string;
  /** Of all of them: the product of their probabilities. */
  logprob: number;
  /** Bytes that are no character. */
  lone: boolean;
  /** The token that ended the answer; it is no part of the text. */
  end: boolean;
  /** What token `part` of the group would say with an alternative in its place, after those before it. */
  withAlternative: (part: number, alternative: Piece) => string;
};

const bytesOf = ({ text, hex }: Piece): number[] => (hex ? (hex.match(/../g) ?? []).map((pair) => parseInt(pair, 16)) : [...new TextEncoder().encode(text)]);

const named = (bytes: readonly number[]) => `<${bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ")}>`;

/** The text of bytes, if they are whole characters. */
function decoded(bytes: readonly number[]): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(new Uint8Array(bytes));
  } catch {
    return null;
  }
}

/** A token by itself: its text, or its bytes where they are a part of a character. */
export const spell = (piece: Piece): string => (piece.hex ? named(bytesOf(piece)) : piece.text);

/** No character has more bytes; longer runs hold bytes that are none. */
const MOST_TOKENS = 8;

/** Byte-level tokens cut characters into parts; the parts of a character are shown as that character. */
export function groupTokens(tokens: readonly Token[], content: string): TokenGroup[] {
  const groups: TokenGroup[] = [];
  for (let at = 0; at < tokens.length;) {
    const count = tokens[at]!.hex ? charactersEnd(tokens, at) : 1;
    groups.push(group(tokens, at, count ?? 1, count === null));
    at += count ?? 1;
  }
  const last = groups.at(-1);
  if (last && last.text && content && !content.endsWith(last.text) && /^<.*>$/s.test(last.text) && !last.lone) last.end = true;
  return groups;
}

/** How many tokens from `at` on are whole characters together; null for bytes that never become one. */
function charactersEnd(tokens: readonly Token[], at: number): number | null {
  const bytes: number[] = [];
  for (let count = 1; count <= MOST_TOKENS && at + count <= tokens.length; count++) {
    const token = tokens[at + count - 1]!;
    if (!token.hex) return null;
    bytes.push(...bytesOf(token));
    if (decoded(bytes) !== null) return count;
  }
  return null;
}

function group(all: readonly Token[], first: number, count: number, lone: boolean): TokenGroup {
  const tokens = all.slice(first, first + count);
  const before = (part: number) => tokens.slice(0, part).flatMap(bytesOf);
  return {
    first, tokens, lone, end: false,
    text: count > 1 ? (decoded(tokens.flatMap(bytesOf)) ?? "") : spell(tokens[0]!),
    logprob: tokens.reduce((sum, token) => sum + token.logprob, 0),
    withAlternative: (part, alternative) => decoded([...before(part), ...bytesOf(alternative)]) ?? spell(alternative),
  };
}
