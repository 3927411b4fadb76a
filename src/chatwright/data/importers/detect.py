"""Detects the format of a row by its fields. What ranks or compares answers is looked for first, so that no preference is
lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from chatwright.data.importers import argilla, chatml, chats, label_studio, oasst, rows, scored, tables
from chatwright.data.importers.base import Found
from chatwright.data.importers.columns import columns_of
from chatwright.jsonl import Where

Format = Literal[
    "auto", "chatwright", "hh", "oasst", "oasst-flat", "trl", "sharegpt", "openai", "chatml", "argilla", "alpaca",
    "self-instruct", "mt-bench", "scored", "arena", "label-studio", "table", "text", "corpus",
]  # fmt: skip
"""`auto` looks at every row. `scored`: a list of answers with ranks or scores; `arena`: two conversations and a winner;
`table`: CSV, XLSX or flat JSON with named columns; `text`: one prompt per line; `corpus`: raw text for pre-training, which
needs no import."""

READERS: dict[str, Callable[[Mapping[str, Any], Where], Found]] = {
    "chatwright": rows.own_row,
    "hh": chats.hh_row,
    "oasst": oasst.oasst_row,
    "trl": chats.trl_row,
    "sharegpt": chats.sharegpt_row,
    "openai": chats.openai_row,
    "chatml": chatml.chatml_row,
    "argilla": argilla.argilla_row,
    "alpaca": rows.alpaca_row,
    "self-instruct": rows.self_instruct_row,
    "mt-bench": rows.mt_bench_row,
    "scored": scored.scored_row,
    "arena": scored.arena_row,
    "label-studio": label_studio.label_studio_row,
    "table": tables.table_row,
}


def detect(value: Any, where: Where) -> Format:
    """The format of a row. DataError lists the formats when it is none of them."""
    if isinstance(value, str):
        return "text"
    found = _of_object(value) if isinstance(value, dict) else None
    if found is not None:
        return found
    fields = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
    raise where.error(
        "format",
        f"is not recognised (found: {fields}); name it with --from, one of "
        f"{', '.join(name for name in get_args(Format) if name != 'auto')}",
    )


def _of_object(row: Mapping[str, Any]) -> Format | None:
    names = set(row)
    if {"message_tree_id", "prompt"} <= names and isinstance(row["prompt"], dict):
        return "oasst"
    if oasst.is_flat(row):
        return "oasst-flat"
    if label_studio.is_label_studio(row):
        return "label-studio"
    if ("fields" in names and names & {"responses", "suggestions", "metadata", "external_id"}) or argilla.is_flat(row):
        return "argilla"
    return _preference(row, names) or _conversation(row, names)


def _preference(row: Mapping[str, Any], names: set[str]) -> Format | None:
    """A format that ranks or compares answers."""
    if {"chosen", "rejected"} <= names or (names & {"chosen", "rejected"} and not isinstance(row.get("chosen"), bool | int)):
        return _pair(row)
    if "preferred_output" in names:
        return "openai"
    if {"conversation_a", "conversation_b"} <= names:
        return "arena"
    if "completions" in names and isinstance(row.get("ranking"), str):
        return "chatwright"
    if "instances" not in names and scored.answers_of(row) is not None:
        return "scored"
    if "completions" in names:
        return "chatwright"
    if names & {"rejected_response", "rejected_messages"} and "messages" in names:
        return "openai"
    return "table" if tables.is_wide(row) else None


def _pair(row: Mapping[str, Any]) -> Format:
    chosen = row.get("chosen")
    if isinstance(chosen, str) and "prompt" not in row and "\n\nHuman:" in "\n\n" + chosen:
        return "hh"
    if "conversations" in row:
        return "sharegpt"
    return "alpaca" if "instruction" in row else "trl" if "prompt" in row or isinstance(chosen, list) else "table"


def _conversation(row: Mapping[str, Any], names: set[str]) -> Format | None:
    """A format of demonstrations, prompts or raw text."""
    if "messages" in names:
        return "openai" if chats.is_openai(row) else "chatwright"
    if "conversations" in names:
        return "sharegpt"
    if "instances" in names:
        return "self-instruct"
    if isinstance(row.get("turns"), list):
        return "mt-bench"
    if "instruction" in names and names & {"output", "response"}:
        return "alpaca"
    if "prompt" in names:
        return _prompt(row)
    if "prompt" in columns_of(list(row)).by_meaning:
        return "table"
    if names & {"text", "ids"}:
        return "chatml" if str(row.get("text")).startswith(chatml.START) else "corpus"
    return None


def _prompt(row: Mapping[str, Any]) -> Format:
    if isinstance(row["prompt"], list) or isinstance(row.get("completion"), list):
        return "trl"
    columns = columns_of(list(row))
    other_names = columns.by_meaning.get("completion", "completion") != "completion" or (
        "ranking" in columns.by_meaning and len(columns.answers) >= 2
    )
    return "table" if other_names and "completion" not in row else "chatwright"
