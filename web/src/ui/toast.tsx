import { useSyncExternalStore } from "react";

type Toast = { id: number; text: string };
let toasts: Toast[] = [];
let next = 0;
const listeners = new Set<() => void>();

function set(list: Toast[]) {
  toasts = list;
  listeners.forEach((listener) => listener());
}

/** Say something in passing; screen readers hear it too. */
export function toast(text: string, ms = 3500): void {
  const id = next++;
  set([...toasts, { id, text }]);
  setTimeout(() => set(toasts.filter((each) => each.id !== id)), ms);
}

export function Toasts() {
  const list = useSyncExternalStore((listener) => { listeners.add(listener); return () => listeners.delete(listener); }, () => toasts);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {list.map((each) => <div key={each.id} className="toast">{each.text}</div>)}
    </div>
  );
}
