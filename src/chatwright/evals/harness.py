"""Evaluate models on held-out questions: generate, score by the noise-free rubric, and tabulate.

Takes plain texts (`Answer`), so it needs neither torch nor a model: the caller brings the generator.
Legend: Q questions, S answers per question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from chatwright.errors import DataError
from chatwright.evals.metrics import (
    distinct_n,
    duplicate_pairs,
    duplicate_share,
    equal_budget,
    mean,
    mean_grade,
    num_words,
)
from chatwright.records import Prompt
from chatwright.statistics.bootstrap import ratio_interval


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A generated answer as evaluation sees it."""

    text: str
    ended: bool
    """True when the model stopped by itself."""


class Verdict(Protocol):
    """A gold judge's verdict on one answer (`labellers.rubric.Score` is one)."""

    @property
    def total(self) -> float:
        """The gold score."""

    @property
    def parts(self) -> Mapping[str, float]:
        """What it is made of."""


Judge = Callable[[Prompt, Answer], Verdict]
"""Gold measure of one answer: `labellers.rubric.gold_judge(rubric)`, brought by the caller (siblings do not import)."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One model's answers to the held-out questions with their scores."""

    prompts: tuple[Prompt, ...]
    answers: tuple[tuple[Answer, ...], ...]
    """[Q][S]"""
    judged: tuple[tuple[Verdict, ...], ...]
    """[Q][S]"""
    language: str

    def gold(self) -> list[list[float]]:
        """Gold totals [Q][S], the input of `winrate.win_rate`."""
        return [[verdict.total for verdict in row] for row in self.judged]

    def lengths(self) -> list[list[float]]:
        """Words per answer (Chinese: characters) [Q][S]."""
        return [[float(num_words(answer.text, self.language)) for answer in row] for row in self.answers]

    def texts(self) -> list[list[str]]:
        """Answer texts [Q][S]."""
        return [[answer.text for answer in row] for row in self.answers]

    def rows(self) -> list[dict[str, Any]]:
        """One JSON row per answer: question, answer, whether it ended, gold total and parts."""
        return [
            {
                "prompt_id": prompt.id,
                "question": prompt.messages[-1].content,
                "sample": sample,
                "answer": answer.text,
                "ended": answer.ended,
                "gold": verdict.total,
                "parts": dict(verdict.parts),
            }
            for prompt, answers, judged in zip(self.prompts, self.answers, self.judged, strict=True)
            for sample, (answer, verdict) in enumerate(zip(answers, judged, strict=True))
        ]


Generate = Callable[[Sequence[Prompt], int], Sequence[Sequence[Answer]]]
"""(prompts, samples per prompt) -> answers [Q][S]."""


def evaluate(
    generate: Generate, prompts: Sequence[Prompt], judge: Judge, *, samples: int = 4, language: str = "en"
) -> Evaluation:
    """Answer every prompt `samples` times and judge the answers. DataError when there are no prompts."""
    if not prompts:
        raise DataError("there are no held-out questions to evaluate on.")
    answers = tuple(tuple(row) for row in generate(prompts, samples))
    if len(answers) != len(prompts) or any(len(row) != samples for row in answers):
        raise DataError(f"the generator did not return {samples} answers to each of {len(prompts)} questions.")
    judged = tuple(tuple(judge(prompt, answer) for answer in row) for prompt, row in zip(prompts, answers, strict=True))
    return Evaluation(prompts=tuple(prompts), answers=answers, judged=judged, language=language)


def figures(evaluation: Evaluation, *, budget: int | None = None, seed: int = 0) -> dict[str, Any]:
    """A model's row of the report.

    Args:
        budget: number of words at which distinct-2 is taken; pass `common_budget` of all models compared.
    Returns:
        gold_mean with gold_low and gold_high (bootstrap by question), fk_grade (None for Chinese), distinct_2,
        words_mean, ended_share, duplicate_share, duplicate_questions (pairs of questions answered alike) and
        parts (mean of every part of the gold score).
    """
    gold = [np.array(row) for row in evaluation.gold()]
    sums, counts = np.array([row.sum() for row in gold]), np.array([float(row.size) for row in gold])
    interval = ratio_interval(sums, counts, seed=seed)
    texts = [text for row in evaluation.texts() for text in row]
    ended = [float(answer.ended) for row in evaluation.answers for answer in row]
    verdicts = [verdict for row in evaluation.judged for verdict in row]
    return {
        "gold_mean": interval.value,
        "gold_low": interval.low,
        "gold_high": interval.high,
        "fk_grade": None if evaluation.language.startswith("zh") else mean_grade(texts),
        "distinct_2": distinct_n(texts, 2, budget),
        "words_mean": mean([length for row in evaluation.lengths() for length in row]),
        "ended_share": mean(ended),
        "duplicate_share": duplicate_share(evaluation.texts()),
        "duplicate_questions": len(duplicate_pairs(evaluation.texts())),
        "parts": {name: mean([verdict.parts[name] for verdict in verdicts]) for name in verdicts[0].parts},
    }


def common_budget(evaluations: Sequence[Evaluation]) -> int:
    """Number of words every one of these models wrote: the budget at which their distinct-2 are comparable."""
    return equal_budget(*([text for row in evaluation.texts() for text in row] for evaluation in evaluations))
