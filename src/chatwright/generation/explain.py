"""What a model expected at every token of a text: likeliest tokens, entropy, surprise, rank.

Surprise is -log p of the token that stands there; entropy is the surprise to be expected, the mean of -log p over the whole
vocabulary. Both are kept in nats and shown in bits (1 nat = 1.4427 bits). A rank of 1 means that the model thought no token
likelier. Probabilities are softmax(logits), at temperature 1.

Shapes: T positions of a block, V vocabulary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from chatwright.errors import ConfigError, DataError, ModelError
from chatwright.generation.api import MAX_TOP_LOGPROBS
from chatwright.generation.score import hidden_states
from chatwright.text.pieces import token_bytes
from chatwright.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from chatwright.generation.lm import LM

NATS_TO_BITS = 1 / math.log(2)
_ROWS = 128  # positions whose distributions are in memory at a time


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """A token that could have stood there."""

    id: int
    text: str
    logprob: float
    """Nats."""


@dataclass(frozen=True, kw_only=True)
class TokenView:
    """One token and what the model had expected in its place."""

    id: int
    text: str
    """Bytes that are no whole characters as `\\xe4`; control tokens by their name."""
    logprob: float | None
    """Nats; None for the very first token, before which there is nothing to go by (and so are the figures below)."""
    rank: int | None
    """1 + the number of likelier tokens."""
    entropy: float | None
    """Nats, of the distribution over the whole vocabulary."""
    top: tuple[Alternative, ...]
    """The likeliest tokens, best first."""

    @property
    def surprise_bits(self) -> float | None:
        """-log2 p."""
        return None if self.logprob is None else -self.logprob * NATS_TO_BITS

    @property
    def entropy_bits(self) -> float | None:
        """Entropy in bits."""
        return None if self.entropy is None else self.entropy * NATS_TO_BITS

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the fields, and the figures in bits."""
        return asdict(self) | {
            "surprise": None if self.logprob is None else -self.logprob,
            "surprise_bits": self.surprise_bits,
            "entropy_bits": self.entropy_bits,
        }


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A text, token by token."""

    text: str
    prompt: str
    """What it answers or continues."""
    tokens: tuple[TokenView, ...]

    @property
    def surprise(self) -> float:
        """Mean surprise per token, in nats; NaN when no token has one."""
        known = [-token.logprob for token in self.tokens if token.logprob is not None]
        return math.fsum(known) / len(known) if known else math.nan

    @property
    def perplexity(self) -> float:
        """exp of the mean surprise."""
        return math.exp(min(self.surprise, 700.0))

    @property
    def entropy(self) -> float:
        """Mean entropy per token, in nats; NaN when no token has one."""
        known = [token.entropy for token in self.tokens if token.entropy is not None]
        return math.fsum(known) / len(known) if known else math.nan

    def to_json(self) -> str:
        """One JSON object; a mean that does not exist is null."""
        means = {"surprise": self.surprise, "entropy": self.entropy, "perplexity": self.perplexity}
        row: dict[str, Any] = {"text": self.text, "prompt": self.prompt}
        row |= {name: None if math.isnan(value) else value for name, value in means.items()}
        return json.dumps(row | {"tokens": [token.to_dict() for token in self.tokens]}, ensure_ascii=False, indent=1)


def explain(lm: LM, text: str, *, prompt: str = "", system: str = "", raw: bool = False, top_k: int = 5) -> Explanation:
    """Look at `text` with a model: as its answer to `prompt`, or as a text of its own when there is none.

    Args:
        prompt: a user message for a model with a chat template (text to go on with for a base model, and with `raw`).
        system: system message before the prompt.
        top_k: likeliest tokens kept per place, 0 to 20.
    Raises:
        DataError: the text is empty, or does not fit into the model's context.
        ConfigError: `top_k` is out of range; `system` or `raw` without a prompt.
    """
    if not 0 <= top_k <= MAX_TOP_LOGPROBS:
        raise ConfigError(f"top_k {top_k}: must be from 0 to {MAX_TOP_LOGPROBS}")
    if (system or raw) and not prompt:
        raise ConfigError("system and raw say how a prompt is read; give one")
    if not text:
        raise DataError("the text is empty: there is nothing to explain")
    if prompt:
        before = lm.prompt_ids(prompt, raw=raw, system=system)
        ids = [*before, *lm.tokenizer.encode(text)]
    else:
        ids = lm.prompt_ids(text, raw=True)
        before = ids[:1] if ids[0] in lm.tokenizer.special_ids.values() else []
    views = tuple(_views(lm, ids, len(before), top_k))
    return Explanation(text=text, prompt=prompt, tokens=views)


@torch.inference_mode()
def _views(lm: LM, ids: Sequence[int], first: int, top_k: int) -> Iterator[TokenView]:
    """Views of the tokens from `first` on."""
    hidden_TD = hidden_states(lm.model, ids)
    absent_E = torch.tensor(lm.generator.absent_ids, dtype=torch.long, device=hidden_TD.device)
    piece = _pieces(lm.tokenizer)
    if first == 0:
        yield TokenView(id=ids[0], text=piece[ids[0]], logprob=None, rank=None, entropy=None, top=())
        first = 1
    for at in range(first, len(ids), _ROWS):
        targets_T = torch.tensor(ids[at : at + _ROWS], device=hidden_TD.device)
        logprob_TV = torch.log_softmax(lm.model.logits(hidden_TD[at - 1 : at - 1 + len(targets_T)]).float(), dim=-1)
        own_T1 = logprob_TV.gather(1, targets_T[:, None])
        rank_T = (logprob_TV > own_T1).sum(1) + 1
        # Where p is 0, p log p is 0 and not NaN.
        entropy_T = torch.special.entr(logprob_TV.exp()).sum(1)
        best = logprob_TV.index_fill(1, absent_E, -math.inf).topk(top_k)
        for row, token in enumerate(targets_T.tolist()):
            likeliest = zip(best.indices[row].tolist(), best.values[row].tolist(), strict=True)
            yield TokenView(
                id=token,
                text=piece[token],
                logprob=own_T1[row, 0].item(),
                rank=int(rank_T[row]),
                entropy=max(entropy_T[row].item(), 0.0),
                top=tuple(Alternative(id=i, text=piece[i], logprob=value) for i, value in likeliest),
            )


class _Names(dict[int, str]):
    """Token id -> what is shown of it, made when first asked for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        try:
            self._bytes = token_bytes(tokenizer)
        except ModelError:
            self._bytes = []

    def __missing__(self, token: int) -> str:
        known = self._bytes[token] if token < len(self._bytes) else b""
        text = known.decode("utf-8", "backslashreplace") if known else self._tokenizer.piece(token)
        self[token] = text or f"<{token}>"
        return self[token]


@lru_cache(maxsize=4)
def _pieces(tokenizer: Tokenizer) -> _Names:
    return _Names(tokenizer)
