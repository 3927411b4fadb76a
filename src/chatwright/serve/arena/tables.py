"""Tables of the arena."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from chatwright.serve.auth_tables import User
from chatwright.workspace.database import Base, new_id, now

_USER = User.__table__.c.id


class EntrantRow(Base):
    """A model with a system prompt and settings that takes part under a name of its own."""

    __tablename__ = "arena_entrants"
    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("entrant"))
    name: Mapped[str] = mapped_column(String(128), unique=True)
    model: Mapped[str] = mapped_column(String(256))
    system: Mapped[str] = mapped_column(Text, default="")
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created_at: Mapped[float] = mapped_column(Float, default=now)


class Battle(Base):
    """One prompt and two answers; `a` and `b` are places on the screen, drawn at random."""

    __tablename__ = "arena_battles"
    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("battle"))
    owner: Mapped[str] = mapped_column(ForeignKey(_USER, ondelete="CASCADE"), index=True)
    prompt: Mapped[str] = mapped_column(Text)
    entrants: Mapped[dict[str, Any]] = mapped_column(JSON)
    answer_a: Mapped[str] = mapped_column(Text, default="")
    answer_b: Mapped[str] = mapped_column(Text, default="")
    status_a: Mapped[str] = mapped_column(String(16), default="streaming")
    status_b: Mapped[str] = mapped_column(String(16), default="streaming")
    finish_a: Mapped[str] = mapped_column(String(16), default="")
    finish_b: Mapped[str] = mapped_column(String(16), default="")
    version_a: Mapped[str] = mapped_column(String(128), default="", server_default="")
    """Content hash of the model that wrote answer a; empty: unknown."""
    version_b: Mapped[str] = mapped_column(String(128), default="", server_default="")
    created_at: Mapped[float] = mapped_column(Float, default=now)


class ArenaVote(Base):
    """A vote: one per battle, and one per user, prompt and pair of versions of entrants."""

    __tablename__ = "arena_votes"
    battle_id: Mapped[str] = mapped_column(ForeignKey("arena_battles.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey(_USER, ondelete="CASCADE"), index=True)
    question: Mapped[str] = mapped_column(String(64))
    vote: Mapped[str] = mapped_column(String(16))
    void: Mapped[str] = mapped_column(String(32), default="")
    created_at: Mapped[float] = mapped_column(Float, default=now)
    __table_args__ = (UniqueConstraint("user_id", "question", name="uq_arena_votes_user_question"),)
