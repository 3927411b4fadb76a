"""Projects: as labellers see them, and as leads change them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from chatwright.feedback import projects, queue, values
from chatwright.records import LETTERS, Message, WeakOrder
from chatwright.serve.desk import views, wire
from chatwright.serve.desk.common import ERRORS, Labeller, Lead, Shared, note

router = APIRouter(prefix="/api/desk", tags=["desk"], responses=ERRORS)


@router.get("/projects")
def listed(who: Labeller, shared: Shared) -> list[wire.ProjectInfo]:
    """Open projects, each with the number of tasks that wait for this labeller."""
    with shared.workspace.reading() as session:
        languages = views.languages_of(session, who.id)
        found = []
        for one in projects.projects(session):
            kinds = views.kinds_in(one, who)
            left = queue.waiting(session, who.id, kinds=kinds, languages=languages, project=one)
            found.append(
                wire.ProjectInfo(
                    id=one.id, name=one.name, kinds=kinds, languages=list(one.settings.languages),  # type: ignore[arg-type]
                    rate_first=one.settings.rate_first, allow_unranked=one.settings.allow_unranked,
                    model_draft=one.settings.model_draft, left=left,
                )
            )  # fmt: skip
        return found


@router.get("/projects/all")
def everything(who: Lead, shared: Shared) -> list[wire.Project]:
    """All projects with their settings, archived ones too."""
    with shared.workspace.reading() as session:
        return [_project(one) for one in projects.projects(session, archived=True)]


@router.post("/projects", status_code=201)
def create(new: wire.NewProject, request: Request, who: Lead, shared: Shared) -> wire.Project:
    """Begin a project; 409 when its name is taken."""
    settings = projects.ProjectSettings.from_dict(_given(new.settings))
    with shared.workspace.session() as session:
        made = projects.create_project(session, new.name, settings, actor=who.id)
        note(session, request, who, "project.create", made.id)
        return _project(made)


@router.patch("/projects/{project_id}")
def change(project_id: str, new: wire.ProjectChange, request: Request, who: Lead, shared: Shared) -> wire.Project:
    """Change name or settings, or archive a project: then no more of its tasks are given out."""
    with shared.workspace.session() as session:
        made = projects.change_project(
            session, project_id, actor=who.id, name=new.name, settings=_given(new.settings), archived=new.archived
        )
        note(session, request, who, "project.change", project_id, fields=sorted(new.model_fields_set))
        return _project(made)


def _given(settings: wire.ProjectSettings) -> dict[str, object]:
    return settings.model_dump(exclude_none=True)


def _project(one: projects.Project) -> wire.Project:
    overlap = {kind: one.settings.overlap_of(kind) for kind in values.KINDS}
    settings = wire.ProjectSettings.model_validate({**one.settings.to_dict(), "overlap": overlap})
    return wire.Project(
        id=one.id, name=one.name, settings=settings, created_at=one.created_at, archived_at=one.archived_at
    )


@router.post("/tasks", status_code=201)
def add_task(new: wire.NewTask, request: Request, who: Lead, shared: Shared) -> wire.Added:
    """Add one task by hand, as for the screening test."""
    gold = None
    if new.gold:
        ranked = {letter for letter in new.gold.upper() if letter in LETTERS}
        gold = WeakOrder.parse(new.gold, len(new.answers), [one for one in LETTERS[: len(new.answers)] if one not in ranked])
    task = queue.NewTask(
        project=new.project, kind=new.kind, language=new.language, gold=gold, screening=new.screening, source="written",
        messages=tuple(Message(role=turn.role, content=turn.content) for turn in new.messages),
        answers=tuple(queue.Answer(text=text) for text in new.answers), meta={"style": new.style} if new.style else {},
    )  # fmt: skip
    with shared.workspace.session() as session:
        made = queue.add_task(session, task, actor=who.id)
        note(session, request, who, "task.add", made, kind=new.kind)
    return wire.Added(id=made)


@router.post("/tasks/{task_id}/resolve", status_code=204)
def resolve(task_id: str, new: wire.Resolution, request: Request, who: Lead, shared: Shared) -> Response:
    """Decide about a task that was flagged."""
    with shared.workspace.session() as session:
        (queue.clear_flags if new.action == "clear" else queue.close)(session, task_id, actor=who.id)
        note(session, request, who, f"task.{new.action}", task_id)
    return Response(status_code=204)
