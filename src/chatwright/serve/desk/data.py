"""Import over HTTP: rows of Chatwright's JSON lines become tasks and labels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from chatwright.errors import DataError, MissingError, UsageError
from chatwright.feedback.commands import project_named
from chatwright.feedback.importing import SHOWN_BAD, ImportSettings, import_rows
from chatwright.jsonl import Where, parse
from chatwright.serve import audit
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.desk.wire_loop import Import, Imported
from chatwright.serve.openai.errors import responses
from chatwright.serve.services import services

router = APIRouter(prefix="/api/desk", tags=["desk"], responses=responses(400, 401, 403, 404))


@router.post("/import")
def take_in(request: Request, who: Annotated[Principal, Depends(require_user("lead"))], given: Import) -> Imported:
    """Take rows in: rankings and demonstrations as labels, samples and prompts as tasks. Sending them again is harmless."""
    workspace = services(request).workspace
    name = " ".join(given.file.split()) or "rows"
    with workspace.session() as session:
        try:
            project = project_named(session, given.project)
        except UsageError as error:
            raise MissingError(str(error)) from error
    settings = ImportSettings(labeller_kind=given.labeller_kind)
    done = import_rows(workspace, project, partial(_rows, given.rows, name), name, settings, actor=who.id)
    with workspace.session() as session:
        counts = {"tasks": done.tasks, "labels": done.labels, "bad": len(done.bad)}
        audit.record(session, request, who.id, "rows.imported", project.id, **counts)
    return Imported(
        tasks=done.tasks, labels=done.labels, surplus=done.surplus, known=done.known, kinds=dict(done.kinds),
        bad=[str(error) for error in done.bad[:SHOWN_BAD]], num_bad=len(done.bad),
    )  # fmt: skip


def _rows(text: str, name: str) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    """As `jsonl.read_lines` reads a file."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if line.strip():
            where = Where(name, number)
            try:
                row = parse(line, where)
                yield number, row if isinstance(row, dict) else where.error("line", "must be a JSON object")
            except DataError as error:
                yield number, error
