import type { Imported } from "./api";

/** Under the server's limit for one request, whatever the rows hold (every character may take four bytes, and JSON escapes). */
export const PART_CHARACTERS = 400_000;

/**
 * JSON lines cut at line ends into parts that a request may hold; a longer line is a part of its own, for the server to refuse.
 * Each begins with as many empty lines as came before it, so that the server's messages name the line of the file.
 */
export function cutIntoParts(text: string, limit = PART_CHARACTERS): string[] {
  const parts: string[] = [];
  let at = 0;
  let before = "";
  while (at < text.length) {
    let end = text.length;
    if (end - at > limit) {
      const near = text.lastIndexOf("\n", at + limit - 1);
      const after = text.indexOf("\n", at + limit);
      end = near >= at ? near + 1 : after < 0 ? text.length : after + 1;
    }
    const part = text.slice(at, end);
    parts.push(before + part);
    before += "\n".repeat(part.split("\n").length - 1);
    at = end;
  }
  return parts;
}

/** What all parts brought, together. */
export function sum(parts: Imported[]): Imported {
  const kinds: Record<string, number> = {};
  for (const part of parts) for (const [kind, count] of Object.entries(part.kinds)) kinds[kind] = (kinds[kind] ?? 0) + count;
  const add = (of: (part: Imported) => number) => parts.reduce((total, part) => total + of(part), 0);
  return { tasks: add((part) => part.tasks), labels: add((part) => part.labels), known: add((part) => part.known), surplus: add((part) => part.surplus), num_bad: add((part) => part.num_bad), kinds, bad: parts.flatMap((part) => part.bad).slice(0, 50) };
}
