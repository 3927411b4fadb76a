"""Batches: nothing is lost, masks let nothing leak, layouts give equal scores."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatwright.data import packing, rankings, sft
from chatwright.data.batches import BATCH_OVERHEAD_TOKENS, LMBatch, padded_width, plan
from chatwright.data.rankings import RankingExample
from chatwright.data.sft import Example
from chatwright.errors import DataError
from chatwright.model.config import ModelConfig
from chatwright.model.transformer import Transformer
from chatwright.records import Demonstration, Ranking, WeakOrder, conversation, user
from chatwright.text.chat import render
from chatwright.text.tokenizer import Tokenizer

PAD = 0
lengths = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def _examples(sizes: list[int]) -> list[Example]:
    """Examples whose every token is unique, so that a lost or doubled one shows."""
    start, found = 1, []
    for size in sizes:
        found.append(Example(tuple(range(start, start + size)), tuple(n % 3 != 0 for n in range(size))))
        start += size
    return found


def _real(batch: LMBatch) -> list[int]:
    return [int(t) for row, n in zip(batch.tokens_BT, batch.lengths_B, strict=True) for t in row[:n]]


def _targets(examples: list[Example]) -> list[int]:
    return sorted(i for e in examples for n, (i, t) in enumerate(zip(e.ids, e.loss_mask, strict=True)) if t and n)


@settings(deadline=None)
@given(lengths, st.integers(20, 200))
def test_micro_batches_hold_every_token_once_within_the_budget(sizes: list[int], budget: int) -> None:
    examples = _examples(sizes)
    batches = sft.micro_batches(examples, budget, PAD)
    assert sorted(i for batch in batches for i in _real(batch)) == sorted(i for e in examples for i in e.ids)
    assert sorted(int(i) for b in batches for i in b.tokens_BT[b.loss_mask_BT]) == _targets(examples)
    assert all(batch.tokens_BT.numel() <= budget or len(batch.tokens_BT) == 1 for batch in batches)
    assert sum(batch.num_targets for batch in batches) == len(_targets(examples))
    for batch in batches:
        places = torch.arange(batch.tokens_BT.shape[1])[None] >= batch.lengths_B[:, None]
        assert not batch.loss_mask_BT[places].any()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(30, 150))
def test_the_plan_costs_no_more_than_any_split_of_the_sorted_items(sizes: list[int], budget: int) -> None:
    def cost(groups: list[list[int]]) -> int:
        return sum(padded_width(max(sizes[i] for i in g)) * len(g) + BATCH_OVERHEAD_TOKENS for g in groups)

    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    least = None
    for cuts in range(2 ** (len(sizes) - 1)):
        groups, current = [], [order[0]]
        for n, item in enumerate(order[1:]):
            if cuts >> n & 1:
                groups.append(current)
                current = []
            current.append(item)
        groups.append(current)
        if all(len(g) == 1 or padded_width(sizes[g[0]]) * len(g) <= budget for g in groups):
            least = min(cost(groups), least if least is not None else cost(groups))
    assert cost(plan(sizes, budget)) == least


def test_padding_waste_is_small_over_a_shuffled_set() -> None:
    sizes = [20 + (n * 37) % 200 for n in range(400)]
    batches = sft.micro_batches(_examples(sizes), 2048, PAD)
    assert sum(b.num_tokens for b in batches) / sum(b.tokens_BT.numel() for b in batches) > 0.93  # blocks of 16


@settings(deadline=None)
@given(lengths, st.integers(40, 120))
def test_packing_loses_no_token_and_mixes_none(sizes: list[int], row_tokens: int) -> None:
    examples = _examples(sizes)
    rows = packing.best_fit(sizes, row_tokens)
    assert Counter(i for row in rows for i in row) == Counter(range(len(sizes)))
    assert all(sum(sizes[i] for i in row) <= row_tokens for row in rows)
    batch = packing.packed_batch(examples, rows, PAD)
    assert sorted(_real(batch)) == sorted(i for e in examples for i in e.ids)
    assert sorted(int(i) for i in batch.tokens_BT[batch.loss_mask_BT]) == _targets(examples)
    assert batch.positions_BT is not None and batch.mask_BTS is not None
    owner = {i: n for n, example in enumerate(examples) for i in example.ids}
    place = {i: p for example in examples for p, i in enumerate(example.ids)}
    for b, num in enumerate(batch.lengths_B.tolist()):
        ids = batch.tokens_BT[b, :num].tolist()
        assert batch.positions_BT[b, :num].tolist() == [place[i] for i in ids]
        expected = [[owner[q] == owner[k] and place[k] <= place[q] for k in ids] for q in ids]
        assert batch.mask_BTS[b, :num, :num].tolist() == expected
        assert not batch.mask_BTS[b, :num, num:].any()
    assert batch.mask_BTS.any(-1).all(), "a row that looks at nothing is NaN"


def test_best_fit_uses_few_rows_and_refuses_what_does_not_fit() -> None:
    assert len(packing.best_fit([60, 50, 50, 40], 100)) == 2
    with pytest.raises(DataError, match="does not fit"):
        packing.best_fit([101], 100)


# ---- rankings ----------------------------------------------------------------------------------------------


def _model(vocab_size: int, **fields: object) -> Transformer:
    torch.manual_seed(0)
    config = ModelConfig(
        family="llama", vocab_size=vocab_size, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8,
        intermediate_size=64, max_positions=512, **fields,
    )  # fmt: skip
    model = Transformer(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def _ranking(question: str, answers: list[str], order: str, **fields: object) -> Ranking:
    return Ranking(messages=user(question), completions=tuple(answers),
                   order=WeakOrder.parse(order, len(answers)), **fields)  # type: ignore[arg-type]  # fmt: skip


RANKINGS = [
    _ranking("Why do bees make honey?", ["To eat.", "Because they like it, very much.", "", "No."], "D>C>A=B"),
    _ranking("What is gravity?", ["A pull.", "A pull on things, down."], "A=B"),
    _ranking("你好", ["春眠不觉晓", "x", "🍎 yes"], "B>A>C"),
]


@pytest.mark.parametrize("window", [None, 16])
def test_one_forward_over_the_tree_scores_as_one_forward_per_answer(tokenizer: Tokenizer, window: int | None) -> None:
    fields = {} if window is None else {"sliding_window": window, "local_layers": (True, False)}
    model = _model(tokenizer.vocab_size, **fields)
    examples = rankings.load_examples(RANKINGS, tokenizer, max_tokens=256)
    scores = {}
    for layout in ("tree", "plain"):
        for budget in (1, 10_000):
            found = {}
            for batch in rankings.micro_batches(examples, budget, PAD, layout=layout):
                with torch.no_grad():
                    hidden_BTD = model(batch.tokens_BT, positions_BT=batch.positions_BT, mask_BTS=batch.mask_BTS)
                score_A = hidden_BTD.sum(-1)[batch.answer_row_A, batch.answer_last_A]
                for row, values in zip(batch.rows, score_A.split(batch.num_answers), strict=True):
                    found[row] = values
            scores[layout, budget] = torch.cat([found[n] for n in range(len(examples))])
    for values in scores.values():
        assert torch.allclose(values, scores["plain", 1], atol=1e-4)


def test_the_score_is_read_at_the_last_response_token(tokenizer: Tokenizer) -> None:
    """Not at padding, and not one slot late (trl#3750): its end of turn, or the last token of a cut answer."""
    cut = _ranking("Why?", ["It is so.", "Yes"], "A>B", meta={"finish_reason": ["length", "stop"]})
    examples = rankings.load_examples([*RANKINGS, cut], tokenizer, max_tokens=256)
    for layout in ("tree", "plain"):
        for batch in rankings.micro_batches(examples, 10_000, PAD, layout=layout):
            last = iter(batch.tokens_BT[batch.answer_row_A, batch.answer_last_A].tolist())
            for row in batch.rows:
                for n, answer in enumerate(examples[row].answers):
                    token = next(last)
                    assert token == answer[-1]
                    assert (token == tokenizer.end_of_turn_id) == ((row, n) != (3, 0))
    assert tokenizer.decode(examples[3].answers[0]) == "It is so."


def test_answer_tokens_equal_those_of_sft(tokenizer: Tokenizer) -> None:
    for ranking in RANKINGS:
        example = rankings.load_examples([ranking], tokenizer, max_tokens=256)[0]
        for text, ids in zip(ranking.completions, example.answers, strict=True):
            whole = render((*ranking.messages, *conversation(("assistant", text))), tokenizer)
            assert whole.ids[: len(example.prompt_ids)] == example.prompt_ids
            assert tuple(i for i, t in zip(whole.ids, whole.loss_mask, strict=True) if t) == ids


def test_relations_name_the_right_answers_across_a_batch(tokenizer: Tokenizer) -> None:
    examples = rankings.load_examples(RANKINGS, tokenizer, max_tokens=256)
    (batch,) = rankings.micro_batches(examples, 10_000, PAD)
    assert batch.num_prompts == 3 and sum(batch.num_answers) == 9
    starts = dict(zip(batch.rows, torch.tensor([0, *batch.num_answers]).cumsum(0).tolist(), strict=False))
    found = {(int(p), int(i), int(j), int(r)) for p, i, j, r in zip(batch.prompt_R, batch.first_R, batch.second_R,
                                                                   batch.relation_R, strict=True)}  # fmt: skip
    assert found == {
        (batch.rows.index(n), starts[n] + i, starts[n] + j, relation)
        for n, ranking in enumerate(RANKINGS)
        for i, j, relation in ranking.order.pairs()
    }


def test_shuffled_pairs_keep_every_relation(tokenizer: Tokenizer) -> None:
    examples = rankings.load_examples(RANKINGS, tokenizer, max_tokens=256)
    pairs = rankings.shuffled_pairs(examples, seed=1)
    assert pairs == rankings.shuffled_pairs(examples, seed=1) != rankings.shuffled_pairs(examples, seed=2)

    def described(found: list[RankingExample]) -> Counter[tuple[object, ...]]:
        return Counter((e.prompt_ids, e.answers[i], e.answers[j], r) for e in found for i, j, r in e.relations)

    assert described(pairs) == described(examples)
    assert all(len(pair.answers) == 2 for pair in pairs)


def test_context_goes_before_the_question_and_is_cut_first(
    tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    context = ({"title": "Hives", "text": "Bees live in hives. " * 20}, "Honey is sweet.")
    ranking = _ranking("Why do bees make honey?", ["To eat.", "No."], "A>B", context=context)
    (whole,) = rankings.load_examples([ranking], tokenizer, max_tokens=2000)
    text = tokenizer.decode(whole.prompt_ids)
    assert "Hives\nBees live" in text and "Honey is sweet.\n\nWhy do bees make honey?" in text
    assert capsys.readouterr().err == ""
    bare = len(render(ranking.messages, tokenizer, add_generation_prompt=True))
    (cut,) = rankings.load_examples([ranking], tokenizer, max_tokens=bare + 80, max_prompt_tokens=bare + 30)
    assert bare < len(cut.prompt_ids) <= bare + 30
    assert "Why do bees make honey?" in tokenizer.decode(cut.prompt_ids)
    assert "contexts cut: 1" in capsys.readouterr().err
    assert rankings.load_examples([ranking], tokenizer, max_tokens=bare, max_prompt_tokens=bare - 1) == []
    assert "prompt too long: 1" in capsys.readouterr().err


def test_an_answer_over_the_limit_is_cut_and_loses_its_end_of_turn(tokenizer: Tokenizer) -> None:
    ranking = _ranking("Why?", ["word " * 50, "No."], "B>A")
    prompt = len(render(ranking.messages, tokenizer, add_generation_prompt=True))
    (example,) = rankings.load_examples([ranking], tokenizer, max_tokens=prompt + 20, max_prompt_tokens=prompt)
    assert len(example.answers[0]) == 20 and example.answers[0][-1] != tokenizer.end_of_turn_id
    assert example.answers[1][-1] == tokenizer.end_of_turn_id


def test_all_tied_prompts_yield_ties_and_lone_answers_nothing(tokenizer: Tokenizer) -> None:
    tied = _ranking("Why?", ["a", "b", "c"], "A=B=C")
    lone = Ranking(messages=user("Why?"), completions=("a", "b"), order=WeakOrder((1, None)))
    examples = rankings.load_examples([tied, lone], tokenizer, max_tokens=100)
    (batch,) = rankings.micro_batches(examples, 1000, PAD)
    assert len(examples) == 1 and batch.relation_R.tolist() == [0, 0, 0]


def test_the_split_keeps_a_prompt_together_and_ignores_the_order() -> None:
    many = [_ranking(f"question {n % 40}", ["a", "b"], "A>B") for n in range(100)]
    train, held = rankings.split_by_prompt(many, 0.25, seed=3)
    assert len(train) + len(held) == 100
    assert not {r.prompt_id for r in train} & {r.prompt_id for r in held}
    assert len({r.prompt_id for r in held}) == 10
    again = rankings.split_by_prompt(many[::-1], 0.25, seed=3)[1]
    assert {r.prompt_id for r in again} == {r.prompt_id for r in held}
    assert {r.prompt_id for r in rankings.split_by_prompt(many, 0.25, seed=4)[1]} != {r.prompt_id for r in held}


# ---- demonstrations ----------------------------------------------------------------------------------------


def test_demonstrations_too_long_are_cut_or_left_out(tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    short = Demonstration(messages=conversation(("user", "hi"), ("assistant", "yes")))
    long_answer = Demonstration(messages=conversation(("user", "hi"), ("assistant", "word " * 200)))
    long_question = Demonstration(messages=conversation(("user", "word " * 200), ("assistant", "yes")))
    examples = sft.load_examples([short, long_answer, long_question], tokenizer, max_tokens=150)
    assert [len(e.ids) for e in examples][1] == 150 and len(examples) == 2
    assert "2 of 3 demonstrations used: 1 cut at 150 tokens, 1 left out" in capsys.readouterr().err
    trained = [i for i, t in zip(examples[0].ids, examples[0].loss_mask, strict=True) if t]
    assert trained[-1] == tokenizer.end_of_turn_id
