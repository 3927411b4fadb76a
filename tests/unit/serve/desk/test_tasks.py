from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from chat_server import Elsewhere, ScriptedEngine, events_of, server_of, text_of
from chatwright.feedback import queue, read
from chatwright.feedback.tables import LabelRow, Lease
from chatwright.records import LETTERS, WeakOrder
from chatwright.serve.auth import routes_of, rule_of
from chatwright.serve.auth_tables import AuditEvent
from desk_data import label, project, task
from workspaces import KINDS, admin_of, member_of

Answer = queue.Answer


on_both = pytest.mark.parametrize("app", KINDS, indirect=True)


@pytest.fixture
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FastAPI]:
    with server_of(tmp_path, ScriptedEngine("secret-model"), kind=getattr(request, "param", "sqlite")) as made:
        yield made


@pytest.fixture
def admin(app: FastAPI) -> TestClient:
    return admin_of(app)


def add(app: FastAPI, *kinds: str, **settings: Any) -> list[str]:
    """Ids of tasks, one of each kind, in a new project."""
    answers = [Answer(text=f"text {n}", model="secret-model", meta={"seed": 4711}) for n in range(4)]
    with app.state.services.workspace.session() as session:
        desk = project(session, f"desk {uuid.uuid4()}", **settings)
        sizes = {"compare": 2, "rate": 1}
        return [task(session, desk, kind, answers=answers[: sizes.get(kind, 4)]) for kind in kinds]


def next_of(client: TestClient, **query: Any) -> dict[str, Any]:
    answer = client.post("/api/desk/next", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def send(client: TestClient, task_id: str, value: Any = None, **more: Any) -> Any:
    body = {"uuid": str(uuid.uuid4()), "task": task_id, "value": value or {}, "seconds": {"read": 20}, **more}
    return client.post("/api/desk/labels", json=body)


def test_a_labeller_sees_neither_models_nor_gold_nor_other_labels(app: FastAPI, admin: TestClient) -> None:
    with app.state.services.workspace.session() as session:
        desk = project(session, "blind", gold_share=0.5, overlap={"rank": 3})
        answers = [Answer(text=f"text {n}", model="secret-model", meta={"seed": 4711}) for n in range(4)]
        gold = WeakOrder.parse("A>B>C=D", 4)
        made = [task(session, desk, answers=answers, gold=given) for given in (None, gold)]
        label(session, made[0], "earlier", "A>B>C>D", payload={"comment": "a hint"})
    ann = member_of(app, admin, "ann", "labeller")
    shapes = set()
    for _ in made:
        found = next_of(ann)
        for secret in ("secret-model", "4711", "gold", "earlier", "hint", "C=D"):
            assert secret not in json.dumps(found)
        shapes.add(json.dumps(sorted(found["task"])))
        assert {one["text"] for one in found["task"]["answers"]} == {f"text {n}" for n in range(4)}
        assert [one["letter"] for one in found["task"]["answers"]] == list("ABCD")
        sent = send(ann, found["task"]["id"], {"ranking": "A>B>C>D"})
        assert sent.status_code == 200 and "tau" not in sent.text
    assert len(shapes) == 1 and "tau" not in ann.get("/api/desk/labels").text


def test_letters_of_the_screen_become_letters_of_the_store(app: FastAPI, admin: TestClient) -> None:
    """Whatever order the answers are shown in: text 0 is best, text 3 worst."""
    add(app, *["rank"] * 6, "compare", "compare", "compare", overlap={"rank": 1, "compare": 1})
    orders = set()
    for _ in range(9):
        shown = next_of(admin)["task"]
        best_first = sorted(shown["answers"], key=lambda one: one["text"])
        if shown["kind"] == "rank":
            names = [one["letter"] for one in best_first]
            tied = "=".join(sorted(names[1:3]))
            value: dict[str, Any] = {"ranking": f"{names[0]}>{tied}>{names[3]}"}
            value["likert"] = [7 - int(one["text"][-1]) for one in shown["answers"]]
        else:
            value = {"verdict": best_first[0]["letter"].lower()}
        sent = send(admin, shown["id"], value).json()
        assert (sent["state"], sent["contradictions"], sent["too_fast"]) == ("current", 0, False)
        mine = admin.get("/api/desk/labels?limit=1").json()["labels"][0]
        assert {name: mine["value"][name] for name in value} == value
        with app.state.services.workspace.reading() as session:
            kept = session.get_one(LabelRow, sent["uuid"])
            assert kept.value.get("ranking", "A>B=C>D") == "A>B=C>D" and kept.value.get("verdict", "a") == "a"
            assert kept.value.get("likert") in (None, [7, 6, 5, 4])
            orders.add("".join(LETTERS[n] for n in kept.shown_order or ()))
    assert len(orders) > 2
    assert next_of(admin)["why"] == "nothing_left"


@on_both
def test_labels_are_sent_again_undone_and_changed(app: FastAPI, admin: TestClient) -> None:
    (made,) = add(app, "rank", overlap={"rank": 1})
    ann = member_of(app, admin, "ann", "labeller")
    next_of(ann)
    body = {"uuid": str(uuid.uuid4()), "task": made, "value": {"ranking": "D>C>A=B"}, "payload": {"comment": "why"}}
    first = ann.post("/api/desk/labels", json=body)
    assert first.status_code == 200 and ann.post("/api/desk/labels", json=body).json() == first.json()
    for other in ({"value": {"ranking": "A>B>C>D"}}, {"payload": {"comment": "because"}}, {"payload": None}):
        refused = ann.post("/api/desk/labels", json={**body, **other})
        assert refused.status_code == 409, refused.text
    assert send(ann, made, {"ranking": "A>B>C>D"}).status_code == 409  # a second label of one labeller
    assert next_of(ann)["task"] is None and next_of(ann)["counts"]["total"] == 1
    undone = ann.post(f"/api/desk/labels/{body['uuid']}/undo", json={}).json()
    assert undone["task"]["id"] == made and undone["value"]["ranking"] == "D>C>A=B"
    assert undone["payload"] == {"messages": [], "comment": "why"}
    assert next_of(ann)["task"]["answers"] == undone["task"]["answers"]  # in the same order
    assert send(ann, made, {"ranking": "A>B>C>D"}).json()["state"] == "current"
    labels = ann.get("/api/desk/labels").json()
    assert [(one["state"], one["can_undo"]) for one in labels["labels"]] == [("current", True), ("undone", False)]
    with app.state.services.workspace.reading() as session:
        actions = session.scalars(select(AuditEvent.action).where(AuditEvent.action.like("desk.%"))).all()
    assert actions == ["desk.label", "desk.label", "desk.undo", "desk.label"]


def test_what_belongs_to_other_labellers_answers_404(app: FastAPI, admin: TestClient) -> None:
    """Every labeller's route that names a task or a label, found in the application."""
    made, unseen = add(app, "rank", "demonstrate")
    ann, bob = (member_of(app, admin, name, "labeller") for name in ("ann", "bob"))
    assert next_of(ann)["task"]["id"] == made
    sent = send(ann, made, {"ranking": "A>B>C>D"}).json()["uuid"]
    bodies = {"draft": {"revision": 0, "content": {}}, "skip": {}, "flag": {}}
    seen = 0
    for path, route in routes_of(app.routes):
        if rule_of(route) != "user:labeller" or not re.search(r"\{(task_id|label_id)\}", path):
            continue
        for method in sorted(route.methods):
            for task_id in (made, unseen, "gone"):
                address = path.format(task_id=task_id, label_id=sent)
                body = bodies.get(path.rpartition("/")[2], {}) if method != "GET" else None
                answer = bob.request(method, address, json=body)
                assert answer.status_code == 404, (method, address, answer.text)
                seen += 1
    assert seen >= 20
    assert send(bob, made, {"ranking": "A>B>C>D"}).status_code == 404
    assert bob.get("/api/desk/labels").json()["labels"] == []
    for address in (f"/api/desk/tasks/{made}", "/api/desk/projects/all"):
        assert bob.get(address).status_code == 403
    member = member_of(app, admin, "member")
    assert member.post("/api/desk/next").status_code == 403


def test_drafts_over_http(app: FastAPI, admin: TestClient) -> None:
    (made,) = add(app, "demonstrate")
    next_of(admin)
    url = f"/api/desk/tasks/{made}/draft"
    assert admin.get(url).json() == {"revision": 0, "content": {}}
    assert admin.put(url, json={"revision": 0, "content": {"text": "你好 🍎"}}).json()["revision"] == 1
    conflict = admin.put(url, json={"revision": 0, "content": {"text": "other"}})
    assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "draft_conflict")
    assert admin.get(url).json() == next_of(admin)["task"]["draft"] == {"revision": 1, "content": {"text": "你好 🍎"}}


def test_a_models_draft_is_marked_and_blind(app: FastAPI, admin: TestClient) -> None:
    made, ranked = add(app, "demonstrate", "rank", kinds=["demonstrate", "rank"])
    for kind in ("demonstrate", "rank"):
        next_of(admin, kind=kind)
    stream = admin.post(f"/api/desk/tasks/{made}/draft-answer", json={}).text
    events = events_of(stream)
    assert text_of(events) == "secret-model: What is gravity?"  # the script says its name; nothing else does
    assert [name for name, _ in events] == ["start", "delta", "done"] and "tokens" not in stream
    more = [{"role": "assistant", "content": "It pulls."}, {"role": "user", "content": "Why?"}]
    assert "Why?" in admin.post(f"/api/desk/tasks/{made}/draft-answer", json={"messages": more}).text
    assert admin.post(f"/api/desk/tasks/{made}/draft-answer", json={"messages": more[:1]}).status_code == 400
    assert admin.post(f"/api/desk/tasks/{ranked}/draft-answer", json={}).status_code == 409
    written = {"messages": [*more, {"role": "assistant", "content": "Mass."}], "comment": ""}
    assert admin.get("/api/usage").json() == []
    assert send(admin, made, payload=written).status_code == 200
    with app.state.services.workspace.reading() as session:
        (kept,) = read.task_view(session, made).labels
        assert kept.draft_model == "secret-model" and (kept.payload or {})["messages"] == written["messages"]
        assert kept.draft_version == "version-of-secret-model"
    assert "secret-model" not in admin.get("/api/desk/labels").text and "version-of" not in stream
    (used,) = admin.get("/api/usage").json()
    assert (used["model"], used["requests"]) == ("secret-model", 2)


@pytest.mark.parametrize("sent", ["fp_1", ""])
def test_a_draft_of_a_server_elsewhere_has_the_version_that_it_sent(sent: str, tmp_path: Path) -> None:
    engine = Elsewhere("far", sent)
    with server_of(tmp_path, engine) as app:
        admin = admin_of(app)
        (made,) = add(app, "demonstrate", kinds=["demonstrate"])
        next_of(admin, kind="demonstrate")
        stream = admin.post(f"/api/desk/tasks/{made}/draft-answer", json={}).text
        assert text_of(events_of(stream)) and "fp_1" not in stream
        written = {"messages": [{"role": "assistant", "content": "It pulls."}], "comment": ""}
        assert send(admin, made, payload=written).status_code == 200
        with app.state.services.workspace.reading() as session:
            (kept,) = read.task_view(session, made).labels
            assert (kept.draft_model, kept.draft_version) == ("far", sent)
        (used,) = admin.get("/api/usage").json()
        assert (used["model"], used["model_version"]) == ("far", sent)


@on_both
def test_places_are_renewed_given_back_skipped_and_flagged(app: FastAPI, admin: TestClient) -> None:
    first, second, third = add(app, "rank", "rank", "rank", overlap={"rank": 1})
    ann = member_of(app, admin, "ann", "labeller")
    held = next_of(ann)["task"]
    renewed = ann.post(f"/api/desk/tasks/{first}/renew", json={}).json()["expires_at"]
    assert held["id"] == first and renewed >= held["expires_at"]
    assert ann.post(f"/api/desk/tasks/{first}/release", json={}).status_code == 204
    assert next_of(ann)["task"]["id"] == first
    assert ann.post(f"/api/desk/tasks/{first}/skip", json={"reason": "unclear", "comment": "what?"}).status_code == 204
    assert next_of(ann)["task"]["id"] == second
    assert ann.post(f"/api/desk/tasks/{second}/flag", json={"reason": "unsafe"}).status_code == 204
    assert ann.post("/api/desk/tasks/x/skip", json={"reason": "bored"}).status_code == 400
    assert next_of(ann)["task"]["id"] == third
    with app.state.services.workspace.session() as session:
        session.get_one(Lease, (third, session.scalars(select(Lease.labeller)).first())).expires_at = 1.0
    assert next_of(admin, exclude=[first])["task"]["id"] == third
    gone = ann.post(f"/api/desk/tasks/{third}/renew", json={})
    assert gone.status_code == 409 and "run out" in gone.json()["error"]["message"]
    assert send(ann, third, {"ranking": "A>B>C>D"}).json()["state"] == "surplus"  # what was written is kept
    assert admin.post(f"/api/desk/tasks/{second}/resolve", json={"action": "clear"}).status_code == 204
    assert next_of(admin, exclude=[first, third])["task"]["id"] == second
    assert admin.post(f"/api/desk/tasks/{second}/resolve", json={"action": "close"}).status_code == 204
    assert next_of(admin, exclude=[first, third])["task"] is None


def test_ratings_first_and_unranked_answers(app: FastAPI, admin: TestClient) -> None:
    (made,) = add(app, "rank", rate_first=True)
    assert next_of(admin)["task"]["rate_first"]
    for value, said in (
        ({"ranking": "A>B>C>D"}, "likert"), ({"ranking": "A>B>C", "unranked": ["D"], "likert": [1, 1, 1, 1]}, "unranked"),
        ({"ranking": "A>B"}, "ranking"), ({"likert": [1, 2, 3, 4]}, "ranking"),
        ({"ranking": "A>B>C>D", "verdict": "a"}, "verdict"),
    ):  # fmt: skip
        refused = send(admin, made, value)
        assert refused.status_code == 400 and said in refused.json()["error"]["message"], refused.text
    flags = [["hallucination"], [], [], []]
    kept = send(admin, made, {"ranking": "A>B>C>D", "likert": [4, 3, 2, 7], "flags": flags}).json()
    assert kept["contradictions"] == 3


def test_only_leads_adjudicate_and_see_what_others_said(app: FastAPI, admin: TestClient) -> None:
    (made,) = add(app, "rank")
    with app.state.services.workspace.session() as session:
        label(session, made, "one", "A>B>C>D", payload={"comment": "A is right"})
        label(session, made, "two", "D>C>B>A")
        queue.adjudicate(session, made, actor="lead")
    ann, lead = member_of(app, admin, "ann", "labeller"), member_of(app, admin, "lead", "lead")
    assert next_of(ann)["task"] is None and next_of(ann, kind="adjudicate")["task"] is None
    shown = next_of(lead)["task"]
    letter_of = {one["text"]: one["letter"] for one in shown["answers"]}
    wanted = ">".join(letter_of[f"text {n}"] for n in range(4))
    assert [(one["ranking"], one["comment"]) for one in shown["others"]] == [
        (wanted, "A is right"), (">".join(reversed(wanted.split(">"))), ""),
    ]  # fmt: skip
    assert send(lead, shown["id"], {"ranking": wanted}).status_code == 200
    with app.state.services.workspace.reading() as session:
        assert str(read.task_view(session, made).merged_order) == "A>B>C>D"


def test_projects_guidelines_screening_and_languages(app: FastAPI, admin: TestClient) -> None:
    new = {"name": "Desk", "settings": {"screening": {"required": True, "pass_score": 0.9}, "kinds": ["rank", "prompt"]}}
    made = admin.post("/api/desk/projects", json=new)
    assert made.status_code == 201 and made.json()["settings"]["overlap"]["rank"] == 2
    desk = made.json()["id"]
    assert admin.post("/api/desk/projects", json=new).status_code == 409
    assert admin.patch(f"/api/desk/projects/{desk}", json={"settings": {"k": 6}}).json()["settings"]["k"] == 6
    assert admin.patch(f"/api/desk/projects/{desk}", json={"settings": {"k": 60}}).status_code == 400
    guide = admin.post(f"/api/desk/guidelines/{desk}", json={"language": "en", "text": "Be fair."}).json()
    assert admin.post("/api/desk/guidelines/gone", json={"language": "en", "text": "x"}).status_code == 404
    test = {"project": desk, "kind": "rank", "messages": [{"role": "user", "content": "1+1?"}], "answers": ["2", "3"]}
    assert admin.post("/api/desk/tasks", json={**test, "gold": "A>B", "screening": True}).status_code == 201
    assert admin.post("/api/desk/tasks", json={**test, "screening": True}).status_code == 400
    assert admin.post("/api/desk/tasks", json={"project": desk, "kind": "prompt", "style": "few_shot"}).status_code == 201
    ann, bad = member_of(app, admin, "ann", "labeller"), member_of(app, admin, "bad", "labeller")
    for client, best in ((ann, "2"), (bad, "3")):
        shown = next_of(client)
        assert shown["counts"]["screening"] == {"required": True, "done": 0, "total": 1, "passed": None}
        assert shown["task"]["guideline"] == guide["id"]
        names = [one["letter"] for one in sorted(shown["task"]["answers"], key=lambda one: one["text"] != best)]
        assert send(client, shown["task"]["id"], {"ranking": ">".join(names)}).status_code == 200
    assert next_of(bad)["why"] == "screening_failed"
    assert ann.get("/api/desk/projects").json()[0]["left"] == {"prompt": 1, "rank": 0}
    assert ann.put("/api/desk/profile", json={"languages": ["zh-CN"]}).status_code == 200
    assert next_of(ann)["task"] is None and ann.get("/api/desk/profile").json() == {"languages": ["zh-CN"]}
    shown = next_of(ann, language="en")["task"]
    assert (shown["kind"], shown["style"], shown["messages"]) == ("prompt", "few_shot", [])
    assert send(ann, shown["id"], payload={"messages": [{"role": "user", "content": "Tell me"}]}).status_code == 200
    assert [one["version"] for one in ann.get(f"/api/desk/guidelines/{desk}").json()] == [1]
    assert admin.patch(f"/api/desk/projects/{desk}", json={"archived": True}).json()["archived_at"]
    assert ann.get("/api/desk/projects").json() == [] and len(admin.get("/api/desk/projects/all").json()) == 1
