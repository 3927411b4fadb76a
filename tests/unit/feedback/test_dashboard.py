"""The dashboard's figures, from labels in a real database."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatwright.errors import MissingError
from chatwright.feedback.dashboard import cost_comparison, dashboard, labels_of
from chatwright.feedback.figures import Dashboard, QualityWarning
from chatwright.feedback.labels import undo
from chatwright.feedback.queue import close, flag, skip
from chatwright.records import WeakOrder
from chatwright.workspace.database import Workspace
from desk_data import label, project, ranked, task
from workspaces import KINDS, workspace_of


@pytest.fixture(params=KINDS)
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    with workspace_of(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Workspace]:
    with workspace_of("sqlite", tmp_path) as found:
        yield found


def read(workspace: Workspace, project_id: str, **more: object) -> Dashboard:
    with workspace.reading() as session:
        return dashboard(session, project_id, **more)  # type: ignore[arg-type]


def test_progress_by_kind(workspace: Workspace) -> None:
    with workspace.session() as session:
        mine = project(session, wage_per_hour=36.0, overlap={"rank": 2})
        other = project(session, "other")
        first = task(session, mine)
        label(session, first, "ann", "A>B>C", seconds=10)
        label(session, first, "ben", "A>B=C", seconds=30)
        label(session, first, "cy", "C>B>A")  # surplus: two were wanted
        second = task(session, mine)
        undo(session, label(session, second, "ann", "A>B>C"), "ann")
        skip(session, second, "ben", "unclear")
        flag(session, task(session, mine, "demonstrate"), "ann", "unsafe")
        label(session, task(session, mine, gold=WeakOrder((1, 2, 3))), "ann", "A>B>C", seconds=20)
        label(session, task(session, other), "ann", "A>B>C")
    found = {line.kind: line for line in read(workspace, mine).progress}
    assert set(found) == {"rank", "demonstrate"}
    rank = found["rank"]
    assert (rank.open, rank.complete, rank.merged, rank.closed) == (2, 1, 0, 0)
    assert (rank.labels, rank.wanted, rank.surplus, rank.undone, rank.skipped) == (2, 4, 1, 1, 1)
    assert (rank.median_seconds, rank.mean_seconds, rank.cost) == (20, 20, pytest.approx(0.2))
    with workspace.session() as session:
        close(session, second, actor="lead")  # got nothing, wants nothing more
    assert next(line.wanted for line in read(workspace, mine).progress if line.kind == "rank") == 2
    assert (found["demonstrate"].flagged, found["demonstrate"].labels, found["demonstrate"].cost) == (1, 0, None)


def test_agreement_counts_what_labellers_share(workspace: Workspace) -> None:
    with workspace.session() as session:
        mine = project(session)
        ranked(session, mine, {"ann": "A>B>C", "ben": "A>B=C"})
        ranked(session, mine, {"ann": "A>B>C", "simulated:general-en": "C>B>A"})
        pair = task(session, mine, "compare", k=2, overlap=2)
        label(session, pair, "ann", {"verdict": "a"})
        label(session, pair, "ben", {"verdict": "both_bad"})
        label(session, task(session, mine), "ann", "A>B>C")  # nobody to compare with
        gold = task(session, mine, gold=WeakOrder((1, 2, 3)))
        for name in ("ann", "ben"):  # agree on a test task: not counted
            label(session, gold, name, "A>B>C")
    figures = read(workspace, mine).agreement
    assert (figures.num_tasks, figures.num_pairs) == (3, 7)
    assert figures.percent is not None and figures.percent.value == pytest.approx(2 / 7)
    assert figures.percent_without_ties is not None and figures.percent_without_ties.value == pytest.approx(2 / 5)
    assert figures.tau_b is not None and figures.alpha_ordinal is not None and figures.likert_alpha is None


def test_labellers_lines_and_filter_by_kind(workspace: Workspace) -> None:
    with workspace.session() as session:
        mine = project(session, too_fast_s=2.0)
        gold = task(session, mine, gold=WeakOrder((1, 2, 3)))
        label(session, gold, "ann", "A>B>C", seconds=1.0)
        label(session, gold, "ben", "C>B>A", seconds=5.0)
        label(session, task(session, mine), "ann", "A=B>C", seconds=9.0)
        label(session, task(session, mine), "ai:judge", "A>B>C", kind="ai")
    lines = {line.labeller: line for line in read(workspace, mine).labellers}
    ann = lines["ann"]
    assert (ann.kind, ann.labels, ann.too_fast, ann.gold_tau_b, ann.num_gold) == ("human", {"rank": 2}, 0.5, 1.0, 1)
    assert ann.median_seconds == 5.0 and ann.ties == pytest.approx(1 / 6)
    assert lines["ben"].gold_tau_b == -1.0 and ann.agreement is None and ann.reliability is None
    only = read(workspace, mine, labeller_kinds=("ai",))
    assert [line.labeller for line in only.labellers] == ["ai:judge"] and only.labeller_kinds == ["ai"]


def test_ratings_have_an_alpha(sqlite: Workspace) -> None:
    with sqlite.session() as session:
        mine = project(session)
        for n in range(4):
            rate = task(session, mine, "rate", k=2, overlap=2)
            for name in ("ann", "ben"):
                label(session, rate, name, {"likert": [1 + n, 7 - n], "flags": [[], []]})
    alpha = read(sqlite, mine).agreement.likert_alpha
    assert alpha is not None and alpha.value == pytest.approx(1.0)


def test_held_out_labellers_are_those_outside_training_or_those_named(sqlite: Workspace) -> None:
    with sqlite.session() as session:
        mine = project(session)
        ranked(session, mine, {"ann": "A>B>C", "ben": "A>B>C"})
        ranked(session, mine, {"ann": "A>B>C", "hal": "C>B>A"}, split="held_out")
    figures = read(sqlite, mine).agreement
    assert figures.held_out_labellers == ["hal"]
    assert figures.held_out is not None and figures.held_out.value == 0.0
    named = read(sqlite, mine, held_out=("ben", "nobody")).agreement
    assert named.held_out_labellers == ["ben"] and named.held_out is not None and named.held_out.value == 1.0


def test_agreement_of_people_with_a_judge(sqlite: Workspace) -> None:
    with sqlite.session() as session:
        mine = project(session)
        for judged in ("A>B>C", "A>B>C", "B>A>C", "C>B>A"):
            one = task(session, mine, overlap=3)
            label(session, one, "ann", "A>B>C")
            label(session, one, "ben", "A>B>C")
            label(session, one, "ai:judge", judged, kind="ai")
        label(session, task(session, mine), "ai:other", "A>B>C", kind="ai")
    kinds = {(one.first, one.second): one for one in read(sqlite, mine).agreement.kinds}
    assert set(kinds) == {("human", "human"), ("human", "ai")}  # two judges never met
    people, judge = kinds["human", "human"], kinds["human", "ai"]
    assert people.percent.value == 1.0 and (people.num_tasks, judge.num_tasks) == (4, 4)
    assert judge.percent.value == pytest.approx(8 / 12)
    assert judge.tau_b is not None and judge.tau_b.value == pytest.approx((1 + 1 + 1 / 3 - 1) / 4)


def test_writing_costs_more_than_ranking(sqlite: Workspace) -> None:
    with sqlite.session() as session:
        mine = project(session, wage_per_hour=20.0)
        for seconds in (300.0, 500.0):
            label(
                session, task(session, mine, "demonstrate"), "ann", {}, seconds=seconds,
                payload={"messages": [{"role": "assistant", "content": "It pulls."}]},
            )  # fmt: skip
        for seconds in (40.0, 60.0, 0.0):  # the last one's time was not measured
            label(session, task(session, mine), "ann", "A>B>C", seconds=seconds)
        labels = labels_of(session, mine)
    cost = cost_comparison(labels, 20.0)
    assert (cost.num_demonstrations, cost.num_rankings) == (2, 2)
    assert cost.ratio is not None and cost.ratio.value == pytest.approx(8.0) and cost.ratio.low < 8 < cost.ratio.high
    assert cost.cost_per_demonstration == pytest.approx(400 * 20 / 3600)
    assert cost_comparison(labels, 0.0).cost_per_ranking is None and cost_comparison([], 20.0).ratio is None


def _codes(workspace: Workspace, project_id: str) -> set[tuple[str, str | None]]:
    return {(one.code, one.labeller) for one in read(workspace, project_id).warnings}


def test_warnings(sqlite: Workspace) -> None:
    draw = random.Random(3)
    with sqlite.session() as session:
        copied = project(session, "copied")
        torn = project(session, "torn")
        few = project(session, "few")
        for _ in range(25):
            order = ">".join(draw.sample("ABCD", 4))
            ranked(session, copied, {"ann": order, "ben": order})
            clicked = {name: ">".join(draw.sample("ABCD", 4)) for name in ("x", "y")}
            ranked(session, torn, {"ann": order, "ben": order, "cy": order, **clicked})
        ranked(session, few, {"ann": "A>B", "ben": "B>A"})
        for _ in range(12):
            label(session, task(session, few), "quick", "A>B>C", seconds=0.5)
        for _ in range(3):
            label(session, task(session, few, gold=WeakOrder((1, 2, 3))), "wrong", "C>B>A")
    assert ("high_agreement", None) in _codes(sqlite, copied)
    assert _codes(sqlite, torn) >= {("low_agreement", None), ("labeller_unreliable", "x"), ("labeller_unreliable", "y")}
    assert not any(name == "ann" for _, name in _codes(sqlite, torn))
    assert _codes(sqlite, few) == {("few_overlaps", None), ("labeller_too_fast", "quick"), ("labeller_gold", "wrong")}
    warned = [one for one in read(sqlite, copied).warnings if one.code == "high_agreement"]
    assert warned == [QualityWarning(code="high_agreement", value=1.0, limit=0.9)]


def test_an_empty_project_and_one_that_is_not_there(workspace: Workspace) -> None:
    with workspace.session() as session:
        mine = project(session)
    found = read(workspace, mine)
    assert found.progress == [] and found.labellers == [] and found.warnings == [] and found.agreement.percent is None
    with pytest.raises(MissingError):
        read(workspace, "proj_none")
