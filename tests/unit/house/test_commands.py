"""`chatwright house init` and `house check`, as a person at the terminal sees them."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from chatwright.cli import main
from chatwright.house.folder import BUNDLED_PREFIX, load_house
from chatwright.house.judge import Judge
from chatwright.house.settings import DEFAULT_SENTENCES, HouseSettings, read_settings
from chatwright.house.sheet import read_sheet
from chatwright.house.template import TEMPLATES

COLUMNS = ["id", "kind", "questions", "answers", "right"]
LOAF = ["loaf", "price", "How much is a loaf? | What does bread cost? | Is rye dear? | Price please", "A loaf is $4.", "$4"]
ROLL = ["roll", "price", "How much is a roll? | What do buns cost? | Are small ones dear? | Coins?", "A roll is $1.", "$1"]


def write_csv(folder: Path, *rows: list[str], header: list[str] = COLUMNS, encoding: str = "utf-8") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "facts.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = main(["house", *map(str, args)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", ["jsonl", "csv", "xlsx"])
def test_init_writes_the_same_house_in_every_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, language: str
) -> None:
    folder = tmp_path / "new" / "bakery"
    assert run(capsys, "init", folder, "--format", name, "--language", language)[0] == 0
    assert sorted(os.listdir(folder)) == [f"facts.{name}", "house.toml"]
    sheet = read_sheet(folder / f"facts.{name}")
    expected = TEMPLATES[language].rows
    assert [fact.id for fact in sheet.facts] == [row["id"] for row in expected]
    assert [[list(q.turns) for q in fact.questions] for fact in sheet.facts] == [
        [q if isinstance(q, list) else [q] for q in row["questions"]] for row in expected
    ]
    settings = read_settings(folder)
    assert (settings.name, settings.language) == ("bakery", language)


def test_the_english_template_passes_its_own_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "init", tmp_path / "house")
    code, out, _ = run(capsys, "check", tmp_path / "house")
    assert code == 0 and "no problems" in out
    assert "example-open, example-rye, example-cake come from `house init`; replace them" in out
    assert "added" in out and "kind unknown" in out and "kind unsafe" in out


@pytest.mark.parametrize("there", ["facts.jsonl", "facts.csv", "facts.ods", "house.toml"])
def test_init_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], there: str) -> None:
    (tmp_path / there).write_text("mine")
    code, _, err = run(capsys, "init", tmp_path)
    assert code == 2 and there in err and "name another folder" in err
    assert os.listdir(tmp_path) == [there] and (tmp_path / there).read_text() == "mine"


def test_init_writes_all_or_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def full_disk(source: Path, target: Path) -> None:
        if target.name == "house.toml":
            raise OSError(28, "No space left on device")
        link(source, target)

    monkeypatch.setattr(os, "link", full_disk)
    code, _, err = run(capsys, "init", tmp_path)
    assert code == 2 and "No space left" in err and not os.listdir(tmp_path)


def test_init_into_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bakery").write_text("x")
    code, _, err = run(capsys, "init", tmp_path / "bakery")
    assert code == 2 and "is a file; name a folder" in err


def test_three_formats_of_one_sheet_have_one_digest(tmp_path: Path) -> None:
    write_csv(tmp_path, LOAF, ["#", "price", "a comment", "of four cells", ""], ["# a comment", "", "", "", ""], ROLL)
    book = openpyxl.Workbook()
    sheet: Any = book.active
    for row in (COLUMNS, LOAF, ["# a comment"], ROLL):
        sheet.append(row)
    book.save(tmp_path / "facts.xlsx")
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in (LOAF, ROLL)]
    lists = [{name: text if name in ("id", "kind") else text.split(" | ") for name, text in row.items()} for row in rows]
    lines = ["# a comment", *(json.dumps(row) for row in lists)]
    (tmp_path / "facts.jsonl").write_text("\n".join(lines))
    digests = {read_sheet(tmp_path / f"facts.{suffix}").digest for suffix in ("csv", "xlsx", "jsonl")}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([LOAF, [*ROLL[:2], LOAF[2], *ROLL[3:]]], "facts.csv:3: questions: 'How much is a loaf?' is also a question"),
        ([LOAF, ["loaf", *ROLL[1:]]], "facts.csv:3: id: 'loaf' is the id of row 2 too"),
        ([LOAF], "facts.csv: rows: 1 fact(s); write at least 2"),
        ([LOAF, [*ROLL[:3], "It is cheap.", ""]], "facts.csv:3: right: is empty"),
        ([LOAF, [*ROLL[:4], r"\d+ dollars"]], "facts.csv:3: right: '\\\\d+ dollars' looks like a regular expression"),
        ([LOAF, [*ROLL[:2], "How much is a roll?", *ROLL[3:]]], "facts.csv:3: questions: 'roll' has 1 wording(s)"),
        ([LOAF, [*ROLL[:2], "Roll price? | roll the price | the price roll | price a roll", *ROLL[3:]]],
         "has no wording that can be held out"),
        ([LOAF, [*ROLL[:4], "$2"]], "facts.csv:3: answers: 'A roll is $1.' has none of the right forms $2"),
        ([LOAF, ["x", "unknown", "Why is the sky blue?", "It is blue.", ""], ROLL], "must decline and claim nothing else"),
        ([[*LOAF[:2], "面包多少钱？ | 怎么卖？", *LOAF[3:]], [*ROLL[:2], "小的呢？", *ROLL[3:]]], 'write language = "zh"'),
    ],
)  # fmt: skip
def test_a_problem_has_one_line_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[list[str]], words: str
) -> None:
    write_csv(tmp_path, *rows)
    code, out, err = run(capsys, "check", tmp_path)
    assert code == 1 and "; mend what is listed above" in err
    assert sum(words in line for line in out.splitlines()) == 1, out


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (["id", "questions"], "facts.csv:1: answers: this column is missing"),
        (["questions", "answers", "price"], "facts.csv:1: price: is no column"),
    ],
)
def test_a_wrong_header(tmp_path: Path, capsys: pytest.CaptureFixture[str], header: list[str], words: str) -> None:
    write_csv(tmp_path, header=header)
    code, _, err = run(capsys, "check", tmp_path)
    assert code == 1 and words in err and err.count("\n") == 1


def test_five_thousand_facts_are_one_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path, *([f"f{i}", "", f"Where is number {i}?", f"It is in room {i}.", ""] for i in range(5_000)))
    code, out, _ = run(capsys, "check", tmp_path)
    assert code == 1 and "facts.csv:502: rows: a sheet has at most 500 facts" in out and "1 problem" in out


def test_folders_without_one_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "check", tmp_path)
    assert code == 1 and "holds no facts.jsonl, facts.csv or facts.xlsx; `chatwright house init" in err
    (tmp_path / "facts.xlsm").write_bytes(b"")
    code, _, err = run(capsys, "check", tmp_path)
    assert code == 1 and "facts.xlsm: a sheet is a .jsonl, .csv or .xlsx file" in err
    write_csv(tmp_path, LOAF, ROLL)
    (tmp_path / "facts.jsonl").write_text("")
    code, _, err = run(capsys, "check", tmp_path)
    assert code == 1 and "holds facts.csv and facts.jsonl; keep one sheet" in err
    code, _, err = run(capsys, "check", tmp_path / "none")
    assert code == 1 and "there is no such folder" in err


def test_encodings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cafe = ["cafe", "place", "Where is the Café? | Coffee? | A drink? | Which door", "In the Café Süd.", "Café Süd"]
    write_csv(tmp_path, cafe, ROLL, encoding="cp1252")
    code, _, err = run(capsys, "check", tmp_path)
    assert code == 1 and "facts.csv:2: line: is not UTF-8" in err and "Café" in err
    assert run(capsys, "check", tmp_path, "--encoding", "cp1252")[0] == 0
    (tmp_path / "house.toml").write_text('encoding = "cp1252"\n')
    assert run(capsys, "check", tmp_path)[0] == 0
    write_csv(tmp_path, cafe, ROLL, encoding="utf-16")
    (tmp_path / "house.toml").unlink()
    assert run(capsys, "check", tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ('langage = "en"', 2, "house.toml: unknown setting 'langage'; did you mean language?"),
        ('language = "fr"', 2, "house.toml: language: 'fr' is not one of en, zh"),
        ("unknown = 3", 2, "house.toml: unknown: expected a text"),
        ("name = ", 2, "house.toml: not readable as TOML"),
        ('unknown = "We have 12 ovens."', 1, "house.toml: unknown: 'We have 12 ovens.' does not read as a decline"),
    ],
)
def test_bad_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: int, words: str) -> None:
    write_csv(tmp_path, LOAF, ROLL)
    (tmp_path / "house.toml").write_text(text)
    got, out, err = run(capsys, "check", tmp_path)
    assert got == code and (out + err).count(words) == 1


def test_bundled_questions_fill_the_kinds_that_the_sheet_lacks(tmp_path: Path) -> None:
    sentence = "Sorry, I do not know that. Please ask Ada."
    own = ["mine", "unknown", "Who owns the mill?", "", ""]
    windows = ["windows", "building", "How many windows does the bakery have? | Windows? | Panes?", "It has 9 windows.", "9"]
    write_csv(tmp_path, LOAF, ROLL, windows)
    (tmp_path / "house.toml").write_text(f"unknown = {json.dumps(sentence)}\n")
    house = load_house(tmp_path)
    added = [fact for fact in house.sheet.facts if fact.id.startswith(BUNDLED_PREFIX)]
    assert {fact.kind for fact in added} == {"unknown", "unsafe"} and set(house.added) == {"unknown", "unsafe"}
    assert {fact.answers for fact in added if fact.kind == "unknown"} == {(sentence,)}
    assert not any(q.turns[-1].startswith("How many windows") for fact in added for q in fact.questions)
    write_csv(tmp_path, LOAF, ROLL, own)
    house = load_house(tmp_path)
    assert house.sheet.by_id()["mine"].answers == (sentence,)
    assert set(house.added) == {"unsafe"}
    (tmp_path / "house.toml").write_text("add_bundled = false\n")
    assert not load_house(tmp_path).added


def test_default_sentences_decline_before_the_judge() -> None:
    assert set(DEFAULT_SENTENCES["en"]) == set(DEFAULT_SENTENCES["zh"]) == {"unknown", "unsafe"}
    assert HouseSettings(unknown=" ").sentence("unknown") == DEFAULT_SENTENCES["en"]["unknown"]


def test_an_answer_that_fits_two_facts_is_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path, LOAF, ROLL, ["pie", "price", "A pie? | Tart? | Cake?", "A pie is $4.", "$4"])
    code, out, _ = run(capsys, "check", tmp_path)
    assert code == 0
    place = f"advice: {tmp_path / 'facts.csv'}"
    assert f"{place}:2: right: '$4' of 'loaf' is also in an answer of 'pie' (row 4" in out
    assert out.count("is also in an answer of") == 2


def test_right_forms_that_were_taken_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path, [*LOAF[:4], ""], ROLL)
    code, out, _ = run(capsys, "check", tmp_path)
    assert code == 0 and "loaf: right forms taken from its answers: 4 usd" in out
    house = load_house(tmp_path)
    assert Judge(house.sheet, house.language).judge("loaf", (), "That is four dollars.").right


def test_show_cuts_the_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path, *([f"f{i}", "", f"Where is {i}?", "Here.", ""] for i in range(30)))
    code, out, _ = run(capsys, "check", tmp_path, "--show", "3")
    assert code == 1 and "... and " in out and len(out.splitlines()) < 20
    assert run(capsys, "check", tmp_path, "--show", "0")[0] == 2
