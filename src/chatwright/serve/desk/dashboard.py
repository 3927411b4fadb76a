"""The leads' dashboard, and merging."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool

from chatwright.feedback import dashboard as figures
from chatwright.feedback.figures import Dashboard
from chatwright.feedback.merging import MergeCounts, merge_project
from chatwright.serve import audit
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.desk.kept_dashboards import KeptDashboards, Question
from chatwright.serve.desk.wire_dashboard import MergeRequest
from chatwright.serve.openai.errors import responses
from chatwright.serve.services import services

router = APIRouter(prefix="/api/desk", tags=["desk"], responses=responses(400, 401, 403, 404))
Lead = Annotated[Principal, Depends(require_user("lead"))]
LabellerKind = Literal["human", "simulated", "ai"]
Labeller = Annotated[str, Query(max_length=256)]


@router.get("/dashboard")
async def dashboard(
    request: Request, _: Lead, project: Annotated[str, Query(max_length=64)],
    labeller_kind: Annotated[list[LabellerKind], Query(max_length=3)] = [],  # noqa: B006
    held_out: Annotated[list[Labeller], Query(max_length=200)] = [],  # noqa: B006
) -> Dashboard:  # fmt: skip
    """A project at a glance: progress, agreement, labellers, the cost of writing against ranking, warnings.

    `labeller_kind`: whose labels are counted (repeat it; none: everybody's). `held_out`: labellers to hold the others
    against (repeat it; none: those who only labelled the held-out part). Of a project with thousands of labels the answer
    may be some minutes old: see `measured_at`.
    """
    shared = services(request)
    kept: KeptDashboards = shared.parts.setdefault("dashboards", KeptDashboards(shared.workspace))
    question = Question(
        project=project, labeller_kinds=tuple(sorted(set(labeller_kind))) or figures.LABELLER_KINDS,
        held_out=tuple(sorted(set(held_out))),
    )  # fmt: skip
    found = await run_in_threadpool(kept.ask, question)
    # A reader who leaves must not end what others wait for.
    return found if isinstance(found, Dashboard) else await asyncio.shield(asyncio.wrap_future(found))


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
