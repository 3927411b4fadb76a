"""Deletion of accounts, by administrators and by their owners.

Everything of the person goes: name, password, sign-in through a provider, sessions, links, keys, chats, private prompts, the
texts of arena battles, and collected texts. The row stays as a pseudonym: labels, decisions and log entries refer to it.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from chatwright.feedback import consent, withdrawals
from chatwright.feedback.purge import purge
from chatwright.feedback.tables import DraftRow, LabellerRow, Lease
from chatwright.serve import audit
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.auth_tables import ApiKey, Identity, LoginSession, User
from chatwright.serve.chat.answers import hub_of
from chatwright.serve.chat.tables import ChatPreferences, ConversationRow, PromptEntry
from chatwright.serve.desk import withdrawal
from chatwright.serve.desk.hooks import intake_of
from chatwright.serve.openai.errors import APIError, responses
from chatwright.serve.services import Services, services
from chatwright.serve.users import check_password, end_access, keep_an_admin
from chatwright.workspace.database import Workspace, now

Admin = Annotated[Principal, Depends(require_user("admin"))]
Member = Annotated[Principal, Depends(require_user())]
router = APIRouter(prefix="/api", tags=["users"], responses=responses(401, 403, 404, 409, 429))


class OwnDeletion(BaseModel):
    """The password, once more; empty for accounts that sign in through a provider."""

    password: Annotated[str, Field(max_length=256)] = ""


@router.delete("/users/{user_id}", status_code=204)
async def delete_user(user_id: str, request: Request, who: Admin) -> Response:
    """Delete an account, for good. Labels stay under a pseudonym; the last administrator cannot be deleted."""
    await _delete(services(request), request, user_id, who.id)
    return Response(status_code=204)


@router.post("/account/delete", status_code=204)
async def delete_own(body: OwnDeletion, request: Request, who: Member) -> Response:
    """Delete the own account, for good."""
    shared = services(request)
    await run_in_threadpool(_confirm, shared, request, who, body.password)
    await _delete(shared, request, who.id, who.id)
    gone = Response(status_code=204)
    gone.delete_cookie(shared.settings.cookie, path="/", httponly=True, samesite="lax", secure=shared.settings.secure)
    return gone


def _confirm(shared: Services, request: Request, who: Principal, password: str) -> None:
    with shared.workspace.reading() as session:
        user = session.get_one(User, who.id)
    if user.password_hash is not None and not check_password(shared, request, user.name, user, password):
        raise APIError(401, "password: is wrong", param="password", code="wrong_old_password")


async def _delete(shared: Services, request: Request, user_id: str, actor: str) -> None:
    """Close the account, end its running answers, then erase: nothing is written for it meanwhile."""
    await run_in_threadpool(_in_session, shared, close, user_id)
    hub = hub_of(shared)
    await hub.stop(hub.of_owner(user_id))
    await run_in_threadpool(_finish, shared, request, user_id, actor)


def _in_session(shared: Services, work: Any, *args: Any) -> None:
    with shared.workspace.session() as session:
        work(session, *args)


def _finish(shared: Services, request: Request, user_id: str, actor: str) -> None:
    intake_of(shared).idle()  # what waits was handed over before, and is refused now
    erase(shared.workspace, user_id, actor, request)


def close(session: Session, user_id: str) -> None:
    """End every access of an account. APIError 404, 409 for the last administrator."""
    user = session.get(User, user_id, with_for_update=True)
    if user is None or user.deleted_at is not None:
        raise APIError(404, "there is no such account", code="not_found")
    user.disabled_at = user.disabled_at or now()
    session.flush()
    keep_an_admin(session)
    end_access(session, user_id)
    keys = update(ApiKey).where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
    session.execute(keys.values(revoked_at=now()))
    session.execute(update(ApiKey).where(ApiKey.user_id == user_id).values(training_consent=False))
    session.execute(update(ChatPreferences).where(ChatPreferences.user_id == user_id).values(training_consent=False))


def erase(workspace: Workspace, user_id: str, actor: str, request: Request | None = None) -> str:
    """Erase a closed account, all or nothing. Gives the pseudonym that is left."""
    subjects = withdrawal.subjects_of(consent.subject_key(workspace.folder), user_id)
    withdrawals.note(workspace, subjects)
    with workspace.session() as session:
        user = session.get_one(User, user_id, with_for_update=True)
        if user.deleted_at is not None:
            return user.name  # by another request meanwhile
        user.name, user.role, user.password_hash = f"deleted-{user_id[-12:]}", "member", None
        user.deleted_at = user.disabled_at = now()
        user.requests_per_minute = user.tokens_per_minute = user.tokens_per_day = user.tokens_total = 0
        for table in (LoginSession, Identity, ApiKey, ChatPreferences):
            session.execute(delete(table).where(table.user_id == user_id))
        session.execute(delete(ConversationRow).where(ConversationRow.owner == user_id))
        session.execute(delete(PromptEntry).where(PromptEntry.owner == user_id, PromptEntry.shared.is_(False)))
        for table_of_desk in (DraftRow, Lease, LabellerRow):
            session.execute(delete(table_of_desk).where(table_of_desk.labeller == user_id))
        withdrawal.erase_traces(session, user_id)
        erased = withdrawals.erase(session, subjects, actor=actor)
        consent.record(session, subjects[0], given=False, scope="account")
        audit.record(session, request, actor, "user.delete", user_id, texts=erased)
        name = user.name
    consent.wipe(workspace)
    purge(workspace)
    return name
