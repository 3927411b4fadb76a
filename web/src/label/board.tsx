import { useDraggable, useDroppable } from "@dnd-kit/core";
import { useState, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { isComposing, isSendKey } from "../lib/ime";
import { isOpen, textOf, tiersOf, type RankAction, type Ranking, type Target } from "./ranking";
import { letterOf } from "./task";
import { OrderError, readTyped } from "./weak-order";

type Act = (action: RankAction) => void;

/** Keys of a focused chip: half steps with the arrows, a tier by its digit, out with Delete. The keyboard's way of dragging. */
function chipKey(key: string, place: number, act: Act): boolean {
  if (key === "ArrowLeft" || key === "ArrowUp") act({ type: "nudge", place, by: -1 });
  else if (key === "ArrowRight" || key === "ArrowDown") act({ type: "nudge", place, by: 1 });
  else if (key === "Delete") act({ type: "drop", place, on: "pool" });
  else return false;
  return true;
}

/** The letter of an answer, to be dragged; `from` tells apart the one on the card and the one in the strip. */
export function Chip({ place, from, act, focused }: { place: number; from: "card" | "strip"; act: Act; focused?: boolean }) {
  const { t } = useTranslation();
  const { setNodeRef, listeners, isDragging } = useDraggable({ id: `${from}-${place}`, data: { place } });
  return (
    <button
      ref={setNodeRef} type="button" className={`desk-letter chip${isDragging ? " dragging" : ""}${focused ? " focused" : ""}`} {...listeners}
      aria-label={t("label.chip", { letter: letterOf(place) })} title={t("label.chipHint")} onFocus={() => act({ type: "focus", place })}
      onClick={() => { act({ type: "focus", place }); if (from === "strip") document.querySelector(`[data-place="${place}"]`)?.scrollIntoView({ block: "nearest", behavior: "smooth" }); }}
      onKeyDown={(event) => {
        if (isComposing(event.nativeEvent) || !chipKey(event.key, place, act)) return;
        event.preventDefault();
        event.stopPropagation();
      }}
    >
      {letterOf(place)}
    </button>
  );
}

function Drop({ id, target, className, label, children }: { id: string; target: Target; className: string; label?: string; children?: ReactNode }) {
  const { setNodeRef, isOver, active } = useDroppable({ id, data: { target } });
  return <div ref={setNodeRef} data-drop={id} role={label ? "group" : undefined} aria-label={label} className={`${className}${isOver ? " over" : ""}${active ? " ready" : ""}`}>{children}</div>;
}

/** The order as it stands: what is not placed, the tiers from best to worst with the gaps between them, what is left out. */
export function Board({ ranking, allowUnranked, act }: { ranking: Ranking; allowUnranked: boolean; act: Act }) {
  const { t } = useTranslation();
  const tiers = tiersOf(ranking);
  const open = ranking.tiers.flatMap((_, place) => (isOpen(ranking, place) ? [place] : []));
  const left = ranking.left.flatMap((out, place) => (out ? [place] : []));
  const chip = (place: number) => <Chip key={place} place={place} from="strip" act={act} focused={ranking.focus === place} />;
  return (
    <div className="desk-board">
      {open.length || !tiers.length ? <Drop id="pool" target="pool" className="desk-pool" label={t("label.pool")}><span className="desk-board-label">{t("label.pool")}</span>{open.map(chip)}</Drop> : null}
      <div className="desk-tiers" role="group" aria-label={t("label.tiers")}>
        <span className="desk-board-label">{t("label.best")}</span>
        <Drop id="gap-0" target={{ gap: 0 }} className="desk-gap" />
        {tiers.map(({ tier, places }, at) => (
          <div key={tier} className="desk-tier-and-gap">
            <Drop id={`tier-${at}`} target={{ tier: at }} className="desk-tier" label={t("label.tier", { tier })}><span className="desk-tier-number" aria-hidden>{tier}</span>{places.map(chip)}</Drop>
            <Drop id={`gap-${at + 1}`} target={{ gap: at + 1 }} className="desk-gap" />
          </div>
        ))}
        <span className="desk-board-label">{t("label.worst")}</span>
      </div>
      {allowUnranked ? <Drop id="left" target="left" className="desk-pool" label={t("label.left")}><span className="desk-board-label">{t("label.left")}</span>{left.map(chip)}</Drop> : null}
    </div>
  );
}

/** The order as text. While somebody types here the field is theirs; otherwise it shows the order. */
export function TypedOrder({ ranking, act, onSubmit }: { ranking: Ranking; act: Act; onSubmit: () => void }) {
  const { t } = useTranslation();
  const [text, setText] = useState<string | null>(null);
  const [error, setError] = useState<OrderError | null>(null);
  const k = ranking.tiers.length;

  function change(value: string) {
    setText(value);
    try {
      readTyped(value, k);
      setError(null);
      act({ type: "text", text: value });
    } catch (failure) {
      if (!(failure instanceof OrderError)) throw failure;
      setError(failure);
    }
  }

  return (
    <div className="desk-typed">
      <input
        className="input mono" value={text ?? textOf(ranking)} aria-label={t("label.typed.label")} placeholder={t("label.typed.placeholder")} maxLength={64}
        autoCapitalize="off" autoComplete="off" autoCorrect="off" spellCheck={false} enterKeyHint="done" aria-invalid={error !== null} aria-describedby={error ? "typed-error" : undefined}
        onChange={(event) => change(event.target.value)}
        onBlur={() => { setText(null); setError(null); }}
        onKeyDown={(event) => {
          if (event.key === "Escape") event.currentTarget.blur();
          if (!isSendKey(event.nativeEvent)) return;
          event.preventDefault();
          if (!error) onSubmit();
        }}
      />
      {error ? <span id="typed-error" role="alert" className="error-text">{t(`label.typed.${error.reason === "twice" ? "twice" : "letters"}`, { letters: error.letters, last: letterOf(k - 1) })}</span> : null}
    </div>
  );
}
