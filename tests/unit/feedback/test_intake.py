from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright.feedback import consent, funnel, payloads
from chatwright.feedback.intake import Intake, IntakeLimits
from chatwright.feedback.intake_tables import IntakeSeen
from chatwright.feedback.steps import Traffic
from chatwright.feedback.store import rebuild
from chatwright.feedback.tables import LabelEvent, Payload, TaskRow
from chatwright.feedback.tasks import Answer
from chatwright.records import conversation, user
from chatwright.workspace.database import Workspace
from workspaces import KINDS, workspace_of

PRIVATE = "ada.lovelace@analytical.example.org"
TEMPLATE = "Summarise the following report in three sentences for a reader who has little time and knows the field. " * 2


@pytest.fixture(params=KINDS)
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    with workspace_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def intake(workspace: Workspace) -> Iterator[Intake]:
    made = Intake(workspace, allowed=lambda session, traffic: True, limits=IntakeLimits(per_person=3))
    yield made
    made.close()


def said(text: str, owner: str = "user_1", **more: Any) -> Traffic:
    return Traffic(source="api", owner=owner, messages=user(text), consented=True, **more)


def counts(intake: Intake) -> dict[tuple[str, str], int]:
    assert intake.idle()
    with intake.workspace.reading() as session:
        return {(line.step, line.reason): line.count for line in funnel.lines(session, 1)}


def tasks(workspace: Workspace) -> list[TaskRow]:
    with workspace.reading() as session:
        return list(session.scalars(select(TaskRow).order_by(TaskRow.seq)))


def texts(workspace: Workspace) -> list[str]:
    with workspace.reading() as session:
        return [str(content) for content in session.scalars(select(Payload.content))]


def test_a_prompt_becomes_an_event_a_text_and_a_task(intake: Intake) -> None:
    intake.hand_over("api", said(f"What is bread? Mail {PRIVATE}"))
    assert counts(intake) == {("received", ""): 1, ("taken", "prompt"): 1, ("scrub", "EMAIL"): 1}
    (task,) = tasks(intake.workspace)
    subject = consent.subject_of(intake.key, "user_1")
    assert (task.kind, task.source, task.subject, task.language) == ("demonstrate", "api", subject, "en")
    assert task.split == consent.split_of(intake.key, "user_1", intake.limits.held_out_share)
    with intake.workspace.reading() as session:
        content = payloads.content(session, task.prompt_payload)
        event = session.scalar(select(LabelEvent).where(LabelEvent.kind == "prompt.taken_in"))
    assert content is not None and content["messages"] == [{"role": "user", "content": "What is bread? Mail [EMAIL]"}]
    assert event is not None and event.task_id == task.id and event.subject == subject
    assert "bread" not in str(event.data) and event.data["replaced"] == {"EMAIL": 1}


def test_repetitions_templates_and_more_than_enough_are_kept_out(intake: Intake) -> None:
    for text in ("What is bread?", "what  is BREAD?", TEMPLATE + "one", TEMPLATE + "two", "Third", "Fourth", "Fifth"):
        intake.hand_over("api", said(text))
    intake.hand_over("api", said("what is bread?", owner="user_2"))
    intake.hand_over("api", said("Fourth", owner="user_2"))
    assert counts(intake) == {
        ("received", ""): 9, ("taken", "prompt"): 4, ("repeated", "same"): 2, ("repeated", "long_prefix"): 1,
        ("cap", "per_person"): 2,
    }  # fmt: skip
    assert len(tasks(intake.workspace)) == 4


def test_every_request_is_counted_once(intake: Intake) -> None:
    for messages in (user("Hi"), user(" "), user("Hi"), conversation(("user", "a"), ("assistant", "b"))):
        intake.hand_over("api", replace(said("x"), messages=messages))
    intake.refused("api")
    intake.hand_over("api", lambda session: None)
    found = counts(intake)
    assert found.pop(("received", "")) == sum(found.values()) == 6


def test_several_answers_become_a_task_to_order_them(intake: Intake) -> None:
    three = tuple(Answer(text=text, model="m") for text in ("one", "two", "two ", f"three {PRIVATE}", ""))
    intake.hand_over("api", said("Count", answers=three))
    intake.hand_over("api", said("Again", answers=three[:2]))
    intake.hand_over("api", said("One", answers=three[:1]))
    assert counts(intake)[("taken", "several_answers")] == 2
    assert [(task.kind, len(task.answers)) for task in tasks(intake.workspace)] == [
        ("rank", 3), ("compare", 2), ("demonstrate", 0),
    ]  # fmt: skip
    assert not any(PRIVATE in text for text in texts(intake.workspace))


def test_consent_is_asked_again_when_a_prompt_is_written(workspace: Workspace) -> None:
    intake = Intake(workspace, allowed=lambda session, traffic: False)
    intake.hand_over("api", said("What is bread?"))
    assert counts(intake) == {("received", ""): 1, ("consent", "withdrawn"): 1}
    assert not tasks(workspace) and not texts(workspace)
    intake.close()


def test_requests_never_wait_and_what_finds_no_room_is_counted(workspace: Workspace) -> None:
    gate, begun = threading.Event(), threading.Event()

    def slow(session: Session, traffic: Traffic) -> bool:
        begun.set()
        assert gate.wait(60)
        return True

    intake = Intake(workspace, allowed=slow, limits=IntakeLimits(capacity=2))
    assert intake.hand_over("api", said("first"))
    assert begun.wait(60)  # the thread is busy, in the middle of a transaction
    taken = [intake.hand_over("api", said(f"prompt {n}")) for n in range(5)]
    assert taken == [True, True, False, False, False]
    gate.set()
    assert counts(intake) == {("received", ""): 6, ("queue", "full"): 3, ("taken", "prompt"): 3}
    intake.close()
    assert not intake.hand_over("api", said("late"))
    intake.flush()
    assert counts(intake)[("queue", "stopped")] == 1


def test_a_failure_is_counted_and_the_next_one_works(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    def fails_once(session: Session, traffic: Traffic) -> bool:
        if traffic.messages[0].content == "bad":
            raise RuntimeError("nobody can say")
        return True

    intake = Intake(workspace, allowed=fails_once)
    intake.hand_over("api", said("bad"))
    intake.hand_over("api", said("good"))
    assert counts(intake) == {("received", ""): 2, ("queue", "failed"): 1, ("taken", "prompt"): 1}
    assert "could not be taken in" in caplog.text
    intake.close()


def test_collecting_happens_while_nothing_waits(workspace: Workspace) -> None:
    called = threading.Event()
    intake = Intake(workspace, allowed=lambda s, t: True, collect=called.set, collect_every_s=0.01)
    intake.start()
    assert called.wait(60)
    intake.close()


def test_a_withdrawal_erases_and_the_same_prompt_may_come_again(intake: Intake) -> None:
    intake.hand_over("api", said("What is bread?"))
    intake.hand_over("api", said("What is butter?", owner="user_2"))
    assert intake.idle()
    subject = consent.subject_of(intake.key, "user_1")
    with intake.workspace.session() as session:
        assert consent.kept_texts(session, subject) == 1
        assert consent.withdraw(session, subject, actor="user_1") == 1
    assert intake.wipe()
    with intake.workspace.reading() as session:
        assert consent.kept_texts(session, subject) == 0
        assert session.scalars(select(IntakeSeen.subject)).all() == [consent.subject_of(intake.key, "user_2")]
        tomb = session.scalar(select(LabelEvent).where(LabelEvent.kind == "content.withdrawn"))
        assert tomb is not None and tomb.subject == subject and len(tomb.data["payloads"]) == 1
    assert sorted(task.state for task in tasks(intake.workspace)) == ["closed", "open"]
    intake.hand_over("api", said("What is bread?"))
    assert counts(intake)[("taken", "prompt")] == 3


def test_projections_are_rebuilt_from_the_events(intake: Intake) -> None:
    intake.hand_over("api", said("What is bread?", answers=(Answer(text="a"), Answer(text="b"))))
    intake.hand_over("api", said("Who?", owner="user_2"))
    assert intake.idle()

    def rows() -> list[dict[str, Any]]:
        columns = TaskRow.__table__.columns.keys()
        return [{name: getattr(task, name) for name in columns} for task in tasks(intake.workspace)]

    with intake.workspace.session() as session:
        consent.withdraw(session, consent.subject_of(intake.key, "user_2"), actor="server")
    before = rows()
    with intake.workspace.session() as session:
        rebuild(session)
    assert rows() == before


def test_no_byte_of_private_or_erased_text_is_in_the_files(tmp_path: Path) -> None:
    """The files themselves are searched: what was replaced never comes into them, what was erased is overwritten."""
    with workspace_of("sqlite", tmp_path) as workspace:
        intake = Intake(workspace, allowed=lambda s, t: True)
        secret = "The quick onyx goblin jumps over the lazy dwarf"
        numbers = ["13812345678", "11010519491231002X", "4111 1111 1111 1111"]
        long = " ".join(f"{secret} number {n}," for n in range(400))  # spills into overflow pages
        for n, text in enumerate([f"{secret}, says {PRIVATE}", f"Mine: {'; '.join(numbers)}", f"Read: {long}"]):
            intake.hand_over("api", said(text, answers=(Answer(text=f"{secret} {n} {PRIVATE}"), Answer(text="b"))))
        intake.hand_over("api", said("Somebody else asks about cobalt zephyrs", owner="user_2"))
        assert counts(intake)[("taken", "several_answers")] == 3

        def everything() -> bytes:
            return b"".join(path.read_bytes() for path in workspace.folder.iterdir() if path.is_file())

        held = everything()
        assert secret.encode() in held and b"cobalt zephyrs" in held
        for private in (PRIVATE, *numbers, numbers[2].replace(" ", "")):
            assert private.encode() not in held, private
        with workspace.session() as session:
            assert consent.withdraw(session, consent.subject_of(intake.key, "user_1"), actor="user_1") == 9
        assert intake.wipe()
        left = everything()
        assert b"onyx goblin" not in left and b"cobalt zephyrs" in left
        intake.close()
