"""Tables of the way back to the model: jobs, exports, models made from them, and which model serves."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from chatwright.workspace.database import Base, new_id, now

_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")


class JobRow(Base):
    """Work that a worker takes by a lease. `fence` grows with each lease: what an older holder does is refused."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("job"))
    kind: Mapped[str] = mapped_column(String(32))
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    state: Mapped[str] = mapped_column(String(16), default="queued")
    """queued, running, done, failed, cancelled."""
    fence: Mapped[int] = mapped_column(Integer, default=0)
    worker: Mapped[str] = mapped_column(String(128), default="")
    lease_expires_at: Mapped[float] = mapped_column(Float, default=0.0)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    cancel: Mapped[bool] = mapped_column(Boolean, default=False)
    progress: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    result: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    message: Mapped[str] = mapped_column(Text, default="")
    created_by: Mapped[str] = mapped_column(String(128), default="")
    created_at: Mapped[float] = mapped_column(Float, default=now)
    started_at: Mapped[float | None] = mapped_column(Float, default=None)
    ended_at: Mapped[float | None] = mapped_column(Float, default=None)
    __table_args__ = (Index("ix_jobs_state_created_at", "state", "created_at"),)


class JobEffect(Base):
    """What a job has brought about, by name: the primary key lets each happen once."""

    __tablename__ = "job_effects"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    fence: Mapped[int] = mapped_column(Integer)
    data: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    at: Mapped[float] = mapped_column(Float, default=now)


class ExportRow(Base):
    """A frozen folder of training data; its id is the sha256 of its manifest."""

    __tablename__ = "feedback_exports"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    path: Mapped[str] = mapped_column(Text)
    """As `workspace.database.relative_path` makes it."""
    filters: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    counts: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created_by: Mapped[str] = mapped_column(String(128), default="")
    created_at: Mapped[float] = mapped_column(Float, default=now)


class ExportItem(Base):
    """One text that an export holds, and the label it came by ("" for a prompt)."""

    __tablename__ = "feedback_export_items"
    export_id: Mapped[str] = mapped_column(ForeignKey("feedback_exports.id", ondelete="CASCADE"), primary_key=True)
    task_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    label_uuid: Mapped[str] = mapped_column(String(128), primary_key=True, default="", index=True)
    payload_id: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)


class ExportCopy(Base):
    """A copy of an export that left the workspace: a download, or a folder given as `--out`."""

    __tablename__ = "feedback_export_copies"
    id: Mapped[int] = mapped_column(_SEQUENCE, primary_key=True, autoincrement=True)
    export_id: Mapped[str] = mapped_column(ForeignKey("feedback_exports.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    """download or folder."""
    place: Mapped[str] = mapped_column(Text)
    """`split/file` of a download; the folder's path."""
    actor: Mapped[str] = mapped_column(String(128))
    """Id of the account that downloaded it; cli."""
    at: Mapped[float] = mapped_column(Float, default=now)


class ModelRow(Base):
    """A trained model; `figures` holds its report card and its comparison with the model that served."""

    __tablename__ = "models"
    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("model"))
    name: Mapped[str] = mapped_column(String(128))
    path: Mapped[str] = mapped_column(Text)
    """As `workspace.database.relative_path` makes it."""
    manifest: Mapped[str] = mapped_column(String(64))
    """sha256 of the manifest of the model's folder."""
    base: Mapped[str] = mapped_column(Text, default="")
    """What it was trained from: a name, a folder, or the id of another model of this table."""
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("models.id"), default=None)
    job_id: Mapped[str] = mapped_column(String(64), default="")
    figures: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created_by: Mapped[str] = mapped_column(String(128), default="")
    created_at: Mapped[float] = mapped_column(Float, default=now)


class ModelExport(Base):
    """Which exports a model has learned from."""

    __tablename__ = "model_exports"
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    export_id: Mapped[str] = mapped_column(ForeignKey("feedback_exports.id"), primary_key=True, index=True)


class ServingRow(Base):
    """From when on which model answers under a served name; the last row of a name counts. `model_id` None: the one that
    the server was started with."""

    __tablename__ = "serving"
    id: Mapped[int] = mapped_column(_SEQUENCE, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(256), index=True)
    model_id: Mapped[str | None] = mapped_column(ForeignKey("models.id"), default=None)
    action: Mapped[str] = mapped_column(String(16))
    """promoted, rolled_back."""
    reason: Mapped[str] = mapped_column(Text, default="")
    forced: Mapped[bool] = mapped_column(Boolean, default=False)
    actor: Mapped[str] = mapped_column(String(128))
    at: Mapped[float] = mapped_column(Float, default=now)
