import type { Schemas } from "../api/client";
import { emptyRanking, orderOf, type Ranking } from "./ranking";
import { rounded, type Seconds } from "./clock";
import { LETTERS, parseOrder, printOrder, unrankedOf } from "./weak-order";

export type TaskKind = Schemas["Task"]["kind"];
export type SkipReason = Schemas["Skip"]["reason"];
export const KINDS: readonly TaskKind[] = ["rank", "rate", "compare", "demonstrate", "prompt", "adjudicate"];

/** The flags of InstructGPT's labelling instructions, in the order of the spec. */
export const FLAGS = [
  "fails_instruction", "inappropriate_for_assistant", "hallucination", "satisfies_constraint", "sexual_content", "violent_content",
  "encourages_harm", "denigrates_protected_class", "harmful_advice", "expresses_opinion", "moral_judgement",
] as const;
export type Flag = (typeof FLAGS)[number];
export const LIKERT = [1, 2, 3, 4, 5, 6, 7] as const;
export const SKIP_REASONS: readonly SkipReason[] = ["unclear", "wrong_language", "too_difficult", "unsafe", "personal_data", "duplicate", "broken", "other"];

/** A task as the server shows it: answers in the order of this labeller's screen, letters are places on it. */
export type Task = Omit<Schemas["Task"], "draft">;
export type Message = Schemas["Turn"];
export type Role = Message["role"];
export type Value = Partial<Schemas["Value"]>;
export type Payload = Partial<Schemas["Written"]>;
export type Verdict = NonNullable<Value["verdict"]>;

/** What is judged, by place on the screen; the part that undo and redo go through. */
export type Judged = { ranking: Ranking; likert: readonly (number | null)[]; flags: readonly (readonly Flag[])[]; verdict: Verdict | "" };

/** All that somebody has done on a task so far: what drafts keep. */
export type Work = {
  /** Which answer stood where, so that a draft fits when the order on the screen was drawn anew. */
  shown: readonly string[];
  step: "rate" | "judge";
  judged: Judged;
  /** Demonstrations and prompts. */
  messages: readonly Message[];
  /** A demonstration that began with a model's draft. */
  drafted: boolean;
  comment: string;
  seconds: Seconds;
};

export const letterOf = (place: number) => LETTERS[place]!;
export const ratesFirst = (task: Task) => task.kind === "rate" || (task.kind === "rank" && task.rate_first);
export const writes = (task: Task) => task.kind === "demonstrate" || task.kind === "prompt";

/** A short name for a text (FNV-1a); equal texts are told apart by their number. */
function fingerprints(texts: readonly string[]): string[] {
  const names = texts.map((text) => {
    let hash = 0x811c9dc5;
    for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
    return `${(hash >>> 0).toString(36)}.${text.length}`;
  });
  return names.map((name, at) => `${name}.${names.slice(0, at).filter((other) => other === name).length}`);
}

export function blankWork(task: Task): Work {
  const k = task.answers.length;
  return {
    shown: fingerprints(task.answers.map((answer) => answer.text)),
    step: ratesFirst(task) ? "rate" : "judge",
    judged: { ranking: emptyRanking(k), likert: Array<null>(k).fill(null), flags: Array.from({ length: k }, () => []), verdict: "" },
    messages: task.kind === "demonstrate" ? [{ role: "assistant", content: "" }] : task.kind === "prompt" ? [{ role: "user", content: "" }] : [],
    drafted: false, comment: "", seconds: {},
  };
}

/** Whether nothing has been done yet that would be a pity to lose. */
export function isBlank(task: Task, work: Work): boolean {
  const { seconds: _, ...done } = work;
  const { seconds: __, ...blank } = blankWork(task);
  return JSON.stringify({ ...done, judged: { ...done.judged, ranking: { ...done.judged.ranking, focus: 0 } } }) === JSON.stringify(blank);
}

/** A draft as it fits this task: made when the answers stood in another order, each judgement goes with its answer. Null: it does not fit. */
export function fitted(task: Task, work: Work): Work | null {
  const shown = blankWork(task).shown;
  const from = shown.map((name) => work.shown.indexOf(name));
  if (work.shown.length !== shown.length || from.includes(-1)) return null;
  const moved = <T>(values: readonly T[]): T[] => from.map((place) => values[place]!);
  const { ranking, likert, flags, verdict } = work.judged;
  const sides = moved(["a", "b"] as Verdict[]);
  return {
    ...work, shown,
    judged: {
      ranking: { ...ranking, tiers: moved(ranking.tiers), left: moved(ranking.left), focus: ranking.focus >= shown.length ? ranking.focus : Math.max(0, from.indexOf(ranking.focus)) },
      likert: moved(likert), flags: moved(flags),
      verdict: verdict === "a" || verdict === "b" ? (sides.indexOf(verdict) === 0 ? "a" : "b") : verdict,
    },
  };
}

/** A label that was taken back, as work to go on with. */
export function reopened(task: Task, value: Value, payload: Payload | null): Work {
  const work = blankWork(task);
  const k = task.answers.length;
  const { ranking } = work.judged;
  const tiers = value.ranking ? parseOrder(value.ranking, k, value.unranked ?? []).ranks : ranking.tiers;
  const unranked = (value.unranked ?? []).map((letter) => LETTERS.indexOf(letter.toUpperCase()));
  return {
    ...work, step: "judge",
    judged: {
      ranking: { ...ranking, tiers, left: tiers.map((_, place) => unranked.includes(place)), focus: value.ranking ? k : 0, noneAcceptable: value.none_acceptable ?? false, cannotJudge: value.cannot_judge ?? false },
      likert: value.likert ?? work.judged.likert, flags: value.flags ?? work.judged.flags, verdict: value.verdict ?? "",
    },
    ...(task.kind === "rate" ? { step: "rate" as const } : {}),
    messages: payload?.messages?.length ? payload.messages : work.messages,
    comment: payload?.comment ?? "",
  };
}

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
  if (writes(task)) return work.messages.every((message) => message.content.trim()) ? "" : "text";
  return ranking.cannotJudge || ranking.noneAcceptable || orderOf(ranking) ? "" : "ranking";
}

/** The value of a label, in letters of the screen: the server knows which answer stood where. */
export function valueOf(task: Task, work: Work): Value {
  const { ranking, likert, flags, verdict } = work.judged;
  const ratings: Value = ratesFirst(task) && isRated(work.judged) ? { likert: [...likert], flags: flags.map((each) => [...each]) } : {};
  if (writes(task)) return {};
  if (task.kind === "rate") return ratings;
  if (task.kind === "compare") return { verdict: verdict || null };
  if (ranking.cannotJudge) return { cannot_judge: true, ...ratings };
  const order = orderOf(ranking);
  return { ranking: order ? printOrder(order) : "", unranked: order ? unrankedOf(order) : [], none_acceptable: ranking.noneAcceptable, ...ratings };
}

/** Free text of a label, kept apart from it on the server so that it can be erased; null: there is none. */
export function payloadOf(task: Task, work: Work): Payload | null {
  const comment = work.comment.trim();
  const messages = writes(task) ? work.messages.map(({ role, content }) => ({ role, content: content.trim() })) : [];
  return messages.length || comment ? { messages, comment } : null;
}

/** A label as it is sent: what is left out has the server's defaults. */
export type LabelBody = { uuid: string; task: string; value: Value; payload: Payload | null; seconds: Seconds; guideline: string };

export function labelOf(task: Task, work: Work, uuid: string): LabelBody {
  return { uuid, task: task.id, value: valueOf(task, work), payload: payloadOf(task, work), seconds: rounded(work.seconds), guideline: task.guideline };
}

/** First words of a task, for lists. */
export function excerptOf(task: Task): string {
  const last = task.messages.at(-1)?.content ?? "";
  return last.length > 80 ? `${[...last].slice(0, 80).join("")}…` : last;
}
