"""The blind comparison at the end of a retraining: old and new model answer held-out prompts; judges, and people, say whose
answers are better. Each verdict names its judge and what kind of judge that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from chatwright.data.splits import hash_of
from chatwright.evals.winrate import win_rate
from chatwright.feedback import queue
from chatwright.feedback.commands import project_named
from chatwright.feedback.export import Export
from chatwright.feedback.tables import TaskRow
from chatwright.feedback.tasks import Answer, NewTask
from chatwright.labellers.ai_judge import AIJudge, AIJudgeConfig, UnreadableError
from chatwright.labellers.commands import with_key
from chatwright.labellers.protocol import LabelTask
from chatwright.pipeline import Chain
from chatwright.progress import ProgressBar
from chatwright.records import Prompt, load_prompts, read_jsonl, write_jsonl

_OLD, _NEW = "serving", "candidate"
_JUDGE_NAMES = {"learned": "the reward model it was trained on", "held_out": "a second reward model"}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What judges say."""

    verdicts: list[dict[str, Any]]
    """judge, judge_kind, rate, low, high, n, questions, ties; the one that decides about promotion first."""
    folder: Path
    """Where the answers are."""

    def pairs(self) -> list[tuple[Prompt, Answer, Answer]]:
        """(prompt, old answer, new answer): the first sample of each."""
        return _pairs(self.folder)

    def add_tasks(self, session: Session, project: str, number: int, *, actor: str) -> list[str]:
        """Put pairs into the queue; ids of the tasks. Answer 0 is the new model's; labellers see a random order."""
        home = project_named(session, project)
        chosen = sorted(self.pairs(), key=lambda pair: hash_of(pair[0].id, 0))[:number]
        found = []
        for prompt, old, new in chosen:
            task = NewTask(
                project=home.id, kind="compare", messages=prompt.messages, answers=(new, old), split="held_out",
                language=str(prompt.meta.get("language", "en")), priority=1.0, overlap=1,  # one vote of each pair counts
                subject=_subject(session, prompt),
            )  # fmt: skip
            found.append(queue.add_task(session, task, actor=actor))
        return found


def _subject(session: Session, prompt: Prompt) -> str:
    """Whose prompt it is: a withdrawal reaches the comparison too."""
    source = session.get(TaskRow, str(prompt.meta.get("task", "")))
    return source.subject if source is not None else ""


def compare(
    chain: Chain, against: str, frozen: Export, judges: Sequence[str], ai: AIJudgeConfig | None
) -> Comparison:
    """Let both models answer (kept on disk, so that it goes on after a kill), then let every judge decide."""
    from chatwright.recipes import evaluate

    cfg, stages, folder = chain.cfg, chain.cfg.stages, Path(chain.path("6-comparison"))
    questions = _questions(chain, frozen)
    verdicts: list[dict[str, Any]] = []
    for judge in judges:
        result = evaluate.main(
            evaluate.EvaluateConfig(
                models=(f"{_OLD}={against}", f"{_NEW}={chain.path('6-ppo')}"), data=(questions,), out=str(folder),
                judge=judge, samples=stages.eval_samples, max_new_tokens=stages.eval_max_new_tokens, seed=cfg.seed,
                device=cfg.device, precision=cfg.precision, fresh=chain.anew and not verdicts,
            )  # fmt: skip
        )
        kind, gate = result["judge_kind"], result.get("judge_gate", "")
        verdicts.append({
            "judge": _JUDGE_NAMES.get(kind, judge), "judge_kind": kind, **({"judge_gate": gate} if gate else {}),
            **result["win_rates"][f"{_NEW}_vs_{_OLD}"],
        })  # fmt: skip
    if ai is not None:
        verdicts.insert(0, _ask(AIJudge(with_key(ai)), _pairs(folder), cfg.seed))
    return Comparison(verdicts=verdicts, folder=folder)


def _questions(chain: Chain, frozen: Export) -> str:
    """The held-out prompts, or as many as the dial says, chosen by hash."""
    path, most = frozen.file("held_out", "prompts"), chain.cfg.stages.eval_questions
    prompts = load_prompts(path)
    if not most or most >= len(prompts):
        return str(path)
    chosen = sorted(prompts, key=lambda prompt: hash_of(prompt.id, chain.cfg.seed))[:most]
    write_jsonl(chain.path("questions.jsonl"), [prompt.to_dict() for prompt in chosen])
    return chain.path("questions.jsonl")


def _pairs(folder: Path) -> list[tuple[Prompt, Answer, Answer]]:
    rows = [[row for _, row in read_jsonl(folder / f"{name}-sampled.jsonl")] for name in (_OLD, _NEW)]
    found = []
    for old, new in zip(*rows, strict=True):
        fields = ("completions", "finish_reason", "prompt_ids", "completion_ids", "logprob_sums")
        prompt = Prompt.from_dict({name: value for name, value in old.items() if name not in fields})
        answers = [
            Answer(text=row["completions"][0], model=name, finish_reason=row["finish_reason"][0])
            for name, row in ((_OLD, old), (_NEW, new))
        ]
        found.append((prompt, answers[0], answers[1]))
    return found


def _ask(judge: AIJudge, pairs: Sequence[tuple[Prompt, Answer, Answer]], seed: int) -> dict[str, Any]:
    """An AI judge's win rate: one pair per question, in both places. Questions without a readable verdict are left out.
    JudgeError when these are too many."""
    new_scores, old_scores = [], []
    with ProgressBar("judge", len(pairs), unit="pair") as bar:
        for prompt, old, new in pairs:
            bar.advance()
            texts, ended = (new.text, old.text), (new.finish_reason != "length", old.finish_reason != "length")
            try:
                ((_, _, relation),) = judge.rank(LabelTask(prompt=prompt, completions=texts, ended=ended)).order.pairs()
            except UnreadableError:
                continue
            new_scores.append([float(relation)])
            old_scores.append([0.0])
    judge.check()
    rate = win_rate(new_scores, old_scores, seed=seed).to_dict()
    counts = {"replies": judge.counts.replies, "unreadable": judge.counts.unreadable}
    return {"judge": judge.name, "judge_kind": "ai", **rate, **counts}
