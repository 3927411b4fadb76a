"""A model that another OpenAI-compatible server runs (vLLM, llama.cpp's server, ours): requests are passed on to it.

Only fields that we know and checked go on; of the client's identity nothing does, and the other server's key never comes
back in a message. That server renders conversations and tools in its model's own way.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from chatwright.config.secrets import variable_for
from chatwright.errors import ConfigError, DataError, UsageError
from chatwright.generation.api import Constraint, SamplingParams
from chatwright.serve.engine import (
    DEADLINE_S,
    Delta,
    EndReason,
    EngineBusy,
    EngineGone,
    EngineStats,
    Event,
    Finished,
    GenerationRequest,
    Started,
    TokenLogprob,
)
from chatwright.serve.openai.errors import APIError

log = logging.getLogger(__name__)
DEFAULT_CONTEXT = 131_072  # of servers that do not tell theirs: they refuse what is too long themselves
MAX_CONNECTIONS = 256
UPSTREAM_KEY = "CHATWRIGHT_UPSTREAM_API_KEY"
_MAX_LINE = 4 * 2**20
_MAX_KNOWN_TOKENS = 1_000_000
_FIRST_ID = 1 << 40  # ids given here never look like a vocabulary's
_FROM_CLIENT = ("messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "structured_outputs")


class UpstreamUnreachable(ConfigError):
    """The other server does not answer, or fails: it may do so later."""


class UpstreamEngine:
    """See `Engine`. What needs the model's tokenizer or forward pass (`score`, `encode`, ...) raises UsageError."""

    takes_raw = True
    """The client's own tools and formats are passed on."""

    def __init__(
        self, name: str, url: str, *, model: str = "", key: str = "", context_length: int = DEFAULT_CONTEXT,
        deadline_s: float = DEADLINE_S,
    ) -> None:  # fmt: skip
        """`url` ends with /v1; `model` is the other server's name for it."""
        self.name, self.context_length, self.deadline_s = name, context_length, deadline_s
        self.version = ""
        """Always empty: answers name it. The last `system_fingerprint` would tell that this server wrote a blind answer."""
        self._url, self._model, self._key = url.rstrip("/"), model or name, key
        self._wanted = model
        self.trouble = ""
        """Why the other server could not be reached when this one started; empty since it was."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=32)
        self._client = httpx.AsyncClient(headers=headers, limits=limits, follow_redirects=False)
        self._names: list[bytes] = []
        self._ids: dict[bytes, int] = {}
        self._closing = False
        self._running = self._prompt_tokens = self._completion_tokens = 0

    @classmethod
    def open(cls, name: str, where: str, *, key: str = "", deadline_s: float = DEADLINE_S) -> UpstreamEngine:
        """Ask the server what it serves. `where` is `url` or `model@url`; the model is `name` by default, or the only one
        that is served there. Raises ConfigError, UpstreamUnreachable."""
        engine = cls._unopened(name, where, key=key, deadline_s=deadline_s)
        engine._find_model()
        return engine

    @classmethod
    def open_or_wait(cls, name: str, where: str, *, key: str = "", deadline_s: float = DEADLINE_S) -> UpstreamEngine:
        """As `open`, but a server that cannot be reached gives an engine that refuses requests until `reconnect` succeeds.
        Raises ConfigError."""
        engine = cls._unopened(name, where, key=key, deadline_s=deadline_s)
        try:
            engine._find_model()
        except UpstreamUnreachable as error:
            log.warning("%s; the server tries again", error)
        return engine

    def reconnect(self) -> bool:
        """Ask the other server again; give whether the engine takes requests. Blocks for 10 s at most."""
        try:
            self._find_model()
        except ConfigError as error:
            log.info("%s", error)
        return not self.trouble

    @classmethod
    def _unopened(cls, name: str, where: str, *, key: str, deadline_s: float) -> UpstreamEngine:
        place = where.rfind("@http")
        wanted, url = (where[:place], where[place + 1 :]) if place > 0 else ("", where)
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"upstream {name}: {url!r} is not an address such as http://127.0.0.1:8001/v1")
        return cls(name, url, model=wanted, key=key, deadline_s=deadline_s)

    def _find_model(self) -> None:
        """Take the model's name and context length from the other server. Raises ConfigError, UpstreamUnreachable."""
        name, url, key = self.name, self._url, self._key
        try:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            answer = httpx.get(f"{url.rstrip('/')}/models", headers=headers, timeout=10)
            answer.raise_for_status()
            rows = {row["id"]: row for row in answer.json()["data"]}
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            reason = self.trouble = _reason(error, name, key)
            kind = UpstreamUnreachable if _may_pass(error) else ConfigError
            raise kind(f"upstream {name}: {url}/models gives no list of models ({reason})") from None
        self.trouble = "the server does not serve this model"
        self._model = _served_model(name, self._wanted, url, list(rows))
        row = rows[self._model]
        meta = row.get("meta") if isinstance(row.get("meta"), dict) else {}
        context = row.get("max_model_len") or row.get("context_length") or meta.get("n_ctx_train")
        self.context_length = context if isinstance(context, int) else DEFAULT_CONTEXT
        self.trouble = ""

    @property
    def upstream(self) -> str:
        """Host of the other server."""
        return httpx.URL(self._url).host

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return not self._closing and not self.trouble

    # ---- answers ---------------------------------------------------------------------------------------

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """See `Engine`. A server that tells the prompt's length only at the end gets a second `Started` then; the two add
        up to it."""
        path, body = self._request(request)
        reader = _Reader(self, request.params.n)
        deadline_s = request.deadline_s or self.deadline_s
        ends_at = time.monotonic() + deadline_s
        async with self._answer(path, body, deadline_s) as response:
            yield Started(prompt_tokens=0)
            try:
                async with asyncio.timeout(None) as limit:
                    limit.reschedule(asyncio.get_running_loop().time() + deadline_s)
                    async for data in _events(response):
                        if (version := fingerprint(data)) and version != reader.version:
                            reader.version = version
                            yield Started(prompt_tokens=0, version=version)
                        for event in reader.take(data):
                            yield event
                        if time.monotonic() > ends_at:
                            reader.late = True
                            break
            except (TimeoutError, httpx.ReadTimeout):
                reader.late = True
            except httpx.HTTPError as error:
                raise self._gone(error) from None
        self._prompt_tokens += reader.prompt_tokens
        for last in reader.close():
            self._completion_tokens += last.completion_tokens if isinstance(last, Finished) else 0
            yield last

    def _request(self, request: GenerationRequest) -> tuple[str, dict[str, Any]]:
        params, raw = request.params, request.raw
        body = {"model": self._model, "stream": True, "stream_options": {"include_usage": True}, **_sampling(params)}
        wants_logprobs = bool(params.top_logprobs or raw.get("logprobs") not in (None, False) or raw.get("best_of"))
        if not request.messages:
            prompt = request.prompt if isinstance(request.prompt, str) else list(request.prompt)
            body["prompt"] = prompt
            return "completions", body | ({"logprobs": max(1, params.top_logprobs)} if wants_logprobs else {})
        body["messages"] = [message.to_dict() for message in request.messages]
        body |= {name: raw[name] for name in _FROM_CLIENT if raw.get(name) is not None}
        return "chat/completions", body | (
            {"logprobs": True, "top_logprobs": params.top_logprobs} if wants_logprobs else {}
        )

    @asynccontextmanager
    async def _answer(self, path: str, body: Mapping[str, Any], deadline_s: float) -> AsyncIterator[httpx.Response]:
        if self._closing:
            raise EngineGone(f"model {self.name}: is being taken out of service")
        if self.trouble:
            raise EngineGone(f"model {self.name}: the server that runs it cannot be reached ({self.trouble})")
        # The deadline itself is watched while the answer comes; this one ends a server that says nothing at all.
        timeout = httpx.Timeout(30.0, connect=5.0, read=deadline_s + 10.0)
        self._running += 1
        try:
            try:
                asked = self._client.build_request("POST", f"{self._url}/{path}", json=body, timeout=timeout)
                response = await self._client.send(asked, stream=True)
            except httpx.HTTPError as error:
                raise self._gone(error) from None
            try:
                if response.status_code != 200:
                    await response.aread()
                    raise self._refusal(response)
                yield response
            finally:
                await response.aclose()
        finally:
            self._running -= 1

    def _gone(self, error: Exception) -> EngineGone:
        log.warning("upstream %s: %s", self.name, type(error).__name__)
        return EngineGone(f"model {self.name}: the server that runs it cannot be reached")

    def _refusal(self, response: httpx.Response) -> Exception:
        """What a refusal means here. Keys and addresses of the other server stay out of it."""
        status, error = response.status_code, _error_of(response)
        message, code = str(error.get("message", ""))[:2000], str(error.get("code") or error.get("type") or "")
        log.warning("upstream %s answered %d", self.name, status)
        if status == 429:
            try:
                wait_s = float(response.headers.get("retry-after", "1"))
            except ValueError:
                wait_s = 1.0
            return EngineBusy(min(max(wait_s, 1.0), 600.0))
        if status in (400, 413, 422):
            too_long = "context" in code or "context length" in message or "context size" in message
            param = error.get("param")
            return APIError(
                400,
                message or f"model {self.name}: the server that runs it refused the request",
                param=param if isinstance(param, str) else None,
                code="context_length_exceeded" if too_long else code or None,
            )
        return EngineGone(f"model {self.name}: the server that runs it failed to answer")

    # ---- the rest --------------------------------------------------------------------------------------

    async def embed(self, inputs: Sequence[str | Sequence[int]], dimensions: int | None) -> tuple[list[list[float]], int]:
        """See `Engine`."""
        given = [one if isinstance(one, str) else list(one) for one in inputs]
        body = {"model": self._model, "input": given, "encoding_format": "float"}
        async with self._answer("embeddings", body | ({"dimensions": dimensions} if dimensions else {}), 60.0) as response:
            try:
                found = json.loads(await response.aread())
                rows = sorted(found["data"], key=lambda row: row["index"])
                vectors = [[float(x) for x in row["embedding"]] for row in rows]
                usage = found.get("usage", {}).get("prompt_tokens", 0)
            except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise self._gone(error) from None
        return vectors, usage if isinstance(usage, int) else 0

    async def score(self, ids: Sequence[int], top: int) -> list[TokenLogprob | None]:
        """Not offered."""
        raise self._elsewhere("echo with logprobs")

    def encode(self, text: str) -> list[int]:
        """Not offered."""
        raise self._elsewhere("tokenizing")

    def decode(self, ids: Sequence[int]) -> str:
        """Not offered."""
        raise self._elsewhere("tokenizing")

    def tokenizer_info(self) -> dict[str, Any]:
        """Not offered."""
        raise self._elsewhere("tokenizing")

    def _elsewhere(self, what: str) -> UsageError:
        return UsageError(f"{what}: model {self.name} runs on another server; ask that one, or serve the model here")

    def token_bytes(self, token_id: int) -> bytes:
        """See `Engine`; ids are those that `token_id` gave out."""
        place = token_id - _FIRST_ID
        return self._names[place] if 0 <= place < len(self._names) else b""

    def token_id(self, text: bytes) -> int:
        """An id for a token that the other server names by its text."""
        if text not in self._ids:
            if len(self._names) >= _MAX_KNOWN_TOKENS:
                raise DataError(f"model {self.name}: its server names more tokens than any vocabulary has")
            self._ids[text] = _FIRST_ID + len(self._names)
            self._names.append(text)
        return self._ids[text]

    def stats(self) -> EngineStats:
        """See `Engine`."""
        return EngineStats(
            running=self._running, prompt_tokens=self._prompt_tokens, completion_tokens=self._completion_tokens
        )

    async def drain(self, timeout_s: float) -> None:
        """See `Engine`."""
        self._closing = True
        ends_at = time.monotonic() + timeout_s
        while self._running and time.monotonic() < ends_at:
            await asyncio.sleep(0.02)
        await self._client.aclose()


def _reason(error: Exception, name: str, key: str) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        hint = f"; {'check' if key else 'set'} {variable_for(UPSTREAM_KEY, name)}" if status in (401, 403) else ""
        return f"status {status}{hint}"
    return type(error).__name__


def _may_pass(error: Exception) -> bool:
    """True when a failure is one of a server that is down, starts, or is busy, and not of a wrong address or key."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (408, 425, 429) or error.response.status_code >= 500
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol)


def _served_model(name: str, wanted: str, url: str, served: Sequence[str]) -> str:
    """The other server's name of the model. Raises ConfigError instead of choosing one of several."""
    model = wanted or (served[0] if len(served) == 1 else name)
    if not served:
        raise ConfigError(f"upstream {name}: the server at {url} serves no model")
    if model not in served:
        listed = ", ".join(served[:10]) + (", ..." if len(served) > 10 else "")
        raise ConfigError(
            f"upstream {name}: the server at {url} does not serve {model!r} but {listed}; "
            f"write --upstream {name}=MODEL@{url}"
        )
    return model


class _Reader:
    """Turns the chunks of one answer into events."""

    def __init__(self, engine: UpstreamEngine, n: int) -> None:
        self._engine, self._n = engine, n
        self._reasons: dict[int, EndReason] = {}
        self._pieces: Counter[int] = Counter()
        self._calls: defaultdict[int, dict[int, dict[str, str]]] = defaultdict(dict)
        self.prompt_tokens = self._cached = self._completion_tokens = self._reasoning_tokens = 0
        self.late = False
        self.version = ""

    def take(self, data: Mapping[str, Any]) -> list[Event]:
        """Events of one chunk. Raises EngineGone for what is no chunk."""
        if data.get("error"):
            raise EngineGone(f"model {self._engine.name}: the server that runs it failed in the middle of an answer")
        try:
            usage = data.get("usage") or {}
            self.prompt_tokens = usage.get("prompt_tokens") or self.prompt_tokens
            self._completion_tokens = usage.get("completion_tokens") or self._completion_tokens
            self._cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or self._cached
            details = usage.get("completion_tokens_details") or {}
            self._reasoning_tokens = int(details.get("reasoning_tokens") or self._reasoning_tokens)
            return [event for choice in data["choices"] for event in self._choice(choice)]
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise EngineGone(f"model {self._engine.name}: the server that runs it does not follow the protocol") from None

    def _choice(self, choice: Mapping[str, Any]) -> list[Event]:
        index, delta = int(choice.get("index", 0)), choice.get("delta") or {}
        if not 0 <= index < self._n:
            raise ValueError(index)
        for call in delta.get("tool_calls") or ():
            known = self._calls[index].setdefault(int(call.get("index", 0)), {"name": "", "arguments": ""})
            for name in known:
                known[name] += (call.get("function") or {}).get(name) or ""
        text = delta.get("content") or choice.get("text") or ""
        reasoning = delta.get("reasoning_content") or delta.get("reasoning") or ""  # DeepSeek and vLLM; OpenRouter, new vLLM
        if not isinstance(reasoning, str):
            raise ValueError(reasoning)
        tokens = self._tokens(choice.get("logprobs") or {})
        events: list[Event] = []
        if reasoning:
            self._pieces[index] += 0 if text or tokens else 1
            events.append(Delta(index=index, text="", reasoning=reasoning))
        if text or tokens:
            self._pieces[index] += len(tokens) or 1
            events.append(Delta(index=index, text=text, tokens=tuple(tokens)))
        if reason := choice.get("finish_reason"):
            self._reasons[index] = reason if reason in ("length", "content_filter") else "stop"
            calls = "\n".join(_call_text(call) for _, call in sorted(self._calls[index].items()))
            events += [Delta(index=index, text=calls)] if calls else []
        return events

    def _tokens(self, logprobs: Mapping[str, Any]) -> list[TokenLogprob]:
        if rows := logprobs.get("content"):
            return [
                TokenLogprob(
                    id=self._id(row), logprob=float(row["logprob"]),
                    top=tuple((self._id(other), float(other["logprob"])) for other in row.get("top_logprobs") or ()),
                )
                for row in rows
            ]  # fmt: skip
        names, values = logprobs.get("tokens") or [], logprobs.get("token_logprobs") or []
        tops = logprobs.get("top_logprobs") or [None] * len(names)
        return [
            TokenLogprob(
                id=self._id({"token": name}), logprob=float(value),
                top=tuple(sorted(((self._id({"token": n}), float(v)) for n, v in (top or {}).items()), key=lambda e: -e[1])),
            )
            for name, value, top in zip(names, values, tops, strict=True)
        ]  # fmt: skip

    def _id(self, row: Mapping[str, Any]) -> int:
        raw, name = row.get("bytes"), row["token"]
        if isinstance(raw, list):
            return self._engine.token_id(bytes(raw))
        if name.startswith("bytes:\\x"):
            return self._engine.token_id(bytes.fromhex(name[6:].replace("\\x", "")))
        return self._engine.token_id(name.encode())

    def close(self) -> list[Event]:
        """What is told at the end: the prompt's length, and every answer's end with its tokens."""
        if self.late and not self._pieces:
            raise EngineBusy(1.0)  # an empty answer would count as one
        if not self.late and len(self._reasons) < self._n:
            raise EngineGone(f"model {self._engine.name}: the server that runs it broke off")
        counts = {index: self._pieces[index] for index in range(self._n)}
        # Chunks are not always tokens; the sum is known.
        if self._completion_tokens:
            counts[self._n - 1] = max(0, self._completion_tokens - sum(counts.values()) + counts[self._n - 1])
        reasoning = min(max(0, self._reasoning_tokens), self._completion_tokens)  # of all answers, like the sum
        started: list[Event] = [Started(prompt_tokens=self.prompt_tokens, cached_tokens=self._cached)]
        return [*(started if self.prompt_tokens else []), *(
            Finished(
                index=index, reason=self._reasons.get(index, "deadline"), completion_tokens=count,
                reasoning_tokens=reasoning if index == self._n - 1 else 0,
            )
            for index, count in counts.items()
        )]  # fmt: skip


def fingerprint(data: Mapping[str, Any]) -> str:
    """The `system_fingerprint` of a reply, cut to what is kept of one; "" where there is none."""
    given = data.get("system_fingerprint")
    return "".join(filter(str.isprintable, given))[:128].strip() if isinstance(given, str) else ""


def _sampling(params: SamplingParams) -> dict[str, Any]:
    """The settings as the protocol names them; neutral ones are left out, as not every server knows all."""
    body: dict[str, Any] = {
        "temperature": params.temperature, "max_tokens": params.max_new_tokens, "n": params.n, "seed": params.seed,
        "top_p": params.top_p,
    }  # fmt: skip
    optional = {
        "top_k": params.top_k, "stop": list(params.stop), "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty, "ignore_eos": params.ignore_eos,
        "logit_bias": {str(token): bias for token, bias in params.logit_bias},
    }  # fmt: skip
    body |= {name: value for name, value in optional.items() if value}
    return body | (_restriction(params.constraint) if params.constraint else {})


def _restriction(constraint: Constraint) -> dict[str, Any]:
    if constraint.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if constraint.kind == "json_schema":
        schema = {"name": "answer", "schema": json.loads(constraint.value), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    if constraint.kind == "script":
        raise UsageError("script: only models that run on this server can be held to a script")
    names = {"regex": "regex", "choice": "choice", "lark": "grammar"}
    value = json.loads(constraint.value) if constraint.kind == "choice" else constraint.value
    return {"structured_outputs": {names[constraint.kind]: value}}


def _call_text(call: Mapping[str, str]) -> str:
    try:
        arguments = json.loads(call["arguments"] or "{}")
    except ValueError:
        arguments = call["arguments"]
    return f"<tool_call>{json.dumps({'name': call['name'], 'arguments': arguments}, ensure_ascii=False)}</tool_call>"


def _error_of(response: httpx.Response) -> dict[str, Any]:
    try:
        body = json.loads(response.content[:_MAX_LINE])
    except (ValueError, RecursionError):
        return {}
    error = body.get("error", body) if isinstance(body, dict) else {}
    return error if isinstance(error, dict) else {}


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON of every event. Raises EngineGone for a line that is none."""
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            return
        try:
            found = json.loads(data) if len(data) < _MAX_LINE else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise EngineGone("the server that runs the model sent something that is not the protocol's")
        yield found
