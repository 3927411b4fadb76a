import { createContext, useContext, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Conversation } from "./answer";
import { missing, type Task } from "./task";
import type { WorkAction, WorkState } from "./work";

/** What every kind of task gets from the frame around it. */
export type ScreenProps = { task: Task; state: WorkState; dispatch: (action: WorkAction) => void; onSubmit: () => void };

/** Buttons of the frame (skip, flag) stand in the footer of each kind, beside its own. */
export const FootContext = createContext<ReactNode>(null);

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

/** The part that stays: what there is to do, and the button that sends it. */
export function Foot({ children, row, action }: { children?: ReactNode; row?: ReactNode; action: ReactNode }) {
  return (
    <footer className="desk-foot">
      {children}
      <div className="desk-actions">{row}{useContext(FootContext)}<div className="row desk-send">{action}</div></div>
    </footer>
  );
}

export function SubmitButton({ task, state, onSubmit }: ScreenProps) {
  const { t } = useTranslation();
  const problem = missing(task, state.work);
  return (
    <>
      {problem ? <span className="soft small" role="status">{t(`label.missing.${problem}`)}</span> : null}
      <button type="button" id="desk-submit" className="button primary" disabled={problem !== ""} onClick={onSubmit}>{t("label.submit")}<kbd aria-hidden>⏎</kbd></button>
    </>
  );
}

/** A note to the lead; closed until somebody wants it. */
export function Comment({ state, dispatch }: Pick<ScreenProps, "state" | "dispatch">) {
  const { t } = useTranslation();
  return (
    <details className="desk-comment" open={state.work.comment !== "" || undefined}>
      <summary>{t("label.comment")}</summary>
      <textarea className="input" rows={2} maxLength={4000} aria-label={t("label.comment")} value={state.work.comment} onChange={(event) => dispatch({ type: "comment", comment: event.target.value })} />
    </details>
  );
}

/** Bring a card to where it can be read; the focus goes with it so that screen readers follow. */
export function showCard(place: number): void {
  const card = document.querySelector<HTMLElement>(`.desk-card[data-place="${place}"]`);
  card?.focus({ preventScroll: true });
  card?.scrollIntoView({ block: "nearest" });
}
