"""A model's draft of a demonstration. The label remembers that there was one."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from chatwright.errors import ConflictError, DataError
from chatwright.feedback import projects, queue, read
from chatwright.feedback.leases import active_lease
from chatwright.feedback.tables import Lease
from chatwright.generation.api import SamplingParams
from chatwright.records import Message
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.chat.answers import engine_of, hub_of
from chatwright.serve.chat.live import LiveAnswer, follow, stream
from chatwright.serve.desk import views, wire
from chatwright.serve.desk.common import ERRORS, Shared
from chatwright.serve.engine import GenerationRequest
from chatwright.serve.limits import blind_answer
from chatwright.serve.services import Services
from chatwright.workspace.database import new_id

Asker = Annotated[Principal, Depends(require_user("labeller", generates=True))]
router = APIRouter(prefix="/api/desk", tags=["desk"], responses=ERRORS)
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "events start, delta, error, done", "content": {"text/event-stream": {}}}
}
MAX_TOKENS = 1024
TEMPERATURE = 0.7


@router.post("/tasks/{task_id}/draft-answer", response_class=StreamingResponse, responses=_EVENTS)
async def draft_answer(task_id: str, given: wire.DraftRequest, who: Asker, shared: Shared) -> StreamingResponse:
    """Let the default model write the next turn. Closing the connection stops it. 409 where the project allows no drafts
    or the place at the task has run out."""
    answer = await run_in_threadpool(_begin, shared, who, task_id, given)
    hub_of(shared).start(answer)
    return stream(_until_left(answer))


async def _until_left(answer: LiveAnswer) -> AsyncIterator[str]:
    try:
        async for event in follow([answer]):
            yield event
    finally:
        answer.stopping.set()  # nobody will read the rest


def _begin(shared: Services, who: Principal, task_id: str, given: wire.DraftRequest) -> LiveAnswer:
    engine = engine_of(shared, "")
    hub_of(shared).check(who.id, 1)
    with shared.workspace.session() as session:
        views.lease_of(session, task_id, who.id)
        row = queue.locked(session, task_id)
        lease = active_lease(session, task_id, who.id)
        if row.kind != "demonstrate" or not projects.project_of(session, row.project_id).settings.model_draft:
            raise ConflictError("there are no drafts by a model here")
        if lease is None:
            raise ConflictError("your place at this task has run out")
        turns = tuple(Message(role=turn.role, content=turn.content) for turn in given.messages)
        messages = read.task_view(session, task_id).messages + turns
        if messages[-1].role not in ("user", "tool"):
            raise DataError("messages: end with the assistant's; the next turn is the user's")
        lease.draft_model, lease.draft_version = engine.name, engine.version
    params = SamplingParams(max_new_tokens=MAX_TOKENS, temperature=TEMPERATURE, seed=secrets.randbits(48))
    name = new_id("draft")
    request = GenerationRequest(
        interactive=True, request_id=name, owner=who.id, messages=messages, params=params, overflow="drop_oldest"
    )  # fmt: skip

    prompt = "".join(message.content for message in messages)

    def account(answer: LiveAnswer) -> None:
        version, over = answer.started.version, answer.status != "streaming"
        if version != engine.version and (version or over):  # a server elsewhere sends it with the answer
            with shared.workspace.session() as session:
                if (held := session.get(Lease, (task_id, who.id))) is not None:
                    held.draft_version = version
        if over:
            shared.limits.record(
                shared.workspace, who, engine.name, prompt_tokens=answer.started.prompt_tokens,
                completion_tokens=answer.completion_tokens, version=version,
                blind=blind_answer(name, task_id, prompt, answer.text),
            )  # fmt: skip

    # Blind: labellers do not learn which model it was.
    return LiveAnswer(
        id=name, owner=who.id, engine=engine, request=request, save=account, label={"task_id": task_id}, blind=True
    )
