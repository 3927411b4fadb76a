"""The bytes that each entry of a vocabulary stands for: what constrained decoding and per-token displays work on."""

from __future__ import annotations

import json
import re
from functools import cache

from chatwright.errors import ModelError
from chatwright.text.tokenizer import Tokenizer


@cache
def byte_alphabet() -> dict[str, int]:
    """Character -> byte in byte-level vocabularies: printable bytes stand for themselves, the others, in order, for
    the characters from U+0100 on (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(hidden)}


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """Per token id the bytes it adds to a text; b"" for control tokens and ids without an entry.

    Byte-level BPE and SentencePiece with byte fallback are known; ModelError for any other vocabulary.
    """
    described = json.loads(tokenizer.json)
    kinds = {part.get("type") for part in _parts(described.get("decoder"))}
    added = {token["content"] for token in described.get("added_tokens", [])}
    if "ByteLevel" in kinds:
        read = _byte_level
    elif kinds & {"ByteFallback", "Metaspace", "Replace"}:
        read = _sentencepiece
    else:
        raise ModelError("constrained decoding knows byte-level and SentencePiece vocabularies; this tokenizer is neither")
    special = frozenset(tokenizer.special_ids.values())
    out = []
    for token_id in range(tokenizer.vocab_size):
        piece = tokenizer.piece(token_id)
        plain = piece.encode() if piece in added else read(piece)
        out.append(b"" if token_id in special else plain)
    return out


def _parts(decoder: dict[str, object] | None) -> list[dict[str, object]]:
    inner = (decoder or {}).get("decoders")
    return [decoder or {}, *(inner if isinstance(inner, list) else [])]


def _byte_level(piece: str) -> bytes:
    alphabet = byte_alphabet()
    return bytes(alphabet[c] for c in piece) if all(c in alphabet for c in piece) else piece.encode()


def _sentencepiece(piece: str) -> bytes:
    if re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", piece):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("▁", " ").encode()
