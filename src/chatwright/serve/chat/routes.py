"""The chat API. What it reads and writes: wire.py; live answers: live.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from chatwright.serve import audit
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.chat import answers, exchange, library, shares, store, wire
from chatwright.serve.chat.live import LiveAnswer, follow, sse, stream
from chatwright.serve.chat.tables import ConversationRow, FeedbackEvent, MessageTokens
from chatwright.serve.chat.tokens import mark_script, unpack
from chatwright.serve.desk.hooks import set_consent
from chatwright.serve.engine import Engine
from chatwright.serve.services import Services, services

_WHAT = "events start (with the calculator's steps), context, reasoning, delta, error, done"
EVENTS: dict[int | str, dict[str, Any]] = {200: {"description": _WHAT, "content": {"text/event-stream": {}}}}
Member = Annotated[Principal, Depends(require_user("member"))]
Asker = Annotated[Principal, Depends(require_user("member", generates=True))]
Shared = Annotated[Services, Depends(services)]
Result = TypeVar("Result")
chat = APIRouter(prefix="/api", tags=["chat"])


@chat.get("/models")
def models(who: Member, shared: Shared) -> list[wire.ModelInfo]:
    """What can be chosen, the default first."""
    engines, unreachable = shared.registry.all(), shared.registry.unreachable()
    return [
        wire.ModelInfo(
            name=e.name, context_length=e.context_length, ready=e.ready, default=e is engines[0],
            unreachable=unreachable.get(e.name, ""), version=e.version,
            upstream=getattr(_without_filters(e), "upstream", ""), starters=getattr(_without_filters(e), "starters", []),
        )
        for e in engines
    ]  # fmt: skip


def _without_filters(engine: Engine) -> Engine:
    """The engine behind the moderation's filters."""
    return getattr(engine, "engine", engine)


@chat.get("/preferences")
def preferences(who: Member, shared: Shared) -> wire.Preferences:
    """What the user allows."""
    with shared.workspace.reading() as session:
        return store.preferences(session, who.id)


@chat.put("/preferences")
def set_preferences(new: wire.Preferences, request: Request, who: Member, shared: Shared) -> wire.Preferences:
    """Allow, or withdraw, the use of own conversations as training data."""
    with shared.workspace.session() as session:
        set_consent(shared, session, who.id, new.training_consent)
        audit.record(session, request, who.id, "consent.change", who.id, given=new.training_consent)
    return new


# ---- conversations -----------------------------------------------------------------------------------------


@chat.get("/conversations")
def conversations(
    who: Member,
    shared: Shared,
    q: Annotated[str, Query(max_length=200)] = "",
    before: Annotated[float | None, Query(allow_inf_nan=False)] = None,
) -> wire.ConversationList:
    """A page of the list; `before`: the `updated_at` of the last line of the page before."""
    with shared.workspace.reading() as session:
        return store.listed(session, who.id, _storable(q).strip(), before)


@chat.post("/conversations", status_code=201)
def begin(new: wire.NewConversation, who: Member, shared: Shared) -> wire.Conversation:
    """Begin a conversation."""
    model = answers.engine_of(shared, new.model).name
    with shared.workspace.session() as session:
        row = store.create(session, who.id, new.model_copy(update={"model": model}))
        return store.whole(session, row, answers.hub_of(shared).writing)


@chat.delete("/conversations", status_code=204)
async def delete_all(request: Request, who: Member, shared: Shared) -> Response:
    """Delete every conversation of the user, for good."""
    with_answers = [a for a in answers.hub_of(shared).of_owner(who.id) if "conversation_id" in a.label]
    await answers.hub_of(shared).stop(with_answers)

    def remove(session: Any) -> None:
        store.remove_all(session, who.id)
        audit.record(session, request, who.id, "chats.delete_all", who.id)

    await run_in_threadpool(_in_session, shared, remove)
    return Response(status_code=204)


@chat.post("/conversations/import", status_code=201)
def take(given: exchange.ExportedConversation, who: Member, shared: Shared) -> wire.Conversation:
    """Make a conversation of an export."""
    with shared.workspace.session() as session:
        row = exchange.take(session, who.id, given)
        return store.whole(session, row, answers.hub_of(shared).writing)


@chat.get("/conversations/{conversation_id}")
def conversation(conversation_id: str, who: Member, shared: Shared) -> wire.Conversation:
    """A conversation with all its branches."""
    with shared.workspace.reading() as session:
        row = store.conversation_of(session, who.id, conversation_id)
        return store.whole(session, row, answers.hub_of(shared).writing)


@chat.patch("/conversations/{conversation_id}")
def change(
    conversation_id: str, new: wire.ConversationChange, who: Member, shared: Shared
) -> wire.Conversation:  # fmt: skip
    """Change title, system prompt, model, settings, or the branch that is shown."""
    if new.model is not None:
        new = new.model_copy(update={"model": answers.engine_of(shared, new.model).name})
    with shared.workspace.session() as session:
        row = store.conversation_of(session, who.id, conversation_id)
        store.change(session, row, new)
        return store.whole(session, row, answers.hub_of(shared).writing)


@chat.delete("/conversations/{conversation_id}", status_code=204)
async def delete(conversation_id: str, request: Request, who: Member, shared: Shared) -> Response:
    """Delete a conversation with its messages, thumbs and link, for good."""

    def find(session: Any) -> ConversationRow:
        return store.conversation_of(session, who.id, conversation_id)

    await run_in_threadpool(_in_session, shared, find)
    hub = answers.hub_of(shared)
    await hub.stop(hub.of_label("conversation_id", conversation_id))

    def remove(session: Any) -> None:
        session.delete(find(session))
        audit.record(session, request, who.id, "chat.delete", conversation_id)

    await run_in_threadpool(_in_session, shared, remove)
    return Response(status_code=204)


@chat.get("/conversations/{conversation_id}/export")
def export(
    conversation_id: str, request: Request, who: Member, shared: Shared, format: Literal["json", "markdown"] = "json"
) -> Response:  # fmt: skip
    """A file: `json` has every branch and can be imported; `markdown` has the branch that is shown."""
    with shared.workspace.reading() as session:
        row = store.conversation_of(session, who.id, conversation_id)
        if format == "json":
            text, kind = exchange.as_json(session, row).model_dump_json(indent=1), "application/json"
        else:
            text, kind = exchange.as_markdown(session, row), "text/markdown; charset=utf-8"
    with shared.workspace.session() as session:
        audit.record(session, request, who.id, "chat.export", conversation_id, format=format)
    name = f'attachment; filename="conversation.{"json" if format == "json" else "md"}"'
    return Response(text, media_type=kind, headers={"content-disposition": name})


# ---- answers -----------------------------------------------------------------------------------------------


@chat.post("/conversations/{conversation_id}/messages", response_class=StreamingResponse, responses=EVENTS)
async def ask(conversation_id: str, new: wire.NewMessage, who: Asker, shared: Shared) -> StreamingResponse:
    """Send a message; the answers come as events, each with its `message_id`."""
    return _begun(shared, await run_in_threadpool(answers.ask, shared, who, conversation_id, new))


@chat.post("/messages/{message_id}/edit", response_class=StreamingResponse, responses=EVENTS)
async def edit(message_id: str, new: wire.Edit, who: Asker, shared: Shared) -> StreamingResponse:
    """Send another wording of a message, beside the old one."""
    return _begun(shared, await run_in_threadpool(answers.edit, shared, who, message_id, new))


@chat.post("/messages/{message_id}/regenerate", response_class=StreamingResponse, responses=EVENTS)
async def regenerate(message_id: str, new: wire.Answering, who: Asker, shared: Shared) -> StreamingResponse:
    """Write another answer beside one; of a user's message: another answer to it."""
    return _begun(shared, await run_in_threadpool(answers.regenerate, shared, who, message_id, new))


@chat.post("/messages/{message_id}/branch", response_class=StreamingResponse, responses=EVENTS)
async def branch(message_id: str, new: wire.Branch, who: Asker, shared: Shared) -> StreamingResponse:
    """Write an answer that is the same up to a token and goes on with an alternative of it."""
    return _begun(shared, await run_in_threadpool(answers.branch, shared, who, message_id, new))


def _begun(shared: Services, begun: Iterable[LiveAnswer]) -> StreamingResponse:
    begun = list(begun)
    for answer in begun:
        answers.hub_of(shared).start(answer)
    return stream(follow(begun))


@chat.get("/generations/{message_id}", response_class=StreamingResponse, responses=EVENTS)
async def reconnect(
    message_id: str,
    who: Member,
    shared: Shared,
    after: Annotated[int, Query(ge=0)] = 0,
    last_event_id: Annotated[str, Header()] = "",
) -> StreamingResponse:
    """Follow an answer again: all its events, or those after an event, and what is still to come. Of an answer that was
    finished long ago, its whole text comes as one event."""
    live = answers.hub_of(shared).get(message_id)
    if live is not None and live.owner == who.id:
        if not after and last_event_id.isdecimal() and len(last_event_id) < 10:
            after = int(last_event_id)
        return stream(follow([live], after))

    def read(session: Any) -> wire.Message:
        _, row = store.message_of(session, who.id, message_id)
        return store.message(row, answers.hub_of(shared).writing, False, None)

    return stream(_told_again(await run_in_threadpool(_in_reading, shared, read)))


async def _told_again(message: wire.Message) -> Any:
    label = {"message_id": message.id, "parent_id": message.parent_id, "model": message.model}
    yield sse("start", {**label, "steps": message.steps}, 1)
    yield sse("delta", {**label, "text": message.content}, 2)
    if message.error:
        yield sse("error", {**label, "message": message.error}, 3)
    done = {
        "status": message.status, "finish_reason": message.finish_reason, "completion_tokens": message.completion_tokens
    }  # fmt: skip
    yield sse("done", {**label, **done}, 4)


@chat.delete("/generations/{message_id}")
async def stop(message_id: str, who: Member, shared: Shared) -> wire.Message:
    """Stop an answer; what was written stays. The message as it is now."""
    live = answers.hub_of(shared).get(message_id)
    if live is not None and live.owner == who.id:
        await answers.hub_of(shared).stop([live])

    def read(session: Any) -> wire.Message:
        _, row = store.message_of(session, who.id, message_id)
        kept = session.get(MessageTokens, message_id) is not None
        return store.message(row, answers.hub_of(shared).writing, kept, None)

    return await run_in_threadpool(_in_reading, shared, read)


@chat.get("/messages/{message_id}/tokens")
def tokens(message_id: str, who: Member, shared: Shared) -> wire.TokenView:
    """An answer by its tokens, each with its likeliest alternatives; log-probabilities in nats under the model's own
    distribution at the answer's temperature. 404 when they are not known, as for answers of other servers."""
    with shared.workspace.reading() as session:
        _, message = store.message_of(session, who.id, message_id)
        kept = session.get(MessageTokens, message_id)
        if kept is None:
            raise HTTPException(404, "the tokens of this message are not known")
        found = unpack(kept.data)
        if script := str(message.settings.get("script") or ""):
            mark_script(found, script)
        return wire.TokenView(message_id=message_id, tokens=found)


@chat.post("/messages/{message_id}/feedback")
def feedback(message_id: str, new: wire.NewFeedback, who: Member, shared: Shared) -> wire.NewFeedback:
    """Give an answer a thumb, change it, or take it back; every one is kept as an event."""
    with shared.workspace.session() as session:
        _, row = store.message_of(session, who.id, message_id)
        if row.role != "assistant":
            raise HTTPException(409, "only answers get thumbs")
        session.add(FeedbackEvent(message_id=row.id, user_id=who.id, model_version=row.model_version, **new.model_dump()))
    return new


def _storable(text: str) -> str:
    try:
        return wire.whole_characters(text)
    except ValueError as error:
        raise HTTPException(400, f"q: {error}") from error


def _in_session(shared: Services, work: Callable[[Any], Result]) -> Result:
    with shared.workspace.session() as session:
        return work(session)


def _in_reading(shared: Services, work: Callable[[Any], Result]) -> Result:
    with shared.workspace.reading() as session:
        return work(session)


router = APIRouter()
router.include_router(chat)
router.include_router(shares.router)
router.include_router(library.router)
