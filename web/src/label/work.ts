import { useEffect, useMemo, useReducer, useRef, useState, type RefObject } from "react";
import { remoteDraft } from "./api";
import { secondsOf, useClock } from "./hooks";
import { Keeper, type KeeperStatus, type Opened } from "./keeper";
import { rank, type RankAction } from "./ranking";
import { browserStore } from "./store";
import { blankWork, fitted, isBlank, rate, ratesFirst, toggleFlag, writes, type Flag, type Judged, type Message, type Task, type Verdict, type Work } from "./task";
import { begin, record, redo, replace, undo, type History } from "./undo";
import type { Clock, Phase } from "./clock";

export type WorkAction =
  | { type: "rank"; action: RankAction }
  | { type: "rate"; place: number; value: number | null }
  | { type: "flag"; place: number; flag: Flag }
  | { type: "verdict"; verdict: Verdict }
  | { type: "step"; step: Work["step"] }
  | { type: "messages"; messages: readonly Message[]; at: number; drafted?: boolean }
  | { type: "comment"; comment: string }
  | { type: "undo" } | { type: "redo" }
  | { type: "load"; work: Work };

/** The work on a task with the past of its judgements and of its texts. */
export type WorkState = {
  work: Work;
  history: History<Judged>;
  texts: History<readonly Message[]>;
  /** Milliseconds of the last change of a text: what is typed in one go is one step back. */
  typedAt: number;
};

const ONE_GO_MS = 1200;

export const startWork = (work: Work): WorkState => ({ work, history: begin(work.judged), texts: begin(work.messages), typedAt: 0 });

function judged(state: WorkState, history: History<Judged>): WorkState {
  return history === state.history ? state : { ...state, history, work: { ...state.work, judged: history.now } };
}

function written(state: WorkState, texts: History<readonly Message[]>, typedAt = 0, drafted = state.work.drafted): WorkState {
  return texts === state.texts ? state : { ...state, texts, typedAt, work: { ...state.work, messages: texts.now, drafted } };
}

export function workReducer(task: Task) {
  const rules = { allowUnranked: task.allow_unranked };
  return (state: WorkState, action: WorkAction): WorkState => {
    const { history, work } = state;
    switch (action.type) {
      case "rank": {
        const ranking = rank(history.now.ranking, action.action, rules);
        if (ranking === history.now.ranking) return state;
        const next = { ...history.now, ranking };
        return judged(state, action.action.type === "focus" ? replace(history, next) : record(history, next));
      }
      case "rate": return judged(state, record(history, rate(history.now, action.place, action.value)));
      case "flag": return judged(state, record(history, toggleFlag(history.now, action.place, action.flag)));
      case "verdict": return judged(state, record(history, { ...history.now, verdict: action.verdict }));
      case "undo": return writes(task) ? written(state, undo(state.texts)) : judged(state, undo(history));
      case "redo": return writes(task) ? written(state, redo(state.texts)) : judged(state, redo(history));
      case "step": return { ...state, work: { ...work, step: action.step } };
      case "messages": {
        const goesOn = action.at - state.typedAt < ONE_GO_MS && action.messages.length === work.messages.length;
        return written(state, (goesOn ? replace : record)(state.texts, action.messages), action.at, action.drafted ?? work.drafted);
      }
      case "comment": return { ...state, work: { ...work, comment: action.comment } };
      case "load": return startWork(action.work);
    }
  };
}

function phaseOf(task: Task, work: Work): Phase {
  if (writes(task)) return work.messages.some((message) => message.content) ? "edit" : "read";
  const begun = !isBlank(task, { ...work, comment: "", seconds: {} });
  if (!begun) return "read";
  return ratesFirst(task) && work.step === "rate" ? "rate" : "rank";
}

export type Opening = { work: Work; conflict: Opened<Work>["conflict"] };

/** Opens the drafts of a task: null until they were looked for. */
export function useDraft(task: Task, labeller: string, given: Work | null): { keeper: Keeper<Work>; opening: Opening | null; status: KeeperStatus; conflict: Opened<Work>["conflict"]; } {
  const [seen, setSeen] = useState<{ status: KeeperStatus; conflict: Opened<Work>["conflict"] }>({ status: "saved", conflict: null });
  const [opening, setOpening] = useState<Opening | null>(null);
  const keeper = useMemo(() => new Keeper<Work>(browserStore, labeller, task.id, remoteDraft(task.id), (status, conflict) => setSeen({ status, conflict })), [labeller, task.id]);
  useEffect(() => {
    let current = true;
    keeper.start();
    void keeper.open().then(({ content, conflict }) => {
      if (!current) return;
      const kept = content && fitted(task, content);
      setOpening({ work: given ?? kept ?? blankWork(task), conflict });
    });
    const hide = () => { if (document.visibilityState === "hidden") void keeper.sync(); };
    const online = () => void keeper.sync();
    document.addEventListener("visibilitychange", hide);
    addEventListener("online", online);
    return () => {
      current = false;
      document.removeEventListener("visibilitychange", hide);
      removeEventListener("online", online);
      keeper.stop();
    };
  }, [keeper]);
  return { keeper, opening, ...seen };
}

/** The state of a task's screen: every change goes to the keeper, with the seconds so far. */
export function useWork(task: Task, first: Work, keeper: Keeper<Work>): [WorkState, (action: WorkAction) => void, RefObject<Clock>] {
  const reducer = useMemo(() => workReducer(task), [task]);
  const [state, dispatch] = useReducer(reducer, first, startWork);
  const clock = useClock(phaseOf(task, state.work), first.seconds);
  const saved = useRef<Work>(first);
  useEffect(() => {
    if (state.work === saved.current) return;
    saved.current = state.work;
    void keeper.change({ ...state.work, seconds: secondsOf(clock) });
  }, [state.work, keeper, clock]);
  return [state, dispatch, clock];
}
