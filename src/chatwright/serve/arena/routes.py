"""The arena's API. Who answers is not told, by any route or event, before the vote."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from chatwright.records import Message
from chatwright.serve import audit
from chatwright.serve.arena import store, wire
from chatwright.serve.arena.tables import Battle, EntrantRow
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.chat.answers import engine_of, hub_of
from chatwright.serve.chat.live import LiveAnswer, follow, stream
from chatwright.serve.chat.wire import Settings
from chatwright.serve.engine import GenerationRequest
from chatwright.serve.limits import blind_answer, reveal
from chatwright.serve.services import Services, services

router = APIRouter(prefix="/api/arena", tags=["arena"])
Member = Annotated[Principal, Depends(require_user("member"))]
Asker = Annotated[Principal, Depends(require_user("member", generates=True))]
Lead = Annotated[Principal, Depends(require_user("lead"))]
Shared = Annotated[Services, Depends(services)]
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "events start, delta, error, done, each with its `side`", "content": {"text/event-stream": {}}}
}


@router.get("/entrants")
def entrants(who: Member, shared: Shared) -> list[wire.Entrant]:
    """Everybody who takes part."""
    with shared.workspace.reading() as session:
        return store.entrants(session, shared.registry)


@router.post("/entrants", status_code=201)
def add_entrant(new: wire.NewEntrant, request: Request, who: Lead, shared: Shared) -> wire.Entrant:
    """Let a variant of a model take part."""
    with shared.workspace.session() as session:
        made = store.add_entrant(session, shared.registry, new)
        audit.record(session, request, who.id, "entrant.add", made.id, name=made.name, model=made.model)
        return made


@router.delete("/entrants/{entrant_id}", status_code=204)
def remove_entrant(entrant_id: str, request: Request, who: Lead, shared: Shared) -> Response:
    """Let a variant take part no more; its votes stay on the board."""
    with shared.workspace.session() as session:
        row = session.get(EntrantRow, entrant_id)
        if row is None:
            raise store.missing("entrant")
        session.delete(row)
        audit.record(session, request, who.id, "entrant.remove", row.id, name=row.name, model=row.model)
    return Response(status_code=204)


@router.post("/battles", response_class=StreamingResponse, responses=EVENTS)
async def begin(new: wire.NewBattle, who: Asker, shared: Shared) -> StreamingResponse:
    """Ask two entrants, drawn at random and shown in random order."""
    begun = await run_in_threadpool(_begin, shared, who, new)
    for answer in begun:
        hub_of(shared).start(answer)
    return stream(follow(begun))


def _begin(shared: Services, who: Principal, new: wire.NewBattle) -> list[LiveAnswer]:
    hub_of(shared).check(who.id, 2)
    with shared.workspace.session() as session:
        pair = dict(zip("ab", store.draw(store.entrants(session, shared.registry)), strict=True))
        kept = {side: one.model_dump(include={"id", "name", "model", "system"}) for side, one in pair.items()}
        row = Battle(owner=who.id, prompt=new.prompt, entrants=kept)
        session.add(row)
        session.flush()
        return [_answer(shared, who, row.id, side, one, new.prompt) for side, one in pair.items()]


def _answer(
    shared: Services, who: Principal, battle_id: str, side: str, one: wire.Entrant, prompt: str
) -> LiveAnswer:  # fmt: skip
    engine = engine_of(shared, one.model)
    system = (Message(role="system", content=one.system),) if one.system.strip() else ()
    settings: Settings = one.settings
    request = GenerationRequest(
        request_id=f"{battle_id}:{side}", owner=who.id, messages=(*system, Message(role="user", content=prompt)),
        params=settings.params(), interactive=True,
    )  # fmt: skip

    def save(answer: LiveAnswer) -> None:
        with shared.workspace.session() as session:
            row = session.get(Battle, battle_id)
            if row is None or not row.prompt:  # deleted, or withdrawn meanwhile
                return
            setattr(row, f"answer_{side}", answer.text.replace("\x00", "\ufffd"))
            setattr(row, f"status_{side}", answer.status)
            setattr(row, f"finish_{side}", answer.finish_reason)
            setattr(row, f"version_{side}", answer.started.version)
        if answer.status != "streaming":
            shared.limits.record(
                shared.workspace, who, engine.name, prompt_tokens=answer.started.prompt_tokens,
                completion_tokens=answer.completion_tokens, version=answer.started.version,
                blind=blind_answer(answer.id, battle_id, prompt, answer.text),
            )  # fmt: skip

    label = {"battle_id": battle_id, "side": side}
    return LiveAnswer(
        id=request.request_id, owner=who.id, engine=engine, request=request, save=save, label=label, blind=True
    )


def _live(shared: Services, battle_id: str) -> dict[str, LiveAnswer]:
    found = {side: hub_of(shared).get(f"{battle_id}:{side}") for side in "ab"}
    return {side: answer for side, answer in found.items() if answer is not None and not answer.over}


def _info(shared: Services, who: Principal, battle_id: str) -> wire.BattleInfo:
    with shared.workspace.reading() as session:
        row = store.battle_of(session, who.id, battle_id)
        return store.info(session, row, _live(shared, battle_id))


@router.get("/battles/{battle_id}")
def battle(battle_id: str, who: Member, shared: Shared) -> wire.BattleInfo:
    """A battle with what is written so far."""
    return _info(shared, who, battle_id)


@router.get("/battles/{battle_id}/events", response_class=StreamingResponse, responses=EVENTS)
async def reconnect(battle_id: str, who: Member, shared: Shared) -> StreamingResponse:
    """Follow a battle again, from its beginning. 409 when it was over long ago: read it instead."""
    await run_in_threadpool(_info, shared, who, battle_id)
    found = [a for a in (hub_of(shared).get(f"{battle_id}:{side}") for side in "ab") if a is not None]
    if len(found) < 2:
        raise HTTPException(409, "this battle is over; read it")
    return stream(follow(found))


@router.post("/battles/{battle_id}/stop")
async def stop(battle_id: str, who: Member, shared: Shared) -> wire.BattleInfo:
    """Stop both answers; what was written stays and can be voted on."""
    await run_in_threadpool(_info, shared, who, battle_id)
    await hub_of(shared).stop([hub_of(shared).get(f"{battle_id}:{side}") for side in "ab"])
    return await run_in_threadpool(_info, shared, who, battle_id)


@router.post("/battles/{battle_id}/vote")
def vote(battle_id: str, new: wire.NewVote, who: Member, shared: Shared) -> wire.BattleInfo:
    """Vote, once; then the names are told. A vote is void when an answer names its model."""
    with shared.workspace.session() as session:
        row = store.battle_of(session, who.id, battle_id)
        store.vote(session, row, new.vote, bool(_live(shared, battle_id)))
        reveal(session, battle_id, who.user_id)
        return store.info(session, row, {})


@router.get("/board")
def board(who: Member, shared: Shared, length_control: bool = False, by_version: bool = True) -> wire.BoardInfo:
    """Ratings of every entrant with a vote. `length_control`: at equal length of the answers. `by_version`: each version of
    a model has its own line; without it, votes of all versions of a name are counted together."""
    with shared.workspace.reading() as session:
        found, num_void = store.counted(session)
    key = (length_control, by_version, len(found), num_void, hash(tuple(found)))
    known = shared.parts.setdefault("arena_boards", {})
    if key not in known:
        while len(known) >= 4:
            known.pop(next(iter(known)), None)
        known[key] = store.board(found, num_void, length_control, by_version=by_version)
    made: wire.BoardInfo = known[key]
    return made


@router.get("/export")
def export(request: Request, who: Lead, shared: Shared) -> Response:
    """Votes that count as rankings (JSON lines), ready for `chatwright reward`, of people who agreed to training."""
    with shared.workspace.reading() as session:
        rows = [made.to_dict() for made in store.consented(session)]
    with shared.workspace.session() as session:
        audit.record(session, request, who.id, "arena.export", rows=len(rows))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    headers = {"content-disposition": 'attachment; filename="arena.jsonl"'}
    return Response(text, media_type="application/jsonl", headers=headers)
