import { lazy, startTransition, Suspense, useEffect, useRef, useState } from "react";

const Markdown = lazy(() => import("./markdown"));

/**
 * Markdown for what is near the screen, plain text for the rest: a conversation of hundreds of messages opens at once, and
 * each text is formatted in a transition (which the browser may interrupt) just before it scrolls into view.
 */
export function LazyMarkdown({ text, eager }: { text: string; eager: boolean }) {
  const ref = useRef<HTMLDivElement>(null);
  const [near, setNear] = useState(eager);
  useEffect(() => {
    if (near || !ref.current) return;
    const observer = new IntersectionObserver(
      (entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        observer.disconnect();
        startTransition(() => setNear(true));
      },
      { rootMargin: "800px 0px" },
    );
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, [near]);
  const plain = <div className="prose-plain">{text}</div>;
  return <div ref={ref}>{near ? <Suspense fallback={plain}><Markdown text={text} /></Suspense> : plain}</div>;
}
