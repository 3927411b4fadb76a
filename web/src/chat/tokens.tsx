import { useQuery } from "@tanstack/react-query";
import { Fragment, useId, useRef, useState, type KeyboardEvent } from "react";
import { useTranslation } from "react-i18next";
import { loadTokens, type Message } from "../api/chat";
import { formatPercent } from "../lib/format";
import { Spinner } from "../ui/fields";
import { groupTokens, spell, type TokenGroup } from "./token-groups";

/** How surprising a token was, in five steps that can be told apart in both colour schemes. */
export function heatOf(logprob: number): number {
  const probability = Math.exp(logprob);
  return probability >= 0.9 ? 0 : probability >= 0.6 ? 1 : probability >= 0.3 ? 2 : probability >= 0.1 ? 3 : 4;
}

/** White space that would otherwise be invisible in a list. */
export function visible(text: string): string {
  return text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ | $/g, "␣") || "∅";
}

export function Tokens(props: { message: Message; canBranch: boolean; onBranch: (index: number, tokenId: number) => void }) {
  const { t } = useTranslation();
  const popover = useRef<HTMLDivElement>(null);
  const id = useId();
  const [open, setOpen] = useState<TokenGroup | null>(null);
  const [at, setAt] = useState(0);
  const opener = useRef<HTMLElement | null>(null);
  const query = useQuery({ queryKey: ["tokens", props.message.id], queryFn: () => loadTokens(props.message.id), staleTime: Infinity });

  function show(button: HTMLElement, group: TokenGroup, index: number) {
    setOpen(group);
    setAt(index);
    opener.current = button;
    const box = popover.current;
    if (!box) return;
    box.showPopover();
    const anchor = button.getBoundingClientRect();
    box.style.left = `${Math.max(8, Math.min(anchor.left, window.innerWidth - 286))}px`;
    const below = anchor.bottom + 6;
    box.style.top = `${below + 300 > window.innerHeight ? Math.max(8, anchor.top - 306) : below}px`;
    requestAnimationFrame(() => (box.querySelector<HTMLElement>("button:enabled") ?? box).focus());
  }

  /** Arrows walk through a list of buttons, of which one is a stop for Tab. */
  function walk(event: KeyboardEvent<HTMLElement>, keys: Record<string, number>) {
    const buttons = [...event.currentTarget.querySelectorAll<HTMLElement>("button:enabled")];
    const now = buttons.indexOf(document.activeElement as HTMLElement);
    const step = keys[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? buttons.length - 1 : step === undefined || now < 0 ? -1 : now + step;
    if (to < 0 && step === undefined && event.key !== "Home") return;
    event.preventDefault();
    buttons[Math.max(0, Math.min(to, buttons.length - 1))]?.focus();
  }

  if (query.isError) return <p className="notice">{t("tokens.none")}</p>;
  if (!query.data) return <Spinner label={t("common.loading")} />;
  if (!query.data.tokens.length) return <p className="notice">{t("tokens.none")}</p>;
  const groups = groupTokens(query.data.tokens, props.message.content);
  return (
    <>
      <p className="soft small">{t("tokens.legend")}</p>
      <div className="tokens" dir="auto" role="group" aria-label={t("message.tokens")} onKeyDown={(event) => walk(event, { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 })}>
        {groups.map((group, index) => {
          const percent = formatPercent(Math.exp(group.logprob));
          return (
            <Fragment key={index}><button
              type="button" className={group.end ? "token badge" : group.lone ? "token lone" : "token"} data-heat={heatOf(group.logprob)} aria-haspopup="dialog" tabIndex={index === at ? 0 : -1} title={percent}
              aria-label={`${group.end ? t("tokens.end") : visible(group.text)} ${percent}`} onFocus={() => setAt(index)}
              onClick={(event) => show(event.currentTarget, group, index)}
            >
              {group.end ? t("tokens.end") : group.text.replace(/\n/g, "⏎")}
            </button>{"\n".repeat(group.text.split("\n").length - 1)}</Fragment>
          );
        })}
      </div>
      <div
        ref={popover} popover="auto" role="dialog" aria-labelledby={id} className="menu alternatives" tabIndex={-1}
        onToggle={(event) => { if (event.newState === "closed" && opener.current && (document.activeElement === document.body || popover.current?.contains(document.activeElement))) opener.current.focus(); }}
        onKeyDown={(event) => {
          if (event.key === "Tab") { event.preventDefault(); popover.current?.hidePopover(); opener.current?.focus(); } else walk(event, { ArrowDown: 1, ArrowUp: -1 });
        }}
      >
        <p id={id}>{props.canBranch ? t("tokens.choose") : t("tokens.title")}</p>
        {open?.tokens.map((token, part) => (
          <div key={part} role="group" aria-label={spell(token)}>
            {open.tokens.length > 1 ? <p className="alternatives-part"><span className="mono">{spell(token)}</span> {t("tokens.part", { number: part + 1, count: open.tokens.length })}</p> : null}
            {token.top.map((each) => {
              const text = open.withAlternative(part, each);
              return (
                <button
                  key={each.id} type="button" className="alternative" disabled={!props.canBranch || each.id === token.id || each.outside_script} title={each.outside_script ? t("tokens.outside") : undefined}
                  onClick={() => { opener.current = null; popover.current?.hidePopover(); props.onBranch(open.first + part, each.id); }}
                >
                  <span className="ellipsis" dir="auto">{visible(text)}</span>
                  {each.outside_script ? <span className="alternative-why">{t("tokens.outside")}</span> : null}
                  <span>{formatPercent(Math.exp(each.logprob))}</span>
                  <progress value={Math.exp(each.logprob)} max={1} aria-hidden />
                </button>
              );
            })}
          </div>
        ))}
      </div>
    </>
  );
}
