from __future__ import annotations

from typing import Any

from chatwright.feedback.candidates import (
    Sample,
    chosen,
    close_wording,
    digest_of,
    distinct,
    is_set,
    kind_for,
    priority_of,
)
from chatwright.feedback.tasks import Answer


def sample(name: str, text: str = "", **more: Any) -> Sample:
    return Sample(id=name, text=text or name, model="m", **more)


def test_several_answers_or_a_thumb_make_a_set() -> None:
    assert not is_set([sample("a")]) and not is_set([])
    assert not is_set([sample("a", "same"), sample("b", " same ")])
    assert is_set([sample("a"), sample("b")]) and is_set([sample("a", thumb="down")])
    assert [kind_for(n) for n in (1, 2, 3, 9)] == ["rate", "compare", "rank", "rank"]


def test_the_newest_different_answers_are_kept_and_those_with_a_thumb() -> None:
    many = [sample(f"m{n}", thumb="up" if n == 11 else "") for n in range(12)]
    kept = chosen([*many, sample("again", "m11"), sample("empty", " ")])
    assert len(kept) == 9 and "m11" in {one.id for one in kept}
    assert [one.id for one in kept] == sorted((one.id for one in kept), key=lambda name: int(name[1:]))
    assert distinct([Answer(text="a"), Answer(text=" a"), Answer(text="")]) == (Answer(text="a"),)


def test_what_a_reader_thought_moves_a_task_forward() -> None:
    plain, up, down = sample("a"), sample("b", thumb="up"), sample("c", thumb="down", reasons=("unsafe",))
    assert priority_of([plain, plain]) < priority_of([plain, up]) < priority_of([plain, down])
    assert down.answer().meta == {"origin": "new", "thumb": "down", "reasons": ["unsafe"]}


def test_another_answer_or_thumb_is_another_set() -> None:
    one = [sample("a"), sample("b")]
    assert digest_of(one) == digest_of(one[::-1])
    assert len({digest_of(one), digest_of([*one, sample("c")]), digest_of([sample("a", thumb="up"), sample("b")])}) == 3


def test_wordings_that_ask_the_same() -> None:
    assert close_wording("Write a poem about the sea", "Write a short poem about the sea, please")
    assert not close_wording("Write a poem about the sea", "How do I bake bread?")
    assert close_wording("写一首关于大海的诗", "写一首关于大海的短诗")
