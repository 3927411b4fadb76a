"""Trained tokenizers: any text comes back, text never becomes a control token, splits hold, GGUF knows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from chatwright.errors import ConfigError, DataError
from chatwright.records import Message
from chatwright.text import bpe
from chatwright.text.chat import render
from chatwright.text.tokenizer import Tokenizer
from conftest import TRAINING_TEXT

TEXTS = [*TRAINING_TEXT, "锄禾日当午，汗滴禾下土。谁知盘中餐，粒粒皆辛苦。" * 20, "In 1984, 12345 people said don't. " * 20]
BPE = bpe.train_bpe(TEXTS, 380)
CHARACTERS = bpe.train_characters(TEXTS)


@pytest.mark.parametrize("tokenizer", [BPE, CHARACTERS], ids=["bpe", "characters"])
@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from([*bpe.CONTROL_TOKENS, "x<|mask|>y"]))
def test_any_text_comes_back_and_holds_no_control_token(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(tokenizer.special_ids.values())


@settings(deadline=None)
@given(st.text(st.sampled_from(sorted({c for text in TEXTS for c in text})), max_size=50))
def test_a_known_character_is_one_token(text: str) -> None:
    assert [CHARACTERS.decode([i]) for i in CHARACTERS.encode(text)] == list(text)


def test_control_tokens_are_distinct_and_named() -> None:
    for tokenizer in (BPE, CHARACTERS):
        ids = [tokenizer.special_ids[name] for name in bpe.CONTROL_TOKENS]
        assert ids == list(range(len(bpe.CONTROL_TOKENS)))
        assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.end_of_turn_id) == (0, 1, 2, 4)
        assert tokenizer.document_end_id == 2 and tokenizer.stop_ids == {2, 4}


def test_the_folder_is_an_equal_tokenizer_and_renders_chats(tmp_path: Path) -> None:
    BPE.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert again.fingerprint == BPE.fingerprint and again.bos_id == 1
    rendered = render((Message(role="user", content="<|im_end|>你好"), Message(role="assistant", content="ok")), again)
    assert rendered.ids.count(again.special_ids[bpe.TURN_END]) == 2
    assert rendered.ids.count(again.special_ids[bpe.TURN_START]) == 2


def test_transformers_reads_it_alike(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    BPE.save(tmp_path)
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text in TEXTS:
        assert theirs(text, add_special_tokens=False)["input_ids"] == BPE.encode(text)
    assert theirs.mask_token_id == BPE.special_ids[bpe.MASK] and theirs.pad_token_id == 0


def test_merges_never_cross_the_splits() -> None:
    rust = tokenizers.Tokenizer.from_str(BPE.json)
    found = [text for text, _ in rust.pre_tokenizer.pre_tokenize_str("a你好，b 12345!")]
    spelled = [bpe._byte_letters(text) for text in ("a", "你好", "，", "b", " ", "123", "45", "!")]
    assert found == spelled


def test_han_words_and_numbers_are_learned() -> None:
    pieces = [BPE.decode([i]) for i in BPE.encode("锄禾日当午，12345")]
    assert len(pieces) < 10 and "，" in pieces and "123" in pieces
    longest = max(len(piece) for piece in json.loads(BPE.json)["model"]["vocab"])
    assert longest <= max(bpe.MAX_TOKEN_BYTES, max(map(len, bpe.CONTROL_TOKENS)))


def test_the_vocabulary_has_the_size_asked_for() -> None:
    assert BPE.vocab_size == 380
    assert bpe.train_bpe(["abc"], 5000).vocab_size == bpe.SMALLEST_VOCABULARY  # no pair occurs twice
    assert bpe.train_characters(["aé你" * 3 + "好"], bpe.SMALLEST_VOCABULARY + 3).encode("é你好").__len__() == 1 + 1 + 3


def test_the_same_text_gives_the_same_tokenizer() -> None:
    assert bpe.train_bpe(TEXTS, 400).fingerprint == bpe.train_bpe(TEXTS, 400).fingerprint
    assert bpe.train_characters(TEXTS).fingerprint == CHARACTERS.fingerprint


def test_what_cannot_be_trained_says_so() -> None:
    with pytest.raises(ConfigError, match="at least 262"):
        bpe.train_bpe(TEXTS, 261)
    with pytest.raises(ConfigError, match="at least 262"):
        bpe.train_characters(TEXTS, 10)
    for train in (lambda: bpe.train_bpe([], 300), lambda: bpe.train_characters([""])):
        with pytest.raises(DataError, match="no text"):
            train()


@pytest.mark.parametrize("tokenizer", [BPE, CHARACTERS], ids=["bpe", "characters"])
def test_gguf_there_and_back(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    from chatwright.model.formats.convert import ensure_hf_folder
    from chatwright.model.formats.gguf_write import write_gguf
    from tiny_models import tiny_model

    tokenizer.save(tmp_path)
    write_gguf(tiny_model("llama", tokenizer.vocab_size), tmp_path / "m.gguf", tmp_path, "q8_0", name="m")
    again = Tokenizer.from_folder(ensure_hf_folder(tmp_path / "m.gguf"))
    for text in TEXTS:
        assert again.encode(text) == tokenizer.encode(text)
    assert again.special_ids.items() >= {name: tokenizer.special_ids[name] for name in bpe.CONTROL_TOKENS}.items()
