"""People as labellers: tasks go into one JSONL file, rankings come back from another.

`tasks.jsonl` rows: {"task", "messages", "completions", "guideline", "ranking": null, ...}. A person (with an editor,
a spreadsheet, or the labelling desk) writes rows of the ranking schema of `records.py` with the task's id in "task"
into `rankings.jsonl`; the smallest row is {"task": "...", "ranking": "D>C>A=B", "labeller": "ann"}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chatwright.errors import DataError
from chatwright.jsonl import read_lines
from chatwright.labellers.protocol import LabellerKind, LabelTask
from chatwright.records import Ranking, Where, read_jsonl
from chatwright.records.load import bad_rows_error

TASKS_FILE = "tasks.jsonl"
RANKINGS_FILE = "rankings.jsonl"


class HumanQueue:
    """A folder in which people rank. Restarting loses nothing: both files are read again."""

    kind: LabellerKind = "human"

    def __init__(self, folder: str | Path, *, name: str = "human", guideline: str = "") -> None:
        """`name`: labeller of rows that name none. `guideline`: its version, copied into every task."""
        self.folder = Path(folder)
        self.name = name
        self.guideline = guideline
        self._tasks: dict[str, dict[str, Any]] = {}
        self._collected: set[str] = set()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.tasks_path.exists():
            self._tasks = {str(row["task"]): row for _, row in read_jsonl(self.tasks_path)}

    @property
    def tasks_path(self) -> Path:
        """Where tasks are written."""
        return self.folder / TASKS_FILE

    @property
    def rankings_path(self) -> Path:
        """Where people put their rankings."""
        return self.folder / RANKINGS_FILE

    def submit(self, task: LabelTask) -> None:
        """Add a task; one that is in the file already is not added again."""
        if task.id in self._tasks:
            return
        row = {
            "task": task.id,
            **task.prompt.to_dict(),
            "completions": list(task.completions),
            "ranking": None,
            "guideline": self.guideline or None,
            **task.row_meta(),
        }
        self._tasks[task.id] = row
        with open(self.tasks_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def collect(self) -> list[Ranking]:
        """Rankings that were not collected before.

        Raises:
            DataError: naming file, line and field of the first of all rows that are no JSON, whose task is unknown or whose
                ranking is no weak order, with their number; none is collected then.
        """
        if not self.rankings_path.exists():
            return []
        found: dict[str, Ranking] = {}
        errors: list[DataError] = []
        for line, row in read_lines(self.rankings_path):
            try:
                if isinstance(row, DataError):
                    raise row
                mark = json.dumps(row, sort_keys=True, ensure_ascii=False)
                if mark not in self._collected and row.get("ranking") is not None:
                    found.setdefault(mark, self._ranking(row, line))
            except DataError as error:
                errors.append(error)
        if errors:
            raise bad_rows_error(errors, used=len(found))
        self._collected |= set(found)
        return list(found.values())

    def pending(self) -> list[str]:
        """Ids of tasks without a ranking yet."""
        if not self.rankings_path.exists():
            return list(self._tasks)
        done = {row.get("task") for _, row in read_jsonl(self.rankings_path) if row.get("ranking") is not None}
        return [task for task in self._tasks if task not in done]

    def _ranking(self, row: Mapping[str, Any], line: int) -> Ranking:
        task = self._tasks.get(str(row.get("task")))
        if task is None:
            raise DataError.at(self.rankings_path, line, "task", f"{row.get('task')!r} is not an id of {self.tasks_path}.")
        whole = {**task, **row, "messages": task["messages"], "completions": task["completions"]}
        whole = {name: value for name, value in whole.items() if value is not None}
        whole.setdefault("labeller", self.name)
        whole.setdefault("labeller_kind", "human")
        return Ranking.from_dict(whole, Where(self.rankings_path, line))
