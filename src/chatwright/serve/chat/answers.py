"""From a message to the answers that are written to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi import HTTPException
from sqlalchemy import update
from sqlalchemy.orm import Session

from chatwright.generation.calculator_steps import calculator_steps, held_to, with_steps
from chatwright.records import Message
from chatwright.serve.auth import Principal
from chatwright.serve.chat import store, wire
from chatwright.serve.chat.live import Hub, LiveAnswer
from chatwright.serve.chat.tables import ConversationRow, MessageRow, MessageTokens
from chatwright.serve.chat.tokens import bytes_of, pack, unpack
from chatwright.serve.desk.hooks import answered
from chatwright.serve.engine import Engine, GenerationRequest, TokenLogprob
from chatwright.serve.services import Services
from chatwright.text.script_check import script_check
from chatwright.workspace.database import now


def hub_of(shared: Services) -> Hub:
    """The server's live answers."""
    hub: Hub = shared.parts.setdefault("live", Hub())
    return hub


def engine_of(shared: Services, name: str) -> Engine:
    """The engine of a model; 404 names those that are served."""
    engine = shared.registry.get(name)
    if engine is None:
        raise HTTPException(404, f"model {name!r} is not served here; models: {', '.join(shared.registry.names())}")
    return engine


def ask(shared: Services, who: Principal, conversation_id: str, new: wire.NewMessage) -> list[LiveAnswer]:
    """Add a user's message and prepare its answers."""
    with shared.workspace.session() as session:
        row = store.conversation_of(session, who.id, conversation_id)
        parent = new.parent_id or row.active_leaf
        _check_parent(session, row, parent)
        return _asked(shared, who, session, row, parent, new.content, "new", new)


def edit(shared: Services, who: Principal, message_id: str, new: wire.Edit) -> list[LiveAnswer]:
    """Put another wording beside a user's message and prepare its answers."""
    with shared.workspace.session() as session:
        row, old = store.message_of(session, who.id, message_id)
        if old.role != "user":
            raise HTTPException(409, "only own messages can be edited; regenerate an answer instead")
        return _asked(shared, who, session, row, old.parent_id, new.content, "edit", new)


def regenerate(shared: Services, who: Principal, message_id: str, new: wire.Answering) -> list[LiveAnswer]:
    """Prepare other answers beside one, by its own model unless others are named."""
    with shared.workspace.session() as session:
        row, old = store.message_of(session, who.id, message_id)
        if old.role == "user":
            return _answers(shared, who, session, row, old, new, "regenerate")
        question = session.get(MessageRow, old.parent_id)
        assert question is not None
        models = new.models or [old.model if old.model in shared.registry.names() else row.model]
        return _answers(shared, who, session, row, question, new.model_copy(update={"models": models}), "regenerate")


def branch(shared: Services, who: Principal, message_id: str, new: wire.Branch) -> list[LiveAnswer]:
    """Prepare an answer that is equal to another up to a token, has an alternative there and goes on freely."""
    with shared.workspace.session() as session:
        row, old = store.message_of(session, who.id, message_id)
        kept = session.get(MessageTokens, message_id)
        if kept is None:
            raise HTTPException(409, "the tokens of this message are not known, so it cannot be branched from")
        tokens = unpack(kept.data)
        if new.token >= len(tokens):
            raise HTTPException(400, f"token {new.token}: the answer has {len(tokens)} tokens")
        place = tokens[new.token]
        chosen = next((one for one in place.top if one.id == new.alternative), None)
        if chosen is None:
            raise HTTPException(400, f"alternative {new.alternative}: is none of the tokens kept for this place")
        settings = new.settings or wire.Settings(**old.settings)
        if settings.script and not script_check(settings.script).allows(
            b"".join(map(bytes_of, tokens[: new.token])), bytes_of(chosen)
        ):
            raise HTTPException(
                400, f"alternative {new.alternative}: is outside of the script {settings.script!r} of this answer"
            )
        before = [TokenLogprob(id=t.id, logprob=t.logprob, top=_tops(t.top)) for t in tokens[: new.token]]
        prefix = (*before, TokenLogprob(id=chosen.id, logprob=chosen.logprob, top=_tops(place.top)))
        question = session.get(MessageRow, old.parent_id)
        assert question is not None
        asked = wire.Answering(models=[old.model], settings=settings)
        return _answers(shared, who, session, row, question, asked, "branch", prefix)


def _tops(top: Sequence[wire.Alternative]) -> tuple[tuple[int, float], ...]:
    return tuple((one.id, one.logprob) for one in top)


def _check_parent(session: Session, row: ConversationRow, parent: str | None) -> None:
    if parent is None:
        return
    found = session.get(MessageRow, parent)
    if found is None or found.conversation_id != row.id:
        raise store.missing("message")
    if found.role != "assistant":
        raise HTTPException(409, "a message follows an answer; edit the message instead, or ask for an answer to it")


def _asked(
    shared: Services, who: Principal, session: Session, row: ConversationRow, parent: str | None, content: str,
    origin: str, new: wire.Answering,
) -> list[LiveAnswer]:  # fmt: skip
    question = store.add_message(session, row, parent_id=parent, role="user", content=content, origin=origin)
    row.title = row.title or store.title_from(content)
    return _answers(shared, who, session, row, question, new, "new")


def _answers(
    shared: Services, who: Principal, session: Session, row: ConversationRow, question: MessageRow, new: wire.Answering,
    origin: str, prefix: tuple[TokenLogprob, ...] = (),
) -> list[LiveAnswer]:  # fmt: skip
    engines = [engine_of(shared, name) for name in new.models or [row.model]]
    settings = new.settings or wire.Settings(**row.settings)
    hub_of(shared).check(who.id, len(engines))
    messages = _context(session, row, question)
    steps = calculator_steps(messages)
    messages = with_steps(messages, steps)
    answers = []
    for number, engine in enumerate(engines):
        made = store.add_message(
            session, row, parent_id=question.id, role="assistant", status="streaming", origin=origin, model=engine.name,
            settings=settings.model_dump(),
        )  # fmt: skip
        params = settings.params()
        if settings.seed is not None and number:  # the same model twice gives two answers
            params = replace(params, seed=settings.seed + number)
        if steps and not prefix and params.constraint is None and not getattr(engine, "takes_raw", False):
            params = held_to(params, steps)
        if prefix:
            params = replace(params, max_new_tokens=max(1, params.max_new_tokens - len(prefix)))
        request = GenerationRequest(
            interactive=True, request_id=made.id, owner=who.id, messages=messages, params=params, overflow="drop_oldest",
            answer_prefix=tuple(token.id for token in prefix),
        )  # fmt: skip
        label = {
            "message_id": made.id, "conversation_id": row.id, "parent_id": question.id, "model": engine.name,
        }  # fmt: skip
        answers.append(
            LiveAnswer(
                id=made.id, owner=who.id, engine=engine, request=request, save=_saver(shared, who), label=label,
                prefix=prefix, steps=[step.to_dict() for step in steps],
            )  # fmt: skip
        )
    row.active_leaf = answers[0].id
    return answers


def _context(session: Session, row: ConversationRow, question: MessageRow) -> tuple[Message, ...]:
    """The system prompt and the branch up to the question."""
    path = store.path_to(store.rows_of(session, row.id), question.id)
    system = (Message(role="system", content=row.system),) if row.system.strip() else ()
    return (*system, *(Message(role=m.role, content=m.content) for m in path))  # type: ignore[arg-type]


def _saver(shared: Services, who: Principal) -> Any:
    def save(answer: LiveAnswer) -> None:
        values = {
            "content": answer.text.replace("\x00", "\ufffd"), "status": answer.status, "error": answer.error,
            "steps": answer.steps, "finish_reason": answer.finish_reason, "prompt_tokens": answer.started.prompt_tokens,
            "completion_tokens": answer.completion_tokens, "dropped_messages": answer.started.dropped_messages,
            "model_version": answer.started.version,
        }  # fmt: skip
        final = answer.status != "streaming"
        with shared.workspace.session() as session:
            found = session.execute(update(MessageRow).where(MessageRow.id == answer.id).values(**values))
            if not found.rowcount:  # type: ignore[attr-defined]
                return  # it was deleted meanwhile
            conversation = session.get(ConversationRow, answer.label["conversation_id"])
            if final and conversation is not None:
                conversation.updated_at = now()
            if final and answer.tokens:
                session.add(MessageTokens(message_id=answer.id, data=pack(answer.tokens, answer.engine.token_bytes)))
            consented = final and store.preferences(session, who.id).training_consent
        if final:
            if answer.status == "complete":
                answered(shared, who.id, answer.id, consented=consented)
            shared.limits.record(
                shared.workspace, who, answer.engine.name, prompt_tokens=answer.started.prompt_tokens,
                completion_tokens=answer.completion_tokens, version=answer.started.version,
            )  # fmt: skip

    return save
