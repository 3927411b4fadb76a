"""`chatwright report`: the page and the table of a chain, or the curves of a single run, from the files they left."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from chatwright.errors import DataError
from chatwright.evals.report import print_table, write_html
from chatwright.jsonl import read_jsonl


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Write report.html again (after an upgrade, or for a run made by a single command)."""

    folder: tyro.conf.Positional[str]
    """Folder of teach or quickstart, or one run folder (sft, reward, ppo)."""
    out: str = ""
    """Page to write; empty: report.html in the folder."""


def page_of(folder: Path) -> dict[str, Any]:
    """The page's data: what a chain kept, or what can be drawn of one run. DataError when the folder is neither."""
    page = folder / "page.json"
    if page.is_file():
        return _json(page)
    metrics, result = folder / "metrics.jsonl", folder / "result.json"
    if not metrics.is_file():
        raise DataError(f"{folder}: has neither page.json nor metrics.jsonl; name a folder of teach, quickstart or a run")
    found = _json(result) if result.is_file() else {}
    kind = str(found.get("kind", "run"))
    card = folder / "report_card.json"
    return {
        "report": {"seconds": found.get("seconds")},
        "title": (f"Run {folder.name} ({kind})", f"运行 {folder.name}（{kind}）"),
        "run": {"model": found.get("model", ""), "folder": str(folder)},
        "card": _json(card) if card.is_file() else None,
        "curves": {kind: [row for _, row in read_jsonl(metrics)]},
    }


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run the command that wrote it again") from None


def report(cfg: ReportConfig) -> None:
    """Write the page and print the table."""
    folder = Path(cfg.folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    page = page_of(folder)
    path = write_html(page, Path(cfg.out) if cfg.out else folder / "report.html")
    if page["report"].get("models"):
        print_table(page["report"])
    print(f"report: {path}")
