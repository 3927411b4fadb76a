"""Keys and values of answers that ended, kept for prompts that begin like them: the next turn of a conversation.

Shapes: T tokens of an entry, K key/value heads, C features of a head.
"""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

LEAST_TOKENS = 16  # a shorter common beginning is not worth a copy


class PrefixCache:
    """At most `max_bytes` of keys and values; the entry that was used the longest ago goes first.

    An entry serves its owner only. Shared entries would tell others' prompts: by the number of cached tokens, or by time.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        """What is kept now."""
        self.hit_tokens = 0
        """Prompt tokens that were found here, over all look-ups."""
        self._entries: OrderedDict[tuple[str, bytes], tuple[npt.NDArray[np.int64], list[torch.Tensor]]] = OrderedDict()

    def keep(self, ids: Sequence[int], layers_2KTC: Sequence[torch.Tensor], owner: str = "") -> None:
        """Keep a sequence's keys and values, one tensor a layer, as copies. Entries of the owner that it continues go."""
        tokens = np.asarray(ids, dtype=np.int64)
        num_bytes = sum(layer.nbytes for layer in layers_2KTC)
        if len(tokens) < LEAST_TOKENS or num_bytes > self.max_bytes:
            return
        for key, (known, _) in list(self._entries.items()):
            if key[0] == owner and _common(known, tokens) == len(known):
                self._drop(key)
        self._entries[owner, tokens.tobytes()] = (tokens, _copies(layers_2KTC, num_bytes))
        self.num_bytes += num_bytes
        while self.num_bytes > self.max_bytes:
            self._drop(next(iter(self._entries)))

    def longest(self, ids: Sequence[int], owner: str = "") -> tuple[int, list[torch.Tensor]]:
        """(number of tokens, layers) of the longest common beginning with an entry of `owner`; (0, []) for a short one."""
        tokens = np.asarray(ids, dtype=np.int64)
        best, found = 0, ("", b"")
        for key, (known, _) in self._entries.items():
            if key[0] != owner:
                continue
            common = _common(known, tokens)
            if common > best:
                best, found = common, key
        if best < LEAST_TOKENS:
            return 0, []
        self._entries.move_to_end(found)
        self.hit_tokens += best
        return best, self._entries[found][1]

    def clear(self) -> None:
        """Forget everything: the weights have changed."""
        self._entries.clear()
        self.num_bytes = 0

    def _drop(self, key: tuple[str, bytes]) -> None:
        _, layers = self._entries.pop(key)
        self.num_bytes -= sum(layer.nbytes for layer in layers)


def _copies(layers: Sequence[torch.Tensor], num_bytes: int) -> list[torch.Tensor]:
    """Copies of all layers in one block of memory. On a CPU the block is mapped for itself: what the heap would keep of
    blocks of ever other sizes goes back to the system at once."""
    if any(layer.device.type != "cpu" for layer in layers):
        return [layer.clone() for layer in layers]
    block, out, at = torch.frombuffer(mmap.mmap(-1, num_bytes), dtype=torch.uint8), [], 0
    for layer in layers:
        copy = block[at : at + layer.nbytes].view(layer.dtype).view(layer.shape)
        out.append(copy.copy_(layer))
        at += layer.nbytes
    return out


def _common(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> int:
    """Length of the common beginning."""
    size = min(len(one), len(other))
    differs = np.flatnonzero(one[:size] != other[:size])
    return int(differs[0]) if len(differs) else size
