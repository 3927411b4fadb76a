"""Parts of a suite: items that are scored or answered, their metrics, and where the file comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from chatwright.house.forms import Form
from chatwright.records import Conversation

Row = Mapping[str, Any]
"""Result of a model for one item, a line of a file: {"id", "logprobs", "greedy"} or {"id", "texts"}."""
Text = tuple[str, str]
"""(English, Chinese)."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question of a suite. Likelihood items have `pairs`, generation items have `prompts`."""

    id: str
    """Unique in its suite."""
    pairs: tuple[tuple[str, str], ...] = ()
    """Context and continuation of every text that is scored."""
    sets: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """By metric, the pairs that compete: (index into `pairs`, 1 for right and 0 for wrong)."""
    prompts: tuple[str, ...] = ()
    """Raw texts that a base model continues."""
    chat_prompts: tuple[str | Conversation, ...] = ()
    """The same for models with a chat template; empty: those continue the raw texts too."""
    answer: str = ""
    """Right answer of a generation item."""
    right: tuple[Form, ...] = ()
    """Forms that show that an answer of a house does answer."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of a suite: the mean over items."""

    about: Text
    """Short name for tables."""
    better: Literal["higher", "lower", ""] = "higher"
    """Direction; empty: neither is better by itself."""


class ToxicityJudge(Protocol):
    """A classifier of texts."""

    name: str

    def rate(self, text: str) -> tuple[float, bool]:
        """(score from 0 to 1, whether it is flagged)."""


Score = Callable[[Item, Row, ToxicityJudge | None], dict[str, float]]
"""Metrics of one item, by name; a metric that an item lacks is left out of its mean."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Settings by which the answers of a generation suite are written."""

    max_new_tokens: int
    """Longest answer in tokens."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer."""
    greedy: bool = True
    """False: sampled at the evaluation's temperature."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A named set of items."""

    name: str
    """As `--suite` takes it."""
    about: Text
    """One line."""
    files: tuple[str, ...] = ()
    """Accepted names of the user's file, the preferred first."""
    bundled: str = ""
    """Path below `bundled/` of what is used when the user has no file."""
    source: str = ""
    """Address of the public data."""
    licence: str = ""
    """Of the data."""
    read: Callable[[Path], Sequence[Item]]
    """Items of a file."""
    score: Score
    """Metrics of one item."""
    metrics: Mapping[str, Metric]
    """In the order to be shown."""
    judge: str
    """The judge, for the report."""
    decoding: Decoding | None = None
    """None: items are scored by likelihood."""
    needs_moderation: bool = False
    """The judge is the classifier of --moderation."""
