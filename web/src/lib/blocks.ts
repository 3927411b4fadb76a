/**
 * A markdown text as blocks that can be rendered and remembered one by one, so that a streaming answer redraws its last
 * block only. Cuts stand at blank lines outside fences, display maths, and lists (a list is one block: its numbering and
 * looseness depend on all of it).
 */
export function splitBlocks(text: string): string[] {
  const blocks: string[] = [];
  let current: string[] = [];
  let fence = "";
  let math = false;
  const flush = () => {
    if (current.some((line) => line.trim())) blocks.push(current.join("\n"));
    current = [];
  };
  for (const line of text.split("\n")) {
    const marker = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1];
    if (fence) {
      current.push(line);
      if (marker && marker[0] === fence[0] && marker.length >= fence.length && line.trim() === marker) fence = "";
      continue;
    }
    if (math) {
      current.push(line);
      if (MATH_FENCE.test(line)) math = false;
      continue;
    }
    if (marker) fence = marker;
    const start = line.trim();
    if (MATH_FENCE.test(line)) math = true;
    if (current.at(-1)?.trim() === "" && start && !continues(current, line)) flush();
    current.push(line);
  }
  flush();
  return blocks;
}

/** As normaliseMath (math.ts) writes display mathematics. */
const MATH_FENCE = /^[\s>]*\$\$\s*$/;
const LIST_ITEM = /^ {0,3}(?:[-*+]|\d{1,9}[.)])(?:\s|$)/;

/** Whether `line`, after a blank line, still belongs to the block above it. */
function continues(block: string[], line: string): boolean {
  const first = block.find((each) => each.trim()) ?? "";
  return /^(?: {2,}|\t)/.test(line) || (LIST_ITEM.test(first) && LIST_ITEM.test(line));
}
