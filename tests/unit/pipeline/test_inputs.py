"""What a chain works on: nothing of the held-out questions, nor of their users."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_training as tiny
from chatwright.data.splits import user_of
from chatwright.pipeline.inputs import Inputs, divide
from chatwright.pipeline.settings import TeachConfig
from chatwright.records import load_demonstrations, load_prompts, load_rankings
from chatwright.records.sameness import prompt_key


def sides(inputs: Inputs) -> tuple[set[str], set[str], list[object]]:
    """(prompt keys of training, of the questions, users of training)."""
    rows = [*load_prompts(inputs.prompts), *(d.prompt for d in load_demonstrations(inputs.demonstrations))]
    rows += [r.prompt for r in load_rankings(inputs.rankings)]
    held = {prompt_key(p.messages) for p in load_prompts(inputs.questions)}
    return {prompt_key(p.messages) for p in rows}, held, [user_of(p.meta) for p in rows]


def test_a_held_out_question_is_not_trained_on_however_it_is_spelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"Name car {n}.", "completion": "A van."} for n in range(20)]
    rows += [{"prompt": f" name  CAR {n}.\n", "completion": "A bus."} for n in range(20)]
    rankings = [{"prompt": f"ｎame car {n}.", "completions": ["a", "b"], "ranking": "A>B"} for n in range(20)]
    cfg = TeachConfig(
        demonstrations=(str(tiny.write_rows(tmp_path / "d.jsonl", rows)),),
        rankings=(str(tiny.write_rows(tmp_path / "r.jsonl", rankings)),),
    )
    train, held, _ = sides(divide(cfg, tmp_path))
    assert len(held) == 2 and len(train) == 18 and not train & held
    assert "4 of 40 demonstrations are of held-out questions" in capsys.readouterr().err


def test_users_of_held_out_questions_are_not_trained_on(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {n}?", "completion": "Yes.", "user": f"u{n // 5}"} for n in range(100)]
    rankings = [
        {"prompt": f"Other {n}?", "completions": ["a", "b"], "ranking": "A>B", "user": f"u{n // 5}"} for n in range(100)
    ]
    cfg = TeachConfig(
        demonstrations=(str(tiny.write_rows(tmp_path / "d.jsonl", rows)),),
        rankings=(str(tiny.write_rows(tmp_path / "r.jsonl", rankings)),),
    )
    inputs = divide(cfg, tmp_path)
    users = {user_of(p.meta) for p in load_prompts(inputs.questions)}
    train, held, others = sides(inputs)
    assert len(users) == 2 and not users & set(others) and not train & held
    assert len(load_rankings(inputs.rankings)) == 90
