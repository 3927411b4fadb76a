"""How reliable each labeller is, from the labels alone, and from gold rankings where there are some.

The model: with chance rho_k labeller k reads a task, and then each pair of its answers is better, tied or worse as
Davidson's model of common strengths has it; else he clicks, and relations are drawn from how often each is given at all. One
parameter per labeller, after the crowd-sourced Bradley-Terry of Chen et al. (WSDM 2013), with ties; fitted by expectation
maximisation. The strengths a labeller is held against come from the others' rankings of that task alone, weighted by
whether they were read: with two or three rankings per task, his own would otherwise prove him right. The pairs of one
ranking are not independent; those of K answers count as K - 1.

With two labellers who never share tasks with others, nobody can tell which of them clicks: both get the same figure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chatwright.feedback.agreement import Item, kendall_tau_b
from chatwright.records import WeakOrder
from chatwright.statistics.ties import sigmoid

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
PRIOR_READS, PRIOR_CLICKS = 4.0, 1.0  # beta prior of rho: as if 4 rankings had been read and 1 clicked
_STRENGTH_SD = 2.0  # nats; an answer two of these above another wins nearly always
_MAX_STEPS, _SETTLED = 200, 1e-4
LEAST_PAIRS = 12
"""Shared pairs below which no reliability is given."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """One labeller."""

    value: float
    """Share of rankings that follow the others' order rather than chance, 0 to 1."""
    num_pairs: int
    """Pairs of answers he ranked that somebody else ranked too."""


def reliabilities(items: Sequence[Item]) -> dict[str, Reliability]:
    """Reliability of every labeller with at least `LEAST_PAIRS` pairs that others ranked too."""
    votes = _votes(items)
    if votes is None:
        return {}
    found = _fit(votes)
    return {
        name: Reliability(value=float(found[n]), num_pairs=int(num))
        for n, name in enumerate(votes.names) if (num := votes.num_pairs[n]) >= LEAST_PAIRS
    }  # fmt: skip


def gold_scores(pairs: Sequence[tuple[WeakOrder, WeakOrder]]) -> list[float]:
    """Kendall tau-b of each (given, gold); a ranking that ties everything scores 0, for it says nothing."""
    return [0.0 if math.isnan(tau := kendall_tau_b(given, gold)) else tau for given, gold in pairs]


def too_fast_share(seconds: Sequence[float], limit_s: float) -> float:
    """Share of labels given in less than `limit_s` active seconds; 0 without labels."""
    return sum(value < limit_s for value in seconds) / len(seconds) if seconds else 0.0


# ---- the fit -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Votes:
    """Relations given to pairs that two or more labellers ranked, one row each [V]. A ranking is what one labeller gave
    to one task."""

    names: list[str]
    owner: Ints
    """Labeller of each ranking [R]."""
    ranking: Ints
    i: Ints
    j: Ints
    relation: Ints
    """+1: i is better; 0: tied; -1: j is better."""
    share: Floats
    """How much a pair of its ranking counts."""
    seen_by: Ints
    """[S]: the ranking that is held against vote `seen` of another ranking of the same task."""
    seen: Ints

    @property
    def num_pairs(self) -> Ints:
        """Votes per labeller."""
        return np.bincount(self.owner[self.ranking], minlength=len(self.names))


def _votes(items: Sequence[Item]) -> _Votes | None:
    names = sorted({name for item in items for name in item})
    place = {name: n for n, name in enumerate(names)}
    owner: list[int] = []
    rows: list[tuple[int, int, int, int]] = []
    shares: list[float] = []
    seen: list[tuple[int, int]] = []
    for item in items:
        given = {name: order.pairs() for name, order in item.items()}
        times = Counter((i, j) for pairs in given.values() for i, j, _ in pairs)
        first, of_item = len(owner), []
        for name, pairs in given.items():
            shared = [pair for pair in pairs if times[pair[:2]] >= 2]
            if shared:
                of_item += [(len(owner), len(rows) + n) for n in range(len(shared))]
                rows += [(len(owner), *pair) for pair in shared]
                shares += [(len({i for pair in shared for i in pair[:2]}) - 1) / len(shared)] * len(shared)
                owner.append(place[name])
        seen += [(other, vote) for other in range(first, len(owner)) for mine, vote in of_item if mine != other]
    if not rows:
        return None
    ranking, i, j, relation = np.array(rows, dtype=np.int64).T
    seen_by, seen_votes = np.array(seen, dtype=np.int64).T
    return _Votes(
        names=names, owner=np.array(owner, dtype=np.int64), ranking=ranking, i=i, j=j, relation=relation,
        share=np.array(shares), seen_by=seen_by, seen=seen_votes,
    )  # fmt: skip


def _fit(votes: _Votes) -> Floats:
    """rho per labeller."""
    num, num_rankings = len(votes.names), len(votes.owner)
    clicked = np.log(_click_rates(votes.relation))[votes.relation + 1]
    total = np.bincount(votes.owner, minlength=num)
    rho = np.full(num, PRIOR_READS / (PRIOR_READS + PRIOR_CLICKS))
    strengths, log_nu = np.zeros((num_rankings, int(votes.j.max()) + 1)), 0.0
    read = np.full(num_rankings, 0.8)
    for _ in range(_MAX_STEPS):
        strengths, log_nu = _improve(votes, strengths, log_nu, read)
        margins = strengths[votes.ranking, votes.i] - strengths[votes.ranking, votes.j]
        said = np.log(_davidson(margins, log_nu)[np.arange(len(margins)), votes.relation + 1])
        favour = np.bincount(votes.ranking, votes.share * (said - clicked), num_rankings)
        mine = rho[votes.owner]
        read = sigmoid(favour + np.log(mine) - np.log1p(-mine))
        before = rho
        # The posterior mean, not its mode, so that rho is never exactly 0 or 1.
        rho = (np.bincount(votes.owner, read, num) + PRIOR_READS) / (total + PRIOR_READS + PRIOR_CLICKS)
        if np.abs(rho - before).max() < _SETTLED:
            break
    return rho


def _click_rates(relation: Ints) -> Floats:
    """How often -1, 0, +1 are given at all [3]; better and worse alike, for the letters mean nothing."""
    ties = (float((relation == 0).sum()) + 0.5) / (len(relation) + 1.5)
    return np.array([(1 - ties) / 2, ties, (1 - ties) / 2])


def _davidson(margins: Floats, log_nu: float) -> Floats:
    """P(worse), P(tied), P(better) [V, 3]."""
    logits = np.stack([-margins / 2, np.full_like(margins, log_nu), margins / 2], axis=1)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _improve(votes: _Votes, strengths: Floats, log_nu: float, read: Floats) -> tuple[Floats, float]:
    """One Newton step on the strengths each ranking is held against [R, K], from the other rankings of its task, each
    weighted by `read` [R]; and one on log nu."""
    i, j, relation = votes.i[votes.seen], votes.j[votes.seen], votes.relation[votes.seen]
    row, weight = votes.seen_by, read[votes.ranking[votes.seen]]
    chances = _davidson(strengths[row, i] - strengths[row, j], log_nu)
    mean = chances[:, 2] - chances[:, 0]
    pull = weight * (relation - mean) / 2
    curve = weight * (chances[:, 2] + chances[:, 0] - mean**2) / 4
    num, k = strengths.shape
    at_i, at_j = row * k + i, row * k + j
    pulls = np.bincount(at_i, pull, num * k) - np.bincount(at_j, pull, num * k)
    gradient = pulls.reshape(num, k) - strengths / _STRENGTH_SD**2
    hessian: Floats = np.zeros(num * k * k)
    for a, b, sign in ((at_i, i, 1), (at_j, j, 1), (at_i, j, -1), (at_j, i, -1)):
        hessian += sign * np.bincount(a * k + b, curve, num * k * k)
    hessian = hessian.reshape(num, k, k) + np.eye(k) / _STRENGTH_SD**2
    step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
    tie = chances[:, 1]
    slope = float((weight * ((relation == 0) - tie)).sum()) - log_nu / _STRENGTH_SD**2
    bend = float((weight * tie * (1 - tie)).sum()) + 1 / _STRENGTH_SD**2
    # One nat at a time: far from the maximum the curve is flat and a whole step would overshoot.
    return strengths + np.clip(step, -1.0, 1.0), log_nu + min(1.0, max(-1.0, slope / bend))


def weights_of(found: Mapping[str, Reliability]) -> dict[str, float]:
    """Reliabilities as weights for `merge`."""
    return {name: one.value for name, one in found.items()}
