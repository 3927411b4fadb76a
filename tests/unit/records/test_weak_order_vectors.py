"""The shared vectors of the labelling screens: what was typed about places on a screen is one weak order of the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatwright.errors import DataError
from chatwright.feedback import values
from chatwright.records import LETTERS, WeakOrder

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "weak_orders.json").read_text(encoding="utf-8"))


def placed(ranks: list[int | None]) -> WeakOrder:
    return WeakOrder(tuple(ranks))


@pytest.mark.parametrize("case", [case for case in VECTORS["typed"] if any(case["ranks"])], ids=lambda case: case["text"])
def test_what_is_typed_is_a_weak_order_of_the_places(case: dict[str, Any]) -> None:
    order = placed(case["ranks"])
    assert len(case["ranks"]) == case["k"]
    assert WeakOrder.parse(str(order), case["k"], order.unranked) == order
    num_ranked = case["k"] - len(order.unranked)
    assert len(order.pairs()) == num_ranked * (num_ranked - 1) // 2


@pytest.mark.parametrize("case", VECTORS["mistyped"], ids=lambda case: case["text"])
def test_what_is_mistyped_is_refused_by_the_server_too(case: dict[str, Any]) -> None:
    """Even with the blanks of a hurried hand written out, none of these is a ranking."""
    with pytest.raises(DataError):
        WeakOrder.parse(">".join(case["text"].split()), case["k"])


@pytest.mark.parametrize("case", VECTORS["shown"], ids=lambda case: f"{case['typed']} {case['shown_order']}")
def test_the_store_keeps_answers_and_not_places(case: dict[str, Any]) -> None:
    """What stood on the labeller's screen as `typed` is stored as `ranking`, and is shown to him again as he typed it."""
    shown = case["shown_order"]
    typed = ">".join(case["typed"].replace(" = ", "=").split()).upper()
    on_screen = {"ranking": typed, "unranked": [LETTERS[shown.index(LETTERS.index(one))] for one in case["unranked"]]}
    stored = values.to_stored("rank", on_screen, shown)
    assert (stored["ranking"], stored["unranked"]) == (case["ranking"], case["unranked"])
    again = values.to_screen("rank", stored, shown)
    order = WeakOrder.parse(typed, len(shown), on_screen["unranked"])
    assert WeakOrder.parse(again["ranking"], len(shown), again["unranked"]) == order
