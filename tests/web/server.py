"""The real server with models that answer by a script, for tests of the web app in a browser. Prints its address and the
first administrator's secret as one line of JSON, and serves until its input ends, so that none outlives its test.

What a model answers depends on the question: `echo: ...` is answered with what follows, `bytes: ...` too and one token a
byte, `slow ...` takes some seconds, `markdown` shows everything that can be formatted, `fail ...` fails, the questions of
the documentation's pictures have answers of their own; anything else is answered with the model's name and the question.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn

from chat_server import ScriptedEngine
from chatwright.serve.app import create_app
from chatwright.serve.desk import models
from chatwright.serve.engine import (
    Delta,
    EngineGone,
    EngineRegistry,
    Event,
    Finished,
    GenerationRequest,
    Started,
    TokenLogprob,
)
from chatwright.serve.settings import ServeConfig
from chatwright.serve.tables import metadata
from chatwright.serve.users import first_admin_link
from chatwright.workspace.database import Workspace
from chatwright.workspace.migrations import prepare

MARKDOWN = """## Why the sky is blue

Air scatters **short waves** far more than long ones, as *Rayleigh* found:

$$
I \\propto \\frac{1}{\\lambda^4}
$$

So with \\(\\lambda\\) halved, sixteen times as much light is scattered.

1. Blue light reaches us from everywhere.
2. Red light goes straight on.

| colour | wavelength |
|---|---|
| blue | 450 nm |
| red | 700 nm |

```python
def scattered(wavelength: float) -> float:
    # relative to green light
    return (550 / wavelength) ** 4
```

See [the article](https://example.org/rayleigh) and ![a picture](https://example.org/sky.png).
"""


# For docs/screenshots: by how a question begins, what alpha answers and what the other models answer.
PICTURED = {
    "What is 3457 * 43216?": ("3457 × 43216 = 149397712.", "I would have to guess."),
    "Explain why the sky is blue.": (MARKDOWN, MARKDOWN),
    "In two sentences: why is the sky blue?": (
        "Sunlight holds all colours, and the air scatters short waves, which we see as blue, far more than long ones. So "
        "blue light reaches our eyes from every part of the sky, while the rest goes straight on.",
        "Because it mirrors the sea.",
    ),
    "天空为什么是蓝色的？": (
        "阳光包含各种颜色的光。空气分子对**短波**（蓝光）的散射远强于长波，所以蓝光从四面八方进入我们的眼睛。\n\n"
        "日落时光线穿过的空气更厚，蓝光已被散射掉，留下的便是红光。",
        "因为天空反射了海洋的颜色，海是蓝色的，所以天空看起来也是蓝色的。",
    ),
}


class WordEngine(ScriptedEngine):
    """Every word is a token; ids are given out as words appear. `voice`: what it calls itself."""

    def __init__(self, name: str, voice: str = "") -> None:
        super().__init__(name)
        self.voice = voice or name
        self.words: list[str] = []

    def _id(self, word: str) -> int:
        if word not in self.words:
            self.words.append(word)
        return self.words.index(word)

    def token_bytes(self, token_id: int) -> bytes:
        word = self.words[token_id]
        return bytes([int(word[5:], 16)]) if re.fullmatch(r"byte [0-9a-f]{2}", word) else word.encode()

    def _token(self, word: str, place: int) -> TokenLogprob:
        likely = (-0.02, -0.4, -0.9, -1.8, -2.9)[place % 5]
        words = enumerate(("maybe", "violet", "也许"))
        others = tuple((self._id(f" {other}"), likely - 0.7 - rank) for rank, other in words)
        return TokenLogprob(id=self._id(word), logprob=likely, top=((self._id(word), likely), *others))

    def _byte_token(self, byte: int) -> TokenLogprob:
        known, other = self._id(f"byte {byte:02x}"), self._id(f"byte {byte ^ 1:02x}")
        return TokenLogprob(id=known, logprob=-0.2, top=((known, -0.2), (other, -2.0)))

    def _answer(self, request: GenerationRequest) -> str:
        question = request.messages[-1].content
        if request.answer_prefix:
            return " and so it goes on."
        for begun, answers in PICTURED.items():
            if question.startswith(begun):
                return answers[self.name != "alpha"]
        if question.startswith(("echo: ", "bytes: ")):
            return question.partition(": ")[2]
        if question.startswith("markdown"):
            return MARKDOWN
        if question.startswith("slow"):
            return " ".join(f"word{number}" for number in range(200))
        return f"{'I am a model.' if question.startswith('blind') else self.voice} heard: {question}"

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        self.running += 1
        try:
            dropped = 2 if request.messages[-1].content.startswith("long") else 0
            yield Started(prompt_tokens=len(request.messages), dropped_messages=dropped, version=self.version)
            if request.messages[-1].content.startswith("fail"):
                raise EngineGone("the model is not running; it is being replaced or shut down")
            if request.messages[-1].content.startswith("bytes: "):
                for character in (answer := self._answer(request)):
                    yield Delta(index=0, text=character, tokens=tuple(map(self._byte_token, character.encode())))
                yield Finished(index=0, reason="stop", completion_tokens=len(answer.encode()))
                return
            words = re.findall(r"\s*\S+|\s+$", self._answer(request))
            for place, word in enumerate(words):
                await asyncio.sleep(0.04 if len(words) == 200 else 0.002)
                yield Delta(index=0, text=word, tokens=(self._token(word, place),))
            yield Finished(index=0, reason="stop", completion_tokens=len(words))
        finally:
            self.running -= 1


def open_folder(settings: ServeConfig, name: str, path: str) -> WordEngine:
    """In place of `desk.models.open_folder`: the folders of these tests hold a manifest and no weights."""
    return WordEngine(name, Path(path).name)


def main(folder: str = "", port: str = "0") -> None:
    """Serve on a port of this machine, a free one unless told: a test that kills the server starts it again where it was."""
    metadata()
    models.open_folder = open_folder  # type: ignore[assignment]
    with (
        tempfile.TemporaryDirectory() as scratch, Workspace.open(folder or scratch) as workspace, socket.socket() as listener
    ):  # fmt: skip
        prepare(workspace)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", int(port)))
        # beta counts as another server's: nothing can be promoted to its name.
        settings = ServeConfig(workspace=folder or scratch, model=("alpha=alpha",))
        app = create_app(settings, EngineRegistry(WordEngine("alpha"), WordEngine("beta")), workspace)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1))

        def wait_for_end() -> None:
            sys.stdin.read()
            server.should_exit = True

        threading.Thread(target=wait_for_end, daemon=True).start()
        told = {"origin": f"http://127.0.0.1:{listener.getsockname()[1]}", "token": first_admin_link(workspace)}
        print(json.dumps(told), flush=True)
        listener.listen(128)
        server.run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
