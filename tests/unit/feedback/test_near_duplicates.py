from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatwright.feedback.near_duplicates import PREFIX_CHARS, digests, keyed, long_prefix
from chatwright.records import conversation, user
from chatwright.records.sameness import normalised

KEY = b"k" * 32
TEMPLATE = (
    "You are given a review of a restaurant. Say whether its author would go there again, and answer with yes or no. "
    "The review follows: "
)


def test_blanks_case_and_width_make_no_other_prompt() -> None:
    assert digests(user("What  is\nＢread?"), KEY)[0] == digests(user("what is bread?"), KEY)[0]
    assert digests(user("What is bread?"), KEY)[0] != digests(user("What is butter?"), KEY)[0]


def test_a_template_with_other_inputs_is_one_prompt() -> None:
    assert len(TEMPLATE) > PREFIX_CHARS
    first, second = digests(user(TEMPLATE + "Good!"), KEY), digests(user(TEMPLATE + "Bad."), KEY)
    assert first[0] != second[0] and first[1] == second[1] != ""


def test_short_prompts_and_replies_in_other_conversations_are_not() -> None:
    assert digests(user("Write a story about a frog"), KEY)[1] == ""
    one = conversation(("user", "A"), ("assistant", "B"), ("user", "Go on"))
    other = conversation(("user", "C"), ("assistant", "B"), ("user", "Go on"))
    assert digests(one, KEY)[0] != digests(other, KEY)[0] and digests(one, KEY)[1] == ""
    grown = conversation(("user", TEMPLATE + "x"), ("assistant", "yes"), ("user", "Why?"))
    assert not set(digests(grown, KEY)) - {""} & set(digests(user(TEMPLATE + "x"), KEY))


def test_han_says_more_in_fewer_characters() -> None:
    assert long_prefix("面" * 39) == "" and long_prefix("面" * 60) == "面" * 40
    assert long_prefix("a" * (PREFIX_CHARS - 1)) == "" and len(long_prefix("a" * 1000)) == PREFIX_CHARS


def test_without_the_key_nothing_can_be_told() -> None:
    assert digests(user("hello"), KEY) != digests(user("hello"), b"other")
    assert keyed(KEY, "a", "x") != keyed(KEY, "b", "x") and len(keyed(KEY, "a", "x")) == 32


@given(st.text(max_size=400), st.text(max_size=20))
def test_what_follows_a_long_prefix_does_not_matter(text: str, more: str) -> None:
    prefix = long_prefix(normalised(text))
    if prefix and not more.startswith(("\u0300", "\u0301")):
        assert long_prefix(prefix + more) == prefix
