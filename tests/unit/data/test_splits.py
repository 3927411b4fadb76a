"""Held-out parts: no prompt and no user on both sides (core B5, case T09)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright.data.splits import split_by, split_prompts, user_of
from chatwright.errors import ConfigError
from chatwright.records import Prompt, user
from chatwright.records.sameness import prompt_key


def prompt(text: str, **meta: object) -> Prompt:
    return Prompt(messages=user(text), meta=meta)


def split(rows: Sequence[Prompt], share: float = 0.2, seed: int = 0) -> tuple[list[Prompt], list[Prompt]]:
    return split_prompts(rows, lambda row: row, share, seed)


def shared(train: Sequence[Prompt], held: Sequence[Prompt]) -> set[str]:
    return {prompt_key(p.messages) for p in train} & {prompt_key(p.messages) for p in held}


@pytest.mark.parametrize("seed", range(5))
def test_case_width_and_blanks_do_not_put_a_prompt_on_both_sides(seed: int) -> None:
    variants = ["Name car {}.", "Name car {}.\n", "name  car {}.", "ＮＡＭＥ car {}."]
    variants += ["Name\u3000car {}.", "Name\u00a0car {}. "]
    rows = [prompt(variant.format(n)) for variant in variants for n in range(20)]
    train, held = split(rows, seed=seed)
    assert not shared(train, held) and len(held) == 4 * len(variants)


@pytest.mark.parametrize("field", ["user", "user_id"])
def test_users_stay_on_one_side(field: str) -> None:
    rows = [prompt(f"q{n}", **{field: f"u{n % 10}"}) for n in range(100)]
    train, held = split(rows)
    users = [{user_of(p.meta) for p in side} for side in (train, held)]
    assert not users[0] & users[1] and len(users[1]) == 2 and len(held) == 20


def test_users_who_share_a_prompt_stay_together() -> None:
    rows = [prompt(f"q{n}", user=f"u{n % 10}") for n in range(100)]
    rows += [prompt(" Q0 ", user="u1"), prompt("q1", user="u2")]
    for seed in range(10):
        train, held = split(rows, 0.3, seed)
        assert not shared(train, held)
        assert not {user_of(p.meta) for p in train} & {user_of(p.meta) for p in held}


@pytest.mark.parametrize("users", [1, 2])
def test_few_users_are_divided_by_prompt_which_is_said(users: int, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [prompt(f"q{n}", user=f"u{n % users}") for n in range(50)]
    train, held = split(rows)
    assert len(held) == 10 and not shared(train, held)
    assert "by prompt alone" in capsys.readouterr().err


def test_a_group_a_little_larger_is_taken_rather_than_too_little() -> None:
    rows = [prompt(f"q{n}", user=name) for n, name in enumerate("a" * 12 + "b" * 9 + "c" * 9)]
    assert {user_of(p.meta) for p in split(rows, 1 / 3)[1]} == {"a"}


def test_without_users_or_variants_the_split_is_by_id_as_ever() -> None:
    """Splits of existing data at a fixed seed stay as they were."""
    rows = [prompt(f"q{n}") for n in range(57)]
    for share in (0.1, 0.25, 0.9):
        assert split(rows, share, 3) == split_by(rows, lambda p: p.id, share, 3)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from([None, "a", "b", "c", "d", "e"])), min_size=2, max_size=60),
    st.floats(0.0, 0.9),
    st.integers(0, 3),
)
def test_any_rows_and_any_order_of_them(pairs: list[tuple[int, str | None]], share: float, seed: int) -> None:
    rows = [prompt(f"q{n}", user=name) for n, name in pairs]
    train, held = split(rows, share, seed)
    assert len(train) + len(held) == len(rows) and not shared(train, held)
    num = len({prompt_key(p.messages) for p in rows})
    assert bool(held) == (share > 0 and num > 1)
    assert train
    backwards = split(rows[::-1], share, seed)[1]
    assert {p.id for p in backwards} == {p.id for p in held}


def test_a_share_is_below_one() -> None:
    for share in (1.0, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="share"):
            split([prompt("a")], share)
