"""Workspaces, applications and signed-in browsers for tests of the server."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from starlette.testclient import TestClient

from chatwright.serve import users
from chatwright.serve.tables import metadata
from chatwright.serve.users import first_admin_link
from chatwright.workspace.database import Workspace
from chatwright.workspace.migrations import prepare

ORIGIN = "http://127.0.0.1:8000"
PASSWORD = "correct horse battery"
KINDS = ("sqlite", "postgresql")


@contextmanager
def empty_database(kind: str) -> Iterator[str]:
    """URL of an empty database; "" for SQLite in the workspace folder. Skips by name where there is no PostgreSQL."""
    if kind == "sqlite":
        yield ""
        return
    server = os.environ.get("CHATWRIGHT_TEST_POSTGRES")
    if not server:
        pytest.skip("PostgreSQL: CHATWRIGHT_TEST_POSTGRES is not set (.ci/run starts a server)")
    url = make_url(server).set(drivername="postgresql+psycopg")
    name = f"test_{uuid.uuid4().hex}"
    control = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with control.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        yield url.set(database=name).render_as_string(hide_password=False)
        with control.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        control.dispose()


@contextmanager
def workspace_of(kind: str, folder: Path) -> Iterator[Workspace]:
    """A migrated workspace."""
    metadata()
    with empty_database(kind) as url, Workspace.open(folder / "workspace", url) as workspace:
        prepare(workspace)
        yield workspace


def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hashes of passwords take no time."""
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(users, "_hasher", hasher)
    monkeypatch.setattr(users, "_NOBODY", hasher.hash("nothing"))


def browser(app: FastAPI) -> TestClient:
    """Somebody's browser; not signed in."""
    return TestClient(app, base_url=ORIGIN, raise_server_exceptions=False)


def signed_up(app: FastAPI, token: str, name: str) -> TestClient:
    """A browser in which the owner of a link has made an account; sends the CSRF token from then on."""
    client = browser(app)
    answer = client.post("/api/links/redeem", json={"token": token, "name": name, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    client.headers["x-csrf-token"] = answer.json()["csrf"]
    return client


def admin_of(app: FastAPI) -> TestClient:
    """The first administrator."""
    return signed_up(app, first_admin_link(app.state.services.workspace), "root")


def member_of(app: FastAPI, admin: TestClient, name: str, role: str = "member") -> TestClient:
    """Somebody whom the administrator invited."""
    url = admin.post("/api/invites", json={"role": role}).json()["url"]
    return signed_up(app, url.partition("#")[2], name)
