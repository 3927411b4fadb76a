"""Heads. Reward model and critic: a transformer trunk with one number per position; embeddings: a vector per text.

Shapes: B rows, T tokens, D width, A answers.
"""

from __future__ import annotations

import torch
from torch import nn

from chatwright.model.transformer import Transformer


class ScalarHead(nn.Module):
    """One number from a hidden state, computed in fp32."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(hidden_size, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros((), dtype=torch.float32))

    def init_normal(self, generator: torch.Generator) -> None:
        """Weight from N(0, 1 / sqrt(D + 1)), bias 0, as in OpenAI's published reward-model code."""
        std = (self.weight.numel() + 1) ** -0.5
        with torch.no_grad():
            drawn = torch.randn(self.weight.shape, generator=generator, dtype=torch.float32) * std
            self.weight.copy_(drawn)
            self.bias.zero_()

    @torch.no_grad()
    def init_zeros(self) -> None:
        """Weight and bias 0: how a critic starts (N+, arXiv 2403.17031)."""
        self.weight.zero_()
        self.bias.zero_()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [...] in fp32."""
        return hidden.float() @ self.weight + self.bias


class ScalarModel(nn.Module):
    """A trunk with a scalar head. As a reward model it is read at the last response token, as a critic at every one.

    `tie_parameter` is rho (Rao-Kupper) or log nu (Davidson); it only speaks about labels, not about scores.
    """

    def __init__(self, trunk: Transformer) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = ScalarHead(trunk.config.hidden_size)
        self.tie_parameter = nn.Parameter(torch.zeros((), dtype=torch.float32))

    def forward(
        self,
        tokens_BT: torch.Tensor,
        *,
        positions_BT: torch.Tensor | None = None,
        mask_BTS: torch.Tensor | None = None,
        bottom_BTD: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Token ids [B, T] -> one fp32 number per position [B, T]; `bottom_BTD` as in `Transformer.forward`."""
        hidden_BTD = self.trunk(tokens_BT, positions_BT=positions_BT, mask_BTS=mask_BTS, bottom_BTD=bottom_BTD)
        out: torch.Tensor = self.head(hidden_BTD)
        return out


class EmbeddingHead(nn.Module):
    """A linear map from pooled hidden states to the vectors of texts, computed in fp32."""

    def __init__(self, hidden_size: int, dimensions: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, dimensions, dtype=torch.float32)

    @torch.no_grad()
    def init_orthogonal(self, generator: torch.Generator) -> None:
        """Orthonormal columns (rows, when the output is narrower) and bias 0: cosines start as those of the states."""
        nn.init.orthogonal_(self.linear.weight, generator=generator)
        self.linear.bias.zero_()

    @torch.no_grad()
    def init_whitened(self, states_ND: torch.Tensor, generator: torch.Generator) -> None:
        """`init_orthogonal` after whitening (arXiv 2103.15316): the mean of `states_ND` becomes 0, their directions weigh
        alike. States of a language model share one large direction; vectors that start with it all collapse into it.

        The covariance is mixed with a tenth of its mean variance: directions that hardly vary are not blown up.
        """
        self.init_orthogonal(generator)
        states_ND = states_ND.double().cpu()
        mean_D = states_ND.mean(0)
        covariance_DD = (states_ND - mean_D).T @ (states_ND - mean_D) / len(states_ND)
        values_D, turn_DD = torch.linalg.eigh(covariance_DD)
        scale_D = (values_D.clamp(min=0) + 0.1 * values_D.mean().clamp(min=1e-12)).rsqrt()
        whiten_DD = turn_DD @ torch.diag(scale_D) @ turn_DD.T
        weight_WD = self.linear.weight.double().cpu() @ whiten_DD
        self.linear.weight.copy_(weight_WD)
        self.linear.bias.copy_(-(weight_WD @ mean_D))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., dimensions] in fp32, not normalised."""
        out: torch.Tensor = self.linear(pooled.float())
        return out
