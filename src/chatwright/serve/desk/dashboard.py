"""The leads' dashboard, and merging."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy import func, select

from chatwright.feedback import dashboard as figures
from chatwright.feedback.figures import Dashboard
from chatwright.feedback.merging import MergeCounts, merge_project
from chatwright.feedback.tables import LabelEvent
from chatwright.serve import audit
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.desk.wire_dashboard import MergeRequest
from chatwright.serve.openai.errors import responses
from chatwright.serve.services import services

router = APIRouter(prefix="/api/desk", tags=["desk"], responses=responses(400, 401, 403, 404))
Lead = Annotated[Principal, Depends(require_user("lead"))]
LabellerKind = Literal["human", "simulated", "ai"]
Labeller = Annotated[str, Query(max_length=256)]


@router.get("/dashboard")
def dashboard(
    request: Request, _: Lead, project: Annotated[str, Query(max_length=64)],
    labeller_kind: Annotated[list[LabellerKind], Query(max_length=3)] = [],  # noqa: B006
    held_out: Annotated[list[Labeller], Query(max_length=200)] = [],  # noqa: B006
) -> Dashboard:  # fmt: skip
    """A project at a glance: progress, agreement, labellers, the cost of writing against ranking, warnings.

    `labeller_kind`: whose labels are counted (repeat it; none: everybody's). `held_out`: labellers to hold the others
    against (repeat it; none: those who only labelled the held-out part).
    """
    shared = services(request)
    kinds = tuple(sorted(set(labeller_kind))) or figures.LABELLER_KINDS
    with shared.workspace.reading() as session:
        # Everything here follows from the events; a page that is left open asks again and again.
        # Their number too: on PostgreSQL an event may be seen after one with a higher id.
        last = tuple(session.execute(select(func.max(LabelEvent.id), func.count())).one())
        key = (project, kinds, tuple(sorted(set(held_out))), last)
        kept: dict[Any, Dashboard] = shared.parts.setdefault("dashboards", {})
        if (found := kept.get(key)) is None:
            found = figures.dashboard(session, project, labeller_kinds=kinds, held_out=held_out or None)
            for old in [one for one in kept if one[-1] != last]:
                kept.pop(old, None)
            kept[key] = found
        return found


@router.post("/merge")
def merge(request: Request, who: Lead, wanted: MergeRequest) -> MergeCounts:
    """Merge every complete ranking of a project, or send it to an adjudicator. Doing it twice is harmless."""
    workspace = services(request).workspace
    found = merge_project(
        workspace, wanted.project, actor=who.id, method=wanted.method, adjudicate_below=wanted.adjudicate_below
    )
    with workspace.session() as session:
        audit.record(
            session, request, who.id, "labels.merged", wanted.project, method=found.method, merged=found.merged,
            adjudicate=found.adjudicate,
        )  # fmt: skip
    return found
