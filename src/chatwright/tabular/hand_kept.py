"""Workbooks that people keep by hand: what a person sees in a cell is what is read, or the row is an error.

Stricter than `spreadsheets.xlsx_rows`, which reads exports of programs: merged cells, a formula without a result, a date,
macros and a second worksheet with content are errors; prices, percentages and times are read as the cell shows them.
"""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatwright.errors import DataError
from chatwright.jsonl import Where
from chatwright.tabular.spreadsheets import (
    BadCell,
    HeaderCheck,
    RawRow,
    cell_value,
    check_archive,
    shared_strings,
    table_rows,
)

_CURRENCY = re.compile(r"(?:\[\$(?=[^\]-]))?([$€£¥￥])")  # `"$"#,##0`, and `[$€-407]` with its language
_MAX_ROWS = 100_000


def workbook_rows(path: Path, check_header: HeaderCheck | None = None) -> Iterator[RawRow]:
    """Rows of the one worksheet with content. DataError for a workbook that cannot be read as a person sees it."""
    import openpyxl

    check_archive(path, path)
    with zipfile.ZipFile(path) as archive:
        if any(name.lower().endswith("vbaproject.bin") for name in archive.namelist()):
            raise DataError(f"{path}: holds macros; save it as a workbook without macros (.xlsx)")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            sheet = _only_worksheet(book, path)
            if (strings := shared_strings(path)) is not None:
                sheet._shared_strings = strings
            no_result = _check_layout(sheet, path)
            yield from table_rows(path, _cell_rows(sheet, path, no_result), check_header)
        finally:
            book.close()
    except DataError:
        raise
    except Exception as error:  # openpyxl raises many kinds on damaged files
        raise DataError(f"{path}: is not a readable XLSX file ({type(error).__name__}: {error})") from None


def _only_worksheet(book: Any, path: Path) -> Any:
    filled = [sheet for sheet in book.worksheets if _has_content(sheet)]
    if len(filled) > 1:
        names = ", ".join(repr(sheet.title) for sheet in filled)
        raise DataError(f"{path}: {len(filled)} worksheets have content ({names}); keep one, move the others away")
    if not book.worksheets:
        raise DataError(f"{path}: has no worksheet; the first one holds the table")
    return (filled or book.worksheets)[0]


def _has_content(sheet: Any) -> bool:
    return any(value is not None for row in sheet.iter_rows(values_only=True, max_row=_MAX_ROWS) for value in row)


def _check_layout(sheet: Any, path: Path) -> set[str]:
    """Coordinates of formulas without a stored result. DataError for merged cells, whose text only the first one has."""
    from openpyxl.xml.functions import iterparse

    no_result: set[str] = set()
    with sheet._get_source() as source:
        for _, node in iterparse(source):
            name = node.tag.rpartition("}")[2]
            if name == "mergeCell":
                raise DataError(f"{path}: the cells {node.get('ref')} are merged; unmerge them and fill in each row")
            if name == "c":
                parts = {child.tag.rpartition("}")[2]: child.text for child in node}
                if "f" in parts and not (parts.get("v") or "").strip():
                    no_result.add(str(node.get("r")))
            if name == "row":
                node.clear()
    return no_result


def _cell_rows(sheet: Any, path: Path, no_result: set[str]) -> Iterator[tuple[Where, list[Any]]]:
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        yield Where(path, number), [_shown_value(cell, no_result) for cell in cells]


def _shown_value(cell: Any, no_result: set[str]) -> Any:
    """The text of a cell as the spreadsheet shows it."""
    if no_result and getattr(cell, "coordinate", None) in no_result:
        return BadCell("holds a formula without a result; paste its value as text")
    value = cell_value(cell)
    if isinstance(value, datetime.datetime | datetime.date):
        return BadCell(f"holds a date ({value:%Y-%m-%d}); format the cell as text and write the date in words")
    if isinstance(value, datetime.time):
        return f"{value.hour}:{value.minute:02}"
    if isinstance(value, datetime.timedelta):
        return BadCell("holds a duration; format the cell as text and write it in words")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return _shown_number(value, str(cell.number_format or ""))


def _shown_number(value: float, number_format: str) -> str:
    if "%" in number_format:
        return f"{value * 100:.10g}%"
    sign = _CURRENCY.search(number_format)
    if sign is None:
        return f"{value:.15g}"
    return f"{sign[1]}{value:.15g}" if float(value).is_integer() else f"{sign[1]}{value:.2f}"
