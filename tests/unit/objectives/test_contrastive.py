"""InfoNCE and Matryoshka against loops over numbers."""

from __future__ import annotations

import math
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatwright.objectives.contrastive import info_nce, matryoshka_info_nce


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def plain(queries: list[list[float]], passages: list[list[float]], same: list[list[bool]], tau: float) -> float:
    """The sum, written as the equation stands in docs/methods/embeddings.md."""
    total = 0.0
    for rows, pool in ((queries, passages), (passages, queries)):
        for i, row in enumerate(rows):
            kept = [j for j in range(len(pool)) if j == i or not same[i][j]]
            scores = {j: cosine(row, pool[j]) / tau for j in kept}
            total -= 0.5 * (scores[i] - math.log(sum(math.exp(s) for s in scores.values())))
    return total


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), num=st.integers(1, 6), width=st.integers(2, 7), tau=st.sampled_from([0.05, 0.3, 1.0]))
def test_equals_the_loop(seed: int, num: int, width: int, tau: float) -> None:
    random = Random(seed)
    queries, passages = ([[random.gauss(0, 3) for _ in range(width)] for _ in range(num)] for _ in range(2))
    same = [[i == j for j in range(num)] for i in range(num)]
    for i in range(num):
        for j in range(i):
            same[i][j] = same[j][i] = random.random() < 0.3
    q, p, s = torch.tensor(queries), torch.tensor(passages), torch.tensor(same)
    total, count = info_nce(q, p, s, tau)
    assert float(total) == pytest.approx(plain(queries, passages, same, tau), rel=1e-4, abs=1e-4) and float(count) == num
    dims = sorted({random.randint(1, width), width}, reverse=True)
    wanted = [plain([r[:d] for r in queries], [r[:d] for r in passages], same, tau) for d in dims]
    total, count = matryoshka_info_nce(q, p, s, dimensions=dims, temperature=tau)
    assert float(total) == pytest.approx(sum(wanted) / len(dims), rel=1e-4, abs=1e-4) and float(count) == num


def test_false_negatives_have_no_gradient() -> None:
    """Two pairs of one group do not push each other away; a third one pushes both."""
    torch.manual_seed(0)
    q, p = (torch.randn(2, 4, requires_grad=True) for _ in range(2))
    total, _ = info_nce(q, p, torch.ones(2, 2, dtype=torch.bool), 0.1)
    assert total.item() == 0.0, "each has itself alone"
    total.backward()
    assert q.grad is not None and float(q.grad.abs().max()) == 0.0
    total, _ = info_nce(q, p, torch.eye(2, dtype=torch.bool), 0.1)
    total.backward()
    assert float(q.grad.abs().max()) > 0.0


def test_learns_to_tell_apart() -> None:
    torch.manual_seed(0)
    q, p = (torch.randn(8, 6, requires_grad=True) for _ in range(2))
    same = torch.eye(8, dtype=torch.bool)
    adam = torch.optim.Adam([q, p], lr=0.1)
    for _ in range(100):
        adam.zero_grad()
        total, _ = matryoshka_info_nce(q, p, same, dimensions=(6, 3), temperature=0.1)
        total.backward()
        adam.step()
    for width in (6, 3):
        a, b = (torch.nn.functional.normalize(x[:, :width], dim=1) for x in (q, p))
        assert (a @ b.T).argmax(1).tolist() == list(range(8))
