"""tokenizer.json and tokenizer_config.json -> the vocabulary tables of a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatwright.errors import ModelError
from chatwright.model.formats.gguf_tokenizer import (
    BYTE,
    CONTROL,
    NORMAL,
    SPLITS,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
)


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What `tokenizer.ggml.*` says."""

    model: str
    """"gpt2" (byte-level BPE) or "llama" (sentencepiece)."""
    pre: str
    """Name of the splitting rule."""
    tokens: list[str]
    """By id; rows of the embedding without a token are called [PAD id]."""
    types: list[int]
    """Normal, unknown, control, user-defined, unused or byte."""
    scores: list[float]
    """Sentencepiece only: the higher, the earlier merged."""
    merges: list[str]
    """Byte-level only: "left right" in order."""
    special: dict[str, int]
    """Ids of bos, eos, unk, pad, as far as there are any."""
    add_bos: bool
    """Whether a text begins with bos."""
    add_space_prefix: bool
    """Whether a blank is put before a text (Llama 2)."""
    chat_template: str | None
    """Jinja source."""


def read_vocabulary(folder: Path, num_rows: int) -> Vocabulary:
    """The vocabulary of a tokenizer folder for an embedding of `num_rows`. Raises ModelError."""
    data, config = _read(folder / "tokenizer.json"), _read(folder / "tokenizer_config.json")
    model = data.get("model") or {}
    if model.get("type") != "BPE":
        raise ModelError(f"{folder / 'tokenizer.json'}: model {model.get('type')!r} has no GGUF form here; BPE has")
    sentencepiece = bool(model.get("byte_fallback"))
    added = {token["id"]: token for token in data.get("added_tokens", [])}
    ids = {n: token for token, n in model["vocab"].items()} | {n: token["content"] for n, token in added.items()}
    if max(ids) >= num_rows:
        raise ModelError(f"{folder / 'tokenizer.json'}: token id {max(ids)} is beyond the {num_rows} embedding rows")
    tokens = [ids.get(n, f"[PAD{n}]") for n in range(num_rows)]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model.get("merges", [])]
    special = _special(config, {token: n for n, token in ids.items()})
    types = [_type(n, ids, added, special, sentencepiece) for n in range(num_rows)]
    return Vocabulary(
        model="llama" if sentencepiece else "gpt2",
        pre="default" if sentencepiece else _splitting_rule(data, folder / "tokenizer.json"),
        tokens=tokens,
        types=types,
        scores=_scores(tokens, types, merges) if sentencepiece else [],
        merges=[] if sentencepiece else [" ".join(pair) for pair in merges],
        special=special,
        add_bos=_adds_bos(data, config),
        add_space_prefix='"Prepend"' in json.dumps(data.get("normalizer")),
        chat_template=_template(folder, config),
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{file}: holds no JSON object")
    return data


def _special(config: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, int]:
    found = {}
    ours = config.get("chatwright.template")  # text.chat_template.TEMPLATE_FIELD, which may not be imported here
    turn = ours.get("end_of_turn") if isinstance(ours, dict) else None
    for key in ("bos", "eos", "eot", "unk", "pad"):
        token = turn if key == "eot" else config.get(f"{key}_token")
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str) and text in ids:
            found[key] = ids[text]
    return found


def _type(n: int, ids: Mapping[int, str], added: Mapping[int, Any], special: Mapping[str, int], sentencepiece: bool) -> int:
    if n not in ids:
        return UNUSED
    if sentencepiece and n == special.get("unk"):
        return UNKNOWN
    if n in added:
        return CONTROL if added[n].get("special") else USER_DEFINED
    return BYTE if sentencepiece and len(ids[n]) == 6 and ids[n].startswith("<0x") else NORMAL


def _scores(tokens: list[str], types: list[int], merges: list[tuple[str, ...]]) -> list[float]:
    """Minus the rank of the first merge that makes a piece; pieces that none makes come after all others."""
    rank: dict[str, int] = {}
    for n, pair in enumerate(merges):
        rank.setdefault("".join(pair), n)
    last = float(len(merges))
    return [
        -float(rank.get(t, last + n)) if kind == NORMAL else 0.0
        for n, (t, kind) in enumerate(zip(tokens, types, strict=True))
    ]


def _splitting_rule(data: Mapping[str, Any], file: Path) -> str:
    """llama.cpp knows splitting rules by name only, so ours has to be one of those."""
    parts = data.get("pre_tokenizer") or {}
    steps = parts.get("pretokenizers", [parts])
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    if kinds[-1:] == ["ByteLevel"] and set(kinds[:-1]) == {"Split"}:
        patterns = tuple((step.get("pattern") or {}).get("Regex") for step in steps[:-1])
        for name, regexes in SPLITS.items():
            if regexes == patterns:
                return name
    raise ModelError(
        f"{file}: its splitting rule is none that llama.cpp has under the names smollm, gpt-2, "
        f"{', '.join(SPLITS)}; export to hf instead"
    )


def _adds_bos(data: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    if "add_bos_token" in config:
        return bool(config["add_bos_token"])
    return '"TemplateProcessing"' in json.dumps(data.get("post_processor"))


def _template(folder: Path, config: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):  # several named ones; GGUF gets the default
        template = next((t.get("template") for t in template if isinstance(t, dict) and t.get("name") == "default"), None)
    return template if isinstance(template, str) else None
