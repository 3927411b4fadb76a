import { splitBlocks } from "./blocks";

/**
 * Links by reference and footnotes reach over the blocks that a text is cut into for drawing. Each block gets the
 * definitions that it refers to; a text with footnotes stays one block, since their numbers and their list belong together.
 */
export type Block = {
  /** What is drawn. */
  text: string;
  /** Characters of `text` that are the block's own; the rest are definitions from elsewhere. */
  own: number;
};

const LINK = /^[ \t>]*(\[([^\]^\n][^\]\n]*)\]:[ \t]*\S.*)$/;
const NOTE = /^[ \t>]*\[\^([^\]\s]+)\]:/;

/** How CommonMark compares labels. */
export const labelOf = (label: string) => label.trim().replace(/\s+/g, " ").toLowerCase();

/** The lines of a text outside of fenced code. */
function proseLines(text: string): string[] {
  let fence = "";
  return text.split("\n").filter((line) => {
    const marker = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1] ?? "";
    if (fence) {
      if (marker && marker[0] === fence[0] && marker.length >= fence.length && line.trim() === marker) fence = "";
      return false;
    }
    fence = marker;
    return !marker;
  });
}

/** What `text` says in brackets, without the labels of its definitions. */
function labelsIn(lines: readonly string[]): Set<string> {
  const found = new Set<string>();
  for (const line of lines) {
    const body = line.replace(LINK, "").replace(NOTE, "");
    for (const [, label] of body.matchAll(/\[([^[\]\n]+)\]/g)) found.add(labelOf(label!));
  }
  return found;
}

/** A text as blocks that can each be drawn alone, and the labels that something in it refers to. */
export function blocksOf(text: string): { blocks: Block[]; referred: ReadonlySet<string> } {
  const whole = [{ text, own: text.length }];
  if (!text.includes("]:")) return { blocks: splitBlocks(text).map((block) => ({ text: block, own: block.length })), referred: new Set() };
  const lines = proseLines(text);
  const referred = labelsIn(lines);
  if (lines.some((line) => referred.has(labelOf(`^${NOTE.exec(line)?.[1] ?? ""}`)))) return { blocks: whole, referred };
  const definitions = new Map<string, string>();
  for (const line of lines) {
    const [, definition = "", name = ""] = LINK.exec(line) ?? [];
    const label = labelOf(name);
    if (label && referred.has(label) && !definitions.has(label)) definitions.set(label, definition);
  }
  const blocks = splitBlocks(text).map((block) => {
    const wanted = definitions.size ? [...labelsIn(block.split("\n"))].flatMap((label) => definitions.get(label) ?? []) : [];
    return { text: wanted.length ? `${block}\n\n${wanted.join("\n")}` : block, own: block.length };
  });
  return { blocks, referred };
}
