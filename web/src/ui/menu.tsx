import { Ellipsis } from "lucide-react";
import { useId, useRef, useState, type KeyboardEvent, type ReactNode } from "react";

export type MenuItem = { label: string; icon?: ReactNode; onSelect: () => void; danger?: boolean };

/** A button with a menu: arrows, Home, End and Escape as people expect; the popover is the browser's own top layer. */
export function Menu(props: { label: string; items: MenuItem[]; icon?: ReactNode; className?: string; children?: ReactNode }) {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const menu = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState(false);

  function place() {
    const anchor = button.current?.getBoundingClientRect();
    const box = menu.current;
    if (!anchor || !box) return;
    const { offsetWidth: width, offsetHeight: height } = box;
    const below = anchor.bottom + 4 + height <= window.innerHeight;
    box.style.left = `${Math.max(8, Math.min(anchor.left, window.innerWidth - width - 8))}px`;
    box.style.top = `${below ? anchor.bottom + 4 : Math.max(8, anchor.top - height - 4)}px`;
  }

  function onToggle(event: { newState: string }) {
    const opened = event.newState === "open";
    setOpen(opened);
    if (!opened) return;
    place();
    menu.current?.querySelector<HTMLElement>("[role=menuitem]")?.focus();
  }

  function onKeyDown(event: KeyboardEvent) {
    const items = [...(menu.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    const at = items.indexOf(document.activeElement as HTMLElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      items.at(to % items.length)?.focus();
    } else if (event.key === "Tab" || event.key === "Escape") {
      event.stopPropagation();
      menu.current?.hidePopover();
      button.current?.focus();
    }
  }

  return (
    <>
      <button
        ref={button} type="button" className={props.className ?? "icon-button"} aria-haspopup="menu" aria-expanded={open}
        aria-label={props.children ? undefined : props.label} popoverTarget={id}
      >
        {props.children ?? props.icon ?? <Ellipsis size={18} aria-hidden />}
      </button>
      <div ref={menu} id={id} popover="auto" role="menu" aria-label={props.label} className="menu" onToggle={onToggle} onKeyDown={onKeyDown}>
        {props.items.map((item) => (
          <button
            key={item.label} type="button" role="menuitem" tabIndex={-1} className={item.danger ? "danger" : undefined}
            onClick={() => { menu.current?.hidePopover(); button.current?.focus(); item.onSelect(); }}
          >
            {item.icon}{item.label}
          </button>
        ))}
      </div>
    </>
  );
}
