"""Which tokens a masked language model has to restore (BERT, arXiv 1810.04805, section 3.1; whole words: its later release).

Words are hidden as wholes: the tokens of a Latin word together, a Chinese character by itself (with all its tokens).
What is hidden is a function of (seed, row), so a resumed run hides the same. Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np

from chatwright.errors import ConfigError, ModelError
from chatwright.text.pieces import token_bytes
from chatwright.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """How text is hidden for the masked objective. Defaults: BERT's."""

    share: float = 0.15
    """Share of the tokens that are to be predicted."""
    keep_share: float = 0.1
    """Share of those that are shown as they are."""
    random_share: float = 0.1
    """Share of those that are shown as a random token; the rest are shown as the mask token."""
    whole_words: bool = True
    """Hide all tokens of a word, and of a Chinese character, together."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(f"--mask.share {self.share}: must lie between 0 and 1")
        if min(self.keep_share, self.random_share) < 0 or self.keep_share + self.random_share > 1:
            raise ConfigError("--mask.keep-share and --mask.random-share: must be 0 or more, and together at most 1")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What masking and bits per byte need to know of each token."""

    control_V: np.ndarray
    """bool: never hidden, never shown as a random token."""
    continues_V: np.ndarray
    """bool: begins inside a character (a UTF-8 continuation byte)."""
    begins_word_V: np.ndarray
    """bool: begins with a letter of an alphabet, so that a word before it goes on."""
    ends_word_V: np.ndarray
    """bool: ends with such a letter."""
    num_bytes_V: np.ndarray
    """int64: bytes of text a token stands for; 0 for control tokens."""
    num_characters_V: np.ndarray
    """int64: characters that begin in it."""


def vocabulary_of(tokenizer: Tokenizer, size: int) -> Vocabulary:
    """Facts of every id below `size`; ids without an entry count as control tokens."""
    pieces = pieces_of(tokenizer)
    pieces += [b""] * (size - len(pieces))
    control = np.array([not piece for piece in pieces])
    firsts, lasts = [piece[:4].decode("utf-8", "ignore") for piece in pieces], [_last(piece) for piece in pieces]
    continuation = [bool(piece) and 0x80 <= piece[0] < 0xC0 for piece in pieces]
    return Vocabulary(
        control_V=control,
        continues_V=np.array(continuation),
        begins_word_V=np.array([bool(text) and _of_a_word(text[0]) for text in firsts]),
        ends_word_V=np.array([bool(text) and _of_a_word(text) for text in lasts]),
        num_bytes_V=np.array([len(piece) for piece in pieces], dtype=np.int64),
        num_characters_V=np.array([sum(not 0x80 <= b < 0xC0 for b in piece) for piece in pieces], dtype=np.int64),
    )


def pieces_of(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of every token; b"" for control tokens. Vocabularies of whole characters are known too."""
    try:
        return token_bytes(tokenizer)
    except ModelError:
        special = frozenset(tokenizer.special_ids.values())
        return [b"" if i in special else tokenizer.decode([i]).encode() for i in range(tokenizer.vocab_size)]


def _last(piece: bytes) -> str:
    for size in range(1, 5):
        try:
            return piece[-size:].decode("utf-8")
        except UnicodeDecodeError:
            continue
    return ""


def _of_a_word(character: str) -> bool:
    """Letters that join into words: not Chinese characters or kana (category Lo), each of which is a unit."""
    return unicodedata.category(character) in ("Lu", "Ll", "Lt", "Lm", "Mn")


def unit_starts(tokens_BT: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """[B, T] bool: True where a unit (word, character) begins."""
    before, here = tokens_BT[:, :-1], tokens_BT[:, 1:]
    same_word = vocabulary.ends_word_V[before] & vocabulary.begins_word_V[here]
    inside = (vocabulary.continues_V[here] & ~vocabulary.control_V[before]) | same_word
    return np.concatenate((np.ones((len(tokens_BT), 1), dtype=bool), ~inside), axis=1)


def hide(
    tokens_BT: np.ndarray, vocabulary: Vocabulary, mask_id: int, config: MaskConfig, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(what is shown [B, T], where the original has to be restored [B, T] bool).

    Every unit is chosen with probability `share`; of the chosen ones each is hidden, kept or replaced as a whole.
    """
    starts_BT = unit_starts(tokens_BT, vocabulary) if config.whole_words else np.ones(tokens_BT.shape, dtype=bool)
    unit_BT = np.cumsum(starts_BT, axis=1) - 1
    chosen_BT = np.take_along_axis(random.random(tokens_BT.shape) < config.share, unit_BT, axis=1)
    chosen_BT &= ~vocabulary.control_V[tokens_BT]
    fate_BT = np.take_along_axis(random.random(tokens_BT.shape), unit_BT, axis=1)
    ordinary = np.flatnonzero(~vocabulary.control_V)
    others_BT = ordinary[random.integers(0, len(ordinary), tokens_BT.shape)]
    hidden_BT = np.where(fate_BT < config.random_share, others_BT, mask_id)
    shown_BT = np.where(chosen_BT & (fate_BT < 1 - config.keep_share), hidden_BT, tokens_BT)
    return shown_BT, chosen_BT
