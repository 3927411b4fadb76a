"""What generation takes and gives: sampling settings, completions, and the protocol every generator follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from chatwright.errors import ConfigError

MAX_TOP_LOGPROBS = 20
ConstraintKind = Literal["script", "json_schema", "json_object", "regex", "choice", "lark"]
FinishReason = Literal["stop", "length"]
ProgressCallback = Callable[[int, int], None]
"""(tokens generated so far, sequences finished so far)."""


TopLogprobs = tuple[tuple[int, float], ...]
"""(token id, log-probability in nats), the likeliest first."""


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """What an answer may consist of; `generation.constrain` compiles it."""

    kind: ConstraintKind
    """script: Unicode scripts; json_schema, json_object: JSON; regex; choice: one of some texts; lark: a grammar."""
    value: str = ""
    """Scripts joined by `|` ("Han", "Latin", "emoji", "Han|Latin"), a schema as JSON, a regular expression, a JSON list of
    texts, or a grammar in llguidance's Lark; nothing for json_object."""


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
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token id, number added to its logit before everything else)."""
    presence_penalty: float = 0.0
    """Taken off the logit of every token that the answer already holds."""
    frequency_penalty: float = 0.0
    """Taken off the logit of a token once for each time the answer holds it."""
    top_logprobs: int = 0
    """Likeliest alternatives kept beside each token."""
    ignore_eos: bool = False
    """Stop tokens are never drawn: answers end at `max_new_tokens` or a stop text."""
    constraint: Constraint | None = None
    """What the answer may consist of."""
    shown_ids: frozenset[int] = frozenset()
    """Control tokens whose names are part of a streamed text (Mistral's `[TOOL_CALLS]`)."""

    @property
    def adjusts(self) -> bool:
        """Whether logits are changed before a token is drawn."""
        return bool(
            self.logit_bias or self.presence_penalty or self.frequency_penalty or self.ignore_eos or self.constraint
        )

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
        if not 0 <= self.top_logprobs <= MAX_TOP_LOGPROBS:
            raise ConfigError(f"top_logprobs {self.top_logprobs}: must be from 0 to {MAX_TOP_LOGPROBS}")
        for name, value in (("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)):
            if not -2 <= value <= 2:
                raise ConfigError(f"{name} {value}: must be between -2 and 2")
        for token, bias in self.logit_bias:
            if not -100 <= bias <= 100:
                raise ConfigError(f"logit_bias of token {token}: {bias} is not between -100 and 100")
        if self.ignore_eos and self.constraint is not None:
            raise ConfigError("ignore_eos: a constrained answer has to be able to end; leave one of the two out")
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
    """Of each token, in nats, under softmax(logits / temperature) of the model itself: before biases, penalties, a
    constraint, top-k and top-p (temperature 0: under softmax(logits))."""
    finish_reason: FinishReason
    """"stop": a stop token or stop text; "length": max_new_tokens, or the end of the model's context."""
    prompt_ids: tuple[int, ...]
    """The tokens it continues."""
    top_logprobs: tuple[TopLogprobs, ...] = ()
    """Per token the `params.top_logprobs` likeliest at its place, under the same distribution; empty when 0."""


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
