"""`/v1/moderations` in OpenAI's shape with our categories, and the log of the filters for administrators."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from chatwright.serve.arena.tables import ArenaVote, Battle
from chatwright.serve.audit_bounds import record_reading
from chatwright.serve.auth import Principal, require_scope, require_user
from chatwright.serve.moderation.classifier import Classifier, Judgement
from chatwright.serve.moderation.filters import Moderator
from chatwright.serve.moderation.tables import ModerationEvent
from chatwright.serve.openai.errors import APIError, responses
from chatwright.serve.services import Services, services
from chatwright.workspace.database import new_id

MAX_INPUTS, MAX_CHARS = 256, 100_000
Text = Annotated[str, Field(max_length=MAX_CHARS)]
router = APIRouter()


class TextPart(BaseModel):
    """A part of an input; pictures are not judged."""

    type: Literal["text"]
    text: Text


class ModerationRequest(BaseModel):
    """Texts to judge."""

    model_config = ConfigDict(extra="forbid")
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)] | Annotated[
        list[TextPart], Field(min_length=1, max_length=MAX_INPUTS)
    ]
    model: Annotated[str, Field(max_length=256)] = ""
    """Any name is taken: a server has one classifier, which the answer names."""


class ModerationResult(BaseModel):
    """What the classifier says of one text."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]


class ModerationReply(BaseModel):
    """One result per text, in their order."""

    id: str
    model: str
    results: list[ModerationResult]


class LoggedEvent(BaseModel):
    """A line of the filters' log."""

    model_config = ConfigDict(from_attributes=True)
    id: str
    at: float
    owner: str
    request_id: str
    model: str
    direction: str
    category: str
    score: float
    action: str
    text_hash: str
    text: str | None


class LoggedEvents(BaseModel):
    """The newest first."""

    events: list[LoggedEvent]


def moderator_of(shared: Services) -> Moderator:
    """The server's moderator; an error that says how to have one when there is none."""
    moderator = shared.parts.get("moderation")
    if not isinstance(moderator, Moderator):
        raise APIError(
            400, "this server has no moderation classifier; start it with --moderation DIR, a folder that "
            "`chatwright moderation train` wrote", code="moderation_not_configured",
        )  # fmt: skip
    return moderator


@router.post("/v1/moderations", responses=responses(401, 403, 413, 429), tags=["moderations"])
async def moderations(
    body: ModerationRequest, request: Request, principal: Annotated[Principal, Depends(require_scope("moderations"))]
) -> ModerationReply:
    """Scores of texts in the classifier's own categories; its card says what they mean and how far to trust them."""
    classifier = moderator_of(services(request)).classifier
    given = body.input if isinstance(body.input, list) else [body.input]
    texts = [part if isinstance(part, str) else part.text for part in given]
    judged = await run_in_threadpool(_judge_all, classifier, texts)
    return ModerationReply(id=new_id("modr"), model=classifier.name, results=[_result(one) for one in judged])


def _judge_all(classifier: Classifier, texts: list[str]) -> list[Judgement]:
    return [classifier.judge(text) for text in texts]


def _result(judged: Judgement) -> ModerationResult:
    return ModerationResult(
        flagged=any(judged.flagged.values()), categories=dict(judged.flagged), category_scores=dict(judged.scores),
        category_applied_input_types={category: ["text"] for category in judged.scores},
    )  # fmt: skip


@router.get("/api/moderation/events", responses=responses(401, 403), tags=["administration"])
def events(
    request: Request,
    who: Annotated[Principal, Depends(require_user("admin"))],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[float | None, Query(allow_inf_nan=False)] = None,
) -> LoggedEvents:
    """Flagged requests and what the filters did, the newest first; `before` (seconds since 1970) pages back. The model of
    one's own battle is named after the vote."""
    record_reading(services(request), request, who.id, "flagged.read")
    query = select(ModerationEvent).order_by(ModerationEvent.at.desc(), ModerationEvent.id).limit(limit)
    if before is not None:
        query = query.where(ModerationEvent.at < before)
    with services(request).workspace.reading() as session:
        found = [LoggedEvent.model_validate(row) for row in session.scalars(query)]
        battles = {one.request_id: one.request_id.partition(":")[0] for one in found if one.owner == who.id}
        voted = set(session.scalars(select(ArenaVote.battle_id).where(ArenaVote.battle_id.in_(battles.values()))))
        asked = set(session.scalars(select(Battle.id).where(Battle.id.in_(battles.values()))))
    blind = {request_id for request_id, battle in battles.items() if battle in asked - voted}
    return LoggedEvents(events=[one.model_copy(update={"model": ""}) if one.request_id in blind else one for one in found])
