"""Conversations in and out: JSON that holds everything, and Markdown to read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import HTTPException
from pydantic import Field, model_validator
from sqlalchemy.orm import Session

from chatwright.serve.chat import store, wire
from chatwright.serve.chat.tables import ConversationRow, MessageRow

FORMAT = "chatwright-conversation-1"
_FIELDS = (
    "parent_id", "role", "content", "origin", "model", "model_version", "settings", "steps", "finish_reason",
    "prompt_tokens", "completion_tokens", "dropped_messages",
)  # fmt: skip


class ExportedMessage(wire.Wire):
    """A message; `parent_id` names an earlier one."""

    id: Annotated[str, Field(min_length=1, max_length=64)]
    parent_id: Annotated[str, Field(max_length=64)] | None = None
    role: wire.Role
    content: Annotated[str, Field(max_length=wire.MAX_TEXT * 4)]
    status: wire.Status = "complete"
    origin: Literal["new", "edit", "regenerate", "branch", "import"] = "new"
    model: wire.ModelName = ""
    model_version: Annotated[str, Field(max_length=128)] = ""
    """Content hash of the model; empty: unknown."""
    settings: dict[str, Any] = {}
    steps: Annotated[list[dict[str, Any]], Field(max_length=64)] = []
    finish_reason: Annotated[str, Field(max_length=16)] = ""
    prompt_tokens: Annotated[int, Field(ge=0, lt=2**31)] = 0
    completion_tokens: Annotated[int, Field(ge=0, lt=2**31)] = 0
    dropped_messages: Annotated[int, Field(ge=0, lt=2**31)] = 0


class ExportedConversation(wire.Wire):
    """A whole conversation with all its branches."""

    format: Literal["chatwright-conversation-1"] = "chatwright-conversation-1"
    title: wire.Title
    system: wire.System = ""
    model: wire.ModelName = ""
    settings: wire.Settings = wire.Settings()
    active_leaf: Annotated[str, Field(max_length=64)] | None = None
    messages: Annotated[list[ExportedMessage], Field(max_length=wire.MAX_MESSAGES)]

    @model_validator(mode="before")
    @classmethod
    def _is_an_export(cls, given: Any) -> Any:
        """Files of other programs are refused by what they are, not by the first field that they lack."""
        if not isinstance(given, dict) or not isinstance(given.get("messages"), list) or "title" not in given:
            ours = "this is no conversation that Chatwright exported; choose a file made with Export, JSON"
            others = isinstance(given, list) or (isinstance(given, dict) and "mapping" in given)
            raise ValueError(ours + (" (ChatGPT's conversations.json is not read here)" if others else ""))
        return given


def as_json(session: Session, row: ConversationRow) -> ExportedConversation:
    """Everything but thumbs and token views."""
    messages = [
        ExportedMessage(
            id=m.id, status="stopped" if m.status == "streaming" else m.status,  # type: ignore[arg-type]
            **{name: getattr(m, name) for name in _FIELDS},
        )
        for m in store.rows_of(session, row.id)
    ]  # fmt: skip
    return ExportedConversation(
        title=row.title, system=row.system, model=row.model, settings=wire.Settings(**row.settings),
        active_leaf=row.active_leaf, messages=messages,
    )  # fmt: skip


def as_markdown(session: Session, row: ConversationRow) -> str:
    """The branch that is shown."""
    parts = [f"# {row.title or 'Conversation'}"]
    if row.system.strip():
        parts.append(f"> {row.system.strip()}".replace("\n", "\n> "))
    for m in store.path_to(store.rows_of(session, row.id), row.active_leaf):
        writer = f"{m.model} {m.model_version[:12]}".strip()
        name = "User" if m.role == "user" else f"Assistant ({writer})" if writer else "Assistant"
        parts.append(f"## {name}\n\n{m.content.strip()}")
    return "\n\n".join(parts) + "\n"


def take(session: Session, owner: str, given: ExportedConversation) -> ConversationRow:
    """Make a conversation of an export; ids are new. 400 names what does not fit together."""
    new = wire.NewConversation(title=given.title, system=given.system, model=given.model, settings=given.settings)
    row = store.create(session, owner, new)
    ids: dict[str, str] = {}
    roles: dict[str, str] = {}
    for number, m in enumerate(given.messages):
        place = f"messages[{number}]"
        if m.id in ids:
            raise HTTPException(400, f"{place}.id: {m.id!r} stands twice")
        if m.parent_id is not None and m.parent_id not in ids:
            raise HTTPException(400, f"{place}.parent_id: {m.parent_id!r} is no earlier message")
        before = "assistant" if m.parent_id is None else roles[m.parent_id]
        if m.role == before:
            raise HTTPException(400, f"{place}.role: {m.role} follows {before}; user and assistant take turns")
        fields = {name: getattr(m, name) for name in _FIELDS} | {"origin": "import"}
        fields["parent_id"] = None if m.parent_id is None else ids[m.parent_id]
        made = MessageRow(
            conversation_id=row.id, place=number + 1, status="stopped" if m.status == "streaming" else m.status, **fields
        )
        session.add(made)
        session.flush()
        ids[m.id], roles[m.id] = made.id, m.role
    if given.active_leaf is not None and given.active_leaf not in ids:
        raise HTTPException(400, f"active_leaf: {given.active_leaf!r} is none of the messages")
    last = given.messages[-1].id if given.messages else None
    leaf = given.active_leaf or last
    row.active_leaf = None if leaf is None else ids[leaf]
    return row
