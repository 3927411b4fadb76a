from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright.labellers import rubric_zh
from chatwright.labellers.rubric import MAX_TOTAL, Item, rubric_for
from chatwright.labellers.rubric_zh import distinct, has_comparison_zh

KEYS = ("拉", "地面", "掉")
GOOD = "重力就像一只看不见的大手，把你轻轻拉回地面。你跳起来，它会把你带下来哦！"
RUBRIC = rubric_for("zh")


@pytest.fixture(autouse=True)
def _common(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixed list, so that these tests do not depend on the bundled one (tested with the museum's data)."""
    monkeypatch.setattr(rubric_zh, "common_characters", lambda: frozenset(GOOD + "很轻的话不会可以在天上飞人走"))


def parts(answer: str, *, ended: bool = True) -> dict[str, float]:
    return RUBRIC.score(Item(prompt="什么是重力？", answer=answer, keywords=KEYS, ended=ended)).parts


def total(answer: str, *, ended: bool = True) -> float:
    return RUBRIC.score(Item(prompt="什么是重力？", answer=answer, keywords=KEYS, ended=ended)).total


def test_the_best_answer_reaches_the_maximum() -> None:
    assert total(GOOD) == pytest.approx(MAX_TOTAL)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ("它就像一只看不见的大手，把你轻轻带回来。你跳起来，它会把你带下来哦！", "topic"),
        ("重力会把你轻轻拉回地面。你跳起来，它会把你带下来哦，你看不见它！", "comparison"),
        ("重力就像一只看不见的大手，把人轻轻拉回地面。人跳起来，它会把人带下来！", "address"),
        (
            "重力就像一只看不见的大手，把你轻轻拉回地面，你跳起来的时候它会把你带下来，你走在地面上它也会拉你！",
            "sentence_length",
        ),
        ("重力犹如巍峨隽永之磐石，恒牵引你趋向地面。你跃起，它会把你带下来！", "common_characters"),
        ("它就像大手，把你拉住！", "length"),
        ("重力就像一只看不见的大手，把你轻轻拉回地面。你跳起来，它会把你带下来", "sentences"),
        ("Gravity 就像一只看不见的大手，把你轻轻拉回地面。你跳起来，它会把你带下来哦！", "plain"),
        ("1. 重力就像一只看不见的大手，把你轻轻拉回地面。\n2. 你跳起来，它会把你带下来！", "plain"),
        (GOOD + "你跳起来，它会把你带下来哦！", "varied"),
        ("重力就像大手大手大手大手，把你轻轻拉回地面。你跳起来，它会把你带下来！", "varied"),
    ],
)
def test_each_part_is_lost_by_its_own_fault(answer: str, part: str) -> None:
    assert parts(answer)[part] < 1.0
    assert total(answer) < total(GOOD)


def test_acronyms_may_stand() -> None:
    assert parts("X光和DNA就像大手，把你轻轻拉回地面。你跳起来，它会把你带下来哦！")["plain"] == 1.0


def test_gates() -> None:
    assert total(GOOD, ended=False) == pytest.approx(0.3)
    assert total("") < 0.05


@pytest.mark.parametrize(
    "text", ["像小鸟一样飞。", "好像下雨。", "就像你。", "仿佛睡着了。", "它比大象还重。", "像一颗糖。", "软得像海绵。"]
)
def test_comparisons(text: str) -> None:
    assert has_comparison_zh(text)


@pytest.mark.parametrize(
    "text", ["这是一幅图像。", "偶像小时候很红。", "它很重。", "我们比赛跑步。", "它不像石头。", "像苹果这样的水果。"]
)
def test_no_comparisons(text: str) -> None:
    assert not has_comparison_zh(text)


def test_contained_key_words_count_once() -> None:
    assert distinct(["蜜蜂", "蜂", "花"]) == ["蜂", "花"]


@given(st.text(alphabet="你我像一样的了。！？，aB1 \n-#", max_size=200))
def test_any_text_scores_between_zero_and_one(text: str) -> None:
    found = RUBRIC.score(Item(prompt="q", answer=text, keywords=KEYS, ended=True))
    assert 0.0 <= found.total <= MAX_TOTAL
    assert all(0.0 <= value <= 1.0 for value in found.parts.values())
