"""Tables of conversations. Deleting a conversation deletes everything that hangs on it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, ForeignKey, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from chatwright.serve.auth_tables import User
from chatwright.workspace.database import Base, new_id, now

_USER = User.__table__.c.id


class ConversationRow(Base):
    """A conversation of one user."""

    __tablename__ = "conversations"
    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("conv"))
    owner: Mapped[str] = mapped_column(ForeignKey(_USER, ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(String(200), default="")
    system: Mapped[str] = mapped_column(Text, default="")
    model: Mapped[str] = mapped_column(String(256), default="")
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    active_leaf: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Float, default=now)
    updated_at: Mapped[float] = mapped_column(Float, default=now)
    __table_args__ = (Index("ix_conversations_owner_updated_at", "owner", "updated_at"),)


class MessageRow(Base):
    """A message; those with the same parent are alternatives."""

    __tablename__ = "messages"
    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("msg"))
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    # No cascade along the tree: only whole conversations are deleted, and SQLite follows at most 1000 levels.
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("messages.id"), index=True)
    place: Mapped[int] = mapped_column(Integer)
    role: Mapped[str] = mapped_column(String(16))
    content: Mapped[str] = mapped_column(Text, default="")
    status: Mapped[str] = mapped_column(String(16), default="complete")
    origin: Mapped[str] = mapped_column(String(16), default="new")
    model: Mapped[str] = mapped_column(String(256), default="")
    model_version: Mapped[str] = mapped_column(String(128), default="", server_default="")
    """Content hash of the model that wrote it; empty: unknown."""
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    steps: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    error: Mapped[str] = mapped_column(Text, default="")
    finish_reason: Mapped[str] = mapped_column(String(16), default="")
    prompt_tokens: Mapped[int] = mapped_column(Integer, default=0)
    completion_tokens: Mapped[int] = mapped_column(Integer, default=0)
    dropped_messages: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[float] = mapped_column(Float, default=now)


class MessageTokens(Base):
    """An answer's tokens with their alternatives, as compressed JSON (`tokens.py`)."""

    __tablename__ = "message_tokens"
    message_id: Mapped[str] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class FeedbackEvent(Base):
    """A thumb; events are only added, and a person's last one counts."""

    __tablename__ = "feedback_events"
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    message_id: Mapped[str] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), index=True)
    user_id: Mapped[str] = mapped_column(ForeignKey(_USER, ondelete="CASCADE"), index=True)
    vote: Mapped[str] = mapped_column(String(8))
    reasons: Mapped[list[str]] = mapped_column(JSON, default=list)
    comment: Mapped[str] = mapped_column(Text, default="")
    model_version: Mapped[str] = mapped_column(String(128), default="", server_default="")
    """Of the answer that it judges."""
    created_at: Mapped[float] = mapped_column(Float, default=now)


class Share(Base):
    """A read-only copy of a conversation as it was, for everyone who has the link. The link's secret is not kept."""

    __tablename__ = "shares"
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    """sha256 of the secret in the link."""
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), unique=True)
    snapshot: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[float] = mapped_column(Float, default=now)
    expires_at: Mapped[float] = mapped_column(Float)


class ChatPreferences(Base):
    """What a user allows."""

    __tablename__ = "chat_preferences"
    user_id: Mapped[str] = mapped_column(ForeignKey(_USER, ondelete="CASCADE"), primary_key=True)
    training_consent: Mapped[bool] = mapped_column(Boolean, default=False)
    changed_at: Mapped[float] = mapped_column(Float, default=now)


class PromptEntry(Base):
    """A prompt that a user keeps."""

    __tablename__ = "prompt_entries"
    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("prompt"))
    owner: Mapped[str] = mapped_column(ForeignKey(_USER, ondelete="CASCADE"), index=True)
    language: Mapped[str] = mapped_column(String(16))
    title: Mapped[str] = mapped_column(String(200))
    text: Mapped[str] = mapped_column(Text)
    shared: Mapped[bool] = mapped_column(Boolean, default=False)
    updated_at: Mapped[float] = mapped_column(Float, default=now)
