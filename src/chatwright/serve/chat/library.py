"""The prompt library: built-in prompts in English and Chinese, own ones, and those that others share."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from chatwright.records.prompt_template import PromptTemplate
from chatwright.serve import audit
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.chat import store, wire
from chatwright.serve.chat.tables import PromptEntry
from chatwright.serve.services import Services, services
from chatwright.workspace.database import now

router = APIRouter(prefix="/api/prompts", tags=["prompts"])
Member = Annotated[Principal, Depends(require_user("member"))]
Shared = Annotated[Services, Depends(services)]


@cache
def builtin() -> tuple[wire.PromptInfo, ...]:
    """The prompts that come with Chatwright."""
    rows = json.loads(files("chatwright.serve.chat").joinpath("prompts.json").read_text(encoding="utf-8"))
    return tuple(
        wire.PromptInfo(kind="builtin", shared=True, variables=PromptTemplate.parse(row["text"]).variables, **row)
        for row in rows
    )


@router.get("")
def prompts(who: Member, shared: Shared) -> list[wire.PromptInfo]:
    """Built-in prompts, then own and shared ones by title."""
    with shared.workspace.reading() as session:
        query = select(PromptEntry).where(or_(PromptEntry.owner == who.id, PromptEntry.shared)).order_by(PromptEntry.title)
        return [*builtin(), *(_info(row, who) for row in session.scalars(query))]


@router.post("", status_code=201)
def keep(new: wire.NewPrompt, request: Request, who: Member, shared: Shared) -> wire.PromptInfo:
    """Keep a prompt."""
    PromptTemplate.parse(new.text)
    with shared.workspace.session() as session:
        count = session.scalar(select(func.count()).where(PromptEntry.owner == who.id)) or 0
        if count >= wire.MAX_PROMPTS:
            raise HTTPException(409, f"you have {count} prompts, as many as are allowed; delete some")
        row = PromptEntry(owner=who.id, **new.model_dump())
        session.add(row)
        session.flush()
        if row.shared:
            audit.record(session, request, who.id, "prompt.share", row.id)
        return _info(row, who)


@router.put("/{prompt_id}")
def rewrite(prompt_id: str, new: wire.NewPrompt, request: Request, who: Member, shared: Shared) -> wire.PromptInfo:
    """Change an own prompt."""
    PromptTemplate.parse(new.text)
    with shared.workspace.session() as session:
        row = _own(session, who, prompt_id)
        if new.shared or row.shared:  # also another text of one that all see
            audit.record(session, request, who.id, "prompt.share" if new.shared else "prompt.unshare", row.id)
        for name, value in new.model_dump().items():
            setattr(row, name, value)
        row.updated_at = now()
        return _info(row, who)


@router.delete("/{prompt_id}", status_code=204)
def forget(prompt_id: str, request: Request, who: Member, shared: Shared) -> Response:
    """Delete an own prompt."""
    with shared.workspace.session() as session:
        row = _own(session, who, prompt_id)
        session.delete(row)
        audit.record(session, request, who.id, "prompt.delete", row.id, shared=row.shared)
    return Response(status_code=204)


@router.post("/{prompt_id}/render")
def render(prompt_id: str, given: wire.PromptValues, who: Member, shared: Shared) -> wire.Rendered:
    """A prompt with its variables filled in; 400 names those that lack a value."""
    text = next((one.text for one in builtin() if one.id == prompt_id), None)
    if text is None:
        with shared.workspace.reading() as session:
            row = session.get(PromptEntry, prompt_id)
            if row is None or not (row.shared or row.owner == who.id):
                raise store.missing("prompt")
            text = row.text
    return wire.Rendered(text=PromptTemplate.parse(text).render(given.values))


def _own(session: Session, who: Principal, prompt_id: str) -> PromptEntry:
    row = session.get(PromptEntry, prompt_id)
    if row is None or row.owner != who.id:
        raise store.missing("prompt")
    return row


def _info(row: PromptEntry, who: Principal) -> wire.PromptInfo:
    kind: Any = "own" if row.owner == who.id else "shared"
    return wire.PromptInfo(
        id=row.id, kind=kind, language=row.language, title=row.title, text=row.text,  # type: ignore[arg-type]
        variables=PromptTemplate.parse(row.text).variables, shared=row.shared,
    )  # fmt: skip
