"""What the desk's routes share."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from chatwright.serve import audit
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.openai.errors import responses
from chatwright.serve.services import Services, services

Labeller = Annotated[Principal, Depends(require_user("labeller"))]
Lead = Annotated[Principal, Depends(require_user("lead"))]
Shared = Annotated[Services, Depends(services)]
ERRORS = responses(401, 403, 404, 409)


def note(session: Session, request: Request, who: Principal, action: str, target: str, **detail: Any) -> None:
    """An entry in the audit log, in the same transaction."""
    audit.record(session, request, who.id, f"desk.{action}", target, **detail)
