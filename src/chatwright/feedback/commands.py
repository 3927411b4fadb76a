"""`chatwright feedback merge | export`, `chatwright jobs run`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright.errors import ConfigError, UsageError
from chatwright.feedback import consent, withdrawals
from chatwright.feedback import export as exporting
from chatwright.feedback.judges import configured_judges
from chatwright.feedback.projects import Project, default_project, project_of, projects
from chatwright.feedback.purge import purge
from chatwright.feedback.tables import ProjectRow
from chatwright.feedback.worker import Limits, Worker
from chatwright.progress import console
from chatwright.workspace.database import Workspace, require_workspace
from chatwright.workspace.filesystem import refuse_network_sqlite
from chatwright.workspace.migrations import BACKUPS, prepare

LabellerKind = Literal["human", "simulated", "ai"]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Freeze a workspace's labels into a folder to train on. The server may be running."""

    workspace: str = "workspace"
    """Folder of the workspace."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    out: str
    """New folder; a copy of the one that the workspace keeps in exports/."""
    project: str = ""
    """Name or id of the project; empty: all."""
    labeller_kinds: tuple[LabellerKind, ...] = ("human", "simulated", "ai")
    """Whose labels."""
    languages: tuple[str, ...] = ()
    """Languages; empty: all."""
    rankings: Literal["labels", "merged"] = "labels"
    """A row per label, or per task with the merged order."""
    purge_withdrawn: bool = False
    """Then delete the folders of earlier exports in the workspace that hold texts withdrawn since. Their records stay, and
    the models that learned from them stay marked; copies made with --out are yours to delete."""


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Merge the labels of every complete ranking into one order, or ask an adjudicator. The server may be running."""

    workspace: str = "workspace"
    """Folder of the workspace."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    project: str = ""
    """Name or id of the project; empty: all that are not archived."""
    method: Literal["", "ranked_pairs", "borda", "bradley_terry", "plackett_luce"] = ""
    """ranked_pairs: majorities, the strongest first; borda: mean share of answers beaten; bradley_terry and plackett_luce:
    fitted strengths, each labeller weighted by reliability. Empty: the project's."""
    adjudicate_below: float = -1.0
    """Share of pairs on which labellers have to agree, or an adjudicator decides: 1 asks for unanimity, 0 for nothing.
    Below 0: the project's."""

    def __post_init__(self) -> None:
        if self.adjudicate_below > 1:
            raise ConfigError(f"adjudicate_below {self.adjudicate_below}: is a share, at most 1")


@dataclass(frozen=True, kw_only=True)
class WithdrawConfig:
    """Erase the texts of a person whom imported rows name. The server may be running.

    People with an account withdraw in their settings, or an administrator does it for them (page Intake)."""

    workspace: str = "workspace"
    """Folder of the workspace."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    imported_user: str
    """The person, as the `user` field of the imported rows names them."""


@dataclass(frozen=True, kw_only=True)
class JobsConfig:
    """Run the jobs of a workspace; `chatwright serve` does so itself, unless it was started with --no-jobs."""

    workspace: str = "workspace"
    """Folder of the workspace."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    until_empty: bool = False
    """End when no job is left."""
    threads: int = 0
    """Threads of arithmetic of a training job; 0: all cores but one. A labelling job, which runs beside it, gets one."""
    allow_network_sqlite: bool = False
    """Start with SQLite on a network file system (NFS, SMB). Only where no other machine opens the workspace."""
    nice: int = 10
    """Added to the jobs' priority number."""
    judge: tuple[str, ...] = ()
    """AI judges that labelling jobs may name, as `name=model@http://host:port/v1`; keys as for `serve --judge`."""


@contextmanager
def opened(folder: str, database: str, *, begin: bool = False) -> Iterator[Workspace]:
    """A migrated workspace; UsageError when there is none (and `begin` does not say to make one)."""
    from importlib import import_module

    url = database or os.environ.get("CHATWRIGHT_DATABASE_URL", "")
    if not begin:
        require_workspace(folder, url, "; `chatwright demo-desk` or `chatwright serve` begins one")
    import_module("chatwright.feedback.tables")
    with Workspace.open(folder, url) as workspace:
        prepare(workspace)
        withdrawals.apply_again(workspace)
        yield workspace


def project_named(session: Session, name: str) -> Project:
    """The project of this name or id; the first one for "". Raises UsageError."""
    if not name:
        return default_project(session)
    found = session.scalar(select(ProjectRow.id).where((ProjectRow.name == name) | (ProjectRow.id == name)))
    if found is None:
        known = ", ".join(session.scalars(select(ProjectRow.name).order_by(ProjectRow.name))) or "none"
        raise UsageError(f"project {name!r}: there is no such project; known: {known}")
    return project_of(session, found)


def export(cfg: ExportConfig) -> None:
    """Export labels; prints counts and the export's id."""
    chosen = exporting.ExportFilter(
        project=cfg.project, labeller_kinds=cfg.labeller_kinds, languages=cfg.languages, rankings=cfg.rankings
    )
    with opened(cfg.workspace, cfg.database) as workspace:
        made = exporting.export(workspace, chosen, actor="cli", out=Path(cfg.out))
        purged = purge(workspace, keep=made.id).exports if cfg.purge_withdrawn else ()
    for split, files in made.counts.items():
        console().print(f"{split}: " + ", ".join(f"{number} {name}" for name, number in files.items()))
    for reason, number in sorted(made.left_out.items()):
        console().print(f"left out: {number}, {reason}")
    for identity in purged:
        console().print(f"deleted: export {identity}, which held texts that were withdrawn since")
    print(f"{cfg.out}: export {made.id}")


def withdraw(cfg: WithdrawConfig) -> None:
    """Erase; prints how many texts, and what remains. UsageError for an empty name."""
    if not cfg.imported_user.strip():
        raise UsageError("--imported-user: is empty")
    with opened(cfg.workspace, cfg.database) as workspace:
        subjects = consent.imported_subjects(consent.subject_key(workspace.folder), cfg.imported_user)
        withdrawals.note(workspace, subjects)
        with workspace.session() as session:
            erased = withdrawals.erase(session, subjects, actor="cli")
        wiped = consent.wipe(workspace)
        purge(workspace)
        with workspace.reading() as session:
            left = withdrawals.remains(workspace, session, subjects)
            for model in left.models:
                console().print(f"remains: model {model.name} ({model.manifest[:12]}) has learned from them; it is marked")
            for copy in left.copies:
                console().print(f"remains: copy of export {copy.export_id[:12]}: {copy.place} ({copy.actor}); delete it")
            for name in left.backups:
                console().print(f"remains: {workspace.folder / BACKUPS / name}; a restore applies the withdrawal again")
    if not wiped:
        console().print("a reader kept old pages of the database's log; they go with its next checkpoint")
    print(f"erased: {erased} texts; deleted: {len(left.exports)} exports that held them")


def merge(cfg: MergeConfig) -> None:
    """Merge; prints what became of the tasks of each project."""
    from chatwright.feedback.merging import merge_project  # numpy, which the other commands do without

    below = None if cfg.adjudicate_below < 0 else cfg.adjudicate_below
    with opened(cfg.workspace, cfg.database) as workspace:
        with workspace.reading() as session:
            chosen = [project_named(session, cfg.project)] if cfg.project else projects(session)
        for project in chosen:
            done = merge_project(workspace, project.id, actor="cli", method=cfg.method or None, adjudicate_below=below)
            console().print(
                f"{project.name} ({done.method}): {done.merged} merged, {done.adjudicate} sent to an adjudicator, "
                f"{done.waiting} waiting for one, {done.unjudged} closed because nobody could judge, {done.cycles} circles"
            )


def run_jobs(cfg: JobsConfig) -> None:
    """Work until Ctrl-C or SIGTERM."""
    limits = Limits(nice=cfg.nice, threads=cfg.threads) if cfg.threads else Limits(nice=cfg.nice)
    database = cfg.database or os.environ.get("CHATWRIGHT_DATABASE_URL", "")
    refuse_network_sqlite(cfg.workspace, database, allow=cfg.allow_network_sqlite)
    with opened(cfg.workspace, database) as workspace:
        worker = Worker(workspace, limits=limits, judges=configured_judges(cfg.judge))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.ask_to_stop())
        worker.run(until_empty=cfg.until_empty)
