"""Hugging Face folders: everything that does not fit is an error naming file and tensor or key."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from chatwright.errors import ModelError
from chatwright.model.formats.hf_config import SUPPORTED, config_from_hf, config_to_hf
from chatwright.model.formats.huggingface import as_dtype, load_folder, read_config, save_folder
from chatwright.text.tokenizer import Tokenizer
from conftest import CHATML_TOKENS, byte_level_json, chatml_config
from tiny_models import KINDS, tiny_config, tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_folder(tiny_model("qwen2"), tmp_path)
    return tmp_path


def edit_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_config_survives_the_round_trip(kind: str) -> None:
    config = tiny_config(kind)
    raw = json.loads(json.dumps(config_to_hf(config)))
    assert config_from_hf(raw) == config
    assert raw["architectures"][0].endswith(("ForCausalLM", "LMHeadModel"))


def test_unsupported_models_name_the_supported_ones() -> None:
    for kind in ("mixtral", None, 5):
        with pytest.raises(ModelError, match=rf"{kind!r} is not supported; supported are {', '.join(SUPPORTED)}"):
            config_from_hf({"model_type": kind})
    with pytest.raises(ModelError, match="auto_map asks to run code"):
        config_from_hf({"model_type": "llama", "auto_map": {"AutoModel": "evil.Model"}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling: type 'yarn'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling: type 'dynamic'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 4.0}}, "rope_scaling: llama3 needs.*low_freq_factor"),
        ({"rope_scaling": "linear"}, "rope_scaling: 'linear' is not an object"),
        ({"hidden_act": "relu"}, "activation 'relu'"),
        ({"attention_bias": True}, "attention_bias: True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"hidden_size": "32"}, "hidden_size: '32' is not a positive whole number"),
        ({"hidden_size": None}, "hidden_size: None"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: 0"),
        ({"rms_norm_eps": -1}, "rms_norm_eps: -1"),
        ({"num_key_value_heads": 3}, "num_heads 4 is not a multiple of num_kv_heads 3"),
        ({"head_dim": 7}, "head_dim 7 must be even"),
        ({"use_sliding_window": True, "layer_types": ["full_attention"]}, "layer_types: want 2"),
        ({"use_sliding_window": True, "layer_types": ["chunked", "chunked"]}, "layer_types: want 2"),
        ({"vocab_size": 65}, r"'model.embed_tokens.weight' is \[64, 32\].*asks for \[65, 32\]"),
        ({"intermediate_size": 32}, "mlp.gate_proj.weight"),
        ({"num_hidden_layers": 3}, "'model.layers.2"),
        ({"num_hidden_layers": 1}, "'model.layers.1.*belongs to no part"),
        ({"tie_word_embeddings": False}, "missing, the first is 'lm_head.weight'"),
        ({"model_type": "llama"}, "_proj.bias' belongs to no part of a llama"),
    ],
)
def test_bad_configs_name_file_and_key(change: dict[str, Any], words: str, folder: Path) -> None:
    edit_config(folder, **change)
    with pytest.raises(ModelError, match=words) as caught:
        load_folder(folder)
    assert str(folder) in str(caught.value) or "num_heads" in words or "head_dim" in words


def test_missing_extra_and_wrong_tensors_are_named(folder: Path) -> None:
    name = "model.layers.1.self_attn.k_proj.bias"
    whole = (folder / "model.safetensors").read_bytes()
    for change, words in (
        (lambda t: t.pop(name), f"1 tensors are missing, the first is '{name}'"),
        (lambda t: t.update(extra=torch.zeros(1)), "model.safetensors: tensor 'extra' belongs to no part of a qwen2"),
        (lambda t: t.update({name: torch.zeros(3)}), rf"model.safetensors: tensor '{name}' is \[3\]"),
        (lambda t: t.update({name: torch.zeros(16, dtype=torch.int8)}), f"'{name}' is .*int8"),
    ):
        (folder / "model.safetensors").write_bytes(whole)
        edit_weights(folder, change)
        with pytest.raises(ModelError, match=words):
            load_folder(folder)


def test_harmless_extras_are_left_aside(folder: Path) -> None:
    """Buffers of old exports, and the copy of a tied output matrix."""
    before = load_folder(folder).state_dict()
    edit_weights(folder, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}))
    edit_weights(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    after = load_folder(folder).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_damaged_and_absent_files_are_named(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for content in (whole[:-8], whole[:20], b"", b"\xff" * 64):
        weights.write_bytes(content)
        with pytest.raises(ModelError, match="model.safetensors"):
            load_folder(folder)
    weights.unlink()
    with pytest.raises(ModelError, match="neither model.safetensors nor"):
        load_folder(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ModelError, match="pickled weights"):
        load_folder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="config.json: cannot be read as JSON"):
        load_folder(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="no JSON object"):
        load_folder(folder)
    with pytest.raises(ModelError, match="no config.json"):
        load_folder(folder / "nowhere")


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "model.bin", 5, "sub/x.safetensors"])
def test_an_index_cannot_point_elsewhere(name: Any, folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelError, match=r"index\.json"):
        load_folder(folder)


def test_shards_are_complete_and_disjoint(tmp_path: Path) -> None:
    model = tiny_model("llama-untied")
    save_folder(model, tmp_path, max_shard_bytes=10_000)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(shards) > 3 and set(index["weight_map"].values()) == {shard.name for shard in shards}
    assert index["metadata"]["total_size"] == 4 * sum(p.numel() for p in model.parameters())
    loaded = load_folder(tmp_path).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())
    save_file(load_file(shards[0]) | load_file(shards[1]), shards[1])
    with pytest.raises(ModelError, match=r"is also in model-00001"):
        load_folder(tmp_path)
    shards[0].unlink()
    with pytest.raises(ModelError, match="model-00001.*missing, although"):
        load_folder(tmp_path)


def test_saving_again_leaves_no_weights_of_before(tmp_path: Path) -> None:
    model = tiny_model("llama")
    save_folder(model, tmp_path, max_shard_bytes=10_000)
    save_folder(model, tmp_path)
    assert [file.name for file in tmp_path.glob("model*")] == ["model.safetensors"]
    save_folder(model, tmp_path, max_shard_bytes=10_000)
    assert not (tmp_path / "model.safetensors").exists()
    load_folder(tmp_path)


def test_tokenizer_and_ids_lie_beside(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_json(byte_level_json(CHATML_TOKENS), chatml_config())
    save_folder(tiny_model("llama", 700), tmp_path, tokenizer, {"_chatwright": {"base": "x"}}, dtype="bfloat16")
    raw = json.loads((tmp_path / "config.json").read_text())
    assert raw["eos_token_id"] == 2 and raw["torch_dtype"] == "bfloat16" and raw["_chatwright"] == {"base": "x"}
    assert raw["bos_token_id"] == 1 and raw["pad_token_id"] == tokenizer.pad_id
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == 2
    assert Tokenizer.from_folder(tmp_path).fingerprint == tokenizer.fingerprint
    assert load_file(tmp_path / "model.safetensors")["model.norm.weight"].dtype == torch.bfloat16


def test_the_asked_dtype_is_what_comes(folder: Path) -> None:
    for dtype in ("float32", torch.bfloat16, "float16"):
        assert {p.dtype for p in load_folder(folder, dtype).parameters()} == {as_dtype(dtype)}
    for dtype in ("int8", "no_such", "Tensor"):
        with pytest.raises(ModelError, match=dtype):
            load_folder(folder, dtype)


def test_a_loaded_model_is_independent_of_its_file(folder: Path) -> None:
    model = load_folder(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    size = (folder / "model.safetensors").stat().st_size
    (folder / "model.safetensors").write_bytes(b"\0" * size)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model.training and all(p.requires_grad for p in model.parameters())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**9) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(kind=st.sampled_from(list(SUPPORTED)), data=st.data())
def test_any_config_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    base = config_to_hf(tiny_config({"gemma3_text": "gemma3"}.get(kind, kind)))
    keys = data.draw(st.lists(st.sampled_from(sorted(base) + ["rope_parameters", "text_config"]), max_size=4))
    raw = base | {"model_type": kind} | {key: data.draw(JSON) for key in keys}
    with contextlib.suppress(ModelError):
        config_from_hf(raw)


def test_read_config_names_its_file(folder: Path) -> None:
    edit_config(folder, model_type="bert")
    with pytest.raises(ModelError, match=str(folder / "config.json")):
        read_config(folder)
