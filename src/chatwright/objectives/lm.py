"""Causal language-model loss.

Shapes: B rows, T tokens, N counted tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from chatwright.kernels.cross_entropy import token_logprobs


class LanguageModel(Protocol):
    """What a loss needs of a model: hidden states and the output matrix."""

    training: bool

    def __call__(
        self,
        tokens_BT: torch.Tensor,
        *,
        positions_BT: torch.Tensor | None = None,
        mask_BTS: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """[B, T] -> hidden [B, T, D]."""

    def output_weight(self) -> torch.Tensor:
        """[V, D]."""

    def train(self, mode: bool = True) -> object:
        """Switch dropout on or off."""


class TokenBatch(Protocol):
    """Right-padded or packed rows; `loss_mask_BT` is True on the tokens that are to be predicted."""

    @property
    def tokens_BT(self) -> torch.Tensor:
        """Token ids."""

    @property
    def loss_mask_BT(self) -> torch.Tensor:
        """Targets."""

    @property
    def positions_BT(self) -> torch.Tensor | None:
        """Positions of packed rows."""

    @property
    def mask_BTS(self) -> torch.Tensor | None:
        """Who may look at whom in packed rows."""


def token_nll(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood in nats, **(sum, count)**: the division happens once, in the engine.

    hidden_ND are the states that predict `targets_N`, that is the state one position before each target.
    """
    logprobs_N, _ = token_logprobs(hidden_ND, weight_VD, targets_N)
    return -logprobs_N.sum(), torch.tensor(float(targets_N.numel()), device=hidden_ND.device)


def batch_nll(model: LanguageModel, batch: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of one micro-batch, **(sum in nats, trained tokens)**: the one used by SFT, ptx and held-out measurement."""
    hidden_BTD = model(batch.tokens_BT, positions_BT=batch.positions_BT, mask_BTS=batch.mask_BTS)
    counted_BT = batch.loss_mask_BT[:, 1:]
    return token_nll(hidden_BTD[:, :-1][counted_BT], model.output_weight(), batch.tokens_BT[:, 1:][counted_BT])


@torch.no_grad()
def mean_nll(model: LanguageModel, batches: Sequence[TokenBatch]) -> float:
    """Mean loss over held-out batches in nats per token, in eval mode."""
    was_training = model.training
    model.train(False)
    sums = [batch_nll(model, batch) for batch in batches]
    model.train(was_training)
    return float(sum(s for s, _ in sums)) / max(float(sum(c for _, c in sums)), 1.0)
