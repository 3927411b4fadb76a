"""Labellers' routes: a task, its draft, its label, and taking it back. To a labeller only tasks exist that he holds or
held, and labels that he made; everything else is 404."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from chatwright.feedback import drafts, payloads, projects, queue, screening, values
from chatwright.feedback.tables import LabellerRow
from chatwright.serve.auth import Principal
from chatwright.serve.desk import views, wire
from chatwright.serve.desk.common import ERRORS, Labeller, Shared, note
from chatwright.serve.limits import reveal
from chatwright.serve.openai.errors import APIError

router = APIRouter(prefix="/api/desk", tags=["desk"], responses=ERRORS)
PAGE = 50


@router.post("/next")
def next_task(
    who: Labeller,
    shared: Shared,
    project: Annotated[str, Query(max_length=64)] = "",
    kind: Annotated[list[wire.Kind], Query(max_length=6)] = [],  # noqa: B006
    language: Annotated[list[wire.Language], Query(max_length=32)] = [],  # noqa: B006
    exclude: Annotated[list[wire.Id], Query(max_length=50)] = [],  # noqa: B006
) -> wire.Next:
    """The task to do now: the one that is held, or a new one, which is held from then on. `kind`, `language`: wanted ones,
    all when left out (languages: those of the profile); `exclude`: tasks the browser has got already."""
    allowed = [one for one in views.kinds_for(who) if not kind or one in kind]
    with shared.workspace.session() as session:
        languages = language or views.languages_of(session, who.id)
        claimed = queue.claim(
            session, who.id, kinds=allowed, languages=languages, project=project, exclude=exclude
        )  # fmt: skip
        chosen = [projects.project_of(session, project)] if project else projects.projects(session)
        failed = any(screening.state_of(session, one, who.id, languages).failed for one in chosen)
        why: Literal["", "nothing_left", "screening_failed"] = "screening_failed" if failed else "nothing_left"
        return wire.Next(
            task=views.task(session, claimed.task, who.id) if claimed else None, why="" if claimed else why,
            counts=views.counts(session, who, chosen, languages),
        )  # fmt: skip


@router.post("/tasks/{task_id}/renew")
def renew(task_id: str, who: Labeller, shared: Shared) -> wire.Renewed:
    """Keep the place at a task for longer; 409 when somebody else has taken it."""
    with shared.workspace.session() as session:
        return wire.Renewed(expires_at=queue.renew(session, task_id, who.id))


@router.post("/tasks/{task_id}/release", status_code=204)
def release(task_id: str, who: Labeller, shared: Shared) -> Response:
    """Give the place at a task back; it may come again."""
    with shared.workspace.session() as session:
        queue.release(session, task_id, who.id)
    return Response(status_code=204)


@router.post("/tasks/{task_id}/skip", status_code=204)
def skip(task_id: str, why: wire.Skip, request: Request, who: Labeller, shared: Shared) -> Response:
    """Leave a task to others."""
    with shared.workspace.session() as session:
        views.lease_of(session, task_id, who.id)
        queue.skip(session, task_id, who.id, why.reason, why.comment)
        note(session, request, who, "skip", task_id, reason=why.reason)
    return Response(status_code=204)


@router.post("/tasks/{task_id}/flag", status_code=204)
def flag(task_id: str, why: wire.Skip, request: Request, who: Labeller, shared: Shared) -> Response:
    """Say that something is wrong with a task; nobody gets it until a lead has looked."""
    with shared.workspace.session() as session:
        views.lease_of(session, task_id, who.id)
        queue.flag(session, task_id, who.id, why.reason, why.comment)
        note(session, request, who, "flag", task_id, reason=why.reason)
    return Response(status_code=204)


@router.get("/tasks/{task_id}/draft")
def draft(task_id: str, who: Labeller, shared: Shared) -> wire.Draft:
    """Unfinished work; revision 0 and nothing in it when none is kept."""
    with shared.workspace.reading() as session:
        views.lease_of(session, task_id, who.id)
        return views.draft(session, task_id, who.id) or wire.Draft(revision=0, content={})


@router.put("/tasks/{task_id}/draft")
def keep_draft(task_id: str, new: wire.DraftChange, who: Labeller, shared: Shared) -> wire.Draft:
    """Keep unfinished work. 409 with code draft_conflict when another window has kept something meanwhile: read it, and
    let the labeller choose."""
    with shared.workspace.session() as session:
        views.lease_of(session, task_id, who.id)
        kept = drafts.keep(session, task_id, who.id, revision=new.revision, content=new.content)
        if kept is None:
            raise APIError(409, "revision: another window has changed this draft; read it", code="draft_conflict")
        return wire.Draft(revision=kept, content=new.content)


@router.post("/labels")
def label(new: wire.NewLabel, request: Request, who: Labeller, shared: Shared) -> wire.Labelled:
    """Send a label. When the answer has come, the label is on the disk."""
    with shared.workspace.session() as session:
        lease = views.lease_of(session, new.task, who.id)
        row = queue.locked(session, new.task)
        given = _fields_of(row.kind, new.value)
        shown = tuple(lease.shown_order)
        value = values.to_stored(row.kind, given, shown) if shown else given
        made = queue.submit(
            session,
            queue.Submission(
                uuid=new.uuid.lower(), task=new.task, labeller=who.id, value=value, guideline=new.guideline,
                payload=new.payload.model_dump() if new.payload else None, seconds=new.seconds.model_dump(),
            ),
        )  # fmt: skip
        reveal(session, made.task, who.user_id)  # of drafts by a model
        note(session, request, who, "label", made.uuid, task=made.task, state=made.state)
        return _labelled(made)


def _fields_of(kind: str, value: wire.Value) -> dict[str, Any]:
    """What was given; a field that its kind does not know is refused later, unless it says nothing."""
    given = value.model_dump()
    known = values.fields_of(kind)
    return {name: one for name, one in given.items() if name in known or one}


def _labelled(made: queue.Submitted) -> wire.Labelled:
    return wire.Labelled(
        uuid=made.uuid, task=made.task, state=made.state, too_fast=made.too_fast,  # type: ignore[arg-type]
        contradictions=made.contradictions,
    )  # fmt: skip


@router.post("/labels/{label_id}/undo")
def undo(label_id: str, request: Request, who: Labeller, shared: Shared) -> wire.Undone:
    """Take a label back, while it has not gone into a result (409); the task comes back with what was said."""
    with shared.workspace.session() as session:
        row = queue.undo(session, label_id.lower(), who.id)
        note(session, request, who, "undo", row.uuid, task=row.task_id)
        return wire.Undone(
            task=views.task(session, row.task_id, who.id),
            value=views.value_of(row.kind, row.value, row.shown_order),
            payload=views.written_of(payloads.content(session, row.payload_id)),
        )  # fmt: skip


@router.get("/labels")
def labels(
    who: Labeller,
    shared: Shared,
    project: Annotated[str, Query(max_length=64)] = "",
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = PAGE,
) -> wire.MyLabels:
    """One's own labels, the newest first."""
    with shared.workspace.reading() as session:
        return views.my_labels(session, who.id, project, offset, limit)


@router.get("/profile")
def profile(who: Labeller, shared: Shared) -> wire.Profile:
    """What the labeller chose."""
    with shared.workspace.reading() as session:
        return wire.Profile(languages=views.languages_of(session, who.id))


@router.put("/profile")
def set_profile(new: wire.Profile, who: Labeller, shared: Shared) -> wire.Profile:
    """Choose the languages of tasks."""
    with shared.workspace.session() as session:
        _profile_of(session, who).languages = list(dict.fromkeys(new.languages))
    return new


def _profile_of(session: Session, who: Principal) -> LabellerRow:
    row = session.get(LabellerRow, who.id, with_for_update=True) or LabellerRow(labeller=who.id)
    session.add(row)
    return row
