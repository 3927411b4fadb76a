"""One document at a time: normal form, language, quality, profanity, contamination, and the adapters for other engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatwright.data.corpus_build import adapters
from chatwright.data.corpus_build.cleaner import Clean, Cleaner, Dropped
from chatwright.data.corpus_build.config import BuildConfig, QualityConfig
from chatwright.data.corpus_build.decontaminate import contamination
from chatwright.data.corpus_build.normalise import normalise
from chatwright.data.corpus_build.profanity import checker
from chatwright.data.corpus_build.quality import quality_reason
from chatwright.errors import DataError
from chatwright.text.languages import tags
from chatwright.text.letters import words
from chatwright.text.pii import scrub
from corpus_texts import article

CFG = BuildConfig(files=("x",), tokenizer="x", out="y")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e\u0301\r\nb\rc\u2028d", "é\nb\nc\nd"),
        ("a  \n\n\n\n b\u3000\n", "a\n\n b"),
        ("\ufeffzero\u200bwidth\x00\x07", "zerowidth"),
        ("👨\u200d👩 क्\u200dष ❤\ufe0f", "👨\u200d👩 क्\u200dष ❤\ufe0f"),
        ("ﬁ①", "ﬁ①"),
    ],
)
def test_normal_form(text: str, expected: str) -> None:
    assert normalise(text, "nfc") == expected
    assert normalise(text, "none") == text


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["nfc", "nfkc"]))
def test_a_normal_form_is_its_own(text: str, form: Any) -> None:
    once = normalise(text, form)
    assert normalise(once, form) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The museum opens at nine in the morning.", ("Latin", "en")),
        ("El museo abre a las nueve de la mañana.", ("Latin", "es")),
        ("Музей открывается в девять часов утра.", ("Cyrillic", "ru")),
        ("锄禾日当午，汗滴禾下土。", ("Han", "zh")),
        ("私は学生です。毎日本を読みます。", ("Hiragana", "ja")),
        ("안녕하세요 세계", ("Hangul", "ko")),
        ("123 !?", ("", "und")),
        ("中文里的一个の字，不会变成日文，因为其他的字都是汉字。", ("Han", "zh")),
    ],
)
def test_languages(text: str, expected: tuple[str, str]) -> None:
    assert tuple(tags(text)) == expected


PARAGRAPH = article(5, words=120)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PARAGRAPH, ""),
        (article(1, words=200, chinese=True), ""),
        ("春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。", ""),
        ("Click here", "too short"),
        ("a" * 70, "too few words"),
        (PARAGRAPH + "\ufffd" * 3, "decoded wrongly"),
        ("incomprehensibilities counterrevolutionaries " * 6, "words too long"),
        ("12 34 56 78 " * 20, "too few letters"),
        ("so ★★ it ☆☆ is ►► now ◄◄ and ■■ " * 5, "too many symbols"),
        ("\n".join(f"- item {n} of the long list" for n in range(20)), "bullet points"),
        ("\n".join(f"we begin a sentence {n} and ..." for n in range(9)), "ellipses"),
        ("\n".join(["Read more about it on our pages."] * 5 + [PARAGRAPH[:60]]), "repeated lines"),
        ("buy cheap now " * 60, "repeated phrase"),
        ((article(7, words=30) + " ") * 4, "repeated phrases"),
        (article(8, words=30) + " " + "你好吗" * 60, "repeated phrase"),
    ],
)
def test_quality(text: str, reason: str) -> None:
    assert quality_reason(text, QualityConfig()) == reason


def test_limits_turn_rules_off() -> None:
    off = QualityConfig(
        min_bytes=0, min_words=0, max_mean_word=0, min_letters=0, max_symbols=1, max_bullet_lines=1, max_ellipsis_lines=1,
        max_repeated_lines=1, max_repeated_line_characters=1, max_top_ngram=1, max_repeated_ngrams=1, max_replaced=1,
    )  # fmt: skip
    for text in ("a", "12 34 " * 50, "★" * 500, "buy now\n" * 90, "...\n" * 9, "\ufffd" * 9):
        assert quality_reason(text, off) == ""


def test_profanity(tmp_path: Path) -> None:
    much = checker()
    assert much("you fucking bitch, fuck off") and much("操你妈，你这个傻逼") and much("FUCK this SHIT")
    assert not much(PARAGRAPH + " shit") and not much("Scunthorpe and shitake in Sussex, a cockpit, an assassin, grapes")
    assert not much("他妈的" + "这是一个很长的故事。" * 100)
    (tmp_path / "own.txt").write_text("# mine\nfoo bar\n禾\n")
    own = checker(str(tmp_path / "own.txt"))
    assert own("foo bar and Foo Bar") and own("锄禾日当午，汗滴禾下土") and not own("fuck fuck")
    for name, content in (("empty", b"\n"), ("latin", b"\xff")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="--profanity-words"):
            checker(str(tmp_path / name))


def test_contamination(tmp_path: Path) -> None:
    long, short = article(1, words=40), "one two three four five six seven eight nine"
    rows = [{"question": long, "answers": [{"text": short}, "tiny"]}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "b.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (tmp_path / "c.txt").write_text(f"{long}\n\n{short}\n")
    for name in ("a.json", "b.jsonl", "c.txt"):
        found = contamination([str(tmp_path / name)])
        assert found.num_rows == 2 and found.num_short == (0 if name == "c.txt" else 1)
        middle = " ".join(long.split()[10:24])
        assert found.touches(words(f"Before {middle.upper()} after")) and found.touches(words(f"x {short}!"))
        assert not found.touches(words(" ".join(long.split()[10:22]))) and not found.touches(words(PARAGRAPH))
        assert not found.touches(words("")) and not found.touches(words("one two three four"))
    (tmp_path / "short.txt").write_text("only this")
    with pytest.raises(DataError, match="--decontaminate"):
        contamination([str(tmp_path / "short.txt")])


@settings(deadline=None)
@given(st.text(max_size=200))
def test_cleaning_anything_ends_in_a_text_or_a_reason(text: str) -> None:
    found = Cleaner(CFG)(text)
    assert isinstance(found, Clean | Dropped)
    if isinstance(found, Clean):
        assert found.text and len(found.text.encode()) >= 1
    raw = Cleaner(BuildConfig(files=("x",), tokenizer="x", out="y", raw=True))(text)
    assert isinstance(raw, Dropped) or raw.text == text


@pytest.mark.parametrize(
    "piece",
    ["jane.doe@example.org", "jane (at) example dot org", "+49 30 901820", "4111 1111 1111 1111", "192.0.2.17 8.8.4.5",
     "ghp_abcdefghijklmnopqrstuvwxyzABCDEFGHIJ", "https://u:secretpw@example.com/", "?token=abcdefghij",
     "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----", "2001:db8::ff00:42:8329", "jane＠example.org"],
)  # fmt: skip
def test_what_is_scrubbed_is_not_passed_over_for_speed(piece: str) -> None:
    text = f"{PARAGRAPH} {piece} and so on."
    found = Cleaner(CFG)(text)
    assert isinstance(found, Clean)
    assert found.text == scrub(text).text and dict(found.scrubbed) == dict(scrub(text).found)


# ---- other engines -----------------------------------------------------------------------------------------

ROWS = [article(1), "short", article(2, chinese=True) + article(3, chinese=True), "mail me: a.b@example.org. " + article(4)]


def test_datatrove(tmp_path: Path) -> None:
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor

    seen: list[Any] = []
    documents = [Document(text=text, id=str(n)) for n, text in enumerate(ROWS)]
    steps = [documents, adapters.DatatroveCleaner(CFG, tmp_path / "drops"), lambda data, *_: seen.extend(data) or iter(())]
    LocalPipelineExecutor(pipeline=steps, tasks=1, workers=1, logging_dir=str(tmp_path / "logs")).run()
    assert [document.id for document in seen] == ["0", "2", "3"]
    assert [document.metadata["language"] for document in seen] == ["en", "zh", "en"] and "[EMAIL]" in seen[2].text
    counts = json.loads((tmp_path / "drops" / "00000.json").read_text())
    assert counts["documents"] == 4 and counts["dropped"]["too short"]["documents"] == 1


def test_ray_batches() -> None:
    batch = {"text": np.array(ROWS, dtype=object), "id": np.arange(4)}
    found = adapters.RayCleaner(CFG)(batch)
    assert found["dropped"].tolist() == ["", "too short", "", ""] and found["id"].tolist() == [0, 1, 2, 3]
    assert found["language"].tolist() == ["en", "", "zh", "en"] and "[EMAIL]" in found["text"][3]
