"""Exports over HTTP: freeze, list, download."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright.errors import MissingError
from chatwright.feedback import export as exporting
from chatwright.feedback import lineage
from chatwright.feedback.apart import run_apart
from chatwright.feedback.jobs_tables import ExportCopy, ExportRow, ModelExport
from chatwright.feedback.lineage import Withdrawn
from chatwright.serve import audit
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.desk.wire_loop import Export, ExportFile, NewExport, Split
from chatwright.serve.desk.wire_loop import ExportCopy as WireCopy
from chatwright.serve.openai.errors import APIError, responses
from chatwright.serve.services import services
from chatwright.workspace.database import located_path, now

router = APIRouter(prefix="/api/desk", tags=["desk"], responses=responses(400, 401, 403, 404, 410))
Lead = Annotated[Principal, Depends(require_user("lead"))]


@router.get("/exports")
def list_exports(request: Request, _: Lead) -> list[Export]:
    """All exports, the newest first."""
    with services(request).workspace.reading() as session:
        withdrawn = lineage.withdrawn(session)
        complete = select(ExportRow).where(ExportRow.path != "")
        rows = session.scalars(complete.order_by(ExportRow.created_at.desc(), ExportRow.id))
        return [export_of(session, row, withdrawn) for row in rows]


@router.post("/exports", status_code=201)
def freeze(request: Request, who: Lead, new: NewExport) -> Export:
    """Freeze what the store holds now, in a process of low priority, one export at a time. The same state and filters give
    the same export. For 100,000 labels it takes a minute or more; it is made and listed even when the client goes."""
    workspace = services(request).workspace
    chosen = exporting.ExportFilter(
        project=new.project, labeller_kinds=tuple(dict.fromkeys(new.labeller_kinds)), languages=tuple(new.languages),
        rankings=new.rankings,
    )  # fmt: skip
    lock: threading.Lock = services(request).parts.setdefault("exporting", threading.Lock())
    with lock:
        made = run_apart(workspace, "chatwright.feedback.export:freeze", {**asdict(chosen), "actor": who.id})
    with workspace.session() as session:
        audit.record(session, request, who.id, "export.made", made)
        return export_of(session, session.get_one(ExportRow, made), lineage.withdrawn(session))


@router.get("/exports/{export_id}/{split}/{file}", response_class=FileResponse)
def download(request: Request, who: Lead, export_id: str, split: Split, file: ExportFile) -> FileResponse:
    """One file of an export, as JSON lines."""
    workspace = services(request).workspace
    with workspace.session() as session:
        row = session.get(ExportRow, export_id)
        if lineage.withdrawn(session).exports.get(export_id):
            raise APIError(410, f"export {export_id}: holds texts that were withdrawn since", code="export_withdrawn")
        path = located_path(session, row.path) / split / f"{file}.jsonl" if row is not None else None
        if path is None or not path.is_file():
            raise MissingError(f"export {export_id}: is not there, or its folder was removed")
        session.add(ExportCopy(export_id=export_id, kind="download", place=f"{split}/{file}", actor=who.id, at=now()))
        audit.record(session, request, who.id, "export.downloaded", export_id, file=f"{split}/{file}")
    return FileResponse(path, media_type="application/jsonl", filename=f"{split}-{file}.jsonl")


def export_of(session: Session, row: ExportRow, withdrawn: Withdrawn) -> Export:
    """As it is sent."""
    counts = {split: dict(files) for split, files in row.counts.items()}
    models = session.scalars(select(ModelExport.model_id).where(ModelExport.export_id == row.id))
    copies = session.scalars(select(ExportCopy).where(ExportCopy.export_id == row.id).order_by(ExportCopy.id))
    return Export(
        id=row.id, path=str(located_path(session, row.path)), filters=row.filters,
        left_out=counts.pop("left_out", {}), counts=counts,
        withdrawn=withdrawn.exports.get(row.id, 0), undone=withdrawn.undone.get(row.id, 0), models=sorted(models),
        copies=[WireCopy.model_validate(copy, from_attributes=True) for copy in copies], created_by=row.created_by,
        created_at=row.created_at,
    )  # fmt: skip
