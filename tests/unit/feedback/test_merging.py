"""Merging a project: events, adjudication, and that doing it twice is doing it once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright.errors import ConflictError, DataError, MissingError
from chatwright.feedback import merging
from chatwright.feedback.labels import undo
from chatwright.feedback.merging import MergeCounts, merge_project
from chatwright.feedback.read import task_view
from chatwright.feedback.store import rebuild
from chatwright.feedback.tables import MergedRow, TaskRow
from chatwright.records import WeakOrder
from chatwright.workspace.database import Workspace
from desk_data import label, project, ranked, task
from workspaces import KINDS, workspace_of


@pytest.fixture(params=KINDS)
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    with workspace_of(request.param, tmp_path) as found:
        yield found


def merged(workspace: Workspace, project_id: str, **more: object) -> MergeCounts:
    return merge_project(workspace, project_id, actor="lead", **more)  # type: ignore[arg-type]


def state(workspace: Workspace, task_id: str) -> tuple[str, str | None]:
    with workspace.reading() as session:
        row = session.get(MergedRow, task_id)
        return session.get_one(TaskRow, task_id).state, None if row is None else row.order


def test_agreed_tasks_are_merged_torn_ones_adjudicated(workspace: Workspace) -> None:
    with workspace.session() as session:
        mine = project(session, adjudicate_below=0.6)
        sure = ranked(session, mine, {"ann": "A>B=C", "ben": "A>B=C"})
        torn = ranked(session, mine, {"ann": "A>B>C", "ben": "C>B>A"})
        waiting = task(session, mine, overlap=2)
        uuid = label(session, waiting, "ann", "A>B>C")
    found = merged(workspace, mine)
    assert (found.merged, found.adjudicate, found.waiting, found.method) == (1, 1, 0, "ranked_pairs")
    assert state(workspace, sure) == ("merged", "A>B=C") and state(workspace, torn) == ("complete", None)
    again = merged(workspace, mine)
    assert (again.merged, again.adjudicate, again.waiting) == (0, 0, 1)
    with workspace.session() as session:
        asked = session.scalars(select(TaskRow).where(TaskRow.of_task == torn)).one()
        assert asked.kind == "adjudicate" and task_view(session, asked.id).messages == task_view(session, torn).messages
        label(session, asked.id, "lead", "B>A=C")
        undo(session, uuid, "ann")  # not merged yet: may be taken back
    assert state(workspace, torn) == ("merged", "B>A=C")
    nothing = MergeCounts(merged=0, adjudicate=0, waiting=0, unjudged=0, cycles=0, method="ranked_pairs")
    assert merged(workspace, mine) == nothing
    with workspace.session() as session:
        own = next(one.uuid for one in task_view(session, sure).labels if one.labeller == "ann")
        with pytest.raises(ConflictError):
            undo(session, own, "ann")


def test_circles_are_adjudicated_whatever_the_agreement(workspace: Workspace) -> None:
    with workspace.session() as session:
        mine = project(session)
        circle = ranked(session, mine, {"ann": "A>B>C", "ben": "B>C>A", "cy": "C>A>B"})
    found = merged(workspace, mine, adjudicate_below=0.0)
    assert (found.cycles, found.adjudicate, found.merged) == (1, 1, 0)
    assert state(workspace, circle) == ("complete", None)


def test_what_nobody_can_judge_is_closed(workspace: Workspace) -> None:
    blank = {"ranking": "", "cannot_judge": True}
    with workspace.session() as session:
        mine = project(session, adjudicate_below=0.6, overlap={"rank": 1})
        lost = task(session, mine)
        label(session, lost, "ann", blank)
        torn = ranked(session, mine, {"ann": "A>B>C", "ben": "C>B>A"})
    found = merged(workspace, mine)
    assert (found.unjudged, found.adjudicate) == (1, 1) and state(workspace, lost) == ("closed", None)
    with workspace.session() as session:
        asked = session.scalars(select(TaskRow.id).where(TaskRow.of_task == torn)).one()
        label(session, asked, "lead", blank)
    assert merged(workspace, mine).unjudged == 1 and state(workspace, torn) == ("closed", None)


def test_comparisons_are_merged_and_test_tasks_are_not(workspace: Workspace) -> None:
    with workspace.session() as session:
        mine = project(session, adjudicate_below=0.0)
        pair = task(session, mine, "compare", k=2, overlap=2)
        label(session, pair, "ann", {"verdict": "b"})
        label(session, pair, "ben", {"verdict": "b"})
        gold = task(session, mine, gold=WeakOrder((1, 2, 3)))
        label(session, gold, "ann", "A>B>C")
    assert merged(workspace, mine, method="borda").merged == 1
    assert state(workspace, pair) == ("merged", "B>A") and state(workspace, gold)[1] is None
    with workspace.reading() as session:
        row = session.get_one(MergedRow, pair)
        assert row.method == "borda" and row.detail["agreement"] == 1.0 and row.detail["num_labellers"] == 2


def test_what_was_merged_is_rebuilt_from_the_events(workspace: Workspace) -> None:
    with workspace.session() as session:
        mine = project(session)
        one = ranked(session, mine, {"ann": "A>B=C", "ben": "A>B>C"})
    merged(workspace, mine, method="plackett_luce")
    before = state(workspace, one)
    with workspace.session() as session:
        rebuild(session)
    assert state(workspace, one) == before and before[0] == "merged"


def test_refusals(workspace: Workspace) -> None:
    with pytest.raises(MissingError):
        merged(workspace, "proj_none")
    with workspace.session() as session:
        mine = project(session)
    with pytest.raises(DataError, match="not one of ranked_pairs"):
        merged(workspace, mine, method="oracle")


def test_many_tasks_are_merged_in_several_transactions(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "_AT_ONCE", 2)
    with workspace.session() as session:
        mine = project(session)
        made = [ranked(session, mine, {"ann": "A>B", "ben": order}) for order in ("A>B", "A>B", "B>A", "A>B", "A=B")]
    found = merged(workspace, mine)
    assert (found.merged, found.adjudicate) == (3, 2)
    assert [state(workspace, one)[0] for one in made] == ["merged", "merged", "complete", "merged", "complete"]


def test_a_label_taken_back_while_others_are_merged_is_not_merged(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with workspace.session() as session:
        mine = project(session)
        one = ranked(session, mine, {"ann": "A>B", "ben": "A>B"})
        uuid = next(label.uuid for label in task_view(session, one).labels if label.labeller == "ann")
    whole = merging._some

    def late(session: Session, *rest: object) -> Counter[str]:
        undo(session, uuid, "ann")
        return whole(session, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(merging, "_some", late)
    assert merged(workspace, mine).merged == 0 and state(workspace, one) == ("open", None)
