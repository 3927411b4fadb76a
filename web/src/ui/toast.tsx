import { X } from "lucide-react";
import { useSyncExternalStore } from "react";
import { useTranslation } from "react-i18next";

type Toast = { id: number; text: string; kind: "note" | "problem" };
let toasts: Toast[] = [];
let next = 0;
const listeners = new Set<() => void>();

function set(list: Toast[]) {
  toasts = list;
  listeners.forEach((listener) => listener());
}

const close = (id: number) => set(toasts.filter((each) => each.id !== id));

/** Milliseconds to read a text: 3.5 s and more for what is long. */
const readingMs = (text: string) => Math.max(3500, 60 * text.length);

function show(text: string, kind: Toast["kind"], ms: number): void {
  const id = next++;
  set([...toasts.filter((each) => each.text !== text), { id, text, kind }].slice(-4)); // the same news twice is news once
  setTimeout(() => close(id), ms);
}

/** Says in passing that something has been done; screen readers hear it too. */
export const toast = (text: string) => show(text, "note", readingMs(text));

/** Says what went wrong. It stays until it is closed, at most a minute. */
export const warn = (text: string) => show(text, "problem", 60_000);

export function Toasts() {
  const { t } = useTranslation();
  const list = useSyncExternalStore((listener) => { listeners.add(listener); return () => listeners.delete(listener); }, () => toasts);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {list.map((each) => (
        <div key={each.id} className={`toast ${each.kind}`}>
          <span dir="auto">{each.text}</span>
          <button type="button" aria-label={t("common.close")} onClick={() => close(each.id)}><X size={15} aria-hidden /></button>
        </div>
      ))}
    </div>
  );
}
