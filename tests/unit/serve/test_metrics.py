from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from chat_server import ScriptedEngine, server_of
from chatwright.serve.engine import EngineRegistry, EngineStats
from chatwright.serve.metrics import Metrics
from workspaces import PASSWORD, admin_of, browser, member_of


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    with server_of(tmp_path, ScriptedEngine("alpha")) as made:
        yield made


def samples(text: bytes | str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(name, labels) to value, as Prometheus reads it."""
    read = text if isinstance(text, str) else text.decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(read)
        for sample in family.samples
    }


def test_engines_are_read_when_asked() -> None:
    class Counting(ScriptedEngine):
        def stats(self) -> EngineStats:
            return EngineStats(
                waiting=3, running=self.running, prompt_tokens=50, completion_tokens=70, cached_tokens=20
            )

    engine = Counting("alpha")
    metrics = Metrics(EngineRegistry(engine))
    label = (("model", "alpha"),)
    assert samples(metrics.text())[("chatwright_engine_running", label)] == 0
    engine.running = 2
    found = samples(metrics.text())
    expected = {"waiting": 3, "running": 2, "prompt_tokens_total": 50, "completion_tokens_total": 70}
    expected["cached_tokens_total"] = 20
    assert {name: found[(f"chatwright_engine_{name}", label)] for name in expected} == expected


def test_two_servers_in_a_process_count_apart() -> None:
    one, other = Metrics(EngineRegistry()), Metrics(EngineRegistry())
    one.requests.labels("GET", "/docs", "200").inc()
    key = ("chatwright_http_requests_total", (("method", "GET"), ("route", "/docs"), ("status", "200")))
    assert samples(one.text())[key] == 1 and key not in samples(other.text())


def test_requests_are_counted_by_route_and_never_by_path(app: FastAPI) -> None:
    client = browser(app)
    for share in ("secret-one", "secret-two"):
        assert client.get(f"/api/shares/{share}").status_code == 404
    client.post("/api/links/look", json={"token": "secret-three"})
    client.request("SPELL", "/health?secret-four")
    text = client.get("/metrics").text
    found = samples(text)
    labels = (("method", "GET"), ("route", "/api/shares/{token}"), ("status", "404"))
    assert found[("chatwright_http_requests_total", labels)] == 2
    assert found[("chatwright_http_request_seconds_count", (("route", "/api/shares/{token}"),))] == 2
    assert found[("chatwright_http_requests_open", ())] == 1  # this one
    assert {dict(labels).get("method") for name, labels in found if name == "chatwright_http_requests_total"} == {
        "GET", "POST", "other",
    }  # fmt: skip
    assert "secret-" not in text and "SPELL" not in text


def test_labels_name_no_people(app: FastAPI) -> None:
    admin = admin_of(app)
    member_of(app, admin, "ada-of-the-figures")
    browser(app).post("/api/session", json={"name": "ada-of-the-figures", "password": PASSWORD})
    admin.post("/api/keys", json={"name": "key-of-the-figures"})
    text = browser(app).get("/metrics").text
    assert "of-the-figures" not in text and 'route="/api/keys"' in text
