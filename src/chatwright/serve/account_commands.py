"""`chatwright users`: the way back in for an administrator who has lost the password, open links, deletion of accounts.

The commands need access to the workspace on this machine; the server may be running.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from chatwright.config.secrets import secret
from chatwright.errors import UsageError
from chatwright.serve import audit, deletion, links
from chatwright.serve.auth_tables import ApiKey, User
from chatwright.serve.chat.tables import ConversationRow
from chatwright.serve.openai.errors import APIError
from chatwright.serve.tables import metadata
from chatwright.serve.users import clean_name, make_link
from chatwright.workspace.database import Workspace, require_workspace
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
    with opened(cfg.workspace, cfg.database) as workspace, workspace.session() as session:
        user = _account(session, cfg.name)
        if user is None:
            token, _ = make_link(session, kind="admin", role="admin", created_by="cli")
        else:
            user.role, user.disabled_at = "admin", None
            token, _ = make_link(session, kind="reset", role="admin", created_by="cli", user_id=user.id)
        audit.record(session, None, "cli", "user.reset_admin", user.id if user else "")
    shown = f"administrator {user.name!r}" if user is not None else "the first administrator"
    print(f"{shown}: open {cfg.url.rstrip('/')}/join#{token} (works once, ends all sessions of the account)")


@dataclass(frozen=True, kw_only=True)
class LinksConfig:
    """List open invitations and links for a new password, or revoke one."""

    workspace: str = "workspace"
    """Folder of the workspace."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    revoke: str = ""
    """Id of a link to revoke, as the list shows it."""


def list_links(cfg: LinksConfig) -> None:
    """Print the links. UsageError for an unknown id or a workspace that does not exist."""
    with opened(cfg.workspace, cfg.database) as workspace:
        if cfg.revoke:
            with workspace.session() as session:
                try:
                    links.revoke(session, None, "cli", cfg.revoke)
                except APIError as error:
                    raise UsageError(f"--revoke {cfg.revoke}: {error}") from None
            print(f"{cfg.revoke}: revoked")
            return
        with workspace.reading() as session:
            found = links.open_links(session)
    for link in found:
        until = time.strftime("%Y-%m-%d %H:%M", time.gmtime(link.expires_at))
        shown = f"new password of {link.name!r}" if link.kind == "reset" else f"new {link.role}"
        print(f"{link.id}  {shown}, until {until} UTC")
    if not found:
        print("no open links")


@dataclass(frozen=True, kw_only=True)
class DeleteConfig:
    """Delete an account for good: keys, chats, sessions, collected texts. Its labels stay under a pseudonym."""

    name: str
    """Name of the account."""
    workspace: str = "workspace"
    """Folder of the workspace."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    yes: bool = False
    """Do it. Without this the command only says what it would delete."""


def delete_account(cfg: DeleteConfig) -> None:
    """Delete, or say what would go. UsageError for an unknown name and for the last administrator."""
    with opened(cfg.workspace, cfg.database) as workspace:
        with workspace.reading() as session:
            user = _named(session, cfg.name)
            chats = session.scalar(select(func.count()).where(ConversationRow.owner == user.id)) or 0
            keys = session.scalar(select(func.count()).where(ApiKey.user_id == user.id)) or 0
        what = f"account {user.name!r} ({user.role}), its {chats} chats and {keys} keys"
        if not cfg.yes:
            print(f"this deletes {what} for good; its labels stay under a pseudonym. To do it: --yes")
            return
        try:
            with workspace.session() as session:
                deletion.close(session, user.id)
        except APIError as error:
            raise UsageError(f"{cfg.name}: {error}; make another account an administrator first") from None
        print(f"deleted {what}; its labels now belong to {deletion.erase(workspace, user.id, 'cli')!r}")


@contextmanager
def opened(folder: str, database: str) -> Iterator[Workspace]:
    """A workspace that exists, at this version's tables. UsageError."""
    url = database or secret("CHATWRIGHT_DATABASE_URL")
    require_workspace(folder, url)
    metadata()
    with Workspace.open(folder, url) as workspace:
        prepare(workspace)
        yield workspace


def _named(session: Session, name: str) -> User:
    """The account of a name. UsageError."""
    everyone = select(User).where(User.deleted_at.is_(None))
    try:
        user = session.scalar(everyone.where(User.name == clean_name(name)))
    except APIError as error:
        raise UsageError(f"--name {name!r}: {error}") from None
    if user is None:
        known = ", ".join(one.name for one in session.scalars(everyone.order_by(User.name).limit(20))) or "none"
        raise UsageError(f"--name {name}: there is no such account; known: {known}")
    return user


def _account(session: Session, name: str) -> User | None:
    """The account to reset; None when the workspace has no administrator yet and no name is given."""
    if name:
        return _named(session, name)
    admins = session.scalars(select(User).where(User.role == "admin").order_by(User.name)).all()
    if len(admins) > 1:
        names = ", ".join(admin.name for admin in admins)
        raise UsageError(f"there are {len(admins)} administrators; choose one with --name: {names}")
    return admins[0] if admins else None
