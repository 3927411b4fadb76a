"""The tokenizer inside a GGUF file -> tokenizer.json and tokenizer_config.json.

Byte-level BPE (`tokenizer.ggml.model` "gpt2") with the splitting rule named by `tokenizer.ggml.pre`, and sentencepiece
("llama") rebuilt as BPE with byte fallback: its merges are the pairs of pieces, best score first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from chatwright.errors import ModelError
from chatwright.hub.store import say
from chatwright.model.formats.gguf_header import Header
from chatwright.model.formats.huggingface import write_json

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# The rules of the original tokenizers, under llama.cpp's names for them.
SPLITS: dict[str, tuple[str, ...]] = {
    "qwen2": (rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}",),
    "llama-bpe": (rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}",),
    # What `chatwright tokenizer train` makes: text.bpe.SPLITS, which may not be imported here (a test holds them equal).
    "deepseek-v3": (
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"""
        r"\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}
_ALIASES = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "default": "gpt-2", "gpt2": "gpt-2"}
_MAX_PIECE = 256  # characters; real vocabularies stay far below
PRE_TOKENIZERS = ("smollm", "gpt-2", *SPLITS)


def write_tokenizer(header: Header, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json of the file's tokenizer into `folder`. Raises ModelError."""
    try:
        tokenizer, config = _build(header)
    except (ModelError, KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # panics of the Rust library derive from BaseException
        raise ModelError(f"{header.path}: its tokenizer cannot be built: {error}") from None
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", config)


def _build(header: Header) -> tuple[Tokenizer, dict[str, Any]]:
    kind = _get(header, "model", str)
    if kind == "gpt2":
        tokenizer = _byte_level(header)
    elif kind == "llama":
        tokenizer = _sentencepiece(header)
    else:
        raise ModelError(f"{header.path}: tokenizer model {kind!r} is not supported; gpt2 and llama are")
    tokens = _get(header, "tokens", list)
    _add_tokens(header, tokenizer, tokens)
    config = _config(header, tokens)
    if config["add_bos_token"]:
        bos = config["bos_token"]
        tokenizer.post_processor = _post_processor(bos, tokens.index(bos), tokenizer)
    return tokenizer, config


def _get(header: Header, key: str, kind: type, default: Any = None) -> Any:
    value = header.metadata.get(f"tokenizer.ggml.{key}", default)
    if not isinstance(value, kind):
        raise ModelError(f"{header.path}: metadata tokenizer.ggml.{key} is missing or no {kind.__name__}")
    return value


def _byte_level(header: Header) -> Tokenizer:
    if "tokenizer.ggml.pre" not in header.metadata:
        say(
            f"warning: {header.path}: does not name its splitting rule (tokenizer.ggml.pre), so GPT-2's is used; if the "
            "model was trained with another one, its answers get worse. Convert the original again with a newer llama.cpp"
        )
    pre = _get(header, "pre", str, "default")
    pre = _ALIASES.get(pre, pre)
    if pre not in PRE_TOKENIZERS:
        raise ModelError(f"{header.path}: pre-tokenizer {pre!r} is not supported; supported are {', '.join(PRE_TOKENIZERS)}")
    vocab = _vocab(header)
    merges = []
    for line in _get(header, "merges", list):
        first, _, second = line.partition(" ")
        if first not in vocab or second not in vocab or first + second not in vocab:
            raise ModelError(f"{header.path}: merge {line!r} joins pieces that the vocabulary lacks")
        merges.append((first, second))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=pre == "llama-bpe"))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre not in SPLITS)
    if pre in SPLITS:
        splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in SPLITS[pre]]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    elif pre == "smollm":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    else:
        tokenizer.pre_tokenizer = byte_level
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def _sentencepiece(header: Header) -> Tokenizer:
    vocab = _vocab(header)
    tokens, types = _get(header, "tokens", list), _types(header)
    scores = _numbers(header, "scores", len(tokens))
    mergeable = {token: n for n, token in enumerate(tokens) if types[n] in (NORMAL, USER_DEFINED)}
    found = []
    for token, n in mergeable.items():
        for cut in range(1, len(token) if len(token) <= _MAX_PIECE else 0):
            left, right = mergeable.get(token[:cut]), mergeable.get(token[cut:])
            if left is not None and right is not None:
                found.append((-scores[n], left, right))
    found.sort()
    merges = [(tokens[left], tokens[right]) for _, left, right in found]
    unknown = tokens[types.index(UNKNOWN)] if UNKNOWN in types else None
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if header.metadata.get("tokenizer.ggml.add_space_prefix", True):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        parts.append(decoders.Strip(" ", 1, 0))
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(parts)
    return tokenizer


def _vocab(header: Header) -> dict[str, int]:
    tokens = _get(header, "tokens", list)
    vocab = {token: n for n, token in enumerate(tokens) if isinstance(token, str)}
    if len(vocab) != len(tokens):
        raise ModelError(f"{header.path}: metadata tokenizer.ggml.tokens holds the same token twice")
    return vocab


def _types(header: Header) -> list[int]:
    tokens = _get(header, "tokens", list)
    if "tokenizer.ggml.token_type" not in header.metadata:
        return [NORMAL] * len(tokens)
    return [int(kind) for kind in _numbers(header, "token_type", len(tokens))]


def _numbers(header: Header, key: str, count: int) -> list[float]:
    values = header.metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(values, np.ndarray) or len(values) != count or not np.isfinite(values).all():
        raise ModelError(f"{header.path}: metadata tokenizer.ggml.{key}: not {count} numbers, one for each token")
    numbers: list[float] = values.tolist()
    return numbers


def _add_tokens(header: Header, tokenizer: Tokenizer, tokens: list[str]) -> None:
    types = _types(header)
    special = [AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, types, strict=True) if k in (2, 3)]
    plain = [AddedToken(t, special=False, normalized=False) for t, k in zip(tokens, types, strict=True) if k == 4]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens(plain)


def _post_processor(bos: str, bos_id: int, tokenizer: Tokenizer) -> Any:
    begin = processors.TemplateProcessing(f"{bos} $A", f"{bos} $A {bos} $B", special_tokens=[(bos, bos_id)])
    byte_level = tokenizer.post_processor
    return begin if byte_level is None else processors.Sequence([byte_level, begin])


def _config(header: Header, tokens: list[str]) -> dict[str, Any]:
    def token(key: str) -> str | None:
        n = header.metadata.get(f"tokenizer.ggml.{key}_token_id")
        return tokens[n] if isinstance(n, int) and 0 <= n < len(tokens) else None

    bos, eos = token("bos"), token("eos")
    if eos is None:
        raise ModelError(f"{header.path}: metadata tokenizer.ggml.eos_token_id is missing or out of range")
    sentencepiece = header.metadata.get("tokenizer.ggml.model") == "llama"
    add_bos = bool(header.metadata.get("tokenizer.ggml.add_bos_token", sentencepiece)) and bos is not None
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": add_bos,
        "bos_token": bos,
        "eos_token": eos,
        "unk_token": token("unknown"),
        "pad_token": token("padding") or eos,
        "clean_up_tokenization_spaces": False,
    }
    if (templates := _chat_templates(header)) is not None:
        config["chat_template"] = templates
    return {key: value for key, value in config.items() if value is not None}


def _chat_templates(header: Header) -> str | list[dict[str, str]] | None:
    """The chat template, or all of them by name where `tokenizer.chat_templates` lists more."""
    names = header.metadata.get("tokenizer.chat_templates")
    keys = {"default": "tokenizer.chat_template"}
    others = [name for name in names if name != "default"] if isinstance(names, list) else []
    keys |= {name: f"tokenizer.chat_template.{name}" for name in others}
    found = {name: text for name, key in keys.items() if isinstance(text := header.metadata.get(key), str)}
    if list(found) == ["default"]:
        return found["default"]
    return [{"name": name, "template": text} for name, text in found.items()] or None


def stop_ids(header: Header) -> list[int]:
    """Ids that end an answer: eos, end of turn, end of message, as far as the file names them."""
    named = [header.metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")]
    return sorted({i for i in named if isinstance(i, int)})
