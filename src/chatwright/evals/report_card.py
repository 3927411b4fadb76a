"""The report card of a reward model on held-out rankings; `gate` reads it before PPO.

Numpy only: the caller brings scores. Pairs of one prompt are not independent, so every interval is a bootstrap over
prompts (rankings of the same prompt are drawn together). Definitions: alignment.md section 3.
Legend: P pairs, R rankings, G prompts (groups of rankings).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chatwright.errors import DataError
from chatwright.evals.gate import above_length, gate
from chatwright.records import Ranking
from chatwright.records.sameness import distinct_pairs, prompt_key
from chatwright.statistics.bootstrap import DEFAULT_DRAWS, ratio_interval, statistic_interval
from chatwright.statistics.ties import relation_nll, relation_probabilities

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
GROUP_FIELDS = ("use_case", "source")
HUMAN_REFERENCE = {
    "training_labellers": [0.726, 0.015],
    "held_out_labellers": [0.773, 0.013],
    "paper_rm": [0.724, 0.004],
    "paper_rm_held_out_group": [0.696, 0.009],
}
"""Agreement of labellers and accuracy of the paper's RM, each with its +- (arXiv 2203.02155, sections 3.4 and 4)."""


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """All pairs of ranked answers, flat."""

    ranking: Ints
    """[P] index of the ranking."""
    group: Ints
    """[P] index of the prompt."""
    margin: Floats
    """[P] score of the first answer minus that of the second."""
    longer: Floats
    """[P] length of the first answer minus that of the second."""
    relation: Ints
    """[P] +1 the first is preferred, 0 tie, -1."""
    distance: Ints
    """[P] levels between the two."""
    num_groups: int
    equal_texts: int
    """Pairs left out, since their answers are the same text."""


def report_card(
    rankings: Sequence[Ranking],
    scores: Sequence[Sequence[float]],
    lengths: Sequence[Sequence[float]],
    *,
    tie_mode: str,
    tie_param: float,
    train_labellers: Collection[str] | None = None,
    accuracy_ceiling: float | None = None,
    seed: int = 0,
    draws: int = DEFAULT_DRAWS,
) -> dict[str, Any]:
    """Everything that is known of a reward model on held-out rankings, as JSON-ready values ("gate": see `gate.gate`).

    Args:
        rankings: held-out rankings [R]; unranked answers and answers of the same text make no pairs.
        scores, lengths: per ranking one number per answer [R][K]; lengths in any unit (words, tokens).
        tie_mode, tie_param: see `ties.relation_probabilities`.
        train_labellers: names seen in training; rankings of others give the held-out-labeller accuracy.
        accuracy_ceiling: share of strict pairs a perfect model would get right (simulated labels), when known.
    Raises:
        DataError: when shapes differ, a score is not finite, or there is no strict pair.
    """
    pairs = _flatten(rankings, scores, lengths)
    strict = pairs.relation != 0
    if not strict.any():
        raise DataError(
            "the held-out rankings hold no strict pair of different answers; a reward model cannot be judged on ties alone."
        )
    right = _right(pairs)
    nll = relation_nll(pairs.margin, pairs.relation, tie_mode, tie_param)
    p_longer = float(_share_won(pairs.longer, pairs.relation)[strict].mean())
    interval = _ratio(right, strict, pairs, seed, draws)
    card = {
        "prompts": pairs.num_groups,
        "rankings": len(rankings),
        "pairs": len(pairs.relation),
        "strict_pairs": int(strict.sum()),
        "tie_share": float((~strict).mean()),
        "accuracy": interval,
        "length_baseline": max(p_longer, 1 - p_longer),
        "longer_wins": p_longer,
        "above_length": _above_length(pairs, right, strict, seed, draws),
        "equal_text_pairs": pairs.equal_texts,
        "length_slope": _length_slope(rankings, scores, lengths, seed, draws),
        "accuracy_ceiling": accuracy_ceiling,
        "human_reference": HUMAN_REFERENCE,
        "by_rank_distance": _by_distance(right, strict, pairs, seed, draws),
        "by_labeller": _by(right, strict, pairs, [r.labeller or "unnamed" for r in rankings], seed, draws),
        "held_out_labellers": _held_out(right, strict, pairs, rankings, train_labellers, seed, draws),
        **{
            f"by_{name}": _by(right, strict, pairs, [str(r.meta.get(name, "")) for r in rankings], seed, draws)
            for name in GROUP_FIELDS
            if any(name in r.meta for r in rankings)
        },
        "kendall_tau_b": _tau(rankings, scores, pairs, seed, draws),
        "tie_mode": tie_mode,
        "tie_param": tie_param,
        "tie_nll": _ratio(nll, np.ones_like(strict), pairs, seed, draws),
        "tie_calibration": _tie_calibration(pairs, tie_mode, tie_param),
        **_margin_calibration(pairs, right, strict, tie_mode, tie_param),
    }
    return {"gate": gate(card), **card}


def _above_length(
    pairs: _Pairs, right: Floats, strict: npt.NDArray[np.bool_], seed: int, draws: int
) -> dict[str, Any]:
    """Accuracy minus length baseline over the prompts that have a strict pair."""
    longer = _share_won(pairs.longer, pairs.relation)
    sums = [
        np.bincount(pairs.group[strict], weights=values[strict], minlength=pairs.num_groups).astype(np.float64)
        for values in (right, longer, np.ones_like(right))
    ]
    counted = sums[2] > 0
    constant = not pairs.margin.any()
    return above_length(*(one[counted] for one in sums), constant=constant, seed=seed, draws=draws).to_dict()


# ---- pairs -----------------------------------------------------------------------------------------------------------


def _flatten(
    rankings: Sequence[Ranking], scores: Sequence[Sequence[float]], lengths: Sequence[Sequence[float]]
) -> _Pairs:
    if not rankings or not len(rankings) == len(scores) == len(lengths):
        raise DataError(f"a report card needs scores and lengths per ranking: {len(rankings)} rankings, "
                        f"{len(scores)} scores, {len(lengths)} lengths.")  # fmt: skip
    groups: dict[str, int] = {}
    equal_texts = 0
    rows: list[tuple[int, int, float, float, int, int]] = []
    for n, (ranking, score, length) in enumerate(zip(rankings, scores, lengths, strict=True)):
        if not len(score) == len(length) == ranking.order.k or not np.isfinite(score).all():
            raise DataError(f"ranking {n} ({ranking.prompt_id}): needs {ranking.order.k} finite scores and lengths.")
        group = groups.setdefault(prompt_key(ranking.messages), len(groups))
        ranks = ranking.order.ranks
        kept = distinct_pairs(ranking)
        equal_texts += len(ranking.order.pairs()) - len(kept)
        for i, j, relation in kept:
            distance = abs((ranks[i] or 0) - (ranks[j] or 0))
            rows.append((n, group, score[i] - score[j], length[i] - length[j], relation, distance))
    columns = [np.array(column) for column in zip(*rows, strict=True)] if rows else [np.array([])] * 6
    return _Pairs(
        ranking=columns[0].astype(np.int64),
        group=columns[1].astype(np.int64),
        margin=columns[2].astype(np.float64),
        longer=columns[3].astype(np.float64),
        relation=columns[4].astype(np.int64),
        distance=columns[5].astype(np.int64),
        num_groups=len(groups),
        equal_texts=equal_texts,
    )


def _share_won(difference: Floats, relation: Ints) -> Floats:
    """1 where the sign of the difference agrees with the relation, 0 where not, 0.5 where it is zero [P]."""
    return np.where(difference == 0, 0.5, (np.sign(difference) == relation).astype(np.float64))


def _right(pairs: _Pairs) -> Floats:
    return _share_won(pairs.margin, pairs.relation)


def _ratio(values: Floats, chosen: npt.NDArray[np.bool_], pairs: _Pairs, seed: int, draws: int) -> dict[str, Any]:
    """Mean of the chosen pairs' values with its interval over prompts."""
    sums = np.bincount(pairs.group[chosen], weights=values[chosen], minlength=pairs.num_groups).astype(np.float64)
    counts = np.bincount(pairs.group[chosen], minlength=pairs.num_groups).astype(np.float64)
    interval = ratio_interval(sums[counts > 0], counts[counts > 0], seed=seed, draws=draws)
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": int(chosen.sum())}


def _by_distance(right: Floats, strict: npt.NDArray[np.bool_], pairs: _Pairs, seed: int, draws: int) -> dict[str, Any]:
    distances = sorted({int(distance) for distance in pairs.distance[strict]})
    return {
        str(distance): _ratio(right, strict & (pairs.distance == distance), pairs, seed, draws)
        for distance in distances
    }


def _by(
    right: Floats, strict: npt.NDArray[np.bool_], pairs: _Pairs, names: Sequence[str], seed: int, draws: int
) -> dict[str, Any]:
    """Accuracy and length baseline by a property of the ranking; those without a strict pair are left out."""
    named = np.array(names)[pairs.ranking]
    chosen = {name: strict & (named == name) for name in sorted(set(names))}
    longer = _share_won(pairs.longer, pairs.relation)
    return {
        name: {
            **_ratio(right, where, pairs, seed, draws),
            "length_baseline": max(float(longer[where].mean()), 1 - float(longer[where].mean())),
        }
        for name, where in chosen.items()
        if where.any()
    }


def _held_out(
    right: Floats,
    strict: npt.NDArray[np.bool_],
    pairs: _Pairs,
    rankings: Sequence[Ranking],
    train_labellers: Collection[str] | None,
    seed: int,
    draws: int,
) -> dict[str, Any] | None:
    if train_labellers is None:
        return None
    unseen = np.array([r.labeller is not None and r.labeller not in train_labellers for r in rankings])
    chosen = strict & unseen[pairs.ranking]
    return _ratio(right, chosen, pairs, seed, draws) if chosen.any() else None


# ---- order, ties, calibration, length --------------------------------------------------------------------------------


def kendall_tau_b(margins: Floats, relations: Ints) -> float:
    """(concordant - discordant) / sqrt(pairs untied in scores * pairs untied in the ranking); nan when one is 0."""
    signs = np.sign(margins)
    untied = float((signs != 0).sum()) * float((relations != 0).sum())
    return float((signs * relations).sum() / np.sqrt(untied)) if untied else float("nan")


def _tau(
    rankings: Sequence[Ranking], scores: Sequence[Sequence[float]], pairs: _Pairs, seed: int, draws: int
) -> dict[str, Any] | None:
    """Mean of tau-b over the rankings where it is defined, with its interval over prompts."""
    sums, counts = np.zeros(pairs.num_groups), np.zeros(pairs.num_groups)
    for n in range(len(rankings)):
        mine = pairs.ranking == n
        tau = kendall_tau_b(pairs.margin[mine], pairs.relation[mine])
        if np.isfinite(tau):
            group = pairs.group[mine][0]
            sums[group] += tau
            counts[group] += 1
    if not counts.any():
        return None
    interval = ratio_interval(sums[counts > 0], counts[counts > 0], seed=seed, draws=draws)
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": int(counts.sum())}


def _tie_calibration(pairs: _Pairs, tie_mode: str, tie_param: float, num_bins: int = 5) -> dict[str, Any]:
    """Predicted against observed tie rate: overall, and in bins of equal size of the margin's magnitude."""
    predicted = relation_probabilities(pairs.margin, tie_mode, tie_param)[:, 1]
    observed = (pairs.relation == 0).astype(np.float64)
    by_margin = np.argsort(np.abs(pairs.margin), kind="stable")
    bins = []
    for members in np.array_split(by_margin, min(num_bins, len(by_margin))):
        bins.append(
            {
                "margin": float(np.abs(pairs.margin[members]).mean()),
                "predicted": float(predicted[members].mean()),
                "observed": float(observed[members].mean()),
                "n": len(members),
            }
        )
    error = sum(b["n"] * abs(b["predicted"] - b["observed"]) for b in bins) / len(observed)
    return {
        "predicted": float(predicted.mean()),
        "observed": float(observed.mean()),
        "error": float(error),
        "bins": bins,
    }


def _margin_calibration(
    pairs: _Pairs, right: Floats, strict: npt.NDArray[np.bool_], tie_mode: str, tie_param: float, num_bins: int = 10
) -> dict[str, Any]:
    """ECE over strict pairs, in bins of equal width of the confidence in [0.5, 1]: the probability that the answer with the
    higher score wins, given that there is no tie. It is sigmoid(|d|) but for rao_kupper, whose ties take more from the
    answer with the lower score."""
    chances = relation_probabilities(np.abs(pairs.margin[strict]), tie_mode, tie_param)
    confidence, correct = chances[:, 0] / (chances[:, 0] + chances[:, 2]), right[strict]
    place = np.minimum(((confidence - 0.5) * 2 * num_bins).astype(np.int64), num_bins - 1)
    bins, error = [], 0.0
    for n in range(num_bins):
        mine = place == n
        if not mine.any():
            continue
        said, found = float(confidence[mine].mean()), float(correct[mine].mean())
        error += float(mine.mean()) * abs(said - found)
        bins.append({"confidence": said, "accuracy": found, "n": int(mine.sum())})
    return {"ece": error, "calibration": bins}


def _length_slope(
    rankings: Sequence[Ranking],
    scores: Sequence[Sequence[float]],
    lengths: Sequence[Sequence[float]],
    seed: int,
    draws: int,
) -> dict[str, Any]:
    """Reward per unit of length within prompts (both centred per ranking, least squares), and the correlation."""
    centred = [
        (np.asarray(score, float) - np.mean(score), np.asarray(length, float) - np.mean(length))
        for score, length in zip(scores, lengths, strict=True)
    ]
    xx = np.array([float((x * x).sum()) for _, x in centred])
    xy = np.array([float((x * y).sum()) for y, x in centred])
    yy = float(sum((y * y).sum() for y, _ in centred))
    if xx.sum() == 0:
        return {"value": 0.0, "low": 0.0, "high": 0.0, "correlation": 0.0}
    groups = np.unique([prompt_key(ranking.messages) for ranking in rankings], return_inverse=True)[1]
    num = int(groups.max()) + 1
    xy_g, xx_g = np.bincount(groups, xy, num), np.bincount(groups, xx, num)
    interval = statistic_interval(
        num, lambda g: float(xy_g[g].sum() / xx_g[g].sum()) if xx_g[g].sum() else float("nan"), seed=seed, draws=draws
    )
    correlation = float(xy.sum() / np.sqrt(xx.sum() * yy)) if yy else 0.0
    return {"value": interval.value, "low": interval.low, "high": interval.high, "correlation": correlation}


# ---- readable --------------------------------------------------------------------------------------------------------


def card_text(card: dict[str, Any]) -> str:
    """The card as aligned plain text, for the terminal and for a file beside the weights."""
    ties, above = card["tie_calibration"], card["above_length"]
    rows = [
        ("held-out", f"{card['prompts']} prompts, {card['rankings']} rankings, {card['pairs']} pairs, "
         f"{card['tie_share']:.1%} tied"),
        ("accuracy", _figure(card["accuracy"])),
        ("length baseline", f"{card['length_baseline']:.3f}  (the longer answer wins {card['longer_wins']:.3f})"),
        ("accuracy - length", f"{above['value']:+.3f} [{above['low']:+.3f}, {above['high']:+.3f}]  p={above['p']:.3f}  "
         f"by {above['prompts']} prompts"),
    ]  # fmt: skip
    if card["equal_text_pairs"]:
        rows.append(("equal answers", f"{card['equal_text_pairs']} pairs left out"))
    if card["accuracy_ceiling"] is not None:
        rows.append(("accuracy ceiling", f"{card['accuracy_ceiling']:.3f}  (noise of the simulated labels)"))
    if card["held_out_labellers"]:
        rows.append(("held-out labellers", _figure(card["held_out_labellers"])))
    for title, key in (("distance", "by_rank_distance"), ("labeller", "by_labeller"),
                       *((name.replace("_", " "), f"by_{name}") for name in GROUP_FIELDS)):  # fmt: skip
        rows += [(f"  {title} {name}", _figure(figure)) for name, figure in card.get(key, {}).items()]
    slope = card["length_slope"]
    rows += [
        ("Kendall tau-b", _figure(card["kendall_tau_b"]) if card["kendall_tau_b"] else "undefined"),
        (f"tie NLL ({card['tie_mode']})", _figure(card["tie_nll"])),
        ("tie rate", f"predicted {ties['predicted']:.3f}, observed {ties['observed']:.3f}, error {ties['error']:.3f}"),
        ("calibration error (ECE)", f"{card['ece']:.3f}"),
        ("reward per unit of length", f"{slope['value']:+.4f} [{slope['low']:+.4f}, {slope['high']:+.4f}], "
         f"correlation {slope['correlation']:+.2f}"),
        ("labellers of the paper", "0.726 +- 0.015 (training), 0.773 +- 0.013 (held out); its RM 0.724 +- 0.004"),
        ("gate", card["gate"] or "open: accuracy is above the length baseline"),
    ]  # fmt: skip
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _figure(figure: dict[str, Any]) -> str:
    beside = f"  length {figure['length_baseline']:.3f}" if "length_baseline" in figure else ""
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]  n={figure['n']}{beside}"
