/**
 * A conversation is a tree: editing a question or asking for another answer adds a sibling, nothing is overwritten. What is
 * read on the screen is the path from the root to the active leaf.
 */
export type Node = { id: string; parent_id: string | null };

export type Tree<T extends Node> = { byId: Map<string, T>; children: Map<string | null, T[]> };

export function treeOf<T extends Node>(messages: readonly T[]): Tree<T> {
  const byId = new Map(messages.map((message) => [message.id, message]));
  const children = new Map<string | null, T[]>();
  for (const message of messages) {
    const list = children.get(message.parent_id);
    if (list) list.push(message);
    else children.set(message.parent_id, [message]);
  }
  return { byId, children };
}

/** From the root to `leaf`; empty for an unknown leaf. A damaged tree with a cycle ends rather than hangs. */
export function pathTo<T extends Node>(tree: Tree<T>, leaf: string | null): T[] {
  const path: T[] = [];
  const seen = new Set<string>();
  for (let id = leaf; id !== null && !seen.has(id); ) {
    const message = tree.byId.get(id);
    if (!message) break;
    seen.add(id);
    path.push(message);
    id = message.parent_id;
  }
  return path.reverse();
}

export function siblingsOf<T extends Node>(tree: Tree<T>, message: T): T[] {
  return tree.children.get(message.parent_id) ?? [message];
}

/** The newest end below a message: where the reader lands when switching to its branch. */
export function leafBelow<T extends Node>(tree: Tree<T>, id: string): string {
  const seen = new Set<string>();
  for (let at = id; ; ) {
    const last = tree.children.get(at)?.at(-1);
    if (!last || seen.has(last.id)) return at;
    seen.add(last.id);
    at = last.id;
  }
}
