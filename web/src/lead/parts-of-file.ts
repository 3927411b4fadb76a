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

/** The most bytes of a file that is sent whole: in base64 they fit into one request. */
export const WHOLE_BYTES = 1_400_000;

/**
 * A file as the bodies of requests: JSON lines in parts, and whole, as bytes, what can only be read whole (tables, workbooks, JSON
 * over many lines) or may not be UTF-8, which the server finds out. Null: it is too large to be sent whole.
 */
export function partsOf(name: string, bytes: Uint8Array): { rows: string; content: string }[] | null {
  const text = jsonLines(name, bytes);
  if (text !== null) return cutIntoParts(text).map((rows) => ({ rows, content: "" }));
  if (bytes.length > WHOLE_BYTES) return null;
  let binary = "";
  for (let at = 0; at < bytes.length; at += 32_768) binary += String.fromCharCode(...bytes.subarray(at, at + 32_768));
  return [{ rows: "", content: btoa(binary) }];
}

function jsonLines(name: string, bytes: Uint8Array): string | null {
  if (/\.(csv|tsv|xlsx|gz)$/i.test(name)) return null;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    const first: unknown = JSON.parse(text.split("\n").find((line) => line.trim()) ?? "");
    return typeof first === "string" || (typeof first === "object" && !Array.isArray(first)) ? text : null;
  } catch {
    return null;
  }
}

/** What all parts brought, together. */
export function sum(parts: Imported[]): Imported {
  const add = (of: (part: Imported) => number) => parts.reduce((total, part) => total + of(part), 0);
  const together = (of: (part: Imported) => Record<string, number>) => {
    const counts: Record<string, number> = {};
    for (const part of parts) for (const [name, count] of Object.entries(of(part))) counts[name] = (counts[name] ?? 0) + count;
    return counts;
  };
  const kinds = together((part) => part.kinds);
  const account = {
    format: [...new Set(parts.flatMap((part) => part.format.split(" and ")))].join(" and "), rows: add((part) => part.rows), used: add((part) => part.used),
    left_out: together((part) => part.left_out), lost_fields: together((part) => part.lost_fields), unused_marks: together((part) => part.unused_marks),
  };
  return { ...account, tasks: add((part) => part.tasks), labels: add((part) => part.labels), known: add((part) => part.known), surplus: add((part) => part.surplus), num_bad: add((part) => part.num_bad), kinds, bad: parts.flatMap((part) => part.bad).slice(0, 50) };
}
