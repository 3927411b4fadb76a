"""An OpenAI-compatible endpoint on loopback whose replies a test decides."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[dict[str, Any]], tuple[int, str]]


class Stub:
    """An OpenAI-compatible endpoint on loopback whose replies a test decides."""

    def __init__(self) -> None:
        self.reply: Reply = longer_wins
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.location = ""
        """Where replies redirect to, when not empty."""
        self.lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with stub.lock:
                    stub.requests.append({"path": self.path, **body})
                    stub.headers.append(dict(self.headers))
                    status, text = stub.reply(body)
                raw = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                if stub.location:
                    self.send_header("Location", stub.location)
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


def said(text: str) -> tuple[int, str]:
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


def shown(body: dict[str, Any]) -> tuple[str, str]:
    content = body["messages"][-1]["content"]
    between = lambda mark: content.split(f"[answer {mark}]\n")[1].split(f"\n[/answer {mark}]")[0]  # noqa: E731
    return between("A"), between("B")


def longer_wins(body: dict[str, Any]) -> tuple[int, str]:
    a, b = shown(body)
    return said("A" if len(a) > len(b) else "B" if len(b) > len(a) else "TIE")


@contextmanager
def running_stub() -> Iterator[Stub]:
    made = Stub()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()
