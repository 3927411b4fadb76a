"""Rubrics and AI judges work off the queue beside people; their kind is stored with every label."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import select

from chatwright import cli
from chatwright.errors import ConfigError
from chatwright.feedback import queue
from chatwright.feedback.labels import Submission
from chatwright.feedback.projects import default_project
from chatwright.feedback.tables import LabelRow, TaskRow
from chatwright.feedback.tasks import Answer, NewTask
from chatwright.labellers.ai_judge import AIJudgeConfig
from chatwright.labellers.workspace import DeskLabelConfig, RubricConfig, label_desk, simulated, work_off
from chatwright.records import user
from chatwright.workspace.database import Workspace
from openai_stub import running_stub, said
from workspaces import workspace_of

GOOD = "Cold air takes less room, so tires lose pressure in winter. Fill them when they are cold."


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with workspace_of("sqlite", tmp_path) as made:
        yield made


def add(workspace: Workspace, number: int, kind: str = "rank") -> list[str]:
    with workspace.session() as session:
        project = default_project(session).id
        made = []
        for n in range(number):
            texts = ("Sure! " * 9, GOOD, f"No idea {n}")[: 2 if kind == "compare" else 3]
            answers = tuple(Answer(text=text) for text in texts)
            asked = user(f"Why are my tires flat in winter {n}?")
            task = NewTask(project=project, kind=kind, messages=asked, answers=answers)
            made.append(queue.add_task(session, task, actor="lead"))
    return made


def labels(workspace: Workspace) -> list[LabelRow]:
    with workspace.reading() as session:
        return list(session.scalars(select(LabelRow).order_by(LabelRow.seq)))


def test_a_rubric_labels_what_waits_and_no_more(workspace: Workspace) -> None:
    add(workspace, 4)
    add(workspace, 2, "compare")
    cfg = DeskLabelConfig(workspace=str(workspace.folder), simulated=RubricConfig(noise=0.0, seed=3))
    assert label_desk(cfg) == {"labels": 6, "surplus": 0, "skipped": 0}
    assert label_desk(cfg) == {"labels": 0, "surplus": 0, "skipped": 0}  # nothing twice
    found = labels(workspace)
    assert {(row.labeller, row.labeller_kind) for row in found} == {("simulated:general-en-3", "simulated")}
    assert {row.value["ranking"].partition(">")[0] for row in found if row.kind == "rank"} == {"B"}
    assert [row.value for row in found if row.kind == "compare"] == [{"verdict": "b"}] * 2
    assert not any(row.too_fast for row in found)


def test_overlap_holds_for_people_and_rubrics_together(workspace: Workspace) -> None:
    tasks = add(workspace, 3)
    with workspace.session() as session:
        for task in tasks:
            value = {"ranking": "A>B>C"}
            given = Submission(uuid=f"u-{task[-8:]}", task=task, labeller="ann", labeller_kind="human", value=value)
            queue.submit(session, given)
    threads = [
        threading.Thread(target=work_off, args=(workspace, simulated(RubricConfig(seed=seed)))) for seed in range(1, 5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = labels(workspace)
    assert Counter(row.task_id for row in found) == dict.fromkeys(tasks, 2)
    assert Counter(row.labeller_kind for row in found) == {"human": 3, "simulated": 3}
    with workspace.reading() as session:
        assert {task.state for task in session.scalars(select(TaskRow))} == {"complete"}


def test_five_labellers_err_in_different_places(workspace: Workspace) -> None:
    add(workspace, 16)
    for seed in (1, 2):
        work_off(workspace, simulated(RubricConfig(seed=seed, noise=0.3, tie_width=0.0)))
    by_task: dict[str, set[str]] = {}
    for row in labels(workspace):
        by_task.setdefault(row.task_id, set()).add(row.value["ranking"])
    differ = sum(len(orders) > 1 for orders in by_task.values())
    assert 3 < differ < 16


def test_tasks_that_a_rubric_cannot_judge_are_skipped(workspace: Workspace) -> None:
    add(workspace, 2)
    done = work_off(workspace, simulated(RubricConfig(rubric="museum-en")))  # no key words in the prompts
    assert (done.labels, done.skipped) == (0, 2) and labels(workspace) == []


class Judge(BaseHTTPRequestHandler):
    """Prefers the answer about cold air, wherever it stands; counts its requests."""

    asked: list[str] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = body["messages"][-1]["content"]
        type(self).asked.append(self.headers.get("authorization", ""))
        first, _, second = text.partition("[answer B]")
        verdict = "A" if "Cold air" in first else "B" if "Cold air" in second else "TIE"
        reply = json.dumps({"choices": [{"message": {"role": "assistant", "content": verdict}}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        pass


def test_an_ai_judge_is_asked_in_both_places(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    add(workspace, 2)
    monkeypatch.setenv("JUDGE_API_KEY", "sk-judge")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        ai = AIJudgeConfig(base_url=f"http://127.0.0.1:{server.server_port}/v1", model="m")
        cfg = DeskLabelConfig(workspace=str(workspace.folder), labeller="ai", ai=ai, limit=1)
        assert label_desk(cfg)["labels"] == 1 and label_desk(cfg)["labels"] == 1
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    found = labels(workspace)
    assert {(row.labeller, row.labeller_kind, row.value["ranking"]) for row in found} == {("ai:m", "ai", "B>A=C")}
    assert Judge.asked == ["Bearer sk-judge"] * 12  # 2 tasks, 3 pairs, 2 places


def test_settings_without_effect_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="needs --ai.base-url"):
        DeskLabelConfig(labeller="ai")
    with pytest.raises(ConfigError, match="no effect"):
        DeskLabelConfig(ai=AIJudgeConfig(base_url="http://x", model="m"))
    assert cli.main(["feedback", "label", "--workspace", "/nowhere/at-all"]) == 2
    assert "there is no such workspace" in capsys.readouterr().err


def test_tasks_that_the_judge_does_not_answer_are_skipped_and_counted(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reply that holds no verdict is no tie in the store."""
    add(workspace, 3)
    with running_stub() as stub:
        stub.reply = lambda body: said("Answer B is better than answer A.")
        done = label_desk(
            DeskLabelConfig(
                workspace=str(workspace.folder),
                labeller="ai",
                ai=AIJudgeConfig(base_url=stub.url, model="m", max_unreadable=1.0),
            )  # fmt: skip
        )
    assert done["labels"] == 0 and done["skipped"] == 3 and done["unreadable"] == done["replies"] > 0
    assert labels(workspace) == [] and "replies unreadable (100.0%)" in capsys.readouterr().err
