"""What generation takes and gives: sampling settings, completions, and the protocol every generator follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from chatwright.errors import ConfigError

FinishReason = Literal["stop", "length"]
ProgressCallback = Callable[[int, int], None]
"""(tokens generated so far, sequences finished so far)."""


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How answers are drawn."""

    max_new_tokens: int = 256
    """Longest answer, in tokens (the stop token counts). The model's context may end an answer earlier."""
    temperature: float = 1.0
    """Logits are divided by this; 0 always takes the most probable token."""
    top_k: int = 0
    """Draw from the k most probable tokens only; 0: from all. Tokens as probable as the k-th stay in."""
    top_p: float = 1.0
    """Draw from the smallest set of most probable tokens with at least this probability; 1: from all."""
    stop_ids: frozenset[int] | None = None
    """Tokens that end an answer; None: the tokenizer's end of turn and end of text."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer; the text is cut before them."""
    seed: int = 0
    """With the prompt, this decides every answer: neighbours in the batch and its size do not."""
    n: int = 1
    """Answers per prompt."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens {self.max_new_tokens}: must be at least 1")
        if not 0 <= self.temperature <= 100:
            raise ConfigError(f"temperature {self.temperature}: must be between 0 (greedy) and 100")
        if self.top_k < 0:
            raise ConfigError(f"top_k {self.top_k}: must be 0 (off) or more")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p {self.top_p}: must be above 0 and at most 1 (off)")
        if self.n < 1:
            raise ConfigError(f"n {self.n}: must be at least 1")
        if any(not text for text in self.stop):
            raise ConfigError("stop: an empty text would stop every answer; leave it out")


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One answer."""

    text: str
    """Without control tokens, cut before a stop text."""
    ids: tuple[int, ...]
    """Generated tokens, with the stop token when there is one."""
    logprobs: tuple[float, ...]
    """Of each token, in nats, under softmax(logits / temperature) before top-k and top-p (temperature 0: under
    softmax(logits))."""
    finish_reason: FinishReason
    """"stop": a stop token or stop text; "length": max_new_tokens, or the end of the model's context."""
    prompt_ids: tuple[int, ...]
    """The tokens it continues."""


class Generator(Protocol):
    """Anything that answers tokenised prompts (`LocalGenerator` here; remote engines elsewhere)."""

    def generate(
        self,
        prompts_ids: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams],
        *,
        n: int | None = None,
        seeds: Sequence[int] | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[list[Completion]]:
        """`n` answers to each prompt, in the order of the prompts."""

    def stream(self, prompt_ids: Sequence[int], params: SamplingParams) -> Iterator[tuple[int, float, str]]:
        """One answer as it comes: (token id, log-probability, text that became certain)."""
