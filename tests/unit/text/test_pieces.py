"""What vocabulary entries stand for, in bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatwright.errors import ModelError
from chatwright.text.pieces import byte_alphabet, token_bytes
from chatwright.text.tokenizer import Tokenizer

NO_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def test_the_bytes_of_any_text_are_those_of_its_tokens(tokenizer: Any) -> None:
    pieces = token_bytes(tokenizer)
    for text in ("Hello, world!\n", " 你好，世界", "🍎👨‍👩‍👧", "a\tb\x7f", "<|im_start|>"):
        assert b"".join(pieces[i] for i in tokenizer.encode(text)) == text.encode()
    assert len(byte_alphabet()) == 256 and len(pieces) == tokenizer.vocab_size
    assert all(pieces[i] == b"" for i in tokenizer.special_ids.values())


def test_sentencepiece_pieces() -> None:
    vocab = [["<unk>", 0.0], ["▁a", -1.0], ["▁", -2.0], ["b", -1.0], ["</s>", 0.0]]
    vocab += [[f"<0x{n:02X}>", -9.0] for n in range(256)]
    content = {
        "version": "1.0",
        "added_tokens": [
            {"id": n, "content": name, "special": True, **dict.fromkeys(NO_FLAGS, False)}
            for n, name in ((0, "<unk>"), (4, "</s>"))
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                                                     {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": True},
    }  # fmt: skip
    made = Tokenizer(json.dumps(content), {"eos_token": "</s>", "unk_token": "<unk>"})
    pieces = token_bytes(made)
    assert pieces[1] == b" a" and pieces[2] == b" " and pieces[5 + 0xE4] == b"\xe4" and pieces[4] == b""
    assert b"".join(pieces[i] for i in made.encode(" a 你b")) == " a 你b".encode()


def test_other_vocabularies_are_refused(make_tokenizer: Any) -> None:
    content = json.loads(make_tokenizer().json)
    content["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    with pytest.raises(ModelError, match="neither"):
        token_bytes(Tokenizer(json.dumps(content), make_tokenizer().config))
