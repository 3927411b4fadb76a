from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatwright.errors import DataError
from chatwright.house.check import check_house
from chatwright.house.defaults import default_right
from chatwright.house.judge import Judge
from chatwright.house.language import load_language
from chatwright.house.sheet import inspect_sheet, read_sheet

GOOD: dict[str, Any] = {
    "id": "bread",
    "kind": "price",
    "questions": ["How much is a loaf?", ["What do rolls cost?", "One dollar.", "And a whole loaf?"]],
    "answers": ["A loaf is four dollars."],
    "right": ["$4"],
}


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "facts.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_json_and_csv_give_the_same_sheet(tmp_path: Path) -> None:
    table = tmp_path / "facts.csv"
    table.write_text(
        "\ufeffid,kind,questions,answers,right,wrong\r\n"
        "bread,price,How much is a loaf? | What do rolls cost? >> One dollar. >> And a whole loaf?,"
        "A loaf is four dollars.,$4,\r\n",
        encoding="utf-8",
    )
    assert read_sheet(table).digest == read_sheet(write(tmp_path, GOOD)).digest


@pytest.mark.parametrize(
    ("change", "column", "words"),
    [
        ({"questions": []}, "questions", "at least one question"),
        ({"questions": None}, "questions", "is missing"),
        ({"questions": "How?"}, "questions", "must be a list"),
        ({"questions": ["How much?", "how MUCH"]}, "questions", "twice"),
        ({"questions": [["Hello", "Hi"]]}, "questions", "3 or 5 turns"),
        ({"questions": ["???"]}, "questions", "no letters"),
        ({"questions": ["x" * 2001]}, "questions", "2,001 characters"),
        ({"answers": []}, "answers", "is empty"),
        ({"answers": [3]}, "answers", "must be a text"),
        ({"right": []}, "right", "is empty"),
        ({"right": [" "]}, "right", "empty text"),
        ({"righ": ["$4"]}, "righ", "no column"),
        ({"id": "x" * 101}, "id", "one short line"),
        ({"kind": 7}, "kind", "must be a text"),
    ],
)
def test_a_bad_row_has_one_message_with_row_and_column(
    tmp_path: Path, change: dict[str, Any], column: str, words: str
) -> None:
    path = write(tmp_path, {**GOOD, "id": "first", "questions": ["What is first?"]}, {**GOOD, **change})
    with pytest.raises(DataError) as caught:
        read_sheet(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:2: {column}: ") and words in message and "\n" not in message


def test_rows_that_clash_are_named(tmp_path: Path) -> None:
    other = {**GOOD, "questions": ["How much is a  LOAF"]}
    _, problems = inspect_sheet(write(tmp_path, GOOD, other))
    assert [str(problem).split(": ")[1] for problem in problems] == ["id", "questions"]
    assert all("row 1" in str(problem) for problem in problems)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the sheet is empty"),
        ("{bad json\n", "1:"),
        ("[1]\n", "is one JSON array"),
        ('[\n{"id": "a"},\n{"id": "b"}\n]\n', "is one JSON array"),
        ("3\n", "1: line: must be an object"),
    ],
)
def test_files_that_are_no_sheet(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_sheet(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,questions\na,b\n", "answers: this column is missing"),
        ("questions,answers,price\nq,a,3\n", "price: is no column"),
        ("questions,answers,answers\nq,a,a\n", "two columns are named 'answers'"),
        ("questions,answers,Answers\nq,a,a\n", "answers: this column is there twice"),
        ("questions,answers\nWhat, now?,a\n", "3 cells, the header 2"),
        ('questions,answers\n"open,a\n', "never closed"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "facts.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_sheet(path)


def test_csv_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_bytes("questions,answers\nWo ist das Café?,Hier.\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        read_sheet(path)


def test_too_many_facts_stop_with_one_message(tmp_path: Path) -> None:
    rows = ({**GOOD, "id": f"f{i}", "questions": [f"What about number {i}?"]} for i in range(5_000))
    _, problems = inspect_sheet(write(tmp_path, *rows))
    assert len(problems) == 1 and "at most 500" in str(problems[0])


def test_a_form_that_cannot_be_read_names_its_row(tmp_path: Path) -> None:
    path = write(tmp_path, {**GOOD, "wrong": ["(a+)+b"]})
    with pytest.raises(DataError, match=r"facts.jsonl:1: wrong: .*regular expression"):
        Judge(read_sheet(path), load_language("en"))


def test_right_defaults_to_numbers_and_names_that_no_other_answer_has(tmp_path: Path) -> None:
    def fact(name: str, *answers: str) -> dict[str, Any]:
        return {"id": name, "questions": [f"Tell me about {name}"], "answers": list(answers)}

    path = write(
        tmp_path,
        fact("open", "We open at 7 in the morning.", "From 7 am on, with two cakes."),
        fact("cakes", "There are two cakes, and Anna bakes them.", "The cakes come from Anna."),
        fact("vague", "It is nice here."),
    )
    sheet = read_sheet(path)
    forms = default_right(sheet)
    assert forms["open"] == ("7:00 am",)
    assert forms["cakes"] == ("Anna",)
    assert forms["vague"] == ()
    with pytest.raises(DataError, match=r"facts.jsonl:3: right: is empty"):
        Judge(sheet, load_language("en"))


def test_check_collects_every_problem(tmp_path: Path) -> None:
    write(
        tmp_path,
        {**GOOD, "answers": ["A loaf is five dollars."]},
        {**GOOD, "id": "rolls", "questions": ["Rolls?"], "answers": ["A roll is one dollar."], "right": ["$1"]},
    )
    report = check_house(tmp_path)
    assert any("none of the right forms $4" in problem for problem in report.problems)
    assert any("'rolls' has 1 wording(s)" in problem for problem in report.problems)


def test_a_folder_without_a_sheet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no facts.jsonl, facts.csv or facts.xlsx"):
        check_house(tmp_path)
