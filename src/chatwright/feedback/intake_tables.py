"""Tables of the intake: the funnel's counts, and by which digests what was taken is known again. No texts."""

from __future__ import annotations

from sqlalchemy import BigInteger, Float, String
from sqlalchemy.orm import Mapped, mapped_column

from chatwright.workspace.database import Base, now


class IntakeCount(Base):
    """How much of a day's (UTC) traffic a step of the intake let pass, or kept out for a reason."""

    __tablename__ = "intake_counts"
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    source: Mapped[str] = mapped_column(String(16), primary_key=True)
    """api, chat or arena."""
    step: Mapped[str] = mapped_column(String(16), primary_key=True)
    reason: Mapped[str] = mapped_column(String(32), primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger, default=0)


class IntakeSeen(Base):
    """A prompt that was taken, or the long beginning of one, as a keyed digest."""

    __tablename__ = "intake_seen"
    digest: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    """conversation or prefix."""
    subject: Mapped[str] = mapped_column(String(64), index=True)
    """Hash of the person; the rows go when the person withdraws."""
    at: Mapped[float] = mapped_column(Float, default=now)


class IntakeCandidates(Base):
    """A question of the chat, or a battle of the arena, and the task its answers have become."""

    __tablename__ = "intake_candidates"
    question: Mapped[str] = mapped_column(String(64), primary_key=True)
    digest: Mapped[str] = mapped_column(String(32))
    """Of the answers and thumbs; another one means another task."""
    task_id: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64), index=True)
    at: Mapped[float] = mapped_column(Float, default=now)
