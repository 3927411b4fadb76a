"""Links that show a chat to everyone who has them: make, renew, list, switch off. A link's secret is kept as its hash."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, HTTPException, Query, Request, Response
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from chatwright.serve import audit
from chatwright.serve.auth import Principal, digest, new_secret, public, require_user
from chatwright.serve.auth_tables import User
from chatwright.serve.chat import store, wire
from chatwright.serve.chat.tables import ConversationRow, Share
from chatwright.serve.openai.errors import APIError
from chatwright.serve.services import Services, services
from chatwright.workspace.database import now

_DAY_S = 86_400
MAX_LISTED = 1000
Member = Annotated[Principal, Depends(require_user("member"))]
Shared = Annotated[Services, Depends(services)]
Everyone = Annotated[bool, Query(description="Every account's links; for administrators.")]
router = APIRouter(prefix="/api", tags=["chat"])


@router.post("/conversations/{conversation_id}/share")
def share(
    conversation_id: str, request: Request, who: Member, shared: Shared, new: Annotated[wire.NewShare | None, Body()] = None
) -> wire.MadeShare:
    """Make a link that shows the conversation as it is now to everyone who has it, until it expires. An earlier link to it
    stops working. Later messages stay private until the copy is renewed."""
    _check_on(shared)
    days, secret = (new.expires_in_days if new else None) or shared.settings.share_days, new_secret()
    with shared.workspace.session() as session:
        row = store.conversation_of(session, who.id, conversation_id)
        session.execute(delete(Share).where(Share.conversation_id == row.id))
        made = Share(
            token_hash=digest(secret), conversation_id=row.id, snapshot=store.snapshot(session, row), created_at=now(),
            expires_at=now() + days * _DAY_S,
        )  # fmt: skip
        session.add(made)
        audit.record(session, request, who.id, "share.make", row.id, days=days)
        return wire.MadeShare(token=secret, **store.share_info(made, who.name).model_dump())


@router.put("/conversations/{conversation_id}/share")
def renew(conversation_id: str, who: Member, shared: Shared) -> wire.ShareInfo:
    """Let the link show the conversation as it is now. Link and expiry stay."""
    _check_on(shared)
    with shared.workspace.session() as session:
        row = store.conversation_of(session, who.id, conversation_id)
        found = session.scalar(select(Share).where(Share.conversation_id == row.id, Share.expires_at > now()))
        if found is None:
            raise store.missing("link")
        found.snapshot = store.snapshot(session, row)
        return store.share_info(found, who.name)


@router.delete("/conversations/{conversation_id}/share", status_code=204)
def revoke(conversation_id: str, request: Request, who: Member, shared: Shared) -> Response:
    """Switch the link off; its copy is deleted."""
    with shared.workspace.session() as session:
        row = store.conversation_of(session, who.id, conversation_id)
        found = session.scalar(select(Share).where(Share.conversation_id == row.id))
        if found is None:
            raise store.missing("link")
        session.delete(found)
        audit.record(session, request, who.id, "share.end", row.id)
    return Response(status_code=204)


@router.get("/shares")
def links(who: Member, shared: Shared, everyone: Everyone = False) -> list[wire.ShareInfo]:
    """Links that work, the newest first: one's own, or everyone's for administrators."""
    _only_admins(who, everyone)
    query = select(Share, User.name).join(ConversationRow, ConversationRow.id == Share.conversation_id)
    query = query.join(User, User.id == ConversationRow.owner).where(Share.expires_at > now())
    if not everyone:
        query = query.where(ConversationRow.owner == who.id)
    with shared.workspace.reading() as session:
        rows = session.execute(query.order_by(Share.created_at.desc(), Share.token_hash).limit(MAX_LISTED)).all()
        return [_listed(link, name, own=name == who.name) for link, name in rows]


def _listed(link: Share, name: str, *, own: bool) -> wire.ShareInfo:
    """A line of the list; titles of other people's chats are theirs."""
    return store.share_info(link, name).model_copy(update={} if own else {"title": ""})


@router.delete("/shares")
def end_all(request: Request, who: Member, shared: Shared, everyone: Everyone = False) -> wire.SharesEnded:
    """Switch off every link of one's own, or everyone's for administrators. Their copies are deleted."""
    _only_admins(who, everyone)
    with shared.workspace.session() as session:
        ended = _end(session, "" if everyone else who.id)
        audit.record(session, request, who.id, "share.end_all", "everyone" if everyone else who.id, links=ended)
    return wire.SharesEnded(ended=ended)


def _end(session: Session, owner: str) -> int:
    wanted = delete(Share)
    if owner:
        mine = select(ConversationRow.id).where(ConversationRow.owner == owner)
        wanted = wanted.where(Share.conversation_id.in_(mine))
    return int(session.execute(wanted).rowcount)  # type: ignore[attr-defined]


@router.get("/shares/{token}", dependencies=[Depends(public)])
def shared_conversation(token: str, shared: Shared, response: Response) -> wire.SharedConversation:
    """The chat that a link shows."""
    with shared.workspace.reading() as session:
        found = session.get(Share, digest(token)) if len(token) <= 64 and shared.settings.share_links else None
        if found is None or found.expires_at <= now():
            raise store.missing("link; it may have expired, or was switched off")
        response.headers.update({"cache-control": "no-store", "x-robots-tag": "noindex"})
        return wire.SharedConversation(created_at=found.created_at, **found.snapshot)


def _check_on(shared: Services) -> None:
    if not shared.settings.share_links:
        raise APIError(403, "links to chats are switched off on this server (--no-share-links)", code="share_links_off")


def _only_admins(who: Principal, everyone: bool) -> None:
    if everyone and who.role != "admin":
        raise HTTPException(403, "everyone: for administrators")
