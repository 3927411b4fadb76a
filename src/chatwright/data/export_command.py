"""`chatwright data export`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from chatwright.data.exporting import TARGETS, Target, export_records
from chatwright.data.importers.base import Record
from chatwright.data.importing import KINDS, Format, Imported, read_file
from chatwright.errors import DataError, UsageError
from chatwright.records import bad_rows_error, write_jsonl


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write data files in the format of another project, and say what that format cannot hold."""

    files: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE...")]]
    """Data files: JSON lines of ours, or any format that `data import` reads."""
    from_: Annotated[Format, tyro.conf.arg(name="from")] = "auto"
    """Format of the files; auto looks at every row."""
    encoding: str = ""
    """Encoding of text that is not UTF-8: cp1252, gb18030, big5, shift_jis, ...; empty: UTF-8, or what is beyond doubt."""
    format: Target = "trl"
    """Format to write. trl is conversational, trl-text plain texts, trl-implicit has the prompt inside both answers."""
    out: str
    """Folder to write to: a file for each kind of record."""


def export(cfg: ExportConfig) -> None:
    """Write, and print what was written, what was left out and what the rows could not take along, each with its reason.

    DataError when a row of the files is damaged, or when nothing fits into the format.
    """
    if not cfg.files:
        raise UsageError("no file given; name one or more data files")
    files = [read_file(path, cfg.from_, cfg.encoding) for path in cfg.files]
    if errors := [error for found in files for error in found.bad]:
        raise bad_rows_error(errors, used=sum(found.num_records for found in files))
    for found in files:
        for reason, num in (found.left_out + found.parts).most_common():
            print(f"{found.path}: left out: {num} x {reason}")
    made = export_records((record for found in files for record in _records(found)), cfg.format)
    print(f"format {cfg.format}; it cannot hold: {TARGETS[cfg.format].cannot_hold}")
    folder = Path(cfg.out)
    for kind, rows in made.rows.items():
        if rows:
            print(f"wrote {write_jsonl(folder / f'{kind}.jsonl', rows)} rows to {folder / f'{kind}.jsonl'}")
    for reason, num in made.left_out.most_common():
        print(f"left out: {num} x {reason}")
    for reason, num in made.lost.most_common():
        print(f"not in the rows: {num} x {reason}")
    if not made.num_rows:
        raise DataError(f"nothing fits into the format {cfg.format}; the reasons are above")


def _records(found: Imported) -> Iterator[Record]:
    for kind in KINDS:
        yield from found.of_kind(kind)
