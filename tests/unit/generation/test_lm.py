"""Models by name, folder, run folder and adapter; prompts as text and as messages."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import chatwright
from chatwright.errors import ChatwrightError, CheckpointError, ConfigError, DataError, ModelError
from chatwright.generation.lm import LM, load, load_model, save_model
from chatwright.model.formats.huggingface import save_folder
from chatwright.model.lora import LoraConfig, adapters, inject
from chatwright.records import Message
from chatwright.text.chat import render
from tiny_models import tiny_model


@pytest.fixture
def folder(tokenizer: Any, tmp_path: Path) -> Path:
    """A chat model in Hugging Face layout."""
    save_folder(tiny_model("llama", tokenizer.vocab_size, max_positions=128), tmp_path / "model", tokenizer)
    return tmp_path / "model"


@pytest.fixture
def lm(folder: Path) -> LM:
    return load(folder)


def run_folder(model: Path, tmp_path: Path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text("")
    model.rename(run / "final")
    files = {
        f"final/{file.name}": {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "bytes": file.stat().st_size}
        for file in (run / "final").iterdir()
    }
    (run / "MANIFEST.json").write_text(json.dumps({"files": files}))
    return run


def test_load_is_exported_lazily(folder: Path) -> None:
    lm = chatwright.load(folder)
    assert isinstance(lm, chatwright.LM) and lm.model.embed.weight.dtype == torch.float32 and not lm.model.training
    assert chatwright.load(str(folder), dtype="bfloat16").model.embed.weight.dtype == torch.bfloat16


def test_logits(lm: LM) -> None:
    logits = lm.logits([1, 2, 3])
    assert logits.shape == (3, lm.model.config.vocab_size) and logits.dtype == torch.float32
    torch.testing.assert_close(lm.logits([1, 2]), logits[:2], rtol=1e-5, atol=1e-5)
    lm.model.set_dropout(0.5)
    lm.model.train()
    torch.testing.assert_close(lm.logits([1, 2, 3]), logits)
    assert lm.model.training
    for ids in ([], [1] * 129):
        with pytest.raises(DataError, match=f"{len(ids)} tokens given; the model takes 1 to 128"):
            lm.logits(ids)


def test_texts_messages_and_raw(lm: LM) -> None:
    asked = list(render([Message(role="user", content="Why?")], lm.tokenizer, add_generation_prompt=True).ids)
    assert lm.is_chat
    assert lm.prompt_ids("Why?") == lm.prompt_ids([{"role": "user", "content": "Why?"}]) == asked
    assert lm.prompt_ids([Message(role="user", content="Why?")]) == asked
    assert lm.prompt_ids("Why?", raw=True) == lm.tokenizer.encode("Why?")
    spoken = lm.prompt_ids("Why?", system="Be brief.")
    assert spoken == lm.prompt_ids([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}])
    assert "Be brief." in lm.tokenizer.decode(spoken)
    del lm.tokenizer.config["chat_template"], lm.tokenizer.config["chatwright.template"]
    assert not lm.is_chat and lm.prompt_ids("Why?") == lm.tokenizer.encode("Why?")


def test_generate_gives_completions_in_order(lm: LM) -> None:
    answers = lm.generate(["Why?", "How?"], max_new_tokens=4, n=2, seed=3)
    assert len(answers) == 4
    assert [answer.prompt_ids for answer in answers] == [tuple(lm.prompt_ids(q)) for q in ("Why?", "Why?", "How?", "How?")]
    assert answers == lm.generate(["Why?", "How?"], max_new_tokens=4, n=2, seed=3)
    assert lm.generate("Why?", max_new_tokens=4, n=2, seed=3) == answers[:2]
    assert all(len(a.ids) == len(a.logprobs) and max(a.logprobs) <= 0 for a in answers)


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        ([""], {}, "prompt is empty"),
        (["  \n"], {}, "prompt is empty"),
        ([""], {"raw": True}, "nothing to go on with"),
        ([[]], {}, "messages: is empty"),
        ([[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]], {}, "ends with"),
        ([[{"role": "robot", "content": "a"}]], {}, "robot"),
        ([{"role": "user", "content": "a"}], {}, r"into a list: \[messages\]"),
        ([[{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]], {"system": "c"}, "message of its own"),
        (["long " * 200], {}, r"prompt 1 has \d+ tokens, but the model's context is 128"),
    ],
)  # fmt: skip
def test_bad_prompts(lm: LM, prompts: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ChatwrightError, match=message):
        lm.generate(prompts, **settings)


def test_run_folders_are_checked_against_their_manifest(folder: Path, tmp_path: Path) -> None:
    run = run_folder(folder, tmp_path)
    model, tokenizer = load_model(run)
    again, _ = load_model(run / "final")
    assert torch.equal(model.embed.weight, again.embed.weight) and tokenizer.vocab_size <= model.config.vocab_size
    weights = run / "final" / "model.safetensors"
    whole = bytearray(weights.read_bytes())
    whole[-3] ^= 1
    weights.write_bytes(whole)
    for path in (run, run / "final"):
        with pytest.raises(CheckpointError, match="model.safetensors"):
            load_model(path)
    weights.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        load_model(run)


def test_unfinished_run(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(CheckpointError, match="not finished"):
        load_model(tmp_path)


def test_adapter_folder_names_its_base(folder: Path, tmp_path: Path, tokenizer: Any) -> None:
    model, _ = load_model(folder)
    inject(model, LoraConfig(rank=2, alpha=4))
    with torch.no_grad():
        for _, layer in adapters(model):
            for weight in layer.lora_b_OR.values():
                weight.normal_(generator=torch.Generator().manual_seed(0))
    save_model(model, tmp_path / "adapter", tokenizer, base=str(folder))
    loaded, _ = load_model(tmp_path / "adapter")
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(loaded(ids), model(ids))
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": ""}))
    with pytest.raises(ModelError, match="base_model_name_or_path is empty"):
        load_model(tmp_path / "adapter")


def test_save_model_writes_what_load_model_reads(lm: LM, tmp_path: Path) -> None:
    save_model(lm.model, tmp_path / "copy", lm.tokenizer)
    model, tokenizer = load_model(tmp_path / "copy")
    assert torch.equal(model.logits(model(torch.tensor([[1, 2]]))), lm.model.logits(lm.model(torch.tensor([[1, 2]]))))
    assert tokenizer.fingerprint == lm.tokenizer.fingerprint


def test_files_that_do_not_belong_together(tokenizer: Any, tmp_path: Path) -> None:
    save_folder(tiny_model("llama", 50), tmp_path, None)
    tokenizer.save(tmp_path)
    with pytest.raises(ModelError, match="embedding only 50; these files do not belong together"):
        load_model(tmp_path)


def test_devices_and_dtypes(folder: Path) -> None:
    assert load(folder, dtype="auto", device="cpu").model.embed.weight.dtype in (torch.bfloat16, torch.float32)
    with pytest.raises(ConfigError, match="no such device"):
        load(folder, device="tpu")
    with pytest.raises(ModelError, match="int8"):
        load(folder, dtype="int8")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_model_is_loaded_without_torchs_compiler(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    """Importing it takes longer than everything else between a command and its first token."""
    save_folder(tiny_model(kind, tokenizer.vocab_size), tmp_path, tokenizer)
    code = "import sys, chatwright; chatwright.load(sys.argv[1]).generate('hi', max_new_tokens=2); print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True).stdout
    assert "torch" in said.split() and not {"torch._dynamo", "torch._inductor", "transformers"} & set(said.split())
