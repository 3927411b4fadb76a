"""Lines of progress: what is known, and nothing that is not."""

from __future__ import annotations

import pytest

from chatwright.progress import ProgressBar


@pytest.fixture
def bar(monkeypatch: pytest.MonkeyPatch) -> ProgressBar:
    monkeypatch.setenv("NO_COLOR", "1")
    made = ProgressBar("sft", 10)
    made._started = 0.0
    return made


def test_no_time_is_left_before_the_first_step_has_ended(bar: ProgressBar) -> None:
    assert bar.text(3.0) == "0/10 steps"


def test_the_time_left_follows_from_the_pace(bar: ProgressBar) -> None:
    bar.advance(4, tokens=800, note="loss 1.2")
    assert bar.text(8.0) == "4/10 steps, 100 tokens/s, 0:12 left, loss 1.2"
    bar.advance(6)
    assert bar.text(20.0) == "10/10 steps, 40 tokens/s, 0:20 taken, loss 1.2"


def test_without_a_total_only_the_steps_are_counted(bar: ProgressBar) -> None:
    bar.total = None
    bar.advance(3)
    assert bar.text(6.0) == "3 steps"
    bar.left_s = 61.4
    assert bar.text(6.0) == "3 steps, 1:01 left"
