"""The data browser: every filter, pages, and what is told of one task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatwright.errors import MissingError
from chatwright.feedback.browse import BrowsePage, Filters, browse, task_detail
from chatwright.feedback.merging import merge_project
from chatwright.feedback.queue import flag
from chatwright.feedback.store import erase
from chatwright.feedback.tasks import Answer
from chatwright.records import WeakOrder
from chatwright.workspace.database import Workspace
from desk_data import label, project, ranked, task
from workspaces import KINDS, workspace_of


@pytest.fixture(params=KINDS)
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    with workspace_of(request.param, tmp_path) as found:
        yield found


def ids(workspace: Workspace, **given: Any) -> list[str]:
    with workspace.reading() as session:
        page = browse(session, Filters(**given))
        assert page.total == len(page.tasks)
        return [one.id for one in page.tasks]


def test_filters(workspace: Workspace) -> None:
    with workspace.session() as session:
        mine = project(session)
        other = project(session, "other")
        torn = ranked(session, mine, {"ann": "A>B>C", "ben": "C>B>A"}, language="zh-CN", source="chat")
        sure = ranked(session, mine, {"ann": "A>B", "ai:judge": "A>B"}, split="held_out")
        written = task(session, mine, "demonstrate")
        label(session, written, "simulated:general-en", {}, kind="simulated",
              payload={"messages": [{"role": "assistant", "content": "x"}]})  # fmt: skip
        rated = task(session, mine, "rate", answers=[Answer(text="a", model='odd "name"_%')])
        label(session, rated, "ann", {"likert": [2], "flags": [["hallucination"]]})
        elsewhere = task(session, other)
        flag(session, elsewhere, "ann", "unsafe")
    merge_project(workspace, mine, actor="lead", adjudicate_below=0.0)
    assert ids(workspace) == [elsewhere, rated, written, sure, torn]  # the newest first
    assert ids(workspace, project=other) == [elsewhere] == ids(workspace, flagged=True)
    assert ids(workspace, kind="rank", project=mine) == [sure, torn]
    assert ids(workspace, state="merged") == [sure, torn]
    assert ids(workspace, language="zh-CN") == [torn] == ids(workspace, source="chat")
    assert ids(workspace, split="held_out") == [sure] == ids(workspace, labeller="ai:judge")
    assert ids(workspace, labeller_kind="simulated") == [written]
    assert ids(workspace, model='odd "name"_%') == [rated] and ids(workspace, model="odd") == []
    assert ids(workspace, flag="hallucination") == [rated] and ids(workspace, flag="harmful_advice") == []
    assert ids(workspace, agreement_below=0.5) == [torn] and ids(workspace, agreement_below=1.0) == [torn]
    assert ids(workspace, labeller="ann", labeller_kind="ai") == []  # one label must fit all of them


FOUND = {
    "GRAVITY": "prompt", "引力": "prompt", 'quo"ted': "answer", "back\\slash": "answer", "pulls": "label", "100%": "answer",
    "too vague": "comment", "content": "", "assistant": "", "_": "",
}  # fmt: skip


def test_text_is_found_wherever_somebody_wrote_it(workspace: Workspace) -> None:
    with workspace.session() as session:
        mine = project(session)
        made = {"prompt": task(session, mine, text="Gravity 引力?", answers=[Answer(text="x"), Answer(text="y")])}
        odd = 'quo"ted back\\slash 100%'
        made["answer"] = task(session, mine, text="one", answers=[Answer(text=odd), Answer(text="z")])
        made["label"] = task(session, mine, "demonstrate", text="two")
        label(session, made["label"], "ann", {}, payload={"messages": [{"role": "assistant", "content": "It pulls."}]})
        made["comment"] = task(session, mine, text="three", k=2)
        label(session, made["comment"], "ann", "A>B", payload={"comment": "too vague"})
    for text, found in FOUND.items():
        assert ids(workspace, text=text) == ([made[found]] if found else []), text


def test_pages(workspace: Workspace) -> None:
    with workspace.session() as session:
        mine = project(session)
        made = [task(session, mine, text=f"number {n}") for n in range(7)]

    def page(offset: int) -> BrowsePage:
        with workspace.reading() as session:
            return browse(session, Filters(project=mine, text="number"), offset=offset, limit=3)

    pages = [page(offset) for offset in (0, 3, 6, 9)]
    assert [one.id for found in pages for one in found.tasks] == made[::-1]
    assert {found.total for found in pages} == {7} and pages[3].tasks == []
    assert pages[0].tasks[0].start == "number 6"


def test_one_task(workspace: Workspace) -> None:
    with workspace.session() as session:
        mine = project(session)
        one = ranked(session, mine, {"ann": "A>B=C", "ben": "A>B=C"}, meta={"topic": "physics"})
        gold = task(session, mine, gold=WeakOrder((1, 2, 3)))
        label(session, gold, "ann", "A>C>B", payload={"comment": "hm"})
    merge_project(workspace, mine, actor="lead")
    with workspace.reading() as session:
        found = task_detail(session, one)
        assert found.task.agreement == 1.0 and found.task.ranking == "A>B=C" and found.task.state == "merged"
        assert [a.letter for a in found.answers] == ["A", "B", "C"] and found.answers[1].model == "model-1"
        assert found.messages[-1]["content"] == "What is gravity?" and found.meta == {"topic": "physics"}
        assert [(one.labeller, one.value["ranking"]) for one in found.labels] == [("ann", "A>B=C"), ("ben", "A>B=C")]
        assert found.merged is not None and found.merged.method == "ranked_pairs" and found.gold is None
        test = task_detail(session, gold)
        assert test.gold == "A>B>C" and test.labels[0].content == {"comment": "hm"}
        assert test.labels[0].gold_tau_b == pytest.approx(1 / 3)
        with pytest.raises(MissingError):
            task_detail(session, "task_none")


def test_withdrawn_texts_are_gone(workspace: Workspace) -> None:
    with workspace.session() as session:
        mine = project(session)
        one = task(session, mine, subject="hash-1", text="my secret", k=2)
        label(session, one, "ann", "A>B", payload={"comment": "about the secret"})
        erase(session, "hash-1", actor="lead")
    assert ids(workspace, text="secret") == []
    with workspace.reading() as session:
        found = task_detail(session, one)
    assert found.task.erased and found.task.start == "" and found.messages == []
    assert [a.text for a in found.answers] == [None, None] and found.labels[0].content is None
