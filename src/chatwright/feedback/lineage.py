"""Models and where they come from: which labels shaped one, which serves under a name, and what has been withdrawn since."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Select, distinct, func, select
from sqlalchemy.orm import Session

from chatwright.errors import CheckpointError, GateError, MissingError, UsageError
from chatwright.feedback import promotion
from chatwright.feedback.jobs_tables import ExportItem, ExportRow, ModelExport, ModelRow, ServingRow
from chatwright.feedback.promotion import Blocker
from chatwright.feedback.tables import LabelRow, Payload
from chatwright.workspace.database import new_id, now, relative_path

CONFIGURED = "configured"
"""Stands for the model that the server was started with, where a model's id is asked for."""


@dataclass(frozen=True, kw_only=True)
class LabelShare:
    """How many labels of one labeller shaped a model."""

    labeller: str
    labeller_kind: str
    kind: str
    """What was labelled: rank, demonstrate, ..."""
    labels: int


@dataclass(frozen=True, kw_only=True)
class Withdrawn:
    """Texts that an export, or a model, has and the store no longer does."""

    exports: Mapping[str, int]
    """Export id -> erased texts in it."""
    models: Mapping[str, int]
    """Model id -> erased texts that it, or a model it was trained from, has learned from."""
    undone: Mapping[str, int] = field(default_factory=dict)
    """Export id -> labels in it that their labellers took back afterwards."""


def manifest_hash(folder: Path) -> str:
    """sha256 of a model folder's manifest, which names every file's hash. CheckpointError when there is none."""
    try:
        return hashlib.sha256((folder / "MANIFEST.json").read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{folder}: has no MANIFEST.json; it is no finished model of Chatwright") from error


def register(
    session: Session, *, name: str, path: Path, base: str, exports: Sequence[str], figures: Mapping[str, Any], actor: str,
    parent: str | None = None, job: str = "",
) -> ModelRow:  # fmt: skip
    """Enter a finished model; the same folder again is the same row, with the newest figures."""
    manifest, place = manifest_hash(path), relative_path(session, path)
    row = at(session, path)
    if row is not None:
        row.figures = _numbered(session, figures, row.figures)
        return row
    row = ModelRow(
        id=new_id("model"), name=name, path=place, manifest=manifest,
        base=relative_path(session, base) if Path(base).is_absolute() else base, parent_id=parent, job_id=job,
        figures=_numbered(session, figures, {}), created_by=actor, created_at=now(),
    )  # fmt: skip
    session.add(row)
    session.flush()
    session.add_all(ModelExport(model_id=row.id, export_id=export) for export in dict.fromkeys(exports))
    return row


def at(session: Session, path: Path) -> ModelRow | None:
    """The model in a folder, where it was entered and the folder is still what it was."""
    same = (ModelRow.path == relative_path(session, path), ModelRow.manifest == manifest_hash(path))
    return session.scalar(select(ModelRow).where(*same))


def model(session: Session, model_id: str) -> ModelRow:
    """A model. Raises MissingError."""
    found = session.get(ModelRow, model_id)
    if found is None:
        raise MissingError(f"model {model_id}: there is no such model")
    return found


def models(session: Session) -> list[ModelRow]:
    """All, the newest first."""
    return list(session.scalars(select(ModelRow).order_by(ModelRow.created_at.desc(), ModelRow.id.desc())))


# ---- which labels --------------------------------------------------------------------------------------------------------


def _exports_of(model_id: str | None) -> Select[Any]:
    """(model, export) over a model's ancestors too; of every model when `model_id` is None."""
    start = select(ModelRow.id.label("model"), ModelRow.id.label("ancestor"), ModelRow.parent_id.label("parent"))
    if model_id is not None:
        start = start.where(ModelRow.id == model_id)
    line = start.cte("line", recursive=True)
    above = select(line.c.model, ModelRow.id, ModelRow.parent_id).join(ModelRow, ModelRow.id == line.c.parent)
    line = line.union(above)
    joined = select(line.c.model, ModelExport.export_id).join(ModelExport, ModelExport.model_id == line.c.ancestor)
    return joined.distinct()


def labels_of(model_id: str) -> Select[Any]:
    """Which labels shaped this model? One query: uuids of the labels in its exports and in those of its ancestors."""
    exports = _exports_of(model_id).subquery()
    found = select(ExportItem.label_uuid).join(exports, ExportItem.export_id == exports.c.export_id)
    return found.where(ExportItem.label_uuid != "").distinct()


def label_shares(session: Session, model_id: str) -> list[LabelShare]:
    """Who labelled what a model learned from, the busiest first."""
    uuids = labels_of(model_id).subquery()
    count = func.count(LabelRow.uuid)
    query = (
        select(LabelRow.labeller, LabelRow.labeller_kind, LabelRow.kind, count)
        .join(uuids, LabelRow.uuid == uuids.c.label_uuid)
        .group_by(LabelRow.labeller, LabelRow.labeller_kind, LabelRow.kind)
        .order_by(count.desc(), LabelRow.labeller, LabelRow.kind)
    )
    return [LabelShare(labeller=a, labeller_kind=b, kind=c, labels=n) for a, b, c, n in session.execute(query)]


def labels(session: Session, model_id: str, *, limit: int, offset: int = 0) -> list[LabelRow]:
    """A page of the labels that shaped a model, the oldest first."""
    uuids = labels_of(model_id).subquery()
    query = select(LabelRow).join(uuids, LabelRow.uuid == uuids.c.label_uuid).order_by(LabelRow.seq)
    return list(session.scalars(query.limit(limit).offset(offset)))


def exports_of(session: Session, model_id: str) -> list[ExportRow]:
    """The exports that a model and its ancestors learned from, the oldest first."""
    found = _exports_of(model_id).subquery()
    query = select(ExportRow).join(found, ExportRow.id == found.c.export_id).order_by(ExportRow.created_at, ExportRow.id)
    return list(session.scalars(query))


def ancestors(session: Session, model_id: str) -> list[ModelRow]:
    """The models that this one was trained from, the nearest first."""
    found: list[ModelRow] = []
    parent = model(session, model_id).parent_id
    while parent is not None:
        found.append(model(session, parent))
        parent = found[-1].parent_id
    return found


def models_of_exports(session: Session, exports: Select[Any]) -> list[ModelRow]:
    """Models that learned from one of these exports (a query of ids), or grew from such a model; the newest first."""
    line = _exports_of(None).subquery()
    taught = select(line.c.model).where(line.c.export_id.in_(exports))
    query = select(ModelRow).where(ModelRow.id.in_(taught)).order_by(ModelRow.created_at.desc(), ModelRow.id.desc())
    return list(session.scalars(query))


def withdrawn(session: Session) -> Withdrawn:
    """What was erased after it had been exported, by export and by model."""
    erased = select(Payload.id).where(Payload.erased_at.is_not(None)).subquery()
    gone = select(ExportItem.export_id, ExportItem.payload_id).join(erased, ExportItem.payload_id == erased.c.id).subquery()
    number = func.count(distinct(gone.c.payload_id)).label("number")
    by_export = session.execute(select(gone.c.export_id, number).group_by(gone.c.export_id))
    line = _exports_of(None).subquery()
    by_model = session.execute(
        select(line.c.model, number).join(gone, gone.c.export_id == line.c.export_id).group_by(line.c.model)
    )
    labels = func.count(distinct(ExportItem.label_uuid)).label("number")
    taken_back = select(ExportItem.export_id, labels).join(LabelRow, LabelRow.uuid == ExportItem.label_uuid)
    undone = session.execute(taken_back.where(LabelRow.state == "undone").group_by(ExportItem.export_id))
    return Withdrawn(
        exports={one.export_id: one.number for one in by_export}, models={one.model: one.number for one in by_model},
        undone={one.export_id: one.number for one in undone},
    )  # fmt: skip


# ---- what serves ---------------------------------------------------------------------------------------------------------


def serving(session: Session, name: str) -> ModelRow | None:
    """The model that was promoted to `name`; None: the one that the server was started with."""
    row = _last(session, name)
    return session.get(ModelRow, row.model_id) if row is not None and row.model_id is not None else None


def history(session: Session, *, limit: int = 200) -> list[ServingRow]:
    """Promotions and roll-backs, the newest first."""
    return list(session.scalars(select(ServingRow).order_by(ServingRow.id.desc()).limit(limit)))


def verdicts(session: Session, row: ModelRow) -> list[dict[str, Any]]:
    """Verdicts of judges on a model, the one that decides about promotion first (`promotion.ORDER`)."""
    comparison = row.figures.get("comparison") or {}
    points = _votes(session, list(comparison.get("tasks", [])))
    people = [promotion.people_verdict(points, attempt(row))] if points else []
    return promotion.ordered([*people, *comparison.get("verdicts", [])])


def deciding(session: Session, row: ModelRow) -> dict[str, Any] | None:
    """The verdict that decides; None when there is none that may."""
    return next((one for one in verdicts(session, row) if promotion.may_decide(one)), None)


def attempt(row: ModelRow) -> int:
    """Number of models compared with the same serving model up to this one, itself included."""
    return int((row.figures.get("comparison") or {}).get("attempt", 1))


def _next_attempt(session: Session, comparison: Mapping[str, Any]) -> int:
    """The number of a new comparison against the serving model that it names. Retrainings are few: all rows are read."""
    against = [comparison.get("against_id", CONFIGURED), comparison.get("against")]
    known = [row.figures.get("comparison") or {} for row in session.scalars(select(ModelRow))]
    same = [one for one in known if one and [one.get("against_id", CONFIGURED), one.get("against")] == against]
    return 1 + max((int(one.get("attempt", 1)) for one in same), default=0)


def _numbered(session: Session, figures: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Figures whose comparison has its attempt's number: the old one for the same verdicts, a new one for others."""
    comparison, before = figures.get("comparison"), known.get("comparison") or {}
    if not comparison:
        return dict(figures)
    same = bool(before) and before.get("verdicts") == comparison.get("verdicts")
    number = int(before.get("attempt", 1)) if same else _next_attempt(session, comparison)
    return {**figures, "comparison": {**comparison, "attempt": number}}


def _votes(session: Session, tasks: Sequence[str]) -> list[float]:
    """Points of the first vote of a person in each comparison of answer 0 (the model's) with answer 1, the oldest first."""
    points = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
    first: dict[str, float] = {}
    query = select(LabelRow).where(
        LabelRow.task_id.in_(tasks), LabelRow.labeller_kind == "human", LabelRow.state == "current"
    )
    for label in session.scalars(query.order_by(LabelRow.seq)):
        first.setdefault(label.task_id, points[str(label.value["verdict"])])
    return list(first.values())


def blocker(session: Session, row: ModelRow, name: str) -> Blocker:
    """Why a model may not be promoted to `name` without force (`promotion.shortfall`)."""
    comparison = row.figures.get("comparison") or {}
    found = verdicts(session, row)
    lacking = promotion.shortfall(found, attempt(row))
    if lacking.code == "never_compared":
        return lacking
    now_serving = serving(session, name)
    against, current = comparison.get("against_id", CONFIGURED), now_serving.id if now_serving else CONFIGURED
    if against != current:
        text = f"it was compared with {comparison.get('against', against)}, but another model serves as {name!r} now"
        return Blocker(code="other_serves", text=text)
    return lacking


def promote(session: Session, model_id: str, name: str, *, actor: str, reason: str = "", force: bool = False) -> ServingRow:
    """Let a model serve under `name` from now on. Raises GateError, unless forced with a reason, and MissingError."""
    row = model(session, model_id)
    why_not = blocker(session, row, name).text
    if why_not and not force:
        raise GateError(f"model {row.name}: {why_not}; promote it by force and say why, or retrain")
    if why_not and not reason.strip():
        raise UsageError("a promotion by force needs a reason; it is kept in the audit log")
    return _enter(session, name, row.id, "promoted", actor, reason.strip(), forced=bool(why_not))


def before(session: Session, name: str) -> tuple[str | None, bool]:
    """(model that served under `name` before the present one, whether there is a way back). None: the configured one."""
    steps = session.scalars(select(ServingRow).where(ServingRow.name == name).order_by(ServingRow.id))
    trail: list[str | None] = [None]
    for step in steps:
        if step.action == "rolled_back":
            trail.pop()
        else:
            trail.append(step.model_id)
    return (trail[-2], True) if len(trail) > 1 else (None, False)


def roll_back(session: Session, name: str, *, actor: str, reason: str = "") -> ServingRow:
    """Let the model before the present one serve again. UsageError when nothing was promoted."""
    target, possible = before(session, name)
    if not possible:
        message = f"{name!r}: serves the model that the server was started with; there is nothing to roll back"
        raise UsageError(message, code="nothing_before")
    return _enter(session, name, target, "rolled_back", actor, reason.strip(), forced=False)


def _last(session: Session, name: str) -> ServingRow | None:
    return session.scalar(select(ServingRow).where(ServingRow.name == name).order_by(ServingRow.id.desc()).limit(1))


def _enter(
    session: Session, name: str, model_id: str | None, action: str, actor: str, reason: str, *, forced: bool
) -> ServingRow:
    row = ServingRow(name=name, model_id=model_id, action=action, reason=reason, forced=forced, actor=actor, at=now())
    session.add(row)
    session.flush()
    return row
