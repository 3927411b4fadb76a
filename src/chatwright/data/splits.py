"""Splits by a hash of what must not be torn apart: a user, a prompt. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from chatwright.errors import ConfigError

Item = TypeVar("Item")


def hash_of(text: str, seed: int) -> int:
    """A number that depends on `text` and `seed` only, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{text}".encode("utf-8", "surrogatepass")).digest()[:8], "big")


def split_by(
    items: Sequence[Item], key: Callable[[Item], str], share: float, seed: int
) -> tuple[list[Item], list[Item]]:
    """(training, held-out) where about `share` of the distinct keys is held out and no key is on both sides.

    Keys are taken in the order of their hash, so the split does not depend on the order of the rows, and adding rows
    moves few keys. With 0 < share < 1 and two keys or more, both sides get at least one.
    """
    if not 0.0 <= share < 1.0:
        raise ConfigError(f"the held-out share must be at least 0 and below 1, not {share}")
    keys = [key(item) for item in items]
    ordered = sorted(set(keys), key=lambda name: (hash_of(name, seed), name))
    num = round(share * len(ordered))
    if share > 0.0 and len(ordered) > 1:
        num = min(max(num, 1), len(ordered) - 1)
    held = set(ordered[:num])
    pairs = list(zip(items, keys, strict=True))
    return [i for i, name in pairs if name not in held], [i for i, name in pairs if name in held]
