import { createContext, useContext, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Conversation } from "./answer";
import { useCoarse } from "../lib/coarse";
import { Menu, type MenuItem } from "../ui/menu";
import { missing, writes, type Task } from "./task";
import type { WorkAction, WorkState } from "./work";

/** What every kind of task gets from the frame around it. */
export type ScreenProps = { task: Task; state: WorkState; dispatch: (action: WorkAction) => void; onSubmit: () => void };

/** Actions of the frame (skip, report) stand in the footer of each kind, beside its own. */
export const FootContext = createContext<readonly MenuItem[]>([]);

/** The part that scrolls: the conversation, then what is judged or written. */
export function Sheet({ task, children }: { task: Task; children: ReactNode }) {
  return (
    <div className="page desk-page" data-testid="sheet">
      <div className="desk-inner">
        <Conversation messages={task.messages} />
        {children}
      </div>
    </div>
  );
}

/**
 * The part that stays: what there is to do, and the button that sends it. For fingers the rarer actions are in a menu, so
 * that the answers keep the screen; on a low screen the whole foot scrolls with them (label.css).
 */
export function Foot({ children, row, more = [], action }: { children?: ReactNode; row?: ReactNode; more?: readonly MenuItem[]; action: ReactNode }) {
  const { t } = useTranslation();
  const coarse = useCoarse();
  const leave = useContext(FootContext);
  return (
    <footer className="desk-foot">
      {children}
      <div className="desk-actions">
        {coarse ? <Menu label={t("label.more")} items={[...more, ...leave]} /> : <>{row}<div className="row desk-leave">{leave.map((item) => <button key={item.label} type="button" className="button plain" onClick={item.onSelect}>{item.icon}{item.label}</button>)}</div></>}
        <div className="row desk-send">{action}</div>
      </div>
    </footer>
  );
}

const mod = /Mac|iPhone|iPad/.test(navigator.userAgent) ? "⌘" : "Ctrl";

export function SubmitButton({ task, state, onSubmit, waits = false }: ScreenProps & { waits?: boolean }) {
  const { t } = useTranslation();
  const coarse = useCoarse();
  const problem = missing(task, state.work);
  return (
    <>
      {problem ? <span className="soft small" role="status">{t(`label.missing.${problem}`)}</span> : null}
      <button type="button" id="desk-submit" className="button primary" disabled={problem !== "" || waits} onClick={onSubmit}>{t("label.submit")}{coarse ? null : <kbd aria-hidden>{writes(task) ? `${mod} ⏎` : "⏎"}</kbd>}</button>
    </>
  );
}

/** A note to the lead; closed until somebody wants it. */
export function Comment({ state, dispatch }: Pick<ScreenProps, "state" | "dispatch">) {
  const { t } = useTranslation();
  return (
    <details className="desk-comment" open={state.work.comment !== "" || undefined}>
      <summary>{t("label.comment")}</summary>
      <textarea dir="auto" className="input" rows={2} maxLength={4000} aria-label={t("label.comment")} value={state.work.comment} onChange={(event) => dispatch({ type: "comment", comment: event.target.value })} />
    </details>
  );
}

/** Bring a card to where it can be read; the focus goes with it so that screen readers follow. */
export function showCard(place: number): void {
  const card = document.querySelector<HTMLElement>(`.desk-card[data-place="${place}"]`);
  card?.focus({ preventScroll: true });
  card?.scrollIntoView({ block: "nearest" });
}
