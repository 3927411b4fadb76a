"""Models from scratch: the rule, and the same weights whatever the global generator, dtype or order of construction."""

from __future__ import annotations

import math

import pytest
import torch

from chatwright.model.init import POSITION_STD, STD, fill, initialised
from tiny_models import KINDS, tiny_config


@pytest.mark.parametrize("kind", KINDS)
def test_weights_depend_on_config_and_seed_only(kind: str) -> None:
    torch.manual_seed(1)
    first = initialised(tiny_config(kind), 5).state_dict()
    torch.manual_seed(2)
    torch.randn(7)
    state = torch.get_rng_state()
    second = initialised(tiny_config(kind), 5, dtype=torch.bfloat16).state_dict()
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    other = initialised(tiny_config(kind), 6).state_dict()
    for name, tensor in first.items():
        assert torch.equal(tensor.bfloat16(), second[name]), name
        assert torch.isfinite(tensor).all()
        assert tensor.dim() == 1 or not torch.equal(tensor, other[name]), name


def test_spreads_follow_gpt2() -> None:
    config = tiny_config("gpt2", 2000, hidden_size=128, head_dim=32, intermediate_size=512, max_positions=512)
    model = initialised(config, 0)
    residual = STD / math.sqrt(2 * config.num_layers)
    wanted = {"embed": STD, "position_embed": POSITION_STD, "attention.qkv": STD, "mlp.up": STD}
    wanted |= {"attention.out": residual, "mlp.down": residual}
    for name, parameter in model.state_dict().items():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            std = next(value for key, value in wanted.items() if name.removesuffix(".weight").endswith(key))
            std = POSITION_STD if name.startswith("position") else std
            assert float(parameter.std()) == pytest.approx(std, rel=0.05), name
            assert abs(float(parameter.mean())) < 3 * std / math.sqrt(parameter.numel())


def test_gemma_norms_begin_as_the_identity() -> None:
    model = initialised(tiny_config("gemma3"), 0)
    assert not model.final_norm.weight.any()
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.final_norm(x).square().mean(-1), torch.ones(3), atol=1e-4)


def test_the_loss_of_a_fresh_model_is_that_of_guessing() -> None:
    model = initialised(tiny_config("llama", 500), 0)
    tokens = torch.randint(0, 500, (4, 33), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model.logits(model(tokens[:, :-1]))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    assert float(loss) == pytest.approx(math.log(500), abs=0.05)


def test_fill_overwrites_what_was_there() -> None:
    model = initialised(tiny_config("qwen3"), 1)
    fill(model, 2)
    wanted = initialised(tiny_config("qwen3"), 2).state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())
