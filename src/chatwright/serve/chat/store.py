"""Conversations in the database. Everything is asked for by its owner; what belongs to others does not exist (404)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import HTTPException
from sqlalchemy import ColumnElement, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from chatwright.serve.chat import wire
from chatwright.serve.chat.tables import ChatPreferences, ConversationRow, FeedbackEvent, MessageRow, MessageTokens, Share
from chatwright.workspace.database import now

PAGE = 50
EXCERPT = 80  # characters on either side of what was searched for
Writing = Callable[[str], bool]
"""Whether a message is being written right now."""


def missing(what: str) -> HTTPException:
    """404."""
    return HTTPException(404, f"there is no such {what}")


def conversation_of(session: Session, owner: str, conversation_id: str) -> ConversationRow:
    """A conversation of `owner`; 404."""
    row = session.get(ConversationRow, conversation_id)
    if row is None or row.owner != owner:
        raise missing("conversation")
    return row


def message_of(session: Session, owner: str, message_id: str) -> tuple[ConversationRow, MessageRow]:
    """A message in a conversation of `owner`; 404."""
    row = session.get(MessageRow, message_id)
    if row is None:
        raise missing("message")
    conversation = session.get(ConversationRow, row.conversation_id)
    if conversation is None or conversation.owner != owner:
        raise missing("message")
    return conversation, row


def create(session: Session, owner: str, new: wire.NewConversation) -> ConversationRow:
    """A conversation without messages; 409 when there are too many."""
    count = session.scalar(select(func.count()).where(ConversationRow.owner == owner)) or 0
    if count >= wire.MAX_CONVERSATIONS:
        raise HTTPException(409, f"you have {count} conversations, as many as are allowed; delete some")
    settings = new.settings.model_dump()
    row = ConversationRow(owner=owner, title=new.title, system=new.system, model=new.model, settings=settings)
    session.add(row)
    session.flush()
    return row


def add_message(session: Session, conversation: ConversationRow, **fields: Any) -> MessageRow:
    """A message at the end of the table; it becomes the active leaf. 409 when there are too many."""
    query = select(func.count(), func.max(MessageRow.place)).where(MessageRow.conversation_id == conversation.id)
    count, last = session.execute(query).one()
    if count >= wire.MAX_MESSAGES:
        raise HTTPException(409, f"this conversation has {count} messages, as many as are allowed; begin another")
    row = MessageRow(conversation_id=conversation.id, place=(last or 0) + 1, **fields)
    session.add(row)
    session.flush()
    conversation.active_leaf, conversation.updated_at = row.id, now()
    return row


def rows_of(session: Session, conversation_id: str) -> list[MessageRow]:
    """All messages, parents before their children."""
    query = select(MessageRow).where(MessageRow.conversation_id == conversation_id).order_by(MessageRow.place)
    return list(session.scalars(query))


def path_to(rows: Sequence[MessageRow], leaf: str | None) -> list[MessageRow]:
    """From the first message to `leaf`."""
    by_id, path = {row.id: row for row in rows}, list[MessageRow]()
    while leaf is not None and (row := by_id.get(leaf)) is not None:
        path.append(row)
        leaf = row.parent_id
    return path[::-1]


def title_from(text: str) -> str:
    """The first words of a message: 60 characters, cut between words where there are blanks."""
    line = " ".join(text.split())
    if len(line) <= 60:
        return line
    cut = line[:60]
    return (cut.rsplit(" ", 1)[0] if " " in cut[30:] else cut) + "…"


def head(row: ConversationRow, excerpt: str = "") -> wire.ConversationHead:
    """A line of the list."""
    return wire.ConversationHead(
        id=row.id, title=row.title, model=row.model, created_at=row.created_at, updated_at=row.updated_at, excerpt=excerpt
    )


def whole(session: Session, row: ConversationRow, writing: Writing) -> wire.Conversation:
    """A conversation with all its messages."""
    rows = rows_of(session, row.id)
    of_this = select(MessageRow.id).where(MessageRow.conversation_id == row.id)
    with_tokens = set(session.scalars(select(MessageTokens.message_id).where(MessageTokens.message_id.in_(of_this))))
    events = session.scalars(
        select(FeedbackEvent)
        .where(FeedbackEvent.message_id.in_(of_this), FeedbackEvent.user_id == row.owner)
        .order_by(FeedbackEvent.id)
    )
    thumbs = {event.message_id: event for event in events}  # the last one counts
    link = session.scalar(select(Share).where(Share.conversation_id == row.id, Share.expires_at > now()))
    return wire.Conversation(
        **head(row).model_dump(), system=row.system, settings=wire.Settings(**row.settings),
        active_leaf=row.active_leaf, share=share_info(link) if link else None,
        messages=[message(m, writing, m.id in with_tokens, thumbs.get(m.id)) for m in rows],
    )  # fmt: skip


def share_info(link: Share, owner: str = "") -> wire.ShareInfo:
    """A link as it is sent."""
    return wire.ShareInfo(
        conversation_id=link.conversation_id, title=str(link.snapshot.get("title", "")), created_at=link.created_at,
        expires_at=link.expires_at, owner=owner,
    )  # fmt: skip


def message(row: MessageRow, writing: Writing, has_tokens: bool, thumb: FeedbackEvent | None) -> wire.Message:
    """A message as it is sent. One that was being written when the server ended has stopped."""
    fields = (
        "id", "parent_id", "role", "content", "status", "origin", "model", "model_version", "settings", "steps", "error",
        "finish_reason", "prompt_tokens", "completion_tokens", "dropped_messages", "created_at",
    )  # fmt: skip
    values = {name: getattr(row, name) for name in fields}
    if row.status == "streaming" and not writing(row.id):
        values["status"] = "stopped"
    return wire.Message(**values, has_tokens=has_tokens, feedback=feedback(thumb))


def feedback(event: FeedbackEvent | None) -> wire.Feedback | None:
    """A thumb as it stands; None when there is none or it was taken back."""
    if event is None or event.vote == "none":
        return None
    return wire.Feedback(vote=event.vote, reasons=event.reasons, comment=event.comment)  # type: ignore[arg-type]


def listed(session: Session, owner: str, query: str, before: float | None) -> wire.ConversationList:
    """A page of the list. A search finds texts of titles and messages in any script; upper and lower case are alike
    (on SQLite those of ASCII letters only)."""
    wanted = select(ConversationRow).where(ConversationRow.owner == owner)
    if before is not None:
        wanted = wanted.where(ConversationRow.updated_at < before)
    if query:
        found = exists().where(MessageRow.conversation_id == ConversationRow.id, contains(MessageRow.content, query))
        wanted = wanted.where(or_(contains(ConversationRow.title, query), found))
    wanted = wanted.order_by(ConversationRow.updated_at.desc(), ConversationRow.id).limit(PAGE + 1)
    rows = list(session.scalars(wanted))
    heads = [head(row, _excerpt(session, row.id, query) if query else "") for row in rows[:PAGE]]
    return wire.ConversationList(conversations=heads, more=len(rows) > PAGE)


def contains(column: Any, text: str) -> ColumnElement[bool]:
    """Whether a column holds a text; `%` and `_` in it are ordinary characters."""
    found: ColumnElement[bool] = column.icontains(text, autoescape=True)
    return found


def _excerpt(session: Session, conversation_id: str, query: str) -> str:
    content = session.scalar(
        select(MessageRow.content)
        .where(MessageRow.conversation_id == conversation_id, contains(MessageRow.content, query))
        .order_by(MessageRow.place)
        .limit(1)
    )
    if content is None:
        return ""
    at = max(0, content.lower().find(query.lower()))
    start, end = max(0, at - EXCERPT), at + len(query) + EXCERPT
    return ("…" if start else "") + content[start:end] + ("…" if end < len(content) else "")


def change(session: Session, row: ConversationRow, new: wire.ConversationChange) -> None:
    """Change what was given."""
    given = new.model_dump(exclude_unset=True, exclude_none=True)
    if (leaf := given.get("active_leaf")) is not None:
        target = session.get(MessageRow, leaf)
        if target is None or target.conversation_id != row.id:
            raise missing("message")
    for name, value in given.items():
        setattr(row, name, value)


def remove_all(session: Session, owner: str) -> None:
    """Delete every conversation of `owner`."""
    session.execute(delete(ConversationRow).where(ConversationRow.owner == owner))


def snapshot(session: Session, row: ConversationRow) -> dict[str, Any]:
    """What a link shows: the active branch as it is now, without the system prompt."""
    path = path_to(rows_of(session, row.id), row.active_leaf)
    shown = ("role", "content", "model", "model_version")
    messages = [{name: getattr(m, name) for name in shown} for m in path if m.content]
    return {"title": row.title, "messages": messages}


def preferences(session: Session, user_id: str) -> wire.Preferences:
    """What a user allows; nothing by default."""
    row = session.get(ChatPreferences, user_id)
    return wire.Preferences(training_consent=row is not None and row.training_consent)


def set_preferences(session: Session, user_id: str, new: wire.Preferences) -> None:
    """Keep what a user allows from now on."""
    row = session.get(ChatPreferences, user_id) or ChatPreferences(user_id=user_id)
    row.training_consent, row.changed_at = new.training_consent, now()
    session.add(row)
