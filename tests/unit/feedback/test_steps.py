from __future__ import annotations

import pytest

from chatwright.feedback.steps import MAX_CHARS, Drop, Prepared, Traffic, language_of, prepare
from chatwright.feedback.tasks import Answer
from chatwright.records import Conversation, conversation, user


def traffic(messages: Conversation, *answers: str, consented: bool = True) -> Traffic:
    kept = tuple(Answer(text=text, meta={"comment": "mail a@b.org", "origin": "new"}) for text in answers)
    return Traffic(source="api", owner="user_1", messages=messages, consented=consented, answers=kept)


@pytest.mark.parametrize(
    ("messages", "step", "reason"),
    [
        (conversation(("user", "Hi"), ("assistant", "Hello")), "usable", "no_question"),
        ((), "usable", "no_question"),
        (user("  \n"), "usable", "empty"),
        (conversation(("user", "Hi"), ("tool", "4"), ("user", "Go on")), "usable", "tools"),
        (user("x" * (MAX_CHARS + 1)), "usable", "too_long"),
        (user("a@b.org 13812345678 ?!"), "usable", "nothing_left"),
        (user("### Task:\nGenerate a concise title.\n<chat_history>x</chat_history>"), "background", "title"),
    ],
)
def test_what_is_kept_out_says_why(messages: Conversation, step: str, reason: str) -> None:
    assert prepare(traffic(messages)) == Drop(step=step, reason=reason)


def test_consent_comes_first() -> None:
    """Nothing is looked at before: not even what would be kept out anyway."""
    assert prepare(traffic((), consented=False)) == Drop(step="consent", reason="not_given")


def test_a_long_answer_counts_too() -> None:
    assert prepare(traffic(user("Hi"), "x" * MAX_CHARS)) == Drop(step="usable", reason="too_long")


def test_every_text_is_scrubbed_and_counted() -> None:
    asked = conversation(
        ("system", "You are at 203.0.113.9."), ("user", "I am a@b.org"), ("assistant", "Hi a@b.org"), ("user", "ok")
    )
    done = prepare(traffic(asked, "Call 13812345678.", "fine"))
    assert isinstance(done, Prepared)
    assert [m.content for m in done.traffic.messages] == ["You are at [IP_ADDRESS].", "I am [EMAIL]", "Hi [EMAIL]", "ok"]
    assert [a.text for a in done.traffic.answers] == ["Call [PHONE].", "fine"]
    assert done.traffic.answers[0].meta == {"comment": "mail [EMAIL]", "origin": "new"}
    assert done.replaced == {"IP_ADDRESS": 1, "EMAIL": 4, "PHONE": 1}


def test_what_no_database_keeps_becomes_storable() -> None:
    done = prepare(traffic(user("a\x00b \ud800 c")))
    assert isinstance(done, Prepared)
    done.traffic.messages[0].content.encode()
    assert "\x00" not in done.traffic.messages[0].content


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How do I bake bread?", "en"),
        ("如何用 Python 读取 CSV 文件？", "zh-CN"),
        ("パンの作り方を教えてください", "ja"),
        ("빵은 어떻게 굽나요?", "ko"),
        ("Как испечь хлеб?", "ru"),
        ("1 + 1 = ?", "en"),
        ("¿Cómo se hace el pan en casa sin levadura?", "es"),
        ("Wie backe ich ein gutes Brot zu Hause?", "de"),
    ],
)
def test_languages_of_labellers(text: str, language: str) -> None:
    assert language_of(text) == language
