"""`chatwright demo-desk`: something to label at once, in two languages, without a model."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import tiny_training as tiny
from chatwright import cli
from chatwright.feedback import queue
from chatwright.feedback.projects import guideline_for, projects
from chatwright.feedback.tables import TaskRow
from chatwright.serve.tables import metadata
from chatwright.workspace.database import Workspace


def tasks(workspace: Workspace) -> list[TaskRow]:
    with workspace.reading() as session:
        return list(session.scalars(select(TaskRow).order_by(TaskRow.seq)))


def test_a_newcomer_finds_every_kind_of_task_and_a_guideline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "desk")
    assert cli.main(["demo-desk", "--workspace", folder]) == 0
    assert f"chatwright serve --workspace {folder}" in capsys.readouterr().out
    metadata()
    with Workspace.open(folder) as workspace:
        found = tasks(workspace)
        assert set(Counter(task.kind for task in found)) == {"rank", "compare", "rate", "demonstrate", "prompt"}
        assert {task.language for task in found} == {"en", "zh-CN"}
        assert {task.split for task in found} == {"train", "held_out"}
        assert all(len(task.answers) == 4 for task in found if task.kind == "rank")
        with workspace.session() as session:
            (home,) = projects(session)
            for language, word in (("en", "Helpful"), ("zh-CN", "有用")):
                guideline = guideline_for(session, home.id, language)
                assert guideline is not None and word in guideline.text
            assert queue.claim(session, "newcomer", kinds=("rank",), languages=("zh-CN",)) is not None
        assert cli.main(["demo-desk", "--workspace", folder]) == 0  # nothing twice
        assert len(tasks(workspace)) == len(found)


def test_answers_of_a_model_of_ones_own(tmp_path: Path, make_tokenizer: Callable[..., Any]) -> None:
    tiny.save_tiny_model(tmp_path / "model", make_tokenizer(chat_template=tiny.SHORT_JINJA))
    tiny.write_rows(tmp_path / "prompts.jsonl", tiny.prompt_rows(3))
    argv = ["demo-desk", "--workspace", str(tmp_path / "desk"), "--model", str(tmp_path / "model"), "--answers", "3"]
    assert cli.main([*argv, "--prompts", str(tmp_path / "prompts.jsonl"), "--max-new-tokens", "6"]) == 0
    metadata()
    with Workspace.open(tmp_path / "desk") as workspace:
        ranked = [task for task in tasks(workspace) if task.kind == "rank"]
        assert [len(task.answers) for task in ranked] == [3, 3, 3]
        assert {answer["model"] for task in ranked for answer in task.answers} == {str(tmp_path / "model")}


def test_settings_without_effect_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo-desk", "--prompts", "x.jsonl"]) == 2
    assert "--prompts needs --model" in capsys.readouterr().err


def test_the_desk_needs_no_torch() -> None:
    """Labels are taken in, frozen and given out where no model runs."""
    modules = ("feedback.commands", "feedback.worker", "feedback.lineage", "serve.desk.routes")
    imports = ", ".join(f"chatwright.{module}" for module in modules)
    code = f"import sys, {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
