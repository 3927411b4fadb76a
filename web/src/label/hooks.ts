import { useEffect, useLayoutEffect, useRef, type RefObject } from "react";
import { isComposing, isTyping } from "../lib/ime";
import { startClock, tick, type Clock, type Phase, type Seconds } from "./clock";

/** Single keys of a page, heard as soon as it is seen. They are dead in fields, while an input method composes, under dialogs, and with modifiers. */
export function useKeys(onKey: (key: string, event: KeyboardEvent) => boolean, enabled = true): void {
  const latest = useRef(onKey);
  latest.current = onKey;
  useLayoutEffect(() => {
    if (!enabled) return;
    const listen = (event: KeyboardEvent) => {
      if (event.defaultPrevented || isComposing(event) || isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open], [popover]:popover-open")) return;
      if (latest.current(event.key, event)) { event.preventDefault(); event.stopPropagation(); }
    };
    addEventListener("keydown", listen, true);
    return () => removeEventListener("keydown", listen, true);
  }, [enabled]);
}

/** Undo and redo; in a field they are the field's own. */
export function useUndoKeys(undo: () => void, redo: () => void): void {
  const latest = useRef({ undo, redo });
  latest.current = { undo, redo };
  useLayoutEffect(() => {
    const listen = (event: KeyboardEvent) => {
      if (!(event.ctrlKey || event.metaKey) || event.altKey || isComposing(event) || isTyping(event.target) || document.querySelector("dialog[open]")) return;
      const key = event.key.toLowerCase();
      const action = key === "z" ? (event.shiftKey ? "redo" : "undo") : key === "y" ? "redo" : null;
      if (!action) return;
      event.preventDefault();
      latest.current[action]();
    };
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  }, []);
}

const SIGNS = ["pointerdown", "pointermove", "keydown", "wheel", "scroll", "touchstart", "input"] as const;

/** Active seconds on one task. Signs of life are counted at most twice a second. */
export function useClock(phase: Phase, start: Seconds): RefObject<Clock> {
  const clock = useRef<Clock>(startClock(start, phase, performance.now()));
  const current = useRef(phase);
  useEffect(() => {
    current.current = phase;
    clock.current = tick(clock.current, performance.now(), looking() ? phase : null);
  }, [phase]);
  useEffect(() => {
    const alive = () => {
      const now = performance.now();
      if (clock.current.phase === null || now - clock.current.since > 500) clock.current = tick(clock.current, now, looking() ? current.current : null);
    };
    const turned = () => { clock.current = tick(clock.current, performance.now(), looking() ? current.current : null); };
    for (const sign of SIGNS) addEventListener(sign, alive, { capture: true, passive: true });
    for (const sign of ["focus", "blur"]) addEventListener(sign, turned);
    document.addEventListener("visibilitychange", turned);
    return () => {
      for (const sign of SIGNS) removeEventListener(sign, alive, { capture: true });
      for (const sign of ["focus", "blur"]) removeEventListener(sign, turned);
      document.removeEventListener("visibilitychange", turned);
    };
  }, []);
  return clock;
}

const looking = () => document.visibilityState === "visible" && document.hasFocus();

/** Seconds up to this moment. */
export function secondsOf(clock: RefObject<Clock>): Seconds {
  clock.current = tick(clock.current, performance.now(), clock.current.phase);
  return clock.current.seconds;
}
