"""Reward-model losses on rankings with ties (InstructGPT eq. 1; Rao & Kupper 1967; Davidson 1970).

Shapes: R relations (pairs of answers of one prompt). d = r_i - r_j. relation +1: i is preferred, 0: tied, -1: j is.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F

TieMode = Literal["drop", "soft", "rao_kupper", "davidson"]
PairNorm = Literal["k2", "retained"]


def relation_logprobs(
    difference_R: torch.Tensor, relation_R: torch.Tensor, mode: TieMode, tie_parameter: torch.Tensor | None
) -> torch.Tensor:
    """Log-probability [R] of each observed relation. With `drop` and `soft` a tie has no probability of its own:

    * drop: ties contribute 0 (what the paper did).
    * soft: a tied pair is half a win each way, -log(2 cosh(d/2)); no parameter.
    * rao_kupper: `tie_parameter` is rho, eta = softplus(rho); sigmoid(d - eta), (e^{2 eta} - 1) sig(d-eta) sig(-d-eta).
    * davidson: `tie_parameter` is log nu; softmax over [d/2, log nu, -d/2].
    """
    signed_R = difference_R * torch.where(relation_R >= 0, 1.0, -1.0)
    tied_R = relation_R == 0
    if mode == "drop":
        return torch.where(tied_R, torch.zeros_like(signed_R), F.logsigmoid(signed_R))
    if mode == "soft":
        # log sqrt(sig(d) sig(-d)) = -log(2 cosh(d/2)), written so that it cannot overflow
        half = 0.5 * (F.logsigmoid(signed_R) + F.logsigmoid(-signed_R))
        return torch.where(tied_R, half, F.logsigmoid(signed_R))
    assert tie_parameter is not None, f"tie mode {mode} needs its parameter"
    if mode == "rao_kupper":
        eta = F.softplus(tie_parameter)
        strict = F.logsigmoid(signed_R - eta)
        tie = torch.log(torch.expm1(2 * eta)) + F.logsigmoid(signed_R - eta) + F.logsigmoid(-signed_R - eta)
        return torch.where(tied_R, tie, strict)
    options = torch.stack((signed_R / 2, tie_parameter.expand_as(signed_R), -signed_R / 2))
    logprobs = F.log_softmax(options, dim=0)
    return torch.where(tied_R, logprobs[1], logprobs[0])


def initial_tie_parameter(mode: TieMode, tie_share: float) -> float:
    """Start value of the learned tie parameter from the share t of tied pairs in the training data.

    Davidson: log nu = log(2t / (1-t)). Rao-Kupper: nu = (1+t)/(1-t), eta = log nu, rho = softplus^-1(eta).
    """
    share = min(max(tie_share, 1e-3), 0.95)
    if mode == "davidson":
        return math.log(2 * share / (1 - share))
    if mode == "rao_kupper":
        return math.log(math.expm1(math.log((1 + share) / (1 - share))))
    return 0.0


def ranking_loss(
    scores_A: torch.Tensor,
    first_R: torch.Tensor,
    second_R: torch.Tensor,
    relation_R: torch.Tensor,
    prompt_R: torch.Tensor,
    num_prompts: int,
    *,
    mode: TieMode = "davidson",
    pair_norm: PairNorm = "k2",
    tie_parameter: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood of K-wise rankings, **(sum over prompts, number of prompts)** (InstructGPT eq. 1).

    scores_A: one score per answer. first_R, second_R: indices into scores_A of each pair; prompt_R: its prompt in
    [0, num_prompts). Every prompt weighs the same: its pairs are divided by C(K, 2) (`k2`) or by the pairs that
    have a term (`retained`: all, or the strict ones with `drop`). A prompt without terms adds 0, never NaN.
    """
    logprob_R = relation_logprobs(scores_A[first_R] - scores_A[second_R], relation_R, mode, tie_parameter)
    counted_R = torch.ones_like(logprob_R)
    if pair_norm == "retained" and mode == "drop":
        counted_R = (relation_R != 0).to(logprob_R.dtype)
    pairs_P = torch.zeros(num_prompts, dtype=logprob_R.dtype, device=scores_A.device).index_add(0, prompt_R, counted_R)
    weight_R = 1.0 / pairs_P.clamp(min=1.0)[prompt_R]
    return -(logprob_R * weight_R).sum(), torch.tensor(float(num_prompts), device=scores_A.device)
