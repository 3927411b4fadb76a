"""A server with a tiny model and a scripted one, for clients that live in other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from api_server import KEY, ScriptedEngine, app_of, running, tiny_engine
from client_environments import Server


def scripted_engines() -> list[ScriptedEngine]:
    call = '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'
    answers = {"scripted": "Hello there", "caller": call, "json": '{"city": "Paris"}'}
    return [ScriptedEngine(name=name, answer=answer) for name, answer in answers.items()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Iterator[Server]:
    """Shared by the clients of one file."""
    tiny = tiny_engine(tokenizer, max_positions=2048)
    with app_of(tmp_path_factory.mktemp("server"), tiny, *scripted_engines()) as app, running(app) as url:
        yield Server(url, KEY, app)
    asyncio.run(tiny.drain(0))
