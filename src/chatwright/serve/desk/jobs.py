"""Jobs over HTTP: begin, watch, read the log, cancel. `chatwright serve` runs them in processes of low priority."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from chatwright.errors import MissingError, UsageError
from chatwright.feedback import jobs
from chatwright.feedback.export import ExportFilter
from chatwright.feedback.jobs_tables import JobRow
from chatwright.feedback.judges import configured_judges
from chatwright.feedback.worker import LOG_FILE, job_folder, lane_of
from chatwright.serve import audit
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.desk.models import configured
from chatwright.serve.desk.wire_loop import Job, JobLog, JudgeRow, NewJob, Progress
from chatwright.serve.openai.errors import responses
from chatwright.serve.services import services

MAX_LOG_BYTES = 100_000
router = APIRouter(prefix="/api/desk", tags=["desk"], responses=responses(400, 401, 403, 404))
Lead = Annotated[Principal, Depends(require_user("lead"))]


@router.get("/jobs")
def list_jobs(request: Request, _: Lead) -> list[Job]:
    """The newest hundred jobs."""
    with services(request).workspace.reading() as session:
        return [job_of(row) for row in jobs.jobs(session)]


@router.get("/judges")
def list_judges(request: Request, _: Lead) -> list[JudgeRow]:
    """AI judges that a labelling job may use."""
    judges = configured_judges(services(request).settings.judge).values()
    return [JudgeRow(name=judge.name, model=judge.model) for judge in judges]


@router.post("/jobs", status_code=201)
def begin(request: Request, who: Lead, new: NewJob) -> Job:
    """Put a job into the queue."""
    settings = _settings(request, new)
    with services(request).workspace.session() as session:
        row = jobs.enqueue(session, new.kind, settings, who.id)
        audit.record(session, request, who.id, "job.queued", row.id, kind=new.kind)
        return job_of(row)


def _settings(request: Request, new: NewJob) -> dict[str, Any]:
    """Settings as the command's flags take them."""
    given = {"retrain": new.retrain, "label": new.label}[new.kind]
    if given is None:
        raise UsageError(f"{new.kind}: the settings of a {new.kind} job are missing")
    settings = given.model_dump(exclude_none=True)
    if new.kind == "retrain":
        ExportFilter(labeller_kinds=tuple(settings["labeller_kinds"]), rankings=settings["rankings"])  # refuses at once
        registry = services(request).registry
        name = settings["serving_name"] or next(iter(registry.names()), "")
        if name not in registry.names():
            message = f"model {name!r}: is not served; served: {', '.join(registry.names()) or 'none yet'}"
            raise MissingError(message, code="model_not_served")
        return settings | {"serving_name": name, "configured": configured(services(request).settings, name)}
    kept = {name: settings[name] for name in ("labeller", "project", "limit")}
    if settings["labeller"] == "ai":
        judges = configured_judges(services(request).settings.judge)
        if settings["judge"] not in judges:
            known = ", ".join(judges) or "none: the operator adds one with `chatwright serve --judge`"
            raise MissingError(f"judge {settings['judge']!r}: is not configured; known: {known}", code="judge_unknown")
        return kept | {"judge": settings["judge"]}
    return kept | {"simulated": {"noise": settings["noise"], "seed": settings["seed"]}}


@router.get("/jobs/{job_id}")
def show(request: Request, _: Lead, job_id: str) -> Job:
    """One job."""
    with services(request).workspace.reading() as session:
        return job_of(_job(session.get(JobRow, job_id), job_id))


@router.get("/jobs/{job_id}/log")
def log(request: Request, _: Lead, job_id: str, after: Annotated[int, Query(ge=0, le=2**40)] = 0) -> JobLog:
    """A job's log from byte `after` on, at most 100,000 bytes at a time."""
    workspace = services(request).workspace
    with workspace.reading() as session:
        _job(session.get(JobRow, job_id), job_id)
    path = job_folder(workspace, job_id) / LOG_FILE
    if not path.is_file():
        return JobLog(text="", start=after, end=after)
    with path.open("rb") as file:
        file.seek(after)
        piece = file.read(MAX_LOG_BYTES)
    whole = piece[: piece.rfind(b"\n") + 1] or piece  # no character is torn
    return JobLog(text=whole.decode("utf-8", "replace"), start=after, end=after + len(whole))


@router.delete("/jobs/{job_id}", status_code=204)
def cancel(request: Request, who: Lead, job_id: str) -> Response:
    """End a job: a waiting one at once, a running one after it has saved itself."""
    with services(request).workspace.session() as session:
        _job(session.get(JobRow, job_id), job_id)
        jobs.cancel(session, job_id)
        audit.record(session, request, who.id, "job.cancelled", job_id)
    return Response(status_code=204)


def _job(row: JobRow | None, job_id: str) -> JobRow:
    if row is None:
        raise MissingError(f"job {job_id}: there is no such job")
    return row


def job_of(row: JobRow) -> Job:
    """As it is sent."""
    return Job(
        id=row.id, kind=row.kind, lane=lane_of(row.kind), state=row.state, settings=row.settings,  # type: ignore[arg-type]
        progress=Progress.model_validate({k: v for k, v in row.progress.items() if k in Progress.model_fields}),
        result=row.result, message=row.message, attempts=row.attempts, cancel=row.cancel, created_by=row.created_by,
        created_at=row.created_at, started_at=row.started_at, ended_at=row.ended_at,
    )  # fmt: skip
