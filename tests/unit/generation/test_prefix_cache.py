"""PrefixCache: the longest common beginning, within its memory, the oldest out first."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from chatwright.generation.prefix_cache import LEAST_TOKENS, PrefixCache


def layers_of(ids: list[int]) -> list[torch.Tensor]:
    """Two layers whose numbers are the tokens, so that what is found can be read: [2, 1, T, 1] each."""
    tokens = torch.tensor(ids, dtype=torch.float32)
    return [(tokens + layer)[None, None, :, None].expand(2, 1, -1, 1).clone() for layer in range(2)]


def bytes_of(num_tokens: int) -> int:
    return 2 * 2 * 4 * num_tokens


def test_the_longest_beginning_is_found() -> None:
    cache = PrefixCache(10**6)
    short, long = [*range(20), 1, 2], [*range(40), 3]
    for ids in (short, long):
        cache.keep(ids, layers_of(ids))
    for wanted, length in (([*range(40), 9], 40), ([*range(20), 1, 9], 21), ([*range(30)], 30)):
        found, layers = cache.longest(wanted)
        assert found == length
        assert layers[1][0, 0, :found, 0].tolist() == [token + 1 for token in wanted[:length]]
    assert cache.hit_tokens == 91
    assert cache.longest([5, 6, 7]) == (0, []) and cache.longest([]) == (0, [])
    assert cache.longest([*range(LEAST_TOKENS - 1), 99]) == (0, []), "not worth a copy"


def test_what_an_entry_continues_goes() -> None:
    cache = PrefixCache(10**6)
    for size in (20, 30, 40):
        cache.keep([*range(size)], layers_of([*range(size)]))
    assert cache.num_bytes == bytes_of(40)


def test_the_entry_used_longest_ago_goes_first() -> None:
    cache = PrefixCache(bytes_of(60))
    prompts = [[first, *range(19)] for first in range(4)]
    for ids in prompts[:3]:
        cache.keep(ids, layers_of(ids))
    assert cache.longest(prompts[0])[0] == 20
    cache.keep(prompts[3], layers_of(prompts[3]))
    assert [cache.longest(ids)[0] for ids in prompts] == [20, 0, 20, 20]
    cache.keep([9] * 100, layers_of([9] * 100))
    assert cache.longest([9] * 100)[0] == 0, "larger than the whole cache"
    cache.clear()
    assert cache.num_bytes == 0 and cache.longest(prompts[0])[0] == 0


def test_what_is_kept_is_a_copy() -> None:
    cache, layers = PrefixCache(10**6), layers_of([*range(20)])
    cache.keep([*range(20)], layers)
    layers[0].zero_()
    assert cache.longest([*range(20)])[1][0][0, 0, 5, 0] == 5


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=40), max_size=20), st.integers(0, 200))
def test_memory_is_bounded_and_finds_are_right(prompts: list[list[int]], most: int) -> None:
    cache = PrefixCache(bytes_of(most))
    for ids in prompts:
        found, layers = cache.longest(ids)
        if found:
            assert layers[0][0, 0, :found, 0].tolist() == ids[:found]
        cache.keep(ids, layers_of(ids))
        assert cache.num_bytes <= cache.max_bytes
        assert cache.num_bytes == sum(layer.nbytes for _, kept in cache._entries.values() for layer in kept)
