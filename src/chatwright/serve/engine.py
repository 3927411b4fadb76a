"""What answers requests: one protocol for the model in this process and for servers elsewhere. No torch here.

A request becomes a stream of events. Text pieces are whole characters, and every token belongs to exactly one `Delta`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from chatwright.errors import ChatwrightError, UsageError
from chatwright.generation.api import SamplingParams, TopLogprobs
from chatwright.records import Message

DEADLINE_S = 300.0
EndReason = Literal["stop", "length", "deadline", "content_filter"]
Overflow = Literal["error", "drop_oldest"]


class EngineBusy(ChatwrightError):
    """The queue is full; try again after `retry_after_s` seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the server has as many requests as it takes; try again in {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


class EngineGone(ChatwrightError):
    """The engine cannot answer: it is being shut down, has crashed, or its server is out of reach."""


class PromptTooLong(ChatwrightError):
    """Prompt and at least one new token do not fit into the model's context."""

    def __init__(self, num_tokens: int, context: int, *, at_least: bool = False) -> None:
        """`at_least`: the tokens were not counted to the end."""
        super().__init__(
            # Clients look for the first words.
            f"This model's maximum context length is {context} tokens, prompt and answer together, but the prompt has "
            f"{'at least ' * at_least}{num_tokens}. Shorten it."
        )
        self.num_tokens, self.context = num_tokens, context


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """`params.n` answers to a conversation, or continuations of a text."""

    request_id: str
    """Names the request in logs."""
    owner: str
    """Key or user: owners take turns."""
    messages: tuple[Message, ...] = ()
    """The conversation; empty: `prompt` is continued as it is."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Functions as the client declared them, for a chat template that describes them."""
    prompt: str | tuple[int, ...] = ""
    """Text or token ids to continue."""
    params: SamplingParams
    """How answers are drawn."""
    deadline_s: float | None = None
    """Seconds until the answer ends unfinished; None: the engine's setting."""
    interactive: bool = False
    """True when a person watches it being written: such requests go first."""
    overflow: Overflow = "error"
    """A conversation longer than the context: an error, or its oldest messages are left out and counted."""
    answer_prefix: tuple[int, ...] = ()
    """Tokens every answer begins with; events tell only what follows them."""
    raw: Mapping[str, Any] = field(default_factory=dict)
    """The client's own JSON body, for engines that pass it on."""


@dataclass(frozen=True, kw_only=True)
class TokenLogprob:
    """A token of the answer as it was drawn."""

    id: int
    logprob: float
    """Nats, see `Completion.logprobs`."""
    top: TopLogprobs = ()
    """The likeliest at its place."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """The request has left the queue."""

    prompt_tokens: int
    cached_tokens: int = 0
    """Of these, found in the prefix cache when the first answer began."""
    dropped_messages: int = 0
    """Oldest messages that were left out."""
    version: str = ""
    """Version of the model that writes the answers, see `Engine.version`; empty: unknown, or no model writes them."""


@dataclass(frozen=True, kw_only=True)
class Delta:
    """The next piece of answer `index`."""

    index: int
    text: str
    tokens: tuple[TokenLogprob, ...] = ()
    reasoning: str = ""
    """Reasoning of a model elsewhere before its answer, where its server tells that apart from the text."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Answer `index` is complete."""

    index: int
    reason: EndReason
    completion_tokens: int
    reasoning_tokens: int = 0
    """Of these, tokens of reasoning, where a server elsewhere tells."""


Event = Started | Delta | Finished


@dataclass(frozen=True, kw_only=True)
class EngineStats:
    """What an engine is doing now, and has done since it started."""

    waiting: int = 0
    running: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens found in the prefix cache."""
    prefix_bytes: int = 0
    """Memory of the prefix cache."""


class Engine(Protocol):
    """Anything that answers requests."""

    @property
    def name(self) -> str:
        """The model's name in requests and in /v1/models."""

    @property
    def version(self) -> str:
        """Content hash of the model's files; "": unknown, as of a server elsewhere, which names it with each answer."""

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together."""

    @property
    def ready(self) -> bool:
        """Whether it takes requests now."""

    def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        """Events until every answer is finished. Raises EngineBusy, EngineGone, PromptTooLong, DataError, ConfigError.
        Closing the iterator early ends the answers and frees their places."""

    async def score(self, ids: Sequence[int], top: int) -> list[TokenLogprob | None]:
        """Log-probabilities of a text's own tokens, None for the first. Raises UsageError where this is not offered."""

    async def embed(self, inputs: Sequence[str | Sequence[int]], dimensions: int | None) -> tuple[list[list[float]], int]:
        """(a unit vector per input, tokens read). ConfigError for more dimensions than the model has."""

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; control tokens are never recognised."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids."""

    def token_bytes(self, token_id: int) -> bytes:
        """What a token adds to a text; the name of a control token."""

    def tokenizer_info(self) -> dict[str, Any]:
        """eos_token, bos_token, pad_token, chat_template."""

    def stats(self) -> EngineStats:
        """Counts for /metrics."""

    async def drain(self, timeout_s: float) -> None:
        """Take no new requests and wait for the running ones, at most so long; then end them."""


class EngineRegistry:
    """The models a server offers, by name; the first is the default."""

    def __init__(self, *engines: Engine, guard: Callable[[Engine], Engine] = lambda engine: engine) -> None:
        """`guard`: what every engine is put behind, those of `add` and `swap` too (filters)."""
        self._guard = guard
        self._engines = {engine.name: guard(engine) for engine in engines}
        self._bare = {engine.name: engine for engine in engines}
        self.not_promoted: dict[str, str] = {}
        """Name -> why the configured model answers for it, though another was promoted."""
        self.loading: list[str] = []
        """Names of configured models that are not loaded yet."""
        self._draining: set[asyncio.Task[None]] = set()

    def names(self) -> list[str]:
        """Model names, the default first."""
        return list(self._engines)

    def get(self, name: str = "") -> Engine | None:
        """The engine of a model; of the default one for "". None when there is no such model."""
        return self._engines.get(name or next(iter(self._engines), ""))

    def all(self) -> list[Engine]:
        """Every engine."""
        return list(self._engines.values())

    def dead(self) -> list[str]:
        """Names of models that have crashed for good."""
        return [name for name, engine in self._bare.items() if getattr(engine, "dead", False)]

    def unreachable(self) -> dict[str, str]:
        """Name -> reason, of models whose server elsewhere cannot be reached yet."""
        return {name: reason for name, engine in self._bare.items() if (reason := getattr(engine, "trouble", ""))}

    def add(self, engine: Engine) -> None:
        """Offer one more model. Raises UsageError when its name is taken."""
        if engine.name in self._engines:
            raise UsageError(f"model {engine.name!r}: is served already; use `swap` to replace it")
        self._engines[engine.name], self._bare[engine.name] = self._guard(engine), engine
        if engine.name in self.loading:
            self.loading.remove(engine.name)

    def swap(self, name: str, engine: Engine, *, drain_s: float = 300.0) -> None:
        """Let `engine` answer what comes for `name` from now on; what runs on the old one goes on there to its end."""
        if name not in self._engines:
            raise UsageError(f"model {name!r}: is not served, so it cannot be replaced; served: {', '.join(self._engines)}")
        old = self._engines[name]
        self._engines[name], self._bare[name] = self._guard(engine), engine
        self.not_promoted.pop(name, None)
        task = asyncio.get_running_loop().create_task(old.drain(drain_s))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)
