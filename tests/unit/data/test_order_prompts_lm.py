"""Data order, prompt selection, raw-text blocks."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chatwright.data import corpus, lm, prompts
from chatwright.data.cursor import Batches, Order
from chatwright.data.splits import split_by
from chatwright.errors import ConfigError, DataError
from chatwright.records import Prompt, user
from chatwright.text.tokenizer import Tokenizer


@given(st.integers(1, 50), st.integers(0, 5), st.integers(1, 12))
def test_every_pass_is_a_permutation_and_any_step_can_be_asked_alone(num: int, seed: int, size: int) -> None:
    straight = [i for step in range(3 * num) for i in Order(num, seed).batch(step, size)]
    for start in range(0, len(straight) - num + 1, num):
        assert sorted(straight[start : start + num]) == list(range(num))
    resumed = Order(num, seed)
    assert [i for step in range(num, 3 * num) for i in resumed.batch(step, size)] == straight[num * size :]


@given(st.integers(1, 50), st.integers(1, 12), st.integers(1, 4))
def test_every_epoch_takes_each_row_once_and_no_batch_reaches_into_the_next(num: int, size: int, epochs: int) -> None:
    batches = Batches(num, size, 3, epochs=epochs)
    taken = [batches.at(step) for step in range(batches.total)]
    ends = [step for step in range(batches.total) if batches.ends_epoch(step)]
    assert len(ends) == epochs and ends[-1] == batches.total - 1
    start = 0
    for end in ends:
        assert sorted(row for rows in taken[start : end + 1] for row in rows) == list(range(num))
        start = end + 1
    sizes = [batches.rows_before(step + 1) - batches.rows_before(step) for step in range(batches.total)]
    assert sizes == [len(rows) for rows in taken]


def test_steps_are_full_batches_and_a_run_has_at_least_one() -> None:
    batches = Batches(9, 8, 0, epochs=2, steps=3)
    assert [len(batches.at(step)) for step in range(batches.total)] == [8, 8, 8]
    assert [row for step in range(3) for row in batches.at(step)] == [Order(9, 0).at(i) for i in range(24)]
    for wrong in ({"epochs": 0}, {"epochs": 1, "steps": -1}, {"epochs": -2}):
        with pytest.raises(ConfigError, match="at least one"):
            Batches(9, 8, 0, **wrong)
    with pytest.raises(ConfigError, match="batch-size 0"):
        Batches(9, 0, 0, epochs=1)


def test_the_order_depends_on_seed_and_pass_and_is_pinned() -> None:
    order = Order(100, seed=0)
    assert len({order.permutation(0), order.permutation(1), Order(100, seed=1).permutation(0)}) == 3
    assert Order(6, 0).permutation(0) == Order(6, 0).permutation(0)
    assert Order(10, 7).permutation(3) == PINNED, "the order changed: interrupted runs would not resume exactly"
    with pytest.raises(DataError, match="no rows"):
        Order(0, 0)


PINNED = (0, 5, 9, 6, 2, 7, 4, 1, 3, 8)


def _prompt(text: str, **meta: object) -> Prompt:
    return Prompt(messages=user(text), meta=meta)


def test_repeated_prompts_are_one_unless_their_passages_differ() -> None:
    rows = [_prompt("Hi"), _prompt(" hi\u3000"), _prompt("ＨＩ"), _prompt("Hi!"), _prompt("Hi", context=["A."])]
    assert [p.meta or p.messages[0].content for p in prompts.distinct(rows)] == ["Hi", "Hi!", {"context": ["A."]}]


def test_splits_leave_something_on_both_sides() -> None:
    assert [len(side) for side in split_by(["a", "b"], str, 0.01, 0)] == [1, 1]
    assert split_by(["a", "b"], str, 0.0, 0) == (["a", "b"], [])
    with pytest.raises(ConfigError, match="share"):
        split_by(["a"], str, 1.0, 0)


def test_prompts_end_ready_for_an_answer(tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    examples = prompts.load_examples([_prompt("Why?"), _prompt("word " * 500)], tokenizer, max_tokens=200)
    assert len(examples) == 1 and tokenizer.decode(examples[0].ids, skip_special=False).endswith(
        "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "1 of 2 prompts used" in capsys.readouterr().err


# ---- raw text ----------------------------------------------------------------------------------------------


def test_documents_become_blocks_with_ends_between(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("﻿one\r\ntwo".encode())
    replay = tokenizer.encode("replay text")
    rows = [{"text": "third"}, {"ids": replay}, {"text": "  "}, {"text": ["four", "five"]}]
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    blocks = lm.load_blocks([tmp_path], tokenizer, block_size=8)
    assert tokenizer.document_end_id != tokenizer.end_of_turn_id
    end = tokenizer.piece(tokenizer.document_end_id)
    whole = tokenizer.decode(blocks.tokens_N.tolist(), skip_special=False)
    assert whole == f"one\ntwo{end}third{end}replay text{end}four\nfive{end}"
    batch = blocks.batch(range(len(blocks)))
    assert batch.lengths_B[:-1].eq(8).all()
    assert batch.num_tokens == len(blocks.tokens_N) - (len(blocks.tokens_N) % 8 == 1)
    assert batch.num_targets == batch.num_tokens - len(blocks)
    assert not batch.loss_mask_BT[:, 0].any()
    assert torch.equal(blocks.batch([1]).tokens_BT[0], blocks.tokens_N[8:16].long())


def test_what_is_no_corpus_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    def load(name: str, text: str) -> None:
        (tmp_path / name).write_text(text, encoding="utf-8")
        lm.load_blocks([tmp_path / name], tokenizer, block_size=8)

    with pytest.raises(DataError, match=r"a.jsonl:2: text: is missing.*title"):
        load("a.jsonl", '{"text": "x"}\n{"title": "y"}\n')
    with pytest.raises(DataError, match="beyond the vocabulary"):
        load("b.jsonl", '{"ids": [5, 1000000]}\n')
    with pytest.raises(DataError, match="b.jsonl:1: ids: must be whole numbers"):
        load("b.jsonl", '{"ids": [5, "6"]}\n')
    with pytest.raises(DataError, match="no text"):
        load("c.txt", "\n \n")
    with pytest.raises(DataError, match="cannot be read"):
        lm.load_blocks([tmp_path / "absent.txt"], tokenizer, block_size=8)
    with pytest.raises(DataError, match="holds no"):
        (tmp_path / "empty").mkdir()
        corpus.open_shards([tmp_path / "empty"])


def test_poems_are_read_by_their_own_field(shared_data: Path, tokenizer: Tokenizer) -> None:
    shards = corpus.open_shards([shared_data / "text" / "tang_poems.jsonl.gz"])
    found = corpus.documents(shards, text_field="paragraphs")
    first = next(found)
    assert first.text.startswith("秦川雄帝宅，函谷壮皇居。\n绮殿千寻起")
    assert sum(1 for _ in found) > 57_000


@pytest.mark.parametrize("add", [True, False, None])
def test_documents_begin_with_bos_where_the_tokenizer_puts_one_before_text(
    make_tokenizer: Callable[..., Tokenizer], tmp_path: Path, add: bool | None
) -> None:
    """Llama and Gemma read text after bos only; a replay row that has it keeps one."""
    changes = {} if add is None else {"add_bos_token": add}
    tokenizer = make_tokenizer(bos_token="<|im_start|>", eos_token="<|im_end|>", **changes)
    assert tokenizer.bos_id is not None and tokenizer.bos_id != tokenizer.document_end_id
    start, end = [tokenizer.bos_id] if add else [], tokenizer.document_end_id
    rows = [{"text": "Bees make honey."}, {"ids": [*start, 9, 8, 7]}, {"ids": [9, 8]}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    blocks = lm.load_blocks((tmp_path / "t.jsonl",), tokenizer, 64)
    expected = [*start, *tokenizer.encode("Bees make honey."), end, *start, 9, 8, 7, end, *start, 9, 8, end]
    assert blocks.batch([0]).tokens_BT[0].tolist() == expected
