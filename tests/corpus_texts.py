"""Texts and helpers for tests of corpora."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

from chatwright.data.shards import TOKENIZER, Shards
from chatwright.text.tokenizer import Tokenizer

_ENGLISH = """time year people way day man thing woman life child world school state family student group country problem
hand part place case week company system program question work government number night point home water room mother area
money story fact month lot right study book eye job word business issue side kind head house service friend father
power hour game line end member law car city community name president team minute idea kid body information back parent face
level""".split()
_HAN = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜金生丽水玉出昆冈剑号巨阙珠称夜光"


def article(seed: int, *, words: int = 60, chinese: bool = False) -> str:
    """A text that no other seed gives."""
    random = Random(seed)
    if chinese:
        sentences = ["".join(random.choice(_HAN) for _ in range(random.randint(5, 12))) for _ in range(words // 8)]
        return "，".join(sentences) + "。"
    chosen = [random.choice(_ENGLISH) for _ in range(words)]
    return ". ".join(" ".join(chosen[n : n + 10]) for n in range(0, words, 10)) + "."


def write_rows(file: Path, texts: Iterable[Any], field: str = "text") -> Path:
    file.write_text("".join(json.dumps({field: text}) + "\n" for text in texts), encoding="utf-8")
    return file


def texts_of(folder: Path, split: Any) -> list[str]:
    """The documents of a split, decoded."""
    shards = Shards.open(folder, split)
    shards.verify()
    tokenizer = Tokenizer.from_folder(folder / TOKENIZER)
    return [tokenizer.decode(shards.tokens(*span).tolist()) for span in shards.documents()]
