"""Runs a suite: answers of every model to every case in every wording, scored; answers are kept, so a run can go on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chatwright.config.secrets import secret
from chatwright.evals.winrate import win_rate
from chatwright.jsonl import dumps
from chatwright.labellers.ai_judge import AIJudge, AIJudgeConfig, UnreadableError
from chatwright.labellers.protocol import LabelTask
from chatwright.labellers.rubric import Item, rubric_for
from chatwright.progress import ProgressBar
from chatwright.records import Message, Prompt
from chatwright.serve.prompts.suite import Case, Suite, Variant
from chatwright.statistics.bootstrap import ratio_interval

CHUNK = 8
Conversation = Sequence[Mapping[str, str]]
Answerer = Callable[[Sequence[Conversation]], list[list["Answer"]]]
"""Answers of one model to several conversations, `samples` each."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said."""

    text: str
    finished: bool
    """It stopped by itself."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The answers of a model to a case in a wording."""

    model: str
    variant: str
    case: str
    answers: tuple[Answer, ...]
    verdicts: tuple[Mapping[str, float], ...]
    """Per answer each part of its score, in [0, 1]."""
    scores: tuple[float, ...]
    """Weighted means of the parts."""
    unreadable: int = 0
    """Samples that the judge's replies do not order; every wording has half a point for them."""


def run_suite(suite: Suite, models: Sequence[str], folder: Path, open_model: Callable[[str], Answerer]) -> list[Scored]:
    """Answer and score everything; answers in `folder` are not asked for again."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = Kept(folder / "answers.jsonl")
    scored: list[Scored] = []
    total = len(models) * len(suite.variants) * len(suite.cases)
    with ProgressBar("prompt test", total, unit="case") as bar:
        for model in models:
            missing = [(v, c) for v in suite.variants for c in suite.cases if key_of(suite, model, v, c) not in kept.answers]
            bar.advance(len(suite.variants) * len(suite.cases) - len(missing), note=model)
            answerer = open_model(model) if missing else None
            for start in range(0, len(missing), CHUNK):
                part = missing[start : start + CHUNK]
                assert answerer is not None
                for (variant, case), answers in zip(part, answerer([suite.messages(v, c) for v, c in part]), strict=True):
                    kept.add(key_of(suite, model, variant, case), answers)
                bar.advance(len(part))
            scored += score_model(suite, model, kept.answers)
    return scored


class Kept:
    """Answers on disk, appended one by one; a line that a kill tore is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, list[Answer]] = {}
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            path.write_bytes(whole)
        for line in whole.splitlines():
            row = json.loads(line)
            self.answers[row["key"]] = [Answer(**answer) for answer in row["answers"]]

    def add(self, key: str, answers: Sequence[Answer]) -> None:
        """Keep the answers to one case, durably."""
        self.answers[key] = list(answers)
        with open(self.path, "ab") as file:
            file.write(dumps({"key": key, "answers": [asdict(answer) for answer in answers]}, where=str(self.path)))
            file.flush()
            os.fsync(file.fileno())


def key_of(suite: Suite, model: str, variant: Variant, case: Case) -> str:
    """Names all that an answer depends on."""
    drawn = {key: value for key, value in asdict(suite.settings).items() if key != "rubric"}
    content = json.dumps([model, suite.messages(variant, case), drawn], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:24]


def score_model(suite: Suite, model: str, answers: Mapping[str, Sequence[Answer]]) -> list[Scored]:
    """Scores of one model's answers."""
    found = []
    judge = _open_judge(suite)
    for case in suite.cases:
        given = [answers[key_of(suite, model, variant, case)] for variant in suite.variants]
        points, unreadable = _judged(suite, case, given, judge) if judge else (None, 0)
        for number, variant in enumerate(suite.variants):
            verdicts = []
            for sample, answer in enumerate(given[number]):
                parts = {k: float(v) for k, v in case.assertions.check(answer.text, finished=answer.finished).items()}
                if suite.settings.rubric:
                    asked = suite.messages(variant, case)[-1]["content"]
                    item = Item(prompt=asked, answer=answer.text, keywords=case.keywords, ended=answer.finished)
                    parts["rubric"] = rubric_for(suite.settings.rubric).score(item).total
                if points is not None:
                    parts["judge"] = points[sample][number]
                verdicts.append(parts)
            found.append(
                Scored(
                    model=model, variant=variant.name, case=case.name,
                    answers=tuple(given[number]), verdicts=tuple(verdicts),
                    scores=tuple(mean(parts, suite.weights) for parts in verdicts), unreadable=unreadable,
                )  # fmt: skip
            )
    if judge:
        judge.check()
    return found


def mean(parts: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Weighted mean; 0 when no part has weight."""
    total = sum(weights.get(name, 1.0) for name in parts)
    return sum(weights.get(name, 1.0) * part for name, part in parts.items()) / total if total else 0.0


def _open_judge(suite: Suite) -> AIJudge | None:
    if suite.judge is None:
        return None
    config = AIJudgeConfig(
        base_url=suite.judge.base_url, model=suite.judge.model, guideline=suite.judge.guideline,
        guideline_name="prompt-test", max_tokens=suite.judge.max_tokens, max_unreadable=suite.judge.max_unreadable,
        api_key=secret("JUDGE_API_KEY"),
    )  # fmt: skip
    return AIJudge(config)


def _judged(
    suite: Suite, case: Case, given: Sequence[Sequence[Answer]], judge: AIJudge
) -> tuple[list[list[float]], int]:
    """(per sample the share of its comparisons that each variant's answer won, samples without a readable verdict).
    The task is the case, not any wording."""
    asked = "\n".join(case.values.values()) or case.name
    points, unreadable = [], 0
    for sample in range(suite.settings.samples):
        answers = [answers_of[sample] for answers_of in given]
        task = LabelTask(
            prompt=Prompt(messages=(Message(role="user", content=asked),)),
            completions=tuple(answer.text or " " for answer in answers),
            ended=tuple(answer.finished for answer in answers),
        )
        try:
            won = judge.rank(task).meta["ai_judge"]["points"]
        except UnreadableError:
            won = [None]
        if None in won:  # wordings are compared on the same samples: one that is not ordered says nothing of any
            won, unreadable = [(len(answers) - 1) / 2] * len(answers), unreadable + 1
        points.append([float(one) / (len(answers) - 1) for one in won])
    return points, unreadable


def summary(suite: Suite, scored: Sequence[Scored], models: Sequence[str], *, draws: int = 2000) -> dict[str, Any]:
    """Per model: each variant's mean score with its interval by case, the best one, and its win rate over each other.

    A winner is clear when the interval of every win rate stays above one half."""
    result: dict[str, Any] = {}
    for model in models:
        rows = {v.name: [s for s in scored if s.model == model and s.variant == v.name] for v in suite.variants}
        table: dict[str, dict[str, Any]] = {}
        for name, cases in rows.items():
            sums = np.array([sum(one.scores) for one in cases])
            counted = np.array([float(len(one.scores)) for one in cases])
            interval = ratio_interval(sums, counted, draws=draws)
            table[name] = {
                "score": interval.value, "low": interval.low, "high": interval.high,
                "passed": float(np.mean([score > 1 - 1e-9 for one in cases for score in one.scores])),
                "parts": _part_means(cases),
            }  # fmt: skip
        best = max(table, key=lambda name: float(table[name]["score"]))
        rates = {
            name: win_rate([one.scores for one in rows[best]], [one.scores for one in rows[name]], draws=draws).to_dict()
            for name in table
            if name != best
        }
        clear = bool(rates) and all(rate["low"] > 0.5 for rate in rates.values())
        unreadable = sum(one.unreadable for one in rows[best])
        result[model] = {"variants": table, "best": best, "clear": clear, "win_rates": rates, "unreadable": unreadable}
    return result


def _part_means(cases: Sequence[Scored]) -> dict[str, float]:
    parts: dict[str, list[float]] = {}
    for one in cases:
        for verdict in one.verdicts:
            for name, value in verdict.items():
                parts.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in parts.items()}
