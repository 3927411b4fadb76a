"""Splits by a hash of what must stay together: a user, a prompt. No torch.

`split_prompts` is the split of everything that has a prompt: prompts, demonstrations, rankings.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from chatwright.errors import ConfigError
from chatwright.records import Prompt
from chatwright.records.sameness import prompt_key

USER_FIELDS = ("user", "user_id")

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
    _check(share)
    keys = [key(item) for item in items]
    ordered = sorted(set(keys), key=lambda name: (hash_of(name, seed), name))
    num = round(share * len(ordered))
    if share > 0.0 and len(ordered) > 1:
        num = min(max(num, 1), len(ordered) - 1)
    held = set(ordered[:num])
    pairs = list(zip(items, keys, strict=True))
    return [i for i, name in pairs if name not in held], [i for i, name in pairs if name in held]


def user_of(meta: Mapping[str, Any]) -> str | None:
    """The user a row came from, from its `user` or `user_id` field."""
    return next((str(meta[name]) for name in USER_FIELDS if meta.get(name) not in (None, "")), None)


def split_prompts(
    items: Sequence[Item], prompt_of: Callable[[Item], Prompt], share: float, seed: int
) -> tuple[list[Item], list[Item]]:
    """(training, held-out) where about `share` of the distinct prompts is held out.

    Prompts are equal by `sameness.prompt_key`: width, case and blanks make no difference. Rows with the same prompt stay on
    one side, and so do the rows of one user (InstructGPT section 3.2) and what these share with other users. Where users are
    too few, or share too much, for a held-out part of about that size, the split is by prompt alone, which is printed.
    """
    _check(share)
    prompts = [prompt_of(item) for item in items]
    keys = [prompt_key(prompt.messages) for prompt in prompts]
    users = [user_of(prompt.meta) for prompt in prompts]
    held = _held_out(prompts, keys, users, share, seed)
    if held is None:
        print("held-out part: too few users to keep them apart, so it is divided by prompt alone", file=sys.stderr)
        held = _held_out(prompts, keys, [None] * len(users), share, seed) or set()
    pairs = list(zip(items, keys, strict=True))
    return [item for item, key in pairs if key not in held], [item for item, key in pairs if key in held]


def _check(share: float) -> None:
    if not 0.0 <= share < 1.0:
        raise ConfigError(f"the held-out share must be at least 0 and below 1, not {share}")


def _held_out(
    prompts: Sequence[Prompt], keys: Sequence[str], users: Sequence[str | None], share: float, seed: int
) -> set[str] | None:
    """Prompt keys to hold out; None when the groups do not allow it."""
    num = len(set(keys))
    wanted = min(max(round(share * num), 1), num - 1) if share else 0
    if wanted < 1:
        return set()
    sizes: dict[str, set[str]] = {}
    groups = _groups(prompts, keys, users)
    for key, group in zip(keys, groups, strict=True):
        sizes.setdefault(group, set()).add(key)
    ordered = sorted(sizes, key=lambda name: (hash_of(name, seed), name))
    chosen: set[str] = set()
    for name in ordered:
        if len(chosen) + len(sizes[name]) <= wanted:
            chosen |= sizes[name]
    if len(chosen) == wanted:
        return chosen
    larger = [sizes[name] for name in ordered if wanted <= len(sizes[name]) <= min(1.5 * wanted, num - 1)]
    if larger:
        return min(larger, key=len)
    return chosen if len(chosen) >= wanted / 2 else None


def _groups(prompts: Sequence[Prompt], keys: Sequence[str], users: Sequence[str | None]) -> list[str]:
    """Name of each row's group: rows that share a prompt or a user, directly or through others, are of one group."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for key, user in zip(keys, users, strict=True):
        if user is not None:
            parent[root(f"prompt {key}")] = root(f"user {user}")
    roots = [root(f"prompt {key}") for key in keys]
    # The name does not depend on the order of the rows; of a prompt without a user it is the prompt's id.
    names: dict[str, str] = {}
    for place, prompt, user in zip(roots, prompts, users, strict=True):
        name = prompt.id if user is None else f"user:{user}"
        names[place] = min(names.get(place, name), name)
    return [names[place] for place in roots]
