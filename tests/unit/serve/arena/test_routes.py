from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update

from chat_server import ScriptedEngine, events_of, on_loop, server_of, text_of, until
from chatwright.records import load_rankings
from chatwright.serve.arena.store import names_of
from chatwright.serve.arena.tables import Battle
from chatwright.serve.auth_tables import BlindUsage
from workspaces import KINDS, admin_of, member_of

Client = httpx.AsyncClient


@pytest.fixture
def engines() -> list[ScriptedEngine]:
    return [ScriptedEngine("alpha-7b-instruct", answer="Longer words of one."), ScriptedEngine("omega", answer="短")]


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest, tmp_path: Path, engines: list[ScriptedEngine]) -> Iterator[FastAPI]:
    with server_of(tmp_path, *engines, kind=request.param) as made:
        yield made


def played(app: FastAPI, signed_in: Any, scenario: Any) -> Any:
    async def whole() -> Any:
        async with on_loop(app, signed_in) as client:
            return await scenario(client)

    return asyncio.run(whole())


async def battle(client: Client, prompt: str) -> tuple[str, str]:
    """(id, text of the whole stream)."""
    answer = await client.post("/api/arena/battles", json={"prompt": prompt})
    assert answer.status_code == 200, answer.text
    return events_of(answer.text)[0][1]["battle_id"], answer.text


def test_a_battle_is_blind_until_the_vote(app: FastAPI) -> None:
    async def scenario(client: Client) -> None:
        first = set()
        for n in range(12):
            made, stream = await battle(client, f"question {n}")
            events = events_of(stream)
            assert {text_of(events, side="a"), text_of(events, side="b")} == {"Longer words of one.", "短"}
            seen = (await client.get(f"/api/arena/battles/{made}")).text
            for secret in ("alpha", "omega", "completion_tokens", "prompt_tokens"):
                assert secret not in stream and secret not in seen
            told = (await client.post(f"/api/arena/battles/{made}/vote", json={"vote": "a"})).json()
            assert {told["a"]["name"], told["b"]["name"]} == {"alpha-7b-instruct", "omega"}
            assert (told["a"]["text"] == "短") == (told["a"]["name"] == "omega")
            first.add(told["a"]["name"])
        assert len(first) == 2  # the order is drawn; 12 times the same has a chance of 1 in 2048

    played(app, admin_of(app), scenario)


def test_votes_count_once(app: FastAPI, engines: list[ScriptedEngine]) -> None:
    async def scenario(client: Client) -> None:
        made, _ = await battle(client, "who?")
        url = f"/api/arena/battles/{made}/vote"
        assert (await client.post(url, json={"vote": "left"})).status_code == 400
        assert (await client.post(url, json={"vote": "tie"})).status_code == 200
        assert (await client.post(url, json={"vote": "a"})).status_code == 409
        again, _ = await battle(client, "who? ")
        refused = await client.post(f"/api/arena/battles/{again}/vote", json={"vote": "a"})
        assert refused.status_code == 409 and "first vote" in refused.json()["error"]["message"]
        assert (await client.get(f"/api/arena/battles/{again}")).json()["a"]["name"] is None
        engines[0].fail = "alpha crashed"
        broken, stream = await battle(client, "new")
        assert "alpha" not in stream and '"error"' in stream
        assert (await client.post(f"/api/arena/battles/{broken}/vote", json={"vote": "a"})).status_code == 409
        assert (await client.get("/api/arena/board")).json()["num_votes"] == 1

    admin = admin_of(app)
    played(app, admin, scenario)

    async def of_another(client: Client) -> str:
        return (await battle(client, "whose?"))[0]

    theirs = played(app, admin, of_another)
    other = member_of(app, admin, "other")
    assert other.get(f"/api/arena/battles/{theirs}").status_code == 404
    assert other.post(f"/api/arena/battles/{theirs}/vote", json={"vote": "a"}).status_code == 404
    assert other.post("/api/arena/entrants", json={"name": "x", "model": "omega"}).status_code == 403
    assert other.get("/api/arena/export").status_code == 403


def test_votes_wait_for_both_answers_and_battles_can_be_stopped(app: FastAPI, engines: list[ScriptedEngine]) -> None:
    async def scenario(client: Client) -> None:
        for engine in engines:
            engine.pause_at = 1 if engine.name == "omega" else 3
            engine.answer += "…"
        page = asyncio.create_task(battle(client, "slow"))
        await until(lambda: all(engine.running for engine in engines))
        await asyncio.sleep(0.1)
        made = engines[0].requests[-1].request_id.partition(":")[0]
        assert (await client.post(f"/api/arena/battles/{made}/vote", json={"vote": "a"})).status_code == 409
        again = asyncio.create_task(client.get(f"/api/arena/battles/{made}/events"))
        await asyncio.sleep(0.05)
        stopped = (await client.post(f"/api/arena/battles/{made}/stop")).json()
        assert {stopped["a"]["text"], stopped["b"]["text"]} == {"Lon", "短"}
        assert [engine.running for engine in engines] == [0, 0]
        assert text_of(events_of((await again).text), side="a") == stopped["a"]["text"]
        await page
        assert (await client.post(f"/api/arena/battles/{made}/vote", json={"vote": "a"})).status_code == 200

    played(app, admin_of(app), scenario)


@pytest.mark.parametrize(
    ("answer", "void"),
    [("I am Alpha, a model.", True), ("As ALPHA-7B I say", True), ("The alphabet", False), ("Instruct me", False)],
)
def test_a_vote_is_void_when_an_answer_names_its_model(
    tmp_path: Path, engines: list[ScriptedEngine], answer: str, void: bool
) -> None:
    async def scenario(client: Client) -> None:
        made, _ = await battle(client, "who are you?")
        told = (await client.post(f"/api/arena/battles/{made}/vote", json={"vote": "a"})).json()
        assert told["void"] == ("named_model" if void else "")
        board = (await client.get("/api/arena/board")).json()
        assert (board["num_votes"], board["num_void"]) == ((0, 1) if void else (1, 0))

    engines[0].answer = answer
    with server_of(tmp_path, *engines) as app:
        played(app, admin_of(app), scenario)


def test_names_of_a_model_are_its_parts_but_no_ordinary_words() -> None:
    assert names_of("smollm2-135m-instruct", "smollm2-135m-instruct") == {"smollm2-135m-instruct", "smollm2", "smollm"}


def test_one_model_takes_part_in_several_variants(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        lonely = await client.post("/api/arena/battles", json={"prompt": "x"})
        assert lonely.status_code == 409 and "two entrants" in lonely.json()["error"]["message"]
        new = {"name": "polite", "model": "solo", "system": "Be polite.", "settings": {"temperature": 0}}
        assert (await client.post("/api/arena/entrants", json={**new, "model": "other"})).status_code == 404
        made = await client.post("/api/arena/entrants", json=new)
        assert made.status_code == 201, made.text
        assert (await client.post("/api/arena/entrants", json=new)).status_code == 409
        assert [e["name"] for e in (await client.get("/api/arena/entrants")).json()] == ["solo", "polite"]
        fight, _ = await battle(client, "x")
        systems = {tuple(m.role for m in request.messages): request.params.temperature for request in engine.requests}
        assert systems == {("user",): 0.7, ("system", "user"): 0.0}
        await client.post(f"/api/arena/battles/{fight}/vote", json={"vote": "tie"})
        assert (await client.delete(f"/api/arena/entrants/{made.json()['id']}")).status_code == 204
        assert {line["name"] for line in (await client.get("/api/arena/board")).json()["lines"]} == {"solo", "polite"}

    engine = ScriptedEngine("solo", answer="fine")
    with server_of(tmp_path, engine) as app:
        played(app, admin_of(app), scenario)


def test_nothing_that_an_account_can_read_tells_the_models_before_the_vote(app: FastAPI) -> None:
    async def scenario(client: Client) -> None:
        made, stream = await battle(client, "question")
        events = events_of(stream)
        for side in "ab":  # one piece for every 16 characters, whatever the model's tokens are
            told = [data for name, data in events if name == "delta" and data["side"] == side]
            assert 1 <= len(told) <= -(-len(text_of(events, side=side)) // 16)
        assert max(int(line[4:]) for line in stream.splitlines() if line.startswith("id: ")) == 4  # start, 2 pieces, done
        assert (await client.get("/api/usage")).json() == []
        assert (await client.get("/api/usage?everyone=true")).json() == []
        with app.state.services.workspace.reading() as session:
            kept = session.scalars(select(BlindUsage).order_by(BlindUsage.id)).all()
        assert [row.about for row in kept] == [made, made] and {row.id for row in kept} == {f"{made}:a", f"{made}:b"}
        assert (await client.post(f"/api/arena/battles/{made}/vote", json={"vote": "a"})).status_code == 200
        used = {row["model"]: (row["requests"], row["completion_tokens"]) for row in (await client.get("/api/usage")).json()}
        assert used == {"alpha-7b-instruct": (1, 20), "omega": (1, 3)}

    played(app, admin_of(app), scenario)


def test_budgets_count_blind_answers_by_an_estimate(app: FastAPI) -> None:
    async def scenario(client: Client) -> None:
        me = (await client.get("/api/session")).json()["user_id"]
        assert (await client.patch(f"/api/users/{me}", json={"tokens_total": 3})).status_code == 200
        await battle(client, "question")
        refused = await client.post("/api/arena/battles", json={"prompt": "more"})
        assert refused.status_code == 429 and refused.json()["error"]["code"] == "insufficient_quota"

    played(app, admin_of(app), scenario)


def test_a_battle_of_last_week_takes_no_vote_and_its_usage_is_counted(app: FastAPI) -> None:
    async def scenario(client: Client) -> None:
        made, _ = await battle(client, "question")
        with app.state.services.workspace.session() as session:
            session.execute(update(Battle).values(created_at=1.0))
            session.execute(update(BlindUsage).values(at=1.0))
        late = await client.post(f"/api/arena/battles/{made}/vote", json={"vote": "a"})
        assert late.status_code == 409 and "week" in late.text
        await battle(client, "another")
        assert {row["model"] for row in (await client.get("/api/usage")).json()} == {"alpha-7b-instruct", "omega"}

    played(app, admin_of(app), scenario)


def test_the_export_holds_votes_of_people_who_agree(app: FastAPI) -> None:
    async def scenario(client: Client) -> None:
        async def ask(prompt: str, agrees: bool) -> list[str]:
            await client.put("/api/consent", json={"training_consent": agrees})
            made, _ = await battle(client, prompt)
            assert (await client.post(f"/api/arena/battles/{made}/vote", json={"vote": "a"})).status_code == 200
            text = (await client.get("/api/arena/export")).text
            return [json.loads(line)["messages"][-1]["content"] for line in text.splitlines()]

        assert await ask("before consent", False) == []
        assert await ask("with consent", True) == ["with consent"]
        assert await ask("after it ended", False) == []
        assert await ask("again", True) == ["again"]
        await client.post("/api/desk/withdrawals", json={})
        assert (await client.get("/api/arena/export")).text == ""
        board = (await client.get("/api/arena/board")).json()
        assert (board["num_votes"], board["num_void"]) == (0, 4)

    played(app, admin_of(app), scenario)
    with app.state.services.workspace.reading() as session:
        kept = session.execute(select(Battle.prompt, Battle.answer_a, Battle.answer_b)).all()
    assert [tuple(row) for row in kept] == [("", "", "")] * 4


def test_the_board_and_the_export_follow_from_the_votes(app: FastAPI, tmp_path: Path) -> None:
    async def scenario(client: Client) -> str:
        assert (await client.put("/api/consent", json={"training_consent": True})).status_code == 200
        for n, wanted in enumerate((["omega"] * 3 + ["alpha-7b-instruct", "tie", "both_bad"]) * 2):
            made, stream = await battle(client, f"question {n}")
            side = next(s for s in "ab" if (text_of(events_of(stream), side=s) == "短") == (wanted == "omega"))
            kind = wanted if wanted in ("tie", "both_bad") else side
            assert (await client.post(f"/api/arena/battles/{made}/vote", json={"vote": kind})).status_code == 200
            if n in (0, 2, 8):  # one vote, three that agree, nine: no interval can be told
                lines = (await client.get("/api/arena/board")).json()["lines"]
                assert {(line["low"], line["high"]) for line in lines} == {(None, None)}, n
        board = (await client.get("/api/arena/board")).json()
        first, second = board["lines"]
        # 8 of 12 (ties as halves): odds of two to one, 400 log10(2) points apart.
        assert first["name"] == "omega" and first["win_rate"] == pytest.approx(4 / 6)
        assert first["rating"] - second["rating"] == pytest.approx(120.412, abs=1e-3)
        assert first["low"] < first["rating"] < first["high"] and not board["regularised"]
        controlled = (await client.get("/api/arena/board?length_control=true")).json()
        assert controlled["length_effect"] < 0 and controlled["length_control"]  # the longer answer always lost or tied
        return (await client.get("/api/arena/export")).text

    exported = played(app, admin_of(app), scenario)
    path = tmp_path / "votes.jsonl"
    path.write_text(exported)
    rankings = load_rankings(path)
    assert [str(r.order) for r in rankings].count("A=B") == 4 and len(rankings) == 12
    assert all(r.labeller_kind == "human" and set(r.completions) == {"短", "Longer words of one."} for r in rankings)
    assert [json.loads(line)["none_acceptable"] for line in exported.splitlines()] == ([False] * 5 + [True]) * 2
    winners = [r.meta["models"][0 if str(r.order) == "A>B" else 1] for r in rankings[:4]]
    assert winners == ["omega"] * 3 + ["alpha-7b-instruct"]
