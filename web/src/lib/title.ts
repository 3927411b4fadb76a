import { useEffect } from "react";

/** The tab's title: pages and history entries are told apart by it (WCAG 2.4.2). */
export function useTitle(title: string | undefined): void {
  useEffect(() => { document.title = title ? `${title} · Chatwright` : "Chatwright"; }, [title]);
}
