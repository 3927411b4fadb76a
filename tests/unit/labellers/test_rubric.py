from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright.errors import ConfigError, DataError
from chatwright.labellers.rubric import MAX_TOTAL, Item, gold_judge, has_comparison, rubric_for, topic_share
from chatwright.records import Prompt, user

KEYS = ("pull", "fall", "ground", "earth")
GOOD = "Gravity is like a big hand that pulls you down to the ground. When you jump, it brings you back!"
RUBRIC = rubric_for("en")


def score(answer: str, *, ended: bool = True, keywords: tuple[str, ...] = KEYS) -> float:
    return RUBRIC.score(Item(prompt="What is gravity?", answer=answer, keywords=keywords, ended=ended)).total


def parts(answer: str, *, ended: bool = True) -> dict[str, float]:
    return RUBRIC.score(Item(prompt="What is gravity?", answer=answer, keywords=KEYS, ended=ended)).parts


def test_the_best_answer_reaches_the_maximum() -> None:
    assert score(GOOD) == pytest.approx(MAX_TOTAL)
    assert set(parts(GOOD).values()) == {1.0}


def test_weights_sum_to_one_and_leave_headroom() -> None:
    for language in ("en", "zh"):
        rubric = rubric_for(language)
        assert sum(rubric.weights.values()) == pytest.approx(1.0)
        assert all(0 < factor < 1 for factor in rubric.gates.values())
        # Short easy whole sentences alone, and on topic half the time with half the style, stay under 0.6.
        hard = rubric.weights["topic"] + rubric.weights["comparison"] + rubric.weights["address"]
        assert 1 - hard + 0.5 * hard < 0.6


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ("It is like a big kind hand that never ever lets you go. When you jump, it brings you back!", "topic"),
        (
            "Gravity pulls you down to the ground. When you jump, it brings you back down to where you stand!",
            "comparison",
        ),
        ("Gravity is like a big hand that pulls things down to the ground. A ball comes back, too!", "address"),
        (
            "Gravitational interaction resembles an invisible elastic connection, like a rubber band, continuously "
            "pulling everything, including you, in the direction of the ground.",
            "grade",
        ),
        ("Like a hand, it pulls you to the ground.", "length"),
        (
            "gravity is like a big hand that pulls you down to the ground. When you jump, it brings you back",
            "sentences",
        ),
        ("Gravity is like a big hand:\n- it pulls you\n- it keeps you on the ground when you jump up high.", "plain"),
        (
            "**Gravity** is like a big hand that pulls you down to the ground. When you jump, it brings you back!",
            "plain",
        ),
        ("重力 is like a big hand that pulls you down to the ground. When you jump, it brings you back!", "plain"),
        ("Gravity is like a big hand that pulls you down to the ground when you jump up high.", "count"),
        ("It is a hand. It pulls you. You jump up. You fall down. It is like a string.", "count"),
        (GOOD + " When you jump, it brings you back!", "varied"),
        ("It is like a hand pull pull pull pull pull pull pull on you and on the ground and on me.", "varied"),
    ],
)
def test_each_part_is_lost_by_its_own_fault(answer: str, part: str) -> None:
    assert parts(answer)[part] < 1.0
    assert score(answer) < score(GOOD)


def test_gates_outweigh_style() -> None:
    plain_answer = "It pulls all things down to the ground. That is why a ball that you throw comes back."  # no comparison
    assert score(GOOD, ended=False) == pytest.approx(0.3)
    assert score(GOOD, ended=False) < score(plain_answer)
    assert score("") < 0.05
    assert score("1. It pulls you.\n2. It is like a hand.") < 0.3


def test_topic_counts_distinct_key_words_with_endings() -> None:
    assert topic_share("Nothing of the kind.", KEYS) == 0.0
    assert topic_share("It PULLS. It pulled, it is pulling.", KEYS) == 0.5
    assert topic_share("It pulls you to the ground.", KEYS) == 1.0
    assert topic_share("The bullfall and pullover groundhogs", KEYS) == 0.0
    assert topic_share("Bees make it.", ("bee", "bees")) == 0.5, "two forms of one word in the list are one key word"
    assert topic_share("They were running and making berries.", ("run", "make", "berry")) == 1.0
    assert topic_share("in outer space", ("outer space", "rocket")) == 0.5


@pytest.mark.parametrize(
    "text",
    [
        "It is like a ball.",
        "It runs out like soup.",
        "The skin shakes fast, like jelly on a plate.",
        "Just like you, plants need food.",
        "A whale is as long as two buses.",
        "It is as big as your hand.",
        "Think of a balloon.",
        "Imagine the air is a soft blanket.",
        "An ant is smaller than a grain of rice.",
        "Like a sponge, it soaks up water.",
        "It looks like the moon.",
        "It tugs on you like a string.",
    ],
)
def test_comparisons(text: str) -> None:
    assert has_comparison(text)


@pytest.mark.parametrize(
    "text",
    [
        "I like apples.",
        "You like apples too.",
        "We all like a red apple.",
        "Bees like the sun.",
        "Many animals like the dark.",
        "Children like a warm bath.",
        "Would you like a piece?",
        "That is what it looks like.",
        "It looks like it will rain.",
        "It looks like that.",
        "As well as water, it needs food.",
        "Come as soon as you can.",
        "Pets, like cats and dogs, need food.",
        "It is other than a planet.",
        "It is bigger than before.",
    ],
)
def test_no_comparisons(text: str) -> None:
    assert not has_comparison(text)


def test_a_prompt_without_key_words_is_refused() -> None:
    with pytest.raises(DataError, match="keywords"):
        score(GOOD, keywords=())


def test_unknown_language() -> None:
    with pytest.raises(ConfigError, match="en or zh"):
        rubric_for("fr")


def test_gold_judge_reads_key_words_from_the_prompt() -> None:
    class Said:
        text = GOOD
        ended = True

    judge = gold_judge(RUBRIC)
    assert judge(Prompt(messages=user("What is gravity?"), meta={"keywords": list(KEYS)}), Said()).total == 1.0
    with pytest.raises(DataError, match="What is gravity"):
        judge(Prompt(messages=user("What is gravity?")), Said())


@given(st.text(max_size=300), st.booleans())
def test_any_text_scores_between_zero_and_one(text: str, ended: bool) -> None:
    found = RUBRIC.score(Item(prompt="q", answer=text, keywords=KEYS, ended=ended))
    assert 0.0 <= found.total <= MAX_TOTAL
    assert all(0.0 <= value <= 1.0 for value in found.parts.values())


# What an SFT model at temperature 1 writes: short and easy, on topic and well put only some of the time.
TYPICAL = [
    "It is a big thing that moves. It can be very small or very big. People use it each day.",
    "Gravity is a force. It makes things go down to the ground. You can see it when you drop a ball.",
    "It is when the sun goes down. The sky gets dark, and the stars come out like tiny lamps.",
    "Some are big and some are small. They live in the sea and eat little fish.",
    "The earth pulls on you all day. When you jump up, you come back down, like a ball on a string.",
    "It is a kind of air. You can not see it, but it is all around.",
    "A long time ago, people made it out of wood. Now it is made of metal.",
    "It goes round and round. It is hot in the middle and cold on the outside.",
]


def test_typical_short_answers_leave_headroom() -> None:
    assert sum(score(answer) for answer in TYPICAL) / len(TYPICAL) <= 0.6
