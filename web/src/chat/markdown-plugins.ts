import { labelOf } from "../lib/references";

/** The parts of mdast and hast that these transforms read and write. */
export type Tree = {
  type: string; value?: string; children?: Tree[]; tagName?: string; properties?: Record<string, unknown>;
  identifier?: string; label?: string; position?: { start: { offset?: number }; end: { offset?: number } };
};

const map = (node: Tree, change: (node: Tree) => Tree | null): Tree =>
  node.children ? { ...node, children: node.children.flatMap((child) => change(child) ?? []).map((child) => map(child, change)) } : node;

/** HTML in an answer is shown as the text it is: never run, and never silently left out either. */
export function htmlAsText() {
  const visit = (node: Tree, inline: boolean): Tree => {
    if (node.type === "html") {
      const text = { type: "text", value: node.value ?? "" };
      return inline ? text : { type: "paragraph", children: [text] };
    }
    const within = inline || node.type === "paragraph" || node.type === "heading" || node.type === "tableCell";
    return node.children ? { ...node, children: node.children.map((child) => visit(child, within)) } : node;
  };
  return (tree: unknown) => visit(tree as Tree, false) as never;
}

/** Definitions that nothing refers to are shown as they were written; `own`: where the block's own text ends. */
export function definitionsAsText({ own, referred }: { own: number; referred: ReadonlySet<string> }) {
  return (tree: unknown, file: { toString(): string }) => {
    const source = String(file);
    const written = (node: Tree): Tree => ({ type: "paragraph", children: [{ type: "text", value: source.slice(node.position?.start.offset ?? 0, node.position?.end.offset ?? 0) }] });
    const change = (node: Tree): Tree => {
      if ((node.position?.start.offset ?? 0) >= own) return node;
      const unused = node.type === "definition" ? !referred.has(labelOf(node.label ?? node.identifier ?? ""))
        : node.type === "footnoteDefinition" && !referred.has(labelOf(`^${node.label ?? node.identifier ?? ""}`));
      return unused ? written(node) : node;
    };
    return map(tree as Tree, change) as never;
  };
}

const PROSE = new Set(["p", "li", "h1", "h2", "h3", "h4", "h5", "h6", "th", "td"]);
/** Their marks and columns stand on one side; `auto` would not look into parts that have a direction of their own. */
const AROUND = new Set(["ul", "ol", "blockquote", "table"]);
const RIGHT_TO_LEFT = /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}\p{Script=Adlam}]/u;

const textOf = (node: Tree): string => node.value ?? (node.children ?? []).map(textOf).join("");
const directionOf = (node: Tree) => (RIGHT_TO_LEFT.test(/\p{L}/u.exec(textOf(node))?.[0] ?? "") ? "rtl" : "ltr");

/** Each block of prose is set in the direction of its own first letter; code runs from left to right. */
export function directions() {
  const visit = (node: Tree): Tree => {
    const children = node.children?.map(visit);
    const name = node.tagName ?? "";
    const dir = name === "pre" ? "ltr" : PROSE.has(name) ? "auto" : AROUND.has(name) ? directionOf(node) : "";
    return { ...node, ...(children ? { children } : {}), ...(dir ? { properties: { ...node.properties, dir } } : {}) };
  };
  return (tree: unknown) => visit(tree as Tree) as never;
}

/** Ids and what points to them get a prefix, since many answers stand on one page. */
export function uniqueIds({ prefix }: { prefix: string }) {
  const within = (value: unknown) => (Array.isArray(value) ? value.map((each) => `${prefix}${String(each)}`) : `${prefix}${String(value)}`);
  const visit = (node: Tree): Tree => {
    const properties = { ...node.properties };
    for (const name of ["id", "ariaDescribedBy", "ariaLabelledBy"]) if (properties[name] !== undefined) properties[name] = within(properties[name]);
    if (typeof properties["href"] === "string" && properties["href"].startsWith("#")) properties["href"] = `#${prefix}${properties["href"].slice(1)}`;
    return { ...node, ...(node.properties ? { properties } : {}), ...(node.children ? { children: node.children.map(visit) } : {}) };
  };
  return (tree: unknown) => visit(tree as Tree) as never;
}
