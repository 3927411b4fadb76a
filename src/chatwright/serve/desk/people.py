"""Names of the accounts that labels and jobs speak of by id, for the leads' pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from sqlalchemy import select

from chatwright.serve.auth import Principal, require_user
from chatwright.serve.auth_tables import User
from chatwright.serve.openai.errors import responses
from chatwright.serve.services import services

router = APIRouter(prefix="/api/desk", tags=["desk"], responses=responses(401, 403))


class Person(BaseModel):
    """Whose id it is."""

    id: str
    name: str


@router.get("/people")
def people(request: Request, _: Annotated[Principal, Depends(require_user("lead"))]) -> list[Person]:
    """Everybody who has, or had, an account."""
    with services(request).workspace.reading() as session:
        return [Person(id=user.id, name=user.name) for user in session.scalars(select(User).order_by(User.name))]
