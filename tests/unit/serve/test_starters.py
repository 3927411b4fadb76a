from __future__ import annotations

import json
from pathlib import Path

from chatwright.serve.starters import starters_of


def chain(folder: Path, questions: list[object], stage: str = "7-evaluation") -> Path:
    """A run folder with its questions; returns the folder of its last model."""
    (folder / stage).mkdir(parents=True)
    (folder / "questions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in questions))
    (folder / "6-ppo/final").mkdir(parents=True)
    return folder / "6-ppo/final"


def prompt(*texts: str) -> dict[str, object]:
    roles = ["user", "assistant"]
    return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]}


def test_a_taught_model_begins_with_what_it_was_examined_on(tmp_path: Path) -> None:
    asked = [prompt(f"What is {n}?") for n in range(9)] + [prompt("x" * 500), prompt("a", "b", "c")]
    model = chain(tmp_path / "run", asked)
    assert starters_of(str(model)) == starters_of(str(model.parent)) == starters_of(str(tmp_path / "run"))
    assert starters_of(str(model)) == ["What is 0?", "What is 2?", "What is 4?", "What is 6?"]


def test_questions_of_users_are_shown_to_nobody(tmp_path: Path) -> None:
    assert starters_of(str(chain(tmp_path / "job", [prompt("my secret")], stage="7-comparison"))) == []


def test_unknown_and_damaged_places_have_none(tmp_path: Path) -> None:
    model = chain(tmp_path / "run", [])
    (tmp_path / "run/questions.jsonl").write_text("no JSON\n")
    assert starters_of(str(model)) == starters_of(str(tmp_path / "gone")) == starters_of("owner/name") == []


def test_an_english_model_is_asked_in_english() -> None:
    assert len(starters_of("smollm2-135m-instruct")) == 4 and starters_of("qwen2.5-coder-0.5b-instruct") == []
