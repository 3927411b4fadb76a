"""Causal and masked language-model losses.

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


class WindowBatch(Protocol):
    """Rows of pre-training text whose targets stand beside their states: causal and masked alike."""

    @property
    def inputs_BT(self) -> torch.Tensor:
        """Token ids that the model reads."""

    @property
    def targets_BT(self) -> torch.Tensor:
        """The token that the state at each place has to predict: the one after it."""

    @property
    def counted_BT(self) -> torch.Tensor | None:
        """Places that count in the loss; None: all."""

    @property
    def positions_BT(self) -> torch.Tensor | None:
        """Positions of documents that share a row."""

    @property
    def mask_BTS(self) -> torch.Tensor | None:
        """Who may look at whom; None: the causal rule."""


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


def window_nll(model: LanguageModel, batch: WindowBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of pre-training, **(sum in nats, counted tokens)**, for every objective.

    A masked token is predicted by the state *before* it, as the next token is in causal training (masked next-token
    prediction, GPT-BERT, arXiv 2410.24159): one trunk and one output matrix serve both, and only the attention
    mask differs.
    """
    hidden_BTD = model(batch.inputs_BT, positions_BT=batch.positions_BT, mask_BTS=batch.mask_BTS)
    if batch.counted_BT is None:
        return token_nll(hidden_BTD.flatten(0, 1), model.output_weight(), batch.targets_BT.flatten())
    counted_BT = batch.counted_BT
    return token_nll(hidden_BTD[counted_BT], model.output_weight(), batch.targets_BT[counted_BT])


@torch.no_grad()
def mean_nll(model: LanguageModel, batches: Sequence[TokenBatch]) -> float:
    """Mean loss over held-out batches in nats per token, in eval mode."""
    was_training = model.training
    model.train(False)
    sums = [batch_nll(model, batch) for batch in batches]
    model.train(was_training)
    return float(sum(s for s, _ in sums)) / max(float(sum(c for _, c in sums)), 1.0)
