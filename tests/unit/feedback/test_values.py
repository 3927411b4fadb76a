from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright.errors import DataError
from chatwright.feedback import values
from chatwright.records import WeakOrder


@st.composite
def rankings(draw: st.DrawFn) -> tuple[dict[str, Any], list[int]]:
    """(a ranking's value, a shown order)."""
    k = draw(st.integers(2, 9))
    ranks = draw(st.lists(st.one_of(st.none(), st.integers(1, k)), min_size=k, max_size=k).filter(any))
    order = WeakOrder.from_ranks(ranks)
    value = {
        "ranking": str(order), "unranked": list(order.unranked),
        "likert": draw(st.one_of(st.none(), st.lists(st.integers(1, 7), min_size=k, max_size=k))),
        "flags": draw(st.one_of(st.none(), st.lists(st.lists(st.sampled_from(values.FLAGS)), min_size=k, max_size=k))),
    }  # fmt: skip
    return values.checked("rank", k, value), draw(st.permutations(range(k)))


@given(made=rankings())
def test_the_order_of_the_screen_changes_nothing(made: tuple[dict[str, Any], list[int]]) -> None:
    value, shown = made
    k = len(shown)
    seen = values.to_screen("rank", value, shown)
    assert values.to_stored("rank", seen, shown) == value
    stored, screen = values.order_of("rank", value, k), values.order_of("rank", seen, k)
    assert stored is not None and screen is not None
    for place, answer in enumerate(shown):
        assert screen.ranks[place] == stored.ranks[answer]
        assert value["likert"] is None or seen["likert"][place] == value["likert"][answer]
        assert value["flags"] is None or seen["flags"][place] == value["flags"][answer]
    assert values.contradictions(screen, seen["likert"]) == value["contradictions"]


def test_letters_of_the_screen() -> None:
    """Shown: answer C, then A, D, B. The labeller says: the first one shown is best, the last two are tied."""
    stored = values.to_stored("rank", {"ranking": "a > b > c = d"}, [2, 0, 3, 1])
    assert stored["ranking"] == "C>A>B=D"
    for verdict, flipped in {"a": "b", "b": "a", "tie": "tie", "both_bad": "both_bad"}.items():
        assert values.to_stored("compare", {"verdict": verdict}, [1, 0]) == {"verdict": flipped}
        assert values.to_stored("compare", {"verdict": verdict}, [0, 1]) == {"verdict": verdict}
        order = values.order_of("compare", {"verdict": verdict}, 2)
        assert str(order) == {"a": "A>B", "b": "B>A"}.get(verdict, "A=B")


GOOD: list[tuple[str, int, dict[str, Any], dict[str, Any]]] = [
    ("rank", 3, {"ranking": "c>a=b"}, {"ranking": "C>A=B", "likert": None, "contradictions": 0}),
    ("rank", 3, {"ranking": "C>A", "unranked": ["B"]}, {"ranking": "C>A", "unranked": ["B"]}),
    ("rank", 3, {"cannot_judge": True}, {"ranking": "", "cannot_judge": True}),
    ("rank", 2, {"none_acceptable": True, "ranking": "A=B"}, {"none_acceptable": True, "ranking": "A=B"}),
    ("rank", 3, {"ranking": "A>B=C", "likert": [2, 3, None]}, {"contradictions": 1}),
    ("rate", 2, {"likert": [1, 7]}, {"likert": [1, 7], "flags": [[], []]}),
    ("rate", 1, {"likert": [4], "flags": [["hallucination", "hallucination"]]}, {"flags": [["hallucination"]]}),
    ("compare", 2, {"verdict": "both_bad"}, {"verdict": "both_bad"}),
    ("demonstrate", 0, {}, {}),
]
BAD: list[tuple[str, int, dict[str, Any], str]] = [
    ("rank", 3, {}, "is empty"), ("rank", 3, {"ranking": "A>B"}, "C missing"), ("rank", 3, {"ranking": "A>B>D"}, "letters"),
    ("rank", 3, {"ranking": "A>A>B"}, "twice"), ("rank", 3, {"verdict": "a"}, "value.verdict"),
    ("rank", 3, {"ranking": "A>B>C", "likert": [1, 2]}, "likert"),
    ("rank", 2, {"ranking": "A>B", "likert": [0, 2]}, "likert"),
    ("rank", 2, {"ranking": "A>B", "likert": [True, 2]}, "likert"),
    ("rank", 2, {"ranking": "A>B", "flags": [["rude"], []]}, "flags"),
    ("rate", 2, {}, "must rate each"), ("rate", 2, {"likert": [1, None]}, "must rate each"),
    ("compare", 2, {"verdict": "c"}, "verdict"), ("demonstrate", 0, {"ranking": "A>B"}, "value.ranking"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "k", "value", "kept"), GOOD)
def test_what_is_kept(kind: str, k: int, value: dict[str, Any], kept: dict[str, Any]) -> None:
    made = values.checked(kind, k, value)
    assert {name: made[name] for name in kept} == kept
    assert values.checked(kind, k, made) == made


@pytest.mark.parametrize(("kind", "k", "value", "said"), BAD)
def test_what_is_refused(kind: str, k: int, value: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        values.checked(kind, k, value)


def test_projects_decide_about_unranked_answers() -> None:
    with pytest.raises(DataError, match="wants every answer ranked"):
        values.checked("rank", 3, {"ranking": "C>A", "unranked": ["B"]}, allow_unranked=False)


def turns(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": f"words of {role}"} for role in roles]}


def test_what_was_written_fits_its_task() -> None:
    good = [
        ("demonstrate", ("assistant",)), ("demonstrate", ("assistant", "user", "assistant")), ("prompt", ("user",)),
        ("prompt", ("system", "user", "assistant", "user")),
    ]  # fmt: skip
    for kind, roles in good:
        assert values.written(kind, turns(*roles)) == turns(*roles)
    assert values.written("rank", {"comment": " why ", "messages": []}) == {"comment": " why "}
    assert values.written("rank", {"comment": " "}) is None and values.written("compare", None) is None
    bad: list[tuple[str, Any]] = [
        ("demonstrate", None), ("demonstrate", turns("user")), ("demonstrate", turns("assistant", "user")),
        ("demonstrate", turns("assistant", "assistant")), ("prompt", turns("assistant")),
        ("prompt", turns("user", "assistant")),
        ("prompt", turns("system")), ("rank", turns("assistant")), ("rank", {"note": "x"}), ("rank", {"comment": 3}),
        ("demonstrate", {"messages": [{"role": "assistant", "content": " "}]}), ("demonstrate", turns("judge")),
    ]  # fmt: skip
    for kind, payload in bad:
        with pytest.raises(DataError):
            values.written(kind, payload)
