"""Prompts with sampled answers -> micro-batches, laid out once for KL, reward, value and loss alike.

Shapes: B rows, T tokens, N answer tokens over all rows of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from chatwright.data.batches import pad_states, padded_width


@dataclass(frozen=True, kw_only=True)
class ResponseBatch:
    """Right-padded rows of prompt + answer. Answer token n of the batch is `targets_N[n]`.

    It is predicted by the state at (`row_N`, `predict_N`), one position before it, where its value is read too; in
    the caller's [all answers, answer positions] tensors it stands at (`source_N`, `column_N`).
    """

    tokens_BT: torch.Tensor
    targets_N: torch.Tensor
    row_N: torch.Tensor
    predict_N: torch.Tensor
    source_N: torch.Tensor
    column_N: torch.Tensor
    last_B: torch.Tensor
    rows: tuple[int, ...]
    bottom_BTD: torch.Tensor | None = None
    """States after the frozen blocks, where the caller has them."""


def response_batches(
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    rows: Sequence[int],
    micro_tokens: int,
    pad_id: int,
    device: torch.device | str,
    bottoms: Sequence[torch.Tensor] = (),
) -> list[ResponseBatch]:
    """Micro-batches over the given rows, of similar lengths and at most `micro_tokens` padded tokens each.

    `bottoms`: per answer [T, D], what the frozen blocks make of prompt and answer; they go into the batches.
    """
    by_length = sorted(rows, key=lambda r: (len(prompt_ids[r]) + len(response_ids[r]), r), reverse=True)
    batches, start = [], 0
    while start < len(by_length):
        width = padded_width(len(prompt_ids[by_length[start]]) + len(response_ids[by_length[start]]))
        size = max(1, micro_tokens // width)
        chosen = by_length[start : start + size]
        batches.append(_batch(prompt_ids, response_ids, chosen, width, pad_id, device, bottoms))
        start += size
    return batches


def _batch(
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    chosen: Sequence[int],
    width: int,
    pad_id: int,
    device: torch.device | str,
    bottoms: Sequence[torch.Tensor],
) -> ResponseBatch:
    tokens_BT = torch.full((len(chosen), width), pad_id, dtype=torch.long)
    places: list[tuple[int, int, int, int]] = []
    targets: list[int] = []
    for row, source in enumerate(chosen):
        prompt, response = prompt_ids[source], response_ids[source]
        tokens_BT[row, : len(prompt) + len(response)] = torch.tensor([*prompt, *response])
        places += [(row, len(prompt) - 1 + column, source, column) for column in range(len(response))]
        targets += response
    row_N, predict_N, source_N, column_N = torch.tensor(places, dtype=torch.long).unbind(1)
    last = [len(prompt_ids[s]) + len(response_ids[s]) - 1 for s in chosen]
    return ResponseBatch(
        tokens_BT=tokens_BT.to(device),
        targets_N=torch.tensor(targets).to(device),
        row_N=row_N.to(device),
        predict_N=predict_N.to(device),
        source_N=source_N,
        column_N=column_N,
        last_B=torch.tensor(last).to(device),
        rows=tuple(chosen),
        bottom_BTD=pad_states([bottoms[s] for s in chosen], width) if bottoms else None,
    )
