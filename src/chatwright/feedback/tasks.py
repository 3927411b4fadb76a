"""Tasks come into the queue, get their priorities, are merged and closed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright.errors import ConflictError, DataError, MissingError
from chatwright.feedback import payloads, store
from chatwright.feedback.events import NewEvent, new_uuid
from chatwright.feedback.projects import project_of
from chatwright.feedback.tables import TaskRow
from chatwright.feedback.values import KINDS
from chatwright.records import MAX_K, MIN_K, Conversation, WeakOrder
from chatwright.records.messages import messages_out
from chatwright.workspace.database import new_id

NUM_ANSWERS = {
    "prompt": (0, 0), "demonstrate": (0, 0), "rate": (1, MAX_K), "rank": (MIN_K, MAX_K), "compare": (2, 2),
    "adjudicate": (MIN_K, MAX_K),
}  # fmt: skip
SOURCES = ("api", "chat", "import", "written", "demo")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that is judged."""

    text: str
    """What the model said."""
    model: str = ""
    """Its name; labellers never see it."""
    model_version: str = ""
    """Content hash of the model; empty: unknown."""
    finish_reason: str = "stop"
    """stop, length, ..."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Anything else: seed, temperature, ..."""


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """A task to add."""

    project: str
    """Id of the project."""
    kind: str
    """prompt, demonstrate, rate, rank, compare or adjudicate."""
    messages: Conversation = ()
    """The conversation to answer, or that was answered; may be empty for kind prompt."""
    answers: tuple[Answer, ...] = ()
    """What is judged; letter i of every label is answer i."""
    language: str = "en"
    """Goes to labellers of this language."""
    split: str = "train"
    """train or held_out."""
    subject: str = ""
    """Hash of the person whose prompt it is; a withdrawal erases it by this."""
    source: str = "import"
    """api, chat, import, written or demo."""
    gold: WeakOrder | None = None
    """The right order, where it is known: every labeller then gets the task once, silently."""
    screening: bool = False
    """Part of the test before the first task; needs `gold`."""
    priority: float = 0.0
    """Higher ones come first."""
    overlap: int = 0
    """Labels it gets; 0: as many as the project says."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Anything else about the prompt: topic, style, ..."""


def check(task: NewTask) -> None:
    """Raises DataError that names the field."""
    if task.kind not in KINDS:
        raise DataError(f"kind {task.kind!r}: must be one of {', '.join(KINDS)}")
    least, most = NUM_ANSWERS[task.kind]
    if not least <= len(task.answers) <= most:
        wanted = f"{least} to {most}" if least < most else str(most)
        raise DataError(f"answers: a task of kind {task.kind} has {wanted}, not {len(task.answers)}")
    if task.kind != "prompt" and not task.messages:
        raise DataError(f"messages: a task of kind {task.kind} needs a conversation")
    if task.kind != "prompt" and task.messages[-1].role not in ("user", "tool"):
        raise DataError(f"messages: end with the {task.messages[-1].role}'s; what is answered ends with the user's")
    if task.split not in ("train", "held_out") or task.source not in SOURCES:
        raise DataError(f"split {task.split!r} or source {task.source!r}: unknown")
    if not math.isfinite(task.priority) or not 0 <= task.overlap <= 100 or not 0 < len(task.language) <= 16:
        raise DataError("priority, overlap or language: out of range")
    if task.screening and task.gold is None:
        raise DataError("screening: a screening task needs the right order (gold)")
    if task.gold is not None:
        if task.kind not in ("rank", "compare") or task.gold.k != len(task.answers):
            raise DataError("gold: is an order of the answers of a ranking or a comparison")
        if not task.gold.strict_pairs():
            raise DataError("gold: ties every answer, so nothing could be scored")


def add_task(session: Session, task: NewTask, *, actor: str, actor_kind: str = "human", uuid: str | None = None) -> str:
    """Add a task to the queue; gives its id. With the `uuid` of one that was added before, that one's id.
    Raises DataError, MissingError (project), ConflictError (the uuid is another event's)."""
    check(task)
    settings = project_of(session, task.project).settings
    if uuid is not None and (stored := store.find(session, uuid)) is not None:
        return _same_task(session, stored, task)
    store.hold_subject(session, task.subject)
    answers = [
        {
            "payload_id": payloads.keep(session, {"text": one.text, "meta": dict(one.meta)}, subject=task.subject),
            "model": one.model, "finish_reason": one.finish_reason,
            **({"model_version": one.model_version} if one.model_version else {}),
        }
        for one in task.answers
    ]  # fmt: skip
    gold = task.gold and {"ranking": str(task.gold), "unranked": list(task.gold.unranked)}
    data = {
        "kind": task.kind, "language": task.language, "split": task.split, "source": task.source, "answers": answers,
        "gold": gold, "screening": task.screening, "priority": task.priority, "of_task": "",
        "overlap": task.overlap or settings.overlap_of(task.kind),
    }  # fmt: skip
    event = store.append(
        session,
        NewEvent(
            kind="task.created", uuid=uuid or new_uuid(), actor=actor, actor_kind=actor_kind, project=task.project,
            task=new_id("task"), data=data, payload=_prompt(task), subject=task.subject,
        ),
    )  # fmt: skip
    return event.task_id


def _prompt(task: NewTask) -> dict[str, Any]:
    return {"messages": messages_out(task.messages), "meta": dict(task.meta)}


def _same_task(session: Session, stored: Any, task: NewTask) -> str:
    same = stored.kind == "task.created" and (stored.project_id, stored.data["kind"]) == (task.project, task.kind)
    if not same or not store.same_payload(session, stored, _prompt(task)):
        raise ConflictError(f"uuid {stored.uuid}: another event with this uuid is stored; use a new one")
    return str(stored.task_id)


def locked(session: Session, task_id: str) -> TaskRow:
    """A task, held until the transaction ends: what happens to one task happens one after another. MissingError."""
    row = session.get(TaskRow, task_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise MissingError("there is no such task")
    return row


def adjudicate(session: Session, task_id: str, *, actor: str) -> str:
    """Let a lead decide about a ranking or comparison; gives the id of the adjudication, also when there is one already.
    Raises MissingError, ConflictError."""
    task = locked(session, task_id)
    waiting = select(TaskRow.id).where(TaskRow.of_task == task_id, TaskRow.state != "closed")
    if found := session.scalar(waiting):
        return found
    if task.kind not in ("rank", "compare") or task.state in ("merged", "closed"):
        raise ConflictError(f"a task of kind {task.kind} that is {task.state} cannot be adjudicated")
    data = {
        "kind": "adjudicate", "language": task.language, "split": task.split, "source": task.source,
        "answers": task.answers, "gold": None, "screening": False, "priority": task.priority, "of_task": task.id,
        "overlap": 1, "prompt": task.prompt_payload,
    }  # fmt: skip
    event = store.append(
        session,
        NewEvent(
            kind="task.created", uuid=new_uuid(), actor=actor, project=task.project_id, task=new_id("task"), data=data,
            subject=task.subject,
        ),
    )  # fmt: skip
    return event.task_id


def record_merge(
    session: Session, *, task: str, method: str, order: WeakOrder, detail: Mapping[str, Any], actor: str
) -> None:
    """Write down what the labels of a task amount to; from then on they cannot be undone. Raises MissingError,
    ConflictError (the task was closed)."""
    row = locked(session, task)
    if row.state == "closed":
        raise ConflictError("the task was closed", code="task_closed")
    if order.k != len(row.answers):
        raise DataError(f"order {order}: the task has {len(row.answers)} answers, the order {order.k}")
    data = {"method": method, "order": str(order), "unranked": list(order.unranked), "detail": dict(detail)}
    _note(session, "label.merged", row, actor, data)


def close(session: Session, task_id: str, *, actor: str) -> None:
    """Give a task out no more; its labels stay. Raises MissingError."""
    row = locked(session, task_id)
    if row.state != "closed":
        _note(session, "task.closed", row, actor, {})


def clear_flags(session: Session, task_id: str, *, actor: str) -> None:
    """Give a flagged task out again. Raises MissingError."""
    row = locked(session, task_id)
    if row.flags_count:
        _note(session, "task.cleared", row, actor, {})


def _note(session: Session, kind: str, row: TaskRow, actor: str, data: Mapping[str, Any]) -> None:
    event = NewEvent(kind=kind, uuid=new_uuid(), actor=actor, project=row.project_id, task=row.id, data=data)
    store.append(session, event)


def set_priorities(session: Session, priorities: Mapping[str, float], *, actor: str) -> int:
    """Order the queue anew, the highest first; tasks that are not known are passed over. Gives how many were set."""
    if not all(math.isfinite(one) for one in priorities.values()):
        raise DataError("priorities: must be finite numbers")
    wanted, places = sorted(priorities), list[tuple[int, str]]()
    for start in range(0, len(wanted), 400):
        part = select(TaskRow.seq, TaskRow.id).where(TaskRow.id.in_(wanted[start : start + 400]))
        places += [(seq, task_id) for seq, task_id in session.execute(part)]
    known = [task_id for _, task_id in sorted(places)]
    for start in range(0, len(known), 400):  # whoever locks many tasks does it in the order in which they came
        part_of = select(TaskRow.id).where(TaskRow.id.in_(known[start : start + 400]))
        session.scalars(part_of.order_by(TaskRow.seq).with_for_update()).all()
    if known:
        data = {"priorities": {task_id: float(priorities[task_id]) for task_id in known}}
        store.append(session, NewEvent(kind="task.prioritised", uuid=new_uuid(), actor=actor, data=data))
    return len(known)


def disagreement(scores: Sequence[Sequence[float]]) -> float:
    """How much an ensemble of reward models differs about the answers to a prompt: `scores[m][i]`, member m, answer i.
    0 (all agree) to 1 (half is sure of one order of every pair, half of the other).

    Four times the variance over members of P(i beats j) = sigmoid(score_i - score_j), averaged over pairs: a member's
    own zero point does not matter, and certainty counts.
    """
    if len(scores) < 2 or len({len(row) for row in scores}) != 1 or not all(math.isfinite(s) for row in scores for s in row):
        raise DataError("scores: must be finite numbers of at least two reward models, one per answer")
    k, total = len(scores[0]), 0.0
    for i in range(k):
        for j in range(i + 1, k):
            chances = [0.5 * (1 + math.tanh((row[i] - row[j]) / 2)) for row in scores]
            mean = sum(chances) / len(chances)
            total += 4 * sum((one - mean) ** 2 for one in chances) / len(chances)
    return total / max(1, k * (k - 1) // 2)
