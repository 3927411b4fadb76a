"""What was labelled comes out as records, split, without what was withdrawn, and in the same bytes each time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from chatwright.engine.record import Record, files
from chatwright.errors import ConfigError, DataError, UsageError
from chatwright.feedback import export as exporting
from chatwright.feedback import queue, store
from chatwright.feedback.events import new_uuid
from chatwright.feedback.export import Export, ExportFilter
from chatwright.feedback.export_rows import UNMERGED
from chatwright.feedback.importing import Imported, ImportSettings, import_rows
from chatwright.feedback.jobs_tables import ExportItem, ExportRow
from chatwright.feedback.labels import Submission
from chatwright.feedback.projects import default_project
from chatwright.feedback.tables import TaskRow
from chatwright.feedback.tasks import Answer, NewTask
from chatwright.records import WeakOrder, load_demonstrations, load_prompts, load_rankings, user
from chatwright.workspace.database import Workspace
from workspaces import KINDS, workspace_of


@pytest.fixture(params=KINDS)
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    with workspace_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Workspace]:
    with workspace_of("sqlite", tmp_path) as made:
        yield made


def add(workspace: Workspace, kind: str, text: str = "Why?", answers: tuple[str, ...] = (), **fields: Any) -> str:
    with workspace.session() as session:
        given = tuple(Answer(text=one, model="m", finish_reason="length" if "cut" in one else "stop") for one in answers)
        messages = user(text) if text else ()
        task = NewTask(project=default_project(session).id, kind=kind, messages=messages, answers=given, **fields)
        return queue.add_task(session, task, actor="lead")


def say(
    workspace: Workspace, task: str, value: dict[str, Any], labeller: str = "ann", kind: str = "human", **more: Any
) -> str:
    uuid = new_uuid()
    with workspace.session() as session:
        queue.submit(
            session, Submission(uuid=uuid, task=task, labeller=labeller, labeller_kind=kind, value=value, **more)
        )
    return uuid


def frozen(workspace: Workspace, **chosen: Any) -> Export:
    return exporting.export(workspace, ExportFilter(**chosen), actor="lead")


def filled(workspace: Workspace) -> dict[str, str]:
    """One of everything."""
    ids = {
        "rank": add(workspace, "rank", "Why is it cold?", ("a", "b cut", "c"), language="en", meta={"topic": "ice"}),
        "held": add(workspace, "rank", "Held?", ("x", "y"), split="held_out", subject="s2"),
        "compare": add(workspace, "compare", "Which?", ("p", "q"), subject="s1"),
        "rate": add(workspace, "rate", "How good?", ("one",)),
        "demonstrate": add(workspace, "demonstrate", "Show me.", subject="s1"),
        "prompt": add(workspace, "prompt", ""),
        "gold": add(workspace, "rank", "Known?", ("g", "h"), gold=WeakOrder.parse("A>B", 2)),
    }
    likert = {"likert": [5, 2, 5], "flags": [[], ["hallucination"], []]}
    first = {"ranking": "C=A>B", **likert}
    uuids = {"rank": say(workspace, ids["rank"], first, seconds={"rank": 9.0}, shown_order=(2, 0, 1))}
    uuids["rank 2"] = say(workspace, ids["rank"], {"ranking": "A>B>C"}, "simulated:x", "simulated")
    uuids["held"] = say(workspace, ids["held"], {"ranking": "B>A"})
    uuids["compare"] = say(workspace, ids["compare"], {"verdict": "both_bad"})
    uuids["rate"] = say(workspace, ids["rate"], {"likert": [3], "flags": [["expresses_opinion"]]})
    shown = {"messages": [{"role": "assistant", "content": "Like this."}]}
    uuids["demonstrate"] = say(workspace, ids["demonstrate"], {}, payload=shown, draft_model="m")
    uuids["prompt"] = say(workspace, ids["prompt"], {}, payload={"messages": [{"role": "user", "content": "Mine?"}]})
    uuids["gold"] = say(workspace, ids["gold"], {"ranking": "A>B"})
    return ids | {f"label {name}": uuid for name, uuid in uuids.items()}


def test_every_kind_of_label_becomes_a_record(workspace: Workspace) -> None:
    ids = filled(workspace)
    made = frozen(workspace)
    assert made.counts == {
        "train": {"rankings": 3, "demonstrations": 1, "prompts": 5, "ratings": 1},
        "held_out": {"rankings": 1, "demonstrations": 0, "prompts": 1, "ratings": 0},
    }
    first, second, compared = load_rankings(made.file("train", "rankings"))
    assert (str(first.order), first.likert, first.flags) == ("A=C>B", (5, 2, 5), ((), ("hallucination",), ()))
    assert (first.labeller, first.labeller_kind, first.uuid) == ("ann", "human", ids["label rank"])
    assert first.shown_order == (2, 0, 1) and first.seconds == {"rank": 9.0} and first.ended == (True, False, True)
    assert (first.meta["topic"], first.meta["language"], first.meta["task"]) == ("ice", "en", ids["rank"])
    assert (str(second.order), second.labeller_kind) == ("A>B>C", "simulated")
    assert str(compared.order) == "A=B" and compared.meta["none_acceptable"] is True
    (shown,) = load_demonstrations(made.file("train", "demonstrations"))
    assert (shown.prompt.messages[-1].content, shown.answer, shown.meta["draft_model"]) == ("Show me.", "Like this.", "m")
    assert [p.messages[0].content for p in load_prompts(made.file("held_out", "prompts"))] == ["Held?"]
    assert {p.messages[0].content for p in load_prompts(made.file("train", "prompts"))} == {
        "Why is it cold?", "Which?", "How good?", "Show me.", "Mine?",
    }  # fmt: skip
    assert made.left_out == {"test task (gold or screening)": 1, "prompt written by a labeller (in prompts)": 1}
    card = (made.path / "DATA_CARD.md").read_text()
    assert "| train | 3 | 1 | 5 | 1 |" in card and "test task (gold or screening): 1" in card


def test_the_same_state_gives_the_same_bytes_and_more_labels_another_export(workspace: Workspace, tmp_path: Path) -> None:
    ids = filled(workspace)
    one = frozen(workspace)
    again = exporting.export(workspace, ExportFilter(), actor="other", out=tmp_path / "copy")
    assert (again.id, again.path) == (one.id, one.path)
    files = {p.relative_to(one.path): p.read_bytes() for p in one.path.rglob("*") if p.is_file()}
    copied = {p.relative_to(tmp_path / "copy"): p.read_bytes() for p in (tmp_path / "copy").rglob("*") if p.is_file()}
    assert files == copied and exporting.verify(tmp_path / "copy") == one.id
    say(workspace, ids["held"], {"ranking": "A=B"}, "bob")
    other = frozen(workspace)
    assert other.id != one.id
    with pytest.raises(UsageError, match="holds another export"):
        exporting.export(workspace, ExportFilter(), actor="x", out=tmp_path / "copy")
    with workspace.reading() as session:
        rows = {row.id: row for row in session.scalars(select(ExportRow))}
        labels = set(session.scalars(select(ExportItem.label_uuid).where(ExportItem.export_id == one.id)))
    assert set(rows) == {one.id, other.id} and rows[one.id].created_by == "lead"
    wanted = {ids[f"label {name}"] for name in ("rank", "rank 2", "held", "compare", "rate", "demonstrate", "prompt")}
    assert labels - {""} == wanted


def test_filters(workspace: Workspace) -> None:
    filled(workspace)
    people = frozen(workspace, labeller_kinds=("human",))
    assert people.counts["train"]["rankings"] == 2 and people.left_out["labeller kind simulated"] == 1
    assert frozen(workspace, languages=("fr",)).counts["train"]["prompts"] == 0
    with pytest.raises(UsageError, match="no such project; known: General"):
        frozen(workspace, project="x")
    with pytest.raises(ConfigError, match="robot"):
        ExportFilter(labeller_kinds=("robot",))


def test_withdrawn_and_taken_back_labels_are_left_out(workspace: Workspace) -> None:
    ids = filled(workspace)
    with workspace.session() as session:
        store.erase(session, "s1", actor="root")
    with workspace.session() as session:
        queue.undo(session, ids["label rank"], "ann")
    made = frozen(workspace)
    assert made.counts["train"] == {"rankings": 1, "demonstrations": 0, "prompts": 3, "ratings": 1}
    assert made.left_out["withdrawn"] == 2 and made.left_out["taken back by the labeller"] == 1
    everything = b"".join(path.read_bytes() for path in made.path.rglob("*") if path.is_file())
    assert b"Which?" not in everything and b"Like this" not in everything and b"How good?" in everything


def test_merged_orders_are_a_row_per_task(lite: Workspace) -> None:
    ids = filled(lite)
    before = frozen(lite, rankings="merged")
    assert (before.counts["train"]["rankings"], before.left_out[UNMERGED]) == (0, 1)
    with lite.session() as session:
        order = WeakOrder.parse("A>B", 3, ["C"])
        queue.record_merge(session, task=ids["rank"], method="borda", order=order, detail={}, actor="lead")
    made = frozen(lite, rankings="merged")
    assert UNMERGED not in made.left_out
    (row,) = load_rankings(made.file("train", "rankings"))
    assert (str(row.order), row.order.unranked, row.labeller, row.labeller_kind) == ("A>B", ("C",), "merged:borda", None)
    with pytest.raises(ConfigError, match="merged"):
        frozen(lite, rankings="merged", labeller_kinds=("human",))


def test_no_prompt_is_in_both_parts(lite: Workspace) -> None:
    """Two people asked the same; one of them is in the held-out part."""
    for split in ("train", "held_out"):
        task = add(lite, "rank", "Same?", ("a", "b"), split=split)
        say(lite, task, {"ranking": "A>B"})
    made = frozen(lite)
    assert made.counts["train"]["rankings"] == 0 and made.counts["held_out"]["rankings"] == 1
    assert made.counts["train"]["prompts"] == 0 and made.left_out == {"its prompt is in the held-out part": 1}


def test_a_changed_export_is_refused(lite: Workspace) -> None:
    filled(lite)
    made = frozen(lite)
    path = made.file("train", "rankings")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"A=C>B", b"B>A=C"))
    with pytest.raises(DataError, match=r"rankings.jsonl: is not what MANIFEST.json says"):
        frozen(lite)


def test_a_checkpoint_names_the_export(lite: Workspace) -> None:
    filled(lite)
    made = frozen(lite)
    record = Record.of("reward", ExportFilter(), {"data": files([made.file("train", "rankings")])})
    named = record.hashes("data")
    assert named[str(made.path.absolute() / "MANIFEST.json")] == made.id and len(named) == 2


# ---- import --------------------------------------------------------------------------------------------------------------


def take_in(workspace: Workspace, rows: list[Any], **settings: Any) -> Imported:
    with workspace.session() as session:
        project = default_project(session)
    given = ImportSettings(**settings)
    return import_rows(workspace, project, lambda: enumerate(rows, start=1), "f.jsonl", given, actor="lead")


ROWS: list[dict[str, Any]] = [
    {"prompt": "Why?", "completions": ["a", "b", "c"], "ranking": "A=B>C", "labeller": "ann", "labeller_kind": "human",
     "likert": [4, 4, 1], "seconds": 12.5, "user": "u1", "topic": "t"},
    {"prompt": "Why?", "completions": ["a", "b", "c"], "ranking": "C>A=B", "labeller": "bob",
     "labeller_kind": "ai", "user": "u1"},
    {"prompt": "Sampled?", "completions": ["a", "b"], "finish_reason": ["stop", "length"], "model": "m", "seed": 1},
    {"messages": [{"role": "user", "content": "Show."}, {"role": "assistant", "content": "Shown."}],
     "labeller_kind": "human"},
    {"prompt": "Only a prompt", "language": "zh-CN"},
]  # fmt: skip


def test_rows_become_tasks_and_labels_once(workspace: Workspace) -> None:
    done = take_in(workspace, ROWS)
    assert (done.tasks, done.labels, done.known, done.bad) == (4, 3, 0, [])
    assert done.kinds == {"rankings": 2, "samples": 1, "demonstrations": 1, "prompts": 1}
    again = take_in(workspace, ROWS)
    assert (again.tasks, again.labels, again.known) == (0, 0, 5)
    with workspace.reading() as session:
        tasks = {(t.kind, t.language): t.state for t in session.scalars(select(TaskRow))}
    assert tasks[("rank", "en")] == "open" and tasks[("demonstrate", "zh-CN")] == "open"


def test_what_goes_in_comes_out(workspace: Workspace) -> None:
    take_in(workspace, ROWS, held_out=0.0)
    made = frozen(workspace)
    first = load_rankings(made.file("train", "rankings"))[0]
    assert (str(first.order), first.labeller, first.likert) == ("A=B>C", "ann", (4, 4, 1))
    assert first.seconds == {"rank": 12.5} and first.meta["topic"] == "t"
    (shown,) = load_demonstrations(made.file("train", "demonstrations"))
    assert shown.answer == "Shown."


def test_an_export_can_be_taken_in_elsewhere(lite: Workspace, tmp_path: Path) -> None:
    filled(lite)
    made = frozen(lite)
    rows = [json.loads(line) for split in ("train", "held_out") for name in ("rankings", "demonstrations")
            for line in made.file(split, name).read_text().splitlines()]  # fmt: skip
    with workspace_of("sqlite", tmp_path / "other") as other:
        done = take_in(other, rows, held_out=0.0)
        assert done.bad == [] and done.labels == 5
        back = frozen(other)

    def orders(export: Export) -> list[tuple[str, str, str]]:
        rows = load_rankings(export.file("train", "rankings"))
        return sorted((r.messages[0].content, str(r.order), str(r.labeller)) for r in rows)

    held = {r.messages[0].content for r in load_rankings(made.file("held_out", "rankings"))}
    assert [row for row in orders(back) if row[0] not in held] == orders(made)


def test_versions_of_models_are_exported_and_imported(lite: Workspace, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {**ROWS[0], "models": ["m", "m", "n"], "model_versions": ["v1", "v2", None]},
        {**ROWS[3], "draft_model": "m", "draft_version": "v1"},
        {"prompt": "Old?", "completions": ["a", "b"], "ranking": "A>B", "labeller_kind": "human", "models": ["m", "m"]},
    ]
    assert take_in(lite, rows, held_out=0.0).bad == []
    made = frozen(lite)
    with workspace_of("sqlite", tmp_path / "other") as other:
        lines = [made.file("train", name).read_text().splitlines() for name in ("rankings", "demonstrations")]
        assert take_in(other, [json.loads(line) for some in lines for line in some], held_out=0.0).bad == []
        for export in (made, frozen(other)):
            known, old = load_rankings(export.file("train", "rankings"))
            assert (known.meta["models"], known.meta["model_versions"]) == (["m", "m", "n"], ["v1", "v2", ""])
            assert old.meta["models"] == ["m", "m"] and "model_versions" not in old.meta
            (shown,) = load_demonstrations(export.file("train", "demonstrations"))
            assert (shown.meta["draft_model"], shown.meta["draft_version"]) == ("m", "v1")
    short = {**rows[0], "model_versions": ["v1"]}
    (refused,) = take_in(lite, [short]).bad
    assert "model_versions: must be a list of 3" in str(refused)


def test_bad_rows_are_named_and_leave_nothing(lite: Workspace) -> None:
    bad: list[Any] = [
        {"prompt": "x", "completions": ["a", "b"], "ranking": "A>B"},
        {"prompt": "x", "completions": ["a"], "ranking": "A", "labeller_kind": "human"},
        {"prompt": "x", "completions": ["a", "b"], "ranking": "A>C", "labeller_kind": "human"},
        {"prompt": 3},
        DataError("f.jsonl:5: line: is not JSON"),
        {"prompt": "y", "completions": ["a", "b"], "finish_reason": ["stop"]},
        {"prompt": "z", "completions": ["a", "b"], "ranking": "A>B", "labeller_kind": "human", "split": "both"},
    ]
    done = take_in(lite, [*bad, ROWS[0]])
    assert (done.tasks, done.labels, len(done.bad), done.without_kind) == (1, 1, 6, [1])
    assert [str(error).partition(": ")[0] for error in done.bad] == [f"f.jsonl:{line}" for line in range(2, 8)]
    with lite.reading() as session:
        assert len(session.scalars(select(TaskRow)).all()) == 1


def test_rows_of_one_user_stay_together(lite: Workspace) -> None:
    rows = [{"prompt": f"{user} {n}", "completions": ["a", "b"], "user": user} for user in "abcdefghijkl" for n in range(3)]
    take_in(lite, rows, held_out=0.5)
    with lite.reading() as session:
        splits: dict[str, set[str]] = {}
        for task in session.scalars(select(TaskRow)):
            splits.setdefault(task.subject, set()).add(task.split)
    assert len(splits) == 12 and all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == {"train", "held_out"}
