import { useMemo } from "react";
import { useTranslation } from "react-i18next";
import { AnswerCard, ViewTools, type View } from "./answer";
import { useKeys } from "./hooks";
import { Comment, Foot, Sheet, SubmitButton, type ScreenProps } from "./screen";
import { missing, type Verdict } from "./task";
import { sharedPrefix } from "./texts";

const VERDICTS: readonly Verdict[] = ["a", "b", "tie", "both_bad"];
const KEYS: Record<string, Verdict> = { a: "a", ArrowLeft: "a", "1": "a", b: "b", ArrowRight: "b", "2": "b", t: "tie", "=": "tie", "3": "tie", x: "both_bad", "4": "both_bad" };

/** Two answers: which is better, or neither, or neither good. */
export function Compare(props: ScreenProps & { view: View; onView: (view: View) => void }) {
  const { t } = useTranslation();
  const { task, state, dispatch, view, onView } = props;
  const { verdict } = state.work.judged;
  const prefix = useMemo(() => sharedPrefix(task.answers.map((answer) => answer.text)), [task]);

  useKeys((key, event) => {
    const chosen = KEYS[key];
    if (chosen) {
      dispatch({ type: "verdict", verdict: chosen });
      requestAnimationFrame(() => document.getElementById("desk-submit")?.focus({ preventScroll: true }));
    } else if (key === "m") onView({ ...view, raw: !view.raw, diff: false });
    else if (key === "v") onView({ ...view, diff: !view.diff });
    else if (key === "Enter" && !(event.target instanceof HTMLElement && event.target.closest("button, a, summary"))) { if (!missing(task, state.work)) props.onSubmit(); }
    else return false;
    return true;
  });

  return (
    <>
      <Sheet task={task}>
        <div className="row wrap desk-bar"><h2 className="grow">{t("label.compare.title")}</h2><ViewTools view={view} onView={onView} /></div>
        <div className="desk-cards" data-count={2}>
          {task.answers.map((_, place) => (
            <AnswerCard key={place} task={task} place={place} prefix={prefix} view={view} focused={verdict === VERDICTS[place]} onReference={() => onView({ ...view, reference: place })} />
          ))}
        </div>
        <Comment state={state} dispatch={dispatch} />
      </Sheet>
      <Foot action={<SubmitButton {...props} />}>
        <div className="desk-verdicts" role="group" aria-label={t("label.compare.title")}>
          {VERDICTS.map((each) => <button key={each} type="button" className="desk-toggle" aria-pressed={verdict === each} onClick={() => dispatch({ type: "verdict", verdict: each })}>{t(`label.compare.${each}`)}</button>)}
        </div>
      </Foot>
    </>
  );
}
