"""An import's account as lines: what was read, what became of it, and what was left out for which reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from chatwright.data.importing import Imported

KIND_WORDS = {
    "rankings": "rankings", "demonstrations": "demonstrations", "labelled": "labelled answers",
    "samples": "answers without a ranking", "prompts": "prompts", "documents": "documents",
}  # fmt: skip
_SHOWN_FIELDS = 12


def summary(found: Imported) -> str:
    """`format trl, utf-8, 4 rows = 2 used + 1 left out + 1 damaged`."""
    counts = f"{sum(found.used.values())} used + {sum(found.left_out.values())} left out + {len(found.bad)} damaged"
    return ", ".join(
        part for part in (f"format {found.format}", found.encoding, f"{found.num_rows} rows = {counts}") if part
    )


def account_lines(found: Imported) -> list[str]:
    """One line for each kind of record and each reason; the numbers of rows add up to those of `summary`."""
    lines = [f"used: {num} rows as {_kinds(kinds)}{_records(found, kinds)}" for kinds, num in found.used.most_common()]
    lines += [f"left out: {num} x {reason}{_first(found, reason)}" for reason, num in found.left_out.most_common()]
    lines += [
        f"not used of rows that are: {num} x {reason}{_first(found, reason)}" for reason, num in found.parts.most_common()
    ]
    if found.lost_fields:
        lines.append(f"fields that are not kept: {_fields(found.lost_fields)}")
    if found.unused_marks:
        lines.append(
            f"kept without effect, though it looks like a preference, a label or a weight: {_fields(found.unused_marks)}"
        )
    return lines


def _kinds(kinds: str) -> str:
    return " and ".join(KIND_WORDS[kind] for kind in kinds.split(" and "))


def _records(found: Imported, kinds: str) -> str:
    """The number of records where it is another one than that of the rows."""
    if kinds == "documents" or len(found.used) > 1:
        return ""
    counts = {kind: len(found.of_kind(kind)) for kind in kinds.split(" and ")}
    if all(count == found.used[kinds] for count in counts.values()):
        return ""
    return f" ({', '.join(f'{count} {KIND_WORDS[kind]}' for kind, count in counts.items())})"


def _first(found: Imported, reason: str) -> str:
    line = found.first_lines.get(reason)
    return f" (first: line {line})" if line is not None else ""


def _fields(names: Mapping[str, int]) -> str:
    shown = [f"{name} ({num} rows)" for name, num in Counter(names).most_common(_SHOWN_FIELDS)]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more fields" if more > 0 else "")
