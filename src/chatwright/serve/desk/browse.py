"""The data browser: every task with its labels, for leads."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from chatwright.feedback import browse as browsing
from chatwright.feedback.browse import BrowsePage, Filters, TaskDetail
from chatwright.serve.audit_bounds import record_reading
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.chat.wire import whole_characters
from chatwright.serve.openai.errors import APIError, responses
from chatwright.serve.services import services

router = APIRouter(prefix="/api/desk", tags=["desk"], responses=responses(400, 401, 403, 404))
Lead = Annotated[Principal, Depends(require_user("lead"))]
Name = Annotated[str, Query(max_length=64)]
LongName = Annotated[str, Query(max_length=256)]


def filters(
    project: Name = "", kind: Name = "", state: Name = "", language: Name = "", split: Name = "", source: Name = "",
    labeller: LongName = "", labeller_kind: Name = "", model: LongName = "", flag: Name = "", flagged: bool | None = None,
    text: Annotated[str, Query(max_length=400)] = "", agreement_below: Annotated[float | None, Query(ge=0, le=1)] = None,
) -> Filters:  # fmt: skip
    """Which tasks to show; what is left out lets everything through."""
    given = {
        "project": project, "kind": kind, "state": state, "language": language, "split": split, "source": source,
        "labeller": labeller, "labeller_kind": labeller_kind, "model": model, "flag": flag, "text": text,
    }  # fmt: skip
    for name, value in given.items():
        try:
            whole_characters(value)
        except ValueError as error:
            raise APIError(400, f"{name}: {error}", param=name) from None
    return Filters(**given, flagged=flagged, agreement_below=agreement_below)


@router.get("/browse")
def browse(
    request: Request, who: Lead, wanted: Annotated[Filters, Depends(filters)],
    offset: Annotated[int, Query(ge=0, le=10**7)] = 0, limit: Annotated[int, Query(ge=1, le=200)] = 50,
    older_than: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> BrowsePage:  # fmt: skip
    """A page of the tasks that fit the filters, the newest first. A search for a text covers a bounded number of tasks;
    `older_than` (the answer's `next_older`) continues it."""
    record_reading(services(request), request, who.id, "texts.read", wanted.project)
    with services(request).workspace.reading() as session:
        return browsing.browse(session, wanted, offset=offset, limit=limit, older_than=older_than)


@router.get("/tasks/{task_id}")
def task(request: Request, who: Lead, task_id: str) -> TaskDetail:
    """A task with its answers, all its labels and how they were merged."""
    with services(request).workspace.reading() as session:
        found = browsing.task_detail(session, task_id)
    record_reading(services(request), request, who.id, "texts.read", task_id)
    return found
