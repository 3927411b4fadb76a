"""Models over HTTP: the registry, promotion by hot swap, roll-back, and which labels shaped a model."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from chatwright.errors import CheckpointError, DataError, GateError, HubError, MissingError, ModelError
from chatwright.feedback import lineage
from chatwright.feedback.jobs_tables import ModelRow, ServingRow
from chatwright.feedback.lineage import CONFIGURED
from chatwright.feedback.promotion import alpha_of
from chatwright.serve import audit
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.desk.exports import export_of
from chatwright.serve.desk.wire_loop import (
    LabelShare,
    Lineage,
    LineageLabel,
    Model,
    Models,
    Promotion,
    RollBack,
    ServedName,
    ServingStep,
    Verdict,
)
from chatwright.serve.engine import Engine
from chatwright.serve.openai.errors import APIError, responses
from chatwright.serve.services import Services, services
from chatwright.serve.settings import ServeConfig
from chatwright.workspace.database import Workspace, located_path

PAGE = 100
REPORT_CSP = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""Texts of models are shown there: whatever they hold, nothing runs, loads or knows who is signed in."""
router = APIRouter(prefix="/api/desk", tags=["desk"], responses=responses(400, 401, 403, 404, 409))
Lead = Annotated[Principal, Depends(require_user("lead"))]
Admin = Annotated[Principal, Depends(require_user("admin"))]


@router.get("/models")
def models(request: Request, _: Lead) -> Models:
    """The registry and what serves."""
    return _models(services(request))


@router.get("/models/{model_id}/report", response_class=HTMLResponse)
def report(request: Request, _: Lead, model_id: str) -> HTMLResponse:
    """The curves and the report card of the run that made a model, as a page without scripts."""
    from chatwright.evals.model_report import model_page

    with services(request).workspace.reading() as session:
        row = lineage.model(session, model_id)
        name, folder = row.name, located_path(session, row.path)
        withdrawn = lineage.withdrawn(session).models.get(model_id, 0)
    try:
        page = model_page(name, folder, withdrawn=withdrawn)
    except DataError as error:
        raise APIError(404, str(error), code="no_report") from error
    return HTMLResponse(page, headers={"content-security-policy": REPORT_CSP, "cache-control": "no-cache"})


@router.post("/models/{model_id}/promote")
async def promote(request: Request, who: Admin, model_id: str, wish: Promotion) -> Models:
    """Let a model answer under a served name from now on; running answers end on the old one. Refused (409, `code` "gate")
    when its win rate over the serving model is not above one half, unless it is forced with a reason."""
    shared = services(request)
    name = _name(shared, wish.name)
    async with _swapping(shared), _told():
        path = await asyncio.to_thread(_may, shared, model_id, name, wish)
        engine = await asyncio.to_thread(open_folder, shared.settings, name, path)

        def enter() -> None:
            with shared.workspace.session() as session:
                step = lineage.promote(
                    session, model_id, name, actor=who.id, reason=wish.reason, force=wish.force
                )  # fmt: skip
                detail = {"name": name, "forced": step.forced, "reason": step.reason}
                audit.record(session, request, who.id, "model.promoted", model_id, **detail)

        await _enter_and_swap(shared, enter, name, engine)
    return await asyncio.to_thread(_models, shared)


@router.post("/models/rollback")
async def roll_back(request: Request, who: Admin, wish: RollBack) -> Models:
    """Let the model before the present one serve again under a name."""
    shared = services(request)
    name = _name(shared, wish.name)
    async with _swapping(shared), _told():
        path = await asyncio.to_thread(_path_before, shared, name)
        engine = await asyncio.to_thread(open_folder, shared.settings, name, path)

        def enter() -> None:
            with shared.workspace.session() as session:
                step = lineage.roll_back(session, name, actor=who.id, reason=wish.reason)
                target = step.model_id or CONFIGURED
                audit.record(session, request, who.id, "model.rolled_back", target, name=name, reason=step.reason)

        await _enter_and_swap(shared, enter, name, engine)
    return await asyncio.to_thread(_models, shared)


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """Errors that name a model and no secret: an administrator is told."""
    try:
        yield
    except GateError as error:
        raise APIError(409, str(error), code="gate") from error
    except (CheckpointError, ModelError, HubError) as error:
        raise APIError(409, str(error), code="model_unusable") from error


def _swapping(shared: Services) -> asyncio.Lock:
    """One swap at a time: two would each load a model, and the slower one would win whatever the database says."""
    lock: asyncio.Lock = shared.parts.setdefault("swapping", asyncio.Lock())
    return lock


async def _enter_and_swap(shared: Services, enter: Any, name: str, engine: Engine) -> None:
    """The row first: after a crash between the two the restart serves what the row says."""
    try:
        await asyncio.to_thread(enter)
    except BaseException:
        await engine.drain(0.0)
        raise
    shared.registry.swap(name, engine)


def _name(shared: Services, name: str) -> str:
    """A served name; MissingError for others."""
    names = shared.registry.names()
    wanted = name or next(iter(names), "")
    if wanted not in names or not configured(shared.settings, wanted):
        local = [one for one in names if configured(shared.settings, one)]
        raise MissingError(f"model {wanted!r}: no model of this server's own; it has {', '.join(local) or 'none'}")
    return wanted


def configured(settings: ServeConfig, name: str) -> str:
    """What the server was told to serve under a name: a model name, a folder or a file; "" for other servers' models."""
    for entry in settings.model:
        own, _, where = entry.partition("=")
        if own == name:
            return where or own
    return ""


def _may(shared: Services, model_id: str, name: str, wish: Promotion) -> str:
    """The folder of a model that may be promoted: asked before minutes go into loading it. Raises what `promote` raises."""
    with shared.workspace.session() as session, session.begin_nested() as trial:
        lineage.promote(session, model_id, name, actor="", reason=wish.reason, force=wish.force)
        trial.rollback()
    with shared.workspace.reading() as session:
        return checked(session, lineage.model(session, model_id))


def _path_before(shared: Services, name: str) -> str:
    with shared.workspace.reading() as session:
        target, possible = lineage.before(session, name)
        if possible and target is not None:
            return checked(session, lineage.model(session, target))
    return configured(shared.settings, name)


def checked(session: Session, row: ModelRow) -> str:
    """A model's folder. CheckpointError when its manifest is not the one that was entered (files are checked on load)."""
    folder = located_path(session, row.path)
    if lineage.manifest_hash(folder) != row.manifest:
        raise CheckpointError(f"{folder}: is not the model that was trained: its manifest has changed")
    return str(folder)


def open_folder(settings: ServeConfig, name: str, path: str) -> Engine:
    """The engine of a local model."""
    from chatwright.serve.local_engine import LocalEngine

    sizes = {"max_batch": settings.max_batch, "prefix_mb": settings.prefix_mb}
    return LocalEngine.open(
        path, name=name, precision=settings.precision, template=settings.template, deadline_s=settings.deadline_s, **sizes
    )


def entry_to_serve(workspace: Workspace, entry: str) -> str:
    """At the start: `name=folder` of the model that was promoted to the name of `entry`, or `entry` itself where none was.
    Raises CheckpointError when the promoted model is gone or damaged."""
    name, _, _ = entry.partition("=")
    with workspace.reading() as session:
        row = lineage.serving(session, name)
        return entry if row is None else f"{name}={checked(session, row)}"


# ---- reading -------------------------------------------------------------------------------------------------------------


def _models(shared: Services) -> Models:
    with shared.workspace.reading() as session:
        names = [name for name in shared.registry.names() if configured(shared.settings, name)]
        withdrawn = lineage.withdrawn(session)
        found = [_model(session, row, names, withdrawn.models.get(row.id, 0)) for row in lineage.models(session)]
        return Models(
            models=found,
            serving=[_served(session, name, shared.registry.not_promoted.get(name, "")) for name in names],
            history=[_step(row) for row in lineage.history(session)],
        )


def _served(session: Session, name: str, not_promoted: str) -> ServedName:
    row = lineage.serving(session, name)
    before, possible = lineage.before(session, name)
    back = (before or CONFIGURED) if possible else ""
    promoted = row.id if row else CONFIGURED
    return ServedName(name=name, model_id=promoted, not_promoted=not_promoted, can_roll_back=possible, before=back)


def _step(row: ServingRow) -> ServingStep:
    return ServingStep(
        name=row.name, model_id=row.model_id or CONFIGURED, action=row.action, reason=row.reason,  # type: ignore[arg-type]
        forced=row.forced, actor=row.actor, at=row.at,
    )  # fmt: skip


def _model(session: Session, row: ModelRow, names: list[str], withdrawn: int) -> Model:
    comparison = row.figures.get("comparison") or {}
    kinds: Counter[str] = Counter()
    for share in lineage.label_shares(session, row.id):
        kinds[share.labeller_kind] += share.labels
    serving = {name: lineage.serving(session, name) for name in names}
    gate = lineage.deciding(session, row)
    blockers = {name: lineage.blocker(session, row, name) for name in names}
    folder = located_path(session, row.path)
    return Model(
        id=row.id, name=row.name, path=str(folder), base=row.base, parent_id=row.parent_id,
        job_id=row.job_id, has_report=folder.name == "final" and (folder.parent / "metrics.jsonl").is_file(),
        manifest=row.manifest, report_card=row.figures.get("report_card") or {},
        verdicts=[Verdict.model_validate(one) for one in lineage.verdicts(session, row)],
        gate=Verdict.model_validate(gate) if gate else None, against=str(comparison.get("against", "")),
        labeller_kinds=dict(kinds), withdrawn=withdrawn,
        refusals={name: one.text for name, one in blockers.items()}, attempt=lineage.attempt(row),
        refusal_codes={name: one.code for name, one in blockers.items()}, alpha=alpha_of(lineage.attempt(row)),
        serves=[name for name, now in serving.items() if now is not None and now.id == row.id],
        created_by=row.created_by, created_at=row.created_at,
    )  # fmt: skip


@router.get("/lineage/{model_id}")
def lineage_of(
    request: Request, _: Lead, model_id: str, offset: Annotated[int, Query(ge=0, le=2**31)] = 0
) -> Lineage:
    """Which labels shaped this model: its exports and those of the models before it, who labelled, and a page of labels."""
    shared = services(request)
    with shared.workspace.reading() as session:
        row = lineage.model(session, model_id)
        withdrawn = lineage.withdrawn(session)
        names = [name for name in shared.registry.names() if configured(shared.settings, name)]
        number = session.scalar(select(func.count()).select_from(lineage.labels_of(model_id).subquery()))
        page = lineage.labels(session, model_id, limit=PAGE, offset=offset)
        return Lineage(
            model=_model(session, row, names, withdrawn.models.get(row.id, 0)),
            ancestors=[one.id for one in lineage.ancestors(session, model_id)],
            exports=[export_of(session, one, withdrawn) for one in lineage.exports_of(session, model_id)],
            shares=[
                LabelShare(labeller=s.labeller, labeller_kind=s.labeller_kind, kind=s.kind, labels=s.labels)  # type: ignore[arg-type]
                for s in lineage.label_shares(session, model_id)
            ],
            num_labels=number or 0,
            labels=[
                LineageLabel(
                    uuid=label.uuid, task=label.task_id, labeller=label.labeller, kind=label.kind, at=label.at,
                    labeller_kind=label.labeller_kind,  # type: ignore[arg-type]
                )
                for label in page
            ],
        )  # fmt: skip
