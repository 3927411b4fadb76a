from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatwright.errors import DataError
from chatwright.labellers.human import HumanQueue
from chatwright.labellers.protocol import LabelTask
from chatwright.records import Prompt, load_rankings, user, write_jsonl


def task(text: str = "What is rain?") -> LabelTask:
    prompt = Prompt(messages=user(text), meta={"topic": "rain"})
    return LabelTask(prompt=prompt, completions=("one", "two", "three"), ended=(True, True, False))


def answer(queue: HumanQueue, *rows: dict[str, object]) -> None:
    with open(queue.rankings_path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_there_and_back(tmp_path: Path) -> None:
    queue = HumanQueue(tmp_path / "desk", guideline="v2")
    queue.submit(task())
    queue.submit(task())
    queue.submit(task("What is snow?"))
    rows = [json.loads(line) for line in queue.tasks_path.read_text(encoding="utf-8").splitlines()]
    assert [row["completions"] for row in rows] == [["one", "two", "three"]] * 2, "the same task is queued once"
    assert queue.collect() == []
    answer(queue, {"task": task().id, "ranking": "C>A=B", "labeller": "ann", "seconds": 31.5})
    (ranking,) = queue.collect()
    assert str(ranking.order) == "C>A=B"
    assert (ranking.labeller, ranking.labeller_kind, ranking.guideline) == ("ann", "human", "v2")
    assert ranking.ended == (True, True, False)
    assert ranking.meta["topic"] == "rain"
    assert queue.collect() == []
    assert queue.pending() == [task("What is snow?").id]
    write_jsonl(tmp_path / "out.jsonl", [ranking.to_dict()])
    assert load_rankings(tmp_path / "out.jsonl") == [ranking]


def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    HumanQueue(tmp_path).submit(task())
    queue = HumanQueue(tmp_path, name="desk")
    queue.submit(task())
    assert len(queue.tasks_path.read_text(encoding="utf-8").splitlines()) == 1
    answer(queue, {"task": task().id, "ranking": "A>B>C"})
    assert [ranking.labeller for ranking in queue.collect()] == ["desk"]


def test_all_bad_rows_are_counted_and_none_is_collected(tmp_path: Path) -> None:
    queue = HumanQueue(tmp_path)
    queue.submit(task())
    good = {"task": task().id, "ranking": "A>B>C", "labeller": "ann"}
    answer(queue, {"task": "nobody", "ranking": "A"}, good, *({"task": task().id, "ranking": "Z", "n": n} for n in range(6)))
    with open(queue.rankings_path, "a", encoding="utf-8") as file:
        file.write("no JSON\n")
    with pytest.raises(DataError, match=r"8 rows are not usable \(1 good\)(?s:.*):1: task(?s:.*):3: (?s:.*)and 3 more"):
        queue.collect()
    queue.rankings_path.write_text(json.dumps(good) + "\n", encoding="utf-8")
    assert len(queue.collect()) == 1, "a row beside bad ones is not lost"


def test_two_people_may_rank_one_task(tmp_path: Path) -> None:
    queue = HumanQueue(tmp_path)
    queue.submit(task())
    answer(queue, *({"task": task().id, "ranking": "A>B>C", "labeller": name} for name in ("ann", "bo")))
    assert [ranking.labeller for ranking in queue.collect()] == ["ann", "bo"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"task": "nobody", "ranking": "A>B>C"}, "rankings.jsonl:1: task: 'nobody'"),
        ({"task": task().id, "ranking": "A>B"}, "rankings.jsonl:1: ranking: .*C"),
        ({"task": task().id, "ranking": "A>B>C", "likert": [9, 1, 1]}, "rankings.jsonl:1: likert"),
    ],
)
def test_bad_rows_name_file_line_and_field(tmp_path: Path, row: dict[str, object], said: str) -> None:
    queue = HumanQueue(tmp_path)
    queue.submit(task())
    answer(queue, row)
    with pytest.raises(DataError, match=said):
        queue.collect()
