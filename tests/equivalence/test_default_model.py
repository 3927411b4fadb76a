"""The embedded model, from its GGUF file: transformers reads the same numbers from that file and from our folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from chatwright import hub
from chatwright.model.formats.convert import ensure_hf_folder
from chatwright.model.formats.huggingface import load_folder, save_folder
from chatwright.model.kv_cache import KVCache
from chatwright.text.chat import render
from chatwright.text.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TEXT = "The museum opens at nine. Why do bees make honey? 春眠不觉晓 don't 1234"


@pytest.fixture(scope="module")
def file() -> Path:
    return hub.resolve(hub.DEFAULT)


@torch.no_grad()
def test_logits_equal_transformers_reading_the_gguf_file(file: Path, tmp_path: Path) -> None:
    folder = ensure_hf_folder(file)
    model, tokenizer = load_folder(folder), Tokenizer.from_folder(folder)
    tokens = torch.tensor([tokenizer.encode(TEXT)])
    ours = model.logits(model(tokens))
    for place, kwargs in ((file.parent, {"gguf_file": file.name}), (folder, {})):
        oracle = transformers.AutoModelForCausalLM.from_pretrained(
            place, attn_implementation="eager", dtype=torch.float32, **kwargs
        )
        theirs = oracle.eval()(tokens).logits
        assert theirs.std() > 1
        assert (ours - theirs).abs().max() < 1e-4, kwargs
        del oracle
    save_folder(model, tmp_path, tokenizer, max_shard_bytes=200_000_000)
    oracle = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    assert (oracle(tokens).logits - ours).abs().max() < 1e-4
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == tokenizer.eos_id


@torch.no_grad()
def test_it_answers_in_sentences(file: Path) -> None:
    from chatwright.records import Message

    folder = ensure_hf_folder(file)
    model, tokenizer = load_folder(folder), Tokenizer.from_folder(folder)
    question = [Message(role="user", content="What is gravity?")]
    tokens = torch.tensor([render(question, tokenizer, add_generation_prompt=True).ids])
    cache = KVCache(model.config, 1, 128, torch.float32)
    answer: list[int] = []
    while len(answer) < 24:
        hidden = model(tokens, cache=cache)
        cache.append(tokens.shape[1])
        answer.append(int(model.logits(hidden[0, -1]).argmax()))
        tokens = torch.tensor([answer[-1:]])
    assert tokenizer.decode(answer).startswith("Gravity is a fundamental")
