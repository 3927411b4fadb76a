"""Preallocated key/value cache. Rows have lengths of their own, so ragged prompts need no left padding.

Shapes: B rows, T new tokens, S cached positions, K key/value heads, C features of a head.
"""

from __future__ import annotations

import torch

from chatwright.model.config import ModelConfig


class KVCache:
    """Keys and values of B sequences, `capacity` positions each.

    Row b holds `lengths_B[b]` valid positions. `Transformer.forward(..., cache=cache)` writes T new positions after
    them; `append` then makes those that are real (not padding) valid. Padding needs room too: the longest row plus T
    must fit into `capacity`.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (config.num_layers, batch, config.num_kv_heads, capacity, config.head_dim)
        self.keys_LBKSC = torch.zeros(shape, dtype=dtype, device=device)
        self.values_LBKSC = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths_B = torch.zeros(batch, dtype=torch.long, device=device)
        self._longest = 0

    @property
    def batch(self) -> int:
        """Number of rows."""
        return self.keys_LBKSC.shape[1]

    @property
    def capacity(self) -> int:
        """Positions a row can hold."""
        return self.keys_LBKSC.shape[3]

    def new_positions_BT(self, num_new: int) -> torch.Tensor:
        """Absolute positions of the next `num_new` tokens of every row: [B, T]."""
        return self.lengths_B[:, None] + torch.arange(num_new, device=self.lengths_B.device)

    def span(self, num_new: int) -> int:
        """Key positions S that attention has to look at when `num_new` tokens come in."""
        span = self._longest + num_new
        assert span <= self.capacity, f"KV cache of {self.capacity} positions is asked for {span}"
        return span

    def write(
        self, layer: int, k_BKTC: torch.Tensor, v_BKTC: torch.Tensor, positions_BT: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new keys and values of one layer; return all of them so far, [B, K, S, C] each."""
        keys, values = self.keys_LBKSC[layer], self.values_LBKSC[layer]
        num_new = k_BKTC.shape[2]
        if self._longest == 0:  # first call: every row starts at 0, a plain slice copy
            keys[:, :, :num_new] = k_BKTC
            values[:, :, :num_new] = v_BKTC
        else:
            rows_B1 = torch.arange(self.batch, device=keys.device)[:, None]
            keys.transpose(1, 2)[rows_B1, positions_BT] = k_BKTC.transpose(1, 2)
            values.transpose(1, 2)[rows_B1, positions_BT] = v_BKTC.transpose(1, 2)
        span = self.span(num_new)
        return keys[:, :, :span], values[:, :, :span]

    def append(self, counts_B: torch.Tensor | int) -> None:
        """Make the first `counts_B` of the newly written positions of each row valid."""
        self.lengths_B = self.lengths_B + counts_B
        self._longest = int(self.lengths_B.max()) if self.batch else 0

    def select(self, rows: torch.Tensor) -> KVCache:
        """A new cache made of the given rows (repeats allowed): [B'] indices."""
        out = object.__new__(KVCache)
        out.keys_LBKSC = self.keys_LBKSC.index_select(1, rows)
        out.values_LBKSC = self.values_LBKSC.index_select(1, rows)
        out.lengths_B = self.lengths_B[rows]
        out._longest = int(out.lengths_B.max()) if out.batch else 0
        return out
