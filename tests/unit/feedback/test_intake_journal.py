"""What a crash leaves uncounted is counted, or taken, by the next start."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright.feedback import funnel, intake_journal
from chatwright.feedback.intake import Intake, Loader
from chatwright.feedback.intake_journal import FILE, Entry, Journal
from chatwright.feedback.steps import Traffic
from chatwright.feedback.tables import LabelEvent
from chatwright.records import user
from chatwright.workspace.database import Workspace
from workspaces import KINDS, workspace_of

SECRET = "what nobody may find in a file"


@pytest.fixture(params=KINDS)
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    with workspace_of(request.param, tmp_path) as made:
        yield made


def said(text: str, source: str = "api") -> Traffic:
    return Traffic(source=source, owner="user_1", messages=user(text), consented=True)


def reload(ref: str) -> Loader:
    return partial(_read, ref=ref)


def _read(session: Session, ref: str) -> Traffic | None:
    return said(f"{SECRET} {ref}", "chat") if ref != "deleted" else None


def begun(workspace: Workspace) -> Intake:
    return Intake(workspace, allowed=lambda session, traffic: True, reload=reload)


def counts(workspace: Workspace) -> dict[tuple[str, str, str], int]:
    with workspace.reading() as session:
        return {(line.source, line.step, line.reason): line.count for line in funnel.lines(session, 1)}


def killed(workspace: Workspace) -> None:
    """A server of which nothing remains but its files: nothing of what it has in memory is written."""
    intake = begun(workspace)
    intake.refused("api")
    intake.kept_out("api", "usable", "tools")
    intake._journal.note("api")  # two that still wait: the thread never sees them
    intake._journal.note("chat", ref="question")
    intake._journal.note("chat", ref="deleted")


def test_after_a_crash_chat_is_taken_and_the_rest_is_counted(workspace: Workspace) -> None:
    killed(workspace)
    left = (workspace.folder / FILE).read_text()
    assert len(left.splitlines()) == 5 and counts(workspace) == {}
    intake = begun(workspace)
    assert intake.waiting == 5
    intake.start()
    assert intake.idle() and intake.waiting == 0
    assert counts(workspace) == {
        ("api", "received", ""): 3, ("api", "consent", "not_given"): 1, ("api", "usable", "tools"): 1,
        ("api", "queue", "crashed"): 1, ("chat", "received", ""): 2, ("chat", "taken", "prompt"): 1,
        ("chat", "usable", "deleted"): 1,
    }  # fmt: skip
    intake.close()
    assert (workspace.folder / FILE).read_bytes() == b""
    again = begun(workspace)
    again.start()
    assert again.idle() and sum(counts(workspace).values()) == 10
    again.close()


def test_what_was_taken_just_before_the_crash_is_not_taken_or_counted_again(workspace: Workspace) -> None:
    intake = begun(workspace)
    intake.hand_over("api", said("one"))
    intake.hand_over("chat", reload("two"), "two")
    kept = (workspace.folder / FILE).read_bytes()
    assert kept.count(b"\n") == 2 and SECRET.encode() not in kept
    assert intake.idle()
    before = counts(workspace)
    intake.close()
    (workspace.folder / FILE).write_bytes(kept)  # the crash came after the transaction and before the journal knew of it
    again = begun(workspace)
    again.start()
    assert again.idle() and counts(workspace) == before
    again.close()
    with workspace.reading() as session:
        taken = session.scalars(select(LabelEvent.uuid).where(LabelEvent.kind == "prompt.taken_in")).all()
    assert sorted(taken) == sorted(json.loads(line)["id"] for line in kept.splitlines())


def test_counts_that_cannot_be_written_stay_in_the_journal(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    intake = begun(workspace)
    intake.refused("api")
    with monkeypatch.context() as patched:
        patched.setattr(funnel, "add", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            intake.flush()
    assert (workspace.folder / FILE).read_bytes().count(b"\n") == 1
    intake.close()
    assert counts(workspace) == {("api", "received", ""): 1, ("api", "consent", "not_given"): 1}
    assert (workspace.folder / FILE).read_bytes() == b""


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / FILE)
    first = journal.note("api", ref="one")
    journal.note("chat")
    journal.close()
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:-9])
    again = Journal(tmp_path / FILE)
    assert again.left == [first] == [Entry(id=first.id, source="api", ref="one")]
    again.close()
    assert os.stat(tmp_path / FILE).st_mode & 0o777 == 0o600


def test_what_is_counted_is_forgotten_while_something_waits(tmp_path: Path) -> None:
    """A crash then finds what waits, and counts nothing twice."""
    journal = Journal(tmp_path / FILE)
    waiting = journal.note("chat", ref="one that takes its time")
    for _ in range(20):
        journal.settle([journal.note("api", step="consent", reason="not_given").id])
        assert len((tmp_path / FILE).read_bytes().splitlines()) == 1
    journal.close()
    assert Journal(tmp_path / FILE).left == [waiting]


def test_a_full_disk_stops_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / FILE)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(intake_journal.os, "write", full)
    entry = journal.note("api")
    monkeypatch.undo()
    journal.settle([entry.id])
    journal.close()
