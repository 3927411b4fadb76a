"""Files to learn from and to test on: labelled CSV, HH dialogues, and lists of requests; all read with limits."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatwright.errors import DataError
from chatwright.jsonl import MAX_LINE_BYTES, open_bytes
from chatwright.serve.moderation.normalise import normalise

_TURN = re.compile(r"\n\nHuman:(.*?)(?=\n\nAssistant:|\n\nHuman:|\Z)", re.DOTALL)
_TEXT_FIELDS = ("prompt", "instruction", "Question", "question", "text", "TEXT", "content")
_MAX_BYTES = 512 * 2**20


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A text with a label of people."""

    text: str
    """Normalised."""
    label: float
    topic: str = ""


def read_labelled(path: str | Path) -> list[Labelled]:
    """Rows of a CSV with the columns TEXT and label (0 or 1) and perhaps topic, as COLDataset has them; gzip is fine."""
    reader = csv.DictReader(io.StringIO(_text(path), newline=""))
    if not {"TEXT", "label"} <= set(reader.fieldnames or ()):
        raise DataError.at(path, 1, "header", f"needs the columns TEXT and label, has {', '.join(reader.fieldnames or [])}")
    rows = []
    for row in reader:
        if row["label"] not in ("0", "1"):
            raise DataError.at(path, reader.line_num, "label", f"must be 0 or 1, not {row['label']!r}")
        rows.append(Labelled(text=normalise(row["TEXT"] or ""), label=float(row["label"]), topic=row.get("topic") or ""))
    if not rows:
        raise DataError.at(path, None, "rows", "there are none")
    return rows


def read_turns(path: str | Path) -> list[list[str]]:
    """The human turns of each dialogue of an HH-RLHF file, normalised."""
    dialogues = []
    for number, row in _rows(path):
        if not isinstance(row, dict) or not isinstance(row.get("chosen"), str):
            raise DataError.at(path, number, "chosen", "must be a dialogue of the HH-RLHF form")
        dialogues.append([turn for turn in (normalise(said) for said in _TURN.findall(row["chosen"])) if turn])
    return dialogues


def read_texts(path: str | Path) -> list[str]:
    """Texts as they are: lines of .txt; elsewhere strings, or a row's prompt, instruction, question or turns."""
    name = str(path).removesuffix(".gz")
    if name.endswith(".txt"):
        found = [line.strip() for line in _text(path).splitlines()]
    elif name.endswith(".csv"):
        found = [text for row in csv.DictReader(io.StringIO(_text(path), newline="")) for text in _texts_of(row)]
    elif name.endswith(".json"):
        try:
            rows = json.loads(_text(path))
        except (ValueError, RecursionError) as error:
            raise DataError.at(path, None, "JSON", str(error)) from error
        found = [text for row in rows for text in _texts_of(row)] if isinstance(rows, list) else []
    else:
        found = [text for _, row in _rows(path) for text in _texts_of(row)]
    if not any(found):
        raise DataError.at(path, None, "texts", f"there are none; rows are strings or have one of {', '.join(_TEXT_FIELDS)}")
    return [text for text in found if text]


def held_out(text: str, share: float) -> bool:
    """Whether a text belongs to the part that is never trained on: a function of the text alone, so both commands agree."""
    value = int.from_bytes(hashlib.sha256(f"moderation:{text}".encode("utf-8", "replace")).digest()[:8], "big")
    return value < share * 2**64


def _texts_of(row: Any) -> list[str]:
    if isinstance(row, str):
        return [row]
    if not isinstance(row, dict):
        return []
    if isinstance(row.get("turns"), list):
        return [turn for turn in row["turns"] if isinstance(turn, str)]
    return next(([row[name]] for name in _TEXT_FIELDS if isinstance(row.get(name), str) and row[name].strip()), [])


def _rows(path: str | Path) -> Iterator[tuple[int, Any]]:
    with open_bytes(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), start=1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError.at(path, number, "JSON", str(error)) from error


def _text(path: str | Path) -> str:
    with open_bytes(path) as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise DataError.at(path, None, "size", f"more than {_MAX_BYTES >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError.at(path, None, "text", f"is not UTF-8: {error}") from error


def distinct(texts: Sequence[str]) -> list[str]:
    """Each text once, in order, without empty ones."""
    return [text for text in dict.fromkeys(texts) if text]
