import { closestCenter, DndContext, DragOverlay, PointerSensor, pointerWithin, useSensor, useSensors, type CollisionDetection } from "@dnd-kit/core";
import { TriangleAlert, Users } from "lucide-react";
import { useEffect, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { AnswerCard, ViewTools, type View } from "./answer";
import { Board, Chip, TypedOrder } from "./board";
import { useKeys } from "./hooks";
import { useCoarse } from "../lib/coarse";
import { isComplete, textOf, type RankAction, type Ranking, type Target } from "./ranking";
import { Comment, Foot, Sheet, showCard, SubmitButton, type ScreenProps } from "./screen";
import { contradictions, letterOf, missing, ratesFirst, type Task } from "./task";
import { sharedPrefix } from "./texts";
import { LETTERS } from "./weak-order";

// Where the pointer is counts; beside every target, the nearest does.
const collide: CollisionDetection = (args) => { const within = pointerWithin(args); return within.length ? within : closestCenter(args); };

/** Rank with ties: typed order, digits and dragging lead into one machine (ranking.ts). Adjudication is the same with others' orders in view. */
export function Rank(props: ScreenProps & { view: View; onView: (view: View) => void }) {
  const { t } = useTranslation();
  const { task, state, dispatch, view, onView } = props;
  const { ranking } = state.work.judged;
  const k = task.answers.length;
  const prefix = useMemo(() => sharedPrefix(task.answers.map((answer) => answer.text)), [task]);
  const [dragged, setDragged] = useState<number | null>(null);
  const sensors = useSensors(useSensor(PointerSensor, { activationConstraint: { distance: 4 } }));
  const act = (action: RankAction) => dispatch({ type: "rank", action });
  const submit = () => { if (!missing(task, state.work)) props.onSubmit(); };
  useRankKeys(props, submit);

  return (
    <DndContext
      sensors={sensors} collisionDetection={collide} autoScroll={false}
      accessibility={{ screenReaderInstructions: { draggable: t("label.chipHint") }, announcements: { onDragStart: () => undefined, onDragOver: () => undefined, onDragEnd: () => undefined, onDragCancel: () => undefined } }}
      onDragStart={({ active }) => setDragged((active.data.current as { place: number }).place)}
      onDragCancel={() => setDragged(null)}
      onDragEnd={({ over }) => {
        if (over && dragged !== null) act({ type: "drop", place: dragged, on: (over.data.current as { target: Target }).target });
        setDragged(null);
      }}
    >
      <Sheet task={task}>
        {task.others.length ? <Others task={task} /> : null}
        <div className="row wrap desk-bar">
          <h2 className="grow">{t("label.rank.title", { count: k })}</h2>
          <ViewTools view={view} onView={onView} />
        </div>
        <div className="desk-cards" data-count={k}>
          {task.answers.map((_, place) => (
            <AnswerCard
              key={place} task={task} place={place} prefix={prefix} view={view} focused={ranking.focus === place} onFocus={() => act({ type: "focus", place })}
              onReference={() => onView({ ...view, reference: place })} handle={<Chip place={place} from="card" act={act} />} tools={<Tiers place={place} k={k} {...props} />}
            />
          ))}
        </div>
        <Comment state={state} dispatch={dispatch} />
      </Sheet>
      <Foot
        action={<SubmitButton {...props} />}
        more={[
          { label: `${ranking.noneAcceptable ? "✓ " : ""}${t("label.rank.none")}`, onSelect: () => act({ type: "none" }) },
          { label: `${ranking.cannotJudge ? "✓ " : ""}${t("label.rank.cannot")}`, onSelect: () => act({ type: "cannot" }) },
          ...(ratesFirst(task) ? [{ label: t("label.rate.back"), onSelect: () => dispatch({ type: "step", step: "rate" }) }] : []),
        ]}
        row={(
          <>
            <TypedOrder ranking={ranking} act={act} onSubmit={submit} />
            <button type="button" className="desk-toggle" aria-pressed={ranking.noneAcceptable} onClick={() => act({ type: "none" })}>{t("label.rank.none")}</button>
            <button type="button" className="desk-toggle" aria-pressed={ranking.cannotJudge} onClick={() => act({ type: "cannot" })}>{t("label.rank.cannot")}</button>
            {ratesFirst(task) ? <button type="button" className="button plain small" onClick={() => dispatch({ type: "step", step: "rate" })}>{t("label.rate.back")}</button> : null}
          </>
        )}
      >
        <p className="sr-only" role="status">{isComplete(ranking) ? t("label.rank.complete", { order: textOf(ranking) }) : textOf(ranking)}</p>
        <Board ranking={ranking} allowUnranked={task.allow_unranked} act={act} />
        <Chosen ranking={ranking} />
        <Contradictions {...props} />
      </Foot>
      <DragOverlay dropAnimation={null}>{dragged === null ? null : <span className="desk-letter chip lifted">{letterOf(dragged)}</span>}</DragOverlay>
    </DndContext>
  );
}

/** Keys of the ranking screen: letters type the order, digits place the focused answer. */
function useRankKeys({ task, state, dispatch, view, onView }: ScreenProps & { view: View; onView: (view: View) => void }, submit: () => void): void {
  const { ranking } = state.work.judged;
  const k = task.answers.length;
  const byKey = useRef(false);
  const act = (action: RankAction) => { byKey.current = true; dispatch({ type: "rank", action }); };
  const focused = ranking.focus;
  useFocusMoves(focused, k, byKey);
  useKeys((key, event) => {
    const place = key.length === 1 ? LETTERS.indexOf(key.toUpperCase()) : -1;
    const onButton = event.target instanceof HTMLElement && event.target.closest("button, a, summary, [role=menuitem]") !== null;
    if (key.startsWith("Arrow") && event.target instanceof HTMLElement && event.target.closest(".chip")) return false; // the chip's own
    if (place >= 0 && place < k) act({ type: "letter", place });
    else if (key === "=" || key === "＝") act({ type: "tie" });
    else if (key === ">" || key === "＞") return true;
    else if (key === " ") return !onButton && textOf(ranking) !== "" && !isComplete(ranking); // a blank of the typed order, not a page down
    else if (/^[1-9]$/.test(key)) act({ type: "digit", tier: Number(key) });
    else if (key === "0" || key === "u") { if (focused < k) act({ type: "leave", place: focused }); }
    else if (key === "Backspace") act({ type: "back" });
    else if (key === "Enter") { if (onButton) return false; submit(); }
    else if (key === "j" || key === "ArrowRight") act({ type: "focus", place: Math.min(focused + 1, k - 1) });
    else if (key === "k" || key === "ArrowLeft") act({ type: "focus", place: Math.max(focused - 1, 0) });
    else if (key === "[" || key === "]") { if (focused < k) act({ type: "nudge", place: focused, by: key === "[" ? -1 : 1 }); }
    else if (key === "n") act({ type: "none" });
    else if (key === "x") act({ type: "cannot" });
    else if (key === "m") onView({ ...view, raw: !view.raw, diff: false });
    else if (key === "v") onView({ ...view, diff: !view.diff });
    else return false;
    return true;
  });
}

/** After a key the focus of the page follows that of the machine: to the next answer, and at last to the button that sends. */
function useFocusMoves(focus: number, k: number, byKey: { current: boolean }): void {
  useEffect(() => {
    if (!byKey.current) return;
    byKey.current = false;
    if (focus < k) showCard(focus);
    else document.getElementById("desk-submit")?.focus({ preventScroll: true });
  }, [focus, k, byKey]);
  useEffect(() => {
    const byHand = () => { byKey.current = false; };
    addEventListener("pointerdown", byHand, true);
    return () => removeEventListener("pointerdown", byHand, true);
  }, [byKey]);
}

/** A tap puts an answer into a tier: the digits, for fingers. */
function Tiers({ place, k, state, dispatch, task }: ScreenProps & { place: number; k: number }) {
  const { t } = useTranslation();
  const { tiers, left } = state.work.judged.ranking;
  const put = (tier: number) => { dispatch({ type: "rank", action: { type: "focus", place } }); dispatch({ type: "rank", action: { type: "digit", tier } }); };
  return (
    <div className="desk-digits" role="group" aria-label={t("label.tierOf", { letter: letterOf(place) })}>
      {Array.from({ length: k }, (_, index) => index + 1).map((tier) => (
        <button key={tier} type="button" aria-pressed={tiers[place] === tier} onClick={() => put(tier)}>{tier}</button>
      ))}
      {task.allow_unranked ? <button type="button" aria-pressed={left[place]} title={t("label.leave")} aria-label={t("label.leave")} onClick={() => dispatch({ type: "rank", action: { type: "leave", place } })}>–</button> : null}
    </div>
  );
}

/** For fingers, whose menu hides what is switched on. */
function Chosen({ ranking }: { ranking: Ranking }) {
  const { t } = useTranslation();
  const coarse = useCoarse();
  const said = [ranking.noneAcceptable ? t("label.rank.none") : "", ranking.cannotJudge ? t("label.rank.cannot") : ""].filter(Boolean);
  return coarse && said.length ? <p className="row wrap">{said.map((each) => <span key={each} className="badge accent">{each}</span>)}</p> : null;
}

/** A word, not a wall: ratings and rankings of the same answers often differ, and both are kept. */
function Contradictions({ state }: ScreenProps) {
  const { t } = useTranslation();
  const found = contradictions(state.work.judged);
  if (!found.length) return null;
  const pairs = found.map(([rated, ranked]) => t("label.contradiction.pair", { rated: letterOf(rated), ranked: letterOf(ranked) })).join(" ");
  return <p className="notice" role="status"><TriangleAlert size={17} aria-hidden /><span>{pairs} {t("label.contradiction.text")}</span></p>;
}

/** What the labellers said, for who decides between them: no names. */
function Others({ task }: { task: Task }) {
  const { t } = useTranslation();
  return (
    <section className="card stack desk-others">
      <h2><Users size={17} aria-hidden /> {t("label.others.title")}</h2>
      <ul>
        {task.others.map((other, index) => (
          <li key={index}>
            <span className="soft small">{t("label.others.labeller", { number: index + 1 })} · {t(`label.others.${other.labeller_kind}`)}</span>
            <strong className="mono">{other.ranking || t("label.others.noOrder")}</strong>
            {other.unranked.length ? <span className="soft small">{t("label.others.unranked", { letters: other.unranked.join(", ") })}</span> : null}
            {other.comment ? <q dir="auto">{other.comment}</q> : null}
          </li>
        ))}
      </ul>
    </section>
  );
}
