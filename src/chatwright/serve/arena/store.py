"""Entrants, battles and votes in the database, the board made of them, and their export as preferences."""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fastapi import HTTPException
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chatwright.evals.bradley_terry import Board, Standing, Vote
from chatwright.evals.bradley_terry import board as fitted
from chatwright.records import Ranking, WeakOrder, user
from chatwright.records.messages import Message
from chatwright.serve.arena import wire
from chatwright.serve.arena.tables import ArenaVote, Battle, EntrantRow
from chatwright.serve.chat.store import missing
from chatwright.serve.chat.tables import ChatPreferences
from chatwright.serve.chat.wire import Settings
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.limits import BLIND_S
from chatwright.workspace.database import now

OUTCOMES = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
ORDERS = {"a": "A>B", "b": "B>A", "tie": "A=B", "both_bad": "A=B"}
ENOUGH_VOTES = 10
"""Votes from which an interval is worth its name."""
# Parts of model names that are ordinary words: an answer may use them.
_ORDINARY = {
    "instruct", "chat", "base", "model", "coder", "code", "small", "large", "medium", "mini", "tiny", "turbo", "pro",
    "assistant", "preview", "latest", "prompt", "system", "default", "english", "chinese", "short", "long", "test",
    "step", "final", "best", "merged", "quickstart", "museum", "checkpoint", "bf16", "int8", "fp32", "gguf",
}  # fmt: skip


def entrants(session: Session, registry: EngineRegistry) -> list[wire.Entrant]:
    """Every served model as it is, and the variants of served models."""
    served = registry.names()
    plain = [wire.Entrant(id=n, name=n, model=n, system="", settings=Settings(), variant=False) for n in served]
    rows = session.scalars(select(EntrantRow).order_by(EntrantRow.name))
    return plain + [
        wire.Entrant(
            id=row.id, name=row.name, model=row.model, system=row.system, settings=Settings(**row.settings), variant=True
        )
        for row in rows
        if row.model in served
    ]


def add_entrant(session: Session, registry: EngineRegistry, new: wire.NewEntrant) -> wire.Entrant:
    """Add a variant; 404 for a model that is not served, 409 for a name that is taken or when there are too many."""
    if registry.get(new.model) is None or not new.model:
        raise HTTPException(404, f"model {new.model!r} is not served here; models: {', '.join(registry.names())}")
    if new.name in registry.names() or session.scalar(select(EntrantRow.id).where(EntrantRow.name == new.name)):
        raise HTTPException(409, f"name {new.name!r} is taken")
    if (session.scalar(select(func.count()).select_from(EntrantRow)) or 0) >= wire.MAX_ENTRANTS:
        raise HTTPException(409, f"there are {wire.MAX_ENTRANTS} entrants, as many as are allowed; delete some")
    row = EntrantRow(**new.model_dump())
    session.add(row)
    session.flush()
    return wire.Entrant(id=row.id, variant=True, **new.model_dump())


def draw(found: list[wire.Entrant]) -> tuple[wire.Entrant, wire.Entrant]:
    """Two different entrants in random order; 409 when there are not two."""
    if len(found) < 2:
        raise HTTPException(
            409, "a battle needs two entrants: serve a second model, or add a variant of this one with another system prompt"
        )
    first, second = secrets.SystemRandom().sample(found, 2)
    return first, second


def battle_of(session: Session, owner: str, battle_id: str) -> Battle:
    """A battle of `owner`; 404."""
    row = session.get(Battle, battle_id)
    if row is None or row.owner != owner:
        raise missing("battle")
    return row


def vote(session: Session, row: Battle, kind: wire.VoteKind, writing: bool) -> ArenaVote:
    """Count a vote once. 409 while answers are being written, for a failed battle, for a second vote on it, and for one
    on the same question to the same pair."""
    if row.created_at < now() - BLIND_S:
        raise HTTPException(409, "this battle is more than a week old, and your usage names its models; begin another one")
    if writing:
        raise HTTPException(409, "an answer is still being written; vote when both are complete, or stop them")
    if "error" in (row.status_a, row.status_b) or not (row.answer_a.strip() and row.answer_b.strip()):
        raise HTTPException(409, "an answer is missing, so there is nothing to compare; begin another battle")
    made = ArenaVote(
        battle_id=row.id, user_id=row.owner, question=question_of(row), vote=kind, void="named_model" if named(row) else ""
    )
    session.add(made)
    try:
        session.flush()
    except IntegrityError:
        raise HTTPException(409, "you have already voted on this question with this pair; your first vote counts") from None
    return made


def question_of(row: Battle) -> str:
    """Digest of the prompt and the pair of versions, in whichever order they were shown. A name without a known version is
    digested as before there were versions, so that an old vote still counts once."""
    versions = {"a": row.version_a, "b": row.version_b}
    pair = sorted(" ".join(filter(None, (side["name"], versions[place]))) for place, side in row.entrants.items())
    text = json.dumps([" ".join(row.prompt.split()), *pair], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def named(row: Battle) -> bool:
    """Whether an answer names one of the two models, so that the vote was not blind."""
    answers = f"{row.answer_a}\n{row.answer_b}".lower()
    prompt = row.prompt.lower()
    for side in row.entrants.values():
        for name in names_of(side["model"], side["name"]):
            # A name the question itself used tells nothing.
            pattern = rf"(?<![a-z0-9]){re.escape(name)}(?![a-z])"
            if re.search(pattern, answers) and not re.search(pattern, prompt):
                return True
    return False


def names_of(*names: str) -> set[str]:
    """How an answer may name a model: its names, and their parts that are no ordinary words (`smollm2-135m-instruct`:
    also `smollm2` and `smollm`)."""
    found = {name.lower() for name in names if len(name) >= 4 and name.lower() not in _ORDINARY}
    for part in re.split(r"[^a-z0-9]+", " ".join(names).lower()):
        stem = part.rstrip("0123456789")
        found |= {one for one in (part, stem) if len(one) >= 4 and one not in _ORDINARY and not one[0].isdigit()}
    return found


def info(session: Session, row: Battle, live: dict[str, Any]) -> wire.BattleInfo:
    """A battle as its owner may see it; names only after the vote. `live`: answers being written, by side."""
    made = session.get(ArenaVote, row.id)

    def side(name: str) -> wire.Side:
        writer, status = live.get(name), getattr(row, f"status_{name}")
        if status == "streaming" and writer is None:
            status = "stopped"  # the server ended meanwhile
        return wire.Side(
            text=writer.shown if writer is not None else getattr(row, f"answer_{name}"), status=status,
            finish_reason=getattr(row, f"finish_{name}"), name=row.entrants[name]["name"] if made else None,
            model_version=getattr(row, f"version_{name}") if made else None,
        )  # fmt: skip

    return wire.BattleInfo(
        id=row.id, prompt=row.prompt, a=side("a"), b=side("b"), vote=made.vote if made else None,  # type: ignore[arg-type]
        void=made.void if made else "",
    )  # fmt: skip


def votes(session: Session) -> Iterator[tuple[Battle, ArenaVote]]:
    """Every vote with its battle, in the order they were given."""
    query = select(Battle, ArenaVote).join(ArenaVote, ArenaVote.battle_id == Battle.id)
    for row in session.execute(query.order_by(ArenaVote.created_at, ArenaVote.battle_id)):
        yield row[0], row[1]


def consented(session: Session) -> Iterator[Ranking]:
    """Votes that count, as rankings, of people who agree to training now and did when the battle began."""
    agreed = select(ChatPreferences.user_id, ChatPreferences.changed_at).where(ChatPreferences.training_consent.is_(True))
    since = {row.user_id: row.changed_at for row in session.execute(agreed)}
    for battle, made in votes(session):
        if not made.void and battle.created_at >= since.get(battle.owner, math.inf):
            yield ranking(battle, made)


def counted(session: Session) -> tuple[list[Vote], int]:
    """(votes that count, between versions of entrants; number of void ones)."""
    found, num_void = [], 0
    for battle, made in votes(session):
        if made.void:
            num_void += 1
            continue
        found.append(
            Vote(
                a=_player(battle.entrants["a"]["name"], battle.version_a),
                b=_player(battle.entrants["b"]["name"], battle.version_b), outcome=OUTCOMES[made.vote],
                length_a=len(battle.answer_a), length_b=len(battle.answer_b),
            )  # fmt: skip
        )
    return found, num_void


def _player(name: str, version: str) -> str:
    """A version of an entrant as the fit names it."""
    return f"{name}\n{version}"


def board(found: list[Vote], num_void: int, length_control: bool, *, by_version: bool = True) -> wire.BoardInfo:
    """The board of votes between versions, or of those between names."""
    versions: defaultdict[str, set[str]] = defaultdict(set)
    for player in (player for vote in found for player in (vote.a, vote.b)):
        name, _, version = player.rpartition("\n")
        versions[player if by_version else name].add(version)
    if not by_version:
        found = [replace(vote, a=vote.a.rpartition("\n")[0], b=vote.b.rpartition("\n")[0]) for vote in found]
    fit: Board = fitted(found, length_control=length_control)
    lines = [_board_line(standing, sorted(versions[standing.name]), by_version) for standing in fit.standings]
    return wire.BoardInfo(
        lines=lines, num_votes=fit.num_votes, num_void=num_void, length_control=length_control, by_version=by_version,
        length_effect=fit.length_effect, regularised=fit.regularised,
    )  # fmt: skip


def _board_line(standing: Standing, versions: list[str], by_version: bool) -> wire.BoardLine:
    """A line of the board; the bootstrap of a few equal votes has no width, which is no certainty."""
    known = standing.num_votes >= ENOUGH_VOTES and 0 < standing.win_rate < 1 and standing.low < standing.high
    return wire.BoardLine(
        name=standing.name.rpartition("\n")[0] if by_version else standing.name,
        model_version=versions[0] if len(versions) == 1 else None, num_versions=len(versions),
        rating=standing.rating, num_votes=standing.num_votes, win_rate=standing.win_rate,
        low=standing.low if known else None, high=standing.high if known else None,
    )  # fmt: skip


def ranking(battle: Battle, made: ArenaVote) -> Ranking:
    """A vote as a preference of two answers. Voters are named by a digest, so that data can be split by user."""
    messages = user(battle.prompt)
    systems = {side["system"] for side in battle.entrants.values()}
    if len(systems) == 1 and (system := systems.pop()).strip():
        messages = (Message(role="system", content=system), *messages)
    return Ranking(
        messages=messages, completions=(battle.answer_a, battle.answer_b), order=WeakOrder.parse(ORDERS[made.vote], 2),
        labeller=hashlib.sha256(made.user_id.encode()).hexdigest()[:16], labeller_kind="human", shown_order=(0, 1),
        uuid=battle.id,
        meta={
            "models": [battle.entrants["a"]["name"], battle.entrants["b"]["name"]],
            "model_versions": [battle.version_a, battle.version_b],
            "none_acceptable": made.vote == "both_bad",
            "finish_reasons": [battle.finish_a, battle.finish_b],
        },
    )  # fmt: skip
