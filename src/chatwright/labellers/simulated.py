"""A simulated labeller: ranks answers by a rubric, with ties, and errs as people do. Every record says "simulated".

1. Scores within `tie_width` of the best of their level are tied (levels are built from the best score down, so the
   result is a weak order whatever the scores are).
2. The levels are shuffled by a Mallows model (Mallows 1957): mistakes between neighbouring levels are likely, between
   distant ones rare. Its dispersion is solved per ranking so that the expected share of flipped strict pairs is exactly
   `noise`; ties stay ties, so the result is a weak order again.

The order before step 2 is kept in the row ("simulated": {"noise_free": ...}): the realised flip share and the highest
accuracy a perfect reward model could show on these labels are measured, not assumed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from chatwright.errors import ConfigError, DataError
from chatwright.labellers.protocol import LabellerKind, LabelTask, question_of
from chatwright.labellers.rubric import Item, Rubric, Score, keywords_for
from chatwright.records import Prompt, Ranking, WeakOrder

DEFAULT_NOISE = 0.15
DEFAULT_TIE_WIDTH = 0.08
_EPSILON = 1e-9  # scores are sums of floats; a gap of exactly tie_width is still a tie
META_KEY = "simulated"


class SimulatedLabeller:
    """Ranks by a rubric with noise; deterministic in (seed, prompt, completions). ConfigError for bad settings."""

    kind: LabellerKind = "simulated"

    def __init__(
        self,
        rubric: Rubric,
        *,
        noise: float = DEFAULT_NOISE,
        tie_width: float = DEFAULT_TIE_WIDTH,
        seed: int = 0,
        name: str = "",
    ) -> None:
        """`noise`: expected share of strict pairs flipped, 0 <= noise < 0.5. `name` is put after "simulated:"; by
        default it is the rubric's.
        """
        self.rubric = rubric
        Noise(share=noise, tie_width=tie_width, seed=seed)  # checks the values
        self.noise = noise
        self.tie_width = tie_width
        self.seed = seed
        self.name = f"simulated:{name or rubric.name}"
        self._done: list[Ranking] = []

    def submit(self, task: LabelTask) -> None:
        """Rank at once; `collect` returns it."""
        self._done.append(self._rank(task))

    def collect(self) -> list[Ranking]:
        """Rankings since the last call."""
        done, self._done = self._done, []
        return done

    def rank(self, prompt: Prompt, completions: Sequence[str], ended: Sequence[bool]) -> Ranking:
        """Rank K = 2..9 answers. DataError when the prompt has no key words."""
        return self._rank(LabelTask(prompt=prompt, completions=tuple(completions), ended=tuple(ended)))

    def scores(self, task: LabelTask) -> list[Score]:
        """The rubric's noise-free scores of the answers."""
        question = question_of(task.prompt.messages)
        keywords = keywords_for(self.rubric, task.prompt.meta, f"prompt {question!r}")
        pairs = zip(task.completions, task.ended, strict=True)
        return [
            self.rubric.score(Item(prompt=question, answer=answer, keywords=keywords, ended=ended))
            for answer, ended in pairs
        ]

    def _rank(self, task: LabelTask) -> Ranking:
        scores = [score.total for score in self.scores(task)]
        noise = Noise(share=self.noise, tie_width=self.tie_width, seed=self.seed)
        return rank_scores(task, scores, noise, labeller=self.name, judge=self.rubric.name)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise and ties of a simulated labeller."""

    share: float = DEFAULT_NOISE
    """Expected share of strict pairs that are flipped, 0 <= share < 0.5."""
    tie_width: float = DEFAULT_TIE_WIDTH
    """Scores this close to the best of their level are tied."""
    seed: int = 0
    """Fixes the noise of every task."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.share < 0.5:
            raise ConfigError(f"noise: {self.share} is not a share of flipped pairs; it must be at least 0 and below 0.5.")
        if not self.tie_width >= 0.0:
            raise ConfigError(f"tie_width: {self.tie_width} must be at least 0.")


def rank_scores(task: LabelTask, scores: Sequence[float], noise: Noise, *, labeller: str, judge: str) -> Ranking:
    """A ranking of the task's answers by noise-free scores, with ties and noise; the record says that it is simulated."""
    noise_free = WeakOrder.from_scores(scores, noise.tie_width + _EPSILON)
    order = add_noise(noise_free, noise.share, _random(noise.seed, task.id))
    simulated = {
        "rubric": judge,
        "scores": [round(score, 6) for score in scores],
        "noise_free": str(noise_free),
        "noise": noise.share,
        "seed": noise.seed,
    }
    return Ranking(
        messages=task.prompt.messages,
        completions=task.completions,
        order=order,
        labeller=labeller,
        labeller_kind="simulated",
        guideline=judge,
        uuid=f"{labeller}:{noise.seed}:{task.id}",
        meta={**task.row_meta(), META_KEY: simulated},
    )


def choose_tie_width(scores: Sequence[Sequence[float]], target: float = 0.28) -> float:
    """Tie width (0.005 to 0.2) whose share of tied pairs over these answers comes nearest to `target`.

    `scores`: per prompt the K noise-free scores. Of equally near widths the smallest. DataError when there are none.
    """
    if not scores:
        raise DataError("choose_tie_width needs the scores of at least one prompt.")
    widths = [step * 0.005 for step in range(1, 41)]
    return min(widths, key=lambda width: round(abs(_tie_share(scores, width) - target), 12))


def _tie_share(scores: Sequence[Sequence[float]], width: float) -> float:
    relations = [r for row in scores for _, _, r in WeakOrder.from_scores(row, width + _EPSILON).pairs()]
    return sum(1 for relation in relations if relation == 0) / len(relations)


# ---- noise -----------------------------------------------------------------------------------------------------------


def add_noise(order: WeakOrder, noise: float, random: Random) -> WeakOrder:
    """Shuffle the levels of a weak order; the expected share of flipped strict pairs is `noise` (0 <= noise < 0.5)."""
    sizes = [len(level) for level in order.levels()]
    if len(sizes) < 2 or noise == 0.0:
        return order
    shuffled = sample_mallows(len(sizes), mallows_dispersion(tuple(sizes), noise), random)
    new_level = {old: place for place, old in enumerate(shuffled, start=1)}
    return WeakOrder(tuple(None if rank is None else new_level[rank - 1] for rank in order.ranks))


def inversion_probability(distance: int, theta: float) -> float:
    """P(two items `distance` places apart change order) under a Mallows model of dispersion theta > 0.

    1 - (h(m + 1) - h(m)) with h(k) = k / (1 - exp(-k theta)), m = distance; the number of items does not matter.
    """

    def h(k: int) -> float:
        return k / -math.expm1(-k * theta)

    return min(0.5, max(0.0, 1.0 - (h(distance + 1) - h(distance))))


def mallows_dispersion(sizes: Sequence[int], noise: float) -> float:
    """Theta with an expected share `noise` of flipped pairs between levels of these sizes (0 < noise < 0.5)."""
    count = len(sizes)
    gaps = [(sizes[i] * sizes[j], j - i) for i in range(count) for j in range(i + 1, count)]
    total = sum(weight for weight, _ in gaps)
    low, high = 1e-4, 50.0
    for _ in range(60):
        theta = math.sqrt(low * high)
        flipped = sum(weight * inversion_probability(distance, theta) for weight, distance in gaps) / total
        low, high = (theta, high) if flipped > noise else (low, theta)
    return math.sqrt(low * high)


def sample_mallows(count: int, theta: float, random: Random) -> list[int]:
    """A permutation of range(count), probability proportional to exp(-theta * inversions); repeated insertion."""
    order: list[int] = []
    for item in range(count):
        weights = [math.exp(-theta * jumped) for jumped in range(item + 1)]  # items that the new one jumps ahead of
        jumped = random.choices(range(item + 1), weights)[0]
        order.insert(item - jumped, item)
    return order


def _random(seed: int, task_id: str) -> Random:
    digest = hashlib.sha256(f"{seed}:{task_id}".encode()).digest()
    return Random(int.from_bytes(digest[:8], "big"))


# ---- what the labels are worth ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LabelSummary:
    """Figures of a set of simulated rankings."""

    rankings: int
    pairs: int
    """All pairs of ranked answers."""
    strict_pairs: int
    """Pairs that are not tied."""
    tie_share: float
    """Tied pairs / all pairs."""
    flip_share: float
    """Strict pairs whose order noise turned round / strict pairs."""
    accuracy_ceiling: float
    """Accuracy that the noise-free order itself reaches on the noisy strict pairs: no model can expect more."""
    all_tied: int
    """Rankings without any strict pair."""
    labellers: tuple[str, ...] = field(default=())
    """Names found in the records."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON files."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"labellers": list(self.labellers)}


def summary(rankings: Sequence[Ranking]) -> LabelSummary:
    """Tie share, flip share and accuracy ceiling. DataError when a ranking was not made by the simulated labeller."""
    pairs = ties = flips = all_tied = 0
    for ranking in rankings:
        truth = {(i, j): relation for i, j, relation in _noise_free(ranking).pairs()}
        relations = [(relation, truth[i, j]) for i, j, relation in ranking.order.pairs()]
        pairs += len(relations)
        ties += sum(1 for noisy, _ in relations if noisy == 0)
        flips += sum(1 for noisy, free in relations if noisy * free < 0)
        all_tied += all(noisy == 0 for noisy, _ in relations)
    strict = pairs - ties
    flip_share = flips / strict if strict else 0.0
    return LabelSummary(
        rankings=len(rankings),
        pairs=pairs,
        strict_pairs=strict,
        tie_share=ties / pairs if pairs else 0.0,
        flip_share=flip_share,
        accuracy_ceiling=1.0 - flip_share,
        all_tied=all_tied,
        labellers=tuple(sorted({ranking.labeller or "" for ranking in rankings})),
    )


def _noise_free(ranking: Ranking) -> WeakOrder:
    made = ranking.meta.get(META_KEY)
    if not isinstance(made, dict) or not isinstance(made.get("noise_free"), str):
        raise DataError(
            f'ranking {ranking.uuid or ranking.prompt_id}: {META_KEY}: no "noise_free" order; '
            "the summary is for rankings of the simulated labeller."
        )
    return WeakOrder.parse(made["noise_free"], ranking.order.k, ranking.order.unranked)
