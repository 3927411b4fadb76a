from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright.errors import DataError
from chatwright.house.forms import Form, Text
from chatwright.house.language import load_language
from chatwright.house.lexer import lex

NEGATORS = load_language("en").negators


def has(form: str, answer: str) -> bool:
    return bool(Text(answer, NEGATORS).find(Form.parse(form, NEGATORS)))


MATCHES = """
10 am            | We open at ten.
10 am            | open from 10 to 5
10 am            | 10:00
10 am            | ten o'clock in the morning
10 am            | It is 10 a.m. daily.
5 pm             | our hours are ten to five
17:00            | five o’clock
17:00            | at 5pm
5 pm             | 17:00
9:30             | half past nine
9:30             | nine thirty in the morning
4:45             | quarter to five
2 pm             | every day at two in the afternoon
8 pm             | until eight in the evening
12 noon          | at noon
$6               | six dollars
$6               | $6.00 each
6 dollars        | a six-dollar ticket
$150             | one hundred and fifty dollars
$1.50            | one dollar and fifty cents
1,500            | fifteen hundred people
45 minutes       | forty-five minutes
10 minutes       | a ten-minute walk
second floor     | on the 2nd floor
1911             | in nineteen eleven
110 cm           | 110cm tall
assistance dogs  | an assistance dog
$6               | It is **six dollars** each.
Dottie           | Say hello to *Dottie*!
café             | the cafe's door
open*            | our opening hours
first & Sunday   | The first time is on Sunday.
~Monday          | We are not open on Monday.
without flash    | Photos are fine without flash.
Lindqvist        | AMARA LINDQVIST!
下午五点         | 下午5点
17:00            | 五点钟
9:30             | 早上九点半
9:45             | 九点三刻
¥20              | 二十块钱
20元             | ２０ 元
三楼             | 在3楼
周一             | 星期一
周日             | 礼拜天
25人             | 二十五人
第二             | 第2
"""
MISSES = """
Monday           | Come on any day, not on Monday.
Monday           | We aren't open on Monday.
second floor     | It is not on the second floor.
$6               | $16
$6               | $6.50
6                | at 6:00 pm
10 am            | 10 pm
10 am            | 10 dollars
10 am            | from 10 minutes on
10 am            | at 10:30
5 pm             | for 15 children
first floor      | second floor
first & Sunday   | The first time. Sunday is fine.
cat              | a catalogue
三楼             | 十三楼
17:00            | 上午五点
一点半           | 我一点也不知道
"""


def pairs(table: str) -> list[tuple[str, str]]:
    return [tuple(part.strip() for part in line.split(" | ")) for line in table.strip().splitlines()]  # type: ignore[misc]


@pytest.mark.parametrize(("form", "answer"), pairs(MATCHES))
def test_form_matches(form: str, answer: str) -> None:
    assert has(form, answer), [token.key for token in lex(answer)]


@pytest.mark.parametrize(("form", "answer"), pairs(MISSES))
def test_form_does_not_match(form: str, answer: str) -> None:
    assert not has(form, answer), [token.key for token in lex(answer)]


def test_a_negation_ends_with_its_clause() -> None:
    assert has("ground floor", "No, it is on the ground floor.")
    assert has("Saturday", "We are not here on Friday, but Saturday is fine.")
    assert has("bees", "Not only bees live here.")


def test_a_form_with_its_own_negator_is_found() -> None:
    assert has("not allowed", "Dogs are not allowed here.")


@pytest.mark.parametrize(
    "text", ["", "  ", "!!", "~", "a & ", "lo*ck", "*", "One. Two", r"\d+", "a|b", "[ab]", "a.*", "(a+)+b", "x" * 201]
)
def test_unusable_forms_are_refused(text: str) -> None:
    with pytest.raises(DataError):
        Form.parse(text)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_read(form: str, answer: str) -> None:
    Text(answer, NEGATORS)
    try:
        parsed = Form.parse(form, NEGATORS)
    except DataError:
        return
    Text(answer, NEGATORS).find(parsed)


@pytest.mark.parametrize("unit", ["a", "a ", "9", "9:", "one ", "twenty ", "一", "a'", ".", "a-", "$", "half past "])
def test_reading_is_linear(unit: str) -> None:
    """Ten times the text takes about ten times the time, for inputs that stop backtracking engines."""

    def seconds(count: int) -> float:
        best = float("inf")
        for _ in range(3):
            before = time.process_time()
            Text(unit * count, NEGATORS).find(Form.parse("a a a a b"))
            best = min(best, time.process_time() - before)
        return best

    assert seconds(4_000) < 80 * max(seconds(400), 0.002)
