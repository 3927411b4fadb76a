"""A client that goes away frees its place, whether it streamed or not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api_server import HEADERS, ScriptedEngine, app_of, running


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[ScriptedEngine, str]]:
    """An engine that takes a minute, behind a real server."""
    engine = ScriptedEngine(answer="x" * 600, pause_s=0.1)
    with app_of(tmp_path, engine) as app, running(app) as url:
        yield engine, url


def until(condition: Any, timeout_s: float = 10.0) -> float:
    """Seconds until `condition` holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, "never happened"
        time.sleep(0.005)
    return time.monotonic() - began


BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 600},
    "completions": {"prompt": ["x", "y"], "max_tokens": 600},
    "responses": {"input": "x"},
}


@pytest.mark.parametrize("path", BODIES)
def test_stream_that_is_left(slow: tuple[ScriptedEngine, str], path: str) -> None:
    engine, url = slow
    with httpx.stream("POST", f"{url}/v1/{path}", json={**BODIES[path], "stream": True}, headers=HEADERS) as answer:
        parts = answer.iter_text()
        next(parts)
        assert engine.open == len(BODIES[path].get("prompt", "x"))
    assert until(lambda: engine.open == 0) < 1.0
    assert engine.left == len(engine.asked)


@pytest.mark.parametrize("path", BODIES)
def test_whole_answer_that_is_not_waited_for(slow: tuple[ScriptedEngine, str], path: str) -> None:
    engine, url = slow
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/{path}", json=BODIES[path], headers=HEADERS, timeout=0.5)
    until(lambda: engine.asked)
    assert until(lambda: engine.open == 0) < 1.0
    assert engine.left == len(engine.asked)
