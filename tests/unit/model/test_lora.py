"""LoRA: exact base when off, merge, and PEFT's files in both directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from chatwright.errors import ModelError
from chatwright.model.config import ModelConfig
from chatwright.model.formats.huggingface import load_folder, save_folder
from chatwright.model.init import initialised
from chatwright.model.lora import (
    LoraConfig,
    LoraLinear,
    adapter_off,
    adapter_state,
    adapters,
    inject,
    load_adapter,
    merge,
    save_adapter,
)
from chatwright.model.transformer import Transformer

TOKENS = torch.randint(0, 64, (2, 12), generator=torch.Generator().manual_seed(1))


def tiny(family: str = "llama", seed: int = 0) -> Transformer:
    gpt2 = family == "gpt2"
    model = initialised(
        ModelConfig(
            family="gpt2" if gpt2 else "llama",
            vocab_size=64,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            num_kv_heads=4 if gpt2 else 2,
            head_dim=8,
            intermediate_size=48,
            max_positions=32,
            norm="layer" if gpt2 else "rms",
            positions="learned" if gpt2 else "rope",
            mlp="gelu" if gpt2 else "swiglu",
            qkv_bias=gpt2,
            linear_bias=gpt2,
        ),
        seed,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0) if parameter.dim() > 1 else None
    return model.eval()


@torch.no_grad()
def logits(model: Transformer) -> torch.Tensor:
    return model.logits(model(TOKENS))


@torch.no_grad()
def train_a_bit(model: nn.Module, seed: int = 3) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _, layer in adapters(model):
        for weight in layer.lora_b_OR.values():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)


@pytest.mark.parametrize("targets", [(), ("q_proj", "v_proj"), ("gate_proj",), ("down_proj", "o_proj", "k_proj")])
def test_off_is_the_base_bit_for_bit_and_new_adapters_change_nothing(targets: tuple[str, ...]) -> None:
    model = tiny()
    base = logits(model)
    inject(model, LoraConfig(rank=3, targets=targets))
    assert torch.allclose(logits(model), base, atol=1e-6)
    train_a_bit(model)
    assert (logits(model) - base).abs().max() > 0.05
    with adapter_off(model):
        assert torch.equal(logits(model), base)
        with adapter_off(model):
            pass
        assert torch.equal(logits(model), base), "leaving the inner context switched the adapters on"
    assert (logits(model) - base).abs().max() > 0.05


def test_adapter_off_ends_with_an_error_too() -> None:
    model = tiny()
    inject(model, LoraConfig(rank=2))
    with pytest.raises(RuntimeError), adapter_off(model):
        raise RuntimeError
    assert all(layer.enabled for _, layer in adapters(model))


def test_only_adapters_are_trained_and_each_gets_a_gradient() -> None:
    model = tiny()
    inject(model, LoraConfig(rank=2))
    train_a_bit(model)
    model.logits(model(TOKENS)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (".lora_" in name), name
        assert (parameter.grad is not None and parameter.grad.abs().sum() > 0) == (".lora_" in name), name
    assert len(adapter_state(model)) == 2 * 7 * 2


def test_dropout_acts_in_training_only() -> None:
    model = tiny()
    inject(model, LoraConfig(rank=4, dropout=0.5))
    train_a_bit(model)
    assert torch.equal(logits(model), logits(model))
    model.train()
    assert not torch.equal(logits(model), logits(model))
    with adapter_off(model):
        assert torch.equal(logits(model), logits(model))


def test_merge_keeps_the_function_and_leaves_plain_linears(tmp_path: Path) -> None:
    model = tiny()
    inject(model, LoraConfig(rank=3, alpha=5.0))
    train_a_bit(model)
    adapted = logits(model)
    with pytest.raises(ModelError, match="merge"):
        save_folder(model, tmp_path)
    merge(model)
    assert not any(isinstance(module, LoraLinear) for module in model.modules())
    assert torch.allclose(logits(model), adapted, atol=1e-4)
    save_folder(model, tmp_path)
    assert torch.equal(logits(load_folder(tmp_path)), logits(model))


def test_merged_weight_is_what_acts(tmp_path: Path) -> None:
    model = tiny()
    inject(model, LoraConfig(rank=3, targets=("k_proj", "down_proj")))
    train_a_bit(model)
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    layer = model.blocks[1].attention.qkv
    assert isinstance(layer, LoraLinear)
    assert torch.allclose(x @ layer.merged_weight().T, layer(x), atol=1e-4)
    assert not torch.equal(layer.merged_weight(), layer.base.weight)
    assert torch.equal(layer.merged_weight()[:32], layer.base.weight[:32]), "q_proj was not to be touched"
    with adapter_off(model):
        assert torch.equal(layer.merged_weight(), layer.base.weight)


def test_adapters_of_a_bf16_model_stay_fp32() -> None:
    model = tiny().bfloat16()
    base = logits(model)
    inject(model, LoraConfig(rank=3))
    train_a_bit(model)
    assert {p.dtype for p in adapter_state(model).values()} == {torch.float32}
    assert logits(model).dtype == torch.bfloat16
    with adapter_off(model):
        assert torch.equal(logits(model), base)


def test_save_and_load_is_the_identity(tmp_path: Path) -> None:
    model = tiny()
    config = LoraConfig(rank=3, alpha=6.0, targets=("q_proj", "up_proj"))
    inject(model, config)
    train_a_bit(model)
    save_adapter(model, tmp_path, base="some/base")
    other = tiny()
    assert load_adapter(other, tmp_path) == config
    assert torch.equal(logits(other), logits(model))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_peft_loads_ours_and_we_load_theirs(family: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    base, ours = tmp_path / "base", tmp_path / "ours"
    model = tiny(family)
    save_folder(model, base)
    inject(model, LoraConfig(rank=3, alpha=6.0))
    train_a_bit(model)
    save_adapter(model, ours)

    def oracle() -> Any:
        return transformers.AutoModelForCausalLM.from_pretrained(base).eval()

    with torch.no_grad():
        theirs = peft.PeftModel.from_pretrained(oracle(), ours).eval()
        assert (theirs(TOKENS).logits - logits(model)).abs().max() < 1e-4

    torch.manual_seed(0)
    targets = ["c_attn", "c_fc"] if family == "gpt2" else ["q_proj", "v_proj", "down_proj"]
    made = peft.get_peft_model(
        oracle(),
        peft.LoraConfig(
            r=5,
            lora_alpha=7,
            target_modules=targets,
            init_lora_weights=False,
            fan_in_fan_out=family == "gpt2",
        ),
    ).eval()
    made.save_pretrained(tmp_path / "theirs")
    fresh = tiny(family)
    assert load_adapter(fresh, tmp_path / "theirs") == LoraConfig(rank=5, alpha=7.0, targets=tuple(sorted(targets)))
    with torch.no_grad():
        assert (made(TOKENS).logits - logits(fresh)).abs().max() < 1e-4
        assert (made(TOKENS).logits - logits(tiny(family))).abs().max() > 0.05


def test_bad_adapters_are_refused_by_name(tmp_path: Path) -> None:
    model = tiny()
    with pytest.raises(ModelError, match="c_attn.*q_proj"):
        inject(model, LoraConfig(targets=("c_attn",)))
    with pytest.raises(ModelError, match="no adapters"):
        save_adapter(model, tmp_path)
    with pytest.raises(ModelError, match="rank"):
        LoraConfig(rank=0)
    inject(model, LoraConfig(rank=3))
    with pytest.raises(ModelError, match="already"):
        inject(model, LoraConfig(rank=3))
    save_adapter(model, tmp_path)
    raw = json.loads((tmp_path / "adapter_config.json").read_text())
    for change, word in (
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"peft_type": "IA3"}, "LORA"),
    ):
        (tmp_path / "adapter_config.json").write_text(json.dumps(raw | change))
        with pytest.raises(ModelError, match=word):
            load_adapter(tiny(), tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(raw | {"r": 4}))
    fresh = tiny()
    with pytest.raises(ModelError, match="lora_A"):
        load_adapter(fresh, tmp_path)
    assert not any(isinstance(module, LoraLinear) for module in fresh.modules()), "a failed load left adapters behind"
    (tmp_path / "adapter_model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(ModelError, match="adapter_model.safetensors"):
        load_adapter(tiny(), tmp_path)
