"""Files of any format that `data import` reads into a workspace: labels, samples to be ranked, prompts.

Rows of ours go in as they stand; rows of other formats are converted first. Every row is accounted for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from chatwright.data.accounts import account_lines, summary
from chatwright.data.importers.base import LeftOut
from chatwright.data.importing import Format, Imported, Row, checked, each_row
from chatwright.errors import DataError, UsageError
from chatwright.feedback.commands import opened, project_named
from chatwright.feedback.importing import SHOWN_BAD, ImportSettings, import_rows
from chatwright.feedback.importing import Imported as Stored
from chatwright.feedback.projects import Project
from chatwright.jsonl import IN_MEMORY
from chatwright.progress import console
from chatwright.records import LabelledAnswer
from chatwright.workspace.database import Workspace, require_workspace

NO_TASK = "an answer marked good or bad, for which a workspace has no task; `chatwright data import` keeps it"
RAW_TEXT = "raw text, which is no prompt"


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Take rankings, demonstrations, samples to be ranked, or prompts into a workspace. The server may be running."""

    data: tuple[str, ...]
    """Files: Chatwright's JSON lines, or any format that `chatwright data import` reads."""
    from_: Annotated[Format, tyro.conf.arg(name="from")] = "auto"
    """Format of the files; auto looks at every row."""
    encoding: str = ""
    """Encoding of text that is not UTF-8: cp1252, gb18030, big5, shift_jis, ...; empty: UTF-8, or what is beyond doubt."""
    workspace: str = "workspace"
    """Folder of the workspace; it must exist, or `--new` makes it."""
    new: bool = False
    """Make the workspace when there is none."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    project: str = ""
    """Name or id of the project; empty: the first one."""
    language: str = "en"
    """Language of rows that name none."""
    labeller_kind: Literal["", "human", "simulated", "ai"] = ""
    """Labeller of rows that name none; empty: such rows are refused."""
    held_out: float = 0.1
    """Share of users (prompts, where rows name no `user`) that is kept aside."""


@dataclass(frozen=True, kw_only=True)
class DeskImport:
    """Result of one file."""

    account: Imported
    """Of the file: every row that was read."""
    stored: Stored
    """Of the rows that were handed to the workspace."""

    @property
    def num_bad(self) -> int:
        """Rows that were damaged, or that the workspace could not use."""
        return len(self.account.bad) + self.stored.num_bad

    def reasons(self, remedy: str) -> list[str]:
        """Why, one text each; `remedy` tells what to do about labels of an unknown kind."""
        return [str(error) for error in self.account.bad] + self.stored.reasons(str(self.account.path), remedy)


def import_file(
    workspace: Workspace, project: Project, path: str | Path, settings: ImportSettings, *, actor: str,
    file_format: Format = "auto", encoding: str = "", shown: str | Path = "",
) -> DeskImport:  # fmt: skip
    """Take in one file. DataError when it cannot be read, or holds nothing that is known."""
    account, converted = each_row(path, file_format, encoding, shown)
    rows: list[tuple[int, Mapping[str, Any]]] = []
    for row in converted:
        row = _for_desk(row)
        account.take(row)
        line = row.places[0].line or 0
        rows += [(line, one) for one in _desk_rows(row)]
    checked(account)
    stored = import_rows(workspace, project, lambda: rows, str(account.path), settings, actor=actor)
    return DeskImport(account=account, stored=stored)


def _for_desk(row: Row) -> Row:
    """The row with a reason in place of what a workspace has no task for."""
    if isinstance(row.found, DataError):
        return row
    if row.format == "corpus":
        return row._replace(format="text", found=[LeftOut(RAW_TEXT)])
    return row._replace(found=[LeftOut(NO_TASK) if isinstance(item, LabelledAnswer) else item for item in row.found])


def _desk_rows(row: Row) -> list[Mapping[str, Any]]:
    """Rows for the workspace: our own rows as they stand, so that a file taken in twice is known the second time."""
    if isinstance(row.found, DataError):
        return []
    records = [item for item in row.found if not isinstance(item, LeftOut)]
    if row.format == "chatwright" and len(records) == 1 and isinstance(row.raw, dict) and _is_plain(row.raw, records[0]):
        return [row.raw]
    return [record.to_dict() for record in records]


def _is_plain(raw: Mapping[str, Any], record: Any) -> bool:
    """True when our own readers take the row without a conversion."""
    try:
        type(record).from_dict(raw, IN_MEMORY)
    except DataError:
        return False
    return True


def import_(cfg: ImportConfig) -> None:
    """Import files; prints what became of every row. DataError when a row could not be used (the others were)."""
    if not cfg.data:
        raise UsageError("no file given; name one or more data files")
    if not cfg.new:
        url = cfg.database or os.environ.get("CHATWRIGHT_DATABASE_URL", "")
        require_workspace(cfg.workspace, url, "; check its name, or give --new to make it")
    settings = ImportSettings(language=cfg.language, labeller_kind=cfg.labeller_kind, held_out=cfg.held_out)
    bad: list[str] = []
    num_bad = 0
    with opened(cfg.workspace, cfg.database, begin=cfg.new) as workspace:
        with workspace.session() as session:
            project = project_named(session, cfg.project)
        for path in cfg.data:
            done = import_file(workspace, project, path, settings, actor="cli", file_format=cfg.from_, encoding=cfg.encoding)
            _print(path, done)
            num_bad += done.num_bad
            bad += done.reasons("say with --labeller-kind who made the labels: human, simulated or ai")
    if bad:
        shown = "\n".join(f"  {reason}" for reason in bad[:SHOWN_BAD])
        rows = "1 row" if num_bad == 1 else f"{num_bad} rows"
        raise DataError(f"{rows} could not be used (the others were taken in):\n{shown}")


def _print(path: str, done: DeskImport) -> None:
    stored = done.stored
    console().print(f"{path}: {summary(done.account)}", soft_wrap=True)
    for line in account_lines(done.account):
        console().print(f"  {line}", soft_wrap=True)
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(stored.kinds.items())) or "nothing"
    new = f"{stored.tasks} new tasks, {stored.labels} new labels ({stored.surplus} surplus), {stored.known} known before"
    console().print(f"{path}: {kinds}; {new}", soft_wrap=True)
