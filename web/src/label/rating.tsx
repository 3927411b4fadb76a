import { useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { AnswerCard, ViewTools, type View } from "./answer";
import { useKeys } from "./hooks";
import { Comment, Foot, Sheet, showCard, SubmitButton, type ScreenProps } from "./screen";
import { FLAGS, isRated, letterOf, LIKERT } from "./task";
import { sharedPrefix } from "./texts";

/** 1 to 7 and the flags, answer by answer; before the ranking where the project says so, or as a task of its own. */
export function Rate(props: ScreenProps & { view: View; onView: (view: View) => void }) {
  const { t } = useTranslation();
  const { task, state, dispatch, view, onView } = props;
  const { judged } = state.work;
  const k = task.answers.length;
  const [focus, setFocus] = useState(0);
  const prefix = useMemo(() => sharedPrefix(task.answers.map((answer) => answer.text)), [task]);
  const onlyRates = task.kind === "rate";
  const done = () => { if (isRated(judged)) { if (onlyRates) props.onSubmit(); else dispatch({ type: "step", step: "judge" }); } };

  function move(place: number) {
    setFocus(place);
    requestAnimationFrame(() => (place < k ? showCard(place) : document.getElementById("desk-submit")?.focus({ preventScroll: true })));
  }

  function put(place: number, value: number, onwards: boolean) {
    dispatch({ type: "rate", place, value: judged.likert[place] === value && !onwards ? null : value });
    if (!onwards) return;
    const next = Array.from({ length: k }, (_, step) => (place + 1 + step) % k).find((each) => each !== place && judged.likert[each] === null);
    move(next ?? k);
  }

  useKeys((key, event) => {
    const onButton = event.target instanceof HTMLElement && event.target.closest("button, a, summary") !== null;
    const at = Math.min(focus, k - 1);
    if (/^[1-7]$/.test(key)) put(at, Number(key), true);
    else if (key === "j" || key === "ArrowRight") move(Math.min(focus + 1, k - 1));
    else if (key === "k" || key === "ArrowLeft") move(Math.max(focus - 1, 0));
    else if (key === "Backspace") { dispatch({ type: "rate", place: at, value: null }); }
    else if (key === "f") openFlags(at);
    else if (key === "m") onView({ ...view, raw: !view.raw, diff: false });
    else if (key === "v") onView({ ...view, diff: !view.diff });
    else if (key === "Enter") { if (onButton) return false; done(); }
    else return false;
    return true;
  });

  return (
    <>
      <Sheet task={task}>
        <div className="row wrap desk-bar">
          <h2 className="grow">{t("label.rate.title")}</h2>
          <ViewTools view={view} onView={onView} />
        </div>
        <div className="desk-cards" data-count={k}>
          {task.answers.map((_, place) => (
            <AnswerCard key={place} task={task} place={place} prefix={prefix} view={view} focused={focus === place} onFocus={() => setFocus(place)} onReference={() => onView({ ...view, reference: place })}>
              <Scale place={place} value={judged.likert[place] ?? null} onValue={(value) => put(place, value, false)} />
              <details className="desk-flags" id={`flags-${place}`} open={judged.flags[place]!.length > 0 || undefined}>
                <summary>{t("label.flagsOf", { count: judged.flags[place]!.length })}</summary>
                <div className="desk-flag-list">
                  {FLAGS.map((flag) => (
                    <label key={flag} className="check"><input type="checkbox" checked={judged.flags[place]!.includes(flag)} onChange={() => dispatch({ type: "flag", place, flag })} /><span>{t(`label.flags.${flag}`)}</span></label>
                  ))}
                </div>
              </details>
            </AnswerCard>
          ))}
        </div>
        <Comment state={state} dispatch={dispatch} />
      </Sheet>
      <Foot
        action={onlyRates ? <SubmitButton {...props} /> : (
          <>
            {isRated(judged) ? null : <span className="soft small" role="status">{t("label.missing.rating")}</span>}
            <button type="button" id="desk-submit" className="button primary" disabled={!isRated(judged)} onClick={done}>{t("label.rate.next")}<kbd aria-hidden>⏎</kbd></button>
          </>
        )}
      />
    </>
  );
}

function openFlags(place: number): void {
  const details = document.getElementById(`flags-${place}`) as HTMLDetailsElement | null;
  if (!details) return;
  details.open = true;
  details.querySelector<HTMLInputElement>("input")?.focus();
}

function Scale({ place, value, onValue }: { place: number; value: number | null; onValue: (value: number) => void }) {
  const { t } = useTranslation();
  return (
    <div className="desk-scale">
      <div className="desk-digits wide" role="group" aria-label={t("label.rate.of", { letter: letterOf(place) })}>
        {LIKERT.map((each) => <button key={each} type="button" aria-pressed={value === each} onClick={() => onValue(each)}>{each}</button>)}
      </div>
      <div className="desk-scale-ends" aria-hidden><span>{t("label.rate.worst")}</span><span>{t("label.rate.best")}</span></div>
    </div>
  );
}
