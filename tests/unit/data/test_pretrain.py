"""Windows: no token lost, targets beside their states, documents apart, the same windows for the same step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chatwright.data.masking import MaskConfig, vocabulary_of
from chatwright.data.pretrain import WindowMaker
from chatwright.data.pretrain_corpus import write_corpus
from chatwright.data.shards import Shards
from chatwright.errors import DataError
from chatwright.text.bpe import MASK, train_bpe

TEXTS = [f"Bees {n} make honey in winter 春眠不觉晓 {n}." for n in range(40)]
TOKENIZER = train_bpe(TEXTS, 300)
VOCABULARY = vocabulary_of(TOKENIZER, TOKENIZER.vocab_size)


class Numbers:
    """0, 1, 2, ...: a window shows where it was cut."""

    def __init__(self, num_tokens: int) -> None:
        self.num_tokens = num_tokens

    def tokens(self, start: int, stop: int) -> np.ndarray:
        assert 0 <= start < stop <= self.num_tokens
        return np.arange(start, stop, dtype=np.uint16)


def maker(source: Any, context: int = 8, **changes: Any) -> WindowMaker:
    settings: dict[str, Any] = {
        "vocabulary": VOCABULARY, "document_end": TOKENIZER.eos_id, "mask_id": TOKENIZER.special_ids[MASK],
        "masking": MaskConfig(), "apart": False, "seed": 0, "device": torch.device("cpu"),
    }  # fmt: skip
    return WindowMaker(source=source, context=context, **settings | changes)


@pytest.mark.parametrize("num_tokens", [9, 16, 17, 100, 103])
def test_the_whole_split_predicts_every_token_but_the_first_once(num_tokens: int) -> None:
    windows = maker(Numbers(num_tokens))
    targets = torch.cat([batch.targets_BT.flatten() for batch in windows.whole("causal", 3)])
    assert targets.tolist() == list(range(1, num_tokens))
    assert all(torch.equal(b.targets_BT, b.inputs_BT + 1) for b in windows.whole("causal", 3))
    some = torch.cat([batch.targets_BT.flatten() for batch in windows.whole("causal", 3, max_tokens=8)])
    assert some.tolist() == list(range(1, 9))


@pytest.mark.parametrize("num_tokens", [9, 17, 40, 103])
def test_a_pass_takes_every_window_once_in_another_order_each(num_tokens: int) -> None:
    windows = maker(Numbers(num_tokens))
    num = windows.windows_in_a_pass
    passes = [windows.starts(epoch * num, num) for epoch in range(20)]
    for starts in passes:
        found = sorted(starts)
        assert found[-1] + 9 <= num_tokens and all(b - a == 8 for a, b in zip(found, found[1:], strict=False))
        assert len(found) * 8 + 8 + 8 > num_tokens  # less than two windows are left out, at the ends
    if num_tokens > 30:
        assert len({tuple(p) for p in passes}) > 10 and len({p[0] % 8 for p in passes}) > 2


def test_a_step_takes_the_same_windows_whoever_asks() -> None:
    one, other = maker(Numbers(500)), maker(Numbers(500))
    together = one.starts(50, 20)
    assert [other.starts(50 + n, 1)[0] for n in range(20)] == together
    assert maker(Numbers(500), seed=1).starts(50, 20) != together


def test_too_little_text_is_an_error_that_names_the_numbers() -> None:
    with pytest.raises(DataError, match="has 8 tokens, a window takes 9"):
        maker(Numbers(8))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, TOKENIZER, TEXTS, TEXTS[:3])
    return Shards.open(folder, "train")


def test_a_written_corpus_verifies_and_gives_back_its_texts(shards: Shards) -> None:
    shards.verify()
    shards.require(TOKENIZER)
    found = [shards.tokens(a, b).tolist() for a, b in shards.documents()]
    assert [TOKENIZER.decode(ids) for ids in found] == TEXTS
    assert all(ids[0] == TOKENIZER.bos_id and ids[-1] == TOKENIZER.eos_id for ids in found)


def test_documents_apart_see_only_themselves_and_count_their_own_tokens(shards: Shards) -> None:
    windows = maker(shards, context=64, apart=True)
    for kind in ("causal", "masked"):
        batch = windows.batch(0, 4, kind)
        assert batch.mask_BTS is not None and batch.positions_BT is not None and batch.counted_BT is not None
        tokens = windows.rows(windows.starts(0, 4))
        for row in range(4):
            ends = np.flatnonzero(tokens[row, :64] == TOKENIZER.eos_id)
            first = ends[0] + 1  # the second document of the window begins here
            assert not batch.mask_BTS[row, first:, :first].any() and not batch.mask_BTS[row, :first, first:].any()
            assert batch.positions_BT[row, :first].tolist() == list(range(first))
            assert batch.positions_BT[row, first] == 0
            own = batch.mask_BTS[row, :first, :first]
            assert torch.equal(own, torch.ones_like(own) if kind == "masked" else torch.ones_like(own).tril())
            assert not batch.counted_BT[row, ends].any()  # an end does not predict the next document's beginning


def test_masked_windows_ask_for_what_they_hide_from_both_sides(shards: Shards) -> None:
    windows = maker(shards, context=64)
    batch, plain = windows.batch(4, 8, "masked"), windows.batch(4, 8, "causal")
    assert plain.mask_BTS is None and plain.counted_BT is None
    assert torch.equal(batch.targets_BT, plain.targets_BT) and batch.counted_BT is not None
    changed = batch.inputs_BT != plain.inputs_BT
    assert changed.any() and batch.num_targets == batch.counted_BT.sum() > changed[:, 1:].sum()
    assert not (changed[:, 1:] & ~batch.counted_BT[:, :-1]).any()  # the state before predicts what is hidden after
    assert not batch.counted_BT[:, -1].any()
    assert batch.mask_BTS is not None and batch.mask_BTS.all()
    again = windows.batch(4, 8, "masked")
    assert torch.equal(again.inputs_BT, batch.inputs_BT) and torch.equal(again.counted_BT, batch.counted_BT)


def test_a_text_without_ends_is_its_tokens(tmp_path: Path) -> None:
    write_corpus(tmp_path / "c", TOKENIZER, ["abc"], ["春眠"], ends=False)
    assert Shards.open(tmp_path / "c", "train").tokens(0, 3).tolist() == TOKENIZER.encode("abc")
    assert Shards.open(tmp_path / "c", "held_out").num_characters == 2
