"""One update: accumulation, stopping before a weight moves, clipping, AdamW with fp32 masters, EMA, schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from chatwright.data.sft import Example, lm_batch
from chatwright.engine.optim import EMA, MasterAdamW, OptimConfig
from chatwright.engine.schedule import ScheduleConfig, rate_at
from chatwright.engine.step import accumulate
from chatwright.errors import CheckpointError, TrainingStopped
from chatwright.model.transformer import Transformer
from chatwright.objectives.lm import batch_nll
from tiny_models import tiny_model


def examples(num: int = 8, seed: int = 0) -> list[Example]:
    """Ragged: 2 to 20 tokens, about half of them trained."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(num):
        size = int(torch.randint(2, 21, (), generator=generator))
        mask = (torch.rand(size, generator=generator) < 0.5).tolist()
        mask[-1] = True
        found.append(Example(tuple(torch.randint(0, 64, (size,), generator=generator).tolist()), tuple(mask)))
    return found


def update(micro: list[list[int]], *, max_grad_norm: float = 0.0) -> tuple[Transformer, float, float]:
    """One step of a tiny model over 8 examples grouped as said; (model, loss, gradient norm)."""
    rows = examples()
    model = tiny_model("llama")
    optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=1e-2, max_grad_norm=max_grad_norm))
    batches = [lm_batch([rows[i] for i in group], 0) for group in micro]
    count = sum(batch.num_targets for batch in batches)
    loss = accumulate(optimizer, batches, lambda b: batch_nll(model, b), count, where="test")
    return model, loss, optimizer.step(1e-2, where="test")


ONE = [list(range(8))]
GROUPINGS = {"8x1": [[i] for i in range(8)], "2x4": [[5, 1, 7, 0], [2, 3, 4, 6]], "ragged": [[0], [1, 2, 3], [4, 5, 6, 7]]}


@pytest.mark.parametrize("name", GROUPINGS)
def test_accumulated_micro_batches_equal_one_batch(name: str) -> None:
    """trl#2175: how an update is cut into micro-batches must not change it, whatever the lengths."""
    (whole, loss, norm), (parts, other_loss, other_norm) = update(ONE), update(GROUPINGS[name])
    assert other_loss == pytest.approx(loss, abs=1e-6) and other_norm == pytest.approx(norm, rel=1e-5)
    for (parameter, a), (_, b) in zip(whole.named_parameters(), parts.named_parameters(), strict=True):
        # AdamW's first step is lr * sign(gradient): where a gradient is rounding noise, its sign is too.
        assert torch.isclose(a, b, atol=1e-6).float().mean() > 0.995, parameter


def test_accumulated_gradients_equal_one_batch() -> None:
    gradients = []
    for micro in (ONE, *GROUPINGS.values()):
        rows, model = examples(), tiny_model("llama")
        optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=1.0))
        batches = [lm_batch([rows[i] for i in group], 0) for group in micro]
        count = sum(batch.num_targets for batch in batches)
        accumulate(optimizer, batches, lambda b, m=model: batch_nll(m, b), count, where="test")  # type: ignore[misc]
        gradients.append(optimizer.take_gradients())
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradient, other[name], rtol=1e-5, atol=1e-6)


# ---- nothing moves when something is wrong ---------------------------------------------------------------------------


def tiny_linear(dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 3).to(dtype)


def copies(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def moved(model: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops_before_any_weight_moves(bad: float) -> None:
    model = tiny_linear()
    optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=0.1))
    before = copies(model)
    rows = iter([1.0, bad])

    def loss(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return model(batch).sum() * next(rows), torch.tensor(1.0)

    with pytest.raises(TrainingStopped, match="sft step 7: the loss is .*no weight was changed"):
        accumulate(optimizer, [torch.ones(4), torch.ones(4)], loss, 2.0, where="sft step 7")
    assert not moved(model, before) and optimizer.steps_done == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_that_is_not_finite_stops_before_any_weight_moves(bad: float, dtype: torch.dtype) -> None:
    model = tiny_linear(dtype)
    optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=0.1))
    before = copies(model)
    model(torch.ones(4, dtype=dtype)).sum().backward()
    assert model.bias.grad is not None
    model.bias.grad[1] = bad
    optimizer.collect()
    with pytest.raises(TrainingStopped, match="ppo step 3: the gradient norm is (nan|inf)"):
        optimizer.step(0.1, where="ppo step 3")
    assert not moved(model, before) and optimizer.steps_done == 0


def test_a_count_that_does_not_add_up_is_caught() -> None:
    model = tiny_linear()
    optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=0.1))
    with pytest.raises(AssertionError, match="counted 2.0, not 3.0"):
        accumulate(optimizer, [torch.ones(4)], lambda b: (model(b).sum(), torch.tensor(2.0)), 3.0, where="x")


# ---- optimiser -------------------------------------------------------------------------------------------------------


def train(
    model: nn.Module, step: Callable[[], None], num: int = 5, dtype: torch.dtype = torch.float32
) -> None:
    generator = torch.Generator().manual_seed(7)
    for _ in range(num):
        x = torch.randn(6, 4, generator=generator).to(dtype)
        (model(x) ** 2).mean().backward()
        step()


def test_max_grad_norm_is_honoured() -> None:
    """TRL's PPO ignored the setting. With plain SGD inside AdamW hidden, look at what reaches the optimiser."""
    model = tiny_linear()
    optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=0.1, max_grad_norm=0.5))
    seen: list[float] = []
    inner = optimizer.adam.step
    optimizer.adam.step = lambda *a, **k: (seen.append(optimizer.grad_norm()), inner(*a, **k))[1]  # type: ignore[method-assign]
    (model(torch.full((4,), 100.0)) ** 2).sum().backward()
    optimizer.collect()
    unclipped = optimizer.grad_norm()
    assert optimizer.step(0.1, where="x") == pytest.approx(unclipped) and unclipped > 100
    assert seen == [pytest.approx(0.5, rel=1e-5)]


@pytest.mark.parametrize("limit", [0.0, 1e9])
def test_clipping_is_off_at_zero_and_does_nothing_below_the_limit(limit: float) -> None:
    weights = []
    for max_grad_norm in (limit, 1e9):
        model = tiny_linear()
        optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=0.1, max_grad_norm=max_grad_norm))
        train(model, lambda o=optimizer: (o.collect(), o.step(0.1, where="x")))  # type: ignore[misc]
        weights.append(copies(model))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_fp32_equals_torch_adamw_with_decay_on_matrices_only() -> None:
    ours, theirs = tiny_linear(), tiny_linear()
    config = OptimConfig(lr=0.03, weight_decay=0.1, max_grad_norm=0.0)
    optimizer = MasterAdamW(ours.named_parameters(), config)
    groups = [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=0.03, betas=(0.9, 0.95), eps=1e-8)
    train(ours, lambda: (optimizer.collect(), optimizer.step(0.03, where="x")))  # type: ignore[arg-type,return-value]
    train(theirs, lambda: (reference.step(), reference.zero_grad()))  # type: ignore[arg-type,return-value]
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-6, atol=1e-7)


def test_bf16_masters_keep_what_bf16_would_lose() -> None:
    """Updates of 1e-4 beside weights near 1 vanish in bf16 (8 bits), not in the fp32 masters."""
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    model = model.to(torch.bfloat16)
    optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=1e-4))
    for _ in range(60):
        model(torch.ones(4, dtype=torch.bfloat16)).backward()
        optimizer.collect()
        optimizer.step(1e-4, where="x")
    assert model.weight.dtype == torch.bfloat16 and optimizer.masters["weight"].dtype == torch.float32
    assert optimizer.masters["weight"].detach().mean().item() == pytest.approx(1 - 60e-4, abs=1e-4)
    assert torch.equal(model.weight, optimizer.masters["weight"].to(torch.bfloat16))
    assert model.weight[0, 0].item() < 1.0


def test_bf16_gradients_are_summed_in_fp32() -> None:
    model = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=1.0))
    for value in [256.0] + [0.5] * 100:  # in bf16, 256 + 0.5 is 256
        model.weight.grad = torch.full((1, 1), value, dtype=torch.bfloat16)
        optimizer.collect()
    assert optimizer.grad_norm() == 306.0


def test_eps_mode_tf_is_tensorflow_ones_formula() -> None:
    """lr sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps): eps beside the root that is not bias-corrected."""
    lr, b1, b2, eps = 0.1, 0.9, 0.95, 1e-2
    parameter = nn.Parameter(torch.tensor([[1.0, -2.0]]))
    config = OptimConfig(lr=lr, beta1=b1, beta2=b2, eps=eps, eps_mode="tf", max_grad_norm=0.0)
    optimizer = MasterAdamW([("w", parameter)], config)
    w, m, v = torch.tensor([[1.0, -2.0]]), torch.zeros(1, 2), torch.zeros(1, 2)
    for t in range(1, 6):
        gradient = torch.tensor([[0.01 * t, -0.3]])
        parameter.grad = gradient.clone()
        optimizer.step(lr, where="x")
        m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
        w = w - lr * math.sqrt(1 - b2**t) / (1 - b1**t) * m / (v.sqrt() + eps)
        torch.testing.assert_close(parameter.detach(), w, rtol=1e-5, atol=1e-6)


def test_gradients_set_aside_come_back_in_the_same_step() -> None:
    model = tiny_linear()
    optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=0.1))
    model(torch.ones(4)).sum().backward()
    first = optimizer.grad_norm()
    aside = optimizer.take_gradients()
    assert optimizer.grad_norm() == 0.0
    (2 * model(torch.ones(4)).sum()).backward()
    assert optimizer.grad_norm() == pytest.approx(2 * first)
    optimizer.add_gradients(aside)
    assert optimizer.grad_norm() == pytest.approx(3 * first)


def test_ema_is_its_formula_and_is_exported_in_the_models_dtype() -> None:
    model = tiny_linear(torch.bfloat16)
    optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=0.1))
    ema = EMA(optimizer, 0.9)
    expected = {name: m.detach().clone() for name, m in optimizer.masters.items()}

    def step() -> None:
        optimizer.collect()
        optimizer.step(0.1, where="x")
        ema.update()
        for name, master in optimizer.masters.items():
            expected[name] = 0.9 * expected[name] + 0.1 * master.detach()

    train(model, step, dtype=torch.bfloat16)
    for name, value in expected.items():
        torch.testing.assert_close(ema.average[name], value)
    ema.copy_to_model()
    assert torch.equal(model.weight, ema.average["weight"].to(torch.bfloat16))
    assert not torch.equal(model.weight, optimizer.masters["weight"].to(torch.bfloat16))


# ---- state -----------------------------------------------------------------------------------------------------------


class Partly(nn.Module):
    """`spare` never gets a gradient, as the output matrix of a reward model with untied embeddings."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.used, self.spare = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [tiny_linear, Partly])
def test_state_round_trip_goes_on_bit_for_bit(make: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    """A parameter without gradients so far is no obstacle."""
    results = []
    for interrupted in (False, True):
        model = make().to(dtype)
        optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=0.1, eps_mode="tf", weight_decay=0.1))

        def step(o: MasterAdamW = optimizer) -> None:
            o.collect()
            o.step(0.1, where="x")

        train(model, step, 3, dtype)
        if interrupted:
            saved = {name: t.clone() for name, t in optimizer.state_tensors("p").items()}
            model = make().to(dtype)
            optimizer = MasterAdamW(model.named_parameters(), optimizer.config)
            optimizer.load_state_tensors(saved, "p")
        train(model, lambda o=optimizer: (o.collect(), o.step(0.1, where="x")), 3, dtype)  # type: ignore[misc]
        results.append({**optimizer.state_tensors("p"), **copies(model)})
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


def saved_state() -> dict[str, torch.Tensor]:
    model = tiny_linear()
    optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=0.1))
    train(model, lambda: (optimizer.collect(), optimizer.step(0.1, where="x")), 2)  # type: ignore[arg-type,return-value]
    return optimizer.state_tensors("policy")


def test_state_with_any_tensor_missing_is_refused_by_name() -> None:
    """The critic's head of others was silently made anew (trl#2095, OpenRLHF#643)."""
    for name in saved_state():
        state = saved_state()
        del state[name]
        optimizer = MasterAdamW(tiny_linear().named_parameters(), OptimConfig(lr=0.1))
        with pytest.raises(CheckpointError, match=f"lacks the tensor {name}"):
            optimizer.load_state_tensors(state, "policy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy.master.other": torch.ones(1)}, "tensors this model does not: policy.master.other"),
        ({"policy.exp_avg.other": torch.ones(1)}, "tensors this model does not"),
        ({"policy.master.weight": torch.ones(1)}, r"policy.master.weight has shape \(1,\), not \(3, 4\)"),
        ({"policy.exp_avg_sq.weight": torch.ones(3, 1)}, "policy.exp_avg_sq.weight has shape"),
        ({"policy.adam_steps": torch.ones(3)}, "adam_steps has shape"),
    ],
)
def test_state_with_extra_or_foreign_tensors_is_refused(change: dict[str, torch.Tensor], message: str) -> None:
    optimizer = MasterAdamW(tiny_linear().named_parameters(), OptimConfig(lr=0.1))
    with pytest.raises(CheckpointError, match=message):
        optimizer.load_state_tensors(saved_state() | change, "policy")


def test_ema_state_round_trip_and_missing_tensors() -> None:
    optimizer = MasterAdamW(tiny_linear().named_parameters(), OptimConfig(lr=0.1))
    ema, other = EMA(optimizer, 0.9), EMA(optimizer, 0.9)
    for value in ema.average.values():
        value.normal_()
    state = {name: t.clone() for name, t in ema.state_tensors("ema").items()}
    other.load_state_tensors(state, "ema")
    assert all(torch.equal(other.average[name], value) for name, value in ema.average.items())
    del state["ema.bias"]
    with pytest.raises(CheckpointError, match="lacks the tensor ema.bias"):
        other.load_state_tensors(state, "ema")


# ---- schedules -------------------------------------------------------------------------------------------------------


def rates(total: int, **settings: Any) -> list[float]:
    return [rate_at(step, total, 2.0, ScheduleConfig(**settings)) for step in range(total)]


def test_cosine_without_warm_up_starts_at_the_peak_and_falls_to_a_tenth() -> None:
    found = rates(1000)
    assert found[0] == 2.0 and found[-1] == pytest.approx(0.2, rel=1e-3)
    assert found == sorted(found, reverse=True)
    assert found[500] == pytest.approx(1.1)
    assert rate_at(10**6, 1000, 2.0, ScheduleConfig()) == pytest.approx(0.2)


def test_linear_falls_in_equal_steps() -> None:
    found = rates(10, kind="linear", final_share=0.0)
    assert found == pytest.approx([2.0 - 0.2 * step for step in range(10)])


@pytest.mark.parametrize("kind", ["constant", "cosine", "linear"])
@pytest.mark.parametrize("warmup", [1, 3, 10])
def test_warm_up_rises_to_the_peak_and_never_over_it(kind: str, warmup: int) -> None:
    found = rates(20, kind=kind, warmup_steps=warmup, warmup_start=0.1)
    rising = found[: warmup + 1]
    assert rising == sorted(rising) and rising[-1] == 2.0 and max(found) == 2.0
    assert rising[0] == pytest.approx(0.2)  # warmup_start is the share of the first step
    steps = [b - a for a, b in zip(rising, rising[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * warmup)
    if kind == "constant":
        assert set(found[warmup:]) == {2.0}
