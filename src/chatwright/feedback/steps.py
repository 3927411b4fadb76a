"""From traffic to a prompt that may be kept: steps without side effects, each either passing it on or naming why not."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from chatwright.feedback.client_prompts import background_kind
from chatwright.feedback.tasks import Answer
from chatwright.records import Conversation
from chatwright.text import languages
from chatwright.text.pii import KINDS as PII_KINDS
from chatwright.text.pii import scrub

FREE_TEXT = ("comment",)  # notes on answers in somebody's own words
MAX_CHARS = 40_000  # of a conversation with one of its answers: nobody reads more for one label


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """A conversation that came by, and what was answered."""

    source: str
    """api or chat."""
    owner: str
    """Whose it is: the user's id, or that of an API key which belongs to nobody."""
    messages: Conversation
    """Up to the message that was answered."""
    consented: bool
    """Whether its owner had agreed when it came by."""
    answers: tuple[Answer, ...] = ()
    """What was answered; two or more become a task to compare them."""
    key_id: str = ""
    """The API key it came with."""


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Kept out."""

    step: str
    """Which step of `funnel.STEPS` kept it out."""
    reason: str
    """Why: a word for counts."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What may be kept."""

    traffic: Traffic
    """Without what is personal."""
    replaced: Counter[str]
    """Kind of personal data -> how many pieces were replaced."""


def prepare(traffic: Traffic) -> Prepared | Drop:
    """All steps that look at nothing but the traffic itself, in the order of `funnel.STEPS`."""
    for step in (_consent, _usable, _background):
        if (drop := step(traffic)) is not None:
            return drop
    done = scrubbed(traffic)
    return done if _says_something(done.traffic) else Drop(step="usable", reason="nothing_left")


def _consent(traffic: Traffic) -> Drop | None:
    return None if traffic.consented else Drop(step="consent", reason="not_given")


def _usable(traffic: Traffic) -> Drop | None:
    reason = ""
    if not traffic.messages or traffic.messages[-1].role != "user":
        reason = "no_question"
    elif any(message.role == "tool" for message in traffic.messages):
        reason = "tools"
    elif not traffic.messages[-1].content.strip():
        reason = "empty"
    elif sum(len(m.content) for m in traffic.messages) + max((len(a.text) for a in traffic.answers), default=0) > MAX_CHARS:
        reason = "too_long"
    return Drop(step="usable", reason=reason) if reason else None


def _background(traffic: Traffic) -> Drop | None:
    kind = background_kind(traffic.messages)
    return Drop(step="background", reason=kind) if kind else None


def scrubbed(traffic: Traffic) -> Prepared:
    """Without what is personal, in the messages and in the answers, which often repeat it."""
    replaced: Counter[str] = Counter()

    def clean(text: str) -> str:
        done = scrub(_storable(text))
        replaced.update(done.found)
        return done.text

    def notes(answer: Answer) -> dict[str, Any]:
        return {name: clean(value) if name in FREE_TEXT else value for name, value in answer.meta.items()}

    messages = tuple(replace(message, content=clean(message.content)) for message in traffic.messages)
    answers = tuple(replace(answer, text=clean(answer.text), meta=notes(answer)) for answer in traffic.answers)
    return Prepared(traffic=replace(traffic, messages=messages, answers=answers), replaced=replaced)


def _storable(text: str) -> str:
    """Half surrogate pairs and NUL, which no database keeps, become the replacement character."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def _says_something(traffic: Traffic) -> bool:
    rest = traffic.messages[-1].content
    for kind in PII_KINDS:
        rest = rest.replace(f"[{kind}]", "")
    return any(character.isalnum() or unicodedata.category(character) == "So" for character in rest)


def language_of(text: str) -> str:
    """The language whose labellers get a text; `en` where too little is said to tell."""
    found = languages.language_of(text)
    return "zh-CN" if found == "zh" else found
