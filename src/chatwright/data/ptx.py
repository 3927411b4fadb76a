"""Pre-training text beside PPO: which blocks an update takes, and which are kept aside to measure forgetting."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from chatwright.data.batches import LMBatch
from chatwright.data.cursor import Order
from chatwright.data.lm import Blocks, load_blocks
from chatwright.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class PtxText:
    """Training blocks in a seeded order, and held-out blocks. Empty when there is no ptx data."""

    blocks: Blocks | None
    num_train: int
    order: Order | None
    micro_rows: int
    device: torch.device

    @property
    def num_held_out(self) -> int:
        """Blocks kept aside."""
        return len(self.blocks) - self.num_train if self.blocks is not None else 0

    def take(self, position: int, count: int) -> list[LMBatch]:
        """Micro-batches of `count` blocks from `position` of the endless seeded order on."""
        if self.blocks is None or self.order is None or not count:
            return []
        return self._batches([self.order.at(position + i) for i in range(count)])

    def held_out(self) -> list[LMBatch]:
        """Micro-batches of the blocks that are never trained on."""
        return self._batches(range(self.num_train, self.num_train + self.num_held_out))

    def _batches(self, indices: Sequence[int]) -> list[LMBatch]:
        assert self.blocks is not None or not indices
        if self.blocks is None:
            return []
        step = self.micro_rows
        return [self.blocks.batch(indices[i : i + step], self.device) for i in range(0, len(indices), step)]


def open_ptx(
    paths: Sequence[str],
    tokenizer: Tokenizer,
    *,
    block_tokens: int,
    held_out: int,
    seed: int,
    micro_tokens: int,
    device: torch.device,
    context: int,
) -> PtxText:
    """Tokenise the files and keep the last `held_out` blocks aside; blocks are no longer than the model's `context`.
    At most a quarter of the blocks is kept aside."""
    if not paths:
        return PtxText(blocks=None, num_train=0, order=None, micro_rows=1, device=device)
    if block_tokens > context:
        print(f"pre-training text: blocks of {context} tokens, the model's context, not {block_tokens}", file=sys.stderr)
        block_tokens = context
    blocks = load_blocks(paths, tokenizer, block_tokens)
    if held_out > len(blocks) // 4:
        held_out = len(blocks) // 4
        print(f"pre-training text: {len(blocks)} blocks, so a quarter, {held_out}, are held out", file=sys.stderr)
    num_train = len(blocks) - held_out
    rows = max(1, micro_tokens // block_tokens)
    return PtxText(blocks=blocks, num_train=num_train, order=Order(num_train, seed), micro_rows=rows, device=device)
