"""A workspace with many labels, made at once: rows of the store as the desk would have written them.

`python tests/large_workspace.py FOLDER 100000` makes one to try by hand.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from sqlalchemy import insert

from chatwright.feedback.projects import default_project
from chatwright.feedback.tables import LabelEvent, LabelRow, Payload, TaskRow, TaskText
from chatwright.feedback.task_search import texts
from chatwright.serve.tables import metadata
from chatwright.workspace.database import Workspace, now
from chatwright.workspace.migrations import prepare

ANSWERS, LABELLERS, TWICE = 4, 20, 0.1
_AT_ONCE = 2000
_WORDS = "museum whale moon bridge river winter stone letter garden paper engine copper glass 博物馆 月亮 鲸鱼".split()


def fill(workspace: Workspace, num_tasks: int, seed: int = 0) -> str:
    """Tasks with four answers and a ranking each, a tenth with a second one. Returns the project's id."""
    draw = random.Random(seed)
    with workspace.session() as session:
        project = default_project(session).id
    for start in range(0, num_tasks, _AT_ONCE):
        rows: dict[Any, list[dict[str, Any]]] = {
            Payload: [], TaskRow: [], TaskText: [], LabelEvent: [], LabelRow: [],
        }  # fmt: skip
        for n in range(start, min(start + _AT_ONCE, num_tasks)):
            _add(rows, project, n, draw)
        with workspace.session() as session:
            for table, values in rows.items():
                session.execute(insert(table), values)
    return project


def _text(draw: random.Random, num_words: int) -> str:
    return " ".join(draw.choices(_WORDS, k=num_words))


def _add(rows: dict[Any, list[dict[str, Any]]], project: str, n: int, draw: random.Random) -> None:
    task, subject, at = f"task_{n:032x}", f"{n % 5000:032x}", now() - 1000 + n / 1000
    contents = [{"messages": [{"role": "user", "content": f"{n}: {_text(draw, 40)}"}], "meta": {"topic": "museum"}}]
    contents += [{"text": f"{_text(draw, 80)} {n}"} for _ in range(ANSWERS)]
    names = [f"payload_{n:08x}{place:024x}" for place in range(len(contents))]
    rows[Payload] += [
        {"id": name, "subject": subject, "content": one, "created_at": at} for name, one in zip(names, contents, strict=True)
    ]
    folded = "\n".join(one.casefold() for content in contents for one in texts(content))
    rows[TaskText].append({"seq": 3 * n + 1, "task_id": task, "text": folded})
    twice = draw.random() < TWICE
    answers = [{"payload_id": name, "model": f"m-{place}", "finish_reason": "stop"} for place, name in enumerate(names[1:])]
    rows[TaskRow].append({
        "id": task, "seq": 3 * n + 1, "project_id": project, "kind": "rank", "state": "complete", "language": "en",
        "split": "held_out" if n % 10 == 0 else "train", "subject": subject, "source": "import", "answers": answers,
        "prompt_payload": names[0], "overlap": 1 + twice, "labels_count": 1 + twice, "created_at": at,
        "agreement": draw.random() if twice else None,
    })  # fmt: skip
    for which in range(1 + twice):
        seq, uuid = 3 * n + 2 + which, f"label-{n}-{which}"
        order = draw.sample("ABCD", ANSWERS)
        labeller = f"labeller-{(n + which) % LABELLERS}"
        rows[LabelEvent].append({
            "id": seq, "uuid": uuid, "kind": "label.submitted", "actor": labeller, "project_id": project, "task_id": task,
            "at": at, "data": {},
        })  # fmt: skip
        rows[LabelRow].append({
            "uuid": uuid, "seq": seq, "task_id": task, "project_id": project, "labeller": labeller, "kind": "rank",
            "labeller_kind": "human", "value": {"ranking": ">".join(order)}, "seconds": {"rank": 10 + 20 * draw.random()},
            "at": at,
        })  # fmt: skip


if __name__ == "__main__":
    metadata()
    with Workspace.open(sys.argv[1]) as made:
        prepare(made)
        fill(made, int(sys.argv[2]))
