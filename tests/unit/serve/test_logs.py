from __future__ import annotations

import io
import json
import logging
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import text

from chat_server import ScriptedEngine, server_of
from chatwright.serve import logs
from chatwright.serve.auth import public
from chatwright.serve.keys import keep_bootstrap_key
from workspaces import PASSWORD, admin_of, browser

NAMES = ("", "uvicorn", "uvicorn.access", "chatwright")
KEY = "cw-secret-key-of-the-log"
SECRET = "what somebody wrote"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def restored() -> Iterator[None]:
    """Puts the loggers back as they were."""
    kept = [(logger, logger.handlers, logger.propagate, logger.level) for logger in map(logging.getLogger, NAMES)]
    yield
    for logger, handlers, propagate, level in kept:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def log(restored: None, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What goes to the log of a server that does not write to a terminal."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure(as_json=False)
    return stream


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    engines = ScriptedEngine("alpha", answer="the secret answer"), ScriptedEngine("bad", fail=SECRET)
    with server_of(tmp_path, *engines) as made:
        keep_bootstrap_key(made.state.services.workspace, KEY)
        yield made


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_lines_are_json_with_the_requests_id(app: FastAPI, log: io.StringIO) -> None:
    browser(app).get("/health", headers={"x-request-id": "mine-1"})
    (line,) = [line for line in lines(log) if line["message"] == "request"]
    assert line.pop("at").endswith("Z") and line.pop("ms") >= 0
    assert line == {
        "level": "info", "logger": "chatwright.access", "message": "request", "request_id": "mine-1", "method": "GET",
        "route": "/health", "status": 200, "principal": "",
    }  # fmt: skip


def test_no_texts_of_people_and_no_secrets(app: FastAPI, log: io.StringIO) -> None:
    admin = admin_of(app)
    cookie = admin.cookies["chatwright_session"]
    invitation = admin.post("/api/invites", json={}).json()["url"].partition("#")[2]
    made = admin.post("/api/keys", json={"name": "mine"}).json()
    bearer = {"authorization": f"Bearer {KEY}"}
    for model, status in (("alpha", 200), ("bad", 503)):
        body = {"model": model, "messages": [{"role": "user", "content": SECRET}]}
        answer = browser(app).post("/v1/chat/completions", json=body, headers=bearer)
        assert answer.status_code == status, answer.text
    browser(app).post("/v1/chat/completions", json={"model": SECRET, "messages": SECRET}, headers=bearer)
    browser(app).get(f"/api/shares/{invitation}?q={SECRET}")
    browser(app).get("/v1/models", headers={"authorization": f"Bearer {made['key']}x"})
    browser(app).post("/api/session", json={"name": "root", "password": f"{PASSWORD}!"})
    requests = [line for line in lines(log) if line["message"] == "request"]
    assert len(requests) == 9 and {line["status"] for line in requests} >= {200, 400, 401, 404, 503}
    assert any(line["principal"] for line in requests)
    for secret in (SECRET, "secret answer", KEY, made["key"], cookie, invitation, PASSWORD, admin.headers["x-csrf-token"]):
        assert secret not in log.getvalue()


def test_a_crash_is_logged_with_its_place_and_without_its_words(app: FastAPI, log: io.StringIO) -> None:
    def breaks_here() -> None:
        words = {SECRET: ""}
        raise KeyError(*words)

    app.add_api_route("/v1/broken", breaks_here, dependencies=[Depends(public)])
    app.router.routes.insert(0, app.router.routes.pop())  # before the web app's page for every other address
    answer = browser(app).get("/v1/broken", headers={"x-request-id": "mine-2"})
    assert answer.status_code == 500 and SECRET not in answer.text
    assert answer.headers["x-request-id"] == "mine-2" and "content-security-policy" in answer.headers
    found = [line for line in lines(log) if "exception" in line]
    assert found and all(line["level"] == "error" and line["request_id"] == "mine-2" for line in found)
    assert "breaks_here" in found[0]["exception"] and found[0]["exception"].endswith("KeyError")
    assert SECRET not in log.getvalue()


def test_the_values_of_a_statement_stay_out(app: FastAPI, log: io.StringIO) -> None:
    with app.state.services.workspace.session() as session:
        try:
            session.execute(text("SELECT * FROM missing WHERE content = :content"), {"content": SECRET})
        except Exception as error:
            assert SECRET not in str(error)
            logging.getLogger("chatwright.test").exception("an answer could not be saved")
        session.rollback()
    (line,) = lines(log)
    assert "no such table: missing" in line["exception"] and "OperationalError" in line["exception"]
    assert SECRET not in line["exception"]


def test_causes_come_first_and_the_system_says_why(tmp_path: Path) -> None:
    try:
        try:
            (tmp_path / "missing").read_text()
        except OSError as error:
            raise ValueError(SECRET) from error
    except ValueError as error:
        told = logs.places(error)
    first, second = told.split("\nwhich led to\n")
    assert first.endswith("FileNotFoundError: No such file or directory") and second.endswith("ValueError")
    assert SECRET not in told.replace("raise ValueError(SECRET)", "")
    assert logs.places(sqlite3.OperationalError("database is locked")).endswith("database is locked")


def test_a_terminal_gets_plain_lines_unless_told_otherwise(restored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for as_json in (False, True):
        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure(as_json=as_json)
        logging.getLogger("chatwright.serve").info("ready", extra={"fields": {"model": "tiny", "principal": ""}})
        logging.getLogger("uvicorn.access").info("GET /api/shares/secret")
        logging.getLogger("uvicorn.error").info("Started")
        logging.getLogger("asyncio").warning("a task failed")
        ready, failed = stream.getvalue().splitlines()
        if as_json:
            assert json.loads(ready)["model"] == "tiny" and json.loads(failed)["logger"] == "asyncio"
        else:
            assert ready.endswith("info    ready model=tiny") and failed.endswith("warning a task failed")
