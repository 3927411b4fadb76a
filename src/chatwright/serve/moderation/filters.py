"""Filters before and after a model. `Moderator.guard(engine)` is an engine that filters what goes in and what comes out.

A flagged input is let through and logged (flag), answered with a refusal instead of by the model (refuse), or an error
(block). An answer is held back until a sentence is complete and its end has been judged, so nothing flagged is sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from chatwright.errors import ConfigError
from chatwright.records import Message
from chatwright.serve.engine import Delta, Engine, EngineStats, Event, Finished, GenerationRequest, Started, TokenLogprob
from chatwright.serve.moderation.classifier import CATEGORIES, Classifier
from chatwright.serve.moderation.normalise import MAX_CHARS
from chatwright.serve.openai.errors import APIError
from chatwright.serve.settings import FilterAction
from chatwright.text.tool_format import ToolFormat

MAX_HELD_CHARS = 400
WINDOW_CHARS = 600
MAX_VERDICTS = 10_000
SHORT_CHARS = 2000  # judged on the event loop; more would hold up the streams of others
_ENDS = re.compile(r"[.!?\n。！？；…]['\")\]”’」』]*\s*$")
BESIDE_MESSAGES = ("tools", "tool_choice", "response_format", "structured_outputs")
"""Fields of a client's body that an upstream gets beside the messages."""
REFUSALS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "brief": "I can't help with that.",
        "explain": "I can't help with that: this server's filter marked it as {category}. If that is a mistake, please say "
        "what you need in other words.",
        "support": "I can't help with that. If you or somebody else is in danger, please contact the emergency services or "
        "someone you trust.",
    },
    "zh": {
        "brief": "抱歉，这个问题我无法协助。",
        "explain": "抱歉，我无法协助：本服务的过滤器将其标记为“{category}”。如果这是误判，请换一种说法告诉我您的需要。",
        "support": "抱歉，这个问题我无法协助。如果您或他人正处于危险之中，请联系当地紧急服务或您信任的人。",
    },
}  # fmt: skip
CATEGORY_NAMES = {
    "en": {"offensive": "offensive", "harmful_request": "a harmful request"},
    "zh": {"offensive": "冒犯性内容", "harmful_request": "有害请求"},
}
Log = Callable[["Decision", str], None]


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """What the filters do."""

    input: FilterAction = "off"
    """With flagged input: off, flag (log only), refuse (answer with a refusal), block (an error)."""
    output: FilterAction = "off"
    """With flagged answers: off, flag (log only), refuse (end with a refusal), block (end with nothing more)."""
    style: str = "brief"
    """How refusals are worded: brief, explain, support; any other text is the operator's own ({category} is filled in)."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Probability per category from which on it is flagged, in place of the classifier's own."""
    keep_text: bool = False
    """Log flagged texts themselves, not only their hashes."""

    def __post_init__(self) -> None:
        for name in ("input", "output"):
            if getattr(self, name) not in ("off", "flag", "refuse", "block"):
                raise ConfigError(f"moderation {name} {getattr(self, name)!r}: must be off, flag, refuse or block")
        if not self.style.strip():
            raise ConfigError("moderation style: must be brief, explain, support or a text of your own")
        for category, threshold in self.thresholds.items():
            if category not in CATEGORIES or not 0 < threshold <= 1:
                raise ConfigError(
                    f"moderation threshold {category}={threshold}: categories are {', '.join(CATEGORIES)}, values above 0 "
                    "and at most 1"
                )


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a filter decided about a text."""

    action: Literal["allow", "flag", "refuse", "block"] = "allow"
    direction: Literal["input", "output"] = "input"
    category: str = ""
    score: float = 0.0
    language: str = "en"
    refusal: str = ""
    """What to say instead; "" unless the action is refuse."""
    text: str = ""
    """The flagged text."""
    text_hash: str = ""
    """SHA-256 of the flagged text."""
    owner: str = ""
    request_id: str = ""
    model: str = ""


def texts_of(messages: Sequence[Message]) -> list[str]:
    """The texts of a conversation that are judged: each message of any role, and each three user messages in sequence, in
    case a text was built up in pieces."""
    each = [
        "\n".join(filter(None, (m.content, m.reasoning_content, *(call.arguments for call in m.tool_calls))))
        for m in messages
    ]
    said = [message.content for message in messages if message.role == "user"]
    joined = ["\n".join(said[max(end - 3, 0) : end]) for end in range(2, len(said) + 1)]
    return [text for text in dict.fromkeys((*reversed(each), *reversed(joined))) if text]


def _passed_on(request: GenerationRequest) -> list[str]:
    """Texts beside the messages that an upstream gets: descriptions of tools, schemas, names of speakers."""
    raw = request.raw
    names = (message.get("name") for message in raw.get("messages") or () if request.messages)
    fields = [*(raw.get(name) for name in BESIDE_MESSAGES), *names]
    return [text for one in fields if (text := "\n".join(_strings(one)))]


def _in_template(request: GenerationRequest) -> list[str]:
    """Texts beside the messages' contents that the chat template writes: descriptions of tools, names of speakers."""
    fields = [*request.tools, *(message.name for message in request.messages)]
    return [text for one in fields if (text := "\n".join(_strings(one)))]


def _strings(value: Any) -> Iterator[str]:
    """All texts within a JSON value, keys too. A stack, not recursion: clients choose the depth."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            stack += [part for pair in reversed(tuple(one.items())) for part in reversed(pair)]
        elif isinstance(one, list):
            stack += reversed(one)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


class Moderator:
    """A classifier with the operator's policy."""

    def __init__(self, classifier: Classifier, config: FilterConfig = FilterConfig(), log: Log | None = None) -> None:
        """`log(decision, text)` is called in a thread for everything flagged."""
        self.classifier, self.config, self._log = classifier, config, log
        self._verdicts, self._lock = OrderedDict[str, tuple[str, float]](), threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="moderation")

    def check_input(self, messages: Sequence[Message], also: Sequence[str] = ()) -> Decision:
        """The decision on a whole conversation, see `texts_of`. `also`: further texts of the client that the model reads."""
        return self._decide([*texts_of(messages), *also], "input")

    async def checked_input(self, messages: Sequence[Message], also: Sequence[str] = ()) -> Decision:
        """`check_input`, in a thread where the new text is long: it takes a millisecond for 1,000 characters."""
        if self.config.input == "off":
            return Decision()
        if sum(len(text) for text in (*texts_of(messages), *also) if _digest(text) not in self._verdicts) <= SHORT_CHARS:
            return self.check_input(messages, also)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.check_input, messages, also)

    def check(self, text: str, direction: Literal["input", "output"]) -> Decision:
        """The decision on a text."""
        return self._decide([text], direction)

    def _decide(self, texts: Sequence[str], direction: Literal["input", "output"]) -> Decision:
        action = self.config.input if direction == "input" else self.config.output
        if action == "off":
            return Decision(direction=direction)
        for part in dict.fromkeys(texts):
            category, score = self._verdict(part) if direction == "input" else self._worst(part)
            if category:
                break
        else:
            return Decision(direction=direction)
        language = "zh" if re.search(r"[\u4e00-\u9fff]", part) else "en"
        return Decision(
            action=action, direction=direction, category=category, score=score, language=language,
            refusal=self.refusal(language, category) if action == "refuse" else "", text=part, text_hash=_digest(part),
        )  # fmt: skip

    def _verdict(self, text: str) -> tuple[str, float]:
        """The verdict on a text of any length, kept by the text's hash: a chat sends its past with each turn."""
        key = _digest(text)
        with self._lock:
            if key in self._verdicts:
                self._verdicts.move_to_end(key)
                return self._verdicts[key]
        step = MAX_CHARS - WINDOW_CHARS  # the classifier leaves out the middle of longer texts
        parts = (text[at : at + MAX_CHARS] for at in range(0, max(len(text) - WINDOW_CHARS, 1), step))
        found = next((verdict for part in parts if (verdict := self._worst(part))[0]), ("", 0.0))
        with self._lock:
            self._verdicts[key] = found
            while len(self._verdicts) > MAX_VERDICTS:
                self._verdicts.popitem(last=False)
        return found

    def refusal(self, language: str, category: str) -> str:
        """The refusal in a language, in the operator's style."""
        words = REFUSALS[language].get(self.config.style, self.config.style)
        return words.replace("{category}", CATEGORY_NAMES[language][category])

    def _worst(self, text: str) -> tuple[str, float]:
        found = self.classifier.judge(text)
        hits = [
            category
            for category, score in found.scores.items()
            if (score >= self.config.thresholds[category] if category in self.config.thresholds else found.flagged[category])
        ]
        worst = max(hits, key=lambda category: found.scores[category], default="")
        return worst, found.scores.get(worst, 0.0)

    async def log(self, decision: Decision, text: str) -> None:
        """Write a decision down, off the event loop."""
        if self._log is not None:
            await asyncio.to_thread(self._log, decision, text if self.config.keep_text else "")

    def guard(self, engine: Engine) -> GuardedEngine:
        """The engine behind the filters."""
        return GuardedEngine(engine, self)

    async def wrap_stream(
        self, events: AsyncIterator[Event], request: GenerationRequest, model: str
    ) -> AsyncGenerator[Event, None]:
        """The events of an answer, filtered. Deltas are passed on whole and in order, so no token is lost or split."""
        if self.config.output == "off":
            async for event in events:
                yield event
            return
        held: dict[int, _Held] = {}
        ended: set[int] = set()
        async for event in events:
            if isinstance(event, Started):
                yield event
                continue
            if event.index in ended:
                continue
            state = held.setdefault(event.index, _Held())
            if isinstance(event, Delta):
                state.take(event)
                if not state.due:
                    continue
            for passed in await self._release(state, event, request, model):
                yield passed
                if isinstance(passed, Finished):
                    ended.add(event.index)
            if len(ended) == request.params.n:
                return

    async def _release(self, state: _Held, event: Delta | Finished, request: GenerationRequest, model: str) -> list[Event]:
        decision = self.check(state.window, "output") if state.pending else Decision(direction="output")
        if decision.action != "allow" and not (decision.action == "flag" and state.flagged):
            state.flagged = True
            named = _named(decision, request, model)
            await self.log(named, state.window)
        if decision.action in ("refuse", "block"):
            gap = "\n\n" if state.sent else ""
            said = [Delta(index=event.index, text=gap + decision.refusal)] if decision.refusal else []
            num_tokens = state.num_tokens if isinstance(event, Delta) else event.completion_tokens
            return [*said, Finished(index=event.index, reason="content_filter", completion_tokens=num_tokens)]
        return [*state.release(), *([event] if isinstance(event, Finished) else [])]


@dataclass
class _Held:
    """The end of an answer that has not been sent."""

    pending: list[Delta] = field(default_factory=list)
    sent: str = ""
    """The last characters that were sent: what comes is judged together with them."""
    num_tokens: int = 0
    flagged: bool = False

    def take(self, delta: Delta) -> None:
        self.pending.append(delta)
        self.num_tokens += len(delta.tokens) or 1

    @property
    def held_text(self) -> str:
        return "".join(delta.reasoning + delta.text for delta in self.pending)

    @property
    def due(self) -> bool:
        text = self.held_text
        return len(text) >= MAX_HELD_CHARS or bool(_ENDS.search(text))

    @property
    def window(self) -> str:
        return self.sent + self.held_text

    def release(self) -> list[Delta]:
        self.sent = self.window[-WINDOW_CHARS:]
        released, self.pending = self.pending, []
        return released


class GuardedEngine:
    """An engine whose input and answers are filtered; everything else is passed on."""

    def __init__(self, engine: Engine, moderator: Moderator) -> None:
        self.engine, self.moderator = engine, moderator

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """As `Engine.generate`. Raises APIError (400, `content_filter`) for blocked input."""
        messages = request.messages or (Message(role="user", content=self._prompt_text(request)),)
        if (refuse_long := getattr(self.engine, "refuse_long", None)) is not None:
            await asyncio.to_thread(refuse_long, request)  # cheap, and the filter is not
        also = _passed_on(request) if self.takes_raw else _in_template(request)
        decision = await self.moderator.checked_input(messages, also)
        if decision.action != "allow":
            await self.moderator.log(_named(decision, request, self.name), decision.text)
        if decision.action == "block":
            raise APIError(
                400, f"the input was marked as {decision.category} by this server's filter; say it in other words",
                code="content_filter",
            )  # fmt: skip
        if decision.action == "refuse":
            yield Started(prompt_tokens=0)
            for index in range(request.params.n):
                yield Delta(index=index, text=decision.refusal)
                yield Finished(index=index, reason="content_filter", completion_tokens=0)
            return
        async with (
            aclosing(self.engine.generate(request)) as events,  # type: ignore[type-var]
            aclosing(self.moderator.wrap_stream(events, request, self.name)) as filtered,
        ):
            async for event in filtered:
                yield event

    def _prompt_text(self, request: GenerationRequest) -> str:
        return request.prompt if isinstance(request.prompt, str) else self.engine.decode(request.prompt)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.engine.name

    @property
    def version(self) -> str:
        """See `Engine`."""
        return self.engine.version

    @property
    def takes_raw(self) -> bool:
        """True when the engine gets the client's own tools and formats."""
        return bool(getattr(self.engine, "takes_raw", False))

    @property
    def tool_format(self) -> ToolFormat | None:
        """The form in which the engine's chat template writes tool calls."""
        return getattr(self.engine, "tool_format", None)

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together."""
        return self.engine.context_length

    @property
    def ready(self) -> bool:
        """Whether it takes requests now."""
        return self.engine.ready

    async def score(self, ids: Sequence[int], top: int) -> list[TokenLogprob | None]:
        """See `Engine`."""
        return await self.engine.score(ids, top)

    async def embed(self, inputs: Sequence[str | Sequence[int]], dimensions: int | None) -> tuple[list[list[float]], int]:
        """See `Engine`."""
        return await self.engine.embed(inputs, dimensions)

    def encode(self, text: str) -> list[int]:
        """See `Engine`."""
        return self.engine.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """See `Engine`."""
        return self.engine.decode(ids)

    def token_bytes(self, token_id: int) -> bytes:
        """See `Engine`."""
        return self.engine.token_bytes(token_id)

    def tokenizer_info(self) -> dict[str, Any]:
        """See `Engine`."""
        return self.engine.tokenizer_info()

    def stats(self) -> EngineStats:
        """See `Engine`."""
        return self.engine.stats()

    async def drain(self, timeout_s: float) -> None:
        """See `Engine`."""
        await self.engine.drain(timeout_s)


def _named(decision: Decision, request: GenerationRequest, model: str) -> Decision:
    return replace(decision, owner=request.owner, request_id=request.request_id, model=model)
