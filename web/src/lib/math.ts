/**
 * Mathematics as models write it, brought to the one notation that the renderer reads: `$$…$$`. A dollar sign that stands
 * for money stays a dollar sign. Code is never changed. Every search is linear in the length of the text.
 */
type Run = { at: number; length: number };

/** Rewrites `\( \)`, `\[ \]` and single dollars to double dollars, and escapes dollars that are no mathematics. */
export function normaliseMath(text: string): string {
  if (!/[$\\]/.test(text)) return text;
  const dollars = runsOf(text, /\\[\s\S]|\$+/g);
  const ticks = runsOf(text, /`+/g);
  const nextTick = sameLengthNext(ticks);
  const close = { paren: closer(text, "\\)"), square: closer(text, "\\]") };
  let out = "";
  let at = 0;
  let dollar = 0;
  let tick = 0;
  const special = /^ {0,3}(?:`{3,}|~{3,})[^\n]*|^(?: {4}|\t)[^\n]*|\\[\s\S]|\$+|`+/gm;
  for (let found = special.exec(text); found; found = special.exec(text)) {
    const start = found.index;
    const sign = found[0];
    while (dollar < dollars.length && dollars[dollar]!.at < start) dollar++;
    while (tick < ticks.length && ticks[tick]!.at < start) tick++;
    let end = start + sign.length;
    let put: string | null = null;
    const fence = atLineStart(text, start) ? /^ {0,3}(`{3,}|~{3,})/.exec(sign) : null;
    if (fence) end = endOfFence(text, end, fence[1]!);
    else if (/^(?: {4}|\t)/.test(sign)) { if (!isIndentedCode(text, start)) { special.lastIndex = start + (sign[0] === "\t" ? 1 : 4); continue; } }
    else if (sign[0] === "`") end = endOfSpan(text, ticks, nextTick, tick) ?? end;
    else if (sign === "\\(" || sign === "\\[") {
      const stop = sign === "\\(" ? close.paren(end, true) : close.square(end, false);
      if (stop >= 0 && text.slice(end, stop).trim()) {
        const inner = text.slice(end, stop).trim();
        end = stop + 2;
        put = sign === "\\(" ? inline(inner) : display(inner, text, start, end);
      }
    } else if (sign[0] === "$") {
      const matched = sign.length === 2 ? doubled(text, dollars, dollar) : sign.length === 1 ? single(text, dollars, dollar) : null;
      if (matched) { end = matched.end; put = matched.put; } else if (sign.length > 1) put = sign.replaceAll("$", "\\$");
    }
    if (put !== null) { out += text.slice(at, start) + put; at = end; }
    special.lastIndex = end;
  }
  return out + text.slice(at);
}

/** A dollar sign within mathematics would end it; TeX has a name for it. */
const inline = (inner: string) => `$$${inner.replace(/(?<!\\)\$/g, "\\$")}$$`;

/** Display mathematics needs its fences on lines of their own, at the indentation of the line it stands on. */
function display(inner: string, text: string, start: number, end: number): string {
  const lineStart = text.lastIndexOf("\n", start - 1) + 1;
  const before = text.slice(lineStart, start);
  const lineEnd = text.indexOf("\n", end);
  const after = text.slice(end, lineEnd < 0 ? undefined : lineEnd);
  const indent = /^[\s>]*/.exec(before)![0];
  const lines = inner.split("\n").map((line) => indent + line.trim()).filter((line) => line.trim());
  const fenced = `$$\n${lines.join("\n")}\n${indent}$$`;
  return `${before.trim() && !/^[\s>]*$/.test(before) ? `\n${indent}` : ""}${fenced}${after.trim() ? `\n${indent}` : ""}`;
}

/** `$$…$$`: on lines of its own it is display mathematics, within a line it is not. */
function doubled(text: string, dollars: Run[], at: number): { end: number; put: string } | null {
  const open = dollars[at]!;
  const closes = dollars.slice(at + 1, at + 20).find((run) => run.length === 2);
  if (!closes) return null;
  const inner = text.slice(open.at + 2, closes.at);
  if (!/[\p{L}\p{N}]/u.test(inner)) return null;
  const end = closes.at + 2;
  const lineStart = text.lastIndexOf("\n", open.at - 1) + 1;
  const lineEnd = text.indexOf("\n", end);
  const alone = !/[^\s>]/.test(text.slice(lineStart, open.at)) && !/\S/.test(text.slice(end, lineEnd < 0 ? undefined : lineEnd));
  if (alone) return { end, put: display(inner.trim(), text, open.at, end) };
  // Within a line, price ranges look alike: "$$ or $$".
  const formula = /[\\^_=+{}<>]/.test(inner) || !/\s/.test(inner);
  return formula && !/\$|\n[ \t]*\n/.test(inner) ? { end, put: `$$${inner.trim()}$$` } : null;
}

/**
 * `$…$` as Pandoc reads it, and more strictly: nothing but white space or punctuation outside of it, no white space inside
 * of its ends, and no number at its beginning, since "$5" is money. https://pandoc.org/MANUAL.html#extension-tex_math_dollars
 */
function single(text: string, dollars: Run[], at: number): { end: number; put: string } | null {
  const open = dollars[at]!;
  const close = dollars[at + 1];
  if (!close || close.length !== 1) return null;
  const inner = text.slice(open.at + 1, close.at);
  if (!inner || /^[\s\d.,]|\s$|\n[ \t]*\n|`/.test(inner)) return null;
  if (/[A-Za-z0-9]/.test(text[open.at - 1] ?? "") || /[A-Za-z0-9]/.test(text[close.at + 1] ?? "")) return null;
  return { end: close.at + 1, put: inline(inner) };
}

function runsOf(text: string, pattern: RegExp): Run[] {
  return [...text.matchAll(pattern)].filter((match) => match[0][0] !== "\\").map((match) => ({ at: match.index, length: match[0].length }));
}

/** For each run the next one of the same length: where a code span ends. */
function sameLengthNext(runs: Run[]): (number | undefined)[] {
  const last = new Map<number, number>();
  const next: (number | undefined)[] = Array(runs.length);
  for (let at = runs.length - 1; at >= 0; at--) {
    next[at] = last.get(runs[at]!.length);
    last.set(runs[at]!.length, at);
  }
  return next;
}

/** Finds the next closing sign; what was found is kept until it has been passed, so that all searches together are linear. */
function closer(text: string, sign: string): (from: number, sameLine: boolean) => number {
  let found = 0;
  let line = -1;
  return (from, sameLine) => {
    if (found >= 0 && found < from) found = text.indexOf(sign, from);
    if (found < 0) return -1;
    if (line < from) { line = text.indexOf("\n", from); if (line < 0) line = text.length; }
    return sameLine && found > line ? -1 : found;
  };
}

function endOfSpan(text: string, ticks: Run[], next: (number | undefined)[], at: number): number | null {
  const close = ticks[next[at] ?? -1];
  if (!close || /\n[ \t]*\n/.test(text.slice(ticks[at]!.at, close.at))) return null; // a code span ends with its paragraph
  return close.at + close.length;
}

const atLineStart = (text: string, at: number) => at === 0 || text[at - 1] === "\n";

function endOfFence(text: string, from: number, fence: string): number {
  const close = new RegExp(`^ {0,3}${fence[0] === "`" ? "`" : "~"}{${fence.length},}[ \\t]*$`, "gm");
  close.lastIndex = from;
  const found = close.exec(text);
  return found ? found.index + found[0].length : text.length;
}

/** Indented code stands after a blank line and in no list. */
function isIndentedCode(text: string, start: number): boolean {
  let end = start - 1; // the line feed before
  for (let lines = 0; end >= 0 && lines < 200; lines++) {
    const begin = text.lastIndexOf("\n", end - 1) + 1;
    const line = text.slice(begin, end);
    if (lines === 0 && line.trim() && !/^(?: {4}|\t)/.test(line)) return false;
    if (line.trim() && !/^(?: {2,}|\t)/.test(line)) return !/^ {0,3}(?:[-*+]|\d{1,9}[.)]|\[\^)/.test(line);
    end = begin - 1;
  }
  return true;
}
