"""Labels come in and are taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from chatwright.errors import ConflictError, DataError, MissingError
from chatwright.feedback import payloads, screening, store, values
from chatwright.feedback.events import NewEvent, new_uuid
from chatwright.feedback.leases import active_lease, others_leases, run_lease
from chatwright.feedback.projects import ProjectSettings, project_of
from chatwright.feedback.tables import DraftRow, LabelEvent, LabelRow, Lease, Payload, TaskRow
from chatwright.feedback.tasks import locked, record_merge
from chatwright.records import WeakOrder
from chatwright.text.letters import words

PHASES = ("read", "rate", "rank", "edit")
MOST_WORDS_PER_S = 20.0
"""Fastest reading that counts: five times the usual speed of silent reading (238 words a minute; Brysbaert 2019)."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A label that somebody sends."""

    uuid: str
    """Chosen by the sender: sending it again is harmless."""
    task: str
    """Id of the task."""
    labeller: str
    """User id, "simulated:general-en", "ai:MODEL"."""
    labeller_kind: str = "human"
    """human, simulated or ai."""
    value: Mapping[str, Any] = field(default_factory=dict)
    """See `feedback.values`; in stored letters."""
    payload: Mapping[str, Any] | None = None
    """{"messages": [...], "comment": "..."}."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Active seconds per phase: read, rate, rank, edit."""
    guideline: str = ""
    """Id of the guideline version that was followed."""
    shown_order: tuple[int, ...] | None = None
    """Order in which the answers were shown; None: that of the lease."""
    draft_model: str = ""
    """The model whose draft the labeller began with."""
    draft_version: str = ""
    """Content hash of that model; empty: unknown."""


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A label as it is kept."""

    uuid: str
    task: str
    state: str
    """current, surplus, or undone meanwhile."""
    too_fast: bool
    contradictions: int
    """Pairs that ratings and ranking order differently."""


def submit(session: Session, given: Submission) -> Submitted:
    """Keep a label. It counts when its labeller holds a place at the task or there is one left; else it is surplus.
    Raises MissingError, DataError, ConflictError (another label with this uuid, a second label of one labeller, or a
    task whose texts were withdrawn)."""
    task = locked(session, given.task)
    settings = project_of(session, task.project_id).settings
    stored = store.find(session, given.uuid)
    if stored is not None:
        return _again(session, stored, given, task)
    value, written = _checked(task, settings, given)
    _check_possible(session, task, given.labeller)
    lease = session.get(Lease, (task.id, given.labeller), populate_existing=True)
    shown = given.shown_order if given.shown_order is not None else tuple(lease.shown_order) if lease else None
    order = values.order_of(task.kind, value, len(task.answers))
    seconds = _seconds(given.seconds)
    data = {
        "value": value, "seconds": seconds, "shown_order": list(shown) if shown else None,
        "state": _state(session, task, given.labeller),
        "too_fast": given.labeller_kind == "human" and sum(seconds.values()) < _least_seconds(session, task, settings),
        "draft_model": given.draft_model or (lease.draft_model if lease else ""),
        "draft_version": given.draft_version if given.draft_model else (lease.draft_version if lease else ""),
        "gold_tau": screening.score(order, gold_of(task)) if task.gold else None,
    }  # fmt: skip
    event = store.append(
        session,
        NewEvent(
            kind="label.submitted", uuid=given.uuid, actor=given.labeller, actor_kind=given.labeller_kind,
            project=task.project_id, task=task.id, guideline=given.guideline, data=data, payload=written,
            subject=task.subject,
        ),
    )  # fmt: skip
    if lease is not None:
        lease.expires_at = 0.0
    session.execute(delete(DraftRow).where(DraftRow.task_id == task.id, DraftRow.labeller == given.labeller))
    if task.of_task and order is not None and data["state"] == "current":
        _decide(session, task, event, order)
    return _submitted(session, given.uuid)


def _least_seconds(session: Session, task: TaskRow, settings: ProjectSettings) -> float:
    """Seconds below which the answers of a task cannot have been read: the project's limit, more for long ones. 0: none."""
    if not settings.too_fast_s:
        return 0.0
    found = payloads.contents(session, [one["payload_id"] for one in task.answers])
    read = [words(str(one.get("text", ""))) for one in found.values()]
    # Two letters of a script without blanks count as a word.
    count = sum(len(one.lengths) - one.num_alone / 2 for one in read)
    return max(settings.too_fast_s, count / MOST_WORDS_PER_S)


def _checked(
    task: TaskRow, settings: ProjectSettings, given: Submission
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    ratings = settings.rate_first and task.kind == "rank" and given.labeller_kind == "human"
    value = values.checked(
        task.kind, len(task.answers), given.value, allow_unranked=settings.allow_unranked, need_ratings=ratings
    )
    if given.shown_order is not None and sorted(given.shown_order) != list(range(len(task.answers))):
        raise DataError("shown_order: must name each answer once")
    return value, values.written(task.kind, given.payload)


def _seconds(given: Mapping[str, float]) -> dict[str, float]:
    if unknown := sorted(set(given) - set(PHASES)):
        raise DataError(f"seconds.{unknown[0]}: unknown; phases are {', '.join(PHASES)}")
    if not all(0 <= float(one) < 1e7 for one in given.values()):
        raise DataError("seconds: must be numbers of seconds, 0 or more")
    return {phase: float(given[phase]) for phase in PHASES if given.get(phase)}


def _check_possible(session: Session, task: TaskRow, labeller: str) -> None:
    had = select(LabelRow.uuid).where(
        LabelRow.task_id == task.id, LabelRow.labeller == labeller, LabelRow.state.in_(("current", "surplus"))
    )
    if session.scalar(had) is not None:
        raise ConflictError("you have labelled this task already; take that label back first", code="label_exists")
    prompt = session.get(Payload, task.prompt_payload)
    if prompt is not None and prompt.erased_at is not None:
        message = "the person whose prompt this was has withdrawn it; no label of it can be kept"
        raise ConflictError(message, code="prompt_withdrawn")


def _state(session: Session, task: TaskRow, labeller: str) -> str:
    if task.state != "open":
        return "surplus"
    if task.everybody or active_lease(session, task.id, labeller) is not None:
        return "current"
    others = session.scalar(select(others_leases(task.id, labeller))) or 0
    return "current" if task.labels_count + others < task.overlap else "surplus"


def gold_of(task: TaskRow) -> WeakOrder:
    """The right order of a task that has one."""
    assert task.gold is not None
    return WeakOrder.parse(task.gold["ranking"], len(task.answers), task.gold["unranked"])


def _decide(session: Session, task: TaskRow, event: LabelEvent, order: WeakOrder) -> None:
    """An adjudication is the last word about the task it is of."""
    detail = {"adjudication": task.id, "label": event.uuid}
    original = locked(session, task.of_task)
    if original.state != "closed":
        record_merge(session, task=original.id, method="adjudicated", order=order, detail=detail, actor=event.actor)


def _again(session: Session, stored: LabelEvent, given: Submission, task: TaskRow) -> Submitted:
    # Settings may have changed since: what was good then is good now.
    value = values.checked(task.kind, len(task.answers), given.value)
    written = values.written(task.kind, given.payload)
    same = (stored.kind, stored.task_id, stored.actor) == ("label.submitted", given.task, given.labeller)
    same = same and stored.data["value"] == payloads.plain(value, "value")
    if not same or not store.same_payload(session, stored, written):
        raise ConflictError(f"uuid {given.uuid}: another label with this uuid is stored; use a new one")
    return _submitted(session, given.uuid)


def _submitted(session: Session, uuid: str) -> Submitted:
    row = session.get_one(LabelRow, uuid, populate_existing=True)
    return Submitted(
        uuid=row.uuid, task=row.task_id, state=row.state, too_fast=row.too_fast,
        contradictions=row.value.get("contradictions", 0),
    )  # fmt: skip


def undo(session: Session, uuid: str, labeller: str) -> LabelRow:
    """Take a label back while its task is not merged; its place is held for the labeller again. Doing it twice is doing it
    once. Raises MissingError, ConflictError."""
    label = session.get(LabelRow, uuid)
    if label is None or label.labeller != labeller:
        raise MissingError("there is no such label")
    task = locked(session, label.task_id)
    label = session.get_one(LabelRow, uuid, populate_existing=True)
    if label.state == "undone":
        return label
    if task.state not in ("open", "complete") or (task.of_task and label.state == "current"):
        message = "this label has gone into a result already, so it cannot be taken back"
        raise ConflictError(message, code="label_merged")
    event = NewEvent(
        kind="label.undone", uuid=new_uuid(), actor=labeller, actor_kind=label.labeller_kind, project=task.project_id,
        task=task.id, data={"label": uuid}, subject=task.subject,
    )  # fmt: skip
    store.append(session, event)
    others = session.scalar(select(others_leases(task.id, labeller))) or 0
    free = task.state == "open" and (task.everybody or task.labels_count + others < task.overlap)
    hours = project_of(session, task.project_id).settings.lease_hours if free else 0.0
    run_lease(session, task.id, labeller, hours * 3600, label.shown_order or range(len(task.answers)))
    return label
