"""The figures of report.json as a table in the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import IO, Any

from chatwright.evals.report_words import COLUMNS, column_name, duration, figure_text, judge_notes, memory, score_judge


def print_table(report: Mapping[str, Any], file: IO[str] | None = None) -> None:
    """The figures of report.json for the terminal: a table by rich; plain lines when piped or under NO_COLOR."""
    out = file or sys.stdout
    header, rows = _terminal_rows(report)
    if os.environ.get("NO_COLOR") or not out.isatty():
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        for row in [header, *rows]:
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            print("  ".join(cells).rstrip(), file=out)
        for line in _terminal_lines(report):
            print(line, file=out)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for n, name in enumerate(header):
        table.add_column(name, justify="left" if n == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console = Console(file=out)
    console.print(table)
    for line in _terminal_lines(report):
        console.print(line, highlight=False, markup=False)


def _terminal_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    models: Mapping[str, Mapping[str, Any]] = report.get("models", {})
    used = [column for column in COLUMNS if any(row.get(column) is not None for row in models.values())]
    header = ["", *(column_name(column, report)[0] for column in used)]
    rows = []
    for name, row in models.items():
        cells = [figure_text(column, row.get(column)) for column in used]
        if "gold_mean" in used and row.get("gold_low") is not None:
            place = used.index("gold_mean")
            cells[place] += f" [{row['gold_low']:.2f}, {row['gold_high']:.2f}]"
        rows.append([name, *cells])
    return header, rows


def _terminal_lines(report: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{row['stage'][0]}: {row['measure'][0]}: {row['before']} -> {row['after']}" for row in report.get("stages", ())
    ]
    if report.get("judge"):
        lines.append(f"score by {score_judge(report)[0]}")
    if report.get("win_rates"):
        lines += [text for text, _ in judge_notes(report)]
    controlled = report.get("length_controlled", {})
    for name, rate in report.get("win_rates", {}).items():
        said = name.replace("_vs_", " preferred to ")
        number = f"n={rate['n']}" + (f" of {rate['questions']} questions" if "questions" in rate else "")
        same = controlled.get(name)
        equal = f"; at equal length {same['rate']:.3f} [{same['low']:.3f}, {same['high']:.3f}]" if same else ""
        lines.append(f"{said}: {rate['rate']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}]  {number}{equal}")
    reward = report.get("reward_model") or {}
    if reward:
        accuracy = reward["accuracy"]
        value = accuracy["value"] if isinstance(accuracy, Mapping) else accuracy
        lines.append(
            f"reward model: accuracy {value:.3f}, length baseline {reward['length_baseline']:.3f}, "
            f"ECE {reward['ece']:.3f}, tie NLL {reward['tie_nll']:.3f}"
        )
    if report.get("seconds") is not None:
        peak = memory(report.get("peak_rss_bytes"))
        lines.append(f"time {duration(report['seconds'])[0]}" + (f", peak memory {peak}" if peak else ""))
    if report.get("machine"):
        lines.append(f"computed with {report['machine']}")
    return lines
