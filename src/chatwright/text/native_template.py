"""A checkpoint's own Jinja chat template: probed when it is loaded, rendered in the sandbox, with the answers located.

Message text never becomes a control token: where it holds the name of one, a private character is put inside the name
before rendering, so the name cannot match, and taken out of the text afterwards.

A row of training text is the prompt exactly as generation gets it, then the answer as the template writes it. An answer is
located by its prompt: it begins where the rendering of the turns before it, with the generation prompt, ends.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

from chatwright.errors import TemplateError
from chatwright.records import Message
from chatwright.text.chat_template import DEFAULT_DATE, ChatTemplate
from chatwright.text.jinja_sandbox import RenderResult, render_all

_MARKS = tuple(chr(code) for code in range(0xF8D0, 0xF8FF))  # private characters; one that the conversation lacks is used
_CACHED = 512
_OPEN_THOUGHT = re.compile(r"<think>\s*$")
_HAS_THOUGHT = re.compile(r"\s*<think>")
_NO_THOUGHT = "\n</think>\n\n"
# Keys by which templates find their way. Others are a client's text, like the values.
_SCHEMA_KEYS = frozenset(("type", "function", "name", "description", "parameters", "properties", "required", "items", "enum",
                          "arguments", "id", "text"))  # fmt: skip


Protect = tuple[frozenset[str], str]
"""Names of control tokens that messages may spell, and the character that keeps such a name apart."""


@dataclass(frozen=True)
class Span:
    """Part of a rendered text."""

    start: int
    end: int
    role: str
    trained: bool = False


@dataclass(frozen=True)
class NativeText:
    """A rendered conversation. `spans` are in order and do not overlap; what lies between them is the template's."""

    text: str
    mark: str
    """The private character inside names of control tokens that messages spell; no part of the text."""
    spans: tuple[Span, ...]
    answers: tuple[int, ...]
    """Messages that are answers of this text, located token by token: they can be trained here."""


@dataclass(frozen=True, kw_only=True)
class NativeTemplate:
    """A Jinja chat template with what the tokenizer gives it."""

    source: str
    tokens: Mapping[str, Any]
    """bos_token, eos_token, ... as the template sees them."""
    tool_source: str = ""
    """The template for conversations with tools, where the checkpoint has another one for them."""
    parts: bool = False
    """Contents are lists of parts: `[{"type": "text", "text": ...}]`."""
    folds_system: bool = False
    """The template refuses a system message: its text goes before the first user message."""
    uses_clock: bool = False
    """The template writes today's date."""
    _results: OrderedDict[str, RenderResult] = field(default_factory=OrderedDict, compare=False)

    @cached_property
    def has_thinking_switch(self) -> bool:
        """True when `enable_thinking` means something to the template."""
        return "enable_thinking" in self.source

    # ---- rendering -------------------------------------------------------------------------------------

    def render(
        self,
        conversations: Sequence[tuple[Sequence[Message], bool, bool | None]],
        settings: ChatTemplate,
        tools: Sequence[Any] = (),
        protect: Protect = (frozenset(), ""),
    ) -> list[RenderResult]:
        """Renderings of each (messages, generation prompt or not, thinking or None for the setting).

        Raises TemplateError when the sandbox stops the template.
        """
        source = self.tool_source if tools and self.tool_source else self.source
        jobs = [self._variables(*one, settings, tools, protect) for one in conversations]
        keys = [json.dumps([len(source), settings.date, job]) for job in jobs]
        missing = {key: job for key, job in zip(keys, jobs, strict=True) if key not in self._results}
        if missing:
            rendered = render_all(source, settings.date or DEFAULT_DATE, list(missing.values()))
            fresh = dict(zip(missing, (_with_mark(result, protect[1]) for result in rendered), strict=True))
        else:
            fresh = {}
        results = [fresh[key] if key in fresh else self._results[key] for key in keys]
        self._results.update(fresh)
        while len(self._results) > _CACHED:
            self._results.popitem(last=False)
        return results

    def _variables(
        self,
        messages: Sequence[Message],
        ask: bool,
        thinking: bool | None,
        settings: ChatTemplate,
        tools: Sequence[Any],
        protect: Protect,
    ) -> dict[str, Any]:
        messages = _with_system(messages, settings.default_system)
        if self.folds_system and messages[0].role == "system":
            messages = _folded(messages)
        rows = [self._row(message) for message in messages]
        if thinking is None and (settings.thinking or self.has_thinking_switch):
            thinking = settings.thinking == "on"
        switches = {} if thinking is None else {"enable_thinking": thinking, "thinking": thinking}
        return {
            "messages": [
                {key: value if key == "role" else _protected(value, *protect) for key, value in row.items()} for row in rows
            ],
            "tools": _protected(list(tools), *protect) or None,
            "documents": None,
            "add_generation_prompt": ask,
            **self.tokens,
            **switches,
        }

    def _row(self, message: Message) -> dict[str, Any]:
        if message.reasoning_content and "reasoning_content" not in self.source:
            thought = f"<think>\n{message.reasoning_content}\n</think>\n\n"
            message = replace(message, content=thought + message.content, reasoning_content="")
        row = message.to_dict()
        if self.parts:
            row["content"] = [{"type": "text", "text": message.content}]
        return row

    # ---- prompts and rows ------------------------------------------------------------------------------

    def prompt(
        self, messages: Sequence[Message], settings: ChatTemplate, names: frozenset[str], tools: Sequence[Any] = ()
    ) -> NativeText:
        """The text that generation continues.

        TemplateError: the template refuses the conversation, or leaves some of it out.
        """
        protect = (names, _unused_mark(messages, tools))
        (result,) = self.render([(messages, True, None)], settings, tools, protect)
        text = self._prompt_text(result, messages, settings, protect[1], None)
        return NativeText(text, protect[1], tuple(_spoken(text, messages, protect, 0)), ())

    def row(
        self,
        messages: Sequence[Message],
        settings: ChatTemplate,
        names: frozenset[str],
        stops: frozenset[str],
        tools: Sequence[Any] = (),
    ) -> NativeText:
        """A conversation with its answers located. `stops`: names of the tokens that end an answer.

        One that ends with an answer begins with the prompt of that answer. Earlier answers are located where the
        template writes them as it writes the last one (Qwen3 takes thoughts out of earlier answers: those are not).
        """
        protect = (names, _unused_mark(messages, tools))
        answers = [n for n, message in enumerate(messages) if message.role == "assistant" and n > 0]
        thinking = {n: True if _thinks(messages[n]) else None for n in answers}
        jobs = [(messages[:n], True, thinking[n]) for n in answers]
        jobs += [(messages[: n + 1], False, thinking[n]) for n in answers]
        jobs.append((messages, False, None))
        results = self.render(jobs, settings, tools, protect)
        stop_at = _matcher(stops)
        found: dict[int, tuple[str, str, str]] = {}
        for place, n in enumerate(answers):
            whole = results[len(answers) + place]
            try:
                before = self._prompt_text(results[place], messages[:n], settings, protect[1], thinking[n])
            except TemplateError:
                if n == answers[-1]:
                    raise
                continue  # a turn in the middle of tool calls, where no prompt could end
            found[n] = (before, *self._answer(before, whole, messages[n], settings, stop_at, protect, thinking[n]))
        if messages[-1].role == "assistant" and answers:
            text = "".join(found[answers[-1]])
        else:
            text = _text(results[-1])
        located = {n: (len(p), len(p) + len(a)) for n, (p, a, _) in found.items() if text.startswith(p + a)}
        spans = _spans(text, messages, located, protect)
        return NativeText(text, protect[1], spans, tuple(located))

    def _prompt_text(
        self,
        result: RenderResult,
        messages: Sequence[Message],
        settings: ChatTemplate,
        mark: str,
        thinking: bool | None,
    ) -> str:
        text = _text(result)
        if settings.thinking == "off" and thinking is None and _OPEN_THOUGHT.search(text):
            text += _NO_THOUGHT
        plain = text.replace(mark, "")
        for n, message in enumerate(messages):
            if message.role != "assistant" and not _occurs(message.content, plain):
                raise TemplateError(
                    f"the chat template leaves out message {n + 1} ({message.role}): it has no place for it in this "
                    "conversation. Leave the message out, or choose a template with --template"
                )
        return text

    def _answer(
        self,
        before: str,
        whole: RenderResult,
        message: Message,
        settings: ChatTemplate,
        stop_at: re.Pattern[str],
        protect: Protect,
        thinking: bool | None,
    ) -> tuple[str, str]:
        """(the answer with its end-of-turn token, what the template writes after it)."""
        text = whole.text if not whole.error else ""
        if not text.startswith(before):
            # The template writes finished answers in another way than it asks for them, or in another place: take the
            # answer from a conversation of two turns.
            question = Message(role="user", content="?")
            asked, answered = self.render(
                [([question], True, thinking), ([question, message], False, thinking)], settings, (), protect
            )
            start = asked.text if not asked.error else "\0"
            text = answered.text[len(start) :] if answered.text.startswith(start) else ""
            if not text or _OPEN_THOUGHT.search(before):
                text = _protected(_after_open_thought(before, self._row(message), self.parts), *protect)
        else:
            text = text[len(before) :]
        stop = stop_at.search(text)
        if stop is None:
            return text.rstrip() + settings.end_of_turn, ""
        return text[: stop.end()], text[stop.end() :]


def _after_open_thought(before: str, row: Mapping[str, Any], parts: bool) -> str:
    """An answer after a prompt that may end inside a thought (DeepSeek-R1 opens it)."""
    content = str(row["content"][0]["text"] if parts else row["content"])
    inside = _OPEN_THOUGHT.search(before)
    if not inside:
        return content
    thought = _HAS_THOUGHT.match(content)
    return content[thought.end() :].lstrip("\n") if thought else _NO_THOUGHT + content


def _thinks(message: Message) -> bool:
    return bool(message.reasoning_content or _HAS_THOUGHT.match(message.content))


def _text(result: RenderResult) -> str:
    if result.error:
        raise TemplateError(f"the chat template refuses this conversation: {result.error}")
    return result.text


def _with_system(messages: Sequence[Message], system: str) -> Sequence[Message]:
    if not system or messages[0].role == "system":
        return messages
    return [Message(role="system", content=system), *messages]


def _folded(messages: Sequence[Message]) -> Sequence[Message]:
    system, *rest = messages
    if not rest or rest[0].role != "user":
        return messages
    return [replace(rest[0], content=f"{system.content}\n\n{rest[0].content}"), *rest[1:]]


# ---- text of messages --------------------------------------------------------------------------------------


def _unused_mark(messages: Sequence[Message], tools: Sequence[Any]) -> str:
    said = json.dumps([[m.to_dict() for m in messages], list(tools)], ensure_ascii=False)
    mark = next((mark for mark in _MARKS if mark not in said and _escape(mark) not in said), None)
    if mark is None:
        raise TemplateError("the conversation holds every private character that rendering could use; remove some")
    return mark


def _escape(mark: str) -> str:
    return f"\\u{ord(mark):04x}"


def _with_mark(result: RenderResult, mark: str) -> RenderResult:
    """The rendering with `mark` as it is: templates that write tools by `string` or as ASCII escape it."""
    if not mark or _escape(mark) not in result.text:
        return result
    return replace(result, text=result.text.replace(_escape(mark), mark))


def _protected(value: Any, names: frozenset[str], mark: str) -> Any:
    """`value` with `mark` inside each name of a control token in its texts."""
    if isinstance(value, str):
        return _matcher(names).sub(lambda m: _broken(m[0], mark), value) if names else value
    if isinstance(value, list):
        return [_protected(item, names, mark) for item in value]
    if isinstance(value, dict):
        return {
            key if key in _SCHEMA_KEYS else _protected(key, names, mark): _protected(item, names, mark)
            for key, item in value.items()
        }
    return value


def _broken(name: str, mark: str) -> str:
    half = max(1, len(name) // 2)
    return name[:half] + mark + name[half:]


@lru_cache(_CACHED)
def _matcher(names: frozenset[str]) -> re.Pattern[str]:
    """Matches any of the names, the longest first."""
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or r"(?!)")


@lru_cache(_CACHED)
def control_pattern(names: frozenset[str], mark: str) -> re.Pattern[str]:
    """Matches the names in a `NativeText` that are control tokens. A name of one character cannot be split: the mark
    follows it."""
    choices = (re.escape(n) + (f"(?!{mark})" if len(n) == 1 else "") for n in sorted(names, key=len, reverse=True))
    return re.compile("|".join(choices) or r"(?!)")


def _occurs(content: str, text: str) -> bool:
    """True when the text of a message is in a rendering; its longest word tells (escapes and trims change the rest)."""
    words = re.findall(r"\w+", content)
    return not words or max(words, key=len) in text


def _spoken(text: str, messages: Sequence[Message], protect: Protect, start: int) -> list[Span]:
    """Positions of the contents of messages in a text, from `start` on, in their order. One that was changed is left out."""
    spans = []
    for message in messages:
        content = _protected(message.content, *protect).strip()
        at = text.find(content, start) if content else -1
        if at >= 0:
            start = at + len(content)
            spans.append(Span(at, start, message.role))
    return spans


def _spans(
    text: str,
    messages: Sequence[Message],
    located: Mapping[int, tuple[int, int]],
    protect: Protect,
) -> tuple[Span, ...]:
    """Spans of the located answers (`trained`) and, between them, of the other messages."""
    spans: list[Span] = []
    start, between = 0, []
    for n, message in enumerate(messages):
        if n not in located:
            between.append(message)
            continue
        begin, end = located[n]
        spans += [span for span in _spoken(text, between, protect, start) if span.end <= begin]
        spans.append(Span(begin, end, "assistant", trained=True))
        start, between = end, []
    return (*spans, *_spoken(text, between, protect, start))


# ---- what a template is like -------------------------------------------------------------------------------

_USER, _ANSWER, _SYSTEM, _AGAIN = (
    Message(role="user", content="Name seven colours, please."),
    Message(role="assistant", content="Violet, \"indigo\": two of them."),
    Message(role="system", content="Reply tersely."),
    Message(role="user", content=" And which\nothers? "),
)
_SECOND = Message(role="assistant", content="\n Orange. ")
_RESULT = Message(role="tool", content="The palette is green.")
PROBES: tuple[tuple[tuple[Message, ...], bool], ...] = (
    ((_USER,), True),
    ((_USER,), False),
    ((_USER, _ANSWER), False),
    ((_SYSTEM, _USER), True),
    ((_SYSTEM, _USER, _ANSWER), False),
    ((_USER, _ANSWER, _AGAIN), True),
    ((_SYSTEM, _USER, _ANSWER, _AGAIN, _SECOND), False),
    ((_USER, _ANSWER, _RESULT), True),
    ((_USER, _ANSWER, _RESULT, _RESULT, _SECOND), False),
)
"""Conversations, with or without the generation prompt, by which templates are compared."""


@dataclass(frozen=True)
class Probed:
    """A native template that can be used, and what the probes showed of it."""

    template: NativeTemplate
    results: tuple[RenderResult, ...]
    """Of `PROBES`."""

    def end_of_turn(self, names: frozenset[str], eos: str) -> str:
        """The control token after an answer; `eos` where the template writes none there."""
        text = self.results[2].text
        after = text[text.rfind("two of them.") :]
        found = control_pattern(names, "").search(after)
        return found[0] if found else eos

    def bos(self, bos: str) -> str:
        """`bos` if the template begins with it."""
        return bos if bos and self.results[0].text.startswith(bos) else ""

    def controls(self, names: frozenset[str]) -> frozenset[str]:
        """The added tokens that the template writes around messages; tags of thoughts and tools are text."""
        texts = "\n".join(result.text for result in self.results)
        tags = re.compile(r"think|tool", re.IGNORECASE)
        return frozenset(name for name in names if name in texts and not tags.search(name))


def probe(source: str, tokens: Mapping[str, Any], tool_source: str = "") -> Probed:
    """Render the probes with a checkpoint's template. TemplateError: it cannot be used; the message says why."""
    reasons = []
    for parts in (False, True):
        template = NativeTemplate(source=source, tokens=tokens, tool_source=tool_source, parts=parts)
        results = template.render([(m, ask, None) for m, ask in PROBES], ChatTemplate(name="native"))
        first = results[0]
        if first.error:
            reasons.append(first.error)
        elif not _occurs(_USER.content, first.text):
            reasons.append("it does not write the user's message")
        else:
            folds = bool(results[3].error and not results[0].error)
            clock = any(result.clock for result in results)
            template = replace(template, folds_system=folds, uses_clock=clock, _results=OrderedDict())
            return Probed(template, tuple(results))
    raise TemplateError(reasons[0])
