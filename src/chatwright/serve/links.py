"""Open one-time links: invitations and links for a new password, listed and revoked by administrators."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from chatwright.serve import audit
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.auth_tables import Link, User
from chatwright.serve.openai.errors import APIError, responses
from chatwright.serve.services import services
from chatwright.serve.users import Role
from chatwright.workspace.database import now

ID_LENGTH = 16
MAX_LISTED = 1000
Admin = Annotated[Principal, Depends(require_user("admin"))]
router = APIRouter(prefix="/api", tags=["users"], responses=responses(401, 403, 404))


class LinkRow(BaseModel):
    """A link that was not used yet, without its secret."""

    id: str
    kind: Literal["admin", "invite", "reset"]
    role: Role
    """Of an invitation: the role that the new account gets."""
    name: str
    """Of a link for a new password: the account's name."""
    created_by: str
    """Id of the account that made it; `server` or `cli` for links that were printed."""
    created_at: float
    expires_at: float


def open_links(session: Session) -> list[LinkRow]:
    """Links that can be used, the newest first."""
    query = select(Link, User.name).outerjoin(User, User.id == Link.user_id).where(Link.expires_at > now())
    return [
        LinkRow(
            id=link.token_hash[:ID_LENGTH], kind=link.kind, role=link.role, name=name or "", created_by=link.created_by,  # type: ignore[arg-type]
            created_at=link.created_at, expires_at=link.expires_at,
        )
        for link, name in session.execute(query.order_by(Link.created_at.desc()).limit(MAX_LISTED))
    ]  # fmt: skip


def revoke(session: Session, request: Request | None, actor: str, link_id: str) -> None:
    """End a link. APIError 404 for one that was used, has expired, or never existed."""
    wanted = Link.token_hash.startswith(link_id, autoescape=True)
    link = session.scalar(select(Link).where(wanted, Link.expires_at > now())) if len(link_id) == ID_LENGTH else None
    if link is None:
        raise APIError(404, "there is no such link; it was used, or has expired", code="not_found")
    session.execute(delete(Link).where(Link.token_hash == link.token_hash))
    audit.record(session, request, actor, "link.revoke", link.user_id or "", kind=link.kind, role=link.role)


@router.get("/links")
def links(request: Request, _: Admin) -> list[LinkRow]:
    """Open invitations and links for a new password."""
    with services(request).workspace.reading() as session:
        return open_links(session)


@router.delete("/links/{link_id}", status_code=204)
def revoke_link(link_id: str, request: Request, who: Admin) -> Response:
    """Revoke a link, at once and for good."""
    with services(request).workspace.session() as session:
        revoke(session, request, who.id, link_id)
    return Response(status_code=204)
