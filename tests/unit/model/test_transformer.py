"""The decoder by itself: both attention paths, masks that leave nothing, caches, gradients, config checks."""

from __future__ import annotations

import pytest
import torch

from chatwright.errors import ModelError
from chatwright.model import attention
from chatwright.model.config import ModelConfig
from chatwright.model.init import initialised
from chatwright.model.kv_cache import KVCache
from chatwright.model.transformer import Transformer
from tiny_models import KINDS, tiny_config, tiny_model

TOKENS = torch.randint(0, 64, (3, 20), generator=torch.Generator().manual_seed(4))


@torch.no_grad()
def hidden(model: Transformer, tokens: torch.Tensor, **kwargs: torch.Tensor | KVCache) -> torch.Tensor:
    return model(tokens, **kwargs)


@pytest.mark.parametrize("kind", KINDS)
def test_both_attention_paths_agree(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(kind)
    segment = torch.arange(20) // 7
    mask = (segment[:, None] == segment[None]) & torch.ones(20, 20, dtype=torch.bool).tril()
    plain, packed = hidden(model, TOKENS), hidden(model, TOKENS, mask_BTS=mask[None])
    monkeypatch.setattr(attention, "_PLAIN_MAX_KEYS", 0)
    assert torch.allclose(hidden(model, TOKENS), plain, atol=2e-5)
    assert torch.allclose(hidden(model, TOKENS, mask_BTS=mask[None]), packed, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_may_look_at_nothing_stay_finite(kind: str) -> None:
    mask = torch.ones(3, 20, 20, dtype=torch.bool).tril()
    mask[1, 5:9] = False
    out = hidden(tiny_model(kind), TOKENS, mask_BTS=mask)
    assert torch.isfinite(out).all()
    assert torch.allclose(out[0], hidden(tiny_model(kind), TOKENS)[0], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter_and_causality_holds(kind: str) -> None:
    model = tiny_model(kind).train()
    model.logits(model(TOKENS)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    changed = TOKENS.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % 64
    assert torch.allclose(hidden(model, changed)[:, :12], hidden(model, TOKENS)[:, :12], atol=1e-5)
    assert not torch.allclose(hidden(model, changed)[:, 12:], hidden(model, TOKENS)[:, 12:], atol=1e-3)


def test_cache_rows_can_be_chosen_repeated_and_overfilled() -> None:
    model = tiny_model("llama")
    full = hidden(model, TOKENS)
    cache = KVCache(model.config, 3, 21, torch.float32)
    hidden(model, TOKENS[:, :12], cache=cache)
    cache.append(torch.tensor([12, 5, 9]))
    chosen = cache.select(torch.tensor([2, 0, 2]))
    assert chosen.lengths_B.tolist() == [9, 12, 9] and chosen.batch == 3
    next_tokens = torch.stack((TOKENS[2, 9:12], TOKENS[0, 12:15], TOKENS[2, 9:12]))
    out = hidden(model, next_tokens, cache=chosen)
    assert torch.allclose(out[0], full[2, 9:12], atol=1e-5) and torch.allclose(out[1], full[0, 12:15], atol=1e-5)
    assert torch.equal(out[0], out[2])
    assert cache.lengths_B.tolist() == [12, 5, 9], "the original cache moved"
    with pytest.raises(AssertionError, match="21 positions is asked for 22"):
        hidden(model, TOKENS[:, :10], cache=cache)


def test_residual_dropout_acts_in_training_only() -> None:
    model = tiny_model("llama")
    before = hidden(model, TOKENS)
    model.set_dropout(0.3)
    assert torch.equal(hidden(model, TOKENS), before)
    assert not torch.equal(hidden(model.train(), TOKENS), before)
    model.set_dropout(0.0)
    assert torch.equal(hidden(model, TOKENS), before)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_counted_from_the_shapes(kind: str) -> None:
    config = tiny_config(kind)
    counted = sum(p.numel() for n, p in initialised(config, 0).named_parameters() if p.dim() > 1 and "position" not in n)
    assert config.num_parameters() == counted


def test_impossible_shapes_are_refused() -> None:
    for change, words in (
        ({"num_kv_heads": 3}, "multiple"),
        ({"head_dim": 7}, "even"),
        ({"sliding_window": 4, "local_layers": (True,)}, "names 1 layers"),
    ):
        with pytest.raises(ModelError, match=words):
            tiny_config("llama", **change)
    assert ModelConfig.__dataclass_params__.frozen  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_training_works_after_inference_mode(kind: str) -> None:
    """Tables that are cached in inference mode must not end up in the graph."""
    model = tiny_model(kind)
    with torch.inference_mode():
        before = model(TOKENS)
    model(TOKENS).square().mean().backward()
    assert torch.equal(hidden(model, TOKENS), before)
