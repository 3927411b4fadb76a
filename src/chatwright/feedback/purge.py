"""Deletes files of the workspace that hold withdrawn texts: exports, the texts in run folders, and jobs that train on them.

An export is never changed, so it goes as a whole. Of a run that learned from it, weights, settings and metrics stay. The
records stay: which texts were in an export, and which models learned from it, is still known.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright.feedback.jobs_tables import ExportItem, ExportRow, JobEffect, JobRow, ModelExport, ModelRow
from chatwright.feedback.tables import Payload
from chatwright.workspace.database import Workspace, located_path, now

WITHDRAWN_MESSAGE = "the texts of its export were withdrawn; start it again, without them"
_KEPT = {
    "MANIFEST.json", "config.toml", "inputs.json", "metrics.jsonl", "result.json", "report_card.json", "report_card.txt",
    "chain.json", "kl.json", ".lock",
}  # fmt: skip
"""Files of a run that hold settings, counts and hashes."""
_WEIGHTS = (".safetensors", ".gguf")
"""Suffixes of weights; a folder with such a file is a model's or a checkpoint's."""


@dataclass(frozen=True, kw_only=True)
class Purged:
    """Counts of deleted things."""

    exports: tuple[str, ...] = ()
    """Ids of exports whose folder was there."""
    files: tuple[Path, ...] = ()
    """Files of run folders."""


def purge(workspace: Workspace, *, keep: str = "") -> Purged:
    """Delete what holds withdrawn texts, except the export with the id `keep`. Safe to call at any time, and again."""
    erased = select(Payload.id).where(Payload.erased_at.is_not(None))
    holds = select(ExportItem.export_id).where(ExportItem.payload_id.in_(erased)).distinct()
    with workspace.session() as session:
        wanted = (ExportRow.id.in_(holds), ExportRow.id != keep)
        rows = session.scalars(select(ExportRow).where(*wanted).order_by(ExportRow.id)).all()
        _end_jobs(session, [row.path for row in rows if row.path])
        exports = {row.id: located_path(session, row.path) for row in rows if row.path}
        runs = _runs(workspace, session, [row.id for row in rows])
    purged = _delete_exports(workspace.folder / "exports", exports)
    files = [path for run in runs for path in _delete_texts(run)]
    return Purged(exports=tuple(purged), files=tuple(files))


def _end_jobs(session: Session, paths: Iterable[str]) -> None:
    """Cancel jobs that work on these exports. A job keeps its export over a restart, so it would look for it in vain."""
    gone = set(paths)
    alive = select(JobEffect).join(JobRow, JobRow.id == JobEffect.job_id).where(JobRow.state.in_(("queued", "running")))
    for effect in session.scalars(alive.where(JobEffect.name == "planned")):
        if effect.data.get("export") in gone:
            job = session.get_one(JobRow, effect.job_id, with_for_update=True)
            job.cancel, job.message = True, WITHDRAWN_MESSAGE
            if job.state == "queued":
                job.state, job.ended_at = "cancelled", now()


def _runs(workspace: Workspace, session: Session, exports: list[str]) -> list[Path]:
    """Folders of `models/` that were made from these exports: those of registered models, and of runs that were not
    finished, whose names begin with their export's id (`pipeline/retrain.py`)."""
    place = (workspace.folder / "models").resolve()
    registered = select(ModelRow).join(ModelExport, ModelExport.model_id == ModelRow.id)
    found = set()
    for row in session.scalars(registered.where(ModelExport.export_id.in_(exports))):
        path = located_path(session, row.path).resolve()
        if path.is_relative_to(place) and path != place:
            found.add(place / path.relative_to(place).parts[0])
    for export in exports:
        found |= set(place.glob(f"{export[:8]}-*"))
    return sorted(path for path in found if path.is_dir())


def _delete_exports(place: Path, exports: dict[str, Path]) -> Iterator[str]:
    if not place.is_dir():
        return
    for left in place.glob(".purged-*"):  # of a purge that was cut off
        shutil.rmtree(left)
    for identity, folder in exports.items():
        if folder.resolve().parent == place.resolve() and folder.is_dir():
            aside = folder.with_name(f".purged-{folder.name}")
            folder.rename(aside)  # no half of an export is ever found under its name
            shutil.rmtree(aside)
            yield identity
    _sync(place)


def _delete_texts(run: Path) -> Iterator[Path]:
    """Delete every file of a run that is not known to hold no texts, and take it out of the manifests. Folders with weights
    stay as they are."""
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and not path.is_symlink()]
    models = {path.parent for path in files if path.suffix in _WEIGHTS}
    deleted = []
    for path in files:
        if path.name not in _KEPT and not models & {path.parent, *path.parent.parents}:
            path.unlink()
            deleted.append(path)
    for manifest in {folder / "MANIFEST.json" for path in deleted for folder in (path.parent, *path.parent.parents)}:
        if manifest.is_relative_to(run) and manifest.is_file():
            _forget(manifest, deleted)
    yield from deleted


def _forget(manifest: Path, deleted: Iterable[Path]) -> None:
    gone = {path.relative_to(manifest.parent).as_posix() for path in deleted if path.is_relative_to(manifest.parent)}
    content = json.loads(manifest.read_text(encoding="utf-8"))
    if not gone & set(content.get("files", ())):
        return
    content["files"] = {name: entry for name, entry in content["files"].items() if name not in gone}
    aside = manifest.with_name(".MANIFEST.json.new")
    aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(manifest)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
