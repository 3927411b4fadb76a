"""Where answer tokens stand: one layout for log-probabilities, values, rewards and losses."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from chatwright.data.responses import response_batches
from chatwright.model.heads import ScalarModel
from tiny_models import tiny_model

rows_of = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 7)), min_size=1, max_size=12)


@given(rows_of, st.integers(1, 60), st.data())
def test_every_answer_token_is_in_one_batch_at_its_own_place(
    sizes: list[tuple[int, int]], micro_tokens: int, data: st.DataObject
) -> None:
    numbers = iter(range(1, 10_000))  # every token is unique, so that a wrong place shows
    prompts = [[next(numbers) for _ in range(p)] for p, _ in sizes]
    answers = [[next(numbers) for _ in range(a)] for _, a in sizes]
    chosen = data.draw(st.lists(st.sampled_from(range(len(sizes))), unique=True, min_size=1))
    seen: dict[tuple[int, int], int] = {}
    rows: list[int] = []
    for batch in response_batches(prompts, answers, chosen, micro_tokens, 0, "cpu"):
        rows += batch.rows
        assert batch.tokens_BT.numel() <= micro_tokens or len(batch.rows) == 1
        for n, target in enumerate(batch.targets_N.tolist()):
            places = (batch.row_N, batch.predict_N, batch.source_N, batch.column_N)
            row, predict, source, column = (int(place[n]) for place in places)
            assert batch.rows[row] == source and answers[source][column] == target
            assert batch.tokens_BT[row, predict + 1] == target  # the state before it predicts it
            assert predict == len(prompts[source]) - 1 + column
            seen[source, column] = target
        for row, source in enumerate(batch.rows):
            assert batch.tokens_BT[row, batch.last_B[row]] == answers[source][-1]
            assert not batch.tokens_BT[row, int(batch.last_B[row]) + 1 :].any()  # padding behind it alone
    assert sorted(rows) == sorted(chosen)
    assert seen == {(row, column): token for row in chosen for column, token in enumerate(answers[row])}


@torch.no_grad()
def test_the_final_norm_is_applied_once_before_the_head() -> None:
    """minimind's critic normalises twice."""
    model = ScalarModel(tiny_model("llama"))
    model.head.init_normal(torch.Generator().manual_seed(0))
    model.head.bias.fill_(0.25)
    calls: list[torch.Tensor] = []
    model.trunk.final_norm.register_forward_hook(lambda _m, _i, out: calls.append(out))
    tokens = torch.arange(12).reshape(2, 6)
    values = model(tokens)
    assert len(calls) == 1 and values.dtype == torch.float32
    torch.testing.assert_close(values, calls[0] @ model.head.weight + 0.25)
