"""The web app's files as the server gives them out."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from chatwright.serve import web
from chatwright.serve.app import create_app
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.run import _greet
from chatwright.serve.settings import ServeConfig
from workspaces import admin_of, browser, workspace_of


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>the app</title>")
    (folder / "icon.svg").write_text("<svg/>")
    (folder / "assets/index-abc.js").write_text("1")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    monkeypatch.setattr(web, "STATIC", folder)
    return folder


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with workspace_of("sqlite", tmp_path) as workspace:
        app: FastAPI = create_app(ServeConfig(), EngineRegistry(), workspace)
        yield browser(app)


@pytest.mark.parametrize("path", ["/", "/c/conv_1", "/arena/board", "/join", "/index.html"])
def test_every_address_of_the_app_is_its_page(client: TestClient, built: Path, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200 and "the app" in answer.text
    assert answer.headers["cache-control"] == "no-cache"
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_hashed_files_are_kept_for_ever_and_others_are_not(client: TestClient, built: Path) -> None:
    script = client.get("/assets/index-abc.js")
    assert script.headers["cache-control"] == web.FOR_EVER
    assert script.headers["content-type"].startswith("text/javascript")
    icon = client.get("/icon.svg")
    assert (icon.headers["cache-control"], icon.headers["content-type"]) == ("no-cache", "image/svg+xml")


@pytest.mark.parametrize("path", ["/assets/index-old.js", "/api/nothing", "/v1/nothing", "/docs/x", "/health/x"])
def test_no_page_where_a_file_or_an_answer_is_expected(client: TestClient, built: Path, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and answer.json()["error"]["type"] == "invalid_request_error"


OUTSIDE = ("../secret.txt", "/../secret.txt", "assets/../../secret.txt", "link.txt", "a\0b", "..\\secret.txt", "assets", "")


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_outside_of_the_app_is_given_out(built: Path, path: str) -> None:
    assert web.file_of(built, path) is None


def test_without_a_build_the_page_says_what_to_do(client: TestClient, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "STATIC", built / "nowhere")
    assert "make web" in client.get("/").text
    assert client.get("/c/1").status_code == 404


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br", "br"), ("gzip", "gzip"), ("br;q=0, gzip;q=0.5", "gzip"), ("identity", None), ("", None),
        ("br;q=0.0", None),
    ],
)  # fmt: skip
def test_files_go_out_in_the_coding_that_the_build_has_written(
    client: TestClient, built: Path, accepted: str, coding: str | None
) -> None:
    script = built / "assets/index-abc.js"
    script.with_name("index-abc.js.gz").write_bytes(gzip.compress(script.read_bytes()))
    script.with_name("index-abc.js.br").write_bytes(b"what brotli makes of it")
    with client.stream("GET", "/assets/index-abc.js", headers={"accept-encoding": accepted}) as answer:
        raw = b"".join(answer.iter_raw())
    assert (answer.headers.get("content-encoding"), answer.headers["vary"]) == (coding, "accept-encoding")
    assert answer.headers["content-type"].startswith("text/javascript") and answer.headers["cache-control"] == web.FOR_EVER
    written = script if coding is None else script.with_name(f"index-abc.js.{'gz' if coding == 'gzip' else coding}")
    assert raw == written.read_bytes()


def test_a_compressed_file_of_an_older_build_is_not_used(client: TestClient, built: Path) -> None:
    old = built / "index.html.gz"
    old.write_bytes(gzip.compress(b"the old app"))
    os.utime(old, (1, 1))
    assert "the app" in client.get("/", headers={"accept-encoding": "gzip"}).text


def test_the_page_without_a_build_says_all_that_it_takes(
    client: TestClient, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "STATIC", built / "nowhere")
    page = client.get("/")
    assert "20.19" in page.text and "/page.css" in page.text and not web.is_built()
    style = client.get("/page.css")
    assert style.status_code == 200 and style.headers["content-type"].startswith("text/css")


def test_the_terminal_says_that_there_are_no_pages_yet(
    tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        _greet(ServeConfig(), workspace, 8000)
        assert "make web" not in capsys.readouterr().out
        monkeypatch.setattr(web, "STATIC", built / "nowhere")
        _greet(ServeConfig(), workspace, 8000)
        assert "make web" in capsys.readouterr().out


def test_a_page_can_tell_a_server_without_accounts(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        app = create_app(ServeConfig(), EngineRegistry(), workspace)
        assert browser(app).get("/api/session").json()["no_accounts"] is True
        admin_of(app)
        assert browser(app).get("/api/session").json()["no_accounts"] is False


def test_an_own_export_of_a_long_chat_can_be_imported(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        client = admin_of(create_app(ServeConfig(), EngineRegistry(), workspace))
        message = {"role": "user", "content": "x" * 150_000, "id": "m0", "parent_id": None}
        rows = [message, *({**message, "id": f"m{n}", "parent_id": f"m{n - 1}"} for n in range(1, 20))]
        for n, row in enumerate(rows):
            row["role"] = "assistant" if n % 2 else "user"
        body = {"title": "long", "messages": rows}
        answer = client.post("/api/conversations/import", json=body)
        assert len(json.dumps(body)) > 2_400_000 and answer.status_code == 201, answer.text[:300]
        assert len(answer.json()["messages"]) == 20
        assert client.post("/api/conversations", json={"title": "x" * 2_400_000}).status_code == 413


def test_the_reference_begins_with_the_openai_protocol_and_has_examples(client: TestClient) -> None:
    page = client.get("/docs").text
    assert page.index("/v1/chat/completions</code></h2>") < page.index("/api/arena/battles</code></h2>")
    for link in re.findall(r'href="#([^"]+)"', page):
        assert page.count(f'id="{link}"') == 1, link
    assert "/v1/chat/completions" in page.split("<table>")[0]
    assert 'href="/page.css"' in page and "<script" not in page and " style=" not in page
    assert "`" not in page and "/v1<wbr>/chat<wbr>/completions" in page  # a narrow column breaks it between its parts
