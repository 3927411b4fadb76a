"""What the leads' data browser reads."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class BrowsedTask(BaseModel):
    """A task in the list."""

    id: str
    project: str
    kind: str
    state: str
    """open, complete, merged or closed."""
    language: str
    split: str
    source: str
    screening: bool
    gold: bool
    num_answers: int
    labels: int
    overlap: int
    agreement: float | None
    """Share of pairs on which its labellers agree; None with fewer than two rankings."""
    ranking: str | None
    """The merged ranking."""
    start: str
    """Beginning of the last message; empty when it was erased."""
    erased: bool
    created_at: float


class BrowsePage(BaseModel):
    """Some tasks, the newest first."""

    tasks: list[BrowsedTask]
    total: int
    """Tasks that fit the filters."""
    offset: int


class BrowsedAnswer(BaseModel):
    """An answer of a task."""

    letter: str
    text: str | None
    """None: erased."""
    model: str
    finish_reason: str


class BrowsedLabel(BaseModel):
    """A label of a task."""

    uuid: str
    labeller: str
    labeller_kind: str
    kind: str
    state: str
    """current, undone or surplus."""
    value: dict[str, Any]
    content: dict[str, Any] | None
    """What was written (a demonstration, a comment); None: nothing, or erased."""
    guideline: str
    seconds: dict[str, float]
    shown_order: str
    too_fast: bool
    draft_model: str
    at: float


class MergedInfo(BaseModel):
    """How a task was merged."""

    method: str
    order: str
    detail: dict[str, Any]
    at: float


class TaskDetail(BaseModel):
    """A task with everything a lead may see."""

    task: BrowsedTask
    messages: list[dict[str, str]]
    """Empty when erased."""
    answers: list[BrowsedAnswer]
    gold: str | None
    labels: list[BrowsedLabel]
    merged: MergedInfo | None
