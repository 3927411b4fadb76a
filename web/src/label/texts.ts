/** What a labeller is shown about a text: its length, its scripts, what it shares with the others and where it differs. */

const SCRIPTS = {
  han: /\p{Script=Han}/u, japanese: /[\p{Script=Hiragana}\p{Script=Katakana}]/u, hangul: /\p{Script=Hangul}/u, latin: /\p{Script=Latin}/u,
  cyrillic: /\p{Script=Cyrillic}/u, arabic: /\p{Script=Arabic}/u, devanagari: /\p{Script=Devanagari}/u, greek: /\p{Script=Greek}/u,
  emoji: /\p{Extended_Pictographic}/u, other: /\p{L}/u,
} as const;
export type Script = keyof typeof SCRIPTS;

/** Scripts that make up a tenth of the text's signs or more, the most frequent first. */
export function scriptsOf(text: string): Script[] {
  const counts = new Map<Script, number>();
  let all = 0;
  for (const sign of text) {
    const script = (Object.keys(SCRIPTS) as Script[]).find((name) => SCRIPTS[name].test(sign));
    if (!script) continue;
    all++;
    counts.set(script, (counts.get(script) ?? 0) + 1);
  }
  return [...counts].filter(([, count]) => count * 10 >= all).sort((a, b) => b[1] - a[1]).map(([script]) => script);
}

/** Words, as the language of the text parts them; what stands between them is kept, so that they join to the text. */
export function wordsOf(text: string): { text: string; word: boolean }[] {
  return [...new Intl.Segmenter(undefined, { granularity: "word" }).segment(text)].map((part) => ({ text: part.segment, word: part.isWordLike ?? false }));
}

export function lengthOf(text: string): { words: number; signs: number } {
  return { words: wordsOf(text).filter((part) => part.word).length, signs: [...text].length };
}

/** Below this many signs folding hides more than it saves. */
const WORTH_FOLDING = 40;

/**
 * How many UTF-16 units all texts begin with alike, up to the end of a sentence or a line, so that what follows can be read
 * by itself; 0 when that is too short to fold, or when less than a word would remain of one of them.
 */
export function sharedPrefix(texts: readonly string[]): number {
  const [first = "", ...rest] = texts;
  if (!rest.length) return 0;
  let length = Math.min(...texts.map((text) => text.length));
  for (const text of rest) {
    let at = 0;
    while (at < length && text[at] === first[at]) at++;
    length = at;
  }
  if (texts.every((text) => text === first)) return 0;
  const head = first.slice(0, length);
  const ends = [...head.matchAll(/\n+|[.!?…]["”’)]?(?=\s)\s+|[。！？…]["”’）]?/gu)].map((match) => match.index + match[0].length);
  const end = ends.filter((each) => texts.every((text) => text.length > each) && !insideFence(first.slice(0, each))).at(-1) ?? 0;
  return end >= WORTH_FOLDING ? end : 0;
}

const insideFence = (text: string) => ((text.match(/^ {0,3}```/gm)?.length ?? 0) % 2) === 1;

export type Piece = { text: string; same: boolean };

/** Cells of the table beyond which a comparison would be felt; longer texts are then shown as wholly different. */
const LARGEST = 4_000_000;

/** `text` in pieces: those it has in common with `reference`, word by word (longest common subsequence), and its own. */
export function differences(reference: string, text: string): Piece[] {
  const a = wordsOf(reference).map((part) => part.text);
  const b = wordsOf(text).map((part) => part.text);
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < Math.min(a.length, b.length) - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const same = [
    ...Array<boolean>(head).fill(true),
    ...common(a.slice(head, a.length - tail), b.slice(head, b.length - tail)),
    ...Array<boolean>(tail).fill(true),
  ];
  const pieces: Piece[] = [];
  b.forEach((word, at) => {
    const last = pieces.at(-1);
    if (last && last.same === same[at]) last.text += word;
    else pieces.push({ text: word, same: same[at]! });
  });
  return pieces;
}

/** Which words of b are in the longest common subsequence of a and b. */
function common(a: string[], b: string[]): boolean[] {
  const found = Array<boolean>(b.length).fill(false);
  const width = b.length + 1;
  if ((a.length + 1) * width > LARGEST) return found;
  const longest = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      longest[i * width + j] = a[i] === b[j] ? longest[(i + 1) * width + j + 1]! + 1 : Math.max(longest[(i + 1) * width + j]!, longest[i * width + j + 1]!);
    }
  }
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) { found[j] = true; i++; j++; }
    else if (longest[(i + 1) * width + j]! >= longest[i * width + j + 1]!) i++;
    else j++;
  }
  return found;
}
