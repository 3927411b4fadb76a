import { Check, Copy, Image } from "lucide-react";
import "katex/dist/katex.min.css";
import { memo, useId, useMemo, useRef, useState, type ComponentProps, type MouseEvent, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import ReactMarkdown, { type Components, type ExtraProps } from "react-markdown";
import rehypeHighlight from "rehype-highlight";
import rehypeKatex from "rehype-katex";
import rehypeSanitize, { defaultSchema } from "rehype-sanitize";
import remarkGfm from "remark-gfm";
import remarkMath from "remark-math";
import { copyText } from "../lib/format";
import { normaliseMath } from "../lib/math";
import { blocksOf, type Block as BlockOfText } from "../lib/references";
import { warn } from "../ui/toast";
import { definitionsAsText, directions, htmlAsText, uniqueIds } from "./markdown-plugins";

/*
 * The text of a model is a stranger's text. Raw HTML is never read; what remains is sanitised before highlighting and maths
 * add their own elements. Images become links: a remote image tells its server who reads what.
 */
const schema = {
  ...defaultSchema,
  clobberPrefix: "", // raw HTML is not read, so ids come from footnotes only, and `uniqueIds` gives them their prefix
  attributes: { ...defaultSchema.attributes, code: [["className", /^language-./, "math-inline", "math-display"]] },
} as typeof defaultSchema;

function Code(props: ComponentProps<"pre"> & ExtraProps) {
  const { t } = useTranslation();
  const box = useRef<HTMLPreElement>(null);
  const [copied, setCopied] = useState(false);
  const code = props.node?.children[0];
  const classes = code?.type === "element" ? code.properties.className : undefined;
  const language = Array.isArray(classes) ? classes.map(String).find((name) => name.startsWith("language-"))?.slice(9) : undefined;
  async function copy() {
    if (!(await copyText(box.current?.innerText ?? ""))) return warn(t("common.copyFailed"));
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
      <pre ref={box} tabIndex={0} dir="ltr">{props.children}</pre>
    </div>
  );
}

/** To a footnote and back; the page's address stays what it is. */
function jump(event: MouseEvent, id: string) {
  event.preventDefault();
  const target = document.getElementById(id);
  target?.scrollIntoView({ block: "center" });
  target?.setAttribute("tabindex", "-1");
  target?.focus({ preventScroll: true });
}

/** Without an address, or with one of a kind that is not opened here (javascript:), it is no link and does not look like one. */
function Link({ href, children, title, id }: { href?: string | undefined; children?: ReactNode; title?: string | undefined; id?: string | undefined }) {
  if (!href) return <span title={title}>{children}</span>;
  if (href.startsWith("#")) return <a id={id} href={href} onClick={(event) => jump(event, href.slice(1))}>{children}</a>;
  return <a href={href} title={title} target="_blank" rel="noopener noreferrer nofollow">{children}</a>;
}

const components: Components = {
  pre: Code,
  a: ({ href, children, title, id }) => <Link {...{ href, title, id }}>{children}</Link>,
  img: ({ src, alt }) => <Link href={typeof src === "string" ? src : undefined}><Image size={15} aria-hidden /> {alt || (typeof src === "string" ? src : "")}</Link>,
  table: ({ children, dir }) => <div className="table-scroll" tabIndex={0} role="group"><table dir={dir}>{children}</table></div>,
  input: ({ checked }) => <span aria-hidden>{checked ? "☑ " : "☐ "}</span>,
};

const Block = memo(function Block({ text, own, referred, prefix }: BlockOfText & { referred: ReadonlySet<string>; prefix: string }) {
  const { t } = useTranslation();
  return (
    <ReactMarkdown
      remarkPlugins={[remarkGfm, [remarkMath, { singleDollarTextMath: false }], [definitionsAsText, { own, referred }], htmlAsText]}
      remarkRehypeOptions={{ clobberPrefix: "", footnoteLabel: t("message.footnotes"), footnoteBackLabel: t("message.footnoteBack") }}
      rehypePlugins={[[rehypeSanitize, schema], [uniqueIds, { prefix }], directions, [rehypeKatex, { throwOnError: false, trust: false, maxExpand: 200, maxSize: 20, output: "htmlAndMathml" }], [rehypeHighlight, { detect: false }]]}
      components={components}
    >
      {text}
    </ReactMarkdown>
  );
}, (before, after) => before.text === after.text && before.own === after.own && (!after.text.includes("]:") || [...after.referred].join("\n") === [...before.referred].join("\n")));

/** Markdown, block by block: while an answer streams in, only its last block is read and drawn again. */
export default function Markdown({ text }: { text: string }) {
  const prefix = `note-${useId()}-`; // ids of footnotes: many answers stand on one page
  const { blocks, referred } = useMemo(() => blocksOf(normaliseMath(text)), [text]);
  return <div className="prose">{blocks.map((block, index) => <Block key={index} {...block} referred={referred} prefix={prefix} />)}</div>;
}
