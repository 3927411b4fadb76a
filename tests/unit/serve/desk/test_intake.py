from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select, text
from starlette.testclient import TestClient

from chat_server import ScriptedEngine, server_of
from chatwright.feedback.tables import LabelEvent, Payload, TaskRow
from chatwright.serve.auth_tables import ApiKey
from chatwright.serve.desk.hooks import intake_of
from chatwright.serve.engine import Delta, Event, Finished, GenerationRequest, Started
from chatwright.serve.keys import keep_bootstrap_key
from chatwright.serve.moderation.tables import ModerationEvent
from workspaces import KINDS, admin_of, browser, member_of

PRIVATE = "grace.hopper@cobol.example.org"


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FastAPI]:
    with server_of(tmp_path, ScriptedEngine("alpha"), kind=request.param) as made:
        yield made
        intake_of(made.state.services).close()


@pytest.fixture
def admin(app: FastAPI) -> TestClient:
    return admin_of(app)


def key_of(client: TestClient, **fields: Any) -> tuple[str, str]:
    """(id, key)."""
    made = client.post("/api/keys", json={"name": "mine", **fields})
    assert made.status_code == 200, made.text
    return made.json()["id"], made.json()["key"]


def flagged(owner: str, content: str) -> ModerationEvent:
    """An entry of the log of flagged texts."""
    return ModerationEvent(
        owner=owner, request_id="r", model="alpha", direction="input", category="insult", score=0.9, action="flag",
        text_hash="h", text=content,
    )  # fmt: skip


def ask(app: FastAPI, key: str, content: str, **fields: Any) -> None:
    body = {"model": "alpha", "messages": [{"role": "user", "content": content}], **fields}
    answer = browser(app).post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    assert content[:5] in answer.text or fields.get("stream")


def chat(client: TestClient, content: str) -> str:
    """The id of the conversation."""
    made = client.post("/api/conversations", json={"model": "alpha"}).json()["id"]
    with client:  # one event loop for the answer's life
        assert "done" in client.post(f"/api/conversations/{made}/messages", json={"content": content}).text
    return str(made)


def funnel(app: FastAPI, lead: TestClient) -> dict[str, dict[str, int]]:
    assert intake_of(app.state.services).idle()
    steps = lead.get("/api/desk/intake").json()["steps"]
    return {step["step"]: step["reasons"] for step in steps if step["count"]}


def kept(app: FastAPI) -> list[str]:
    with app.state.services.workspace.reading() as session:
        return [json.dumps(c, ensure_ascii=False) for c in session.scalars(select(Payload.content)) if c]


def test_nothing_is_taken_from_a_key_without_consent(app: FastAPI, admin: TestClient) -> None:
    made, key = key_of(admin)
    ask(app, key, "What is bread?")
    assert funnel(app, admin) == {"received": {"": 1}, "consent": {"not_given": 1}}
    assert not kept(app)
    changed = admin.patch(f"/api/keys/{made}", json={"training_consent": True})
    assert changed.status_code == 200 and changed.json()["training_consent"]
    ask(app, key, f"What is butter? {PRIVATE}")
    ask(app, key, "What is cheese?", stream=True)
    assert intake_of(app.state.services).idle()  # what still waited would be refused now
    assert admin.put("/api/consent", json={"training_consent": False, "key": made}).status_code == 200
    ask(app, key, "What is milk?")
    assert funnel(app, admin) == {
        "received": {"": 4}, "consent": {"not_given": 2}, "taken": {"prompt": 2}, "scrub": {"EMAIL": 1},
    }  # fmt: skip
    whole = "".join(kept(app))
    assert "butter? [EMAIL]" in whole and "cheese" in whole and "bread" not in whole and "milk" not in whole
    with app.state.services.workspace.reading() as session:
        said = session.scalars(select(LabelEvent.kind).where(LabelEvent.kind.like("consent.%")).order_by(LabelEvent.id))
        assert said.all() == ["consent.given", "consent.withdrawn"]


def test_requests_of_programs_are_not_taken(app: FastAPI, admin: TestClient) -> None:
    _, key = key_of(admin, training_consent=True)
    ask(app, key, "### Task:\nGenerate a concise title.\n<chat_history>secret history</chat_history>")
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    ask(app, key, "Call a tool", tools=[tool])
    assert funnel(app, admin) == {"received": {"": 2}, "background": {"title": 1}, "usable": {"tools": 1}}
    assert not kept(app)


class _TwoAnswers(ScriptedEngine):
    async def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        yield Started(prompt_tokens=1)
        for index in range(request.params.n):
            yield Delta(index=index, text=f"answer {index} {PRIVATE}", tokens=())
            yield Finished(index=index, reason="stop", completion_tokens=1)


@pytest.mark.parametrize("stream", [False, True])
def test_several_answers_of_one_request_become_a_comparison(stream: bool, tmp_path: Path) -> None:
    with server_of(tmp_path, _TwoAnswers("alpha")) as app:
        admin = admin_of(app)
        _, key = key_of(admin, training_consent=True)
        body = {"model": "alpha", "messages": [{"role": "user", "content": "Say"}], "n": 2, "stream": stream}
        answer = browser(app).post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200
        assert funnel(app, admin)["taken"] == {"several_answers": 1}
        with app.state.services.workspace.reading() as session:
            (task,) = session.scalars(select(TaskRow))
        assert task.kind == "compare" and len(task.answers) == 2
        assert sorted(text for text in kept(app) if "answer" in text) == [
            f'{{"text": "answer {n} [EMAIL]", "meta": {{}}}}' for n in range(2)
        ]
        intake_of(app.state.services).close()


def test_chats_are_taken_after_their_owner_agreed(app: FastAPI, admin: TestClient) -> None:
    mia = member_of(app, admin, "mia")
    chat(mia, "Before I agreed")
    told = mia.get("/api/consent", params={"language": "zh-CN"}).json()
    assert not told["training_consent"] and "撤回" in told["notice"] and told["kept_texts"] == 0
    told = mia.put("/api/consent", json={"training_consent": True}).json()
    since = told["since"]
    assert told["training_consent"]
    assert mia.put("/api/preferences", json={"training_consent": True}).status_code == 200
    assert mia.get("/api/consent").json()["since"] == since  # agreeing twice does not move it
    chat(mia, f"After, from {PRIVATE}")
    found = funnel(app, admin)
    assert found == {"received": {"": 2}, "consent": {"not_given": 1}, "taken": {"prompt": 1}, "scrub": {"EMAIL": 1}}
    assert mia.get("/api/consent").json()["kept_texts"] == 1
    (content,) = kept(app)
    assert "After, from [EMAIL]" in content


def test_a_withdrawal_ends_consent_erases_and_marks(app: FastAPI, admin: TestClient) -> None:
    mia, leo = member_of(app, admin, "mia"), member_of(app, admin, "leo")
    for client in (mia, leo):
        client.put("/api/consent", json={"training_consent": True})
    _, key = key_of(mia, training_consent=True)
    ask(app, key, "A question by key")
    chat(mia, "A question by chat")
    chat(leo, "A question of another")
    assert funnel(app, admin)["taken"] == {"prompt": 3}
    frozen = admin.post("/api/desk/exports", json={}).json()
    file = f"/api/desk/exports/{frozen['id']}/train/prompts"
    held = admin.get(file.replace("train", "held_out")).text + admin.get(file).text
    assert "A question by chat" in held
    with app.state.services.workspace.session() as session:
        for owner in (mia, leo):
            name = owner.get("/api/session").json()["user_id"]
            session.add(flagged(name, f"flagged text of {name}"))
    done = mia.post("/api/desk/withdrawals", json={}).json()
    assert done["erased"] == 2 and done["wiped"] and done["exports"] == 1
    assert admin.get(file).status_code == 410 and not Path(frozen["path"]).exists()
    with app.state.services.workspace.reading() as session:
        texts = session.scalars(select(ModerationEvent.text)).all()
    assert sorted(text is None for text in texts) == [False, True]
    (left,) = kept(app)
    assert "another" in left
    told = mia.get("/api/consent").json()
    assert (told["training_consent"], told["kept_texts"]) == (False, 0)
    assert [kept_key["training_consent"] for kept_key in told["keys"]] == [False]
    ask(app, key, "Once more")
    assert funnel(app, admin)["consent"] == {"not_given": 1}
    with app.state.services.workspace.reading() as session:
        assert sorted(session.scalars(select(TaskRow.state))) == ["closed", "closed", "open"]


def test_only_administrators_erase_what_is_not_theirs(app: FastAPI, admin: TestClient) -> None:
    mia = member_of(app, admin, "mia")
    ids = {person["name"]: person["id"] for person in admin.get("/api/users").json()}
    ada_id, mia_id = ids["root"], ids["mia"]
    lead = member_of(app, admin, "lena", role="lead")
    for body in ({"user": ada_id}, {"key": "key_1"}):
        assert lead.post("/api/desk/withdrawals", json=body).status_code == 403
    assert mia.post("/api/desk/withdrawals", json={"user": mia_id}).json()["erased"] == 0
    mia.put("/api/consent", json={"training_consent": True})
    chat(mia, "A question")
    assert funnel(app, admin)["taken"] == {"prompt": 1}
    assert admin.post("/api/desk/withdrawals", json={"user": mia_id}).json()["erased"] == 1
    for body in ({"user": "nobody"}, {"key": "nothing"}):
        assert admin.post("/api/desk/withdrawals", json=body).status_code == 404
    assert mia.get("/api/desk/intake").status_code == 403


def test_keys_of_nobody_are_for_administrators(app: FastAPI, admin: TestClient) -> None:
    """The server's own key has no user: an administrator agrees for it, and withdraws."""
    value = "cw-server-key-0123456789"
    keep_bootstrap_key(app.state.services.workspace, value)
    mia = member_of(app, admin, "mia")
    (own,) = [key for key in admin.get("/api/consent").json()["keys"] if key["of_server"]]
    assert not mia.get("/api/consent").json()["keys"]
    assert mia.put("/api/consent", json={"training_consent": True, "key": own["id"]}).status_code == 404
    assert admin.put("/api/consent", json={"training_consent": True, "key": own["id"]}).status_code == 200
    ask(app, value, "What is bread?")
    assert funnel(app, admin)["taken"] == {"prompt": 1}
    assert admin.post("/api/desk/withdrawals", json={"key": own["id"]}).json()["erased"] == 1
    with app.state.services.workspace.reading() as session:
        assert not session.get_one(ApiKey, own["id"]).training_consent


def test_the_funnel_is_for_leads_and_adds_up(app: FastAPI, admin: TestClient) -> None:
    _, key = key_of(admin, training_consent=True)
    for content in ("One?", "one?", "13812345678", "### Task:\nSuggest follow-up questions\n<chat_history></chat_history>"):
        ask(app, key, content)
    assert intake_of(app.state.services).idle()
    told = admin.get("/api/desk/intake", params={"days": 1}).json()
    counts = {step["step"]: step["count"] for step in told["steps"]}
    out = sum(step["count"] for step in told["steps"] if step["keeps_out"])
    assert counts["received"] == 4 == counts["taken"] + out and counts["taken"] == 1
    assert sum(line["count"] for line in told["lines"] if line["step"] == "received") == 4
    assert (told["prompts"], told["keys_agreed"], told["accounts_agreed"], told["waiting"]) == (1, 1, 0, 0)


def test_private_text_of_the_api_never_reaches_the_database(tmp_path: Path) -> None:
    with server_of(tmp_path, ScriptedEngine("alpha")) as app:
        admin = admin_of(app)
        _, key = key_of(admin, training_consent=True)
        ask(app, key, f"Please write to {PRIVATE} or call 13812345678 about the zircon ledger")
        assert funnel(app, admin)["taken"] == {"prompt": 1}
        workspace = app.state.services.workspace

        def everything() -> bytes:
            return b"".join(path.read_bytes() for path in workspace.folder.iterdir() if path.is_file())

        held = everything()
        assert b"zircon ledger" in held and PRIVATE.encode() not in held and b"13812345678" not in held
        assert admin.post("/api/desk/withdrawals", json={}).json() == {
            "erased": 1, "exports": 0, "models": 0, "remains": [], "wiped": True,
        }
        assert b"zircon ledger" not in everything()
        with workspace.reading() as session:
            assert session.execute(text("PRAGMA secure_delete")).scalar_one() == 1
        intake_of(app.state.services).close()
