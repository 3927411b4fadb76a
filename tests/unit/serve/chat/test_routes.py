from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import inspect, select, text

from chat_server import ScriptedEngine, events_of, on_loop, server_of, text_of, until
from chatwright.serve.auth_tables import Usage
from chatwright.serve.chat import live
from chatwright.serve.chat.live import MAX_PER_OWNER
from chatwright.serve.chat.tables import Share
from chatwright.serve.chat.tokens import unpack
from chatwright.serve.chat.wire import MAX_MESSAGES
from workspaces import KINDS, PASSWORD, admin_of, browser, member_of

Client = httpx.AsyncClient
Scenario = Callable[[Client], Awaitable[Any]]


@pytest.fixture
def alpha() -> ScriptedEngine:
    return ScriptedEngine("alpha")


@pytest.fixture
def beta() -> ScriptedEngine:
    return ScriptedEngine("beta")


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest, tmp_path: Path, alpha: ScriptedEngine, beta: ScriptedEngine) -> Iterator[FastAPI]:
    with server_of(tmp_path, alpha, beta, kind=request.param) as made:
        yield made


@pytest.fixture
def play(app: FastAPI) -> Callable[[Scenario], Any]:
    """Runs a scenario as a signed-in user."""
    signed_in = admin_of(app)

    def run(scenario: Scenario) -> Any:
        async def whole() -> Any:
            async with on_loop(app, signed_in) as client:
                return await scenario(client)

        return asyncio.run(whole())

    return run


async def begin(client: Client, **fields: Any) -> str:
    answer = await client.post("/api/conversations", json=fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def say(client: Client, conversation: str, content: str, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    answer = await client.post(f"/api/conversations/{conversation}/messages", json={"content": content, **fields})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return events_of(answer.text)


async def tree(client: Client, conversation: str) -> dict[str, Any]:
    answer = await client.get(f"/api/conversations/{conversation}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_reasoning_is_shown_but_neither_kept_nor_sent_back(app: FastAPI, play: Any, alpha: ScriptedEngine) -> None:
    async def scenario(client: Client) -> None:
        alpha.reasoning = ["Let me ", "think."]
        chat = await begin(client)
        events = await say(client, chat, "Why?")
        assert "".join(data["text"] for name, data in events if name == "reasoning") == "Let me think."
        assert text_of(events) == "alpha: Why?"
        kept = await tree(client, chat)
        assert kept["messages"][1]["content"] == "alpha: Why?" and "think." not in str(kept)
        await say(client, chat, "Sure?")
        assert [m.content for m in alpha.requests[-1].messages] == ["Why?", "alpha: Why?", "Sure?"]
        assert not any(m.reasoning_content for m in alpha.requests[-1].messages)

    play(scenario)


def test_an_answer_streams_and_is_kept_with_tokens_and_usage(app: FastAPI, play: Any, alpha: ScriptedEngine) -> None:
    async def scenario(client: Client) -> None:
        chat = await begin(client, system="Be kind.", settings={"temperature": 0, "script": "Latin", "seed": 7})
        events = await say(client, chat, "What is  a glass harmonica?\nTell me.")
        assert [name for name, _ in events if name != "delta"] == ["start", "context", "done"]
        assert text_of(events) == "alpha: What is  a glass harmonica?\nTell me."
        seen = await tree(client, chat)
        assert seen["title"] == "What is a glass harmonica? Tell me."
        question, answer = seen["messages"]
        assert (question["role"], answer["role"], answer["parent_id"]) == ("user", "assistant", question["id"])
        assert seen["active_leaf"] == answer["id"] == events[0][1]["message_id"]
        assert (answer["status"], answer["finish_reason"], answer["model"]) == ("complete", "stop", "alpha")
        view = (await client.get(f"/api/messages/{answer['id']}/tokens")).json()["tokens"]
        assert "".join(token["text"] for token in view) == answer["content"]
        assert view[0] == {
            "id": 97, "text": "a", "logprob": -0.1, "hex": "", "outside_script": False,
            "top": [
                {"id": 97, "text": "a", "logprob": -0.1, "hex": "", "outside_script": False},
                {"id": 96, "text": "`", "logprob": -2.5, "hex": "", "outside_script": False},
            ],
        }  # fmt: skip

    play(scenario)
    (asked,) = alpha.requests
    assert [m.role for m in asked.messages] == ["system", "user"] and asked.overflow == "drop_oldest"
    assert asked.params.constraint is not None and asked.params.constraint.value == "Latin"
    assert (asked.params.seed, asked.params.temperature) == (7, 0)
    with app.state.services.workspace.reading() as session:
        (usage,) = session.query(Usage).all()
        written = len("alpha: What is  a glass harmonica?\nTell me.")  # one token a byte
        assert (usage.model, usage.requests, usage.completion_tokens) == ("alpha", 1, written)


def test_edits_regenerations_and_models_side_by_side_are_siblings(play: Any, alpha: ScriptedEngine) -> None:
    async def scenario(client: Client) -> None:
        chat = await begin(client)
        await say(client, chat, "one")
        await say(client, chat, "two")
        first, _, second, reply = (await tree(client, chat))["messages"]
        edited = await client.post(f"/api/messages/{second['id']}/edit", json={"content": "zwei"})
        assert text_of(events_of(edited.text)) == "alpha: zwei"
        assert [m.content for m in alpha.requests[-1].messages] == ["one", "alpha: one", "zwei"]
        again = await client.post(f"/api/messages/{reply['id']}/regenerate", json={"models": ["beta", "alpha"]})
        events = events_of(again.text)
        assert {data["model"] for _, data in events} == {"alpha", "beta"}
        for name in ("alpha", "beta"):
            assert text_of(events, model=name) == f"{name}: two"
        messages = (await tree(client, chat))["messages"]
        replies = [m["content"] for m in messages if m["parent_id"] == second["id"]]
        assert replies == ["alpha: two", "beta: two", "alpha: two"]
        assert [m["content"] for m in messages if m["parent_id"] == second["parent_id"]] == ["two", "zwei"]
        moved = await client.patch(f"/api/conversations/{chat}", json={"active_leaf": reply["id"], "title": "mine"})
        assert (moved.json()["active_leaf"], moved.json()["title"]) == (reply["id"], "mine")
        await say(client, chat, "three")
        assert [m.content for m in alpha.requests[-1].messages][-3:] == ["two", "alpha: two", "three"]
        bad = await client.post(f"/api/messages/{reply['id']}/edit", json={"content": "x"})
        assert bad.status_code == 409
        onto_user = {"content": "x", "parent_id": first["id"]}
        assert (await client.post(f"/api/conversations/{chat}/messages", json=onto_user)).status_code == 409

    play(scenario)


def test_an_answer_outlives_its_page_and_can_be_followed_again(play: Any, alpha: ScriptedEngine) -> None:
    async def scenario(client: Client) -> None:
        alpha.pause_at = 7
        chat = await begin(client)
        page = asyncio.create_task(say(client, chat, "harmonica"))
        await until(lambda: alpha.running)
        await asyncio.sleep(0.1)
        page.cancel()
        await asyncio.gather(page, return_exceptions=True)
        assert alpha.running == 1
        message = (await tree(client, chat))["messages"][1]
        assert message["status"] == "streaming"
        follower = asyncio.create_task(client.get(f"/api/generations/{message['id']}"))
        late = asyncio.create_task(client.get(f"/api/generations/{message['id']}", headers={"last-event-id": "4"}))
        await asyncio.sleep(0.1)
        alpha.gate.set()
        assert text_of(events_of((await follower).text)) == "alpha: harmonica"
        assert text_of(events_of((await late).text)) == "pha: harmonica"  # start, context, "a" and "l" were seen
        assert (await tree(client, chat))["messages"][1]["content"] == "alpha: harmonica"

    play(scenario)


def test_stop_frees_the_engine_and_keeps_what_was_written(play: Any, alpha: ScriptedEngine) -> None:
    async def scenario(client: Client) -> None:
        alpha.pause_at = 5
        chat = await begin(client)
        page = asyncio.create_task(say(client, chat, "endless"))
        await until(lambda: alpha.running)
        await asyncio.sleep(0.1)
        message = (await tree(client, chat))["messages"][1]
        stopped = await client.delete(f"/api/generations/{message['id']}")
        assert alpha.running == 0
        assert (stopped.json()["status"], stopped.json()["content"]) == ("stopped", "alpha")
        events = await page
        assert events[-1][0] == "done" and events[-1][1]["status"] == "stopped"
        assert (await client.delete(f"/api/generations/{message['id']}")).json()["status"] == "stopped"

    play(scenario)


def test_deleting_a_conversation_ends_its_answers_and_leaves_nothing(app: FastAPI, play: Any, alpha: ScriptedEngine) -> None:
    async def scenario(client: Client) -> None:
        chat = await begin(client)
        events = await say(client, chat, "secret words")
        reply = events[0][1]["message_id"]
        await client.post(f"/api/messages/{reply}/feedback", json={"vote": "up"})
        token = (await client.post(f"/api/conversations/{chat}/share")).json()["token"]
        alpha.pause_at = 3
        page = asyncio.create_task(say(client, chat, "more secrets"))
        await until(lambda: alpha.running)
        assert (await client.delete(f"/api/conversations/{chat}")).status_code == 204
        await page
        assert alpha.running == 0
        assert (await client.get(f"/api/shares/{token}")).status_code == 404
        assert (await client.get(f"/api/conversations/{chat}")).status_code == 404

    play(scenario)
    engine = app.state.services.workspace.engine
    with engine.connect() as connection:
        for table in ("conversations", "messages", "message_tokens", "feedback_events", "shares"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0, table
    assert {"conversations", "messages"} <= set(inspect(engine).get_table_names())


def test_errors_of_the_model_are_told_and_partial_answers_kept(play: Any, alpha: ScriptedEngine) -> None:
    async def scenario(client: Client) -> None:
        alpha.fail = "the model has crashed"
        chat = await begin(client)
        events = await say(client, chat, "hi")
        assert ("error", "the model has crashed") in [(name, data.get("message")) for name, data in events]
        message = (await tree(client, chat))["messages"][1]
        assert (message["status"], message["error"], message["content"]) == ("error", "the model has crashed", "")
        alpha.fail = ""
        again = await client.post(f"/api/messages/{message['id']}/regenerate", json={})
        assert text_of(events_of(again.text)) == "alpha: hi"

    play(scenario)


def test_parts_of_a_character_keep_their_bytes(play: Any, alpha: ScriptedEngine) -> None:
    async def scenario(client: Client) -> None:
        alpha.answer = "a舟"
        chat = await begin(client)
        reply = (await say(client, chat, "?"))[0][1]["message_id"]
        tokens = (await client.get(f"/api/messages/{reply}/tokens")).json()["tokens"]
        assert [(t["text"], t["hex"]) for t in tokens] == [("a", ""), *(("\ufffd", part) for part in ("e8", "88", "9f"))]
        assert bytes.fromhex("".join(one["hex"] for one in tokens)).decode() == "舟"
        assert [[other["hex"] for other in one["top"]] for one in tokens[1:]] == [["e8", "e9"], ["88", "89"], ["9f", "9e"]]

    play(scenario)


def test_tokens_that_were_kept_without_bytes_are_still_shown() -> None:
    old = [[65, "A", -0.1, [[65, "A", -0.1], [66, "B", -2.0]]], [200, "\ufffd", -0.5, []]]
    tokens = unpack(zlib.compress(json.dumps(old).encode()))
    assert [(one.text, one.hex, len(one.top)) for one in tokens] == [("A", "", 2), ("\ufffd", "", 0)]


@pytest.mark.parametrize(
    ("script", "answer", "outside"),
    [("emoji", "🍟", 0xF0), ("Han", "舟", 0xE8), ("Latin", "ab", 0x62), ("Latin|emoji", "a🍟", 0xF0)],
)
def test_no_alternative_breaks_the_promise_of_a_script(
    play: Any, alpha: ScriptedEngine, script: str, answer: str, outside: int
) -> None:
    """The alternatives of these engines are one bit away; for `b` it is `c`, for the last byte of an emoji another emoji,
    for a first byte what is no whole character."""

    async def scenario(client: Client) -> None:
        alpha.answer = answer
        chat = await begin(client, settings={"script": script})
        reply = (await say(client, chat, "?"))[0][1]["message_id"]
        tokens = (await client.get(f"/api/messages/{reply}/tokens")).json()["tokens"]
        url = f"/api/messages/{reply}/branch"
        for at, token in enumerate(tokens):
            for one in token["top"][1:]:
                alpha.after_prefix = []
                answered = await client.post(url, json={"token": at, "alternative": one["id"]})
                assert answered.status_code == (400 if one["outside_script"] else 200), (at, one)
                assert not one["outside_script"] or script in answered.json()["error"]["message"]
        marked = {other["outside_script"] for token in tokens if token["id"] == outside for other in token["top"][1:]}
        assert marked == ({True} if outside > 0x7F else {False})
        free = {"token": 0, "alternative": tokens[0]["top"][1]["id"], "settings": {}}
        assert (await client.post(url, json=free)).status_code == 200

    play(scenario)


def test_models_say_where_messages_go_and_what_suits_them(app: FastAPI, play: Any, alpha: ScriptedEngine, beta: Any) -> None:
    async def scenario(client: Client) -> None:
        beta.upstream, alpha.starters = "elsewhere.example", ["What is the moon?"]
        first, second = (await client.get("/api/models")).json()
        assert (first["upstream"], first["starters"]) == ("", ["What is the moon?"])
        assert (second["upstream"], second["starters"]) == ("elsewhere.example", [])

    play(scenario)


def test_branching_replaces_a_token_even_within_a_character(play: Any, alpha: ScriptedEngine) -> None:
    async def scenario(client: Client) -> None:
        alpha.answer = "a你好"
        chat = await begin(client, settings={"max_tokens": 20})
        reply = (await say(client, chat, "hi"))[0][1]["message_id"]
        alpha.after_prefix = [("\ufffd", b"\xa0"), ("x", b"x")]  # an engine that sees only its own tokens
        url = f"/api/messages/{reply}/branch"
        events = events_of((await client.post(url, json={"token": 2, "alternative": 0xBD ^ 1})).text)
        assert text_of(events) == "a传x"  # bytes E4 BC | A0, "x"
        asked = alpha.requests[-1]
        assert asked.answer_prefix == (0x61, 0xE4, 0xBC) and asked.params.max_new_tokens == 17
        made = (await tree(client, chat))["messages"][-1]
        assert (made["origin"], made["content"], made["completion_tokens"]) == ("branch", "a传x", 5)
        view = (await client.get(f"/api/messages/{made['id']}/tokens")).json()["tokens"]
        assert [token["id"] for token in view] == [0x61, 0xE4, 0xBC, 0xA0, 0x78] and view[2]["logprob"] == -2.5
        assert (await client.post(url, json={"token": 2, "alternative": 1})).status_code == 400
        assert (await client.post(url, json={"token": 99, "alternative": 1})).status_code == 400

    play(scenario)


def test_search_finds_chinese_and_takes_wildcards_literally(play: Any) -> None:
    async def scenario(client: Client) -> None:
        chinese, percent = await begin(client), await begin(client)
        await say(client, chinese, "我想参观玻璃琴博物馆，请介绍一下")
        await say(client, percent, "Give me 100% of it, SNAKE_case")

        async def found(query: str) -> list[str]:
            answer = await client.get("/api/conversations", params={"q": query})
            return [row["id"] for row in answer.json()["conversations"]]

        assert await found("玻璃琴") == [chinese]
        assert await found("100%") == [percent] and await found("1%0") == []
        assert await found("snake_CASE") == [percent] and await found("snake-case") == []
        listed = (await client.get("/api/conversations", params={"q": "博物馆"})).json()["conversations"]
        assert "博物馆" in listed[0]["excerpt"]
        assert len((await client.get("/api/conversations")).json()["conversations"]) == 2

    play(scenario)


def test_exports_come_back_equal(play: Any) -> None:
    async def scenario(client: Client) -> None:
        chat = await begin(client, system="Be brief.", title="T")
        await say(client, chat, "one", models=["alpha", "beta"])
        await say(client, chat, "two")
        out = (await client.get(f"/api/conversations/{chat}/export")).json()
        made = await client.post("/api/conversations/import", json=out)
        assert made.status_code == 201, made.text
        back = (await client.get(f"/api/conversations/{made.json()['id']}/export")).json()

        def shape(export: dict[str, Any]) -> Any:
            place = {m["id"]: n for n, m in enumerate(export["messages"])}
            rows = [
                {**m, "id": place[m["id"]], "parent_id": place.get(m["parent_id"]), "origin": ""} for m in export["messages"]
            ]
            return {**export, "messages": rows, "active_leaf": place[export["active_leaf"]]}

        assert shape(back) == shape(out) and len(back["messages"]) == 5
        markdown = (await client.get(f"/api/conversations/{chat}/export?format=markdown")).text
        assert markdown.startswith("# T\n\n> Be brief.\n\n## User\n\none\n")
        assert "## Assistant (alpha version-of-a)" in markdown
        for broken in (
            {**out, "messages": [{**out["messages"][1]}]},
            {**out, "messages": [out["messages"][0]] * 2},
            {**out, "messages": [{**out["messages"][0], "role": "assistant"}]},
            {**out, "active_leaf": "elsewhere"},
            {**out, "format": "other"},
        ):
            assert (await client.post("/api/conversations/import", json=broken)).status_code == 400
        assert len((await client.get("/api/conversations")).json()["conversations"]) == 2

    play(scenario)


@pytest.mark.parametrize(
    "given",
    [
        [{"title": "t", "mapping": {}}], {"title": "t", "mapping": {}}, {"prompt": "q"}, {"messages": []}, 3,
        {"title": "t", "messages": 3},
    ],
    ids=["chatgpt", "one of chatgpt", "a row", "no title", "a number", "no list"],
)  # fmt: skip
def test_files_of_other_programs_are_refused_by_what_they_are(given: Any, play: Any) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/conversations/import", json=given)
        assert answer.status_code == 400
        said = answer.json()["error"]["message"]
        assert "no conversation that Chatwright exported" in said
        assert "Value error" not in said and "Field required" not in said
        assert ("ChatGPT" in said) == ("mapping" in json.dumps(given))

    play(scenario)


def test_links_show_a_copy_until_they_are_switched_off(app: FastAPI, play: Any) -> None:
    async def scenario(client: Client) -> None:
        chat = await begin(client, system="hidden instructions")
        await say(client, chat, "public question")
        path = f"/api/conversations/{chat}/share"
        made = (await client.post(path)).json()
        token = made.pop("token")
        assert len(token) >= 43 and (await tree(client, chat))["share"] == {**made, "owner": ""}
        assert made["expires_at"] - made["created_at"] == pytest.approx(30 * 86_400, abs=60)
        assert token not in json.dumps(await tree(client, chat)) + (await client.get("/api/shares")).text
        with app.state.services.workspace.reading() as session:
            assert session.scalars(select(Share.token_hash)).all() == [hashlib.sha256(token.encode()).hexdigest()]
        await say(client, chat, "private afterthought")
        stranger = browser(app)
        answer = await asyncio.to_thread(stranger.get, f"/api/shares/{token}")
        assert answer.status_code == 200 and answer.headers["x-robots-tag"] == "noindex"
        shown = json.dumps(answer.json())
        assert "public question" in shown and "afterthought" not in shown and "hidden" not in shown
        assert (await client.put(path)).json()["expires_at"] == made["expires_at"]
        assert len((await client.get(f"/api/shares/{token}")).json()["messages"]) == 4
        newer = (await client.post(path, json={"expires_in_days": 1})).json()
        assert newer["expires_at"] - newer["created_at"] == pytest.approx(86_400, abs=60)
        assert (await client.get(f"/api/shares/{token}")).status_code == 404
        assert (await client.get(f"/api/shares/{newer['token']}")).status_code == 200
        for days in (0, 366, "x"):
            assert (await client.post(path, json={"expires_in_days": days})).status_code == 400
        assert [one["conversation_id"] for one in (await client.get("/api/shares")).json()] == [chat]
        assert (await client.delete(path)).status_code == 204
        for gone in (client.get(f"/api/shares/{newer['token']}"), client.put(path), client.delete(path)):
            assert (await gone).status_code == 404

    play(scenario)


def test_links_end_by_time_by_their_owner_and_by_an_administrator(app: FastAPI) -> None:
    root = admin_of(app)
    other, others = member_of(app, root, "lee"), []
    for _ in range(2):
        chat = other.post("/api/conversations", json={}).json()["id"]
        others.append(other.post(f"/api/conversations/{chat}/share").json()["token"])
    _end_of(app, others[0])
    assert browser(app).get(f"/api/shares/{others[0]}").status_code == 404
    assert len(other.get("/api/shares").json()) == 1
    assert other.get("/api/shares?everyone=true").status_code == 403
    assert other.delete("/api/shares?everyone=true").status_code == 403

    mia = member_of(app, root, "mia")
    chat = mia.post("/api/conversations", json={}).json()["id"]
    token = mia.post(f"/api/conversations/{chat}/share").json()["token"]
    listed = root.get("/api/shares?everyone=true").json()
    assert {one["owner"] for one in listed} == {"lee", "mia"} and {one["title"] for one in listed} == {""}
    assert mia.delete("/api/shares").json() == {"ended": 1}
    assert browser(app).get(f"/api/shares/{token}").status_code == 404
    assert browser(app).get(f"/api/shares/{others[1]}").status_code == 200
    assert root.delete("/api/shares?everyone=true").json() == {"ended": 2}  # one has expired
    assert browser(app).get(f"/api/shares/{others[1]}").status_code == 404


def _end_of(app: FastAPI, token: str) -> None:
    with app.state.services.workspace.session() as session:
        session.get_one(Share, hashlib.sha256(token.encode()).hexdigest()).expires_at = 1.0


def test_a_server_can_switch_links_off(tmp_path: Path) -> None:
    with server_of(tmp_path, ScriptedEngine("solo", answer="x")) as app:
        root = admin_of(app)
        path = f"/api/conversations/{root.post('/api/conversations', json={}).json()['id']}/share"
        token = root.post(path).json()["token"]
        shared = app.state.services
        app.state.services = replace(shared, settings=replace(shared.settings, share_links=False))
        assert browser(app).get(f"/api/shares/{token}").status_code == 404
        for refused in (root.post(path), root.put(path)):
            assert refused.status_code == 403 and refused.json()["error"]["code"] == "share_links_off"
        assert root.delete(path).status_code == 204



def test_thumbs_are_events_and_the_last_one_counts(app: FastAPI, play: Any) -> None:
    async def scenario(client: Client) -> None:
        chat = await begin(client)
        await say(client, chat, "hi")
        question, reply = (await tree(client, chat))["messages"]
        url = f"/api/messages/{reply['id']}/feedback"
        down = {"vote": "down", "reasons": ["incorrect", "too_long"], "comment": "错了"}
        assert (await client.post(url, json=down)).status_code == 200
        assert (await tree(client, chat))["messages"][1]["feedback"] == down
        await client.post(url, json={"vote": "none"})
        assert (await tree(client, chat))["messages"][1]["feedback"] is None
        assert (await client.post(f"/api/messages/{question['id']}/feedback", json=down)).status_code == 409
        assert (await client.post(url, json={"vote": "up", "reasons": ["invented"]})).status_code == 400

    play(scenario)
    with app.state.services.workspace.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM feedback_events")).scalar() == 2


def test_what_belongs_to_others_does_not_exist(app: FastAPI, play: Any) -> None:
    async def scenario(client: Client) -> list[tuple[str, str, Any]]:
        chat = await begin(client)
        reply = (await say(client, chat, "mine"))[0][1]["message_id"]
        own = await client.post("/api/prompts", json={"language": "en", "title": "p", "text": "x"})
        prompt, body = f"/api/prompts/{own.json()['id']}", {"language": "en", "title": "q", "text": "y"}
        return [
            ("GET", f"/api/conversations/{chat}", None), ("PATCH", f"/api/conversations/{chat}", {"title": "x"}),
            ("DELETE", f"/api/conversations/{chat}", None), ("GET", f"/api/conversations/{chat}/export", None),
            ("POST", f"/api/conversations/{chat}/messages", {"content": "x"}),
            ("POST", f"/api/conversations/{chat}/share", None), ("DELETE", f"/api/conversations/{chat}/share", None),
            ("GET", f"/api/generations/{reply}", None), ("DELETE", f"/api/generations/{reply}", None),
            ("GET", f"/api/messages/{reply}/tokens", None), ("POST", f"/api/messages/{reply}/feedback", {"vote": "up"}),
            ("POST", f"/api/messages/{reply}/edit", {"content": "x"}),
            ("POST", f"/api/messages/{reply}/regenerate", {}),
            ("POST", f"/api/messages/{reply}/branch", {"token": 0, "alternative": 96}),
            ("PUT", prompt, body), ("DELETE", prompt, None), ("POST", f"{prompt}/render", {}),
        ]  # fmt: skip

    calls = play(scenario)
    other = member_of(app, admin_again(app), "other")
    for method, url, body in calls:
        assert other.request(method, url, json=body).status_code == 404, (method, url)
    assert other.get("/api/conversations").json()["conversations"] == []


def admin_again(app: FastAPI) -> Any:
    """The administrator in another browser."""
    client = browser(app)
    client.headers["x-csrf-token"] = client.post("/api/session", json={"name": "root", "password": PASSWORD}).json()["csrf"]
    return client


def test_requests_out_of_bounds_are_refused_by_name(play: Any, alpha: ScriptedEngine) -> None:
    async def scenario(client: Client) -> None:
        chat = await begin(client)
        url = f"/api/conversations/{chat}/messages"
        for body, named in (
            ({"content": ""}, "content"), ({"content": "a\x00b"}, "NUL"),
            ({"content": "x", "settings": {"temperature": 3}}, "temperature"),
            ({"content": "x", "settings": {"script": "Klingon"}}, "Klingon"),
            ({"content": "x", "models": ["alpha"] * 5}, "models"), ({"content": "x", "extra": 1}, "extra"),
        ):  # fmt: skip
            answer = await client.post(url, json=body)
            assert answer.status_code == 400 and named in answer.json()["error"]["message"], answer.text
        assert (await client.post(url, json={"content": "x", "models": ["gone"]})).status_code == 404
        lone = b'{"content": "\\ud800"}'
        answer = await client.post(url, content=lone, headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert (await tree(client, chat))["messages"] == []
        alpha.pause_at = 0
        busy = [asyncio.create_task(say(client, chat, "x", models=["alpha"] * 4)) for _ in range(MAX_PER_OWNER // 4)]
        await until(lambda: alpha.running == MAX_PER_OWNER)
        assert (await client.post(url, json={"content": "x"})).status_code == 429
        alpha.gate.set()
        await asyncio.gather(*busy)
        assert (await client.post(url, json={"content": "x"})).status_code == 200

    play(scenario)


def test_dropped_messages_are_counted(play: Any) -> None:
    async def scenario(client: Client) -> None:
        chat = await begin(client)
        for n in range(4):
            events = await say(client, chat, str(n))
        assert dict(events)["context"]["dropped_messages"] == 2
        assert (await tree(client, chat))["messages"][-1]["dropped_messages"] == 2

    play(scenario)


def test_consent_is_off_until_it_is_given(play: Any) -> None:
    async def scenario(client: Client) -> None:
        assert (await client.get("/api/preferences")).json() == {"training_consent": False}
        await client.put("/api/preferences", json={"training_consent": True})
        assert (await client.get("/api/preferences")).json() == {"training_consent": True}
        await client.put("/api/preferences", json={"training_consent": False})
        assert (await client.get("/api/preferences")).json() == {"training_consent": False}

    play(scenario)


def test_an_answer_cut_by_the_end_of_the_server_has_stopped(app: FastAPI, play: Any, alpha: ScriptedEngine) -> None:
    async def scenario(client: Client) -> str:
        alpha.pause_at = 6
        chat = await begin(client)
        page = asyncio.create_task(say(client, chat, "x"))
        await until(lambda: alpha.running)
        await asyncio.sleep(0.1)
        page.cancel()
        return chat

    chat = play(scenario)  # the loop ends and cancels everything on it
    app.state.services.parts.clear()
    message = play(lambda client: tree(client, chat))["messages"][1]
    assert (message["status"], message["content"]) == ("stopped", "alpha:")


def test_prompts_are_kept_shared_and_rendered(app: FastAPI, play: Any) -> None:
    async def scenario(client: Client) -> str:
        listed = (await client.get("/api/prompts")).json()
        languages = [one["language"] for one in listed if one["kind"] == "builtin"]
        assert languages.count("en") == languages.count("zh-CN") == len(listed) / 2 >= 8
        for one in listed:
            values = {"values": dict.fromkeys(one["variables"], "{{x}}")}
            made = await client.post(f"/api/prompts/{one['id']}/render", json=values)
            assert made.status_code == 200 and "{{x}}" in made.json()["text"]
        new = {"language": "zh-CN", "title": "诗", "text": "写一首关于{{主题}}的{{形式|俳句}}", "shared": True}
        kept = (await client.post("/api/prompts", json=new)).json()
        assert kept["variables"] == {"主题": None, "形式": "俳句"}
        url = f"/api/prompts/{kept['id']}"
        lacking = await client.post(f"{url}/render", json={"values": {}})
        assert lacking.status_code == 400 and "主题" in lacking.json()["error"]["message"]
        made = await client.post(f"{url}/render", json={"values": {"主题": "雪"}})
        assert made.json() == {"text": "写一首关于雪的俳句"}
        broken = await client.post("/api/prompts", json={**new, "text": "{{open"})
        assert broken.status_code == 400
        return str(kept["id"])

    kept = play(scenario)
    other = member_of(app, admin_again(app), "other")
    assert {one["id"]: one["kind"] for one in other.get("/api/prompts").json()}[kept] == "shared"
    assert other.delete(f"/api/prompts/{kept}").status_code == 404


def test_the_calculator_is_a_step_that_the_answer_is_held_to(play: Any, alpha: ScriptedEngine) -> None:
    async def scenario(client: Client) -> None:
        chat = await begin(client)
        events = await say(client, chat, "What is 3457 * 43216?")
        step = {"tool": "calculator", "expression": "3457 × 43216", "exact": True, "result": "149397712"}
        assert events[0][0] == "start" and events[0][1]["steps"] == [step]
        question, answer = (await tree(client, chat))["messages"]
        assert answer["steps"] == [step] and question["content"] == "What is 3457 * 43216?"
        asked = alpha.requests[-1]
        assert "149397712" in asked.messages[-1].content
        assert asked.params.constraint is not None and "149397712" in asked.params.constraint.value
        await say(client, chat, "Thanks!")
        assert [m.content for m in alpha.requests[-1].messages][0] == "What is 3457 * 43216?"
        assert alpha.requests[-1].params.constraint is None

    play(scenario)


def test_conversations_as_long_as_allowed_are_read_and_deleted(app: FastAPI, play: Any) -> None:
    async def scenario(client: Client) -> None:
        roles = ("user", "assistant")
        messages = [
            {"id": str(n), "parent_id": str(n - 1) if n else None, "role": roles[n % 2], "content": f"message {n}"}
            for n in range(MAX_MESSAGES)
        ]
        made = await client.post("/api/conversations/import", json={"title": "long", "messages": messages})
        assert made.status_code == 201, made.text
        chat = made.json()["id"]
        assert [m["content"] for m in (await tree(client, chat))["messages"]] == [m["content"] for m in messages]
        full = await client.post(f"/api/conversations/{chat}/messages", json={"content": "one more"})
        assert full.status_code == 409 and "as many as are allowed" in full.json()["error"]["message"]
        assert (await client.delete(f"/api/conversations/{chat}")).status_code == 204

    play(scenario)
    with app.state.services.workspace.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM messages")).scalar() == 0


def test_an_answer_is_saved_while_it_is_written(play: Any, alpha: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: Client) -> None:
        alpha.pause_at = 5
        chat = await begin(client)
        page = asyncio.create_task(say(client, chat, "x"))
        async with asyncio.timeout(10):
            while not (seen := (await tree(client, chat))["messages"]) or seen[1]["content"] != "alpha":
                await asyncio.sleep(0.02)
        assert seen[1]["status"] == "streaming"
        alpha.gate.set()
        await page

    monkeypatch.setattr(live, "SAVE_EVERY_S", 0.0)
    play(scenario)


def test_texts_that_cannot_be_stored_or_sent_are_refused_wherever_they_stand(play: Any) -> None:
    async def scenario(client: Client) -> None:
        chat = await begin(client)
        await say(client, chat, "x")
        reply = (await tree(client, chat))["messages"][1]["id"]
        exported = (await client.get(f"/api/conversations/{chat}/export")).json()
        exported["messages"][0]["steps"] = [{"a": ["BAD"]}]
        for bad in ("\\ud800", "\\u0000"):
            for url, body in (
                (f"/api/messages/{reply}/regenerate", {"models": ["BAD"]}),
                ("/api/prompts/builtin_summarise_en/render", {"values": {"text": "BAD"}}),
                (f"/api/messages/{reply}/feedback", {"vote": "up", "comment": "BAD"}),
                ("/api/conversations/import", exported),
                ("/api/arena/battles", {"prompt": "BAD"}),
            ):
                content = json.dumps(body).replace("BAD", bad)
                answer = await client.post(url, content=content, headers={"content-type": "application/json"})
                assert answer.status_code == 400, (url, answer.text)
        for path in ("conversations/%00", "generations/%00", "messages/%00/tokens", "shares/%00", "arena/battles/%00"):
            assert (await client.get(f"/api/{path}")).status_code in (400, 404), path
        assert (await client.get("/api/conversations?q=%00")).status_code == 400
        assert (await client.get(f"/api/generations/{reply}", headers={"last-event-id": "9" * 5000})).status_code == 200

    play(scenario)
