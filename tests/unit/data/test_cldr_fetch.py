"""Fetching a package: by the npm that is on the PATH (here a stand-in of some lines), checked, kept; or told why not."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from chatwright import cli
from chatwright.data import cldr_fetch
from chatwright.data.cldr_fetch import FetchConfig, cached, main
from chatwright.errors import HubError
from chatwright.hub import npm

CONTENT = b"the package"


@pytest.fixture(autouse=True)
def a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("CHATWRIGHT_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    small = replace(cldr_fetch.PACKAGE, size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(cldr_fetch, "PACKAGE", small)


def fetch() -> Path:
    return npm.fetch(cldr_fetch.PACKAGE)


def put_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """An `npm` on the PATH that does as `script` says, and writes down how it was called."""
    folder, log = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    (folder / "npm").write_text(f'#!/bin/sh\necho "$@ registry=$npm_config_registry" >> {log}\n{script}\n')
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return log


def test_npm_is_asked_once_with_the_users_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://mirror.example")
    log = put_npm(tmp_path, monkeypatch, f"printf '{CONTENT.decode()}' > {cldr_fetch.PACKAGE.file}")
    main(FetchConfig())
    place = Path(capsys.readouterr().out.strip())
    assert place.read_bytes() == CONTENT and place == cached() == fetch()
    (call,) = log.read_text().splitlines()
    assert call.startswith("pack cldr-annotations-full@48.2.0 --ignore-scripts")
    assert call.endswith("registry=http://mirror.example")
    assert [file.name for file in place.parent.parent.iterdir()] == [place.parent.name], "nothing else is left behind"


def test_what_the_registry_served_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_npm(tmp_path, monkeypatch, f"printf 'else package' > {cldr_fetch.PACKAGE.file}")
    with pytest.raises(HubError, match="something else; nothing was kept"):
        fetch()
    with pytest.raises(HubError, match="not in the cache"):
        cached()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'npm notice' >&2; echo 'npm error code E404' >&2; exit 1", "npm error code E404"),
        ("exit 3", "it said nothing"),
        ("exit 0", "it said nothing"),
    ],
)
def test_npms_own_reason_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str) -> None:
    put_npm(tmp_path, monkeypatch, script)
    with pytest.raises(HubError, match=f"npm could not fetch it: {reason}.*--file FILE"):
        fetch()


def test_offline_and_without_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HubError, match="npm was not found"):
        fetch()
    monkeypatch.setenv("CHATWRIGHT_OFFLINE", "1")
    with pytest.raises(HubError, match="switched off"):
        fetch()


def test_a_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CHATWRIGHT_OFFLINE", "1")
    own = tmp_path / "own.tgz"
    own.write_bytes(b"x" * len(CONTENT))
    assert cli.main(["cldr", "fetch", "--file", str(own)]) == 1
    assert "nothing was kept" in capsys.readouterr().err
    own.write_bytes(b"short")
    assert cli.main(["cldr", "fetch", "--file", str(own)]) == 1
    own.write_bytes(CONTENT)
    assert cli.main(["cldr", "fetch", "--file", str(own)]) == 0 and cached().read_bytes() == CONTENT
