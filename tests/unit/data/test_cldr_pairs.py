"""Training text and questions: nothing held out is trained on, and every seen word is asked."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright import cli
from chatwright.data.cldr_pairs import HELD_OUT, SEEN, TRAIN, Question, load_questions
from chatwright.data.cldr_words import DIRECTIONS, written
from chatwright.errors import DataError

EMOJI = "🍎🍏🍐🍊🍋🍌🍉🍇🍓🍒"
ROW = {"text": "apple", "source": "en", "target": "zh", "accepted": ["苹果"]}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with ten fruits: a name of its own and one for all of them in each language."""
    file = tmp_path_factory.mktemp("cldr") / "p.tgz"
    own = {"en": "fruit{}", "es": "fruta{}", "zh": "{}果"}
    with tarfile.open(file, mode="w:gz") as out:
        for locale, shared in (("en", "food"), ("es", "comida"), ("zh", "食物")):
            letters = "甲乙丙丁戊己庚辛壬癸" if locale == "zh" else "abcdefghij"
            points = {e: {"tts": [own[locale].format(c)], "default": [shared]} for e, c in zip(EMOJI, letters, strict=True)}
            content = json.dumps({"annotations": {"annotations": points}}).encode()
            member = tarfile.TarInfo(f"package/annotations/{locale}/annotations.json")
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return file


def made(archive: Path, out: Path, *flags: str) -> tuple[list[str], list[Question], list[Question]]:
    assert cli.main(["cldr", "pairs", "--file", str(archive), "--out", str(out), *flags]) == 0
    return (out / TRAIN).read_text().splitlines(), load_questions(out / SEEN), load_questions(out / HELD_OUT)


def test_nothing_held_out_is_trained_on(archive: Path, tmp_path: Path) -> None:
    lines, seen, held_out = made(archive, tmp_path, "--held-out", "0.3")
    trained = {part for line in lines for part in line.split("\t")}
    assert len({q.text for q in held_out if q.source == "emoji"}) == 3
    assert not trained & {written(q.text, q.source) for q in held_out}
    assert {written(q.text, q.source) for q in seen} <= trained and len(lines) == len(seen)
    assert {(q.source, q.target) for q in seen} == {(q.source, q.target) for q in held_out} == set(DIRECTIONS)
    assert {q.text for q in held_out} & {"food", "comida", "食物"} == set(), "a word of other emoji as well has been seen"
    assert all(line.split("\t")[1] in {written(a, q.target) for q in seen for a in q.accepted} for line in lines)


def test_more_answers_and_other_seeds(archive: Path, tmp_path: Path) -> None:
    one, _, held_out = made(archive, tmp_path / "a", "--held-out", "0.3")
    two, seen, _ = made(archive, tmp_path / "b", "--held-out", "0.3", "--answers", "2")
    assert set(one) < set(two)
    apple = next(q for q in seen if q.source == "emoji" and q.target == "en")
    assert apple.accepted[0].startswith("fruit") and apple.accepted[1] == "food"
    other = made(archive, tmp_path / "c", "--held-out", "0.3", "--seed", "1")[2]
    assert {q.text for q in other} != {q.text for q in held_out}
    assert made(archive, tmp_path / "d", "--held-out", "0")[2] == []


def test_the_same_text_is_not_written_again(archive: Path, tmp_path: Path) -> None:
    made(archive, tmp_path)
    before = (tmp_path / TRAIN).stat().st_mtime_ns
    made(archive, tmp_path)
    assert (tmp_path / TRAIN).stat().st_mtime_ns == before


def test_right_in_any_case_and_spelling() -> None:
    question = Question.from_dict({"text": "love", "source": "en", "target": "emoji", "accepted": ["❤️"]})
    assert question.is_right("❤") and question.is_right(" ❤️ ") and not question.is_right("🍎")
    question = Question.from_dict({"text": "爱", "source": "zh", "target": "en", "accepted": ["love"]})
    assert question.is_right("Love") and not question.is_right("loves")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source": "fr"}, "source: must be one of"),
        ({"target": None}, "target: is missing"),
        ({"target": "en"}, "is the language of the text"),
        ({"accepted": []}, "accepted: is empty"),
        ({"accepted": [1]}, "accepted: must be a text"),
        ({"text": 7}, "text: must be a text"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps(ROW) + "\n" + json.dumps(ROW | change) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"q.jsonl:2: .*{reason}"):
        load_questions(file)


VALUES = st.none() | st.text(max_size=3) | st.lists(st.text(max_size=3)) | st.sampled_from(["en", "zh"])


@given(st.none() | st.dictionaries(st.sampled_from([*ROW, "x"]), VALUES) | st.fixed_dictionaries(dict.fromkeys(ROW, VALUES)))
def test_any_row_is_a_question_or_a_data_error(row: Any) -> None:
    try:
        question = Question.from_dict(row)
    except DataError as error:
        assert ": " in str(error) and not str(error).startswith((":", "(")), "names the field"
    else:
        assert (question.text, question.source, list(question.accepted)) == (row["text"], row["source"], row["accepted"])
        assert question.accepted and {question.source, question.target} == {"en", "zh"}
