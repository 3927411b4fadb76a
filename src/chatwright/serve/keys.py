"""API keys of accounts and of the server, and usage. Members see their own keys only; others' return 404."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from chatwright.serve import audit
from chatwright.serve.auth import KEY_PREFIX, Principal, digest, new_secret, require_user
from chatwright.serve.auth_tables import ApiKey, AuditEvent, Usage, User
from chatwright.serve.desk.hooks import note_consent, set_key_consent
from chatwright.serve.limits import day_of
from chatwright.serve.openai.errors import APIError, responses
from chatwright.serve.services import services
from chatwright.workspace.database import Workspace, now

Scope = Literal["chat", "completions", "embeddings", "models", "moderations", "metrics", "inference", "admin"]
Count = Annotated[int, Field(ge=0, le=10**15)]
Rate = Annotated[int, Field(ge=0, le=10**9)]
Member = Annotated[Principal, Depends(require_user())]

MAX_LISTED = 5000
router = APIRouter(prefix="/api", tags=["keys"], responses=responses(401, 403, 404))


class NewKey(BaseModel):
    """A key to make; 0 sets no limit."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=8)] = ["inference"]
    expires_in_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    requests_per_minute: Rate = 0
    tokens_per_minute: Rate = 0
    tokens_per_day: Count = 0
    tokens_total: Count = 0
    training_consent: bool = False
    """Whether what comes with it may be kept as training data (`GET /api/consent` says what that means)."""


class KeyChange(BaseModel):
    """Changes of a key. Consent is its owner's to give; limits can be lowered and raised below those of the account."""

    training_consent: bool | None = None
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    tokens_per_day: Count | None = None
    tokens_total: Count | None = None


class KeyRow(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    requests_per_minute: int
    tokens_per_minute: int
    tokens_per_day: int
    tokens_total: int
    training_consent: bool
    user_id: str | None
    """The account; null: the server's own key."""
    owner: str = ""
    """The account's name, in lists of everyone's keys."""


class MadeKey(KeyRow):
    """A new key; `key` is shown this once."""

    key: str


class UsageRow(BaseModel):
    """Usage, by one owner, of one version of a model on one day (UTC)."""

    day: str
    owner: str
    user_id: str
    model: str
    model_version: str
    """Content hash of the model; empty: unknown."""
    requests: int
    prompt_tokens: int
    completion_tokens: int


def keep_bootstrap_key(workspace: Workspace, value: str) -> None:
    """Let `value` be the server's own key, with every scope; the one before it stops working.

    A value that an administrator has revoked stays revoked."""
    with workspace.session() as session:
        for key in session.scalars(select(ApiKey).where(ApiKey.user_id.is_(None), ApiKey.name == "bootstrap")):
            if key.key_hash == digest(value):
                if not _was_revoked(session, key):
                    key.revoked_at = None
                return
            key.revoked_at = key.revoked_at or now()
        session.add(ApiKey(name="bootstrap", prefix=value[:6], key_hash=digest(value), scopes=["admin", "inference"]))


def _was_revoked(session: Session, key: ApiKey) -> bool:
    revoked = select(AuditEvent.id).where(AuditEvent.action == "key.revoke", AuditEvent.target == key.id)
    return session.scalar(revoked.limit(1)) is not None


@router.get("/keys")
def keys(request: Request, who: Member, everyone: bool = False) -> list[KeyRow]:
    """One's own keys; everyone's and the server's for administrators."""
    _only_admins(who, everyone)
    query = select(ApiKey, User.name).outerjoin(User, User.id == ApiKey.user_id).order_by(ApiKey.created_at)
    if not everyone:
        query = query.where(ApiKey.user_id == who.id)
    with services(request).workspace.reading() as session:
        return [_row(key, name or "") for key, name in session.execute(query.limit(MAX_LISTED))]


def _only_admins(who: Principal, everyone: bool) -> None:
    if everyone and who.role != "admin":
        raise APIError(403, "everyone: for administrators", param="everyone", code="insufficient_role")


def _row(key: ApiKey, owner: str = "") -> KeyRow:
    return KeyRow.model_validate(key, from_attributes=True).model_copy(update={"owner": owner})


def _key(session: Session, key_id: str, who: Principal) -> ApiKey:
    """A key that `who` may change: one's own, any for administrators. APIError 404."""
    key = session.get(ApiKey, key_id, with_for_update=True)
    if key is None or (key.user_id != who.id and who.role != "admin"):
        raise APIError(404, "there is no such key", code="not_found")
    return key


@router.post("/keys")
def make_key(body: NewKey, request: Request, who: Member) -> MadeKey:
    """Make a key. `metrics` and `admin` are for administrators."""
    if {"metrics", "admin"} & set(body.scopes) and who.role != "admin":
        raise APIError(403, "scopes: metrics and admin are for administrators", param="scopes", code="insufficient_role")
    value = KEY_PREFIX + new_secret()
    limits = body.model_dump(exclude={"name", "scopes", "expires_in_days"})
    expires_at = now() + body.expires_in_days * 86_400 if body.expires_in_days else None
    with services(request).workspace.session() as session:
        held = select(func.count()).select_from(ApiKey).where(ApiKey.user_id == who.id, ApiKey.revoked_at.is_(None))
        if (session.scalar(held) or 0) >= 100:
            raise APIError(400, "100 keys are the most one account may have; revoke one first", code="too_many_keys")
        key = ApiKey(
            user_id=who.id, name=body.name, prefix=value[:7], key_hash=digest(value), scopes=list(body.scopes),
            expires_at=expires_at, **limits,
        )  # fmt: skip
        session.add(key)
        session.flush()
        if body.training_consent:
            note_consent(services(request), session, who.id, True, key.id)
        audit.record(session, request, who.id, "key.make", key.id, scopes=list(body.scopes))
    return MadeKey(**_row(key).model_dump(), key=value)


@router.patch("/keys/{key_id}")
def change_key(key_id: str, body: KeyChange, request: Request, who: Member) -> KeyRow:
    """Change limits, or consent to training. Texts that were kept before stay until they are withdrawn
    (`POST /api/desk/withdrawals`)."""
    with services(request).workspace.session() as session:
        key = _key(session, key_id, who)
        limits = body.model_dump(exclude={"training_consent"}, exclude_none=True)
        if body.training_consent is not None:
            if key.user_id != who.id:
                raise APIError(403, "training_consent: only the owner of a key gives it", code="not_owner")
            set_key_consent(services(request), session, key, body.training_consent)
            audit.record(session, request, who.id, "key.consent", key.id, given=body.training_consent)
        for name, value in limits.items():
            setattr(key, name, value)
        if limits:
            audit.record(session, request, who.id, "key.limits", key.id, **limits)
        session.flush()
        return _row(key)


@router.delete("/keys/{key_id}")
def revoke_key(key_id: str, request: Request, who: Member) -> KeyRow:
    """Revoke a key, at once and for good."""
    with services(request).workspace.session() as session:
        key = _key(session, key_id, who)
        key.revoked_at = key.revoked_at or now()
        audit.record(session, request, who.id, "key.revoke", key.id)
        return _row(key)


@router.get("/usage")
def usage(
    request: Request, who: Member, everyone: bool = False, days: Annotated[int, Query(ge=1, le=366)] = 30
) -> list[UsageRow]:
    """Usage by day, key and model: one's own, or everyone's for administrators."""
    _only_admins(who, everyone)
    since = day_of(now() - days * 86_400)
    query = select(Usage).where(Usage.day > since).order_by(Usage.day.desc(), Usage.owner).limit(5000)
    if not everyone:
        query = query.where(Usage.user_id == who.id)
    with services(request).workspace.reading() as session:
        return [UsageRow.model_validate(row, from_attributes=True) for row in session.scalars(query)]
