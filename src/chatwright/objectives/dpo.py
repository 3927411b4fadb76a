"""Direct preference optimisation with ties (arXiv 2305.18290; ties: Rao-Kupper and Davidson, arXiv 2409.17431).

Shapes: R relations. The implicit reward of an answer is beta * (log pi(answer) - log pi_ref(answer)).
"""

from __future__ import annotations

import torch

from chatwright.objectives.ranking import TieMode, ranking_loss


def dpo_loss(
    logprob_A: torch.Tensor,
    reference_A: torch.Tensor,
    first_R: torch.Tensor,
    second_R: torch.Tensor,
    relation_R: torch.Tensor,
    prompt_R: torch.Tensor,
    num_prompts: int,
    *,
    beta: float,
    mode: TieMode = "davidson",
    tie_parameter: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """K-wise DPO, **(sum over prompts, number of prompts)**; logprob_A: summed log-probability of each answer, nats."""
    reward_A = beta * (logprob_A - reference_A)
    return ranking_loss(
        reward_A, first_R, second_R, relation_R, prompt_R, num_prompts, mode=mode, tie_parameter=tie_parameter
    )
