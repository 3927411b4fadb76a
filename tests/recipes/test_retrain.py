"""`chatwright retrain` on a two-layer model: labels -> export -> training -> comparison -> registry; and as a job."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from sqlalchemy import select

import tiny_training as tiny
from chatwright import cli
from chatwright.engine.checkpoint import verify_folder
from chatwright.evals.rewards import open_learned
from chatwright.feedback import jobs, lineage, queue, read
from chatwright.feedback.commands import opened
from chatwright.feedback.jobs_tables import ExportRow, JobRow, ModelRow
from chatwright.feedback.tables import LabelEvent, LabelRow, TaskRow
from chatwright.feedback.worker import Limits, Worker
from chatwright.pipeline import retrain
from chatwright.records import Prompt, load_rankings
from chatwright.serve.tables import metadata
from chatwright.workspace.database import Workspace

pytestmark = pytest.mark.timeout(600)  # chains of processes: seconds on a machine of its own, minutes beside others
DIALS = {
    "sft_epochs": 1, "sft_lr": 1e-3, "max_new_tokens": 12, "reward_epochs": 2, "reward_lr": 3e-3, "ppo_steps": 2,
    "ppo_batch": 8, "ppo_lr": 1e-3, "ptx_gamma": 0.0, "eval_samples": 2, "eval_max_new_tokens": 12, "eval_questions": 5,
}  # fmt: skip


def rows() -> list[dict[str, Any]]:
    """Rankings of many users, some demonstrations."""
    ranked = [{**row, "user": f"u{n}"} for n, row in enumerate(tiny.ranking_rows(60, k=3, kind="human"))]
    Random(0).shuffle(ranked)
    shown = [{**row, "labeller_kind": "human"} for row in tiny.demonstration_rows(6)]
    return [*ranked, *shown]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, make_tokenizer: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("retrain")
    tiny.save_tiny_model(folder / "model", make_tokenizer(chat_template=tiny.SHORT_JINJA), max_positions=256)
    tiny.write_rows(folder / "labels.jsonl", rows())
    return folder


@pytest.fixture(autouse=True)
def _inside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))


def begin(home: Path, name: str) -> str:
    """A workspace with the labels in it."""
    argv = ["feedback", "import", "--data", "labels.jsonl", "--workspace", name, "--held-out", "0.25", "--new"]
    assert cli.main(argv) == 0
    return name


def arguments(workspace: str, *more: str) -> list[str]:
    dials = [word for name, value in DIALS.items() for word in (f"--stages.{name.replace('_', '-')}", str(value))]
    common = ["--configured", "model", "--ignore-gate", "--judge", "general-en", "--device", "cpu", "--precision", "fp32"]
    return ["retrain", "--workspace", workspace, *common, *dials, *more]


def model_rows(workspace: Workspace) -> list[ModelRow]:
    with workspace.reading() as session:
        return lineage.models(session)


def check_order_of_the_queue(workspace: Workspace, job: str) -> None:
    """The job told the queue what the two reward models disagree about, and a labeller gets that first."""
    folders = [(workspace.folder / row.path).parents[1] / "4-reward" for row in model_rows(workspace)]
    members = [open_learned(str(folder), dtype=torch.float32, device="cpu") for folder in folders]
    with workspace.session() as session:
        (event,) = session.scalars(select(LabelEvent).where(LabelEvent.kind == "task.prioritised"))
        told = event.data["priorities"]
        assert event.actor == job and len(told) == 6 and len(set(told.values())) > 1
        for task, priority in told.items():
            view = read.task_view(session, task)
            rows = [(Prompt(messages=view.messages), one.text, True) for one in view.answers]
            scores = [m.score_texts(rows) for m in members]
            chances = [[1 / (1 + math.exp(float(b - a))) for a, b in itertools.combinations(row, 2)] for row in scores]
            differ = [(first - second) ** 2 for first, second in zip(*chances, strict=True)]  # 4 times the variance of two
            assert priority == pytest.approx(sum(differ) / len(differ), rel=1e-3, abs=1e-6)
        seen: list[str] = []
        while (place := queue.claim(session, "newcomer", kinds=["rank"], exclude=seen)) is not None:
            seen.append(place.task)
        assert seen == sorted(told, key=lambda task: -told[task])


def test_merged_orders_are_learned_from_once_they_are_made(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = begin(home, "merged")
    assert cli.main(arguments(workspace, "--rankings", "merged")) == 1
    said = capsys.readouterr().err
    assert "complete tasks are left out" in said and "0 rankings to train on; merge or label more" in said
    assert "Traceback" not in said
    assert cli.main(["feedback", "merge", "--workspace", workspace]) == 0
    cfg = retrain.RetrainConfig(workspace=workspace, configured="model", rankings="merged")
    with opened(workspace, "") as store:
        plan = retrain._plan(store, cfg, None)
    rankings = load_rankings(plan.export.file("train", "rankings"))
    assert len(rankings) >= retrain.LEAST_RANKINGS and {row.labeller for row in rankings} == {"merged:ranked_pairs"}


def test_labels_become_a_registered_model_that_names_its_export(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = begin(home, "whole")
    assert cli.main(arguments(name, "--compare-tasks", "3")) == 0, capsys.readouterr().err
    assert "promoted" in capsys.readouterr().out
    metadata()
    with Workspace.open(home / name) as workspace:
        (row,) = model_rows(workspace)
        folder = home / name / row.path
        verify_folder(folder)
        with workspace.reading() as session:
            (frozen,) = session.scalars(select(ExportRow))
            labels = lineage.labels(session, row.id, limit=1000)
            every = set(session.scalars(select(LabelRow.uuid)))
            tasks = list(session.scalars(select(TaskRow).where(TaskRow.kind == "compare")))
        assert {label.uuid for label in labels} == every and len(every) == 66
        for stage in ("1-sft", "4-reward", "6-ppo"):  # each checkpoint names the export it learned from
            data = json.loads((folder.parents[1] / stage / "result.json").read_text())["data"]
            assert frozen.id in data.values(), stage
        comparison = row.figures["comparison"]
        assert [one["judge_kind"] for one in comparison["verdicts"]] == ["simulated", "learned"]
        for one in comparison["verdicts"]:
            assert 0 <= one["low"] <= one["rate"] <= one["high"] <= 1 and one["questions"] == 5 and one["n"] == 20
        assert (comparison["against"], comparison["against_id"]) == ("model", "configured")
        assert comparison["tasks"] == [task.id for task in tasks] and len(tasks) == 3
        assert [answer["model"] for answer in tasks[0].answers] == ["candidate", "serving"]
        assert row.figures["report_card"]["simulated_share"] == 0.0
        assert {task.priority for task in tasks} == {1.0}
    # More tasks come; a second retraining brings a second reward model, and what they disagree about comes first.
    waiting = [{"prompt": f"Tell me {n}.", "completions": ["honey rock.", f"moon {n}.", "honey."]} for n in range(6)]
    tiny.write_rows(home / "waiting.jsonl", waiting)
    argv = ["feedback", "import", "--data", "waiting.jsonl", "--workspace", name, "--held-out", "0"]
    assert cli.main(argv) == 0
    with Workspace.open(home / name) as workspace:
        settings = {"configured": "model", "ignore_gate": True, "device": "cpu", "precision": "fp32", "judge": "general-en",
                    "stages": DIALS, "seed": 1}  # fmt: skip
        with workspace.session() as session:
            job = jobs.enqueue(session, "retrain", settings, "lead").id
        Worker(workspace, limits=Limits(threads=1, nice=0)).run(until_empty=True)
        with workspace.reading() as session:
            done = session.get_one(JobRow, job)
            assert done.state == "done", done.message
        assert len(model_rows(workspace)) == 2
        check_order_of_the_queue(workspace, job)
    # Again: nothing is trained, nothing is entered twice.
    before = {p: p.stat().st_mtime_ns for p in (home / name / "models").rglob("*.safetensors")}
    assert cli.main(arguments(name, "--seed", "1")) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    with Workspace.open(home / name) as workspace:
        assert len(model_rows(workspace)) == 2
    # It can be served.
    assert cli.main(["generate", "What is honey?", "--model", str(folder), "--max-new-tokens", "4"]) == 0


@pytest.mark.slow
def test_a_job_whose_worker_is_killed_goes_on_with_the_same_export(home: Path) -> None:
    """The worker dies in the middle; meanwhile more labels come; the next worker ends what was begun."""
    name = begin(home, "job")
    metadata()
    with Workspace.open(home / name) as workspace:
        settings = {"configured": "model", "serving_name": "chat", "ignore_gate": True, "device": "cpu", "precision": "fp32",
                    "judge": "general-en", "stages": DIALS}  # fmt: skip
        with workspace.session() as session:
            job = jobs.enqueue(session, "retrain", settings, "lead").id
        line = [sys.executable, "-m", "chatwright", "jobs", "run", "--workspace", name, "--until-empty", "--threads", "1"]
        worker = subprocess.Popen(line)
        while not list((home / name / "models").glob("*/1-sft/result.json")):
            assert worker.poll() is None, (home / name / "jobs" / job / "log.txt").read_text()
            time.sleep(0.05)
        worker.kill()
        worker.wait()
        tiny.write_rows(home / "more.jsonl", [{**row, "prompt": f"more {row['prompt']}"} for row in rows()[:5]])
        assert cli.main(["feedback", "import", "--data", "more.jsonl", "--workspace", name]) == 0
        with workspace.session() as session:
            session.get_one(JobRow, job).lease_expires_at = 0.0  # as if the lease had run out
        Worker(workspace, limits=Limits(threads=1, nice=0)).run(until_empty=True)
        with workspace.reading() as session:
            row = session.get_one(JobRow, job)
            exports = list(session.scalars(select(ExportRow)))
        assert row.state == "done", row.message
        (model,) = model_rows(workspace)
        assert row.result == {"model": model.id} and row.attempts == 2 and len(exports) == 1
        assert (row.progress["stage"], row.progress["number"], row.progress["of"]) == ("comparison", 6, 6)
        assert model.job_id == job


def test_too_few_labels_are_said_plainly(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_rows(tmp_path / "few.jsonl", tiny.ranking_rows(5, kind="human"))
    argv = ["feedback", "import", "--data", str(tmp_path / "few.jsonl"), "--workspace", str(tmp_path / "w"), "--new"]
    assert cli.main(argv) == 0
    assert cli.main(arguments(str(tmp_path / "w"))) == 1
    assert "rankings to train on; label more" in capsys.readouterr().err
    assert cli.main(arguments(str(tmp_path / "w"), "--base", "model_x")) == 2
