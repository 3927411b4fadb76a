"""What serve.py and load.py share: servers in processes of their own, and a client that costs little."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

KEY = "cw-benchmark-0123456789"
WORDS = (
    "museum garden river stone bridge winter honey flower moon gravity children window teacher paper colour market ship "
    "island forest music engine letter doctor summer village kitchen mountain planet history science answer question"
).split()


def prompt_of(number: int, words: int = 60) -> str:
    """A text of about `words` tokens that no other number gives."""
    return "A story about a " + " ".join(random.Random(number).choices(WORDS, k=words))


@dataclass(kw_only=True)
class Stream:
    """What one request got."""

    status: int = 0
    first_s: float = 0.0
    """Seconds until the first text."""
    total_s: float = 0.0
    done: bool = False
    """The stream came to its proper end."""
    headers: dict[str, str] = field(default_factory=dict)


def body_of(model: str, prompt: str, tokens: int) -> dict[str, Any]:
    """Exactly `tokens` greedy tokens, streamed."""
    return {
        "model": model, "prompt": prompt, "max_tokens": tokens, "stream": True, "ignore_eos": True, "temperature": 0,
    }  # fmt: skip


async def events(port: int, body: dict[str, Any], out: Stream) -> AsyncIterator[dict[str, Any]]:
    """The events of one streamed completion, by bare sockets: a client library would take the server's processor time."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        data = json.dumps(body).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        writer.write(head.encode() + data)
        out.status = int((await reader.readline()).split()[1])
        while line := (await reader.readline()).strip():
            name, _, value = line.decode().partition(":")
            out.headers[name.lower()] = value.strip()
        while line := await reader.readline():
            if line.startswith(b"data: [DONE]"):
                out.done = True
                break
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                if not out.first_s and event.get("choices") and event["choices"][0].get("text"):
                    out.first_s = time.perf_counter() - began
                yield event
    finally:
        out.total_s = time.perf_counter() - began
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def read(port: int, body: dict[str, Any], seconds: float = 120) -> Stream:
    """One request to its end, or as far as it came in this time."""
    out = Stream()
    try:
        async with asyncio.timeout(seconds):
            async for _ in events(port, body, out):
                pass
    except OSError:  # a timeout is one too
        out.done = False
    return out


@contextlib.contextmanager
def process(command: list[str], pattern: str, **env: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server in a process of its own, and the port that its output names by `pattern`."""
    with tempfile.TemporaryFile() as log:
        running = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | env)
        try:
            ends_at = time.monotonic() + 300
            while True:
                log.seek(0)
                said = log.read().decode(errors="replace")
                if found := re.search(pattern, said):
                    yield running, int(found[1])
                    return
                if running.poll() is not None or time.monotonic() > ends_at:
                    raise RuntimeError(f"{command[0]} did not start:\n{said[-2000:]}")
                time.sleep(0.02)
        finally:
            running.terminate()
            try:
                running.wait(30)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


@contextlib.contextmanager
def chatwright_server(model: str, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`chatwright serve`, ready."""
    with tempfile.TemporaryDirectory() as workspace:
        command = [sys.executable, "-m", "chatwright", "serve", "--model", model, "--port", "0", "--workspace", workspace]
        with process([*command, *options], r"http://127\.0\.0\.1:(\d+)", CHATWRIGHT_API_KEY=KEY) as (running, port):
            wait_until_ready(port)
            yield running, port


def wait_until_ready(port: int, path: str = "/ready", seconds: float = 300, pause_s: float = 0.1) -> None:
    """Until a GET of `path` answers 200."""
    ends_at = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
                return
        except OSError:
            if time.monotonic() > ends_at:
                raise
            time.sleep(pause_s)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
