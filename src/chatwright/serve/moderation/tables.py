"""Table of what the filters did. A text is kept as its hash, unless the operator asks for texts."""

from __future__ import annotations

from sqlalchemy import Float, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from chatwright.workspace.database import Base, new_id, now


class ModerationEvent(Base):
    """A text that was flagged, and what was done about it; rows are only ever added."""

    __tablename__ = "moderation_events"
    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("mod"))
    at: Mapped[float] = mapped_column(Float, default=now)
    owner: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(128))
    model: Mapped[str] = mapped_column(String(256))
    direction: Mapped[str] = mapped_column(String(8))
    category: Mapped[str] = mapped_column(String(32))
    score: Mapped[float] = mapped_column(Float)
    action: Mapped[str] = mapped_column(String(8))
    text_hash: Mapped[str] = mapped_column(String(64))
    text: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (Index("ix_moderation_events_at", "at"),)
