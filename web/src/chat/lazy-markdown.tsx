import { lazy, Suspense } from "react";
import { useNear } from "../lib/near";

const Markdown = lazy(() => import("./markdown"));

/** Markdown for what is near the screen, plain text for the rest and until the code that formats it has come. */
export function LazyMarkdown({ text, eager }: { text: string; eager: boolean }) {
  const [ref, near] = useNear<HTMLDivElement>(eager);
  const plain = <div className="prose-plain" dir="auto">{text}</div>;
  return <div ref={ref}>{near ? <Suspense fallback={plain}><Markdown text={text} /></Suspense> : plain}</div>;
}
