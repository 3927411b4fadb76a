"""Evaluation tools, gateways and front ends of other people against our server (`make check-slow`)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api_server import KEY, app_of, running
from client_environments import SCRIPTS, Server, python, run

MODEL = "smollm2-135m-instruct"
pytestmark = [pytest.mark.slow, pytest.mark.clients, pytest.mark.timeout(1200)]
CHOICES = """task: local_choice
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc}]
"""
TEXTS = """task: local_text
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}]
"""
QUESTIONS = [
    {"question": "What do bees make?", "choices": [" honey", " iron", " the moon"], "answer": 0},
    {"question": "What is the capital of France?", "choices": [" Berlin", " Paris", " Rome, of course"], "answer": 1},
    {"question": "苹果是什么颜色的？", "choices": [" 红色", " 蓝色", " 🍎"], "answer": 0},
    {"question": "2 + 2 =", "choices": [" 5", " 4"], "answer": 1},
]
DOCUMENTS = ["The museum opens at nine and closes at five.", "春眠不觉晓，处处闻啼鸟。", "Gravity pulls things down. " * 20]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The 135M model in fp32."""
    from chatwright.serve.local_engine import LocalEngine

    engine = LocalEngine.open(MODEL, precision="fp32")
    with app_of(tmp_path_factory.mktemp("real"), engine) as app, running(app) as url:
        yield Server(url, KEY, app)
    asyncio.run(engine.drain(0))


def _transformers_scores(pairs: list[tuple[list[int], int]]) -> list[float]:
    """Sum of the log-probabilities of ids[start:] under transformers' model, in fp32."""
    import torch
    from transformers import AutoModelForCausalLM

    from chatwright import hub
    from chatwright.model.formats.convert import ensure_hf_folder

    model = AutoModelForCausalLM.from_pretrained(ensure_hf_folder(hub.resolve(MODEL)), dtype=torch.float32).eval()
    sums = []
    for ids, start in pairs:
        with torch.inference_mode():
            logprob_TV = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        sums.append(sum(float(logprob_TV[at - 1, ids[at]]) for at in range(start, len(ids))))
    return sums


def test_lm_eval_scores_equal_ours_and_transformers(real: Server, tmp_path: Path) -> None:
    from chatwright.generation.score import score_tokens

    for name, text, rows in (
        ("choice", CHOICES, QUESTIONS),
        ("text", TEXTS, [{"text": text} for text in DOCUMENTS]),
    ):
        data = tmp_path / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (tmp_path / f"{name}.yaml").write_text(text % data, encoding="utf-8")
    env = {
        "OPENAI_API_KEY": real.key, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"),
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    script = [python("lm-eval"), SCRIPTS / "lm_eval_scores.py", real.url, MODEL, tmp_path]
    printed = run(script, timeout_s=900, **env)
    found = json.loads(printed.rpartition("RESULT ")[2])
    lm = real.app.state.services.registry.get().lm
    pairs = []
    for context, continuation, value, greedy in found["choices"]:
        ids, start = lm.tokenizer.encode(context + continuation), len(lm.tokenizer.encode(context))
        scored = score_tokens(lm.model, ids, 1)
        assert value == pytest.approx(sum(row[0] for row in scored[start:]), abs=1e-6)
        assert greedy == all(row[0] == row[1][0][1] for row in scored[start:])
        pairs.append((ids, start))
    assert len(pairs) == 11
    theirs = _transformers_scores(pairs)
    assert [row[2] for row in found["choices"]] == pytest.approx(theirs, abs=1e-4)
    assert len(found["texts"]) == len(DOCUMENTS) and all(value < 0 for _, value in found["texts"])


def test_inspect_ai(server: Server) -> None:
    run([python("inspect-ai"), SCRIPTS / "inspect_ai_client.py", server.url, server.key], timeout_s=300)


def test_langchain_openai(server: Server) -> None:
    run([python("langchain-openai"), SCRIPTS / "langchain_client.py", server.url, server.key], timeout_s=300)


def test_litellm(server: Server) -> None:
    script = [python("litellm"), SCRIPTS / "litellm_client.py", server.url, server.key]
    run(script, timeout_s=300, LITELLM_LOCAL_MODEL_COST_MAP="True")


def test_guidellm(server: Server, tmp_path: Path) -> None:
    """A load of two streams: every request is answered, and the tokens it counts are ours."""
    from chatwright import hub
    from chatwright.model.formats.convert import ensure_hf_folder

    rows = [json.dumps({"prompt": f"Question {n}"}) + "\n" for n in range(6)]
    (tmp_path / "prompts.jsonl").write_text("".join(rows), encoding="utf-8")
    tokenizer = ensure_hf_folder(hub.resolve(MODEL))  # guidellm insists on one
    guidellm = python("guidellm").with_name("guidellm")
    options = {
        "--backend": f"kind=openai_http,target={server.url},model=scripted,api_key={server.key}",
        "--profile": "kind=concurrent,streams=2", "--constraint": "kind=max_requests,count=6",
        "--tokenizer": f"kind=huggingface_auto,model={tokenizer}",
        "--data": f"kind=json_file,path={tmp_path / 'prompts.jsonl'}",
        "--output": f"kind=json,path={tmp_path / 'report.json'}",
    }  # fmt: skip
    flat = [part for option in options.items() for part in option]
    run([guidellm, "run", *flat, "--disable-progress"], timeout_s=600, HF_HUB_OFFLINE="1")
    (benchmark,) = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["benchmarks"]
    done = benchmark["requests"]
    assert len(done["successful"]) == 6 and not done["errored"]
    assert {request["output_metrics"]["text_tokens"] for request in done["successful"]} == {11}


def test_garak(server: Server, tmp_path: Path) -> None:
    """Its test probe: every prompt gets as many answers as it asked for."""
    garak = python("garak").with_name("garak")
    generator = {"openai": {"OpenAICompatible": {"uri": f"{server.url}/v1", "max_tokens": 20}}}
    probe = ["--target_type", "openai.OpenAICompatible", "--target_name", "scripted", "--probes", "test.Test"]
    options = ["--generations", "2", "--generator_options", json.dumps(generator), "--report_prefix", str(tmp_path / "run")]
    env = {"OPENAICOMPATIBLE_API_KEY": server.key, "HF_HUB_OFFLINE": "1", "XDG_DATA_HOME": str(tmp_path)}
    run([garak, *probe, *options], timeout_s=600, **env)
    rows = [json.loads(line) for line in (tmp_path / "run.report.jsonl").read_text(encoding="utf-8").splitlines()]
    attempts = [row for row in rows if row["entry_type"] == "attempt" and row["status"] == 2]  # judged
    assert len(attempts) == 8
    assert all([output["text"] for output in row["outputs"]] == ["Hello there"] * 2 for row in attempts)


def test_open_webui(server: Server, tmp_path: Path) -> None:
    """The whole application, with our server as its only connection: it lists our models and passes a chat through."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | {
        "DATA_DIR": str(tmp_path), "WEBUI_AUTH": "False", "WEBUI_SECRET_KEY": "x", "ENABLE_OLLAMA_API": "False",
        "OPENAI_API_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": server.key, "RAG_EMBEDDING_ENGINE": "openai",
        "HF_HUB_OFFLINE": "1", "OFFLINE_MODE": "True",
    }  # fmt: skip
    program = python("open-webui").with_name("open-webui")
    with (tmp_path / "log").open("w") as log:
        command = [program, "serve", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_for(client, process, tmp_path / "log")
            token = client.post("/api/v1/auths/signin", json={"email": "", "password": ""}).json()["token"]
            client.headers["authorization"] = f"Bearer {token}"
            names = [model["id"] for model in client.get("/api/models").json()["data"]]
            assert set(names) >= {"tiny", "scripted", "caller", "json"}
            body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
            whole = client.post("/api/chat/completions", json={**body, "stream": False}).json()
            assert whole["choices"][0]["message"]["content"] == "Hello there" and whole["usage"]["total_tokens"] == 13
            streamed = client.post("/api/chat/completions", json={**body, "stream": True}).text
            chunks = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
            assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == "Hello there"
    finally:
        process.terminate()
        process.wait(60)


def _wait_for(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 300:
        assert process.poll() is None, log.read_text(errors="replace")[-4000:]
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(1)
    raise AssertionError("open-webui did not start")
