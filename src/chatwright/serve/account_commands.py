"""`chatwright users reset-admin`: the way back in for an administrator who has lost the password.

It needs access to the workspace on this machine; the server may be running.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright.config.secrets import secret
from chatwright.errors import UsageError
from chatwright.serve import audit
from chatwright.serve.auth_tables import User
from chatwright.serve.openai.errors import APIError
from chatwright.serve.tables import metadata
from chatwright.serve.users import clean_name, make_link
from chatwright.workspace.database import Workspace
from chatwright.workspace.migrations import prepare


@dataclass(frozen=True, kw_only=True)
class ResetAdminConfig:
    """Print a one-time link with which an administrator chooses a new password."""

    workspace: str = "workspace"
    """Folder of the workspace."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    name: str = ""
    """Account; it is made an administrator and enabled. Empty: the only administrator there is."""
    url: str = "http://127.0.0.1:8000"
    """Address of the server as browsers reach it; the link begins with it."""


def reset_admin(cfg: ResetAdminConfig) -> None:
    """Print the link. UsageError for an unknown account or a workspace that does not exist."""
    if not Path(cfg.workspace).is_dir():
        raise UsageError(f"{cfg.workspace}: there is no such workspace")
    metadata()
    with Workspace.open(cfg.workspace, cfg.database or secret("CHATWRIGHT_DATABASE_URL")) as workspace:
        prepare(workspace)
        with workspace.session() as session:
            user = _account(session, cfg.name)
            if user is None:
                token, _ = make_link(session, kind="admin", role="admin", created_by="cli")
            else:
                user.role, user.disabled_at = "admin", None
                token, _ = make_link(session, kind="reset", role="admin", created_by="cli", user_id=user.id)
            audit.record(session, None, "cli", "user.reset_admin", user.id if user else "")
    shown = f"administrator {user.name!r}" if user is not None else "the first administrator"
    print(f"{shown}: open {cfg.url.rstrip('/')}/join#{token} (works once, ends all sessions of the account)")


def _account(session: Session, name: str) -> User | None:
    """The account to reset; None when the workspace has no administrator yet and no name is given."""
    if name:
        try:
            user = session.scalar(select(User).where(User.name == clean_name(name)))
        except APIError as error:
            raise UsageError(f"--name {name!r}: {error}") from None
        if user is None:
            known = ", ".join(session.scalars(select(User.name).order_by(User.name).limit(20))) or "none"
            raise UsageError(f"--name {name}: there is no such account; known: {known}")
        return user
    admins = session.scalars(select(User).where(User.role == "admin").order_by(User.name)).all()
    if len(admins) > 1:
        names = ", ".join(admin.name for admin in admins)
        raise UsageError(f"there are {len(admins)} administrators; choose one with --name: {names}")
    return admins[0] if admins else None
