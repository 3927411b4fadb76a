"""Which labels shaped a model, what was withdrawn since, and what may serve."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from chatwright.errors import CheckpointError, GateError, MissingError, UsageError
from chatwright.feedback import export as exporting
from chatwright.feedback import lineage, promotion, queue, store
from chatwright.feedback.export import ExportFilter
from chatwright.feedback.importing import ImportSettings, import_rows
from chatwright.feedback.jobs_tables import ModelRow
from chatwright.feedback.labels import Submission
from chatwright.feedback.projects import default_project
from chatwright.feedback.tables import LabelRow, TaskRow
from chatwright.feedback.tasks import Answer, NewTask
from chatwright.records import user
from chatwright.workspace.database import Workspace
from workspaces import KINDS, workspace_of


@pytest.fixture(params=KINDS)
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    with workspace_of(request.param, tmp_path) as made:
        yield made


def verdict(low: float, judge: str = "general-en", kind: str = "simulated") -> dict[str, Any]:
    rates = {"rate": low + 0.1, "low": low, "high": low + 0.2, "p": 0.001}
    return {"judge": judge, "judge_kind": kind, **rates, "n": 40, "questions": 10, "ties": 0.1}


def label(workspace: Workspace, name: str, labeller: str = "ann") -> str:
    """One more ranking by somebody, of `name`'s prompt."""
    row = {"prompt": f"{name}?", "completions": ["a", "b"], "ranking": "A>B", "labeller": labeller, "user": name,
           "labeller_kind": "human" if labeller == "ann" else "ai"}  # fmt: skip
    with workspace.session() as session:
        project = default_project(session)
    import_rows(workspace, project, lambda: [(1, row)], "f", ImportSettings(held_out=0.0), actor="lead")
    with workspace.reading() as session:
        return str(session.scalars(select(LabelRow.uuid).order_by(LabelRow.seq.desc())).first())


def model(workspace: Workspace, name: str, low: float = 0.6, *, parent: str | None = None, against: str = "") -> str:
    """A model trained on everything labelled so far."""
    frozen = exporting.export(workspace, ExportFilter(), actor="lead")
    folder = workspace.folder / name
    folder.mkdir()
    (folder / "MANIFEST.json").write_text(f'{{"name": "{name}"}}')
    comparison = {"against": "base", "against_id": against or lineage.CONFIGURED, "verdicts": [verdict(low)]}
    with workspace.session() as session:
        row = lineage.register(
            session, name=name, path=folder, base="base", parent=parent, exports=[frozen.id], actor="lead",
            figures={"comparison": comparison},
        )  # fmt: skip
        return row.id


def test_labels_of_a_model_are_those_of_its_exports_and_ancestors(workspace: Workspace) -> None:
    first = label(workspace, "eve")
    old = model(workspace, "old")
    second = label(workspace, "bob", "judge")
    new = model(workspace, "new", parent=old)
    label(workspace, "late")
    with workspace.reading() as session:
        assert {row.uuid for row in lineage.labels(session, old, limit=9)} == {first}
        assert [row.uuid for row in lineage.labels(session, new, limit=9)] == [first, second]
        assert [row.uuid for row in lineage.labels(session, new, limit=1, offset=1)] == [second]
        shares = [(s.labeller, s.labeller_kind, s.kind, s.labels) for s in lineage.label_shares(session, new)]
        assert shares == [("ann", "human", "rank", 1), ("judge", "ai", "rank", 1)]
        assert len(lineage.exports_of(session, new)) == 2 and [m.id for m in lineage.ancestors(session, new)] == [old]
        with pytest.raises(MissingError):
            lineage.model(session, "model_x")


def test_what_was_withdrawn_marks_exports_and_models(workspace: Workspace) -> None:
    label(workspace, "eve")
    old = model(workspace, "old")
    label(workspace, "bob")
    new = model(workspace, "new", parent=old)
    with workspace.session() as session:
        eve = session.scalars(select(TaskRow.subject).order_by(TaskRow.seq)).first()
        assert eve and store.erase(session, eve, actor="root") == 3  # a prompt and two answers
    with workspace.reading() as session:
        gone = lineage.withdrawn(session)
        of_old, of_new = lineage.exports_of(session, old), lineage.exports_of(session, new)
    assert gone.models == {old: 3, new: 3}
    assert set(gone.exports) == {row.id for row in (*of_old, *of_new)} and set(gone.exports.values()) == {3}
    assert exporting.export(workspace, ExportFilter(), actor="lead").id not in gone.exports


def test_promotion_needs_an_interval_above_one_half_or_a_reason(workspace: Workspace) -> None:
    label(workspace, "eve")
    weak, good = model(workspace, "weak", 0.45), model(workspace, "good", 0.51)
    with workspace.session() as session:
        with pytest.raises(GateError, match=r"0.550 \[0.450, 0.650\], p = 0.0010, not surely above 1/2 \(judge: general-en"):
            lineage.promote(session, weak, "chat", actor="root")
        with pytest.raises(UsageError, match="needs a reason"):
            lineage.promote(session, weak, "chat", actor="root", force=True, reason=" ")
        assert lineage.serving(session, "chat") is None
        assert not lineage.promote(session, good, "chat", actor="root").forced
    with workspace.session() as session:
        assert lineage.serving(session, "chat").id == good and lineage.serving(session, "other") is None  # type: ignore[union-attr]
        # The weak one was compared with what serves no longer.
        with pytest.raises(GateError, match="another model serves"):
            lineage.promote(session, weak, "chat", actor="root")
        assert lineage.promote(session, weak, "chat", actor="root", force=True, reason="a test").forced


def test_roll_back_goes_back_step_by_step(workspace: Workspace) -> None:
    label(workspace, "eve")
    first = model(workspace, "first")
    second = model(workspace, "second", against=first)
    with workspace.session() as session:
        lineage.promote(session, first, "chat", actor="root")
        lineage.promote(session, second, "chat", actor="root")
    for expected in (first, None):
        with workspace.session() as session:
            assert lineage.roll_back(session, "chat", actor="root").model_id == expected
            found = lineage.serving(session, "chat")
            assert (found.id if found else None) == expected
    with pytest.raises(UsageError, match="nothing to roll back"), workspace.session() as session:
        lineage.roll_back(session, "chat", actor="root")
    with workspace.session() as session:
        lineage.promote(session, first, "chat", actor="root")
        assert lineage.before(session, "chat") == (None, True)


def test_people_decide_once_they_are_enough(workspace: Workspace) -> None:
    label(workspace, "eve")
    made = model(workspace, "made", 0.7)
    tasks = []
    with workspace.session() as session:
        home = default_project(session).id
        for n in range(promotion.ENOUGH_PEOPLE):
            answers = (Answer(text="new"), Answer(text="old"))
            task = NewTask(project=home, kind="compare", messages=user(f"{n}?"), answers=answers, split="held_out")
            tasks.append(queue.add_task(session, task, actor="lead"))
        row = session.get_one(ModelRow, made)
        row.figures = {"comparison": {**row.figures["comparison"], "tasks": tasks}}

    def vote(task: str, kind: str = "human") -> None:
        with workspace.session() as session:
            given = Submission(
                uuid=f"{kind}-{task[-12:]}", task=task, labeller=kind, labeller_kind=kind, value={"verdict": "b"}
            )
            queue.submit(session, given)

    for task in tasks[:-1]:
        vote(task)
        vote(task, "simulated")  # of no weight among people
    with workspace.reading() as session:
        row = session.get_one(ModelRow, made)
        assert [one["judge_kind"] for one in lineage.verdicts(session, row)] == ["simulated", "human"]
        assert lineage.blocker(session, row, "chat") == promotion.FREE
    vote(tasks[-1])
    with workspace.reading() as session:
        row = session.get_one(ModelRow, made)
        people = lineage.verdicts(session, row)[0]
        assert (people["judge_kind"], people["rate"], people["n"]) == ("human", 0.0, promotion.ENOUGH_PEOPLE)
        assert "not surely above 1/2 (judge: people" in lineage.blocker(session, row, "chat").text


def test_a_model_is_entered_once_and_only_when_it_is_whole(workspace: Workspace, tmp_path: Path) -> None:
    label(workspace, "eve")
    one = model(workspace, "made")
    with workspace.session() as session:
        folder = workspace.folder / "made"
        again = lineage.register(session, name="made", path=folder, base="b", exports=[], figures={"x": 1}, actor="lead")
        assert again.id == one and again.figures == {"x": 1}
        with pytest.raises(CheckpointError, match="no finished model"):
            lineage.register(session, name="x", path=tmp_path / "x", base="b", exports=[], figures={}, actor="lead")


def test_attempts_against_one_serving_model_are_counted(workspace: Workspace) -> None:
    label(workspace, "eve")
    first, second = model(workspace, "first"), model(workspace, "second")
    with workspace.session() as session:
        lineage.promote(session, second, "chat", actor="root")
    third = model(workspace, "third", against=second)
    fourth = model(workspace, "fourth")  # against the configured one again
    with workspace.session() as session:
        numbers = [lineage.attempt(session.get_one(ModelRow, one)) for one in (first, second, third, fourth)]
        assert numbers == [1, 2, 1, 3]
        row = session.get_one(ModelRow, first)
        path, figures = workspace.folder / "first", {"comparison": dict(row.figures["comparison"])}
        again = lineage.register(session, name="first", path=path, base="b", exports=[], figures=figures, actor="lead")
        assert lineage.attempt(again) == 1  # the same verdicts
        figures["comparison"]["verdicts"] = [verdict(0.7)]
        again = lineage.register(session, name="first", path=path, base="b", exports=[], figures=figures, actor="lead")
        assert lineage.attempt(again) == 4  # a new look


def test_the_training_reward_alone_does_not_open_promotion(workspace: Workspace) -> None:
    label(workspace, "eve")
    made = model(workspace, "made", 0.7)
    with workspace.session() as session:
        row = session.get_one(ModelRow, made)
        row.figures = {"comparison": {**row.figures["comparison"], "verdicts": [verdict(0.9, "its reward", "learned")]}}
        assert lineage.deciding(session, row) is None
    with workspace.session() as session:
        with pytest.raises(GateError, match="upper bound"):
            lineage.promote(session, made, "chat", actor="root")
        with pytest.raises(UsageError, match="needs a reason"):
            lineage.promote(session, made, "chat", actor="root", force=True)
        assert lineage.promote(session, made, "chat", actor="root", force=True, reason="people like it").forced
