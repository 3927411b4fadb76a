"""`chatwright serve` as a process of its own, with a tiny model."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from chatwright import cli
from tiny_training import SRC, save_tiny_model
from workspaces import PASSWORD

KEY = "cw-key-of-this-test-0123"
LENGTH = 400


@dataclass
class Server:
    """A running `chatwright serve`."""

    process: subprocess.Popen[str]
    workspace: Path
    lines: list[str] = field(default_factory=list)

    def printed(self, pattern: str) -> str:
        """The first group of a line on stdout; waits for it."""
        ends_at = time.monotonic() + 60
        while time.monotonic() < ends_at and self.process.poll() is None:
            if found := re.search(pattern, "".join(self.lines)):
                return found[1]
            time.sleep(0.02)
        raise AssertionError(f"no {pattern!r} in {self.lines}")

    def end(self) -> int:
        """Exit status once it has ended."""
        return self.process.wait(60)


@pytest.fixture
def server(tmp_path: Path, tokenizer: Any) -> Iterator[Server]:
    model = save_tiny_model(tmp_path / "model", tokenizer, max_positions=1024)
    command = [sys.executable, "-m", "chatwright", "serve", "--model", f"tiny={model}", "--port", "0"]
    command += ["--workspace", str(tmp_path / "workspace"), "--drain-s", "60", "--json-logs"]
    environment = {**os.environ, "PYTHONPATH": str(SRC), "CHATWRIGHT_API_KEY": KEY, "OMP_NUM_THREADS": "1"}
    environment.pop("CHATWRIGHT_DATABASE_URL", None)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    made = Server(process, tmp_path / "workspace")
    assert process.stdout is not None
    reader = threading.Thread(target=lambda out: made.lines.extend(out), args=(process.stdout,))
    reader.start()
    try:
        yield made
    finally:
        process.kill()
        process.wait()
        reader.join(10)
        process.stdout.close()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """A client of the server, whose model is loaded."""
    with httpx.Client(base_url=server.printed(r"chat (http://127.0.0.1:\d+) "), timeout=60, trust_env=False) as made:
        ends_at = time.monotonic() + 60
        while made.get("/ready").status_code != 200:
            assert time.monotonic() < ends_at, "the model was not loaded"
            time.sleep(0.05)
        yield made


def ask(client: httpx.Client) -> Any:
    """A stream that takes a while."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Count."}], "max_tokens": LENGTH}
    body |= {"stream": True, "ignore_eos": True, "stream_options": {"include_usage": True}}
    return client.stream("POST", "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"})


def test_sigterm_drains_a_stream_to_its_end(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    with ask(client) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        seen = [next(lines)]
        server.process.send_signal(signal.SIGTERM)
        seen += [line for line in lines if line]
    assert seen[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in seen[:-1] if line.startswith("data: ")]
    assert [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]] == ["length"]
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")] == [LENGTH]
    assert server.end() == 0
    log = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (request,) = [line for line in log if line.get("route") == "/v1/chat/completions"]
    assert request["status"] == 200 and request["request_id"] == answer.headers["x-request-id"]
    assert KEY not in str(log) and "Count." not in str(log)
    with pytest.raises(httpx.ConnectError):
        client.get("/health")


def test_sigterm_lets_an_answer_end_whose_page_was_closed(server: Server, client: httpx.Client) -> None:
    token = server.printed(r"/join#(\S+)")
    account = client.post("/api/links/redeem", json={"token": token, "name": "root", "password": PASSWORD}).json()
    client.headers["x-csrf-token"] = account["csrf"]
    settings = {"max_tokens": LENGTH, "temperature": 0.0}
    made = client.post("/api/conversations", json={"model": "tiny", "settings": settings}).json()
    with client.stream("POST", f"/api/conversations/{made['id']}/messages", json={"content": "Count."}) as answer:
        assert answer.status_code in (200, 201), answer.read()
        next(answer.iter_lines())
    client.close()  # the page is closed
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == 0
    with sqlite3.connect(next(server.workspace.glob("*.sqlite*"))) as database:
        rows = database.execute("SELECT status, completion_tokens FROM messages WHERE role = 'assistant'").fetchall()
    database.close()
    assert rows == [("complete", LENGTH)]


def test_a_second_server_in_the_workspace_is_refused(server: Server, client: httpx.Client) -> None:
    command = [sys.executable, "-m", "chatwright", "serve", "--port", "0", "--workspace", str(server.workspace)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(SRC)})
    assert second.returncode == 2 and str(server.workspace) in second.stderr and "Traceback" not in second.stderr
    assert client.get("/health").status_code == 200


def test_a_model_that_does_not_exist_is_said_before_anything_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for model in ("nope", "chat=nope/", "missing.gguf"):
        code = cli.main(["serve", "--model", model, "--workspace", str(tmp_path / "w"), "--port", "0"])
        said = capfd.readouterr()
        assert code == 1 and said.out == "" and "http" not in said.err.replace("https://", ""), said
        assert model.rpartition("=")[2].rstrip("/") in said.err
