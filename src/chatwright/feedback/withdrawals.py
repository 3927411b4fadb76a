"""Withdrawals: which were asked for, and what each still finds in the workspace.

The journal `withdrawals.jsonl` in the workspace folder outlives the database: a backup that is older than a withdrawal
brings the texts back, and every start applies the journal again. It names people by their digests only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from chatwright.errors import DataError
from chatwright.feedback import consent, store
from chatwright.feedback.jobs_tables import ExportCopy, ExportItem, ExportRow, ModelRow
from chatwright.feedback.lineage import models_of_exports
from chatwright.feedback.purge import purge
from chatwright.feedback.tables import Payload
from chatwright.workspace.backup import WITHDRAWALS
from chatwright.workspace.database import Workspace, now
from chatwright.workspace.migrations import BACKUPS


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A line of the journal."""

    at: float
    """Seconds since 1970."""
    subjects: tuple[str, ...]
    """Digests of the person, under the workspace's key."""


@dataclass(frozen=True, kw_only=True)
class Remains:
    """Things that a withdrawal cannot erase."""

    models: tuple[ModelRow, ...] = ()
    """Models that learned from exports with the texts, or from such models; the newest first."""
    copies: tuple[ExportCopy, ...] = ()
    """Downloads, and copies by `--out`, of these exports; the oldest first."""
    exports: tuple[ExportRow, ...] = ()
    """These exports. Their folders in the workspace are deleted."""
    backups: tuple[str, ...] = ()
    """Names in the workspace's `backups/`: they were made before the texts were erased."""


def note(workspace: Workspace, subjects: Sequence[str]) -> float:
    """Write a withdrawal into the journal, before anything is erased: after a crash the next start completes it. Returns
    its time."""
    at = now()
    descriptor = os.open(workspace.folder / WITHDRAWALS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        file.write(json.dumps({"at": at, "subjects": list(subjects)}).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return at


def noted(folder: Path) -> Iterator[Asked]:
    """Withdrawals of the journal, the oldest first; a last line that a crash cut off counts as not written. DataError for
    other damage."""
    try:
        lines = (folder / WITHDRAWALS).read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            yield Asked(at=float(row["at"]), subjects=tuple(map(str, row["subjects"])))
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                return
            raise DataError(f"{folder / WITHDRAWALS}:{number}: is damaged; bring the file back from a backup") from error


def erase(session: Session, subjects: Sequence[str], *, actor: str) -> int:
    """Erase the texts of these digests. Returns their number."""
    return sum(consent.withdraw(session, subject, actor=actor) for subject in subjects)


def apply_again(workspace: Workspace) -> int:
    """Erase what the journal names and an older database has brought back. Returns the number of texts."""
    found = 0
    for asked in noted(workspace.folder):
        for subject in asked.subjects:
            with workspace.session() as session:
                if session.scalar(select(Payload.id).where(*store.live_texts(subject, asked.at)).limit(1)) is not None:
                    found += consent.withdraw(session, subject, actor="server", before=asked.at)
    if found:
        consent.wipe(workspace)
        purge(workspace)
    return found


def last_asked(workspace: Workspace, subjects: Sequence[str]) -> float | None:
    """When the person has withdrawn last; None: never."""
    return max((one.at for one in noted(workspace.folder) if set(one.subjects) & set(subjects)), default=None)


def remains(workspace: Workspace, session: Session, subjects: Sequence[str]) -> Remains:
    """Known remains of a person's erased texts. Copies of copies are not."""
    mine = select(Payload.id).where(Payload.subject.in_(subjects), Payload.erased_at.is_not(None))
    erased_at = session.scalar(select(func.max(Payload.erased_at)).where(Payload.subject.in_(subjects)))
    if erased_at is None:
        return Remains()
    holds = select(ExportItem.export_id).where(ExportItem.payload_id.in_(mine)).distinct()
    exports = session.scalars(select(ExportRow).where(ExportRow.id.in_(holds)).order_by(ExportRow.created_at, ExportRow.id))
    copies = session.scalars(select(ExportCopy).where(ExportCopy.export_id.in_(holds)).order_by(ExportCopy.id))
    return Remains(
        models=tuple(models_of_exports(session, holds)), copies=tuple(copies), exports=tuple(exports),
        backups=tuple(_backups_before(workspace.folder / BACKUPS, erased_at)),
    )  # fmt: skip


def _backups_before(folder: Path, erased_at: float) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.stat().st_mtime <= erased_at)
