"""Training tokenizers over the `tokenizers` library: byte-level BPE, and one that gives every character a token. No torch.

**Pre-tokenisation** (what merges never cross), in three steps: digits in groups of up to three; runs of Han and Kana; then
words with the blank before them, punctuation, line ends, blanks. So a comma never sticks to a Chinese word, a Latin word
never to a Han one, and a number is a few tokens. These are the splits that llama.cpp knows under the name `deepseek-v3`,
so that a model trained on them can be exported to GGUF and run there.

**Control tokens** come first in the vocabulary and are all distinct (`CONTROL_TOKENS`). They are never made from text:
`chatwright.text.tokenizer` switches their recognition off, and `chat.render` inserts them as ids.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from chatwright.errors import ConfigError, DataError
from chatwright.text.chat_template import TEMPLATE_FIELD, ChatTemplate
from chatwright.text.tokenizer import Tokenizer

PAD, BOS, EOS, TURN_START, TURN_END, MASK = (
    "<|pad|>", "<|bos|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|mask|>"
)  # fmt: skip
CONTROL_TOKENS = (PAD, BOS, EOS, TURN_START, TURN_END, MASK)
SMALLEST_VOCABULARY = 256 + len(CONTROL_TOKENS)
SPLITS = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"""
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
)
"""Applied one after another, each to what the ones before left whole."""
# Eight Han characters or a long word: longer entries are whole sentences of a document that was copied often.
MAX_TOKEN_BYTES = 24
LARGEST_VOCABULARY = 2**22
"""Far above any tokenizer in use; the trainer takes memory for all entries at once, and its failure ends the process."""


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE of at most `vocab_size` entries, control tokens included (fewer when the text has no more pairs
    that occur twice). ConfigError below 262 entries or above 4 million, DataError without text."""
    if vocab_size > LARGEST_VOCABULARY:
        raise ConfigError(f"--vocab-size {vocab_size}: must be at most {LARGEST_VOCABULARY}")
    if vocab_size < SMALLEST_VOCABULARY:
        raise ConfigError(
            f"--vocab-size {vocab_size}: must be at least {SMALLEST_VOCABULARY} (256 bytes and "
            f"{len(CONTROL_TOKENS)} control tokens)"
        )
    rust = _untrained(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(CONTROL_TOKENS), min_frequency=2, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), max_token_length=MAX_TOKEN_BYTES,
    )  # fmt: skip
    counted = _Counted(texts)
    with _all_cores():
        rust.train_from_iterator(counted, trainer)
    counted.require_text()
    return _finished(json.loads(rust.to_str()))


def train_characters(texts: Iterable[str], vocab_size: int | None = None) -> Tokenizer:
    """A tokenizer that gives every character it saw one token: byte-level BPE whose merges build just these characters.
    Other characters are their bytes, so that any text can be encoded and nothing is lost. With `vocab_size`, the most
    frequent characters that fit; `vocab_size` counts everything (bytes, parts of characters, control tokens)."""
    counts: Counter[str] = Counter()
    counted = _Counted(texts)
    for text in counted:
        counts.update(text)
    counted.require_text()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocab = {token: n for n, token in enumerate([*CONTROL_TOKENS, *sorted(alphabet)])}
    if vocab_size is not None and vocab_size < len(vocab):
        raise ConfigError(f"--vocab-size {vocab_size}: must be at least {len(vocab)} (256 bytes and the control tokens)")
    merges: list[tuple[str, str]] = []
    for character, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        fresh = [pair for pair in _merges_of(character) if pair[0] + pair[1] not in vocab]
        if vocab_size is not None and len(vocab) + len(fresh) > vocab_size:
            break
        for left, right in fresh:
            vocab[left + right] = len(vocab)
            merges.append((left, right))
    rust = _untrained(models.BPE(vocab=vocab, merges=merges))
    rust.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in CONTROL_TOKENS])
    return _finished(json.loads(rust.to_str()))


def _merges_of(character: str) -> list[tuple[str, str]]:
    """The merges that build a character from its bytes, left to right. They begin with a byte that only begins
    characters, so no merge ever joins two characters."""
    spelled = _byte_letters(character)
    return [(spelled[:n], spelled[n]) for n in range(1, len(spelled))]


def _byte_letters(text: str) -> str:
    """The UTF-8 bytes of a text in the letters that byte-level BPE writes them with."""
    return "".join(piece for piece, _ in _byte_level().pre_tokenize_str(text))


def _byte_level() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def _untrained(model: Any) -> tokenizers.Tokenizer:
    rust = tokenizers.Tokenizer(model)
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in SPLITS]
    rust.pre_tokenizer = pre_tokenizers.Sequence([*splits, _byte_level()])
    rust.decoder = decoders.ByteLevel()
    return rust


def _finished(data: dict[str, Any]) -> Tokenizer:
    template = ChatTemplate(name="chatml", end_of_turn=TURN_END)
    config = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD, "mask_token": MASK, "add_bos_token": False,
              TEMPLATE_FIELD: template.to_dict()}  # fmt: skip
    tokenizer = Tokenizer(json.dumps(data, ensure_ascii=False), config, source="the tokenizer just trained")
    assert len({tokenizer.special_ids[name] for name in CONTROL_TOKENS}) == len(CONTROL_TOKENS)
    assert tokenizer.pad_id == tokenizer.special_ids[PAD] and tokenizer.eos_id == tokenizer.special_ids[EOS]
    return tokenizer


class _Counted:
    """Texts on their way to training; remembers whether there were any."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.num_characters = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.num_characters += len(text)
            yield text

    def require_text(self) -> None:
        if not self.num_characters:
            raise DataError("there is no text to train a tokenizer on; see what `chatwright data check` says of the files")


@contextlib.contextmanager
def _all_cores() -> Iterator[None]:
    """Training uses every core; encoding, done in worker processes, uses one thread each (see tokenizer.py)."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
