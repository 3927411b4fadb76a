"""Evaluation tools, gateways and front ends of other people against our server (`make check-slow`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_server import KEY, app_of, running
from client_environments import SCRIPTS, Server, python, run

MODEL = "smollm2-135m-instruct"
LM_EVAL, INSPECT = "lm-eval[api]==0.4.13", ("inspect-ai==0.3.285", "openai==3.57.0")
LANGCHAIN, LITELLM, GUIDELLM = "langchain-openai==1.7.4", "litellm==1.110.2", "guidellm==0.8.1"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
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
    script = [python("lm-eval", LM_EVAL), SCRIPTS / "lm_eval_scores.py", real.url, MODEL, tmp_path]
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
    run([python("inspect-ai", *INSPECT), SCRIPTS / "inspect_ai_client.py", server.url, server.key], timeout_s=300)


def test_langchain_openai(server: Server) -> None:
    run([python("langchain-openai", LANGCHAIN), SCRIPTS / "langchain_client.py", server.url, server.key], timeout_s=300)


def test_litellm(server: Server) -> None:
    script = [python("litellm", LITELLM), SCRIPTS / "litellm_client.py", server.url, server.key]
    run(script, timeout_s=300, LITELLM_LOCAL_MODEL_COST_MAP="True")


def test_guidellm(server: Server, tmp_path: Path) -> None:
    """A load of two streams: every request is answered, and the tokens it counts are ours."""
    from chatwright import hub
    from chatwright.model.formats.convert import ensure_hf_folder

    rows = [json.dumps({"prompt": f"Question {n}"}) + "\n" for n in range(6)]
    (tmp_path / "prompts.jsonl").write_text("".join(rows), encoding="utf-8")
    tokenizer = ensure_hf_folder(hub.resolve(MODEL))  # guidellm insists on one
    guidellm = python("guidellm", GUIDELLM).with_name("guidellm")
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
