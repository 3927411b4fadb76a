"""Write prompts, demonstrations and rankings as rows of another project's format, counting what it cannot hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from chatwright.data.exporters import argilla, chat, oasst
from chatwright.data.exporters.common import Record, Row, Written, left_out
from chatwright.data.importing import Format
from chatwright.errors import DataError
from chatwright.records import Demonstration, LabelledAnswer, Ranking, Samples

Target = Literal[
    "chatwright", "trl", "trl-implicit", "trl-text", "hh", "sharegpt", "openai", "chatml", "oasst", "argilla"
]  # fmt: skip
Kind = Literal["rankings", "demonstrations", "labelled", "samples", "prompts"]
NO_LABELLED = "an answer marked good or bad, which the format has no place for"
NO_SAMPLES = "answers without a ranking, which the format has no place for"


@dataclass(frozen=True, kw_only=True)
class TargetFormat:
    """A format to write."""

    write: Callable[[Record], Written]
    reader: Format
    """The importer that reads it back."""
    cannot_hold: str
    """What never fits into it, in one line."""


@dataclass
class Exported:
    """Rows by kind of record, and what is missing in them."""

    rows: dict[Kind, list[Row]] = field(default_factory=lambda: {kind: [] for kind in get_args(Kind)})
    left_out: Counter[str] = field(default_factory=Counter)
    """Records, pairs and answers that are in no row, by reason."""
    lost: Counter[str] = field(default_factory=Counter)
    """What is missing in rows that were written."""

    @property
    def num_rows(self) -> int:
        """Rows of all kinds."""
        return sum(len(rows) for rows in self.rows.values())


def export_records(records: Iterable[Record | LabelledAnswer | Samples], target: Target) -> Exported:
    """Write records in a format. Nothing disappears silently: what is in no row is counted by reason."""
    if target not in TARGETS:
        raise DataError(f"format {target!r} cannot be written; use one of {', '.join(TARGETS)}")
    found = Exported()
    for record in records:
        written = _written(record, target)
        found.rows[kind_of(record)] += written.rows
        found.left_out.update(written.left_out)
        found.lost.update(written.lost)
    return found


def kind_of(record: Record | LabelledAnswer | Samples) -> Kind:
    """The file a record belongs to."""
    if isinstance(record, Ranking):
        return "rankings"
    if isinstance(record, LabelledAnswer):
        return "labelled"
    if isinstance(record, Samples):
        return "samples"
    return "demonstrations" if isinstance(record, Demonstration) else "prompts"


def _written(record: Record | LabelledAnswer | Samples, target: Target) -> Written:
    """A record as rows of the format; labelled answers are TRL's unpaired preferences."""
    if not isinstance(record, LabelledAnswer | Samples):
        return TARGETS[target].write(record)
    if target == "chatwright":
        return Written(rows=[record.to_dict()])
    if isinstance(record, Samples):
        return left_out(NO_SAMPLES)
    if target not in ("trl", "trl-text"):
        return left_out(NO_LABELLED)
    written = TARGETS[target].write(Demonstration(messages=record.messages, meta=record.meta))
    return Written(
        rows=[{**row, "label": record.good} for row in written.rows], left_out=written.left_out, lost=written.lost
    )


def _own(record: Record) -> Written:
    return Written(rows=[record.to_dict()])


_PAIRS = "ties, unranked answers, rankings of more than two as one row"
TARGETS: dict[str, TargetFormat] = {
    "chatwright": TargetFormat(write=_own, reader="chatwright", cannot_hold="nothing: it is our own"),
    "trl": TargetFormat(write=chat.trl, reader="trl", cannot_hold=_PAIRS),
    "trl-implicit": TargetFormat(write=chat.trl_implicit, reader="trl", cannot_hold=_PAIRS),
    "trl-text": TargetFormat(
        write=chat.trl_text, reader="trl", cannot_hold=_PAIRS + ", conversations of more than one message, system messages"
    ),
    "hh": TargetFormat(
        write=chat.hh, reader="hh",
        cannot_hold=_PAIRS + ", demonstrations, prompts, system messages, labellers, ratings and any other field",
    ),
    "sharegpt": TargetFormat(write=chat.sharegpt, reader="sharegpt", cannot_hold=_PAIRS),
    "openai": TargetFormat(
        write=chat.openai, reader="openai", cannot_hold=_PAIRS + ", prompts, labellers, ratings and any other field"
    ),
    "chatml": TargetFormat(write=chat.chatml, reader="chatml", cannot_hold="rankings, and any field beside the text"),
    "oasst": TargetFormat(
        write=oasst.oasst, reader="oasst",
        cannot_hold="system messages, labellers, ratings, unranked answers; ties are equal ranks, which other readers break",
    ),
    "argilla": TargetFormat(
        write=argilla.argilla, reader="argilla",
        cannot_hold="ties and unranked answers in Argilla's own ranking (they go along in the metadata)",
    ),
}  # fmt: skip
