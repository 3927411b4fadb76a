"""Recall and neighbours against loops; gains draw the same groups for both sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatwright.data.pairs import Pair
from chatwright.errors import DataError
from chatwright.evals.retrieval import gain, measure


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), num=st.integers(2, 12))
def test_equals_the_loop(seed: int, num: int) -> None:
    random = np.random.default_rng(seed)
    groups = random.integers(0, 4, num)
    pairs = [Pair(query=f"q{n}", passage=f"p{n}", group=f"g{g}") for n, g in enumerate(groups)]
    q, p = (unit(random.standard_normal((num, 3))).astype(np.float32) for _ in range(2))
    found = measure(pairs, q, p)
    hits = [groups[int(np.argmax(p @ row))] == groups[n] for n, row in enumerate(q)]
    assert found.recall.value == pytest.approx(np.mean(hits))
    texts, owners = np.stack([q, p], 1).reshape(-1, 3), np.repeat(groups, 2)
    near = []
    for n, row in enumerate(texts):
        others = [m for m in range(len(texts)) if m != n]
        near.append(owners[max(others, key=lambda m: float(texts[m] @ row))] == owners[n])
    assert found.neighbours.value == pytest.approx(np.mean(near))
    assert found.recall_hits_G.sum() == sum(hits) and found.num_queries_G.sum() == num


def test_a_text_that_occurs_twice_is_one_and_has_both_groups() -> None:
    pairs = [Pair(query="a", passage="x", group="1"), Pair(query="A", passage="y", group="2")]
    q, p = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    found = measure(pairs, q, p)
    assert found.num_queries_G.sum() == 1 and found.recall.value == 1.0, "either passage is right"
    assert found.num_texts_G.sum() == 3


def test_gains() -> None:
    random = np.random.default_rng(0)
    pairs = [Pair(query=f"q{n}", passage=f"p{n}") for n in range(60)]
    right = unit(random.standard_normal((60, 8)))
    good, bad = measure(pairs, right, right), measure(pairs, right, right[::-1])
    found = gain([good], [bad])
    assert good.recall.value == 1.0 and found.value == pytest.approx(1.0 - bad.recall.value) and found.low > 0.8
    same = gain([bad], [bad])
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    with pytest.raises(DataError, match="the same pairs"):
        gain([good], [measure(pairs[:30], right[:30], right[:30])])
    with pytest.raises(DataError, match="no held-out pairs"):
        measure([], right[:0], right[:0])
    assert "recall@1 1.000 (1.000 to 1.000)" in good.summary() and good.to_dict()["recall_at_1"] == [1.0, 1.0, 1.0]
