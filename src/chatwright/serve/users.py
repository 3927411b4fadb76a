"""People: the first administrator, invitations and resets by one-time links, signing in and out."""

from __future__ import annotations

import base64
import os
import threading
import unicodedata
from typing import Annotated, Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chatwright.serve import audit
from chatwright.serve.address import client_address
from chatwright.serve.audit_bounds import record_refusal
from chatwright.serve.auth import Principal, digest, new_secret, public, require_user, same_origin, session_principal
from chatwright.serve.auth_tables import Link, LoginSession, User
from chatwright.serve.devices import device_of, remember
from chatwright.serve.openai.errors import APIError, responses
from chatwright.serve.services import Services, services
from chatwright.serve.sessions import has_ended
from chatwright.workspace.database import Workspace, now

SESSION_S = 14 * 86_400.0
LINK_S = {"admin": 30 * 86_400.0, "invite": 7 * 86_400.0, "reset": 86_400.0}
Role = Literal["member", "labeller", "lead", "admin"]
Password = Annotated[str, Field(min_length=8, max_length=256)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Token = Annotated[str, Field(min_length=1, max_length=128)]
Admin = Annotated[Principal, Depends(require_user("admin"))]

router = APIRouter(prefix="/api", tags=["users"], responses=responses(401, 403, 404, 409, 429))
_hasher = PasswordHasher()
_hashing = threading.BoundedSemaphore(2)  # each hash takes 64 MiB


def _hash_of_nothing() -> str:
    """A hash that no password has, at the cost of real ones, made without paying it: random bytes in place of the digest."""
    salt, value = (base64.b64encode(os.urandom(size)).decode().rstrip("=") for size in (_hasher.salt_len, _hasher.hash_len))
    return f"$argon2id$v=19$m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}${salt}${value}"


_NOBODY = _hash_of_nothing()  # checked for unknown names, so that they take as long


class SessionInfo(BaseModel):
    """Who is signed in."""

    signed_in: bool
    user_id: str = ""
    name: str = ""
    role: Role = "member"
    csrf: str = ""
    """Goes into X-CSRF-Token of requests that change something."""
    no_accounts: bool = False
    """True when nobody has an account yet: the first comes by the link that `chatwright serve` printed."""


class Login(BaseModel):
    """Name and password."""

    name: Name
    password: Annotated[str, Field(min_length=1, max_length=256)]


class LinkToken(BaseModel):
    """The secret of a one-time link, from its fragment."""

    token: Token


class LinkInfo(BaseModel):
    """What a link is for; `name` is set when it is a reset."""

    kind: Literal["admin", "invite", "reset"]
    role: Role
    name: str = ""


class Redeem(BaseModel):
    """Use a link: choose a password, and for a new account a name."""

    token: Token
    name: Annotated[str, Field(max_length=64)] = ""
    password: Password


class Invite(BaseModel):
    """The role of who is invited."""

    role: Role = "member"


class NewLink(BaseModel):
    """A one-time link, shown once."""

    url: str
    expires_at: float


class UserRow(BaseModel):
    """One account."""

    id: str
    name: str
    role: Role
    created_at: float
    disabled_at: float | None
    requests_per_minute: int
    tokens_per_minute: int
    tokens_per_day: int
    tokens_total: int


class UserChange(BaseModel):
    """Changes of an account. Limits hold over all its keys and the chat; 0: the server's limit (total: none)."""

    role: Role | None = None
    disabled: bool | None = None
    requests_per_minute: Annotated[int, Field(ge=0, le=10**9)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=0, le=10**9)] | None = None
    tokens_per_day: Annotated[int, Field(ge=0, le=10**15)] | None = None
    tokens_total: Annotated[int, Field(ge=0, le=10**15)] | None = None


def clean_name(name: str) -> str:
    """Names that look the same are the same."""
    cleaned = unicodedata.normalize("NFKC", name).strip().casefold()
    hidden = ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp")
    if not 0 < len(cleaned) <= 64 or any(unicodedata.category(c) in hidden for c in cleaned):
        raise APIError(400, "name: 1 to 64 visible characters", param="name", code="name_invalid")
    return cleaned


def hash_password(password: str) -> str:
    """Argon2id."""
    with _hashing:
        return _hasher.hash(password)


def _matches(kept: str | None, password: str) -> bool:
    with _hashing:
        try:
            return _hasher.verify(kept or _NOBODY, password) and kept is not None
        except (VerificationError, InvalidHashError):
            return False


def make_link(session: Session, *, kind: str, role: str, created_by: str, user_id: str | None = None) -> tuple[str, float]:
    """(secret, when it expires) of a new link; older unused ones for the same account stop working."""
    if kind != "invite":
        session.execute(delete(Link).where(Link.kind == kind, Link.user_id == user_id))
    token, expires_at = new_secret(), now() + LINK_S[kind]
    session.add(
        Link(token_hash=digest(token), kind=kind, role=role, user_id=user_id, created_by=created_by, expires_at=expires_at)
    )
    return token, expires_at


def keep_an_admin(session: Session) -> None:
    """APIError 409 when the changes of this transaction leave no administrator."""
    admins = select(User.id).where(User.role == "admin", User.disabled_at.is_(None)).with_for_update()
    if not session.scalars(admins).all():
        raise APIError(409, "this is the last administrator", code="last_admin")


def end_access(session: Session, user_id: str, *, keep: str = "") -> None:
    """End the sessions of an account but the one whose token has the hash `keep`, and its open links."""
    session.execute(delete(LoginSession).where(LoginSession.user_id == user_id, LoginSession.token_hash != keep))
    session.execute(delete(Link).where(Link.user_id == user_id))


def first_admin_link(workspace: Workspace) -> str:
    """The secret with which the first administrator signs up; "" when there is one already."""
    with workspace.session() as session:
        if session.scalar(select(func.count()).select_from(User).where(User.role == "admin")):
            return ""
        return make_link(session, kind="admin", role="admin", created_by="server")[0]


def origin_of(request: Request, shared: Services) -> str:
    """This server as browsers reach it."""
    # The Host header has been checked against our own names.
    return shared.settings.public_url.rstrip("/") or f"{request.url.scheme}://{request.headers['host']}"


def sign_in(session: Session, shared: Services, response: Response, request: Request, user: User) -> SessionInfo:
    """A new session with a new secret, whatever cookie came along; the one it replaces ends."""
    old = request.cookies.get(shared.settings.cookie, "")
    session.execute(delete(LoginSession).where((LoginSession.token_hash == digest(old)) | has_ended(shared.settings)))
    token, csrf = new_secret(), new_secret()
    session.add(LoginSession(token_hash=digest(token), user_id=user.id, csrf=csrf, expires_at=now() + SESSION_S))
    response.set_cookie(
        shared.settings.cookie, token, max_age=int(SESSION_S), path="/", httponly=True, samesite="lax",
        secure=shared.settings.secure,
    )  # fmt: skip
    remember(shared.settings, response, user)
    return SessionInfo(signed_in=True, user_id=user.id, name=user.name, role=user.role, csrf=csrf)  # type: ignore[arg-type]


@router.get("/session", dependencies=[Depends(public)])
def session_info(request: Request) -> SessionInfo:
    """Who is signed in in this browser."""
    who = session_principal(request)
    if who is None:
        with services(request).workspace.reading() as session:
            return SessionInfo(signed_in=False, no_accounts=session.scalar(select(User.id).limit(1)) is None)
    return SessionInfo(signed_in=True, user_id=who.id, name=who.name, role=who.role, csrf=who.csrf)  # type: ignore[arg-type]


@router.post("/session", dependencies=[Depends(public)])
def login(body: Login, request: Request, response: Response) -> SessionInfo:
    """Sign in."""
    same_origin(request)
    shared, name = services(request), clean_name(body.name)
    with shared.workspace.reading() as session:
        user = session.scalar(select(User).where(User.name == name))
    right = check_password(shared, request, name, user, body.password)
    if user is not None and right and user.disabled_at is None:
        with shared.workspace.session() as session:
            audit.record(session, request, user.id, "login")
            return sign_in(session, shared, response, request, user)
    record_refusal(shared, request, user.id if user else "", "login.refused")
    raise APIError(401, "name or password is wrong", code="wrong_password")


def check_password(shared: Services, request: Request, name: str, user: User | None, password: str) -> bool:
    """Compare, throttled; raises APIError 429. Only wrong passwords use attempts up."""
    attempt = (name, client_address(request), device_of(shared.settings, request, user))
    shared.throttle.attempt(*attempt)
    right = _matches(user.password_hash if user else None, password)
    if right:
        shared.throttle.succeeded(*attempt)
    return right


@router.delete("/session")
def logout(request: Request, response: Response, who: Annotated[Principal, Depends(require_user())]) -> SessionInfo:
    """Sign out."""
    shared = services(request)
    with shared.workspace.session() as session:
        mine = digest(request.cookies[shared.settings.cookie])
        session.execute(delete(LoginSession).where(LoginSession.token_hash == mine))
        audit.record(session, request, who.id, "logout")
    response.delete_cookie(shared.settings.cookie, path="/", httponly=True, samesite="lax", secure=shared.settings.secure)
    return SessionInfo(signed_in=False)


def _find_link(session: Session, token: str) -> Link:
    link = session.get(Link, digest(token))
    if link is None or link.expires_at < now():
        raise APIError(404, "this link is not valid any more; ask for a new one", code="link_invalid")
    return link


@router.post("/links/look", dependencies=[Depends(public)])
def look_at_link(body: LinkToken, request: Request) -> LinkInfo:
    """What a one-time link is for."""
    with services(request).workspace.reading() as session:
        link = _find_link(session, body.token)
        user = session.get(User, link.user_id) if link.user_id else None
        return LinkInfo(kind=link.kind, role=link.role, name=user.name if user else "")  # type: ignore[arg-type]


@router.post("/links/redeem", dependencies=[Depends(public)])
def redeem_link(body: Redeem, request: Request, response: Response) -> SessionInfo:
    """Use a one-time link and sign in. After a reset every other session of the account has ended."""
    same_origin(request)
    shared = services(request)
    with shared.workspace.reading() as session:
        is_reset = _find_link(session, body.token).user_id is not None
    name = "" if is_reset else clean_name(body.name)
    kept = hash_password(body.password)
    try:
        with shared.workspace.session() as session:
            link = _find_link(session, body.token)  # again, under the lock: a link works once
            if session.execute(delete(Link).where(Link.token_hash == link.token_hash)).rowcount != 1:  # type: ignore[attr-defined]
                raise APIError(404, "this link has just been used", code="link_invalid")
            if link.user_id is not None:
                user = session.get_one(User, link.user_id)
                user.password_hash = kept
                end_access(session, user.id)
            else:
                user = User(name=name, role=link.role, password_hash=kept)
                session.add(user)
            session.flush()
            audit.record(session, request, user.id, f"link.{link.kind}")
            return sign_in(session, shared, response, request, user)
    except IntegrityError as error:
        raise APIError(409, "name: this name is taken", param="name", code="name_taken") from error


@router.post("/invites")
def invite(body: Invite, request: Request, who: Admin) -> NewLink:
    """A link with which somebody makes an account."""
    shared = services(request)
    with shared.workspace.session() as session:
        token, expires_at = make_link(session, kind="invite", role=body.role, created_by=who.id)
        audit.record(session, request, who.id, "invite", role=body.role)
    return NewLink(url=f"{origin_of(request, shared)}/join#{token}", expires_at=expires_at)


@router.get("/users")
def users(request: Request, _: Admin) -> list[UserRow]:
    """All accounts."""
    with services(request).workspace.reading() as session:
        everyone = session.scalars(select(User).where(User.deleted_at.is_(None)).order_by(User.name))
        return [UserRow.model_validate(user, from_attributes=True) for user in everyone]


@router.patch("/users/{user_id}")
def change_user(user_id: str, body: UserChange, request: Request, who: Admin) -> UserRow:
    """Change role or limits, disable or enable. The last administrator stays one."""
    with services(request).workspace.session() as session:
        user = session.get(User, user_id, with_for_update=True)
        if user is None or user.deleted_at is not None:
            raise APIError(404, "there is no such account", code="not_found")
        if body.role is not None:
            user.role = body.role
        for limit in ("requests_per_minute", "tokens_per_minute", "tokens_per_day", "tokens_total"):
            if (value := getattr(body, limit)) is not None:
                setattr(user, limit, value)
        if body.disabled is not None:
            user.disabled_at = now() if body.disabled else None
            session.execute(delete(LoginSession).where(LoginSession.user_id == user.id))
        session.flush()
        keep_an_admin(session)
        audit.record(session, request, who.id, "user.change", user.id, **body.model_dump(exclude_none=True))
        return UserRow.model_validate(user, from_attributes=True)


@router.post("/users/{user_id}/reset")
def reset_password(user_id: str, request: Request, who: Admin) -> NewLink:
    """A link with which somebody chooses a new password."""
    shared = services(request)
    with shared.workspace.session() as session:
        user = session.get(User, user_id)
        if user is None or user.deleted_at is not None:
            raise APIError(404, "there is no such account", code="not_found")
        token, expires_at = make_link(session, kind="reset", role=user.role, created_by=who.id, user_id=user.id)
        audit.record(session, request, who.id, "user.reset", user.id)
    return NewLink(url=f"{origin_of(request, shared)}/join#{token}", expires_at=expires_at)
