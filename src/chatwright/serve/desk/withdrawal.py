"""Effects of a withdrawal on an account's data: texts, consent, battles of the arena, the log of flagged requests; and what
remains. Chats, and links to them, are the person's own to delete."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from chatwright.feedback import consent, withdrawals
from chatwright.feedback.jobs_tables import ExportCopy, ModelRow
from chatwright.feedback.tables import LabelEvent
from chatwright.serve.arena.tables import ArenaVote, Battle
from chatwright.serve.auth_tables import ApiKey, User
from chatwright.serve.chat.tables import ChatPreferences, ConversationRow, Share
from chatwright.serve.desk.wire_intake import Remaining
from chatwright.serve.moderation.tables import ModerationEvent
from chatwright.workspace.database import Workspace, now

VERSION_DIGITS = 12
"""Digits of a manifest's hash that name a model's version."""


def subjects_of(key: bytes, owner: str) -> tuple[str, ...]:
    """Digests of an account or key: of what it wrote here, and of imported rows whose `user` is its id."""
    return (consent.subject_of(key, owner), *consent.imported_subjects(key, owner))


def erase_traces(session: Session, owner: str, before: float = math.inf) -> None:
    """Remove an account's texts outside the store, those of until `before`: in the log of flagged requests and in battles.
    The votes of such battles count no more."""
    end = min(before, now() + 1)
    flagged = (ModerationEvent.owner == owner, ModerationEvent.at <= end)
    session.execute(update(ModerationEvent).where(*flagged).values(text=None, text_hash=""))
    mine = select(Battle.id).where(Battle.owner == owner, Battle.created_at <= end)
    votes = update(ArenaVote).where(ArenaVote.battle_id.in_(mine))
    session.execute(votes.values(void="withdrawn", question=ArenaVote.battle_id))  # a digest of the question tells it
    emptied = update(Battle).where(Battle.owner == owner, Battle.created_at <= end)
    session.execute(emptied.values(prompt="", answer_a="", answer_b="", status_a="stopped", status_b="stopped"))


def apply_again(workspace: Workspace) -> int:
    """At the start: complete withdrawals that an older database, brought back from a backup, does not know. Returns the
    number of texts erased now."""
    asked = list(withdrawals.noted(workspace.folder))
    if not asked:
        return 0
    key = consent.subject_key(workspace.folder)
    with workspace.session() as session:
        owners = [*session.scalars(select(User.id)), *session.scalars(select(ApiKey.id).where(ApiKey.user_id.is_(None)))]
        known = {consent.subject_of(key, owner): owner for owner in owners}
        for one in asked:
            for owner in (known[subject] for subject in one.subjects if subject in known):
                _end_old_consent(session, consent.subject_of(key, owner), owner, one.at)
                erase_traces(session, owner, one.at)
    return withdrawals.apply_again(workspace)


def _end_old_consent(session: Session, subject: str, owner: str, at: float) -> None:
    """End consent that was given before the withdrawal."""
    chats = session.get(ChatPreferences, owner)
    if chats is not None and chats.training_consent and chats.changed_at <= at:
        chats.training_consent, chats.changed_at = False, now()
        consent.record(session, subject, given=False, scope="account")
    keys = select(ApiKey).where((ApiKey.user_id == owner) | (ApiKey.id == owner), ApiKey.training_consent)
    for key in session.scalars(keys):
        given = (LabelEvent.kind == "consent.given", LabelEvent.subject == subject, LabelEvent.at > at)
        since = session.scalars(select(LabelEvent).where(*given))
        if not any(event.data.get("scope") == key.id for event in since):
            key.training_consent = False
            consent.record(session, subject, given=False, scope=key.id)


def remaining(
    workspace: Workspace, session: Session, owner: str, subjects: Iterable[str], *, names: bool
) -> list[Remaining]:
    """Things that a withdrawal of this person leaves. `names`: also who holds copies, for administrators."""
    left = withdrawals.remains(workspace, session, tuple(subjects))
    found = [_model(row) for row in left.models]
    found += [_copy(copy, names) for copy in left.copies]
    if left.backups:
        found.append(Remaining(kind="backups", name=", ".join(left.backups) if names else "", count=len(left.backups)))
    mine = select(ConversationRow.id).where(ConversationRow.owner == owner)
    chats = session.scalar(select(func.count()).select_from(mine.subquery())) or 0
    links = select(func.count()).select_from(Share).where(Share.conversation_id.in_(mine), Share.expires_at > now())
    for kind, count in (("chats", chats), ("links", session.scalar(links) or 0)):
        if count:
            found.append(Remaining(kind=kind, count=count))  # type: ignore[arg-type]
    return found


def _model(row: ModelRow) -> Remaining:
    return Remaining(kind="model", name=row.name, version=row.manifest[:VERSION_DIGITS], at=row.created_at)


def _copy(copy: ExportCopy, names: bool) -> Remaining:
    return Remaining(
        kind="copy", name=copy.export_id[:VERSION_DIGITS], version=copy.place if names else "",
        by=copy.actor if names else "", at=copy.at,
    )  # fmt: skip
