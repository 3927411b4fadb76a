"""The web app's files as the server gives them out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from chatwright.serve import web
from chatwright.serve.app import create_app
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.settings import ServeConfig
from workspaces import browser, workspace_of


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
    assert answer.status_code == 404 and answer.json()["error"]["type"] == "not_found_error"


OUTSIDE = ("../secret.txt", "/../secret.txt", "assets/../../secret.txt", "link.txt", "a\0b", "..\\secret.txt", "assets", "")


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_outside_of_the_app_is_given_out(built: Path, path: str) -> None:
    assert web.file_of(built, path) is None


def test_without_a_build_the_page_says_what_to_do(client: TestClient, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "STATIC", built / "nowhere")
    assert "make web" in client.get("/").text
    assert client.get("/c/1").status_code == 404
