import { useSyncExternalStore } from "react";

const query = typeof matchMedia === "function" ? matchMedia("(pointer: coarse)") : null;

/** Whether the page is worked with a finger: then nobody types an order, and room is scarce. */
export function useCoarse(): boolean {
  return useSyncExternalStore((listener) => {
    query?.addEventListener("change", listener);
    return () => query?.removeEventListener("change", listener);
  }, () => query?.matches ?? false);
}
