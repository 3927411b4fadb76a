from __future__ import annotations

from pathlib import Path

import pytest

from chatwright.feedback.funnel import STEPS, Counted, add, day_of, lines, totals
from chatwright.workspace.database import now
from workspaces import KINDS, workspace_of


@pytest.mark.parametrize("kind", KINDS)
def test_counts_add_up_by_day_source_step_and_reason(kind: str, tmp_path: Path) -> None:
    got, not_given = Counted("api", "received", ""), Counted("api", "consent", "not_given")
    with workspace_of(kind, tmp_path) as workspace:
        for _ in range(2):
            with workspace.session() as session:
                add(session, {got: 3, not_given: 1, Counted("chat", "taken", "prompt"): 0})
        with workspace.session() as session:
            add(session, {got: 5}, at=now() - 86_400)
            add(session, {got: 7}, at=now() - 40 * 86_400)
            add(session, {})
        with workspace.reading() as session:
            found = lines(session, 30)
        assert [(line.day, line.step, line.reason, line.count) for line in found] == [
            (day_of(now()), "received", "", 6), (day_of(now()), "consent", "not_given", 2),
            (day_of(now() - 86_400), "received", "", 5),
        ]  # fmt: skip
        whole = totals(found)
        assert list(whole) == list(STEPS) and whole["received"] == {"": 11} and whole["consent"] == {"not_given": 2}
