"""Tables of people, keys, usage and the audit log. Secrets are kept as hashes only."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from chatwright.workspace.database import Base, new_id, now


class User(Base):
    """Somebody who can sign in."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("user"))
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    password_hash: Mapped[str | None] = mapped_column(String(256))
    created_at: Mapped[float] = mapped_column(Float, default=now)
    disabled_at: Mapped[float | None] = mapped_column(Float)
    deleted_at: Mapped[float | None] = mapped_column(Float)
    """Of a deleted account: its labels, votes and log entries refer to the row, which holds nothing of the person."""
    requests_per_minute: Mapped[int] = mapped_column(Integer, default=0)
    """Limit over all keys of the account and the chat; 0: the server's. So are the other three."""
    tokens_per_minute: Mapped[int] = mapped_column(Integer, default=0)
    tokens_per_day: Mapped[int] = mapped_column(BigInteger, default=0)
    tokens_total: Mapped[int] = mapped_column(BigInteger, default=0)


class Identity(Base):
    """An account at an OpenID Connect provider, and whose it is here."""

    __tablename__ = "identities"
    issuer: Mapped[str] = mapped_column(String(512), primary_key=True)
    subject: Mapped[str] = mapped_column(String(255), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[float] = mapped_column(Float, default=now)


class Link(Base):
    """A one-time link: an invitation, a password reset, or the first administrator's."""

    __tablename__ = "links"
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    role: Mapped[str] = mapped_column(String(16))
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Float, default=now)
    expires_at: Mapped[float] = mapped_column(Float)


class LoginSession(Base):
    """A signed-in browser."""

    __tablename__ = "login_sessions"
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Float, default=now)
    expires_at: Mapped[float] = mapped_column(Float)
    last_used_at: Mapped[float] = mapped_column(Float, default=now, server_default="0")


class ApiKey(Base):
    """A key of the OpenAI-compatible API."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("key"))
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(128))
    prefix: Mapped[str] = mapped_column(String(16))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[float] = mapped_column(Float, default=now)
    expires_at: Mapped[float | None] = mapped_column(Float)
    revoked_at: Mapped[float | None] = mapped_column(Float)
    requests_per_minute: Mapped[int] = mapped_column(Integer, default=0)
    tokens_per_minute: Mapped[int] = mapped_column(Integer, default=0)
    tokens_per_day: Mapped[int] = mapped_column(BigInteger, default=0)
    tokens_total: Mapped[int] = mapped_column(BigInteger, default=0)
    training_consent: Mapped[bool] = mapped_column(Boolean, default=False)
    """Whether what comes with it may be kept as training data."""


class Usage(Base):
    """Usage, by an owner, of one version of a model on one day (UTC)."""

    __tablename__ = "usage"
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(256), primary_key=True)
    model_version: Mapped[str] = mapped_column(String(128), primary_key=True, default="", server_default="")
    """Content hash of the model; empty: unknown."""
    user_id: Mapped[str] = mapped_column(String(64), default="", index=True)
    requests: Mapped[int] = mapped_column(BigInteger, default=0)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    completion_tokens: Mapped[int] = mapped_column(BigInteger, default=0)


class BlindUsage(Base):
    """Usage of an answer whose model its reader must not know yet; it becomes `Usage` with the vote or the label. Limits
    count `estimate` meanwhile, which does not depend on the model."""

    __tablename__ = "blind_usage"
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    """Of the request."""
    about: Mapped[str] = mapped_column(String(64), index=True)
    """Id of the battle or the task."""
    day: Mapped[str] = mapped_column(String(10))
    owner: Mapped[str] = mapped_column(String(64), index=True)
    user_id: Mapped[str] = mapped_column(String(64), default="", index=True)
    model: Mapped[str] = mapped_column(String(256))
    model_version: Mapped[str] = mapped_column(String(128), default="", server_default="")
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    completion_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    estimate: Mapped[int] = mapped_column(BigInteger, default=0)
    at: Mapped[float] = mapped_column(Float, default=now)


class AuditEvent(Base):
    """Who did what to whom; rows are only ever added."""

    __tablename__ = "audit_events"
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    at: Mapped[float] = mapped_column(Float, default=now)
    actor: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(Text, default="")
    detail: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    address: Mapped[str] = mapped_column(String(64), default="")
    __table_args__ = (Index("ix_audit_events_at", "at"),)
