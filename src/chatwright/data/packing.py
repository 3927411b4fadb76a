"""Several examples in one row, each blind to the others (packing without the mask contaminates them: trl#805).

Shapes: B rows, T tokens, S keys (= T).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import torch

from chatwright.data.batches import LMBatch, pad_right
from chatwright.data.sft import Example
from chatwright.errors import DataError


def best_fit(lengths: Sequence[int], row_tokens: int) -> list[list[int]]:
    """Put items into rows of `row_tokens`: longest first, each into the fullest row that still has room.

    Returns item indices per row. DataError when an item is longer than a row.
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, row), ascending
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if lengths[item] > row_tokens:
            raise DataError(
                f"an example of {lengths[item]} tokens does not fit into a row of {row_tokens}; cut it first"
            )
        place = bisect_left(room, (lengths[item], -1))
        if place == len(room):
            rows.append([])
            free, row = row_tokens, len(rows) - 1
        else:
            free, row = room.pop(place)
        rows[row].append(item)
        insort(room, (free - lengths[item], row))
    return rows


def packed_batch(
    examples: Sequence[Example], rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str = "cpu"
) -> LMBatch:
    """Rows of examples (indices as from `best_fit`) as one batch with positions that restart and a block mask.

    The first token of an example is never a target: what stands before it belongs to another.
    """
    tokens, targets, positions, segments = [], [], [], []
    for row in rows:
        members = [examples[i] for i in row]
        tokens.append([i for example in members for i in example.ids])
        targets.append([t and n > 0 for example in members for n, t in enumerate(example.loss_mask)])
        positions.append([n for example in members for n in range(len(example.ids))])
        segments.append([s for s, example in enumerate(members) for _ in example.ids])
    return LMBatch(
        tokens_BT=pad_right(tokens, pad_id, device),
        loss_mask_BT=pad_right(targets, 0, device).bool(),
        lengths_B=torch.tensor([len(row) for row in tokens], device=device),
        positions_BT=pad_right(positions, 0, device),
        mask_BTS=block_mask(pad_right(segments, -1, device)),
    )


def block_mask(segments_BT: torch.Tensor) -> torch.Tensor:
    """[B, T, S] bool: a token looks back inside its own segment. Padding (-1) looks at itself, so no row is empty."""
    num = segments_BT.shape[1]
    causal_TS = torch.ones(num, num, dtype=torch.bool, device=segments_BT.device).tril()
    same_BTS = (segments_BT[:, :, None] == segments_BT[:, None, :]) & (segments_BT >= 0)[:, :, None]
    return (same_BTS & causal_TS) | torch.eye(num, dtype=torch.bool, device=segments_BT.device)
