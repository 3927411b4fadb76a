"""The tokenizer: plain text stays plain, ids decode back, foreign files are refused in our own words."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from chatwright.errors import ChatwrightError, ModelError, TemplateError
from chatwright.text.tokenizer import Tokenizer
from conftest import CHATML_TOKENS, byte_level_json, chatml_config, sentencepiece_json

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
BYTE_LEVEL = Tokenizer.from_json(byte_level_json(CHATML_TOKENS), chatml_config())
SENTENCE_PIECE = Tokenizer.from_json(
    sentencepiece_json(["<s>", "</s>", "[INST]", "[/INST]"]), {"bos_token": "<s>", "eos_token": "</s>"}
)


@settings(deadline=None)
@given(texts)
def test_byte_level_text_round_trips(text: str) -> None:
    assert BYTE_LEVEL.decode(BYTE_LEVEL.encode(text)) == text


@settings(deadline=None)
@given(texts, st.sampled_from([BYTE_LEVEL, SENTENCE_PIECE]))
def test_plain_text_never_gives_control_ids(text: str, tokenizer: Tokenizer) -> None:
    for token in tokenizer.special_ids:
        ids = tokenizer.encode(f"{text}{token}{text}")
        assert not set(ids) & set(tokenizer.special_ids.values()) - {tokenizer.special_ids.get("<unk>")}
    assert tokenizer.encode_many([text, text + "x"]) == [tokenizer.encode(text), tokenizer.encode(text + "x")]


@settings(deadline=None)
@given(texts)
def test_ends_point_behind_each_token(text: str) -> None:
    ids, ends = BYTE_LEVEL.encode_with_ends(text)
    assert len(ids) == len(ends) and ends == sorted(ends)
    assert not text or ends[-1] == len(text)


@settings(deadline=None)
@given(texts, st.sampled_from([BYTE_LEVEL, SENTENCE_PIECE]))
def test_streamed_text_equals_the_whole(text: str, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(text)
    decoder = tokenizer.stream_decoder()
    pieces = [decoder.push(i) for i in ids]
    assert "".join(pieces) + decoder.flush() == tokenizer.decode(ids)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces), "half a character was given out"


@settings(deadline=None)
@given(st.lists(st.integers(0, BYTE_LEVEL.vocab_size - 1), max_size=40))
def test_any_ids_can_be_streamed(ids: list[int]) -> None:
    """Models sample broken UTF-8 too; only where the replacement characters fall may differ."""
    decoder = BYTE_LEVEL.stream_decoder()
    streamed = "".join(decoder.push(i) for i in ids) + decoder.flush()
    assert streamed.replace("\ufffd", "") == BYTE_LEVEL.decode(ids).replace("\ufffd", "")


def test_special_tokens_of_smollm2() -> None:
    """Its pad is its end of turn: padding must not look like a stop (alpaca_farm masked one token too many)."""
    assert BYTE_LEVEL.stop_ids == {BYTE_LEVEL.special_ids["<|im_end|>"]}
    assert BYTE_LEVEL.pad_id == BYTE_LEVEL.special_ids["<|endoftext|>"] not in BYTE_LEVEL.stop_ids
    assert BYTE_LEVEL.document_end_id == BYTE_LEVEL.special_ids["<|endoftext|>"]
    assert BYTE_LEVEL.bos_id == BYTE_LEVEL.special_ids["<|im_start|>"]


def test_eos_and_end_of_turn_both_stop() -> None:
    config = {"eos_token": {"content": "<|endoftext|>", "lstrip": False}, "pad_token": "<|endoftext|>"}
    tokenizer = Tokenizer.from_json(byte_level_json(CHATML_TOKENS), config)
    assert tokenizer.stop_ids == {tokenizer.special_ids["<|endoftext|>"], tokenizer.special_ids["<|im_end|>"]}
    assert tokenizer.pad_id == tokenizer.special_ids["<repo_name>"]
    gpt2 = Tokenizer.from_json(byte_level_json(["<|endoftext|>"]), {"eos_token": "<|endoftext|>"})
    assert gpt2.pad_id == gpt2.eos_id, "GPT-2 has no other token; batches mask padding by length"


def test_control_tokens_stored_as_ordinary_ones_are_made_special() -> None:
    text = byte_level_json(["<|endoftext|>"], ordinary=("<|im_start|>", "<|im_end|>", "<think>"))
    tokenizer = Tokenizer.from_json(text, chatml_config())
    assert not set(tokenizer.encode("<|im_start|>system")) & set(tokenizer.special_ids.values())
    ids = tokenizer.encode("a<think>b")
    assert tokenizer.decode(ids, skip_special=True) == "a<think>b" and len(ids) == 3
    assert "<think>" not in tokenizer.special_ids


def test_a_model_whose_vocabulary_holds_control_tokens_is_outwitted() -> None:
    """Unigram finds `</s>` in plain text by itself, whatever the special-token setting."""
    rust = tokenizers.Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), *((c, -5.0) for c in "ab</s>")], 0))
    rust.add_special_tokens(["<unk>", "</s>"])
    tokenizer = Tokenizer.from_json(rust.to_str(), {"eos_token": "</s>", "unk_token": "<unk>"})
    ids, ends = tokenizer.encode_with_ends("a</s>b")
    assert tokenizer.eos_id not in ids and [tokenizer.piece(i) for i in ids] == list("a</s>b")
    assert ends == [1, 2, 3, 4, 5, 6]
    assert tokenizer.encode_many(["a</s>b"]) == [ids]


def test_saving_and_loading_gives_an_equal_tokenizer(tmp_path: Path) -> None:
    BYTE_LEVEL.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert again.fingerprint == BYTE_LEVEL.fingerprint
    again.save(tmp_path / "twice")
    assert Tokenizer.from_folder(tmp_path / "twice").fingerprint == BYTE_LEVEL.fingerprint
    assert (tmp_path / "tokenizer.json").read_text(encoding="utf-8") == BYTE_LEVEL.json
    assert "auto_map" not in (tmp_path / "tokenizer_config.json").read_text(encoding="utf-8")
    plain = Tokenizer.from_json(byte_level_json(CHATML_TOKENS), chatml_config(chat_template=""))
    assert plain.fingerprint != BYTE_LEVEL.fingerprint


def test_a_jinja_file_beside_the_configuration_is_read(tmp_path: Path) -> None:
    BYTE_LEVEL.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    del config["chatwright.template"]
    config["chat_template"] = [{"name": "default", "template": "<|im_start|>system\nYou are X.<|im_end|>"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert Tokenizer.from_folder(tmp_path).template.default_system == "You are X."
    (tmp_path / "chat_template.jinja").write_text("<|im_start|>system\nYou are Y.<|im_end|>", encoding="utf-8")
    assert Tokenizer.from_folder(tmp_path).template.default_system == "You are Y."


def test_truncation_and_padding_of_a_foreign_file_are_switched_off() -> None:
    rust = tokenizers.Tokenizer.from_str(byte_level_json(CHATML_TOKENS))
    rust.enable_truncation(5)
    rust.enable_padding(length=64)
    tokenizer = Tokenizer.from_json(rust.to_str(), chatml_config())
    assert tokenizer.decode(tokenizer.encode("a long text, longer than five tokens")).endswith("five tokens")


def test_half_a_surrogate_pair_is_an_error() -> None:
    for call in (BYTE_LEVEL.encode, lambda text: BYTE_LEVEL.encode_many([text])):
        with pytest.raises(TemplateError, match="surrogate"):
            call("a\udc80")


# ---- foreign files -----------------------------------------------------------------------------------------


def _word_level(**change: Any) -> dict[str, Any]:
    rust = tokenizers.Tokenizer(models.WordLevel(unk_token="<unk>"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.train_from_iterator(
        ["a b c"], trainers.WordLevelTrainer(special_tokens=["<unk>", "</s>"], show_progress=False)
    )
    return json.loads(rust.to_str()) | change


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "3", "{}", '{"added_tokens": 3}', '{"added_tokens": [3]}', '{"model": {}}', "[" * 100_000,
     '{"added_tokens": [{"content": "a"}]}', "\x00", json.dumps(_word_level(model={"type": "Magic"})),
     json.dumps(_word_level(pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated",
                                           "invert": False})),
     json.dumps(_word_level(added_tokens=[{"id": 7, "content": "<x>", "single_word": False, "lstrip": False,
                                           "rstrip": False, "normalized": False, "special": "yes"}]))],
)  # fmt: skip
def test_damaged_files_are_model_errors(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match="tokenizer.json"):
        Tokenizer.from_folder(tmp_path)


def test_a_panic_inside_the_library_is_a_model_error(tmp_path: Path) -> None:
    """A precompiled charsmap of one byte makes the Rust side panic, which is no `Exception` in Python."""
    bad = _word_level(normalizer={"type": "Precompiled", "precompiled_charsmap": "/////w=="})
    bad["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(bad), encoding="utf-8")
    with pytest.raises(ModelError):
        Tokenizer.from_folder(tmp_path).encode("a")


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_a_mutated_file_never_escapes_our_errors(data: st.DataObject) -> None:
    content = json.dumps(_word_level())
    start = data.draw(st.integers(0, len(content) - 1))
    stop = data.draw(st.integers(start, min(len(content), start + 20)))
    mutated = content[:start] + data.draw(st.text(max_size=5)) + content[stop:]
    with contextlib.suppress(ChatwrightError):
        Tokenizer.from_json(mutated, {"eos_token": "</s>"}).encode("a b <x>")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"eos_token": "<absent>"}, "eos token '<absent>' is not in the vocabulary"),
        ({}, 'no eos token is named; add "eos_token"'),
        ({"eos_token": 3}, "no eos token is named"),
    ],
)
def test_missing_special_tokens_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Tokenizer.from_json(json.dumps(_word_level()), config)


def test_folders_that_hold_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no tokenizer.json"):
        Tokenizer.from_folder(tmp_path)
    BYTE_LEVEL.save(tmp_path)
    for content, message in (("[]", "must hold a JSON object"), ("{", "is not JSON"), ("[" * 100_000, "is not JSON")):
        (tmp_path / "tokenizer_config.json").write_text(content, encoding="utf-8")
        with pytest.raises(ModelError, match=message):
            Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ModelError, match="cannot be read"):
        Tokenizer.from_folder(tmp_path)
