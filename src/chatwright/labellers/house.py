"""A simulated labeller for a house: ranks answers by the house's judge, with ties and noise. Every record says "simulated".

It stands in for people while the loop is tried out (decision 0005); the judge's noise-free order stays in the row.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatwright.errors import DataError
from chatwright.house.judge import TIE_WIDTH, Judge, Verdict
from chatwright.labellers.protocol import LabellerKind, LabelTask
from chatwright.labellers.simulated import DEFAULT_NOISE, Noise, rank_scores
from chatwright.records import Prompt, Ranking

FACT_KEY = "fact"
"""Field of a prompt's row that names the fact by its id."""


class HouseLabeller:
    """Ranks by a `Judge` with noise; deterministic in (seed, prompt, answers)."""

    kind: LabellerKind = "simulated"

    def __init__(self, judge: Judge, *, noise: float = DEFAULT_NOISE, tie_width: float = TIE_WIDTH, seed: int = 0) -> None:
        """`noise`: expected share of strict pairs that are flipped. ConfigError for bad settings."""
        self.judge = judge
        self.settings = Noise(share=noise, tie_width=tie_width, seed=seed)
        self.name = f"simulated:{judge.name}"
        self._done: list[Ranking] = []

    def submit(self, task: LabelTask) -> None:
        """Rank at once; `collect` returns it. DataError when the prompt names no fact of the sheet."""
        scores = [verdict.score for verdict in self.verdicts(task)]
        self._done.append(rank_scores(task, scores, self.settings, labeller=self.name, judge=self.judge.name))

    def collect(self) -> list[Ranking]:
        """Rankings since the last call."""
        done, self._done = self._done, []
        return done

    def rank(self, prompt: Prompt, completions: Sequence[str], ended: Sequence[bool]) -> Ranking:
        """Rank K = 2 to 9 answers at once."""
        self.submit(LabelTask(prompt=prompt, completions=tuple(completions), ended=tuple(ended)))
        return self._done.pop()

    def verdicts(self, task: LabelTask) -> list[Verdict]:
        """Noise-free verdicts on the task's answers."""
        fact = task.prompt.meta.get(FACT_KEY)
        if not isinstance(fact, str):
            raise DataError(
                f"prompt {task.prompt.messages[-1].content!r}: {FACT_KEY}: is missing; "
                "the house's judge ranks prompts that were made from its sheet"
            )
        pairs = zip(task.completions, task.ended, strict=True)
        return [self.judge.judge(fact, task.prompt.messages, answer, ended=ended) for answer, ended in pairs]
