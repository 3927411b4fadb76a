"""Workbooks kept by hand: read as a person sees them, or one clear message."""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from chatwright.errors import DataError
from chatwright.tabular.hand_kept import workbook_rows


def workbook(path: Path, change: Callable[[Any, Any], None]) -> Path:
    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.append(["name", "value"])
    sheet.append(["first", "one"])
    change(book, sheet)
    book.save(path)
    return path


def test_numbers_are_read_as_the_cell_shows_them(tmp_path: Path) -> None:
    def fill(book: Any, sheet: Any) -> None:
        for value, number_format in (
            (4, "General"), (2.5, "General"), (4, '"$"#,##0'), (3.5, "#,##0.00 [$€-407]"), (0.2, "0%"),
            (datetime.time(9, 30), "hh:mm"), ("$6", "@"), (True, "General"),
        ):  # fmt: skip
            sheet.append(["n", value])
            sheet.cell(sheet.max_row, 2).number_format = number_format

    rows = [row for _, row in workbook_rows(workbook(tmp_path / "a.xlsx", fill))]
    assert [row["value"] for row in rows[1:]] == ["4", "2.5", "$4", "€3.50", "20%", "9:30", "$6", "True"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (datetime.date(2026, 12, 24), "holds a date (2026-12-24)"),
        ("=1+1", "a formula without a result"),
        ("#N/A", "the spreadsheet's error"),
    ],
)
def test_a_cell_without_a_text_is_an_error_of_its_row(tmp_path: Path, value: Any, words: str) -> None:
    path = workbook(tmp_path / "a.xlsx", lambda book, sheet: sheet.append(["second", value]))
    (_, good), (_, bad) = workbook_rows(path)
    assert good == {"name": "first", "value": "one"}
    assert isinstance(bad, DataError) and str(bad).startswith(f"{path}:3: value: ") and words in str(bad)


def test_a_formula_with_its_stored_result_is_read(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", lambda book, sheet: sheet.append(["second", "=1+1"]))
    stored = tmp_path / "b.xlsx"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(stored, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"<v />", b"<v>2</v>").replace(b"<v></v>", b"<v>2</v>"))
    assert [row for _, row in workbook_rows(stored)][1] == {"name": "second", "value": "2"}


def test_merged_cells_are_named(tmp_path: Path) -> None:
    def merge(book: Any, sheet: Any) -> None:
        sheet.append([None, "two"])
        sheet.merge_cells("A2:A3")

    with pytest.raises(DataError, match=r"the cells A2:A3 are merged; unmerge them"):
        list(workbook_rows(workbook(tmp_path / "a.xlsx", merge)))


def test_a_second_worksheet_counts_only_with_content(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", lambda book, sheet: book.create_sheet("empty"))
    assert len(list(workbook_rows(path))) == 1
    path = workbook(tmp_path / "b.xlsx", lambda book, sheet: book.create_sheet("more").append(["x"]))
    with pytest.raises(DataError, match="2 worksheets have content"):
        list(workbook_rows(path))


def test_macros_are_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", lambda book, sheet: None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("xl/vbaProject.bin", b"macro")
    with pytest.raises(DataError, match="holds macros"):
        list(workbook_rows(path))


def test_files_that_are_no_workbook(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    path.write_text("name,value\n")
    with pytest.raises(DataError, match="not an XLSX file"):
        list(workbook_rows(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(DataError, match="not a readable XLSX file"):
        list(workbook_rows(path))
