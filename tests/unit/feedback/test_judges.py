"""Judges come from the operator; a job gets the key of its judge and no other."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chatwright.errors import ConfigError
from chatwright.feedback import jobs
from chatwright.feedback.jobs_tables import JobRow
from chatwright.feedback.judges import configured_judges, environment_for
from chatwright.feedback.worker import LOG_FILE, Worker, flags, job_folder
from chatwright.workspace.database import Workspace
from workspaces import workspace_of

STRICT, KIND = "strict=org/big@v2@http://127.0.0.1:8001/v1/", "kind=small@https://judge.example/v1"
ECHO = "import json, os, sys; print(json.dumps([sys.argv[1:], {k: v for k, v in os.environ.items() if 'API_KEY' in k}]))"


def echo(_: Workspace, settings: Mapping[str, Any]) -> list[str]:
    """A command that prints its flags and the keys that it can see."""
    return [sys.executable, "-c", ECHO, *flags(settings)]


def run_job(workspace: Workspace, kind: str, settings: Mapping[str, Any], *entries: str) -> JobRow:
    with workspace.session() as session:
        job = jobs.enqueue(session, kind, dict(settings), "ada").id
    Worker(workspace, commands={kind: echo}, judges=configured_judges(entries)).run(until_empty=True)
    with workspace.reading() as session:
        return session.get_one(JobRow, job)


def test_entries_name_a_model_and_an_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-kind\n")
    monkeypatch.setenv("JUDGE_API_KEY_KIND_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("JUDGE_API_KEY", "sk-shared")
    found = configured_judges([STRICT, KIND])
    assert list(found) == ["strict", "kind"]
    assert (found["strict"].model, found["strict"].base_url) == ("org/big@v2", "http://127.0.0.1:8001/v1")
    assert (found["strict"].api_key, found["kind"].api_key) == ("", "sk-kind")  # one key does not go to two addresses
    assert "sk-kind" not in repr(found)
    assert configured_judges([STRICT])["strict"].api_key == "sk-shared"


@pytest.mark.parametrize(
    "entries",
    [["strict"], ["=m@http://x/v1"], ["a=@http://x/v1"], ["a=m@ftp://x"], ["a=http://x/v1"], [STRICT, STRICT],
     ["a.b=m@http://x/v1", "a-b=m@http://x/v1"]],
)  # fmt: skip
def test_bad_entries_are_refused(entries: list[str]) -> None:
    with pytest.raises(ConfigError):
        configured_judges(entries)


def test_a_key_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JUDGE_API_KEY_STRICT_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="JUDGE_API_KEY_STRICT_FILE"):
        configured_judges([STRICT])


def test_a_job_sees_the_key_of_its_judge_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JUDGE_API_KEY_STRICT", "sk-strict")
    monkeypatch.setenv("JUDGE_API_KEY_KIND", "sk-kind")
    with workspace_of("sqlite", tmp_path) as workspace:
        done = run_job(workspace, "label", {"labeller": "ai", "judge": "strict"}, STRICT, KIND)
        argv, keys = json.loads((job_folder(workspace, done.id) / LOG_FILE).read_text())
        assert argv == ["--labeller=ai", "--ai.base-url=http://127.0.0.1:8001/v1", "--ai.model=org/big@v2"]
        assert keys == {"JUDGE_API_KEY": "sk-strict"} and "sk-strict" not in json.dumps(done.settings)
        done = run_job(workspace, "label", {"labeller": "simulated"}, STRICT, KIND)
        assert json.loads((job_folder(workspace, done.id) / LOG_FILE).read_text())[1] == {}
        done = run_job(workspace, "retrain", {"judge": "general-en"}, STRICT)  # a rubric, not a judge behind an address
        assert json.loads((job_folder(workspace, done.id) / LOG_FILE).read_text())[0] == ["--judge=general-en"]


@pytest.mark.parametrize(
    "settings",
    [{"labeller": "ai", "judge": "gone"}, {"labeller": "ai", "ai": {"base_url": "http://127.0.0.1:9/in", "model": "m"}}],
)
def test_a_job_with_an_unknown_judge_fails_and_says_so(settings: dict[str, Any], tmp_path: Path) -> None:
    """The second kind was queued by a version that took addresses from requests."""
    with workspace_of("sqlite", tmp_path) as workspace:
        done = run_job(workspace, "label", settings, STRICT)
        assert done.state == "failed" and "--judge" in done.message
        assert not (job_folder(workspace, done.id) / LOG_FILE).exists()


def test_other_variables_stay() -> None:
    given = {"PATH": "/bin", "JUDGE_API_KEY": "a", "JUDGE_API_KEY_FILE": "b", "JUDGE_API_KEY_X": "c"}
    assert environment_for(given, "") == {"PATH": "/bin"}
    assert environment_for(given, "k") == {"PATH": "/bin", "JUDGE_API_KEY": "k"}
