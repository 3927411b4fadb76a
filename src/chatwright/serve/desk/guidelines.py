"""Guidelines, version by version."""

from __future__ import annotations

from fastapi import APIRouter, Request

from chatwright.feedback import projects
from chatwright.feedback.tables import GuidelineRow
from chatwright.serve.desk import wire
from chatwright.serve.desk.common import ERRORS, Labeller, Lead, Shared, note

router = APIRouter(prefix="/api/desk", tags=["desk"], responses=ERRORS)


@router.get("/guidelines/{project_id}")
def listed(project_id: str, who: Labeller, shared: Shared) -> list[wire.Guideline]:
    """Every version of a project's guidelines, the newest first."""
    with shared.workspace.reading() as session:
        projects.project_of(session, project_id)
        return [_guideline(row) for row in projects.guidelines(session, project_id)]


@router.post("/guidelines/{project_id}", status_code=201)
def publish(project_id: str, new: wire.NewGuideline, request: Request, who: Lead, shared: Shared) -> wire.Guideline:
    """A new version; labels name the one they followed."""
    with shared.workspace.session() as session:
        row = projects.publish_guideline(session, project_id, new.language, new.text, actor=who.id)
        note(session, request, who, "guideline.publish", row.id, project=project_id, version=row.version)
        return _guideline(row)


def _guideline(row: GuidelineRow) -> wire.Guideline:
    return wire.Guideline(
        id=row.id, project=row.project_id, language=row.language, version=row.version, text=row.text,
        created_at=row.created_at,
    )  # fmt: skip
