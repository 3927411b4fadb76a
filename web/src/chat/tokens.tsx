import { useQuery } from "@tanstack/react-query";
import { Fragment, useId, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { loadTokens, type Message, type Token } from "../api/chat";
import { formatPercent } from "../lib/format";
import { Spinner } from "../ui/fields";

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
  const [open, setOpen] = useState<{ token: Token; index: number } | null>(null);
  const query = useQuery({ queryKey: ["tokens", props.message.id], queryFn: () => loadTokens(props.message.id), staleTime: Infinity });

  function show(button: HTMLElement, token: Token, index: number) {
    setOpen({ token, index });
    const box = popover.current;
    if (!box) return;
    box.showPopover();
    const anchor = button.getBoundingClientRect();
    box.style.left = `${Math.max(8, Math.min(anchor.left, window.innerWidth - 286))}px`;
    const below = anchor.bottom + 6;
    box.style.top = `${below + 300 > window.innerHeight ? Math.max(8, anchor.top - 306) : below}px`;
    requestAnimationFrame(() => box.querySelector<HTMLElement>("button")?.focus());
  }

  if (query.isError) return <p className="notice">{t("tokens.none")}</p>;
  if (!query.data) return <Spinner label={t("common.loading")} />;
  if (!query.data.tokens.length) return <p className="notice">{t("tokens.none")}</p>;
  return (
    <>
      <p className="soft small">{t("tokens.legend")}</p>
      <div className="tokens">
        {query.data.tokens.map((token, index) => (
          <Fragment key={index}><button
            type="button" className="token" data-heat={heatOf(token.logprob)} aria-haspopup="dialog"
            aria-label={`${visible(token.text)} ${formatPercent(Math.exp(token.logprob))}`}
            onClick={(event) => show(event.currentTarget, token, index)}
          >
            {token.text.replace(/\n/g, "⏎")}
          </button>{"\n".repeat(token.text.split("\n").length - 1)}</Fragment>
        ))}
      </div>
      <div ref={popover} popover="auto" role="dialog" aria-labelledby={id} className="menu alternatives">
        <p id={id}>{props.canBranch ? t("tokens.choose") : t("tokens.title")}</p>
        {open?.token.top.map((each) => (
          <button
            key={each.id} type="button" className="alternative" disabled={!props.canBranch || each.id === open.token.id}
            onClick={() => { popover.current?.hidePopover(); props.onBranch(open.index, each.id); }}
          >
            <span className="ellipsis">{visible(each.text)}</span>
            <span>{formatPercent(Math.exp(each.logprob))}</span>
            <progress value={Math.exp(each.logprob)} max={1} aria-hidden />
          </button>
        ))}
      </div>
    </>
  );
}
