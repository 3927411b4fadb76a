import { useEffect, useRef } from "react";
import { Link } from "wouter";

/** A row of tabs that are links; the one that is open is always in sight, however narrow the page is. */
export function Tabs({ label, tabs, open }: { label: string; tabs: readonly (readonly [name: string, href: string, text: string])[]; open: string }) {
  const row = useRef<HTMLElement>(null);
  useEffect(() => {
    const tab = row.current?.querySelector<HTMLElement>("[aria-current]");
    if (row.current && tab) row.current.scrollLeft = tab.offsetLeft - (row.current.clientWidth - tab.offsetWidth) / 2;
  }, [open, label]);
  return (
    <nav className="tabs" aria-label={label} ref={row}>
      {tabs.map(([name, href, text]) => <Link key={name} href={href} aria-current={name === open ? "page" : undefined}>{text}</Link>)}
    </nav>
  );
}
