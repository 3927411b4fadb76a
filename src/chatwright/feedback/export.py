"""Labels out of the store, as a frozen folder to train on:

    train/rankings.jsonl  train/demonstrations.jsonl  train/prompts.jsonl  train/ratings.jsonl
    held_out/...          the same of users (or, for texts of nobody, prompts) that are kept aside
    DATA_CARD.md          what is in it and what was left out, because
    MANIFEST.json         sha256 and size of every file; its own sha256 is the export's id

The same state and filters give the same bytes. What was withdrawn is not in it. The database keeps which label and which
text went into which export, so that models which learned from it can be found.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from chatwright.errors import ConfigError, DataError, UsageError
from chatwright.feedback.export_rows import FILES, SPLITS, Rows, read_items
from chatwright.feedback.jobs_tables import ExportCopy, ExportItem, ExportRow
from chatwright.feedback.tables import ProjectRow
from chatwright.workspace.database import Workspace, now, relative_path

MANIFEST = "MANIFEST.json"
KINDS = ("human", "simulated", "ai")
_CARD = "DATA_CARD.md"
_HASH_DIGITS = 16  # of the id, in the name of a folder


@dataclass(frozen=True, kw_only=True)
class ExportFilter:
    """Which labels."""

    project: str = ""
    """Name of the project; empty: all."""
    labeller_kinds: tuple[str, ...] = KINDS
    """Whose: human, simulated, ai."""
    languages: tuple[str, ...] = ()
    """Languages of tasks; empty: all."""
    rankings: Literal["labels", "merged"] = "labels"
    """One row per label, or one per task with the merged order. A merged order is made of labels of every kind, so it needs
    all of `labeller_kinds`."""

    def __post_init__(self) -> None:
        if unknown := set(self.labeller_kinds) - set(KINDS):
            raise ConfigError(f"labeller_kinds: {min(unknown)} is not one of {', '.join(KINDS)}")
        if not self.labeller_kinds:
            raise ConfigError("labeller_kinds: name at least one of human, simulated, ai")
        if self.rankings == "merged" and set(self.labeller_kinds) != set(KINDS):
            raise ConfigError(
                "rankings merged: a merged order is made of labels of every kind; leave labeller_kinds out, or take "
                "rankings labels, which keeps single labels of the kinds that are named"
            )


@dataclass(frozen=True, kw_only=True)
class Export:
    """A frozen folder."""

    id: str
    """sha256 of its manifest."""
    path: Path
    counts: Mapping[str, Mapping[str, int]]
    """Split -> file -> rows."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> rows."""

    def file(self, split: str, name: str) -> Path:
        """`file("train", "rankings")`."""
        return self.path / split / f"{name}.jsonl"


def export(workspace: Workspace, chosen: ExportFilter, *, actor: str, out: Path | None = None) -> Export:
    """Freeze what the store holds now; `out` gets a copy. Raises UsageError for an unknown project or an `out` in use."""
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; an export goes into a folder")
    place = workspace.folder.absolute() / "exports"
    place.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".export-", dir=place))
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=place) as items:
        try:
            with workspace.reading() as session:
                if not workspace.is_sqlite:
                    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})  # one snapshot, as SQLite's
                rows = Rows(session, _project_id(session, chosen.project), chosen.labeller_kinds, chosen.languages)
                rows.write(aside, items, merged=chosen.rankings == "merged")
            counts = {split: {name: rows.counts[split, name] for name in FILES} for split in SPLITS}
            frozen = _freeze(aside, place, chosen, counts, rows)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        _record(workspace, frozen, chosen, items, actor)
    if out is not None:
        _copy(frozen, out)
        note_copy(workspace, frozen.id, "folder", str(out.resolve()), actor)
    return frozen


def freeze(workspace: Workspace, *, actor: str, **chosen: Any) -> str:
    """`export` with the fields of a filter; returns the export's id. For `apart.run_apart`."""
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()}
    return export(workspace, ExportFilter(**lists), actor=actor).id  # type: ignore[arg-type]


def _project_id(session: Session, name: str) -> str:
    if not name:
        return ""
    found = session.scalar(select(ProjectRow.id).where((ProjectRow.name == name) | (ProjectRow.id == name)))
    if found is None:
        known = ", ".join(session.scalars(select(ProjectRow.name).order_by(ProjectRow.name))) or "none"
        raise UsageError(f"project {name!r}: there is no such project; known: {known}")
    return found


def _freeze(
    aside: Path, place: Path, chosen: ExportFilter, counts: Mapping[str, Mapping[str, int]], rows: Rows
) -> Export:
    """Card and manifest, then the name that follows from them."""
    (aside / _CARD).write_text(_card(chosen, counts, rows), encoding="utf-8")
    about = {"kind": "export", "format": 1, "filters": asdict(chosen), "counts": counts, "left_out": dict(rows.left_out)}
    manifest = {"files": dict(_hashes(aside)), **about}
    text = json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    (aside / MANIFEST).write_text(text, encoding="utf-8")
    identity = hashlib.sha256(text.encode()).hexdigest()
    final = place / identity[:_HASH_DIGITS]
    if not final.exists():
        aside.chmod(0o700)
        for path in [aside, *aside.rglob("*")]:
            _sync(path)
        aside.rename(final)
        _sync(place)
    else:
        verify(final)
    return Export(id=identity, path=final, counts=counts, left_out=dict(rows.left_out))


def verify(folder: Path) -> str:
    """The id of an export. Raises DataError when a file is not what the manifest says."""
    try:
        text = (folder / MANIFEST).read_bytes()
        manifest = json.loads(text)
        listed = {name: entry["sha256"] for name, entry in manifest["files"].items()}
        if manifest.get("kind") != "export":
            raise ValueError("kind")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / MANIFEST}: is missing or damaged; this is not an export") from error
    found = {name: entry["sha256"] for name, entry in _hashes(folder)}
    for name in sorted(set(listed) | set(found)):
        if listed.get(name) != found.get(name):
            raise DataError(f"{folder / name}: is not what {MANIFEST} says; an export is never changed")
    return hashlib.sha256(text).hexdigest()


def read(folder: Path) -> Export:
    """An export from its folder. Raises DataError when it was changed."""
    identity = verify(folder)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return Export(id=identity, path=folder, counts=manifest["counts"], left_out=manifest["left_out"])


def _hashes(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield path.relative_to(folder).as_posix(), {"sha256": digest, "bytes": path.stat().st_size}


def _record(workspace: Workspace, frozen: Export, chosen: ExportFilter, items: TextIO, actor: str) -> None:
    """Enter an export. Its path comes last: until then it is not listed. Items go in by parts, so that labellers' writes do
    not wait for hundreds of thousands of rows."""
    with workspace.session() as session:
        known = session.get(ExportRow, frozen.id)
        complete = known is not None and known.path != ""
        if known is None:
            counts = {**frozen.counts, "left_out": dict(frozen.left_out)}
            session.add(
                ExportRow(
                    id=frozen.id, path="", filters=asdict(chosen), counts=counts, created_by=actor, created_at=now()
                )  # fmt: skip
            )
    for some in read_items(items) if not complete else ():
        with workspace.session() as session:
            values = [
                {"export_id": frozen.id, "task_id": item.task, "label_uuid": item.label, "payload_id": item.payload}
                for item in some
            ]
            insert = sqlite.insert if workspace.is_sqlite else postgresql.insert
            session.execute(insert(ExportItem).on_conflict_do_nothing(), values)
    with workspace.session() as session:
        session.get_one(ExportRow, frozen.id).path = relative_path(session, frozen.path)


def note_copy(workspace: Workspace, export_id: str, kind: Literal["download", "folder"], place: str, actor: str) -> None:
    """Remember where a copy went: after a withdrawal it has to be deleted by hand."""
    with workspace.session() as session:
        session.add(ExportCopy(export_id=export_id, kind=kind, place=place, actor=actor, at=now()))


def _copy(frozen: Export, out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        if verify(out) != frozen.id:
            raise UsageError(f"{out}: holds another export; one is never changed, use a new --out")
        return
    shutil.copytree(frozen.path, out, dirs_exist_ok=True)


def _card(chosen: ExportFilter, counts: Mapping[str, Mapping[str, int]], rows: Rows) -> str:
    """The data card. No times: the same state gives the same bytes."""
    lines = ["# Data card", "", "Labels of a Chatwright workspace.", "", "| split | " + " | ".join(FILES) + " |"]
    lines.append("|" + "---|" * (len(FILES) + 1))
    lines += [f"| {split} | " + " | ".join(str(counts[split][name]) for name in FILES) + " |" for split in SPLITS]
    lines += ["", f"Project: {chosen.project or 'all'}. Labellers: {', '.join(chosen.labeller_kinds)}."]
    lines += [f"Languages: {', '.join(chosen.languages) or 'all'}. Rankings: {chosen.rankings}.", ""]
    for title, counted in (("labeller", rows.by_labeller_kind), ("source of prompts", rows.by_source)):
        lines += [f"| {title} | rows |", "|---|---|", *(f"| {name} | {n} |" for name, n in _sorted(counted)), ""]
    lines += ["Left out, because:", "", *(f"* {reason}: {n}" for reason, n in _sorted(rows.left_out))]
    if not rows.left_out:
        lines.append("* nothing was")
    lines += [
        "", "Split by the hash of the person a prompt came from, or of the prompt where it is nobody's: nobody is in both",
        "splits, and no prompt of the held-out part is in the training part.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _sorted(counted: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counted.items())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
