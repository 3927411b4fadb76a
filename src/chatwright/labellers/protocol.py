"""One protocol for everything that ranks answers: `submit(task)` hands a task over, `collect()` returns what is done.

People are not synchronous: a labeller may return rankings of earlier tasks, some of them, or none yet. Callers
therefore never assume that a submitted task comes back from the next `collect()`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from chatwright.errors import DataError
from chatwright.records import Conversation, Prompt, Ranking

LabellerKind = Literal["human", "simulated", "ai"]


@dataclass(frozen=True, kw_only=True)
class LabelTask:
    """K answers to one prompt that are to be ranked."""

    prompt: Prompt
    """What was asked."""
    completions: tuple[str, ...]
    """The answers, K = 2..9; letter i of the ranking is `completions[i]`."""
    ended: tuple[bool, ...]
    """Per answer: True when the model stopped by itself, False when it was cut at the token limit."""
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Kept in the ranking's row beside the prompt's own fields (model, sampling settings, ...)."""

    def __post_init__(self) -> None:
        if not 2 <= len(self.completions) <= 9:
            raise DataError(f"completions: a task has 2 to 9 answers, not {len(self.completions)}.")
        if len(self.ended) != len(self.completions):
            raise DataError(f"ended: {len(self.ended)} values for {len(self.completions)} completions.")

    @property
    def id(self) -> str:
        """Stable id of prompt and answers: 16 hex digits."""
        content = json.dumps([self.prompt.id, *self.completions], ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def row_meta(self) -> dict[str, Any]:
        """Fields of the ranking's row: those of the prompt, of the task, and why each answer finished."""
        finished = {"finish_reason": ["stop" if ended else "length" for ended in self.ended]}
        return {**self.prompt.meta, **self.meta, **finished}


class Labeller(Protocol):
    """A source of rankings."""

    @property
    def name(self) -> str:
        """Goes into every record: "simulated:museum-en", "ai:MODEL", a person's handle."""

    @property
    def kind(self) -> LabellerKind:
        """What stands behind the name."""

    def submit(self, task: LabelTask) -> None:
        """Hand a task over."""

    def collect(self) -> list[Ranking]:
        """Rankings finished since the last call, oldest first; may be empty."""


def question_of(messages: Conversation) -> str:
    """The last message's text: what the answers answer."""
    return messages[-1].content
