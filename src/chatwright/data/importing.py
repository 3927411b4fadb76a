"""Read any supported file into records. Every row is accounted for: used, left out for a reason, or damaged.

The account is closed with an invariant: rows read = rows used + rows left out + damaged rows. `Imported.take` is the
only way a row gets into it, and the only place where records are stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from chatwright.data.importers import oasst, rows
from chatwright.data.importers.base import Found, LeftOut, Record
from chatwright.data.importers.columns import is_answer_name
from chatwright.data.importers.detect import READERS, Format, detect
from chatwright.data.importers.sources import open_source
from chatwright.errors import DataError
from chatwright.jsonl import Where
from chatwright.records import Demonstration, LabelledAnswer, Prompt, Ranking, Samples, marks

__all__ = ["KINDS", "Format", "Imported", "Row", "each_row", "kind_of", "read_file"]

KINDS = ("rankings", "demonstrations", "labelled", "samples", "prompts")
"""Kinds of records; each is a file of this name."""
_PROBE_ROWS = 1_000
_MAX_UNDETECTED = 100
_UNMARKED = "an answer without the mark that other rows have"


class Row(NamedTuple):
    """One row of a file, or the rows of one tree, and what became of it."""

    places: tuple[Where, ...]
    """File and line; more than one for a tree of rows."""
    raw: Any
    """The row as it stands in the file."""
    format: str
    """The format it was read as."""
    found: Found | DataError
    """Records and reasons; a DataError for a damaged row."""


def kind_of(record: Record) -> str:
    """The kind of a record, one of KINDS."""
    kinds = {Ranking: "rankings", Demonstration: "demonstrations", LabelledAnswer: "labelled", Samples: "samples"}
    return kinds.get(type(record), "prompts")


@dataclass
class Imported:
    """The account of one file."""

    path: Path
    format: str
    encoding: str = ""
    """Encoding of its text; empty for a workbook."""
    num_rows: int = 0
    """Rows of the file, good or bad."""
    used: Counter[str] = field(default_factory=Counter)
    """Rows that became records, by the kinds of their records (`rankings`, `demonstrations and prompts`)."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Sound rows that became no record, by reason."""
    parts: Counter[str] = field(default_factory=Counter)
    """Parts of rows (a reply of a tree, a draft) that are in no record, by reason."""
    bad: list[DataError] = field(default_factory=list)
    """Damaged rows."""
    lost_fields: Counter[str] = field(default_factory=Counter)
    """Fields of used rows that are in no record, by name."""
    unused_marks: Counter[str] = field(default_factory=Counter)
    """Fields that look like a preference, a label or a weight, and are kept with the record without an effect, by name."""
    first_lines: dict[str, int | None] = field(default_factory=dict)
    """Line of the first row of each reason."""
    prompts: list[Prompt] = field(default_factory=list)
    demonstrations: list[Demonstration] = field(default_factory=list)
    rankings: list[Ranking] = field(default_factory=list)
    labelled: list[LabelledAnswer] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)
    num_documents: int = 0
    """Rows of raw text (`corpus`), counted only."""

    @property
    def num_records(self) -> int:
        """Records of all kinds."""
        return sum(len(self.of_kind(kind)) for kind in KINDS)

    def of_kind(self, kind: str) -> Sequence[Record]:
        """The records of one of KINDS."""
        records: Sequence[Record] = getattr(self, kind)
        return records

    def take(self, row: Row) -> None:
        """Account for a row and store its records."""
        size = len(row.places)
        self.num_rows += size
        if isinstance(row.found, DataError):
            self.bad += [row.found] * size
            return
        if row.format == "corpus":
            self.num_documents += size
            self.used["documents"] += size
            return
        records = [item for item in row.found if not isinstance(item, LeftOut)]
        reasons = [item.reason for item in row.found if isinstance(item, LeftOut)]
        for reason in reasons:
            self.first_lines.setdefault(reason, row.places[0].line)
        if not records:
            self.left_out[reasons.pop() if reasons else "it holds nothing of use"] += size
        else:
            kinds = sorted({kind_of(record) for record in records}, key=KINDS.index)
            self.used[" and ".join(kinds)] += size
            self._name_fields(row, records)
        self.parts.update(reasons)
        for record in records:
            getattr(self, kind_of(record)).append(record)

    def _name_fields(self, row: Row, records: Sequence[Record]) -> None:
        written = [record.to_dict() for record in records]
        if row.format != "table":  # whose other columns are all kept
            named = {row_written["label_field"] for row_written in written if "label_field" in row_written}
            lost = _names(row.raw) - set().union(*map(_names, written)) - _STRUCTURE - named
            self.lost_fields.update(name for name in lost if ".responses" not in name and not is_answer_name(name))
        metas = [record.meta for record in records]
        ours = _OWN_MARKS if row.format == "chatwright" else _OWN_MARKS - _SCORES
        self.unused_marks.update({name for meta in metas for name in marks.marks_in(meta)} - ours)

    def close(self) -> Imported:
        """The account itself, once it balances."""
        accounted = sum(self.used.values()) + sum(self.left_out.values()) + len(self.bad)
        if accounted != self.num_rows:  # not an assert: python -O must not switch it off
            raise RuntimeError(f"{self.path}: {self.num_rows} rows were read and {accounted} accounted for")
        return self


# Fields whose content is in the records, under another name or as text.
_STRUCTURE = frozenset(
    "role content from value messages conversations conversation prompt "
    "chosen rejected completion completions instruction input output "
    "response system history instances turns text type label "
    "kto_tag kto_label answer answers responses generations candidates outputs "
    "replies summaries question query preferred_output non_preferred_output "
    "rank ranking conversation_a conversation_b winner fields "
    "message_id message_tree_id parent_id tree_state deleted review_result data "
    "annotations result body html ranker selected "
    "was_cancelled completed_by from_name to_name values user_id status "
    "metadata full_text scores ranks ratings rewards context "
    "rejected_response rejected_messages id title items external_id _server_id".split()
)  # fmt: skip
_OWN_MARKS = frozenset(
    "likert flags labeller labeller_kind ranking completion_meta ranked_by none_acceptable "
    "score scores reward rewards label_field".split()
)
"""Marks that our own commands write or read."""
_SCORES = frozenset({"score", "scores", "reward", "rewards"})


def _names(value: Any, depth: int = 8) -> set[str]:
    """Names of all fields in a row that hold something; those inside a kept field are found there too."""
    names: set[str] = set()
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if inner is not None and inner != [] and inner != {}:
                names.add(str(name))
                if depth:
                    names |= _names(inner, depth - 1)
    elif isinstance(value, list) and depth:
        for inner in value:
            names |= _names(inner, depth - 1)
    return names


def read_file(path: str | Path, file_format: Format = "auto", encoding: str = "", shown: str | Path = "") -> Imported:
    """Read one file. Bad rows are collected, not raised; DataError when the file cannot be read or its format is not
    recognised."""
    account, converted = each_row(path, file_format, encoding, shown)
    for row in converted:
        account.take(row)
    return checked(account)


def checked(account: Imported) -> Imported:
    """The closed account of a file that was read to its end; DataError when it held nothing, or nothing that is known."""
    if not account.num_rows:
        raise DataError(f"{account.path}: there are no rows; nothing to read")
    if account.format == "auto":
        raise account.bad[0]
    return account.close()


def each_row(
    path: str | Path, file_format: Format = "auto", encoding: str = "", shown: str | Path = ""
) -> tuple[Imported, Iterator[Row]]:
    """(an empty account, the rows). Whoever reads the rows hands each one to `take` and ends with `checked`."""
    source = open_source(path, encoding, shown)
    chosen = "table" if file_format == "auto" and source.is_table else file_format
    account = Imported(Path(shown or path), chosen, source.encoding)
    first = list(islice(source.rows, _PROBE_ROWS))
    objects = [value for _, value in first if isinstance(value, dict)]
    if chosen == "auto" and first:
        account.format = _formats(first)
    may_be_flat = account.format in ("oasst-flat", "auto") or (file_format == "auto" and source.is_table)
    if may_be_flat and (chosen == "oasst-flat" or any(map(oasst.is_flat, objects))):
        return account, _flat_trees(account, chain(first, source.rows))
    fields = marks.verdict_fields(objects)
    return account, _converted(account, chosen, chain(first, source.rows), fields)


def _formats(first: Iterable[tuple[Where, Any]]) -> str:
    """The formats of the first rows, joined; `auto` when none is recognised."""
    found: Counter[str] = Counter()
    for where, value in first:
        if not isinstance(value, DataError):
            try:
                found[detect(value, where)] += 1
            except DataError:
                continue
    if len(found) > 1:
        del found["text"]  # a lone text among objects is a damaged row
    return " and ".join(name for name, _ in found.most_common()) or "auto"


def _converted(account: Imported, chosen: str, source: Iterable[tuple[Where, Any]], fields: Sequence[str]) -> Iterator[Row]:
    main = account.format.partition(" and ")[0]
    for undetected, (where, value) in enumerate(source, start=1):
        file_format = chosen
        try:
            if isinstance(value, DataError):
                raise value
            if chosen == "auto":
                file_format = _detected(value, where, main)
            found: Found | DataError = _convert(file_format, value, where, fields)
        except DataError as error:
            found = error
        yield Row((where,), value, file_format, found)
        if account.format == "auto" and undetected >= _MAX_UNDETECTED:
            return


def _detected(value: Any, where: Where, main: str) -> str:
    """The row's own format; that of the file when the row has none, so that the error names what is wrong in it."""
    try:
        found = detect(value, where)
    except DataError:
        if main == "auto":
            raise
        return main
    return main if "text" in (found, main) and main != "auto" else found


def _convert(file_format: str, value: Any, where: Where, fields: Sequence[str]) -> Found:
    if file_format == "corpus":
        return []
    if isinstance(value, str):
        if file_format != "text":
            raise where.error("row", f"is a plain text, not an object as {file_format} rows are")
        return rows.text_row(value, where)
    if not isinstance(value, dict) or file_format == "text":
        raise where.error("row", f"must be {'a text' if file_format == 'text' else 'an object'}, not {type(value).__name__}")
    if file_format == "oasst-flat":
        raise where.error("row", "is a message of a flat Open-Assistant file among other rows; import it by itself")
    return _with_verdict(file_format, value, where, fields)


def _with_verdict(file_format: str, row: Mapping[str, Any], where: Where, fields: Sequence[str]) -> Found:
    """Convert a row; an answer that the row marks as good or bad is a labelled answer, not a demonstration."""
    read = READERS[file_format]
    if (unlearned := marks.not_to_learn(row)) is not None:
        return [LeftOut(f"is not to be learned ({unlearned})")]
    name = next((name for name in fields if name in row), None)
    if name is None or not (marks.is_undecided(row[name]) or marks.verdict(name, row[name]) is not None):
        if name is not None:
            raise where.error(name, f"is {row[name]!r}; the rows before mark their answers there as good or bad")
        found = read(_renamed_classes(row), where)
        return [LeftOut(_UNMARKED)] if fields and file_format == "table" and _is_demonstration(found) else found
    bare = {key: value for key, value in row.items() if key != name}
    found = read(bare, where)
    if not _is_demonstration(found):
        return read(row, where)  # a ranking or a prompt: the mark is one of its other fields
    good = marks.verdict(name, row[name])
    if good is None:
        return [LeftOut(_UNMARKED)]
    more = {} if name == "label" else {"label_field": name}
    return [
        LabelledAnswer(messages=item.messages, good=good, meta={**item.meta, **more})
        if isinstance(item, Demonstration)
        else item
        for item in found
    ]


def _is_demonstration(found: Found) -> bool:
    return any(isinstance(item, Demonstration) for item in found)


def _renamed_classes(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A `label` that holds classes (0 to 4, topics) under a name that training does not take for good and bad."""
    renamed = {
        name: f"class_{name}" for name in ("label", "kto_tag", "desirable") if marks.as_verdict(row.get(name)) is not None
    }
    return {renamed.get(name, name): value for name, value in row.items()} if renamed else row


def _flat_trees(account: Imported, source: Iterable[tuple[Where, Any]]) -> Iterator[Row]:
    """A flat Open-Assistant file: rows that are messages, put together into trees."""
    account.format = "oasst-flat"
    messages: list[tuple[Where, Mapping[str, Any]]] = []
    for where, value in source:
        if isinstance(value, dict) and oasst.is_message(value):
            messages.append((where, value))
        else:
            reason = (
                value if isinstance(value, DataError) else where.error("row", "is no message of a flat Open-Assistant file")
            )
            yield Row((where,), value, "oasst-flat", reason)
    by_place = dict(messages)
    for places, tree in oasst.trees(messages):
        try:
            found: Found | DataError = [tree] if isinstance(tree, LeftOut) else oasst.oasst_row(tree, places[0])
        except DataError as error:
            found = error
        yield Row(tuple(places), [by_place[place] for place in places], "oasst-flat", found)
