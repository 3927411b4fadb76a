"""One normalisation, in one place: losses come as sums, the count of the whole update is known first.

So accumulating 8 micro-batches of 1 equals 1 of 8 whatever their lengths, and a NaN never reaches the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch

from chatwright.engine.optim import MasterAdamW
from chatwright.errors import TrainingStopped

BatchT = TypeVar("BatchT")
LossFunction = Callable[[BatchT], tuple[torch.Tensor, torch.Tensor]]


def accumulate(
    optimizer: MasterAdamW,
    batches: Iterable[BatchT],
    loss: LossFunction[BatchT],
    total_count: float,
    *,
    where: str,
    weight: float = 1.0,
) -> float:
    """Backward through every micro-batch, each loss sum divided by the count of the **whole** update.

    Returns the mean loss (without `weight`). TrainingStopped when a loss is not finite, or when the micro-batches'
    counts do not add up to `total_count`, before the optimiser moves.
    """
    loss_sum, count_sum = 0.0, 0.0
    for batch in batches:
        batch_sum, batch_count = loss(batch)
        value = float(batch_sum.detach())
        if value != value or abs(value) == float("inf"):
            raise TrainingStopped(f"{where}: the loss is {value}; no weight was changed. Try a lower learning rate")
        (batch_sum * (weight / total_count)).backward()
        optimizer.collect()
        loss_sum += value
        count_sum += float(batch_count)
    assert abs(count_sum - total_count) < 1e-3 * max(total_count, 1), f"{where}: counted {count_sum}, not {total_count}"
    return loss_sum / total_count


def step_all(optimizers: Mapping[str, tuple[MasterAdamW, float]], *, where: str) -> dict[str, float]:
    """One step of several optimisers at their rates; their gradient norms. TrainingStopped before any weight has moved when
    one of the gradients is not finite."""
    for name, (optimizer, _) in optimizers.items():
        if not (norm := optimizer.grad_norm()) < float("inf"):
            raise TrainingStopped(f"{where}, {name}: the gradient norm is {norm}; no weight was changed. Try a lower rate")
    return {name: optimizer.step(rate, where=f"{where}, {name}") for name, (optimizer, rate) in optimizers.items()}
