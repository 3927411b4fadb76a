"""Routes with which people manage their own account: password, signed-in browsers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import delete, select

from chatwright.serve import audit
from chatwright.serve.auth import Principal, digest, require_user
from chatwright.serve.auth_tables import LoginSession, User
from chatwright.serve.devices import remember
from chatwright.serve.openai.errors import APIError, responses
from chatwright.serve.services import Services, services
from chatwright.serve.sessions import has_ended
from chatwright.serve.users import Password, check_password, end_access, hash_password

ID_LENGTH = 16
Member = Annotated[Principal, Depends(require_user())]
router = APIRouter(prefix="/api", tags=["users"], responses=responses(401, 403, 404, 429))


class NewPassword(BaseModel):
    """The password so far, and the new one."""

    old: Annotated[str, Field(min_length=1, max_length=256)]
    new: Password


class SessionRow(BaseModel):
    """A browser that is signed in."""

    id: str
    created_at: float
    expires_at: float
    """The session ends then, or earlier after `session_idle_hours` without requests."""
    last_used_at: float
    """To some minutes."""
    current: bool
    """Whether the request came from this browser."""


def _own_session(shared: Services, request: Request) -> str:
    return digest(request.cookies[shared.settings.cookie])


@router.post("/password", status_code=204)
def change_password(body: NewPassword, request: Request, response: Response, who: Member) -> Response:
    """Choose a new password. The account's other sessions, open links for a reset and device cookies end."""
    shared = services(request)
    with shared.workspace.reading() as session:
        user = session.get_one(User, who.id)
    if not check_password(shared, request, user.name, user, body.old):
        raise APIError(401, "old: the password is wrong", param="old", code="wrong_old_password")
    kept, answer = hash_password(body.new), Response(status_code=204)
    with shared.workspace.session() as session:
        user = session.get_one(User, who.id, with_for_update=True)
        user.password_hash = kept
        end_access(session, user.id, keep=_own_session(shared, request))
        audit.record(session, request, who.id, "password.change", user.id)
        session.flush()
        remember(shared.settings, answer, user)
    return answer


@router.get("/sessions")
def sessions(request: Request, who: Member) -> list[SessionRow]:
    """Browsers in which one is signed in, the newest first."""
    shared = services(request)
    mine = _own_session(shared, request)
    query = select(LoginSession).where(LoginSession.user_id == who.id, ~has_ended(shared.settings))
    with shared.workspace.reading() as session:
        return [
            SessionRow(
                id=row.token_hash[:ID_LENGTH], created_at=row.created_at, expires_at=row.expires_at,
                last_used_at=max(row.last_used_at, row.created_at), current=row.token_hash == mine,
            )
            for row in session.scalars(query.order_by(LoginSession.created_at.desc()))
        ]  # fmt: skip


@router.delete("/sessions/{session_id}", status_code=204)
def end_session(session_id: str, request: Request, who: Member) -> Response:
    """End one session, or all others with the id `others`."""
    shared = services(request)
    mine = _own_session(shared, request)
    wanted = (
        LoginSession.token_hash != mine
        if session_id == "others"
        else LoginSession.token_hash.startswith(session_id, autoescape=True)
    )
    if session_id != "others" and len(session_id) != ID_LENGTH:
        raise APIError(404, "there is no such session", code="not_found")
    with shared.workspace.session() as session:
        ended = session.execute(delete(LoginSession).where(LoginSession.user_id == who.id, wanted)).rowcount  # type: ignore[attr-defined]
        if not ended and session_id != "others":
            raise APIError(404, "there is no such session", code="not_found")
        audit.record(session, request, who.id, "session.end", who.id, sessions=ended)
    return Response(status_code=204)
