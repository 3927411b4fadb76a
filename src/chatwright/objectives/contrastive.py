"""Contrastive loss with in-batch negatives, at several widths at once.

Shapes: N pairs, W numbers of a vector (its full width).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def info_nce(
    query_NW: torch.Tensor, passage_NW: torch.Tensor, same_NN: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """InfoNCE (CPC, arXiv 1807.03748, eq. 4) both ways, **(sum over pairs, number of pairs)**, in nats.

    Pair n: -log softmax of cos(q_n, p_n) / temperature among the passages of the batch, and the same with the roles
    changed, each by half (the symmetric form of CLIP, arXiv 2103.00020, figure 3). `same_NN[i, j]` (bool, symmetric) marks
    pairs that are no negatives of one another (the same text, the same group): they are left out of each other's sums.
    """
    query_NW, passage_NW = F.normalize(query_NW.float(), dim=-1), F.normalize(passage_NW.float(), dim=-1)
    others_NN = same_NN & ~torch.eye(len(same_NN), dtype=torch.bool, device=same_NN.device)
    scores_NN = (query_NW @ passage_NW.T / temperature).masked_fill(others_NN, -torch.inf)
    right_N = torch.arange(len(scores_NN), device=scores_NN.device)
    there = F.cross_entropy(scores_NN, right_N, reduction="sum")
    back = F.cross_entropy(scores_NN.T, right_N, reduction="sum")
    return (there + back) / 2, torch.tensor(float(len(scores_NN)), device=scores_NN.device)


def matryoshka_info_nce(
    query_NW: torch.Tensor,
    passage_NW: torch.Tensor,
    same_NN: torch.Tensor,
    *,
    dimensions: Sequence[int],
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`info_nce` of the first d numbers of the vectors, averaged over d in `dimensions`: **(sum, count)**.

    Matryoshka representation learning (arXiv 2205.13147, eq. 1, all weights equal), so that a vector may be cut to any of
    these widths and normalised again.
    """
    parts = [info_nce(query_NW[:, :d], passage_NW[:, :d], same_NN, temperature) for d in dimensions]
    return torch.stack([total for total, _ in parts]).mean(), parts[0][1]
