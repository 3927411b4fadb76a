"""Pairs: reading, duplicates, a split without leaks, the order of batches."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatwright.data.pairs import Pair, SourceOrder, distinct, load_pairs, split_pairs, text_key
from chatwright.data.pairs_build import PairsConfig, answer_pairs, build, cldr_pairs, title_pairs
from chatwright.errors import ConfigError, DataError
from tiny_training import read_rows, write_rows

PAIRS = st.lists(
    st.builds(
        Pair,
        query=st.sampled_from("abcdefgh"),
        passage=st.sampled_from("ABCDijkl"),
        source=st.sampled_from(["x", "y"]),
        group=st.sampled_from(["", "1", "2", "3", "4"]),
    ),
    max_size=40,
)


def test_rows_there_and_back(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"query": "apple", "passage": "苹果", "source": "cldr", "group": "🍎"}, {"query": "a", "passage": "b", "more": 1},
    ]  # fmt: skip
    pairs = load_pairs(write_rows(tmp_path / "p.jsonl", rows))
    assert pairs[0].to_dict() == rows[0] and pairs[1] == Pair(query="a", passage="b")
    for bad in ({"query": "a"}, {"query": "a", "passage": " "}, {"query": 3, "passage": "b"}):
        with pytest.raises(DataError, match="p.jsonl:1: (query|passage)"):
            load_pairs(write_rows(tmp_path / "p.jsonl", [bad]))


@settings(max_examples=60, deadline=None)
@given(pairs=PAIRS, share=st.floats(0.1, 0.6), seed=st.integers(0, 99))
def test_nothing_held_out_is_trained_on(pairs: list[Pair], share: float, seed: int) -> None:
    kept = distinct(pairs)
    said = {frozenset((text_key(p.query), text_key(p.passage))) for p in pairs}
    assert sorted(map(sorted, (frozenset((text_key(p.query), text_key(p.passage))) for p in kept))) == sorted(
        sorted(both) for both in said if len(both) == 2
    )
    train, held = split_pairs(kept, share, seed)
    texts = [{text_key(t) for p in side for t in (p.query, p.passage)} for side in (train, held)]
    assert not texts[0] & texts[1] and not {p.unit for p in train} & {p.unit for p in held}
    assert set(train) <= set(kept) and set(held) <= set(kept)
    assert sorted(map(str, held)) == sorted(map(str, split_pairs(kept[::-1], share, seed)[1])), "whatever the order of rows"


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    batch=st.integers(2, 9),
    alpha=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_batches_are_of_one_source_and_go_through_everything(sizes: list[int], batch: int, alpha: float) -> None:
    pairs = [Pair(query=f"q{s}{n}", passage=f"p{s}{n}", source=str(s)) for s, size in enumerate(sizes) for n in range(size)]
    order = SourceOrder(pairs, alpha=alpha, seed=1)
    weights = {str(s): size**alpha for s, size in enumerate(sizes)}
    turns: Counter[str] = Counter()
    seen: dict[str, list[int]] = {}
    for step in range(80):
        places = order.batch(step, batch)
        (source,) = {pairs[place].source for place in places}
        assert len(set(places)) == len(places) == min(batch, sizes[int(source)])
        turns[source] += 1
        seen.setdefault(source, []).extend(places)
        assert all(abs(turns[s] - (step + 1) * w / sum(weights.values())) < len(sizes) for s, w in weights.items())
    fresh = SourceOrder(pairs, alpha=alpha, seed=1)
    assert fresh.batch(57, batch) == order.batch(57, batch), "the step is the whole state"
    for source, places in seen.items():
        size = min(batch, sizes[int(source)])
        one_pass = places[: sizes[int(source)] // size * size]
        assert len(set(one_pass)) == len(one_pass), "no pair twice within a pass"


def test_cldr_names() -> None:
    names = {"🍎": {"en": ("red apple", "apple", "fruit"), "es": ("manzana roja", "fruta"), "zh": ("红苹果",)}}
    found = [(p.source, p.query, p.passage) for p in cldr_pairs(names)]
    assert found == [
        ("cldr en-es", "red apple", "manzana roja"),
        ("cldr en-zh", "red apple", "红苹果"),
        ("cldr es-zh", "manzana roja", "红苹果"),
        ("cldr sign-en", "🍎", "red apple"),
        ("cldr keywords-en", "apple, fruit", "red apple"),
        ("cldr sign-es", "🍎", "manzana roja"),
        ("cldr sign-zh", "🍎", "红苹果"),
    ]
    assert {p.group for p in cldr_pairs(names)} == {"🍎"}


def test_answers_and_titles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers: list[dict[str, Any]] = [
        {"prompt": "Why is the sky blue?", "completions": ["It is far away from here.", "Air scatters blue light more."],
         "ranking": "B>A", "context": [{"title": "Sky", "text": "Rayleigh scattering of sunlight."}]},
        {"prompt": "Who?", "completions": ["A very long first answer.", "A very long second one."], "ranking": "A=B"},
    ]  # fmt: skip
    demos = [
        {"prompt": "What is rain?", "completion": "Water that falls from clouds."}, {"prompt": "Yes?", "completion": "No."},
    ]  # fmt: skip
    poems: list[dict[str, Any]] = [
        {"title": "春晓", "paragraphs": ["春眠不觉晓，", "处处闻啼鸟。"]},
        {"title": "咏史 二首 其一", "paragraphs": ["北湖南埭水漫漫"]},
    ]
    rankings, demonstrations = write_rows(tmp_path / "r.jsonl", answers), write_rows(tmp_path / "d.jsonl", demos)
    titled = write_rows(tmp_path / "t.jsonl", poems)
    assert [(p.query, p.passage, p.source) for p in answer_pairs(rankings)] == [
        ("Why is the sky blue?", "Air scatters blue light more.", "answers r"),
        ("Why is the sky blue?", "Rayleigh scattering of sunlight.", "passages r"),
        ("Who?", "A very long first answer.", "answers r"),
    ]
    assert [(p.passage, p.group) for p in title_pairs(titled)] == [
        ("春眠不觉晓，处处闻啼鸟。", "春晓"), ("北湖南埭水漫漫", "咏史"),
    ]  # fmt: skip
    out = tmp_path / "pairs.jsonl"
    counts = build(
        PairsConfig(answers=(str(rankings), str(demonstrations), str(rankings)), titled=(str(titled),), out=str(out))
    )
    assert counts == {"answers r": 2, "passages r": 1, "answers d": 1, "titles t": 2} == Counter(
        row["source"] for row in read_rows(out)
    )
    assert "wrote 6 pairs" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="nothing to pair"):
        build(PairsConfig(out="x"))
    with pytest.raises(ConfigError, match="without --locales"):
        build(PairsConfig(titled=("x",), cldr_file="y", out="x"))
    with pytest.raises(DataError, match="t.jsonl:1: text: is missing"):
        list(title_pairs(titled, text_field="text"))
