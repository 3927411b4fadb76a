"""What became of the traffic: counts per day, source, step and reason. Numbers only, so they may be kept of everybody."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from chatwright.feedback.intake_tables import IntakeCount
from chatwright.workspace.database import now

STEPS = ("received", "queue", "consent", "usable", "background", "scrub", "repeated", "cap", "taken", "candidates")
"""In the order in which they are passed. `received` and `taken` count prompts, `candidates` tasks and labels made of them,
`scrub` (reason: a kind of `pii.KINDS`) what was replaced; all others what was kept out."""
PASSED = ("received", "scrub", "taken", "candidates")
"""Steps whose counts are not of what was kept out."""


class Counted(NamedTuple):
    """What is counted."""

    source: str
    step: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """One count of the funnel."""

    day: str
    source: str
    step: str
    reason: str
    count: int


def day_of(at: float) -> str:
    """The day (UTC) of a time in seconds since 1970."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def add(session: Session, counts: Mapping[Counted, int], *, at: float | None = None) -> None:
    """Add counts to a day's, today's by default."""
    day = day_of(now() if at is None else at)
    rows = [
        {"day": day, **counted._asdict(), "count": number} for counted, number in sorted(counts.items()) if number
    ]  # fmt: skip
    if not rows:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(IntakeCount).values(rows)
    key = [IntakeCount.day, IntakeCount.source, IntakeCount.step, IntakeCount.reason]
    summed = {"count": IntakeCount.count + statement.excluded.count}
    session.execute(statement.on_conflict_do_update(index_elements=key, set_=summed))


def lines(session: Session, days: int) -> list[Line]:
    """The funnel of the last so many days, the newest day first, steps in their order."""
    since = day_of(now() - (days - 1) * 86_400)
    found = session.scalars(select(IntakeCount).where(IntakeCount.day >= since))
    made = [Line(day=row.day, source=row.source, step=row.step, reason=row.reason, count=row.count) for row in found]
    made.sort(key=lambda line: (STEPS.index(line.step), line.source, line.reason))
    return sorted(made, key=lambda line: line.day, reverse=True)


def totals(found: list[Line]) -> dict[str, dict[str, int]]:
    """Step -> reason -> count over days and sources; every step is there."""
    summed: dict[str, Counter[str]] = {step: Counter() for step in STEPS}
    for line in found:
        summed[line.step][line.reason] += line.count
    return {step: dict(sorted(counts.items())) for step, counts in summed.items()}
