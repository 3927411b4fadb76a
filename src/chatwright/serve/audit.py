"""The audit log: who did what to whom."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright.serve.address import client_address
from chatwright.serve.audit_export import Format, lines
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.auth_tables import AuditEvent
from chatwright.serve.openai.errors import responses
from chatwright.serve.services import services

router = APIRouter(prefix="/api", tags=["audit"], responses=responses(401, 403))


class AuditRow(BaseModel):
    """One entry."""

    id: int
    at: float
    actor: str
    action: str
    target: str
    detail: dict[str, Any]
    address: str


def record(session: Session, request: Request | None, actor: str, action: str, target: str = "", **detail: Any) -> None:
    """Add an entry in the same transaction as what it tells of. Never give secrets or texts of people."""
    session.add(
        AuditEvent(actor=actor, action=action, target=target, detail=detail, address=client_address(request))
    )


@router.get("/audit/export", response_class=StreamingResponse)
def export(
    request: Request,
    who: Annotated[Principal, Depends(require_user("admin"))],
    format: Format = "jsonl",
    since: Annotated[float, Query(ge=0, le=1e12, allow_inf_nan=False)] = 0.0,
    until: Annotated[float | None, Query(ge=0, le=1e12, allow_inf_nan=False)] = None,
) -> StreamingResponse:
    """The log as a file, the oldest entry first; `since` and `until` (excluded) in seconds since 1970."""
    workspace = services(request).workspace
    with workspace.session() as session:
        record(session, request, who.id, "audit.export", format=format)
    pieces = lines(workspace, format, since=since, until=float("inf") if until is None else until)
    kind = "text/csv; charset=utf-8" if format == "csv" else "application/jsonl"
    headers = {"content-disposition": f'attachment; filename="audit.{format}"'}
    return StreamingResponse(pieces, media_type=kind, headers=headers)


@router.get("/audit")
def audit(
    request: Request,
    _: Annotated[Principal, Depends(require_user("admin"))],
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[AuditRow]:
    """Entries, newest first; `before` an id for the next page."""
    query = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEvent.id < before)
    with services(request).workspace.reading() as session:
        return [AuditRow.model_validate(row, from_attributes=True) for row in session.scalars(query)]
