import { emptyRanking, orderOf, type Ranking } from "./ranking";
import type { Seconds } from "./clock";
import { fromRanks, fromShown, LETTERS, printOrder, toShown, unrankedOf } from "./weak-order";

export const KINDS = ["rank", "rate", "compare", "demonstrate", "prompt", "adjudicate"] as const;
export type TaskKind = (typeof KINDS)[number];

/** The flags of InstructGPT's labelling instructions, in the order of the spec. */
export const FLAGS = [
  "fails_instruction", "inappropriate_assistant", "hallucination", "satisfies_constraint", "sexual_content", "violent_content",
  "encourages_harm", "denigrates_protected_class", "harmful_advice", "expresses_opinion", "moral_judgement",
] as const;
export type Flag = (typeof FLAGS)[number];
export const LIKERT = [1, 2, 3, 4, 5, 6, 7] as const;

export type Message = { role: string; content: string };
export type Guideline = { id: string; version: number; text: string };

/** A task as its screen needs it. `answers` stand in the order of the data; `shown[place]` is the answer at that place. */
export type Task = {
  id: string;
  kind: TaskKind;
  project: { id: string; name: string };
  language: string;
  messages: Message[];
  answers: { text: string; finishReason: string }[];
  shown: number[];
  /** What others said, without their names: adjudication only. */
  orders: { ranking: string; unranked: string[] }[];
  rules: { allowUnranked: boolean; rateFirst: boolean; modelDraft: boolean };
  guideline: Guideline | null;
};

export type Verdict = "a" | "b" | "tie" | "both_bad";

/** What is judged, by place on the screen; the part that undo and redo go through. */
export type Judged = { ranking: Ranking; likert: readonly (number | null)[]; flags: readonly (readonly Flag[])[]; verdict: Verdict | "" };

export type Style = "plain" | "few_shot" | "user_based";

/** All that somebody has done on a task so far: what drafts keep. */
export type Work = {
  shown: readonly number[];
  step: "rate" | "judge";
  judged: Judged;
  /** Demonstrations and prompts. */
  messages: readonly Message[];
  style: Style;
  useCase: string;
  comment: string;
  /** Model whose draft a demonstration began with; empty: written from nothing. */
  draftModel: string;
  seconds: Seconds;
};

export const ratesFirst = (task: Task) => task.kind === "rate" || (task.kind === "rank" && task.rules.rateFirst);
export const writes = (task: Task) => task.kind === "demonstrate" || task.kind === "prompt";

export function blankWork(task: Task): Work {
  const k = task.answers.length;
  return {
    shown: task.shown,
    step: ratesFirst(task) ? "rate" : "judge",
    judged: { ranking: emptyRanking(k), likert: Array<null>(k).fill(null), flags: Array.from({ length: k }, () => []), verdict: "" },
    messages: task.kind === "demonstrate" ? [{ role: "assistant", content: "" }] : task.kind === "prompt" ? [{ role: "user", content: "" }] : [],
    style: "plain", useCase: "", comment: "", draftModel: "", seconds: {},
  };
}

/** Whether nothing has been done yet that would be a pity to lose. */
export function isBlank(task: Task, work: Work): boolean {
  const { seconds: _, ...done } = work;
  const { seconds: __, ...blank } = blankWork(task);
  return JSON.stringify(done) === JSON.stringify(blank);
}

/** A draft made when the answers stood in another order: each judgement goes with its answer. */
export function reshown(work: Work, shown: readonly number[]): Work {
  if (work.shown.length !== shown.length || work.shown.every((answer, place) => answer === shown[place])) return { ...work, shown };
  const moved = <T>(values: readonly T[]): T[] => shown.map((answer) => values[work.shown.indexOf(answer)]!);
  const { ranking, likert, flags, verdict } = work.judged;
  return {
    ...work, shown,
    judged: {
      ranking: { ...ranking, tiers: moved(ranking.tiers), left: moved(ranking.left) },
      likert: moved(likert), flags: moved(flags),
      verdict: verdict === "a" || verdict === "b" ? placeName(shown.indexOf(work.shown[verdict === "a" ? 0 : 1]!)) : verdict,
    },
  };
}

const placeName = (index: number): Verdict => (index === 0 ? "a" : "b");

/** Pairs of places that were rated one way and ranked the other: [rated higher, ranked higher]. Ties contradict nothing. */
export function contradictions({ likert, ranking }: Judged): [number, number][] {
  const found: [number, number][] = [];
  ranking.tiers.forEach((a, i) => ranking.tiers.forEach((b, j) => {
    const [p, q] = [likert[i], likert[j]];
    if (a !== null && b !== null && p != null && q != null && p > q && a > b) found.push([i, j]);
  }));
  return found;
}

export function rate(judged: Judged, place: number, value: number | null): Judged {
  return { ...judged, likert: judged.likert.map((each, at) => (at === place ? value : each)) };
}

export function toggleFlag(judged: Judged, place: number, flag: Flag): Judged {
  const change = (flags: readonly Flag[]) => FLAGS.filter((each) => (each === flag ? !flags.includes(each) : flags.includes(each)));
  return { ...judged, flags: judged.flags.map((each, at) => (at === place ? change(each) : each)) };
}

export const isRated = ({ likert }: Judged) => likert.every((each) => each !== null);

/** What stops this work from being sent: a key of label.missing, or nothing. */
export function missing(task: Task, work: Work): "" | "rating" | "ranking" | "verdict" | "text" {
  const { ranking, verdict } = work.judged;
  if (task.kind === "rate") return isRated(work.judged) ? "" : "rating";
  if (task.kind === "compare") return verdict ? "" : "verdict";
  if (writes(task)) return work.messages.every((message) => message.content.trim()) && (work.style !== "user_based" || work.useCase.trim()) ? "" : "text";
  return ranking.cannotJudge || ranking.noneAcceptable || orderOf(ranking) ? "" : "ranking";
}

/** Place-by-place values in the order of the answers. */
function byAnswer<T>(values: readonly T[], shown: readonly number[]): T[] {
  return shown.map((_, answer) => values[shown.indexOf(answer)]!);
}

/** The value of a label: letters and lists speak of answers, never of places on this labeller's screen. */
export function valueOf(task: Task, work: Work): Record<string, unknown> {
  const { ranking, likert, flags, verdict } = work.judged;
  const rated = ratesFirst(task) && isRated(work.judged);
  const ratings = { likert: rated ? byAnswer(likert, work.shown) : null, flags: rated ? byAnswer(flags, work.shown) : null };
  if (writes(task)) return {};
  if (task.kind === "rate") return ratings;
  if (task.kind === "compare") return { verdict: verdict === "a" || verdict === "b" ? placeName(work.shown[verdict === "a" ? 0 : 1]!) : verdict };
  const order = ranking.cannotJudge ? null : orderOf(ranking);
  const answers = order && fromRanks(fromShown(order.ranks, work.shown));
  return {
    ranking: answers ? printOrder(answers) : "", unranked: answers ? unrankedOf(answers) : [],
    none_acceptable: ranking.noneAcceptable, cannot_judge: ranking.cannotJudge, ...ratings,
    contradictions: rated && order ? contradictions(work.judged).length : 0,
  };
}

/** Free text of a label, kept apart from it on the server so that it can be erased; null: there is none. */
export function payloadOf(task: Task, work: Work): Record<string, unknown> | null {
  const comment = work.comment.trim() ? { comment: work.comment.trim() } : {};
  if (!writes(task)) return work.comment.trim() ? comment : null;
  const messages = work.messages.map(({ role, content }) => ({ role, content: content.trim() }));
  if (task.kind === "demonstrate") return { messages, ...comment };
  return { messages, style: work.style, ...(work.style === "user_based" ? { use_case: work.useCase.trim() } : {}), ...comment };
}

/** An order of answers, as the letters of this screen. */
export function shownOrder(order: { ranking: string; unranked: string[] }, shown: readonly number[], parse: (text: string, k: number, unranked: string[]) => { ranks: readonly (number | null)[] }): string {
  const places = fromRanks(toShown(parse(order.ranking, shown.length, order.unranked).ranks, shown));
  return printOrder(places);
}

export const letterOf = (place: number) => LETTERS[place]!;
