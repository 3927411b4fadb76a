"""Import over HTTP: files of any format that `chatwright data import` reads become tasks and labels."""

from __future__ import annotations

import base64
import binascii
import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from chatwright.errors import DataError, MissingError, UsageError
from chatwright.feedback.commands import project_named
from chatwright.feedback.importing import SHOWN_BAD, ImportSettings
from chatwright.labellers.desk_import import DeskImport, import_file
from chatwright.serve import audit
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.desk.wire_loop import Import, Imported
from chatwright.serve.openai.errors import responses
from chatwright.serve.services import services

router = APIRouter(prefix="/api/desk", tags=["desk"], responses=responses(400, 401, 403, 404))
_SUFFIXES = (".csv", ".tsv", ".xlsx", ".json", ".jsonl", ".txt")


@router.post("/import")
def take_in(request: Request, who: Annotated[Principal, Depends(require_user("lead"))], given: Import) -> Imported:
    """Take a file in: rankings and demonstrations as labels, samples and prompts as tasks. Sending it again is harmless.

    A file of which nothing can be read is answered with 400; rows that could not be used are counted and named.
    """
    workspace = services(request).workspace
    name = " ".join(given.file.split()) or "rows"
    with workspace.session() as session:
        try:
            project = project_named(session, given.project)
        except UsageError as error:
            raise MissingError(str(error)) from error
    settings = ImportSettings(labeller_kind=given.labeller_kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{_suffix(name)}"
        path.write_bytes(_bytes(given, name))
        done = import_file(workspace, project, path, settings, actor=who.id, encoding=given.encoding, shown=name)
    with workspace.session() as session:
        counts = {"tasks": done.stored.tasks, "labels": done.stored.labels, "bad": done.num_bad}
        audit.record(session, request, who.id, "rows.imported", project.id, **counts)
    return _answer(done)


def _suffix(name: str) -> str:
    """The ending that decides how a file is read; JSON lines for any other."""
    ending = Path(name).suffix.lower()
    return ending if ending in _SUFFIXES else ".jsonl"


def _bytes(given: Import, name: str) -> bytes:
    if not given.content:
        if "\ufffd" in given.rows:
            line = given.rows.count("\n", 0, given.rows.index("\ufffd")) + 1
            raise DataError.at(name, line, "line", "holds signs that were not UTF-8 (\ufffd); save the file as UTF-8")
        return given.rows.encode("utf-8", "surrogatepass")
    if given.rows:
        raise DataError(f"{name}: both rows and content are given; send one of them")
    try:
        return base64.b64decode(given.content, validate=True)
    except binascii.Error as error:
        raise DataError(f"{name}: content is not base64 ({error})") from None


def _answer(done: DeskImport) -> Imported:
    account, stored = done.account, done.stored
    reasons = done.reasons("choose who made the labels: people, a simulation or a model")
    return Imported(
        tasks=stored.tasks, labels=stored.labels, surplus=stored.surplus, known=stored.known, kinds=dict(stored.kinds),
        bad=reasons[:SHOWN_BAD], num_bad=done.num_bad, format=account.format, rows=account.num_rows,
        used=sum(account.used.values()), left_out=dict(account.left_out + account.parts),
        lost_fields=dict(account.lost_fields), unused_marks=dict(account.unused_marks),
    )  # fmt: skip
