"""`chatwright embed TEXT...`: vectors of texts and words in the terminal."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from chatwright import hub
from chatwright.errors import ConfigError, DataError, UsageError
from chatwright.generation.commands import DeviceName, Precision, printable
from chatwright.jsonl import read_text_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN = 6  # numbers of a vector that are printed without --json


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """Turn texts into vectors of length 1, near for texts that belong together."""

    texts: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT...")]] = ()
    """Words, sentences, passages; `-` reads them from standard input, a line each."""
    file: str = ""
    """Read texts from a file too, a line each (plain or gzip)."""
    model: str = hub.DEFAULT
    """Model with a head that `chatwright embed-train` made, or any other: then its own states are averaged."""
    dimensions: int | None = None
    """Cut vectors to their first numbers and bring them back to length 1; None: as wide as the model makes them."""
    words: bool = False
    """A vector for every word of a text where it stands (for every Chinese character, or token of several) instead."""
    json: bool = False
    """Print one JSON list: [{"text", "embedding"}, ...]; with --words each has "words": [{"word", "embedding"}, ...]."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format; auto: bf16 where the hardware multiplies it. Vectors are fp32."""


def embed(cfg: EmbedConfig) -> None:
    """Print the vectors as JSON; without --json their first numbers, and the cosines between the texts."""
    texts = _texts(cfg)
    from chatwright.generation.embed import load_embedder

    dtypes = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16"}
    embedder = load_embedder(cfg.model, dtype=dtypes[cfg.precision], device=cfg.device)
    embedder.check_dimensions(cfg.dimensions)
    if cfg.words:
        words = [embedder.words(text, cfg.dimensions) for text in texts]
        rows: list[dict[str, Any]] = [
            {"text": text, "words": [{"word": word.word, "embedding": list(word.vector)} for word in some]}
            for text, some in zip(texts, words, strict=True)
        ]
        shown = [(word.word, list(word.vector)) for some in words for word in some]
    else:
        shown = [(text, embedder.vector(text, cfg.dimensions)) for text in texts]
        rows = [{"text": text, "embedding": vector} for text, vector in shown]
    if cfg.json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        _print(shown)


def _texts(cfg: EmbedConfig) -> list[str]:
    given = list(cfg.texts)
    if given == ["-"]:
        given = [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
    if cfg.file:
        for _, line in read_text_lines(cfg.file):
            if isinstance(line, DataError):
                raise line
            given += [line] if line.strip() else []
    if not given:
        raise UsageError("embed: no text given; name texts, a --file, or `-` for standard input")
    if any(not text.strip() for text in given):
        raise ConfigError("embed: an empty text has no vector")
    return given


def _print(items: Sequence[tuple[str, Sequence[float]]]) -> None:
    """Each name with the beginning of its vector; below, how near each two are."""
    for number, (name, vector) in enumerate(items, 1):
        begin = " ".join(f"{x:+.4f}" for x in vector[:SHOWN])
        more = f" ... ({len(vector)} numbers)" if len(vector) > SHOWN else ""
        print(f"{number:>3}  {begin}{more}  {printable(name)}")
    if len(items) > 1:
        print("\ncosine" + "".join(f"{n:>7}" for n in range(1, len(items) + 1)))
    for number, (_, one) in enumerate(items, 1):
        if len(items) > 1:
            cosines = (sum(a * b for a, b in zip(one, other, strict=True)) for _, other in items)
            print(f"{number:>6}" + "".join(f"{x:>7.3f}" for x in cosines))
