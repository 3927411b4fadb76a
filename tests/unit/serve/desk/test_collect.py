from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from chat_server import ScriptedEngine, events_of, on_loop, server_of
from chatwright.feedback import payloads, queue
from chatwright.feedback.tables import LabelRow, Payload, TaskRow
from chatwright.serve.chat.tables import MessageRow
from chatwright.serve.desk.collect import collect
from chatwright.serve.desk.hooks import intake_of
from workspaces import KINDS, admin_of, member_of

PRIVATE = "hedy@lamarr.example.org"


class _Numbered(ScriptedEngine):
    """Another answer every time."""

    def _pieces(self, request: Any) -> list[tuple[str, bytes]]:
        text = f"answer {len(self.requests)}"
        return [(character, character.encode()) for character in text]


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FastAPI]:
    with server_of(tmp_path, _Numbered("alpha"), ScriptedEngine("omega", answer="A short one."), kind=request.param) as made:
        yield made
        intake_of(made.state.services).close()


def played(app: FastAPI, signed_in: TestClient, scenario: Any) -> Any:
    async def whole() -> Any:
        async with on_loop(app, signed_in) as client:
            return await scenario(client)

    return asyncio.run(whole())


def agreed(app: FastAPI) -> tuple[TestClient, TestClient]:
    """(administrator, somebody who agreed)."""
    admin = admin_of(app)
    mia = member_of(app, admin, "mia")
    assert mia.put("/api/consent", json={"training_consent": True}).status_code == 200
    return admin, mia


async def begun(client: httpx.AsyncClient, content: str) -> tuple[str, str]:
    """(conversation, answer)."""
    made = (await client.post("/api/conversations", json={"model": "alpha"})).json()["id"]
    events = events_of((await client.post(f"/api/conversations/{made}/messages", json={"content": content})).text)
    return made, str(events[0][1]["message_id"])


async def again(client: httpx.AsyncClient, answer: str, **body: Any) -> str:
    events = events_of((await client.post(f"/api/messages/{answer}/regenerate", json=body)).text)
    return str(events[0][1]["message_id"])


def collected(admin: TestClient) -> int:
    answer = admin.post("/api/desk/intake/collect")
    assert answer.status_code == 200, answer.text
    made: int = answer.json()["tasks"]
    return made


def sets(app: FastAPI) -> list[tuple[TaskRow, list[dict[str, Any]]]]:
    """Tasks to judge answers, with these."""
    with app.state.services.workspace.reading() as session:
        found = session.scalars(select(TaskRow).where(TaskRow.kind != "demonstrate").order_by(TaskRow.seq)).all()
        return [(task, [payloads.content(session, a["payload_id"]) or {} for a in task.answers]) for task in found]


def test_regenerated_answers_become_a_task_which_grows(app: FastAPI) -> None:
    admin, mia = agreed(app)

    async def twice(client: httpx.AsyncClient) -> str:
        _, answer = await begun(client, f"Say something to {PRIVATE}")
        await again(client, answer)
        return answer

    answer = played(app, mia, twice)
    assert collect(app.state.services) == 0  # it is too fresh: another may follow
    assert collected(admin) == 1 and collected(admin) == 0
    ((task, answers),) = sets(app)
    assert (task.kind, task.source, [a["text"] for a in answers]) == ("compare", "chat", ["answer 1", "answer 2"])
    assert answers[1]["meta"] == {"origin": "regenerate"} and {a["model"] for a in task.answers} == {"alpha"}
    with app.state.services.workspace.reading() as session:
        prompt = payloads.content(session, task.prompt_payload)
    assert prompt is not None and prompt["messages"] == [{"role": "user", "content": "Say something to [EMAIL]"}]

    played(app, mia, lambda client: again(client, answer))
    assert collected(admin) == 1
    (first, _), (second, _) = sets(app)
    assert (first.state, second.kind, second.state) == ("closed", "rank", "open")

    with app.state.services.workspace.session() as session:
        assert queue.claim(session, "labeller", kinds=["rank"]) is not None
    played(app, mia, lambda client: again(client, answer))
    assert collected(admin) == 1
    assert [task.state for task, _ in sets(app)] == ["closed", "open", "open"]  # somebody works on the second


def test_thumbs_with_reasons_make_tasks_and_move_them_forward(app: FastAPI) -> None:
    admin, mia = agreed(app)

    async def with_thumb(client: httpx.AsyncClient) -> str:
        _, answer = await begun(client, "Say something")
        said = {"vote": "down", "reasons": ["unhelpful"], "comment": f"ask {PRIVATE}"}
        assert (await client.post(f"/api/messages/{answer}/feedback", json=said)).status_code == 200
        return answer

    answer = played(app, mia, with_thumb)
    assert collected(admin) == 1
    ((task, (only,)),) = sets(app)
    assert task.kind == "rate" and task.priority == 2.0
    assert only["meta"] == {"origin": "new", "thumb": "down", "reasons": ["unhelpful"], "comment": "ask [EMAIL]"}

    async def taken_back(client: httpx.AsyncClient) -> None:
        await client.post(f"/api/messages/{answer}/feedback", json={"vote": "none"})
        await again(client, answer)

    played(app, mia, taken_back)
    assert collected(admin) == 1
    (first, _), (second, answers) = sets(app)
    assert (first.state, second.kind, second.priority) == ("closed", "compare", 1.0)
    assert "thumb" not in answers[0]["meta"]


def test_an_edited_question_takes_the_answers_to_its_close_wording_along(app: FastAPI) -> None:
    admin, mia = agreed(app)

    async def edited(client: httpx.AsyncClient) -> None:
        made, _ = await begun(client, "Write a poem about the sea")
        rows = (await client.get(f"/api/conversations/{made}")).json()["messages"]
        question = next(m["id"] for m in rows if m["role"] == "user")
        for wording in ("Write a short poem about the sea", "How do I bake bread?"):
            assert (await client.post(f"/api/messages/{question}/edit", json={"content": wording})).status_code == 200

    played(app, mia, edited)
    assert collected(admin) == 1
    ((task, answers),) = sets(app)
    assert [answer["meta"] for answer in answers] == [{"origin": "new", "earlier_wording": True}, {"origin": "new"}]
    with app.state.services.workspace.reading() as session:
        prompt = payloads.content(session, task.prompt_payload)
    assert prompt is not None and prompt["messages"][0]["content"] == "Write a short poem about the sea"


def test_answers_side_by_side_say_which_was_gone_on_from(app: FastAPI) -> None:
    admin, mia = agreed(app)

    async def side_by_side(client: httpx.AsyncClient) -> None:
        made, first = await begun(client, "Hello")
        await again(client, first)
        said = {"content": "Which is best?", "models": ["alpha", "omega"]}
        events = events_of((await client.post(f"/api/conversations/{made}/messages", json=said)).text)
        answer = next(d["message_id"] for name, d in events if name == "start" and d["model"] == "omega")
        said = {"content": "Go on", "parent_id": answer}
        assert (await client.post(f"/api/conversations/{made}/messages", json=said)).status_code == 200
        with app.state.services.workspace.session() as session:  # moderation took a third one away
            kept = session.get_one(MessageRow, answer)
            session.add(
                MessageRow(
                    conversation_id=made, parent_id=kept.parent_id, place=99, role="assistant", content="I will",
                    finish_reason="content_filter",
                )
            )  # fmt: skip

    played(app, mia, side_by_side)
    assert collected(admin) == 2
    _, (task, answers) = sets(app)
    assert task.kind == "compare" and [answer["model"] for answer in task.answers] == ["alpha", "omega"]
    assert [answer["meta"] for answer in answers] == [{"origin": "new"}, {"origin": "new", "picked": True}]


def test_votes_of_the_arena_become_labels_of_their_voters(app: FastAPI) -> None:
    admin, mia = agreed(app)

    async def voted(client: httpx.AsyncClient) -> None:
        events = events_of((await client.post("/api/arena/battles", json={"prompt": f"Who? {PRIVATE}"})).text)
        made = events[0][1]["battle_id"]
        assert (await client.post(f"/api/arena/battles/{made}/vote", json={"vote": "both_bad"})).status_code == 200

    played(app, mia, voted)
    assert collected(admin) == 1 and collected(admin) == 0
    ((task, answers),) = sets(app)
    assert (task.kind, task.state, len(answers)) == ("compare", "complete", 2)
    with app.state.services.workspace.reading() as session:
        (label,) = session.scalars(select(LabelRow))
        names = [person["id"] for person in admin.get("/api/users").json()]
    assert (label.value, label.labeller_kind, label.task_id) == ({"verdict": "both_bad"}, "human", task.id)
    assert label.labeller == task.subject not in names  # a digest, not the account
    told = {step["step"]: step["reasons"] for step in admin.get("/api/desk/intake").json()["steps"]}
    assert told["candidates"] == {"compare": 1}


def test_without_consent_and_from_before_it_nothing_is_made(app: FastAPI) -> None:
    admin = admin_of(app)
    mia, leo = member_of(app, admin, "mia"), member_of(app, admin, "leo")

    async def twice(client: httpx.AsyncClient) -> None:
        _, answer = await begun(client, "Say something")
        await again(client, answer)
        await client.post(f"/api/messages/{answer}/feedback", json={"vote": "up"})

    for client in (mia, leo):
        played(app, client, twice)
    mia.put("/api/consent", json={"training_consent": True})
    assert collected(admin) == 0 and not sets(app)
    played(app, mia, twice)
    assert collected(admin) == 1 and intake_of(app.state.services).idle()
    mia.put("/api/consent", json={"training_consent": False})
    played(app, mia, twice)
    assert collected(admin) == 0 and len(sets(app)) == 1
    assert intake_of(app.state.services).idle()
    assert mia.post("/api/desk/withdrawals", json={}).json()["erased"] == 4  # two prompts, two answers
    with app.state.services.workspace.reading() as session:
        left = json.dumps([content for content in session.scalars(select(Payload.content)) if content])
    assert "Say something" not in left and "answer" not in left


def test_what_is_kept_out_is_counted_once(app: FastAPI) -> None:
    admin, mia = agreed(app)

    async def asked(client: httpx.AsyncClient) -> None:
        _, answer = await begun(client, "### Task:\nGenerate a concise title.\n<chat_history>x</chat_history>")
        await again(client, answer)

    played(app, mia, asked)
    assert collected(admin) == 0 and collected(admin) == 0
    assert intake_of(app.state.services).idle()
    told = {step["step"]: step["reasons"] for step in admin.get("/api/desk/intake").json()["steps"]}
    assert told["background"] == {"title": 3}  # twice by the questions of two answers, once as a set
    assert not sets(app)
