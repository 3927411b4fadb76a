"""Prompts, demonstrations, labelled answers and answers that wait for a ranking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chatwright.jsonl import IN_MEMORY, Where
from chatwright.records.marks import as_verdict, not_to_learn, verdict
from chatwright.records.messages import (
    Conversation,
    Message,
    conversation_id,
    messages_in,
    messages_out,
    prompt_in,
    rest_of,
)
from chatwright.records.passages import FIELD, passages_in, passages_of, passages_text, with_passages


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What is asked: a conversation that ends with a user (or tool) message."""

    messages: Conversation
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Every other field of the row: topic, keywords, user, ..."""

    @property
    def id(self) -> str:
        """Stable id of the messages; `meta` does not change it."""
        return conversation_id(self.messages)

    @property
    def context(self) -> tuple[Any, ...]:
        """Passages that a model reads before the question."""
        return passages_of(self.meta.get(FIELD))

    @property
    def full_messages(self) -> Conversation:
        """The messages as a model and a judge read them: with the passages before the question."""
        return with_passages(self.messages, passages_text(self.context))

    def to_dict(self) -> dict[str, Any]:
        """The row as written to JSON lines."""
        return {"messages": messages_out(self.messages), **self.meta}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], where: Where = IN_MEMORY) -> Prompt:
        """From `{"messages": [...]}` or `{"prompt": "..."}`; DataError names the field."""
        messages, used = prompt_in(row, where)
        passages_in(row.get(FIELD), where)
        return cls(messages=messages, meta=rest_of(row, used))


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """A conversation to imitate; its last message is the assistant's."""

    messages: Conversation
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Every other field of the row."""

    @property
    def prompt(self) -> Prompt:
        """The conversation before the last answer, with the same meta."""
        return Prompt(messages=self.messages[:-1], meta=self.meta)

    @property
    def answer(self) -> str:
        """The last assistant message."""
        return self.messages[-1].content

    def to_dict(self) -> dict[str, Any]:
        """The row as written to JSON lines."""
        return {"messages": messages_out(self.messages), **self.meta}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], where: Where = IN_MEMORY) -> Demonstration:
        """From `{"messages": [..., assistant]}` or `{"prompt": "...", "completion": "..."}`."""
        if "messages" in row:
            messages, used = messages_in(row["messages"], "messages", where), {"messages"}
            if messages[-1].role != "assistant":
                raise where.error(
                    "messages",
                    f"ends with a {messages[-1].role} message; a demonstration ends with the assistant's answer",
                )
            if len(messages) < 2 or messages[-2].role not in ("user", "tool"):
                raise where.error("messages", "has no user message right before the last answer")
        else:
            before, used = prompt_in(row, where)
            if "completion" not in row:
                raise where.error(
                    "completion",
                    'is missing; a demonstration is {"messages": [...]} or {"prompt": ..., "completion": ...}',
                )
            answer = Message(role="assistant", content=where.text(row["completion"], "completion"))
            messages, used = (*before, answer), used | {"completion"}
        if not messages[-1].content.strip() and not messages[-1].tool_calls:
            raise where.error("completion" if "completion" in used else "messages", "the answer is empty")
        passages_in(row.get(FIELD), where)
        meta = rest_of(row, used)
        if (name := not_to_learn(meta)) is not None:
            raise where.error(name, f"is {meta[name]!r}: the row is not to be learned; remove it, or the field")
        if (name := _verdict_in(meta)) is not None:
            raise where.error(
                name, f"is {meta[name]!r}: it marks the answer as good or bad, and a demonstration is good; "
                "`chatwright data import` sorts such rows",
            )  # fmt: skip
        return cls(messages=messages, meta=meta)


def _verdict_in(row: Mapping[str, Any]) -> str | None:
    """The field by which KTO files mark an answer, or by which another file calls it bad in a word or with false."""
    kto = (name for name in ("label", "kto_tag", "desirable") if as_verdict(row.get(name)) is not None)
    bad = (name for name, value in row.items() if isinstance(value, bool | str) and verdict(name, value) is False)
    return next(kto, next(bad, None))


@dataclass(frozen=True, kw_only=True)
class LabelledAnswer:
    """An answer that a labeller marked as good or bad by itself, as KTO learns from; its last message is the assistant's."""

    messages: Conversation
    good: bool
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Every other field of the row."""

    @property
    def prompt(self) -> Prompt:
        """The conversation before the last answer, with the same meta."""
        return Prompt(messages=self.messages[:-1], meta=self.meta)

    def to_dict(self) -> dict[str, Any]:
        """The row as written to JSON lines: `{"messages", "label": true or false, ...}`."""
        return {"messages": messages_out(self.messages), "label": self.good, **self.meta}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], where: Where = IN_MEMORY) -> LabelledAnswer:
        """From `{"messages": [..., assistant], "label": true}`; DataError names the field."""
        good = as_verdict(row.get("label"))
        if good is None:
            raise where.error("label", f"is {row.get('label')!r}; it must be true (good) or false (bad)")
        answer = Demonstration.from_dict(rest_of(row, {"label"}), where)
        return cls(messages=answer.messages, good=good, meta=answer.meta)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Answers to one prompt without a ranking."""

    messages: Conversation
    completions: tuple[str, ...]
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Every other field of the row."""

    @property
    def prompt(self) -> Prompt:
        """The prompt, with the meta of the row."""
        return Prompt(messages=self.messages, meta=self.meta)

    def to_dict(self) -> dict[str, Any]:
        """The row as `chatwright sample` writes it."""
        return {"messages": messages_out(self.messages), "completions": list(self.completions), **self.meta}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], where: Where = IN_MEMORY) -> Samples:
        """From `{"messages"|"prompt", "completions": [...]}`; DataError names the field."""
        messages, used = prompt_in(row, where)
        raw = where.list(row.get("completions"), "completions")
        if not raw:
            raise where.error("completions", "is empty")
        completions = tuple(where.text(text, f"completions[{i}]") for i, text in enumerate(raw))
        if row.get("ranking") is not None:
            raise where.error("ranking", "is given; samples are answers without a ranking")
        return cls(messages=messages, completions=completions, meta=rest_of(row, used | {"completions", "ranking"}))
