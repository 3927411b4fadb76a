"""A server of the API for tests: a scripted engine, or a tiny model, behind the real application."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from chatwright.errors import ConfigError
from chatwright.serve.app import create_app
from chatwright.serve.engine import (
    Delta,
    Engine,
    EngineRegistry,
    EngineStats,
    Event,
    Finished,
    GenerationRequest,
    PromptTooLong,
    Started,
    TokenLogprob,
)
from chatwright.serve.keys import keep_bootstrap_key
from chatwright.serve.settings import ServeConfig
from chatwright.serve.tables import metadata
from chatwright.workspace.database import Workspace

KEY = "cw-test-key-0123456789"
HEADERS = {"authorization": f"Bearer {KEY}"}


@dataclass
class ScriptedEngine:
    """An engine whose tokens are bytes: it gives `answer`, byte by byte, whatever it is asked. Records what it was asked,
    and whether it was left before its end."""

    name: str = "scripted"
    answer: str = "Hello there"
    context_length: int = 2000
    ready: bool = True
    fail_before: Exception | None = None
    """Raised instead of beginning."""
    fail_after: tuple[int, Exception] | None = None
    """(tokens, what happens then)."""
    pause_s: float = 0.0
    """Between two tokens."""
    version: str = "a1b2c3"
    asked: list[GenerationRequest] = field(default_factory=list)
    open: int = 0
    left: int = 0

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        self.asked.append(request)
        if self.fail_before:
            raise self.fail_before
        length = sum(len(m.content.encode()) for m in request.messages) or len(request.prompt)
        if length >= self.context_length:
            raise PromptTooLong(length, self.context_length)
        self.open += 1
        whole = False
        try:
            yield Started(prompt_tokens=length, cached_tokens=1, version=self.version)
            for index in range(request.params.n):
                async for event in self._one(request, index):
                    yield event
            whole = True
        finally:
            self.open -= 1
            self.left += not whole

    async def _one(self, request: GenerationRequest, index: int) -> AsyncIterator[Event]:
        room = min(request.params.max_new_tokens, len(self.answer.encode()))
        held: list[TokenLogprob] = []
        raw = b""
        for number, byte in enumerate(self.answer.encode()[:room]):
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
            if self.fail_after and number == self.fail_after[0]:
                raise self.fail_after[1]
            logprob = -0.1 * (index + 1) - 0.01 * number
            top = ((byte, logprob), (0xE4, -3.5), (0x21, -4.25))[: request.params.top_logprobs]
            held.append(TokenLogprob(id=byte, logprob=logprob, top=top))
            raw += bytes([byte])
            try:
                text = raw.decode()
            except UnicodeDecodeError:
                continue
            yield Delta(index=index, text=text, tokens=tuple(held))
            held, raw = [], b""
        reason: Any = "stop" if room == len(self.answer.encode()) else "length"
        yield Finished(index=index, reason=reason, completion_tokens=room)

    async def score(self, ids: Sequence[int], top: int) -> list[TokenLogprob | None]:
        rest = [TokenLogprob(id=i, logprob=-1.0 / 3 - n, top=((0x61, -0.5),)[:top]) for n, i in enumerate(ids[1:])]
        return [None, *rest]

    async def embed(self, inputs: Sequence[str | Sequence[int]], dimensions: int | None) -> tuple[list[list[float]], int]:
        if (dimensions or 0) > 4:
            raise ConfigError(f"dimensions {dimensions}: the model's embeddings have 4 numbers; ask for 1 to 4")
        return [[1.0 / 3, 0.5, -0.25, float(len(one))][: dimensions or 4] for one in inputs], sum(map(len, inputs))

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])

    def tokenizer_info(self) -> dict[str, Any]:
        return {"eos_token": "<eos>", "bos_token": None, "pad_token": None, "chat_template": "", "vocab_size": 256}

    def stats(self) -> EngineStats:
        return EngineStats(running=self.open)

    async def drain(self, timeout_s: float) -> None:
        self.ready = False


class ApiClient:
    """Calls an application in this process, one request after another, on an event loop of its own."""

    def __init__(self, app: FastAPI, headers: dict[str, str]) -> None:
        self.app = app
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers, timeout=60)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()


def tiny_engine(tokenizer: Any, *, name: str = "tiny", **options: Any) -> Any:
    """A random model of two layers as a local engine."""
    from chatwright.generation.lm import LM
    from chatwright.serve.local_engine import LocalEngine
    from tiny_models import tiny_model

    model = tiny_model("llama", vocab_size=tokenizer.vocab_size, max_positions=options.pop("max_positions", 1024))
    return LocalEngine(name, LM(model, tokenizer), **options)


@contextlib.contextmanager
def app_of(folder: Path, *engines: Engine, **settings: Any) -> Iterator[FastAPI]:
    """The real application over `engines`, with KEY as its API key."""
    with Workspace.open(folder) as workspace:
        metadata().create_all(workspace.engine)
        keep_bootstrap_key(workspace, KEY)
        config = ServeConfig(workspace=str(folder), **settings)
        yield create_app(config, EngineRegistry(*engines), workspace)


@contextlib.contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve `app` by uvicorn on a free port of this machine; gives its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="off", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
