"""Tables of the store. Everything that happens is one row of `label_events`, never changed; what people wrote lies in
`payloads`, which can be emptied. The projections are what the events amount to (`projections.rebuild` makes them anew).
Leases, drafts and labellers' settings are of the moment and not rebuilt.

No foreign keys to accounts: the server is a layer above. None between projections either: a rebuild empties them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from chatwright.workspace.append_only import append_only
from chatwright.workspace.database import Base, now

_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")
_ID = String(64)
_LABELLER = String(256)  # "ai:MODEL" may be long


class LabelEvent(Base):
    """Something that happened. `data` holds ids, orders and numbers only; texts are in the payload."""

    __tablename__ = "label_events"
    id: Mapped[int] = mapped_column(_SEQUENCE, primary_key=True, autoincrement=True)
    uuid: Mapped[str] = mapped_column(_ID, unique=True)
    """Chosen by whoever reports the event: the same report twice is one event."""
    kind: Mapped[str] = mapped_column(String(32))
    at: Mapped[float] = mapped_column(Float, default=now)
    actor: Mapped[str] = mapped_column(_LABELLER, default="")
    actor_kind: Mapped[str] = mapped_column(String(16), default="human")
    project_id: Mapped[str] = mapped_column(_ID, default="")
    task_id: Mapped[str] = mapped_column(_ID, default="", index=True)
    guideline_id: Mapped[str] = mapped_column(_ID, default="")
    data: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    payload_id: Mapped[str] = mapped_column(_ID, default="")
    subject: Mapped[str] = mapped_column(_ID, default="", index=True)
    """Hash of the person whose text it is about."""
    __table_args__ = (Index("ix_label_events_kind_project_id", "kind", "project_id"),)


append_only(LabelEvent.__table__)  # type: ignore[arg-type]


class Payload(Base):
    """A text; `content` is None once it was erased."""

    __tablename__ = "payloads"
    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    subject: Mapped[str] = mapped_column(_ID, default="", index=True)
    content: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[float] = mapped_column(Float, default=now)
    erased_at: Mapped[float | None] = mapped_column(Float)


class ProjectRow(Base):
    """A project (projection); `settings` as `ProjectSettings` writes them."""

    __tablename__ = "feedback_projects"
    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created_at: Mapped[float] = mapped_column(Float)
    archived_at: Mapped[float | None] = mapped_column(Float)


class GuidelineRow(Base):
    """One version of a project's guideline in one language (projection)."""

    __tablename__ = "feedback_guidelines"
    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    project_id: Mapped[str] = mapped_column(_ID)
    language: Mapped[str] = mapped_column(String(16))
    version: Mapped[int] = mapped_column(Integer)
    text: Mapped[str] = mapped_column(Text)
    created_by: Mapped[str] = mapped_column(_LABELLER)
    created_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (UniqueConstraint("project_id", "language", "version"),)


class TaskRow(Base):
    """A task (projection). `answers[i]` is answer i of every ranking: {"payload_id", "model", "finish_reason"}
    and, where it is known, "model_version"."""

    __tablename__ = "feedback_tasks"
    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    seq: Mapped[int] = mapped_column(_SEQUENCE)
    """Id of the event that made it: the order in which tasks came."""
    project_id: Mapped[str] = mapped_column(_ID)
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16), default="open")
    """open, complete (has all its labels), merged, or closed (will get no more)."""
    language: Mapped[str] = mapped_column(String(16))
    split: Mapped[str] = mapped_column(String(16))
    """train or held_out."""
    subject: Mapped[str] = mapped_column(_ID, default="", index=True)
    source: Mapped[str] = mapped_column(String(16))
    """api, chat, import, written or demo."""
    prompt_payload: Mapped[str] = mapped_column(_ID)
    """{"messages": [...], "meta": {...}}."""
    answers: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    gold: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """{"ranking": "D>C>A=B", "unranked": []} where the right order is known."""
    screening: Mapped[bool] = mapped_column(Boolean, default=False)
    everybody: Mapped[bool] = mapped_column(Boolean, default=False)
    """Gold or screening: each labeller gets it once, whatever the overlap."""
    overlap: Mapped[int] = mapped_column(Integer, default=1)
    priority: Mapped[float] = mapped_column(Float, default=0.0)
    labels_count: Mapped[int] = mapped_column(Integer, default=0)
    """Current labels."""
    flags_count: Mapped[int] = mapped_column(Integer, default=0)
    """Flags nobody has looked at; the task waits meanwhile."""
    agreement: Mapped[float | None] = mapped_column(Float)
    """Share of pairs on which its current rankings agree; None with fewer than two."""
    of_task: Mapped[str] = mapped_column(_ID, default="", index=True)
    """For an adjudication: the task whose labels disagree."""
    created_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (
        Index("ix_feedback_tasks_queue", "state", "project_id", "kind", "priority", "labels_count", "seq"),
        Index("ix_feedback_tasks_project_id", "project_id", "seq"),
        Index("ix_feedback_tasks_seq", "seq"),
        Index("ix_feedback_tasks_agreement", "agreement"),
    )


class TaskText(Base):
    """All texts of a task for the search (projection): its prompt, answers, and what labellers wrote, case-folded."""

    __tablename__ = "feedback_texts"
    seq: Mapped[int] = mapped_column(_SEQUENCE, primary_key=True, autoincrement=False)
    """The task's `seq`, so that the newest comes first without a join."""
    task_id: Mapped[str] = mapped_column(_ID, unique=True)
    text: Mapped[str] = mapped_column(Text)


class LabelRow(Base):
    """A label (projection): what one labeller said about one task."""

    __tablename__ = "feedback_labels"
    uuid: Mapped[str] = mapped_column(_ID, primary_key=True)
    seq: Mapped[int] = mapped_column(_SEQUENCE)
    task_id: Mapped[str] = mapped_column(_ID, index=True)
    project_id: Mapped[str] = mapped_column(_ID)
    labeller: Mapped[str] = mapped_column(_LABELLER)
    labeller_kind: Mapped[str] = mapped_column(String(16))
    """human, simulated or ai."""
    kind: Mapped[str] = mapped_column(String(16))
    value: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """See `feedback.values`."""
    payload_id: Mapped[str] = mapped_column(_ID, default="")
    """{"messages": [...], "comment": "..."}; "" when nothing was written."""
    guideline_id: Mapped[str] = mapped_column(_ID, default="")
    seconds: Mapped[dict[str, float]] = mapped_column(JSON, default=dict)
    """Active seconds per phase: read, rate, rank, edit."""
    shown_order: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    """`shown_order[n]` is the answer shown at place n."""
    state: Mapped[str] = mapped_column(String(16), default="current")
    """current, undone, or surplus (came after the task had all its labels)."""
    too_fast: Mapped[bool] = mapped_column(Boolean, default=False)
    draft_model: Mapped[str] = mapped_column(String(256), default="")
    """The model whose draft the labeller began with."""
    draft_version: Mapped[str] = mapped_column(String(128), default="", server_default="")
    """Content hash of that model; empty: unknown."""
    gold_tau: Mapped[float | None] = mapped_column(Float)
    """Kendall's tau-b against the gold order."""
    at: Mapped[float] = mapped_column(Float)
    __table_args__ = (
        Index("ix_feedback_labels_labeller_seq", "labeller", "seq"),
        Index("ix_feedback_labels_project_id_kind", "project_id", "kind"),
    )


class MergedRow(Base):
    """What the labels of a task amount to (projection)."""

    __tablename__ = "feedback_merged"
    task_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    method: Mapped[str] = mapped_column(String(32))
    order: Mapped[str] = mapped_column(String(64))
    """`D>C>A=B`; letters that are missing are unranked."""
    detail: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    at: Mapped[float] = mapped_column(Float)


class SkipRow(Base):
    """A labeller who does not want a task (projection)."""

    __tablename__ = "feedback_skips"
    task_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    labeller: Mapped[str] = mapped_column(_LABELLER, primary_key=True)
    reason: Mapped[str] = mapped_column(String(32))
    flagged: Mapped[bool] = mapped_column(Boolean, default=False)
    payload_id: Mapped[str] = mapped_column(_ID, default="")
    """{"comment": "..."}; "" when nothing was written."""
    at: Mapped[float] = mapped_column(Float)


class Lease(Base):
    """A place at a task. It ends with a label, a skip or at `expires_at`; the row stays, for a label that comes late."""

    __tablename__ = "feedback_leases"
    task_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    labeller: Mapped[str] = mapped_column(_LABELLER, primary_key=True, index=True)
    expires_at: Mapped[float] = mapped_column(Float)
    shown_order: Mapped[list[int]] = mapped_column(JSON, default=list)
    draft_model: Mapped[str] = mapped_column(String(256), default="")
    """The model that wrote a draft for the labeller."""
    draft_version: Mapped[str] = mapped_column(String(128), default="", server_default="")


class DraftRow(Base):
    """Unfinished work."""

    __tablename__ = "feedback_drafts"
    task_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    labeller: Mapped[str] = mapped_column(_LABELLER, primary_key=True)
    revision: Mapped[int] = mapped_column(Integer)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    updated_at: Mapped[float] = mapped_column(Float)


class LabellerRow(Base):
    """What a labeller chose."""

    __tablename__ = "feedback_labellers"
    labeller: Mapped[str] = mapped_column(_LABELLER, primary_key=True)
    languages: Mapped[list[str]] = mapped_column(JSON, default=list)
    """Languages of tasks; empty: any."""
