"""Sizes of matrix products: few different ones.

oneDNN keeps compiled code and tables for every shape it has multiplied, 0.5 to 0.7 MB each, and takes 5 to 15 ms to make
them. A prompt whose length nobody had before cost seven of them: a server's memory grew by 4 MB with each. So prompts are
padded, groups of prompts have sizes that are powers of two, and the columns of a cache come in steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

SPAN_BLOCK = 32
"""Key columns are looked at in whole blocks: sums that do not depend on neighbours."""
KEPT_PRIMITIVES = 512
"""Shapes that oneDNN keeps in a server, for those that stay free: the lengths of long conversations."""


def round_up(number: int, block: int) -> int:
    """The next multiple of `block`."""
    return -(-number // block) * block


def span_of(length: int) -> int:
    """Columns of a cache for so many positions: whole blocks, 8 sizes from one power of two to the next, at most an eighth
    of them empty beyond a block."""
    octave = 1 << max(length - 1, 1).bit_length() - 1
    return round_up(length, max(SPAN_BLOCK, octave // 8))


def padded(num_tokens: int) -> int:
    """Tokens that a part of a prompt is computed as: multiples of 16 up to 128, of 32 beyond."""
    return round_up(num_tokens, 16 if num_tokens <= 128 else 32)


def groups(count: int, most: int) -> Iterator[int]:
    """Sizes that add up to `count`: powers of two, none above `most`."""
    while count > 0:
        size = 1 << min(count, max(most, 1)).bit_length() - 1
        yield size
        count -= size


def bound_primitives() -> None:
    """Let oneDNN keep `KEPT_PRIMITIVES` shapes instead of 1024. Only before its first product, and unless the environment
    says otherwise."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT_PRIMITIVES))
