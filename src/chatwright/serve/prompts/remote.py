"""Answers of a model behind an OpenAI-compatible server, for prompt tests of models that this machine does not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from chatwright.errors import ChatwrightError, ConfigError
from chatwright.retries import TransientError, may_pass, retry_after_s, with_retries
from chatwright.serve.prompts.suite import Suite
from chatwright.serve.prompts.testing import Answer, Answerer

KEY = "CHATWRIGHT_UPSTREAM_API_KEY"
PARALLEL = 4
TRIES = 4
TIMEOUT_S = 120.0


class RemoteError(ChatwrightError):
    """The server does not answer, or not as an OpenAI-compatible one does."""


def remote_answerer(name: str, url: str, suite: Suite, *, key: str = "", wait_s: float = 1.0) -> Answerer:
    """Asks `url`/chat/completions, every sample with a seed of its own. Raises ConfigError, RemoteError.

    `wait_s`: seconds before the first new try after 429, 5xx or no connection; doubles each time.
    """
    address = f"{url.rstrip('/')}/chat/completions"
    if httpx.URL(address).scheme not in ("http", "https"):
        raise ConfigError(f"--model {name}={url}: is not an address such as http://127.0.0.1:8001/v1")
    drawn = suite.settings
    client = httpx.Client(timeout=TIMEOUT_S, headers={"authorization": f"Bearer {key}"} if key else {})

    def one(conversation: Sequence[Mapping[str, str]], sample: int) -> Answer:
        body = {
            "model": name, "messages": [dict(message) for message in conversation], "max_tokens": drawn.max_new_tokens,
            "temperature": drawn.temperature, "seed": drawn.seed + sample,
        }  # fmt: skip
        reply = _asked(client, address, body, wait_s)
        try:
            choice = reply["choices"][0]
            return Answer(text=choice["message"]["content"] or "", finished=choice["finish_reason"] == "stop")
        except (KeyError, IndexError, TypeError) as error:
            raise RemoteError(f"{address}: the reply is not a chat completion; is this an OpenAI-compatible API?") from error

    def answer(conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[list[Answer]]:
        wanted = [(c, sample) for c in conversations for sample in range(drawn.samples)]
        with ThreadPoolExecutor(PARALLEL) as pool:
            found = list(pool.map(lambda pair: one(*pair), wanted))
        return [found[at : at + drawn.samples] for at in range(0, len(found), drawn.samples)]

    return answer


def _asked(client: httpx.Client, address: str, body: Mapping[str, Any], wait_s: float) -> Any:
    def once() -> httpx.Response:
        try:
            answer = client.post(address, json=body)
        except httpx.HTTPError as error:
            raise TransientError(f"no answer ({type(error).__name__})") from error
        if may_pass(answer.status_code):
            raise TransientError(f"status {answer.status_code}: {answer.text[:200]}", retry_after_s(answer.headers))
        return answer

    try:
        answer = with_retries(once, retries=TRIES - 1, wait_s=wait_s)
    except TransientError as error:
        raise RemoteError(f"{address}: {error}. Check the model's name, the address and {KEY}.") from error
    if not answer.is_success:
        detail = f"status {answer.status_code}: {answer.text[:200]}"
        raise RemoteError(f"{address}: {detail} Check the model's name, the address and {KEY}.")
    try:
        return answer.json()
    except ValueError as error:
        raise RemoteError(f"{address}: the reply is not JSON") from error
