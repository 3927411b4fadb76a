"""What the arena reads and writes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from chatwright.serve.chat.wire import MAX_SYSTEM, ModelName, Settings, Status, Wire

MAX_ENTRANTS = 64
MAX_PROMPT = 20_000
VoteKind = Literal["a", "b", "tie", "both_bad"]


class Entrant(BaseModel):
    """Somebody to compare."""

    id: str
    """Of a model as it is served: its name."""
    name: str
    model: str
    system: str
    settings: Settings
    variant: bool
    """Whether it was added with a system prompt or settings of its own."""


class NewEntrant(Wire):
    """A variant of a model."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    model: ModelName
    system: Annotated[str, Field(max_length=MAX_SYSTEM)] = ""
    settings: Settings = Settings()


class NewBattle(Wire):
    """A question for two entrants, who are drawn."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT)]


class Side(BaseModel):
    """One answer; who wrote it is told after the vote."""

    text: str
    status: Status
    finish_reason: str
    name: str | None
    model_version: str | None
    """Content hash of the model, after the vote; empty: unknown."""


class BattleInfo(BaseModel):
    """A battle as its owner may see it now."""

    id: str
    prompt: str
    a: Side
    b: Side
    vote: VoteKind | None
    void: str
    """Why the vote does not count: `named_model` when an answer names its model; empty: it counts."""


class NewVote(Wire):
    """Which answer is better."""

    vote: VoteKind


class BoardLine(BaseModel):
    """An entrant on the board, or one version of it."""

    name: str
    model_version: str | None
    """Content hash of the model; empty: unknown; None: several versions are counted together."""
    num_versions: int
    """Versions whose votes the line holds."""
    rating: float
    low: float | None
    """None, like `high`: too few votes, or all of them said the same, so that there is no interval."""
    high: float | None
    num_votes: int
    win_rate: float


class BoardInfo(BaseModel):
    """The board: Bradley-Terry ratings with 95 % intervals."""

    lines: list[BoardLine]
    num_votes: int
    num_void: int
    length_control: bool
    by_version: bool
    """True when each version of a model has its own line."""
    length_effect: float
    """Log odds won by an answer that is endlessly longer."""
    regularised: bool
    """Some entrant has won or lost all its votes, so ratings are held finite by a weak prior."""
