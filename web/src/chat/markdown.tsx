import { Check, Copy, Image } from "lucide-react";
import "katex/dist/katex.min.css";
import { memo, useMemo, useRef, useState, type ComponentProps, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import ReactMarkdown, { type Components, type ExtraProps } from "react-markdown";
import rehypeHighlight from "rehype-highlight";
import rehypeKatex from "rehype-katex";
import rehypeSanitize, { defaultSchema } from "rehype-sanitize";
import remarkGfm from "remark-gfm";
import remarkMath from "remark-math";
import { normaliseMath, splitBlocks } from "../lib/blocks";

/*
 * The text of a model is a stranger's text. Raw HTML is never read; what remains is sanitised before highlighting and maths
 * add their own elements. Images become links: a remote image tells its server who reads what.
 */
const schema = {
  ...defaultSchema,
  attributes: { ...defaultSchema.attributes, code: [["className", /^language-./, "math-inline", "math-display"]] },
} as typeof defaultSchema;

type Tree = { type: string; value?: string; children?: Tree[] };

/** HTML in an answer is shown as the text it is: never run, and never silently left out either. */
function htmlAsText() {
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

function Code(props: ComponentProps<"pre"> & ExtraProps) {
  const { t } = useTranslation();
  const box = useRef<HTMLPreElement>(null);
  const [copied, setCopied] = useState(false);
  const code = props.node?.children[0];
  const classes = code?.type === "element" ? code.properties.className : undefined;
  const language = Array.isArray(classes) ? classes.map(String).find((name) => name.startsWith("language-"))?.slice(9) : undefined;
  async function copy() {
    await navigator.clipboard.writeText(box.current?.innerText ?? "");
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  }
  return (
    <div className="code">
      <div className="code-head">
        <span>{language ?? ""}</span>
        <button type="button" className="code-copy" onClick={() => void copy()}>
          {copied ? <Check size={14} aria-hidden /> : <Copy size={14} aria-hidden />}{copied ? t("common.copied") : t("common.copy")}
        </button>
      </div>
      <pre ref={box} tabIndex={0}>{props.children}</pre>
    </div>
  );
}

function Link(props: { href?: string | undefined; children?: ReactNode }) {
  return <a href={props.href} target="_blank" rel="noopener noreferrer nofollow">{props.children}</a>;
}

const components: Components = {
  pre: Code,
  a: ({ href, children }) => <Link href={href}>{children}</Link>,
  img: ({ src, alt }) => <Link href={typeof src === "string" ? src : undefined}><Image size={15} aria-hidden /> {alt || (typeof src === "string" ? src : "")}</Link>,
  table: ({ children }) => <div className="table-scroll" tabIndex={0} role="group"><table>{children}</table></div>,
  input: ({ checked }) => <span aria-hidden>{checked ? "☑ " : "☐ "}</span>,
};

const Block = memo(function Block({ text }: { text: string }) {
  return (
    <ReactMarkdown
      remarkPlugins={[remarkGfm, remarkMath, htmlAsText]}
      rehypePlugins={[[rehypeSanitize, schema], [rehypeKatex, { throwOnError: false, trust: false, maxExpand: 200, maxSize: 20, output: "htmlAndMathml" }], [rehypeHighlight, { detect: false }]]}
      components={components}
    >
      {text}
    </ReactMarkdown>
  );
});

/** Markdown, block by block: while an answer streams in, only its last block is read and drawn again. */
export default function Markdown({ text }: { text: string }) {
  const blocks = useMemo(() => splitBlocks(normaliseMath(text)), [text]);
  return <div className="prose">{blocks.map((block, index) => <Block key={index} text={block} />)}</div>;
}
