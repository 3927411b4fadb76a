"""`chatwright models list|pull` through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatwright import cli, hub
from chatwright.hub import named, remote


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CHATWRIGHT_OFFLINE", "1")


def test_list_says_what_one_has_to_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "list"]) == 0
    out = capsys.readouterr().out
    blocks = {block.split("  ")[0]: block for block in out.split("parameters")}
    assert "no Chinese" in out and "Apache-2.0" in out and "a download of 98 MB" in out
    assert out.index("smollm2-135m-instruct  (the default)") < out.index("qwen2.5-coder-0.5b-instruct  (opt-in)")
    assert len(blocks) == len(hub.NAMED) + 1 and "HF_ENDPOINT" in out


def test_list_marks_what_is_cached(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    small = named.NAMED[hub.DEFAULT]
    file = hub.cache_folder() / "files" / small.sha256 / small.file
    file.parent.mkdir(parents=True)
    with open(file, "wb") as out:
        out.truncate(small.size)
    snapshot = hub.cache_folder() / "hub" / "owner--name" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    remote.write_manifest(snapshot, {"source": "owner/name@main"})
    (snapshot.parent / ("b" * 40)).mkdir()
    (snapshot.parent / ("b" * 40) / "MANIFEST.json").write_text("torn")
    assert cli.main(["models", "list"]) == 0
    text = capsys.readouterr().out
    assert "135M parameters, cached" in text and "0.5B parameters, not cached" in text
    assert "owner/name@main  (from a hub)" in text and "98 MB; removing it is safe" in text


def test_pull_prints_the_folder_or_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cli.main(["models", "pull"]) == 1
    assert "switched off" in capsys.readouterr().err
    assert cli.main(["models", "pull", str(tmp_path)]) == 2
    assert "is no name to fetch" in capsys.readouterr().err
    monkeypatch.setattr(hub, "resolve", lambda name, refresh: tmp_path)
    assert cli.main(["models", "pull", "owner/name"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}\n"
