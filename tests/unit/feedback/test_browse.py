"""The data browser: every filter, pages, and what is told of one task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from chatwright.errors import MissingError
from chatwright.feedback import task_search
from chatwright.feedback.browse import BrowsePage, Filters, browse, task_detail
from chatwright.feedback.consent import wipe
from chatwright.feedback.labels import undo
from chatwright.feedback.merging import merge_project
from chatwright.feedback.queue import flag
from chatwright.feedback.store import erase
from chatwright.feedback.tables import LabelRow, TaskRow
from chatwright.feedback.tasks import Answer
from chatwright.records import WeakOrder
from chatwright.workspace import text_search
from chatwright.workspace.database import Workspace
from chatwright.workspace.migrations import prepare
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


def search(workspace: Workspace, text: str, **given: Any) -> tuple[list[str], int | None]:
    with workspace.reading() as session:
        page = browse(session, Filters(text=text), limit=200, **given)
        return [one.id for one in page.tasks], page.next_older


ODD = (
    "rare-straße", 'x"OR"y', "a* NOT b", "%__%", "长颈鹿在草原上", "月亮", "é", "\\'; --", "İstanbul", "tab\there",
    "long " * 60, "a model's \x00 byte",
)  # fmt: skip


@pytest.mark.parametrize("indexed", [True, False])
def test_search_finds_odd_and_short_texts_with_and_without_the_index(
    workspace: Workspace, indexed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(task_search, "BUDGET_S", 60.0)
    if indexed:
        monkeypatch.setattr(task_search, "READ_AT_ONCE", 1)  # PostgreSQL reads a part before it asks its index
    if not indexed:
        drop_index(workspace)
    with workspace.session() as session:
        mine = project(session)
        made = [task(session, mine, text=f"number {n}: {odd}!") for n, odd in enumerate(ODD)]
    with workspace.reading() as session:
        assert text_search.has_index(session) is indexed
    for name, odd in zip(made, ODD, strict=True):
        for wanted in {odd, odd.upper() if odd.upper().casefold() == odd.casefold() else odd, odd[:2], odd[-3:]}:
            assert name in search(workspace, wanted)[0], (odd, wanted)
    assert search(workspace, "长颈马") == ([], None) == search(workspace, "rare-strasse-no")
    assert search(workspace, "number 0")[0] == made[:1]


def drop_index(workspace: Workspace) -> None:
    with workspace.engine.begin() as connection:
        if workspace.is_sqlite:
            for what in ("insert", "update", "delete"):
                connection.exec_driver_sql(f"DROP TRIGGER {text_search.INDEX}_{what}")
            connection.exec_driver_sql(f"DROP TABLE {text_search.INDEX}")
        else:
            connection.exec_driver_sql(f"DROP INDEX {text_search.INDEX}")


@pytest.mark.parametrize("text", ["number", "nu"])
def test_a_bounded_search_continues_where_it_ended(
    workspace: Workspace, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    for name, value in {"HITS": 2, "BUDGET_S": -1.0, "INDEXED_AT_ONCE": 3, "READ_AT_ONCE": 3}.items():
        monkeypatch.setattr(task_search, name, value)
    with workspace.session() as session:
        mine = project(session)
        made = [task(session, mine, text=f"number {n}" if n % 4 else "other") for n in range(9)]
    found, older, searches = list[str](), None, 0
    while searches == 0 or older is not None:
        ids_here, older = search(workspace, text, older_than=older)
        found, searches = found + ids_here, searches + 1
    assert found == [made[n] for n in reversed(range(9)) if n % 4] and searches > 3


def test_an_index_that_takes_long_is_left_for_reading_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """PostgreSQL ends the statement; the search continues in parts and finds the same."""
    for name, value in {"BUDGET_S": 60.0, "READ_AT_ONCE": 2, "INDEX_TIMEOUT_MS": 20}.items():
        monkeypatch.setattr(task_search, name, value)
    by_index = 0

    def slow(session: Session, wanted: str, **given: Any) -> list[int]:
        nonlocal by_index
        if given["indexed"]:
            by_index += 1
            session.execute(sql("SELECT pg_sleep(300)"))
        return real(session, wanted, **given)

    real = text_search.search
    with workspace_of("postgresql", tmp_path) as workspace:
        with workspace.session() as session:
            mine = project(session)
            made = [task(session, mine, text="rare giraffe" if n == 0 else f"common {n}") for n in range(9)]
        with workspace.reading() as session:
            before = session.scalar(sql("SHOW statement_timeout"))
            assert browse(session, Filters(text="giraffe")).tasks[0].id == made[0]  # or by reading, on a slow machine
            assert session.scalar(sql("SHOW statement_timeout")) == before
        monkeypatch.setattr(text_search, "search", slow)
        with workspace.reading() as session:
            page = browse(session, Filters(text="giraffe"))
            assert ([one.id for one in page.tasks], page.next_older, by_index) == (made[:1], None, 1)
            assert session.scalar(sql("SHOW statement_timeout")) == before
        monkeypatch.setattr(task_search, "BUDGET_S", -1.0)
        found, older, searches = list[str](), None, 0
        while searches == 0 or older is not None:
            ids_here, older = search(workspace, "giraffe", older_than=older)
            found, searches = found + ids_here, searches + 1
        assert found == made[:1] and searches > 3


def test_an_index_is_made_again_for_what_was_written_without_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    with workspace.session() as session:
        mine = project(session)
        before = task(session, mine, text="first giraffe")
    if workspace.is_sqlite:
        with monkeypatch.context() as patched:
            patched.setattr(text_search, "_sqlite_has_trigrams", lambda: False)
            prepare(workspace)
    else:
        drop_index(workspace)
    with workspace.session() as session:
        assert not text_search.has_index(session)
        after = task(session, mine, text="second giraffe")
    assert search(workspace, "giraffe") == ([after, before], None)
    prepare(workspace)
    with workspace.reading() as session:
        assert text_search.has_index(session)
    assert search(workspace, "giraffe") == ([after, before], None)


def test_withdrawn_texts_leave_the_files_of_the_index(tmp_path: Path) -> None:
    rare = "\U0002a6a5"  # one character, so that the index holds its bytes as they are
    with workspace_of("sqlite", tmp_path) as workspace:
        with workspace.session() as session:
            mine = project(session)
            for n in range(20):
                task(session, mine, text=f"other {n}", subject="other")
            task(session, mine, text=f"{rare}{rare}{rare}", subject="ada")
        with workspace.session() as session:
            erase(session, "ada", actor="ada")
        with workspace.engine.begin() as connection:
            connection.exec_driver_sql(f"INSERT INTO {text_search.INDEX}({text_search.INDEX}) VALUES ('integrity-check')")
        assert search(workspace, rare) == ([], None)
        wipe(workspace)
        files = [path.read_bytes() for path in workspace.folder.iterdir() if path.is_file()]
        assert files and all(rare.encode() not in content for content in files)
        assert len(search(workspace, "other")[0]) == 20


def test_agreement_follows_labels_and_their_withdrawal(workspace: Workspace) -> None:
    with workspace.session() as session:
        one = ranked(session, project(session), {"ann": "A>B>C", "ben": "C>B>A", "cat": "A>B>C"})
        row = session.get_one(TaskRow, one)
        assert row.agreement == pytest.approx(1 / 3)
        undo(session, session.scalars(select(LabelRow.uuid).where(LabelRow.labeller == "ben")).one(), "ben")
        assert row.agreement == 1.0
    assert ids(workspace, agreement_below=1.0) == []
