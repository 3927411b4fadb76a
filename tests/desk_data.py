"""Projects, tasks and labels for tests of the labelling desk."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from chatwright.feedback.labels import Submission, submit
from chatwright.feedback.projects import ProjectSettings, create_project
from chatwright.feedback.tasks import Answer, NewTask, add_task
from chatwright.records import WeakOrder, user


def project(session: Session, name: str = "desk", **settings: Any) -> str:
    """Id of a new project."""
    return create_project(session, name, ProjectSettings().changed(settings), actor="lead").id


def task(
    session: Session, project_id: str, kind: str = "rank", *, text: str = "What is gravity?", k: int = 3,
    answers: Sequence[Answer] | None = None, **more: Any,
) -> str:  # fmt: skip
    """Id of a new task."""
    given = answers if answers is not None else [Answer(text=f"answer {n}", model=f"model-{n}") for n in range(k)]
    given = () if kind in ("demonstrate", "prompt") else tuple(given)
    new = NewTask(project=project_id, kind=kind, messages=user(text), answers=given, **more)
    return add_task(session, new, actor="lead")


def label(
    session: Session, task_id: str, labeller: str, value: Mapping[str, Any] | str = "", *, seconds: float = 30.0,
    payload: Mapping[str, Any] | None = None, kind: str = "human",
) -> str:  # fmt: skip
    """Uuid of a new label; `value` may be a ranking such as "A>B=C"."""
    said = {"ranking": value} if isinstance(value, str) and value else value or {}
    given = Submission(
        uuid=str(uuid.uuid4()), task=task_id, labeller=labeller, labeller_kind=kind, value=dict(said), payload=payload,
        seconds={"read": seconds / 2, "rank": seconds / 2}, shown_order=None,
    )  # fmt: skip
    return submit(session, given).uuid


def ranked(session: Session, project_id: str, orders: Mapping[str, str], **more: Any) -> str:
    """Id of a new ranking task with an order per labeller."""
    k = len(WeakOrder.parse(first := next(iter(orders.values())), sum(c.isalpha() for c in first)).ranks)
    made = task(session, project_id, k=k, overlap=len(orders), **more)
    for labeller, order in orders.items():
        label(session, made, labeller, order)
    return made
