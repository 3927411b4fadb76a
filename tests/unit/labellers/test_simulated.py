from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright.errors import ConfigError, DataError
from chatwright.labellers.protocol import LabelTask
from chatwright.labellers.rubric import rubric_for
from chatwright.labellers.simulated import (
    SimulatedLabeller,
    add_noise,
    choose_tie_width,
    inversion_probability,
    mallows_dispersion,
    sample_mallows,
    summary,
)
from chatwright.records import Prompt, Ranking, WeakOrder, user

RUBRIC = rubric_for("en")
PIECES = [
    "It is a thing that moves.",
    "You can see it each day!",
    "It pulls you down to the ground.",
    "It is like a ball on a string.",
    "It is as big as your hand.",
    "A long time ago, it was made of wood.",
    "The earth holds on to it.",
    "The considerable complexity of gravitational interactions necessitates mathematical formalism.",
    "Some are small and some are big.",
    "You fall when it lets go.",
]


def synthetic(num: int, seed: int = 0) -> list[LabelTask]:
    """Prompts with four answers of random sentences, some of them cut off."""
    random = Random(seed)
    tasks = []
    for n in range(num):
        prompt = Prompt(messages=user(f"What is thing {n}?"), meta={"keywords": ["pull", "ground", "earth", "fall"]})
        answers = tuple(" ".join(random.sample(PIECES, random.randint(2, 4))) for _ in range(4))
        tasks.append(LabelTask(prompt=prompt, completions=answers, ended=tuple(random.random() < 0.9 for _ in range(4))))
    return tasks


def label(tasks: list[LabelTask], **settings: float) -> list[Ranking]:
    labeller = SimulatedLabeller(RUBRIC, **settings)  # type: ignore[arg-type]
    for task in tasks:
        labeller.submit(task)
    return labeller.collect()


def test_flip_and_tie_shares_over_a_large_set() -> None:
    figures = summary(label(synthetic(1500), noise=0.15))
    assert 0.13 <= figures.flip_share <= 0.17
    assert 0.10 <= figures.tie_share <= 0.35
    assert figures.accuracy_ceiling == pytest.approx(1 - figures.flip_share)
    assert figures.rankings == 1500 and figures.pairs == 9000
    assert figures.labellers == ("simulated:museum-en",)


@pytest.mark.parametrize("noise", [0.1, 0.2, 0.4])
def test_noise_setting_is_the_flip_share(noise: float) -> None:
    assert summary(label(synthetic(1000), noise=noise)).flip_share == pytest.approx(noise, abs=0.02)


def test_without_noise_the_order_is_the_rubrics() -> None:
    rankings = label(synthetic(50), noise=0.0)
    assert summary(rankings).flip_share == 0.0
    for ranking in rankings:
        scores = ranking.meta["simulated"]["scores"]
        for better, worse in ranking.order.strict_pairs():
            assert scores[better] > scores[worse]


def test_every_record_says_simulated_and_survives_json() -> None:
    for ranking in label(synthetic(5)):
        assert ranking.labeller == "simulated:museum-en"
        assert ranking.labeller_kind == "simulated"
        again = Ranking.from_dict(ranking.to_dict())
        assert again == ranking
        assert again.ended == ranking.ended
        assert summary([again]) == summary([ranking])


def test_deterministic_in_seed_prompt_and_answers() -> None:
    tasks = synthetic(40)
    straight = label(tasks, seed=3)
    backwards = label(tasks[::-1], seed=3)[::-1]
    assert [str(ranking.order) for ranking in straight] == [str(ranking.order) for ranking in backwards]
    assert [str(r.order) for r in straight] != [str(r.order) for r in label(tasks, seed=4)]


def test_collect_empties_the_queue() -> None:
    labeller = SimulatedLabeller(RUBRIC)
    task = synthetic(1)[0]
    labeller.submit(task)
    assert labeller.collect() == [labeller.rank(task.prompt, task.completions, task.ended)]
    assert labeller.collect() == []


def test_bad_settings_and_rows() -> None:
    with pytest.raises(ConfigError, match="noise"):
        SimulatedLabeller(RUBRIC, noise=0.5)
    with pytest.raises(ConfigError, match="tie_width"):
        SimulatedLabeller(RUBRIC, tie_width=-0.1)
    with pytest.raises(DataError, match="keywords"):
        SimulatedLabeller(RUBRIC).rank(Prompt(messages=user("What?")), ["a", "b"], [True, True])
    with pytest.raises(DataError, match="2 to 9"):
        SimulatedLabeller(RUBRIC).rank(synthetic(1)[0].prompt, ["a"], [True])
    with pytest.raises(DataError, match="noise_free"):
        summary([Ranking(messages=user("q"), completions=("a", "b"), order=WeakOrder((1, 2)))])


def test_choose_tie_width_meets_the_target() -> None:
    labeller = SimulatedLabeller(RUBRIC)
    scores = [[score.total for score in labeller.scores(task)] for task in synthetic(300)]
    for target in (0.15, 0.25):
        width = choose_tie_width(scores, target)
        assert summary(label(synthetic(300), tie_width=width)).tie_share == pytest.approx(target, abs=0.07)
    with pytest.raises(DataError):
        choose_tie_width([])


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=2, max_size=9).filter(lambda x: any(v is not None for v in x)),
    st.floats(0, 0.3),
    st.floats(0, 0.49),
    st.integers(0, 2**32),
)
def test_noise_keeps_a_weak_order_and_its_ties(
    scores: list[float | None], tie_width: float, noise: float, seed: int
) -> None:
    order = WeakOrder.from_scores(scores, tie_width)
    noisy = add_noise(order, noise, Random(seed))  # WeakOrder checks that levels are dense
    assert [relation == 0 for *_, relation in noisy.pairs()] == [relation == 0 for *_, relation in order.pairs()]
    assert noisy.unranked == order.unranked
    assert WeakOrder.parse(str(noisy), noisy.k, noisy.unranked) == noisy


def test_inversion_probability_against_all_permutations() -> None:
    from itertools import permutations

    theta, count = 0.9, 5
    mass: dict[int, list[float]] = {}
    total = 0.0
    for order in permutations(range(count)):
        place = {item: n for n, item in enumerate(order)}
        pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
        weight = math.exp(-theta * sum(place[i] > place[j] for i, j in pairs))
        total += weight
        for i, j in pairs:
            mass.setdefault(j - i, []).append(weight * (place[i] > place[j]))
    for distance, weights in mass.items():
        per_pair = sum(weights) / total / (count - distance)
        assert inversion_probability(distance, theta) == pytest.approx(per_pair, abs=1e-12)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 1, 1, 1), (2, 1, 1), (3, 2, 4), (1,) * 9])
@pytest.mark.parametrize("noise", [0.01, 0.15, 0.45])
def test_dispersion_gives_the_expected_flip_share(sizes: tuple[int, ...], noise: float) -> None:
    theta = mallows_dispersion(sizes, noise)
    pairs = [(i, j) for i in range(len(sizes)) for j in range(i + 1, len(sizes))]
    flipped = sum(sizes[i] * sizes[j] * inversion_probability(j - i, theta) for i, j in pairs)
    assert flipped / sum(sizes[i] * sizes[j] for i, j in pairs) == pytest.approx(noise, abs=1e-6)
    random = Random(1)
    drawn = [sample_mallows(len(sizes), theta, random) for _ in range(4000)]
    assert all(sorted(order) == list(range(len(sizes))) for order in drawn)
    share = sum(sizes[order[a]] * sizes[order[b]] for order in drawn for a, b in pairs if order[a] > order[b]) / (
        len(drawn) * sum(sizes[i] * sizes[j] for i, j in pairs)
    )
    assert share == pytest.approx(noise, abs=0.02)
