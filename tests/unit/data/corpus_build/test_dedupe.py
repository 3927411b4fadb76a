"""MinHash estimates what it should; groups and buckets lose nothing."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatwright.data.corpus_build import dedupe, spool
from chatwright.text.letters import windows, words
from corpus_texts import article


def jaccard(one: str, other: str, ngram: int = 5) -> float:
    a, b = (set(windows(words(text).hashes, ngram).tolist()) for text in (one, other))
    return len(a & b) / len(a | b)


def test_signatures_estimate_the_jaccard_similarity() -> None:
    errors = []
    for seed in range(60):
        text = article(seed, words=300)
        parts = text.split()
        other = " ".join(parts[: 3 * seed + 60]) + " " + article(1000 + seed, words=40)
        similar = jaccard(text, other)
        rows = [dedupe.signature(words(t), 5) for t in (text, other)]
        errors.append(float((rows[0] == rows[1]).mean()) - similar)
        assert abs(errors[-1]) < 5 * np.sqrt(max(similar * (1 - similar), 0.01) / spool.NUM_HASHES)
    assert abs(np.mean(errors)) < 0.02  # unbiased


def test_signatures_are_the_same_on_every_machine() -> None:
    """Parts of a killed build are used by the next one: a new version of the library must not change them silently."""
    row = dedupe.signature(words("the quick brown fox jumps over the lazy dog"), 5)
    assert row[:4].tolist() == [1669565859, 3732482862, 3336360611, 3270010734] and row.shape == (spool.NUM_HASHES,)


def spooled(folder: Path, texts: list[str], per_part: int = 7) -> list[int]:
    (folder / "parts").mkdir()
    (folder / "sorted").mkdir()
    sizes = []
    for number, start in enumerate(range(0, len(texts), per_part)):
        some = texts[start : start + per_part]
        rows = [(dedupe.text_key(t), len(t), len(t), b"en Latin", dedupe.signature(words(t), 5)) for t in some]
        spool.write_part(folder / "parts", number, some, np.array(rows, spool.record_dtype(near=True)), {})
        sizes.append(len(some))
    return sizes


@pytest.mark.parametrize("bucket_entries", [2**20, 16])
def test_duplicates_against_brute_force(bucket_entries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "_BUCKET_ENTRIES", bucket_entries)
    random = Random(3)
    texts = [article(n, words=150) for n in range(40)]
    for _ in range(60):
        parts = random.choice(texts).split()
        for _ in range(random.choice([0, 1, 1, 60])):
            parts[random.randrange(len(parts))] = "changed"
        texts.append(" ".join(parts))
    random.shuffle(texts)
    found = dedupe.Duplicates(tmp_path / "sorted", tmp_path / "parts", spooled(tmp_path, texts))
    found.mark_exact()
    found.mark_near(0.75)
    for n, text in enumerate(texts):
        earlier = texts[:n]
        if found.verdicts[n] == dedupe.EXACT:
            assert text in earlier
        elif text in earlier:
            pytest.fail("an exact duplicate was not found")
        best = max((jaccard(text, other) for other in earlier), default=0.0)
        if found.verdicts[n] == dedupe.KEEP:
            assert best < 0.95
        if best < 0.5:
            assert found.verdicts[n] == dedupe.KEEP
    assert (found.verdicts == dedupe.EXACT).any() and (found.verdicts == dedupe.NEAR).any()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    keys=st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63, 2**64 - 1]), max_size=60), bits=st.integers(0, 6)
)
def test_buckets_give_back_every_group(keys: list[int], bits: int, tmp_path_factory: Any) -> None:
    buckets = dedupe._Buckets(tmp_path_factory.mktemp("b") / "x", dedupe._BUCKET_ENTRIES * (2**bits - 1))
    values = np.array(keys, np.uint64)
    numbers = np.arange(len(keys), dtype=np.uint64)
    for start in range(0, len(keys), 9):
        some = slice(start, start + 9)
        buckets.add(values[some], values[some] >> np.uint64(1), numbers[some])
    groups = sorted(tuple(group.tolist()) for entries in buckets for group in dedupe._groups(entries))
    expected: dict[int, list[int]] = {}
    for n, key in enumerate(keys):
        expected.setdefault(key, []).append(n)
    assert groups == sorted(tuple(group) for group in expected.values() if len(group) > 1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_leaders_are_the_first_of_their_set(pairs: list[tuple[int, int]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        leaders = dedupe._Leaders(Path(folder, "x"), 31)
        sets = {n: {n} for n in range(31)}
        for one, other in pairs:
            leaders.join(one, other)
            joined = sets[one] | sets[other]
            for n in joined:
                sets[n] = joined
        assert leaders.joined(0, 31).tolist() == [n for n in range(31) if min(sets[n]) != n]
