"""The API over a scripted engine, and over a tiny model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api_server import HEADERS, ApiClient, ScriptedEngine, app_of, tiny_engine


@pytest.fixture
def engine() -> ScriptedEngine:
    """What answers `client`; a test changes it before it asks."""
    return ScriptedEngine()


@pytest.fixture
def client(engine: ScriptedEngine, tmp_path: Path) -> Iterator[ApiClient]:
    """A client of the real application over `engine`, with its key."""
    with app_of(tmp_path, engine) as app:
        client = ApiClient(app, HEADERS)
        yield client
        client.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Iterator[ApiClient]:
    """A client of the real application over a tiny model."""
    local = tiny_engine(tokenizer)
    with app_of(tmp_path_factory.mktemp("tiny"), local) as app:
        client = ApiClient(app, HEADERS)
        yield client
        client.close()
    asyncio.run(local.drain(0))
