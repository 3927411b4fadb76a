"""`chatwright feedback import`: files of any format into a workspace, every row accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from chatwright import cli
from chatwright.feedback.commands import opened
from chatwright.feedback.tables import LabelRow, TaskRow

PAIRS = [{"prompt": f"q{n}", "chosen": "y", "rejected": "n"} for n in range(3)]


def _file(folder: Path, rows: list[Any], name: str = "rankings.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(folder / name)


def run(capfd: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    code = cli.main(["feedback", "import", *args])
    said = capfd.readouterr()
    return code, said.out + said.err


@pytest.fixture
def workspace(tmp_path: Path) -> str:
    return str(tmp_path / "workspace")


def stored(folder: str) -> tuple[list[str], int]:
    """(kinds of tasks, number of labels)."""
    with opened(folder, "") as workspace, workspace.reading() as session:
        kinds = sorted(session.scalars(select(TaskRow.kind)))
        return kinds, len(list(session.scalars(select(LabelRow))))


def test_the_line_of_the_readme(tmp_path: Path, workspace: str, capfd: pytest.CaptureFixture[str]) -> None:
    rankings = [{"prompt": f"q{n}", "completions": ["a", "b"], "ranking": "A>B"} for n in range(30)]
    file = _file(tmp_path, rankings)
    code, said = run(capfd, file, "--workspace", workspace)
    assert code == 2 and "there is no such workspace" in said and "--new" in said
    code, said = run(capfd, file, "--workspace", workspace, "--new")
    assert code == 1 and said.count("labeller_kind") == 1 and "30 rows" in said and "--labeller-kind" in said
    code, said = run(capfd, file, "--workspace", workspace, "--labeller-kind", "human")
    assert code == 0 and "30 rows = 30 used + 0 left out + 0 damaged" in said and "30 new tasks, 30 new labels" in said
    code, said = run(capfd, file, "--workspace", workspace, "--labeller-kind", "human")
    assert code == 0 and "30 known before" in said


def test_pairs_of_others_become_rankings(tmp_path: Path, workspace: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, said = run(capfd, _file(tmp_path, PAIRS), "--workspace", workspace, "--new", "--labeller-kind", "human")
    assert code == 0 and "format trl" in said and "3 rankings" in said
    assert stored(workspace) == (["rank"] * 3, 3)


def test_what_a_workspace_has_no_task_for_is_left_out(
    tmp_path: Path, workspace: str, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": "q", "completion": "y", "label": False}, {"prompt": "p"}, {"prompt": "q", "completions": ["a", "b"]}]
    code, said = run(capfd, _file(tmp_path, rows), "--workspace", workspace, "--new")
    assert code == 0 and "1 x an answer marked good or bad" in said and "3 rows = 2 used + 1 left out" in said
    assert stored(workspace) == (["demonstrate", "rank"], 0)


def test_bad_rows_are_named_and_the_others_taken(tmp_path: Path, workspace: str, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [*PAIRS, {"prompt": "q", "chosen": 3, "rejected": "n"}, 5]
    same = {"prompt": "q", "completions": ["a", "a"], "ranking": "A>B", "labeller_kind": "human"}
    code, said = run(capfd, _file(tmp_path, [*rows, same]), "--workspace", workspace, "--new", "--labeller-kind", "ai")
    assert code == 1 and "2 rows could not be used" in said and "rankings.jsonl:4: chosen" in said
    assert "1 x both answers are equal" in said and stored(workspace) == (["rank"] * 3, 3)


def test_an_empty_file_is_an_error(tmp_path: Path, workspace: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, said = run(capfd, _file(tmp_path, []), "--workspace", workspace, "--new")
    assert code == 1 and "there are no rows" in said
