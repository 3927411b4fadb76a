import { startTransition, useEffect, useRef, useState, type RefObject } from "react";

/** One observer for all: hundreds of them cost more than what they watch. */
const callbacks = new WeakMap<Element, () => void>();
let observer: IntersectionObserver | null = null;

function watch(element: Element, callback: () => void): () => void {
  observer ??= new IntersectionObserver(
    (entries) => {
      for (const entry of entries) if (entry.isIntersecting) callbacks.get(entry.target)?.();
    },
    { rootMargin: "800px 0px" },
  );
  callbacks.set(element, callback);
  observer.observe(element);
  return () => {
    callbacks.delete(element);
    observer?.unobserve(element);
  };
}

/**
 * Whether an element has come near the screen yet. What is far is drawn as plain text, and completed in a transition, which
 * the browser may interrupt, shortly before it is scrolled into view.
 */
export function useNear<T extends Element>(initially: boolean): [RefObject<T | null>, boolean] {
  const ref = useRef<T>(null);
  const [near, setNear] = useState(initially);
  useEffect(() => {
    if (near || !ref.current) return;
    return watch(ref.current, () => startTransition(() => setNear(true)));
  }, [near]);
  return [ref, near];
}
