"""A server with engines that answer by a script, for tests of the chat and the arena: every byte is a token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.testclient import TestClient

from chatwright.serve.app import create_app
from chatwright.serve.engine import (
    Delta,
    EngineGone,
    EngineRegistry,
    EngineStats,
    Event,
    Finished,
    GenerationRequest,
    Started,
    TokenLogprob,
)
from chatwright.serve.settings import ServeConfig
from workspaces import ORIGIN, workspace_of


def byte_token(byte: int) -> TokenLogprob:
    """A token with one alternative: its last bit flipped."""
    return TokenLogprob(id=byte, logprob=-0.1, top=((byte, -0.1), (byte ^ 1, -2.5)))


class ScriptedEngine:
    """Answers with its name and the question; waits before piece `pause_at` until `gate` is opened."""

    context_length = 4096
    ready = True

    def __init__(self, name: str, *, pause_at: int = -1, answer: str = "", fail: str = "") -> None:
        self.name, self.pause_at, self.answer, self.fail = name, pause_at, answer, fail
        self.version = f"version-of-{name}"
        self.gate, self.requests = asyncio.Event(), list[GenerationRequest]()
        self.running = 0
        self.reasoning: list[str] = []
        self.after_prefix: list[tuple[str, bytes]] = []

    def _pieces(self, request: GenerationRequest) -> list[tuple[str, bytes]]:
        if request.answer_prefix:
            return self.after_prefix
        text = self.answer or f"{self.name}: {request.messages[-1].content}"
        return [(character, character.encode()) for character in text]

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        self.requests.append(request)
        self.running += 1
        try:
            dropped = 2 if len(request.messages) > 6 else 0
            yield Started(prompt_tokens=len(request.messages), dropped_messages=dropped, version=self.version)
            if self.fail:
                raise EngineGone(self.fail)
            for piece in self.reasoning:
                yield Delta(index=0, text="", reasoning=piece)
            pieces = self._pieces(request)
            for number, (text, data) in enumerate(pieces):
                if number == self.pause_at:
                    await self.gate.wait()
                yield Delta(index=0, text=text, tokens=tuple(map(byte_token, data)))
            yield Finished(index=0, reason="stop", completion_tokens=sum(len(data) for _, data in pieces))
        finally:
            self.running -= 1

    async def score(self, ids: Sequence[int], top: int) -> list[TokenLogprob | None]:
        raise NotImplementedError

    async def embed(self, inputs: Sequence[str | Sequence[int]], dimensions: int | None) -> tuple[list[list[float]], int]:
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])

    def tokenizer_info(self) -> dict[str, Any]:
        return {}

    def stats(self) -> EngineStats:
        return EngineStats(running=self.running)

    async def drain(self, timeout_s: float) -> None:
        return None


class Elsewhere(ScriptedEngine):
    """A server elsewhere: its version comes with each answer only."""

    def __init__(self, name: str, sent: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.version, self.sent = "", sent

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        async for event in super().generate(request):
            yield replace(event, version=self.sent) if isinstance(event, Started) else event


@contextmanager
def server_of(folder: Path, *engines: ScriptedEngine, kind: str = "sqlite") -> Iterator[FastAPI]:
    """An application with a workspace of its own."""
    with workspace_of(kind, folder) as workspace:
        yield create_app(ServeConfig(), EngineRegistry(*engines), workspace)


def on_loop(app: FastAPI, client: TestClient) -> httpx.AsyncClient:
    """The same signed-in browser for tests that run on one event loop, as answers do."""
    transport = httpx.ASGITransport(app=app)
    kept = {name: client.headers[name] for name in ("x-csrf-token",)}
    return httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=kept, cookies=dict(client.cookies), timeout=30)


def events_of(body: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, data) of server-sent events."""
    found = []
    for block in body.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def text_of(events: list[tuple[str, dict[str, Any]]], **label: str) -> str:
    """What the deltas (of one answer) say."""
    return "".join(d["text"] for name, d in events if name == "delta" and all(d[k] == v for k, v in label.items()))


async def until(condition: Any, seconds: float = 10) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
