from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from chatwright.errors import ConflictError, DataError, MissingError
from chatwright.feedback import drafts, queue, read
from chatwright.feedback.events import new_uuid
from chatwright.feedback.projects import change_project, project_of
from chatwright.feedback.tables import LabelRow, Lease, SkipRow, TaskRow
from chatwright.feedback.tasks import Answer, NewTask, add_task
from chatwright.records import Message, WeakOrder
from chatwright.workspace.database import Workspace
from desk_data import label, project, task
from workspaces import KINDS, workspace_of

ALL = ("prompt", "demonstrate", "rate", "rank", "compare")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with workspace_of("sqlite", tmp_path) as opened:
        yield opened


def claimed(session: Session, who: str, *kinds: str, **more: Any) -> str | None:
    found = queue.claim(session, who, kinds=kinds or ALL, **more)
    return found.task if found else None


def send(session: Session, task_id: str, who: str, **value: Any) -> queue.Submitted:
    given = queue.Submission(uuid=new_uuid(), task=task_id, labeller=who, value=value or {"ranking": "A>B>C"})
    return queue.submit(session, given)


def expire(session: Session, task_id: str, who: str) -> None:
    session.execute(update(Lease).where(Lease.task_id == task_id, Lease.labeller == who).values(expires_at=1.0))


@pytest.mark.parametrize("kind", KINDS)
def test_overlap_is_exact_with_16_labellers_at_once(kind: str, tmp_path: Path) -> None:
    """Everybody takes tasks until there are none. Some labels are taken back and made again, some tasks skipped."""
    overlaps = [1, 2, 3, 2, 1, 5] * 4
    failed: list[BaseException] = []
    with workspace_of(kind, tmp_path) as workspace:
        with workspace.session() as session:
            desk = project(session, overlap={"rank": 2})
            wanted = {task(session, desk, overlap=n): n for n in overlaps}
        gate = threading.Barrier(16)

        def work(who: str) -> None:
            rng = random.Random(who)
            try:
                gate.wait(30)
                while True:
                    with workspace.session() as session:
                        found = queue.claim(session, who, kinds=ALL)
                        is_open = session.scalar(select(TaskRow.id).where(TaskRow.state == "open").limit(1)) is not None
                    if (found is None and not is_open) or failed:
                        return
                    if found is None:  # somebody may yet skip what he holds
                        time.sleep(0.02)
                        continue
                    with workspace.session() as session:
                        if rng.random() < 0.1:
                            queue.skip(session, found.task, who)
                            continue
                        made = send(session, found.task, who)
                    assert made.state == "current"  # whoever holds a place does not work in vain
                    if rng.random() < 0.1:
                        with workspace.session() as session:
                            queue.undo(session, made.uuid, who)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(f"labeller-{n}",), daemon=True) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed[0]
        with workspace.reading() as session:
            labels = session.scalars(select(LabelRow).where(LabelRow.state != "undone")).all()
            rows = {row.id: row for row in session.scalars(select(TaskRow))}
        assert Counter(one.state for one in labels) == {"current": sum(overlaps)}
        assert Counter(one.task_id for one in labels) == wanted
        assert max(Counter((one.task_id, one.labeller) for one in labels).values()) == 1
        assert {row.state for row in rows.values()} == {"complete"}
        assert len({one.labeller for one in labels}) > 3  # nobody did everything alone


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_sent_by_many_connections_at_once_is_one_label(kind: str, tmp_path: Path) -> None:
    with workspace_of(kind, tmp_path) as workspace:
        with workspace.session() as session:
            made = task(session, project(session))
        seen, gate = list[Any](), threading.Barrier(8)

        def post() -> None:
            gate.wait(30)
            with workspace.session() as session:
                given = queue.Submission(uuid="the-same", task=made, labeller="ann", value={"ranking": "B>A=C"})
                seen.append(queue.submit(session, given))

        threads = [threading.Thread(target=post, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 8 and len(set(seen)) == 1
        with workspace.reading() as session:
            assert session.scalars(select(LabelRow.uuid)).all() == ["the-same"]


def test_a_task_is_kept_for_its_labeller_and_comes_to_nobody_twice(workspace: Workspace) -> None:
    with workspace.session() as session:
        desk = project(session)
        first, second = task(session, desk), task(session, desk)
        assert claimed(session, "ann") == claimed(session, "ann") == first  # the page was loaded again
        assert claimed(session, "ann", exclude=[first]) == second
        queue.release(session, first, "ann")
        assert claimed(session, "ann") == second
        send(session, second, "ann")
        assert claimed(session, "ann") == first
        send(session, first, "ann")
        assert claimed(session, "ann") is None
        with pytest.raises(ConflictError, match="already"):
            send(session, first, "ann")


def test_answers_stay_in_the_order_in_which_somebody_saw_them(workspace: Workspace) -> None:
    with workspace.session() as session:
        made = task(session, project(session, overlap={"rank": 40}), k=4)
        orders = {}
        for n in range(40):
            found = queue.claim(session, f"l{n}", kinds=["rank"])
            assert found is not None and sorted(found.shown_order) == [0, 1, 2, 3]
            orders[f"l{n}"] = found.shown_order
        expire(session, made, "l7")
        again = queue.claim(session, "l7", kinds=["rank"])
        assert again is not None and again.shown_order == orders["l7"]
        send(session, made, "l7", ranking="D>C>A=B")
        (kept,) = session.scalars(select(LabelRow))
        assert tuple(kept.shown_order or ()) == orders["l7"]
        assert len(set(orders.values())) > 10


def test_places_run_out_and_are_renewed(workspace: Workspace) -> None:
    with workspace.session() as session:
        made = task(session, project(session, overlap={"rank": 1}, lease_hours=2))
        assert claimed(session, "ann") == made and claimed(session, "bob") is None
        before = session.get_one(Lease, (made, "ann")).expires_at
        assert queue.renew(session, made, "ann") >= before
        expire(session, made, "ann")
        assert queue.renew(session, made, "ann") >= before  # nobody has taken it
        expire(session, made, "ann")
        assert claimed(session, "bob") == made
        with pytest.raises(ConflictError, match="run out"):
            queue.renew(session, made, "ann")
        with pytest.raises(MissingError):
            queue.renew(session, made, "cat")


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_that_ran_out_is_renewed_or_taken_by_somebody_else_never_both(kind: str, tmp_path: Path) -> None:
    """Ann comes back in the same moment in which Ben looks for work; a place that runs is nobody else's."""
    with workspace_of(kind, tmp_path) as workspace:
        with workspace.session() as session:
            desk = project(session, overlap={"rank": 1})
        won: Counter[str] = Counter()
        for round_ in range(12):
            with workspace.session() as session:
                made = task(session, desk, text=f"round {round_}")
                assert claimed(session, "ann", "rank") == made and claimed(session, "ben", "rank") is None
                assert queue.renew(session, made, "ann") > time.time() and claimed(session, "ben", "rank") is None
                expire(session, made, "ann")
            gate, done = threading.Barrier(2), dict[str, bool]()

            def renew(made: str = made, gate: threading.Barrier = gate, done: dict[str, bool] = done) -> None:
                gate.wait(60)
                try:
                    with workspace.session() as session:
                        queue.renew(session, made, "ann")
                    done["ann"] = True
                except ConflictError:
                    done["ann"] = False

            def look(made: str = made, gate: threading.Barrier = gate, done: dict[str, bool] = done) -> None:
                gate.wait(60)
                with workspace.session() as session:
                    done["ben"] = claimed(session, "ben", "rank") == made

            threads = [threading.Thread(target=renew), threading.Thread(target=look)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert done["ann"] != done["ben"], done
            won["ann" if done["ann"] else "ben"] += 1
            with workspace.session() as session:
                active = select(Lease.labeller).where(Lease.task_id == made, Lease.expires_at > time.time())
                assert session.scalars(active).all() == ["ann" if done["ann"] else "ben"]
                send(session, made, "ann" if done["ann"] else "ben")
        assert won.total() == 12


def test_what_comes_late_is_kept_and_does_not_count(workspace: Workspace) -> None:
    with workspace.session() as session:
        made = task(session, project(session, overlap={"rank": 1}))
        claimed(session, "ann")
        expire(session, made, "ann")
        assert claimed(session, "bob") == made
        late = send(session, made, "ann")  # bob holds the place: his work must not be in vain
        assert late.state == "surplus"
        assert send(session, made, "bob").state == "current"
        assert [x.state for x in read.task_view(session, made).labels] == ["surplus", "current"]
        queue.undo(session, late.uuid, "ann")
        assert read.task_view(session, made).row.labels_count == 1
        other = task(session, read.task_view(session, made).row.project_id)
        assert claimed(session, "ann") == other
        expire(session, other, "ann")
        assert send(session, other, "ann").state == "current"  # late, but the place was still free


def test_undo_gives_the_task_back_until_it_is_merged(workspace: Workspace) -> None:
    with workspace.session() as session:
        made = task(session, project(session, overlap={"rank": 1}))
        claimed(session, "ann")
        sent = send(session, made, "ann")
        assert claimed(session, "bob") is None
        queue.undo(session, sent.uuid, "ann")
        assert claimed(session, "bob") is None and claimed(session, "ann") == made  # his place is kept
        assert queue.undo(session, sent.uuid, "ann").state == "undone"
        with pytest.raises(MissingError):
            queue.undo(session, sent.uuid, "bob")
        again = send(session, made, "ann", ranking="C>B>A")
        queue.record_merge(session, task=made, method="borda", order=WeakOrder.parse("C>B>A", 3), detail={}, actor="lead")
        with pytest.raises(ConflictError, match="result"):
            queue.undo(session, again.uuid, "ann")
        assert str(read.task_view(session, made).merged_order) == "C>B>A"


def test_what_comes_next(workspace: Workspace) -> None:
    """Priority first, then the fewest labels, then the oldest."""
    with workspace.session() as session:
        desk = project(session, overlap={"rank": 3})
        old, urgent, new = (task(session, desk) for _ in range(3))
        label(session, old, "someone", "A>B>C")
        assert queue.set_priorities(session, {urgent: 0.5, "gone": 9.0}, actor="server") == 1
        assert [claimed(session, "ann", exclude=done) for done in ([], [urgent], [urgent, new])] == [urgent, new, old]
        with pytest.raises(DataError):
            queue.set_priorities(session, {old: float("nan")}, actor="server")


def test_disagreement_of_reward_models() -> None:
    assert queue.disagreement([[1.0, 2.0, 5.0], [11.0, 12.0, 15.0]]) == pytest.approx(0)  # a zero point of one's own
    assert queue.disagreement([[0.0, 100.0], [100.0, 0.0]]) == pytest.approx(1)
    p, q = 1 / (1 + 2.718281828459045**-1), 0.5
    assert queue.disagreement([[1.0, 0.0], [0.0, 0.0]]) == pytest.approx(4 * ((p - q) / 2) ** 2)
    for bad in ([[1.0, 2.0]], [[1.0, 2.0], [1.0]], [[1.0, float("inf")], [1.0, 2.0]]):
        with pytest.raises(DataError):
            queue.disagreement(bad)


def test_languages_and_kinds_lead_tasks_to_their_labellers(workspace: Workspace) -> None:
    with workspace.session() as session:
        desk = project(session, kinds=["rank", "demonstrate"])
        task(session, desk, "compare", k=2)  # not a kind of this project
        english, chinese = task(session, desk, language="en"), task(session, desk, "demonstrate", language="zh-CN")
        assert claimed(session, "li", languages=["zh-CN"]) == chinese
        assert claimed(session, "li", "rank", languages=["zh-CN"]) is None
        assert claimed(session, "ann", languages=["en", "fr"]) == english
        assert queue.waiting(session, "bo", kinds=ALL, languages=["en"], project=project_of(session, desk)) == {
            "prompt": 0, "demonstrate": 0, "rate": 0, "rank": 1, "compare": 1
        }  # fmt: skip
        change_project(session, desk, actor="lead", archived=True)
        assert claimed(session, "bo") is None


def test_skipping_and_flagging(workspace: Workspace) -> None:
    with workspace.session() as session:
        made = task(session, project(session, overlap={"rank": 1}))
        claimed(session, "ann")
        queue.skip(session, made, "ann", "unclear", "I do not know this")
        assert claimed(session, "ann") is None and claimed(session, "bob") == made
        queue.flag(session, made, "bob", "unsafe")
        queue.flag(session, made, "bob", "unsafe")
        assert claimed(session, "cat") is None
        rows = session.scalars(select(SkipRow).order_by(SkipRow.labeller)).all()
        assert [(row.labeller, row.reason, row.flagged, bool(row.payload_id)) for row in rows] == [
            ("ann", "unclear", False, True), ("bob", "unsafe", True, False),
        ]  # fmt: skip
        assert session.get_one(TaskRow, made).flags_count == 1
        queue.clear_flags(session, made, actor="lead")
        assert claimed(session, "cat") == made
        queue.close(session, made, actor="lead")
        assert claimed(session, "dan") is None
        assert send(session, made, "cat").state == "surplus"


def test_the_screening_test_comes_first_and_decides(workspace: Workspace) -> None:
    with workspace.session() as session:
        desk = project(session, screening={"required": True, "pass_score": 0.5}, kinds=["rank"])
        other = task(session, desk)
        assert claimed(session, "early") == other  # without screening tasks there is nothing to pass
        queue.release(session, other, "early")
        gold = WeakOrder.parse("A>B>C", 3)
        tests = [task(session, desk, gold=gold, screening=True) for _ in range(2)]
        for who, ranking, passed in (("good", "A>B=C", True), ("bad", "C>B>A", False)):
            for _ in tests:
                found = claimed(session, who)
                assert found in tests and other != found
                send(session, str(found), who, ranking=ranking)
            assert claimed(session, who) == (other if passed else None)
        queue.skip(session, tests[0], "lazy")
        claimed(session, "lazy")
        send(session, tests[1], "lazy", ranking="A>B>C")
        assert claimed(session, "lazy") == other  # mean of 0 and 1 is enough here
        assert {session.get_one(TaskRow, one).state for one in tests} == {"open"}
        taus = dict(session.execute(select(LabelRow.labeller, LabelRow.gold_tau)).all())  # type: ignore[arg-type]
        assert taus["bad"] == -1 and taus["good"] == pytest.approx(2 / 6**0.5)


def test_gold_is_mixed_in_at_its_share_and_scored(workspace: Workspace) -> None:
    with workspace.session() as session:
        desk = project(session, gold_share=0.3, overlap={"rank": 1})
        plain = {task(session, desk) for _ in range(70)}
        gold = {task(session, desk, gold=WeakOrder.parse("A>C>B", 3)) for _ in range(40)}
        rng, got = random.Random(1), list[str]()
        for _ in range(60):
            found = queue.claim(session, "ann", kinds=ALL, rng=rng)
            assert found is not None
            got.append(found.task)
            send(session, found.task, "ann")
        assert 10 <= sum(one in gold for one in got) <= 26 and len(set(got)) == 60
        taus = session.scalars(select(LabelRow.gold_tau).where(LabelRow.task_id.in_(gold))).all()
        assert taus and set(taus) == {1 / 3}
        assert set(session.scalars(select(LabelRow.gold_tau).where(LabelRow.task_id.in_(plain)))) == {None}
        assert claimed(session, "bob", exclude=list(plain)) in gold  # however often it was done: once each


def test_long_answers_take_longer_than_the_shortest_time(workspace: Workspace) -> None:
    """756 words in 6.9 s were read by nobody; a letter of a script without blanks counts half a word."""
    texts = {"long": "word " * 189, "中文": "天空为什么是蓝色的" * 42, "short": "It depends."}
    with workspace.session() as session:
        desk = project(session)
        for name, text in texts.items():
            made = add_task(
                session,
                NewTask(
                    project=desk, kind="rank", messages=(Message(role="user", content="Why?"),), overlap=4,
                    answers=tuple(Answer(text=text + str(n)) for n in range(4)),
                ),
                actor="lead",
            )  # fmt: skip
            for who, seconds in (("ann", 6.9), ("bo", 60.0)):
                given = queue.Submission(
                    uuid=new_uuid(), task=made, labeller=who, value={"ranking": "A>B>C>D"}, seconds={"read": seconds}
                )
                assert queue.submit(session, given).too_fast == (who == "ann" and name != "short"), (name, who)


def test_ratings_come_before_rankings_where_a_project_says_so(workspace: Workspace) -> None:
    with workspace.session() as session:
        made = task(session, project(session, rate_first=True))
        claimed(session, "ann")
        for likert in (None, [1, 2, None]):
            with pytest.raises(DataError, match="rated from 1 to 7 before"):
                send(session, made, "ann", ranking="A>B>C", likert=likert)
        sent = send(session, made, "ann", ranking="A>B>C", likert=[1, 7, 7])
        assert sent.contradictions == 2 and sent.too_fast  # B and C were rated above A; no time was spent
        label(session, made, "simulated:x", "A>B>C", kind="simulated")
        assert read.task_view(session, made).labels[0].value["likert"] == [1, 7, 7]  # both are kept


def test_an_adjudicator_has_not_labelled_the_task(workspace: Workspace) -> None:
    with workspace.session() as session:
        desk = project(session)
        made = task(session, desk)
        for name, order in (("lea", "A>B>C"), ("bob", "C>B>A")):
            label(session, made, name, order)
        asked = queue.adjudicate(session, made, actor="lea")
        assert [claimed(session, name, "adjudicate") for name in ("lea", "bob", "other lead")] == [None, None, asked]


def test_an_adjudication_is_the_last_word(workspace: Workspace) -> None:
    with workspace.session() as session:
        desk = project(session)
        made = task(session, desk, priority=0.7)
        label(session, made, "ann", "A>B>C")
        label(session, made, "bob", "C>B>A")
        asked = queue.adjudicate(session, made, actor="lead")
        assert queue.adjudicate(session, made, actor="lead") == asked
        assert claimed(session, "lead", "rank") is None and claimed(session, "lead", "adjudicate") == asked
        sent = send(session, asked, "lead", ranking="B>A=C")
        view = read.task_view(session, made)
        assert view.merged is not None and (view.row.state, view.merged.method) == ("merged", "adjudicated")
        assert str(view.merged_order) == "B>A=C"
        for uuid, who in ((sent.uuid, "lead"), (view.labels[0].uuid, "ann")):
            with pytest.raises(ConflictError, match="result"):
                queue.undo(session, uuid, who)
        with pytest.raises(ConflictError, match="cannot be adjudicated"):
            queue.adjudicate(session, task(session, desk, "demonstrate"), actor="lead")


def test_drafts_of_two_windows_do_not_overwrite_one_another(workspace: Workspace) -> None:
    with workspace.session() as session:
        made = task(session, project(session))
        claimed(session, "ann")
        assert drafts.keep(session, made, "ann", revision=0, content={"n": 1}) == 1
        assert drafts.keep(session, made, "ann", revision=0, content={"n": 1}) == 1  # sent again
        assert drafts.keep(session, made, "ann", revision=0, content={"n": 2}) is None
        assert drafts.keep(session, made, "ann", revision=1, content={"n": 2}) == 2
        send(session, made, "ann")
        assert drafts.keep(session, made, "ann", revision=2, content={"n": 3}) is None  # it was sent meanwhile
        with pytest.raises(MissingError):
            drafts.keep(session, "gone", "ann", revision=0, content={})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "dance"}, "kind"), ({"kind": "rank", "k": 1}, "answers"), ({"kind": "compare", "k": 3}, "answers"),
        ({"split": "test"}, "split"), ({"screening": True}, "gold"), ({"priority": float("inf")}, "priority"),
        ({"gold": WeakOrder.parse("A>B", 2)}, "gold"), ({"gold": WeakOrder.parse("A=B=C", 3)}, "ties every"),
    ],
)  # fmt: skip
def test_tasks_that_make_no_sense_are_refused(workspace: Workspace, fields: dict[str, Any], said: str) -> None:
    with workspace.session() as session, pytest.raises(DataError, match=said):
        task(session, project(session), **fields)


def test_tasks_are_added_once_per_uuid(workspace: Workspace) -> None:
    new = {"kind": "rank", "messages": (), "answers": ()}
    with workspace.session() as session:
        desk = project(session)
        given = queue.NewTask(project=desk, kind="prompt", meta={"style": "plain"})
        assert queue.add_task(session, given, actor="a", uuid="u") == queue.add_task(session, given, actor="b", uuid="u")
        with pytest.raises(ConflictError):
            queue.add_task(session, queue.NewTask(project=desk, kind="prompt", meta={}), actor="a", uuid="u")
        with pytest.raises(DataError):
            queue.add_task(session, queue.NewTask(project=desk, **new), actor="a")  # type: ignore[arg-type]
        with pytest.raises(MissingError):
            queue.add_task(session, queue.NewTask(project="nowhere", kind="prompt"), actor="a")
