"""Read any supported file into prompts, demonstrations and rankings, counting what is left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from chatwright.data.importers import argilla, chatml, oasst, rows
from chatwright.data.importers.rows import Found, LeftOut
from chatwright.data.importers.sources import is_table, read_rows
from chatwright.errors import DataError
from chatwright.jsonl import Where
from chatwright.records import Demonstration, Prompt, Ranking

Format = Literal[
    "auto", "chatwright", "hh", "oasst", "trl", "sharegpt", "openai", "chatml", "argilla", "alpaca", "self-instruct",
    "mt-bench", "table", "text", "corpus",
]  # fmt: skip
"""`auto` looks at the first row. `table` is CSV, XLSX or flat JSON with named columns; `text` one prompt per line;
`corpus` raw text for pre-training, which needs no import."""

_READERS: dict[str, Callable[[Mapping[str, Any], Where], Found]] = {
    "chatwright": rows.own_row,
    "hh": rows.hh_row,
    "oasst": oasst.oasst_row,
    "trl": rows.trl_row,
    "sharegpt": rows.sharegpt_row,
    "openai": rows.openai_row,
    "chatml": chatml.chatml_row,
    "argilla": argilla.argilla_row,
    "alpaca": rows.alpaca_row,
    "self-instruct": rows.self_instruct_row,
    "mt-bench": rows.mt_bench_row,
    "table": rows.table_row,
}
_OPENAI_MESSAGE_KEYS = {"weight", "tool_calls", "function_call", "tool_call_id"}


@dataclass
class Imported:
    """What one file held."""

    path: Path
    format: str
    num_rows: int = 0
    """Rows of the file, good or bad."""
    prompts: list[Prompt] = field(default_factory=list)
    demonstrations: list[Demonstration] = field(default_factory=list)
    rankings: list[Ranking] = field(default_factory=list)
    num_documents: int = 0
    """Rows of raw text (`corpus`), counted only."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Sound rows that are of no use, by reason."""
    bad: list[DataError] = field(default_factory=list)
    """Damaged rows."""

    @property
    def num_records(self) -> int:
        """Records of all kinds."""
        return len(self.prompts) + len(self.demonstrations) + len(self.rankings)

    def add(self, item: Prompt | Demonstration | Ranking | LeftOut) -> None:
        """Sort one converted item into its list."""
        if isinstance(item, LeftOut):
            self.left_out[item.reason] += 1
        elif isinstance(item, Ranking):
            self.rankings.append(item)
        elif isinstance(item, Demonstration):
            self.demonstrations.append(item)
        else:
            self.prompts.append(item)


def read_file(path: str | Path, file_format: Format = "auto") -> Imported:
    """Read one file. Bad rows are collected, not raised; DataError when the file cannot be read or its format is not
    recognised."""
    found = Imported(Path(path), "table" if file_format == "auto" and is_table(path) else file_format)
    for where, value in read_rows(path):
        found.num_rows += 1
        if isinstance(value, DataError):
            found.bad.append(value)
            continue
        try:
            if found.format == "auto":
                found.format = detect(value, where)
            for item in _convert(found, value, where):
                found.add(item)
        except DataError as error:
            found.bad.append(error)
            if found.format == "auto" and len(found.bad) >= _MAX_UNDETECTED:
                break
    if not found.num_rows:
        raise DataError(f"{path}: there are no rows; nothing to read")
    if found.format == "auto":
        raise found.bad[0]
    return found


_MAX_UNDETECTED = 100


def _convert(found: Imported, value: Any, where: Where) -> Found:
    if found.format == "corpus":
        found.num_documents += 1
        return []
    if isinstance(value, str):
        if found.format != "text":
            raise where.error("row", f"is a plain text, not an object as {found.format} rows are")
        return rows.text_row(value, where)
    if not isinstance(value, dict) or found.format == "text":
        raise where.error(
            "row", f"must be {'a text' if found.format == 'text' else 'an object'}, not {type(value).__name__}"
        )
    return _READERS[found.format](value, where)


def detect(value: Any, where: Where) -> Format:
    """The format of a row, by its fields. DataError lists the formats when it is none of them."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict):
        names = set(value)
        if {"message_tree_id", "prompt"} <= names:
            return "oasst"
        if "fields" in names and names & {"responses", "suggestions", "metadata", "external_id"}:
            return "argilla"
        if names & {"chosen", "rejected"}:
            return _detect_pair(value)
        if "preferred_output" in names:
            return "openai"
        if "messages" in names:
            return "openai" if _is_openai(value) else "chatwright"
        for name, meaning in _BY_FIELD.items():
            if name in names:
                return cast(Format, meaning)
        if "instruction" in names and names & {"output", "response"}:
            return "alpaca"
        if "prompt" in names:
            return _detect_prompt(value)
        if "prompt" in rows.table_columns(list(value)):
            return "table"
        if names & {"text", "ids"}:
            return "chatml" if str(value.get("text")).startswith(chatml.START) else "corpus"
    fields = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
    raise where.error(
        "format",
        f"is not recognised (found: {fields}); name it with --from, one of "
        f"{', '.join(name for name in get_args(Format) if name != 'auto')}",
    )


_BY_FIELD = {
    "conversations": "sharegpt",
    "instances": "self-instruct",
    "turns": "mt-bench",
    "completions": "chatwright",
}


def _detect_pair(row: Mapping[str, Any]) -> Format:
    chosen = row.get("chosen")
    if isinstance(chosen, str) and "prompt" not in row and "\n\nHuman:" in "\n\n" + chosen:
        return "hh"
    if "conversations" in row:
        return "sharegpt"
    return "alpaca" if "instruction" in row else "trl" if "prompt" in row or isinstance(chosen, list) else "table"


def _is_openai(row: Mapping[str, Any]) -> bool:
    messages = row["messages"] if isinstance(row["messages"], list) else []
    speakers = {m.get("role") for m in messages if isinstance(m, dict)}
    keys = {key for m in messages if isinstance(m, dict) for key in m}
    parts = any(isinstance(m.get("content"), list) for m in messages if isinstance(m, dict))
    return bool("tools" in row or keys & _OPENAI_MESSAGE_KEYS or speakers & {"developer", "function"} or parts)


def _detect_prompt(row: Mapping[str, Any]) -> Format:
    if isinstance(row["prompt"], list) or isinstance(row.get("completion"), list) or isinstance(row.get("label"), bool):
        return "trl"
    meanings = rows.table_columns(list(row))
    other_names = meanings.get("completion", "completion") != "completion" or {"ranking", "A", "B"} <= set(meanings)
    return "table" if other_names and "completion" not in row else "chatwright"
