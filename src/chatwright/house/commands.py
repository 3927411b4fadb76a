"""`chatwright house init` and `chatwright house check`."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from chatwright.errors import ConfigError, DataError, UsageError
from chatwright.house.check import check_house
from chatwright.house.settings import SETTINGS_FILE
from chatwright.house.template import SheetFormat, render_settings, render_sheet

Folder = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DIR")]]


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Write a sheet of facts to fill in, with comments and examples, and a house.toml. Never overwrites a file."""

    folder: Folder
    """Folder of the house; made when it does not exist."""
    format: SheetFormat = "jsonl"
    """Kind of sheet: JSON lines for an editor, CSV or XLSX for a spreadsheet program."""
    language: Literal["en", "zh"] = "en"
    """Language of the comments, the examples and the house."""
    name: str = ""
    """Name of the house; empty: the folder's name."""


def init(cfg: InitConfig) -> None:
    """Write the two files. UsageError when the folder holds a sheet or a house.toml already."""
    folder = Path(cfg.folder)
    files = {
        f"facts.{cfg.format}": render_sheet(cfg.language, cfg.format),
        SETTINGS_FILE: render_settings(cfg.language, cfg.name.strip() or folder.resolve().name),
    }
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name a folder")
    there = sorted(p.name for p in folder.iterdir() if _is_of_a_house(p)) if folder.is_dir() else []
    if there:
        raise UsageError(f"{folder}: holds {', '.join(there)} already; name another folder, or move what is there")
    _write_new(folder, files)
    print(f"wrote {folder / f'facts.{cfg.format}'} and {folder / SETTINGS_FILE}")
    print(f"fill in the sheet, then: chatwright house check {folder}")


def _is_of_a_house(path: Path) -> bool:
    return path.stem.lower() == "facts" or path.name == SETTINGS_FILE


def _write_new(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files or none. A file that another process makes meanwhile is kept."""
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".house-") as aside:
            for name, data in files.items():
                (Path(aside) / name).write_bytes(data)
            for name in files:
                os.link(Path(aside) / name, folder / name)  # unlike rename, fails where there is such a file
                made.append(folder / name)
    except BaseException as error:
        for path in made:
            with contextlib.suppress(OSError):
                path.unlink()
        if isinstance(error, OSError):
            raise ConfigError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
        raise


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Check a house: its sheet, forms and wordings, how its questions are split, and what to do about each finding."""

    folder: Folder
    """Folder with facts.jsonl, facts.csv or facts.xlsx and, if there is one, house.toml; or the sheet itself."""
    language: Literal["", "en", "zh"] = ""
    """Language of the house; empty: that of house.toml."""
    encoding: str = ""
    """Encoding of a sheet that is not UTF-8: cp1252, gb18030, ...; empty: that of house.toml, or what is beyond doubt."""
    split: bool = False
    """Print every question with its part; the sealed ones stay hidden."""
    quota: bool = False
    """Demand the numbers of the bundled houses."""
    show: int = 50
    """Lines to print of the problems, and of the advice."""


def check(cfg: CheckConfig) -> None:
    """Print the report. DataError when the house has a problem."""
    if cfg.show < 1:
        raise UsageError(f"--show {cfg.show}: at least 1 line is printed")
    report = check_house(Path(cfg.folder), cfg.language, encoding=cfg.encoding, quota=cfg.quota)
    print(report.text(with_split=cfg.split, max_lines=cfg.show))
    if report.problems:
        raise DataError(f"{report.summary}; mend what is listed above")
