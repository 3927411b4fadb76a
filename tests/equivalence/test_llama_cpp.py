"""GGUF against llama.cpp itself: the same log-probabilities, the same token ids, the same greedy text.

llama.cpp comes with PyPI's `xllamacpp`, in an environment of its own that is made once and kept in the cache.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from chatwright import hub
from chatwright.model.formats.convert import ensure_hf_folder
from chatwright.model.formats.gguf_write import write_gguf
from chatwright.model.formats.huggingface import load_folder
from chatwright.model.kv_cache import KVCache
from chatwright.model.transformer import Transformer
from chatwright.text.chat import render
from chatwright.text.tokenizer import Tokenizer
from client_environments import python
from conftest import CHATML_TOKENS, byte_level_json, chatml_config, sentencepiece_json
from tiny_models import KINDS, SPLITTERS, tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.clients, pytest.mark.timeout(600)]
TEXTS = [
    "The museum opens at nine. Why do bees make honey?",
    "don't  stop\n\n\n 1234567 naïve café   \t x  ",
    "春眠不觉晓，处处闻啼鸟。🍎🍏 ¿Qué? don't I'LL we've",
    " leading blank\n\nuser: <b>markup</b> a_b 3.14e-10\r\n\r\nend",
    "x" * 50 + " \n \n  y  z",
]


def ask(file: Path, texts: list[str], tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """Answers of llama.cpp (see llama_cpp_oracle.py)."""
    script = Path(__file__).with_name("llama_cpp_oracle.py")
    done = subprocess.run(
        [python("llama-cpp"), str(script), str(file)],
        input=json.dumps({"tokenize": texts, "complete": tasks}),
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    assert lines, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(lines[-1].removeprefix("ANSWER"))
    return answer


@torch.no_grad()
def greedy(model: Transformer, ids: list[int], num_new: int) -> tuple[list[int], list[torch.Tensor]]:
    """Our greedy continuation and the log-probabilities at each step."""
    cache = KVCache(model.config, 1, len(ids) + num_new + 1, torch.float32)
    tokens, out, logprobs = torch.tensor([ids]), [], []
    for _ in range(num_new):
        hidden = model(tokens, cache=cache)
        cache.append(tokens.shape[1])
        logprobs.append(model.logits(hidden[0, -1]).log_softmax(-1))
        out.append(int(logprobs[-1].argmax()))
        tokens = torch.tensor([[out[-1]]])
    return out, logprobs


def compare(model: Transformer, answer: dict[str, Any], tasks: list[dict[str, Any]], tolerance: float) -> None:
    """Greedy ids of every task, and log-probabilities of the first step (the server leaves them out where the
    token ends inside a character)."""
    compared = 0
    for task, theirs in zip(tasks, answer["completions"], strict=True):
        ids, logprobs = greedy(model, task["ids"], task["max_tokens"])
        assert theirs["ids"] == ids[: len(theirs["ids"])]
        if theirs["top"]:
            compared += 1
            for token_id, logprob in theirs["top"]:
                assert abs(logprob - float(logprobs[0][token_id])) < tolerance, token_id
    assert compared >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_computes_what_we_compute(kind: str, tmp_path: Path) -> None:
    if kind == "gemma3":
        special = ["<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"]
        config = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
        tokenizer = Tokenizer.from_json(sentencepiece_json(special, prefix=False), config)
    else:
        tokenizer = Tokenizer.from_json(byte_level_json(CHATML_TOKENS), chatml_config())
    model = tiny_model(kind, tokenizer.vocab_size)
    tokenizer.save(tmp_path)
    write_gguf(model, tmp_path / "model.gguf", tmp_path, "f32", name=kind)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(4, tokenizer.vocab_size, (12, 30), generator=generator).tolist()
    tasks = [{"ids": ids[: 30 - 2 * n], "max_tokens": 6, "top": 20} for n, ids in enumerate(prompts)]
    answer = ask(tmp_path / "model.gguf", TEXTS if kind != "gemma3" else [], tasks)
    table = model.config.mlp != "swiglu"  # llama.cpp looks GELU up in a table of f16
    compare(model, answer, tasks, tolerance=5e-3 if table else 1e-4)
    for text, ids in zip(TEXTS, answer["tokens"], strict=False):
        assert ids == tokenizer.encode(text)


@pytest.mark.parametrize("pre", SPLITTERS)
def test_splitting_rules_have_the_names_llama_cpp_knows_them_by(pre: str, tmp_path: Path) -> None:
    data = json.loads(byte_level_json(CHATML_TOKENS, merges=400)) | {"pre_tokenizer": SPLITTERS[pre]}
    tokenizer = Tokenizer.from_json(json.dumps(data), chatml_config())
    tokenizer.save(tmp_path)
    write_gguf(tiny_model("llama", tokenizer.vocab_size), tmp_path / "m.gguf", tmp_path, "q8_0", name=pre)
    answer = ask(tmp_path / "m.gguf", TEXTS, [])
    assert answer["tokens"] == [tokenizer.encode(text) for text in TEXTS]


def test_default_model_there_and_back(tmp_path: Path) -> None:
    """SmolLM2 -> fp32 folder -> GGUF in f32 -> llama.cpp: equal ids, log-probabilities and greedy text."""
    folder = ensure_hf_folder(hub.resolve(hub.DEFAULT))
    model, tokenizer = load_folder(folder), Tokenizer.from_folder(folder)
    file = tmp_path / "smollm2.gguf"
    write_gguf(model, file, folder, "f32", name="SmolLM2")
    ids = list(render([_user("What is gravity?")], tokenizer, add_generation_prompt=True).ids)
    tasks = [{"ids": ids, "max_tokens": 48, "top": 10}, {"ids": [504, 7665], "max_tokens": 24, "top": 10}]
    tasks += [{"ids": ids[:n], "max_tokens": 1, "top": 10} for n in (1, 9, 20)]
    answer = ask(file, TEXTS, tasks)
    compare(model, answer, tasks, tolerance=2e-3)
    for text, theirs in zip(TEXTS, answer["tokens"], strict=True):
        assert theirs == tokenizer.encode(text)


def _user(text: str) -> Any:
    from chatwright.records import Message

    return Message(role="user", content=text)


@pytest.mark.parametrize("name", [hub.DEFAULT, "qwen2.5-coder-0.5b-instruct", "gemma-3-270m"])
def test_tokenizers_from_gguf_split_as_llama_cpp_does(name: str) -> None:
    if name != hub.DEFAULT and not hub.is_cached(name):
        pytest.skip(f"{name} is opt-in: `chatwright models pull {name}` first")
    file = hub.resolve(name)
    tokenizer = Tokenizer.from_folder(ensure_hf_folder(file))
    answer = ask(file, TEXTS, [])
    for text, theirs in zip(TEXTS, answer["tokens"], strict=True):
        assert theirs == tokenizer.encode(text), text
