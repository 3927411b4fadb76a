"""Answers of the chat that were regenerated, edited or given a thumb, and votes of the arena, become tasks: of those who
agreed, and only what came about since they did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session

from chatwright.feedback import consent, store
from chatwright.feedback.candidates import Sample, chosen, close_wording, digest_of, is_set, kind_for, priority_of
from chatwright.feedback.intake import ACTOR, Intake
from chatwright.feedback.intake_tables import IntakeCandidates
from chatwright.feedback.labels import Submission, submit
from chatwright.feedback.leases import others_leases
from chatwright.feedback.projects import default_project
from chatwright.feedback.steps import Drop, Traffic, language_of, prepare
from chatwright.feedback.tables import TaskRow
from chatwright.feedback.tasks import Answer, NewTask, add_task, close
from chatwright.serve.arena.store import ranking
from chatwright.serve.arena.tables import ArenaVote, Battle
from chatwright.serve.chat import store as chats
from chatwright.serve.chat.tables import ChatPreferences, ConversationRow, FeedbackEvent, MessageRow
from chatwright.serve.desk.hooks import FILTERED, allowed, intake_of, traffic_of
from chatwright.serve.services import Services
from chatwright.workspace.database import now

IDLE_S = 600.0
"""So long nothing new has to have come: who regenerates an answer often does so again."""
_READ_S = 60.0  # what is noted of a vote's time at most: nobody watched whether its voter did


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What could become a task."""

    question: str
    digest: str
    traffic: Traffic
    priority: float
    verdict: str = ""
    """Of a battle."""
    seconds: float = 0.0


def collect(shared: Services, *, idle_s: float = IDLE_S) -> int:
    """Make tasks of what has not become one yet; gives how many."""
    intake, at = intake_of(shared), now()
    # What was changed while the last round ran is looked at once more; the same set makes one task.
    since = shared.parts.get("intake_collected_to", 0.0)
    with shared.workspace.reading() as session:
        people = session.execute(
            select(ChatPreferences.user_id, ChatPreferences.changed_at).where(ChatPreferences.training_consent.is_(True))
        ).all()
        found = [one for user, agreed in people for one in _of_person(session, user, agreed, since, at - idle_s)]
    made = sum(_make(shared, intake, one) for one in found)
    shared.parts["intake_collected_to"] = at - idle_s - 60.0
    return made


def _of_person(session: Session, user: str, agreed: float, since: float, until: float) -> Iterator[_Found]:
    events = exists().where(
        MessageRow.conversation_id == ConversationRow.id, FeedbackEvent.message_id == MessageRow.id,
        FeedbackEvent.created_at >= since,
    )  # fmt: skip
    changed = or_(ConversationRow.updated_at >= max(since, agreed), events)
    for row in session.scalars(select(ConversationRow).where(ConversationRow.owner == user, changed)):
        yield from _of_conversation(session, row, agreed, until)
    votes = select(Battle, ArenaVote).join(ArenaVote, ArenaVote.battle_id == Battle.id)
    mine = (ArenaVote.user_id == user, ArenaVote.void == "", Battle.created_at >= agreed, ArenaVote.created_at >= since)
    for battle, vote in session.execute(votes.where(*mine)):
        yield _of_battle(battle, vote)


def _of_conversation(session: Session, row: ConversationRow, agreed: float, until: float) -> Iterator[_Found]:
    rows = chats.rows_of(session, row.id)
    thumbs = _thumbs(session, row)
    answers: defaultdict[str | None, list[MessageRow]] = defaultdict(list)
    for message in rows:
        whole = message.role == "assistant" and message.status == "complete" and message.finish_reason != FILTERED
        if whole and message.created_at >= agreed:
            answers[message.parent_id].append(message)
    gone_on = {message.parent_id for message in rows if message.role == "user"}
    questions = [message for message in rows if message.role == "user" and message.created_at >= agreed]
    for question in questions:
        earlier = [
            other for other in questions
            if other.parent_id == question.parent_id and other.place < question.place and question.origin == "edit"
            and close_wording(other.content, question.content)
        ]  # fmt: skip
        samples = [_sample(m, thumbs.get(m.id), earlier_wording=True) for other in earlier for m in answers[other.id]]
        samples += [_sample(m, thumbs.get(m.id), picked=m.id in gone_on) for m in answers[question.id]]
        last = max((m.created_at for m in answers[question.id]), default=until + 1)
        if last <= until and is_set(samples):
            picked = chosen(samples)
            traffic = traffic_of(row, chats.path_to(rows, question.id), tuple(sample.answer() for sample in picked))
            yield _Found(
                question=question.id, digest=digest_of(picked), traffic=traffic, priority=priority_of(picked)
            )  # fmt: skip


def _thumbs(session: Session, row: ConversationRow) -> dict[str, FeedbackEvent]:
    events = (
        select(FeedbackEvent)
        .join(MessageRow, MessageRow.id == FeedbackEvent.message_id)
        .where(MessageRow.conversation_id == row.id, FeedbackEvent.user_id == row.owner)
    )
    return {event.message_id: event for event in session.scalars(events.order_by(FeedbackEvent.id))}  # the last one counts


def _sample(
    row: MessageRow, thumb: FeedbackEvent | None, *, earlier_wording: bool = False, picked: bool = False
) -> Sample:  # fmt: skip
    given = thumb if thumb is not None and thumb.vote != "none" else None
    return Sample(
        id=row.id, text=row.content, model=row.model, model_version=row.model_version, finish_reason=row.finish_reason,
        origin=row.origin, thumb=given.vote if given else "", reasons=tuple(given.reasons) if given else (),
        comment=given.comment if given else "", earlier_wording=earlier_wording, picked=picked,
    )  # fmt: skip


def _of_battle(battle: Battle, vote: ArenaVote) -> _Found:
    kept = ranking(battle, vote)
    answers = tuple(
        Answer(
            text=text, model=battle.entrants[side]["name"], model_version=getattr(battle, f"version_{side}"),
            finish_reason=getattr(battle, f"finish_{side}") or "stop",
        )
        for side, text in zip("ab", kept.completions, strict=True)
    )  # fmt: skip
    return _Found(
        question=battle.id, digest=vote.vote, priority=0.0, verdict=vote.vote,
        traffic=Traffic(source="chat", owner=battle.owner, messages=kept.messages, answers=answers, consented=True),
        seconds=min(_READ_S, max(0.0, vote.created_at - battle.created_at)),
    )  # fmt: skip


def _make(shared: Services, intake: Intake, found: _Found) -> bool:
    source = "arena" if found.verdict else "chat"
    with shared.workspace.reading() as session:
        row = session.get(IntakeCandidates, found.question)
        if row is not None and row.digest == found.digest:
            return False
    done = prepare(found.traffic)
    with shared.workspace.session() as session:
        made = done if isinstance(done, Drop) else _add(session, intake, found, done.traffic)
        # What is kept out is written down too, or the next round would count it again.
        subject = consent.subject_of(intake.key, found.traffic.owner)
        row = session.get(IntakeCandidates, found.question) or IntakeCandidates(question=found.question, subject=subject)
        row.digest, row.at, row.task_id = found.digest, now(), "" if isinstance(made, Drop) else made
        session.add(row)
    if isinstance(made, Drop):
        intake.count(source, made.step, made.reason)
        return False
    assert not isinstance(done, Drop)
    intake.count(source, "candidates", kind_for(len(found.traffic.answers)))
    for kind, number in done.replaced.items():
        intake.count(source, "scrub", kind, number)
    return True


def _add(session: Session, intake: Intake, found: _Found, traffic: Traffic) -> str | Drop:
    subject = consent.subject_of(intake.key, traffic.owner)
    store.hold_subject(session, subject)
    if not allowed(session, traffic):
        return Drop(step="consent", reason="withdrawn")
    row = session.get(IntakeCandidates, found.question)
    if row is None and _enough(session, subject, intake.limits.per_person):
        return Drop(step="cap", reason="per_person")
    if row is not None:
        _close_untouched(session, row.task_id)
    task = NewTask(
        project=default_project(session).id, kind=kind_for(len(traffic.answers)), messages=traffic.messages,
        answers=traffic.answers, language=language_of(traffic.messages[-1].content), subject=subject, source="chat",
        split=consent.split_of(intake.key, traffic.owner, intake.limits.held_out_share), priority=found.priority,
        overlap=1 if found.verdict else 0,
    )  # fmt: skip
    made = add_task(session, task, actor=ACTOR)
    if found.verdict:
        submit(
            session,
            Submission(
                uuid=f"arena:{made}", task=made, labeller=subject, value={"verdict": found.verdict},
                seconds={"read": found.seconds}, shown_order=(0, 1),
            ),
        )  # fmt: skip
    return made


def _enough(session: Session, subject: str, most: int) -> bool:
    mine = (IntakeCandidates.subject == subject, IntakeCandidates.task_id != "")
    return (session.scalar(select(func.count()).select_from(IntakeCandidates).where(*mine)) or 0) >= most


def _close_untouched(session: Session, task_id: str) -> None:
    """A smaller set that nobody has begun with gives way to the larger one."""
    task, held = session.get(TaskRow, task_id), select(others_leases(task_id, ""))
    if task is not None and task.state == "open" and not task.labels_count and not session.scalar(held):
        close(session, task_id, actor=ACTOR)
