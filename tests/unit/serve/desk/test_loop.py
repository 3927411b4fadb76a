"""Import, exports, jobs, promotion by hot swap and roll-back over HTTP."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from chat_server import ScriptedEngine
from chatwright.errors import ModelError
from chatwright.feedback import export as exporting
from chatwright.feedback import jobs, lineage
from chatwright.feedback.export import ExportFilter
from chatwright.feedback.judges import configured_judges, resolve_judge
from chatwright.feedback.worker import COMMANDS, LOG_FILE, job_folder
from chatwright.serve import run
from chatwright.serve.app import create_app
from chatwright.serve.auth_tables import AuditEvent
from chatwright.serve.desk import models
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.settings import ServeConfig
from workspaces import ORIGIN, PASSWORD, admin_of, member_of, workspace_of

ROWS = "\n".join(
    json.dumps({"prompt": f"Why {n}?", "completions": ["a", "b"], "ranking": "A>B", "labeller": "ann",
                "labeller_kind": "human", "user": f"u{n}"})
    for n in range(12)
)  # fmt: skip


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    """A server of one local model, `chat`, whose engines answer with the name of their folder."""

    def open_folder(settings: ServeConfig, name: str, path: str) -> Any:
        return ScriptedEngine(name, answer=f"I am {Path(path).name}")

    monkeypatch.setattr(models, "open_folder", open_folder)
    with workspace_of("sqlite", tmp_path) as workspace:
        settings = ServeConfig(
            model=("chat=/models/base",), upstream=("far=http://127.0.0.1:9/v1",),
            judge=("strict=big@http://127.0.0.1:9/v1",),
        )
        registry = EngineRegistry(ScriptedEngine("chat", answer="I am base"), ScriptedEngine("far"))
        yield create_app(settings, registry, workspace)


@pytest.fixture
def admin(app: FastAPI) -> Iterator[TestClient]:
    """An administrator, in one event loop with the server: old engines are drained in the background."""
    admin_of(app)
    with TestClient(app, base_url=ORIGIN, raise_server_exceptions=False) as client:
        answer = client.post("/api/session", json={"name": "root", "password": PASSWORD})
        client.headers["x-csrf-token"] = answer.json()["csrf"]
        yield client


def ok(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def model(app: FastAPI, name: str, low: float, against: str = lineage.CONFIGURED) -> str:
    workspace = app.state.services.workspace
    frozen = exporting.export(workspace, ExportFilter(), actor="lead")
    folder = workspace.folder / name
    folder.mkdir()
    (folder / "MANIFEST.json").write_text(name)
    said = {"judge": "general-en", "judge_kind": "simulated", "rate": low + 0.1, "low": low, "high": low + 0.2, "n": 8,
            "questions": 4, "ties": 0.0, "p": 0.001}  # fmt: skip
    with workspace.session() as session:
        comparison = {"against": "base", "against_id": against, "verdicts": [said]}
        figures = {"comparison": comparison, "report_card": {"gate": None}}
        row = lineage.register(
            session, name=name, path=folder, base="base", exports=[frozen.id], figures=figures, actor="cli"
        )
        return row.id


def says(app: FastAPI, admin: TestClient) -> str:
    """What a chat client hears."""
    key = ok(admin.post("/api/keys", json={"name": "k", "scopes": ["inference"]}))["key"]
    body = {"model": "chat", "messages": [{"role": "user", "content": "Who are you?"}]}
    answer = ok(admin.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}))
    return str(answer["choices"][0]["message"]["content"])


def test_rows_go_in_and_come_out_as_an_export(app: FastAPI, admin: TestClient) -> None:
    done = ok(admin.post("/api/desk/import", json={"rows": ROWS + "\n{bad", "file": "mine.jsonl"}))
    assert (done["tasks"], done["labels"], done["num_bad"]) == (12, 12, 1) and "mine.jsonl:13" in done["bad"][0]
    assert ok(admin.post("/api/desk/import", json={"rows": ROWS}))["known"] == 12
    made = ok(admin.post("/api/desk/exports", json={"labeller_kinds": ["human"]}), 201)
    rankings = {split: files["rankings"] for split, files in made["counts"].items()}
    assert sum(rankings.values()) == 12 and made["withdrawn"] == 0
    assert [one["id"] for one in ok(admin.get("/api/desk/exports"))] == [made["id"]]
    file = admin.get(f"/api/desk/exports/{made['id']}/train/rankings")
    assert file.status_code == 200 and len(file.text.splitlines()) == rankings["train"]
    assert admin.get(f"/api/desk/exports/{made['id']}/train/..%2f..%2fx").status_code in (400, 404)
    assert admin.get("/api/desk/exports/x/train/rankings").status_code == 404
    assert admin.post("/api/desk/import", json={"rows": ROWS, "project": "x"}).status_code == 404


def test_other_formats_are_read_and_every_row_is_accounted_for(admin: TestClient) -> None:
    pairs = [{"prompt": f"q{n}", "chosen": "y", "rejected": "n", "score_chosen": 4} for n in range(2)]
    rows = "\n".join(json.dumps(row) for row in [*pairs, {"prompt": "q", "chosen": "y", "rejected": "y"}, {"prompt": 3}])
    body = {"rows": rows, "file": "hh.jsonl", "labeller_kind": "human"}
    done = ok(admin.post("/api/desk/import", json=body))
    assert (done["kinds"], done["tasks"], done["labels"], done["num_bad"]) == ({"rankings": 2}, 2, 2, 1)
    assert (done["rows"], done["used"], done["left_out"]) == (4, 2, {"both answers are equal": 1})
    assert done["unused_marks"] == {"score_chosen": 2} and done["bad"][0].startswith("hh.jsonl:4: prompt: ")
    table = "prompt,response_a,response_b,winner\nq5,a,b,response_b\n"
    done = ok(admin.post("/api/desk/import", json={"rows": table, "file": "x.csv", "labeller_kind": "ai"}))
    assert done["kinds"] == {"rankings": 1} and done["format"] == "table"
    without = ok(admin.post("/api/desk/import", json={"rows": "\n".join(map(json.dumps, pairs)), "file": "x.jsonl"}))
    assert without["num_bad"] == 2 and len(without["bad"]) == 1
    assert "labeller_kind: is missing (2 rows" in without["bad"][0] and "--" not in without["bad"][0]


def test_bytes_of_any_encoding_are_taken(admin: TestClient) -> None:
    def send(name: str, data: bytes, **more: str) -> Any:
        body = {"content": base64.b64encode(data).decode(), "file": name, "labeller_kind": "human", **more}
        return admin.post("/api/desk/import", json=body)

    western = "prompt,completion\nFuchs?,schön\n".encode("cp1252")
    refused = send("x.csv", western)
    assert refused.status_code == 400 and "x.csv:2: line: is not UTF-8" in refused.text and "/tmp" not in refused.text
    assert ok(send("x.csv", western, encoding="cp1252"))["kinds"] == {"demonstrations": 1}
    assert send("x.csv", western, encoding="klingon").status_code == 400
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in (["prompt", "completion"], ["q", "a"]):
        book.active.append(row)
    book.save(file := io.BytesIO())
    assert ok(send("x.xlsx", file.getvalue()))["kinds"] == {"demonstrations": 1}
    assert send("x.xlsx", b"no workbook").status_code == 400
    assert admin.post("/api/desk/import", json={"content": "%%%", "file": "x.csv"}).status_code == 400
    garbled = admin.post("/api/desk/import", json={"rows": 'prompt,completion\nFuchs?,sch\ufffdn\n', "file": "x.csv"})
    assert garbled.status_code == 400 and "x.csv:2: line: holds signs that were not UTF-8" in garbled.text


def test_a_model_is_promoted_rolled_back_and_outlives_a_restart(app: FastAPI, admin: TestClient) -> None:
    admin.post("/api/desk/import", json={"rows": ROWS})
    weak, good = model(app, "weak", 0.4), model(app, "good", 0.6)
    listed = ok(admin.get("/api/desk/models"))
    assert {one["name"]: one["refusals"]["chat"] == "" for one in listed["models"]} == {"good": True, "weak": False}
    assert [one["name"] for one in listed["serving"]] == ["chat"]  # not the other server's model
    assert listed["models"][0]["labeller_kinds"] == {"human": 12}
    assert says(app, admin) == "I am base"
    refused = admin.post(f"/api/desk/models/{weak}/promote", json={})
    assert refused.status_code == 409 and "not surely above 1/2" in refused.text and says(app, admin) == "I am base"
    assert admin.post(f"/api/desk/models/{good}/promote", json={"name": "far"}).status_code == 404
    assert admin.post("/api/desk/models/model_x/promote", json={}).status_code == 404
    now = ok(admin.post(f"/api/desk/models/{good}/promote", json={}))
    served = {"name": "chat", "model_id": good, "can_roll_back": True, "before": "configured", "not_promoted": ""}
    assert now["serving"] == [served]
    assert says(app, admin) == "I am good"
    workspace = app.state.services.workspace
    assert models.entry_to_serve(workspace, "chat=/models/base") == f"chat={workspace.folder / 'good'}"
    forced = admin.post(f"/api/desk/models/{weak}/promote", json={"force": True})
    assert forced.status_code == 400 and "reason" in forced.text
    ok(admin.post(f"/api/desk/models/{weak}/promote", json={"force": True, "reason": "to see"}))
    assert says(app, admin) == "I am weak"
    for expected in ("good", "base"):
        ok(admin.post("/api/desk/models/rollback", json={"reason": "back"}))
        assert says(app, admin) == f"I am {expected}"
    assert admin.post("/api/desk/models/rollback", json={}).status_code == 400
    assert models.entry_to_serve(workspace, "chat=/models/base") == "chat=/models/base"
    with workspace.reading() as session:
        events = session.query(AuditEvent).filter(AuditEvent.action.like("model.%")).order_by(AuditEvent.id).all()
    assert [(e.action, e.detail["reason"], e.detail.get("forced")) for e in events] == [
        ("model.promoted", "", False), ("model.promoted", "to see", True), ("model.rolled_back", "back", None),
        ("model.rolled_back", "back", None),
    ]  # fmt: skip


def test_a_damaged_model_is_neither_promoted_nor_stops_the_start(
    app: FastAPI, admin: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.post("/api/desk/import", json={"rows": ROWS})
    good = model(app, "good", 0.6)
    workspace = app.state.services.workspace
    ok(admin.post(f"/api/desk/models/{good}/promote", json={}))
    opened: list[str] = []

    def open_engine(cfg: ServeConfig, entry: str, upstream: bool) -> Any:
        opened.append(entry)
        if "good" in entry:
            raise ModelError("damaged")
        return ScriptedEngine("chat")

    monkeypatch.setattr(run, "open_engine", open_engine)
    registry = app.state.services.registry
    assert admin.get("/ready").status_code == 200
    run._open_promoted(app.state.services.settings, workspace, registry, "chat=/models/base")
    assert [Path(entry).name for entry in opened] == ["good", "base"]
    assert registry.not_promoted == {"chat": "damaged"}
    answer = admin.get("/ready")
    assert answer.status_code == 503 and "not the promoted model: chat" in answer.text
    assert ok(admin.get("/api/desk/models"))["serving"][0]["not_promoted"] == "damaged"
    ok(admin.post("/api/desk/models/rollback", json={"reason": "it does not load"}))
    assert admin.get("/ready").status_code == 200 and registry.not_promoted == {}
    ok(admin.post(f"/api/desk/models/{good}/promote", json={}))
    (workspace.folder / "good" / "MANIFEST.json").write_text("changed")
    run._open_promoted(app.state.services.settings, workspace, registry, "chat=/models/base")
    assert "manifest has changed" in registry.not_promoted["chat"]
    answer = admin.post(f"/api/desk/models/{good}/promote", json={"force": True, "reason": "x"})
    assert answer.status_code == 409 and "manifest has changed" in answer.text
    assert says(app, admin) == "I am good"  # what runs goes on


def test_an_engine_that_does_not_load_changes_nothing(
    app: FastAPI, admin: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.post("/api/desk/import", json={"rows": ROWS})
    good = model(app, "good", 0.6)

    def fails(*_: object) -> Any:
        raise ModelError("no memory")

    monkeypatch.setattr(models, "open_folder", fails)
    assert admin.post(f"/api/desk/models/{good}/promote", json={}).status_code == 409
    assert ok(admin.get("/api/desk/models"))["serving"][0]["model_id"] == "configured" and says(app, admin) == "I am base"


def test_lineage_names_exports_labellers_and_labels(app: FastAPI, admin: TestClient) -> None:
    admin.post("/api/desk/import", json={"rows": ROWS})
    made = model(app, "good", 0.6)
    found = ok(admin.get(f"/api/desk/lineage/{made}"))
    assert (found["num_labels"], len(found["labels"]), found["ancestors"]) == (12, 12, [])
    assert found["shares"] == [{"labeller": "ann", "labeller_kind": "human", "kind": "rank", "labels": 12}]
    assert found["exports"][0]["models"] == [made] and found["model"]["id"] == made
    assert len(ok(admin.get(f"/api/desk/lineage/{made}?offset=10"))["labels"]) == 2
    assert admin.get("/api/desk/lineage/model_x").status_code == 404


def test_jobs_are_begun_watched_and_cancelled(app: FastAPI, admin: TestClient) -> None:
    wish = {"kind": "retrain", "retrain": {"judge": "general-en", "rankings": "merged", "stages": {"ppo_steps": 3}}}
    job = ok(admin.post("/api/desk/jobs", json=wish), 201)
    assert job["lane"] == "training"
    workspace = app.state.services.workspace
    line = COMMANDS["retrain"](workspace, job["settings"])
    assert line[2:4] == ["chatwright", "retrain"] and "--configured=/models/base" in line and "--serving-name=chat" in line
    assert "--rankings=merged" in line
    assert "--stages.ppo-steps=3" in line and "--judge=general-en" in line
    from chatwright import config
    from chatwright.pipeline.retrain import RetrainConfig

    parsed = config.parse(RetrainConfig, line[4:], prog="x")
    assert parsed.stages.ppo_steps == 3 and parsed.labeller_kinds == ("human", "simulated", "ai")
    with workspace.session() as session:
        lease = jobs.take(session, "w", ("retrain",))
        assert lease is not None
        jobs.report(session, lease, stage="reward", number=3, of=6)
    folder = job_folder(workspace, job["id"])
    folder.mkdir(parents=True)
    (folder / LOG_FILE).write_text("one\ntwo\nthr")
    shown = ok(admin.get(f"/api/desk/jobs/{job['id']}"))
    assert shown["state"] == "running" and shown["progress"] == {"stage": "reward", "number": 3, "of": 6, "line": ""}
    log = ok(admin.get(f"/api/desk/jobs/{job['id']}/log"))
    assert log == {"text": "one\ntwo\n", "start": 0, "end": 8}
    assert ok(admin.get(f"/api/desk/jobs/{job['id']}/log?after=8"))["text"] == "thr"
    assert admin.delete(f"/api/desk/jobs/{job['id']}").status_code == 204
    assert ok(admin.get("/api/desk/jobs"))[0]["cancel"] is True
    assert admin.get("/api/desk/jobs/job_x").status_code == admin.delete("/api/desk/jobs/job_x").status_code == 404
    assert admin.post("/api/desk/jobs", json={"kind": "retrain"}).status_code == 400
    mixed = {"kind": "retrain", "retrain": {"rankings": "merged", "labeller_kinds": ["human"]}}
    assert admin.post("/api/desk/jobs", json=mixed).status_code == 400  # a merged order is made of everybody's
    unknown = {"kind": "retrain", "retrain": {"serving_name": "nobody"}}
    assert admin.post("/api/desk/jobs", json=unknown).status_code == 404


def test_label_jobs_become_command_lines(app: FastAPI, admin: TestClient) -> None:
    from chatwright import config
    from chatwright.labellers.workspace import DeskLabelConfig

    judges = configured_judges(app.state.services.settings.judge)
    for given in ({"labeller": "ai", "judge": "strict", "limit": 5}, {"labeller": "simulated", "noise": 0.2, "seed": 4}):
        job = ok(admin.post("/api/desk/jobs", json={"kind": "label", "label": given}), 201)
        assert job["lane"] == "labelling"
        line = COMMANDS["label"](app.state.services.workspace, resolve_judge(job["settings"], judges)[0])
        assert line[3:5] == ["feedback", "label"]
        cfg = config.parse(DeskLabelConfig, line[5:], prog="x")
        assert (cfg.ai.model if cfg.ai else cfg.simulated.noise) == ("big" if cfg.ai else 0.2)


def test_the_report_of_a_models_run_is_a_page_in_which_nothing_runs(app: FastAPI, admin: TestClient) -> None:
    run = app.state.services.workspace.folder / "retrained" / "6-ppo"
    run.mkdir(parents=True)
    path = f"/api/desk/models/{model(app, 'retrained/6-ppo/final', 0.6)}/report"
    assert admin.get("/api/desk/models").json()["models"][0]["has_report"] is False
    missing = admin.get(path)
    assert missing.status_code == 404 and missing.json()["error"]["code"] == "no_report"
    assert admin.get("/api/desk/models/none/report").status_code == 404
    for stage, kind in (("1-sft", "sft"), ("4-reward", "reward"), (run.name, "ppo")):
        place = run.parent / stage
        place.mkdir(exist_ok=True)
        rows = [{"step": n, "loss": 1 / n, "reward": 0.1 * n, "kl": 0.2 * n} for n in (1, 2, 3)]
        (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        result = {"kind": kind, "model": "<script>alert(1)</script>"}
        (place / "result.json").write_text(json.dumps(result), encoding="utf-8")
    assert admin.get("/api/desk/models").json()["models"][0]["has_report"] is True
    page = admin.get(path)
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert page.text.count("<svg") >= 3 and "<script" not in page.text
    assert member_of(app, admin, "lee", "labeller").get(path).status_code == 403


def test_only_administrators_promote(app: FastAPI, admin: TestClient) -> None:
    lead = member_of(app, admin, "lea", "lead")
    assert lead.get("/api/desk/models").status_code == 200
    assert lead.post("/api/desk/models/x/promote", json={}).status_code == 403
    assert lead.post("/api/desk/models/rollback", json={}).status_code == 403
    labeller = member_of(app, admin, "lab", "labeller")
    for path in ("models", "jobs", "exports", "lineage/x"):
        assert labeller.get(f"/api/desk/{path}").status_code == 403


def test_a_lead_chooses_a_judge_by_name_and_no_address(app: FastAPI, admin: TestClient) -> None:
    assert ok(admin.get("/api/desk/judges")) == [{"name": "strict", "model": "big"}]
    wish = {"labeller": "ai", "judge": "strict"}
    job = ok(admin.post("/api/desk/jobs", json={"kind": "label", "label": wish}), 201)
    assert job["settings"] == {"labeller": "ai", "project": "", "limit": 0, "judge": "strict"}
    for bad in ({"judge": "other"}, {"judge": ""}, {}):
        answer = admin.post("/api/desk/jobs", json={"kind": "label", "label": {"labeller": "ai", **bad}})
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "judge_unknown"
    body = {"kind": "label", "label": {**wish, "base_url": "http://127.0.0.1:9/internal"}}
    assert admin.post("/api/desk/jobs", json=body).status_code == 400
    labeller = member_of(app, admin, "lab", role="labeller")
    assert labeller.get("/api/desk/judges").status_code == 403
