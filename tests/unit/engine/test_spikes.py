"""What counts as a spike, what happens then, and when a run ends over it."""

from __future__ import annotations

import math

import pytest

from chatwright.engine.spikes import SpikeConfig, SpikeGuard
from chatwright.errors import ConfigError, TrainingStopped


def calm(guard: SpikeGuard, steps: int = 60) -> None:
    for n in range(steps):
        assert guard.accept(2.0 + 0.05 * (-1) ** n, where="step")


def test_a_jump_is_left_out_and_does_not_move_the_mean() -> None:
    guard = SpikeGuard(config=SpikeConfig())
    calm(guard)
    mean = guard.mean
    assert mean == pytest.approx(2.0, abs=0.02) and guard.limit() == pytest.approx(2.3, abs=0.06)
    assert not guard.accept(3.0, where="step") and not guard.accept(math.nan, where="step")
    assert (guard.skipped, guard.mean, guard.in_a_row) == (2, mean, 2) and not guard.must_go_back
    assert not guard.accept(math.inf, where="step") and guard.must_go_back
    guard.went_back()
    assert (guard.rolled_back, guard.in_a_row) == (1, 0) and guard.accept(2.0, where="step")


def test_a_falling_loss_and_its_noise_are_no_spike() -> None:
    guard = SpikeGuard(config=SpikeConfig(memory_steps=10))
    assert all(guard.accept(6 * math.exp(-n / 40) + 1 + 0.1 * math.sin(n * 7), where="s") for n in range(400))


def test_nothing_is_left_out_while_there_is_nothing_to_compare_with_or_it_is_off() -> None:
    guard = SpikeGuard(config=SpikeConfig(memory_steps=5))
    assert all(guard.accept(loss, where="s") for loss in (1.0, 50.0, 1.0, 70.0))
    off = SpikeGuard(config=SpikeConfig(factor=0))
    calm(off)
    assert off.accept(99.0, where="s") and not off.keep_now


def test_too_many_end_the_run_with_a_reason() -> None:
    guard = SpikeGuard(config=SpikeConfig(most=2))
    calm(guard)
    guard.accept(9.0, where="step 61")
    guard.accept(9.0, where="step 62")
    with pytest.raises(TrainingStopped, match="step 63.*3 updates.*usual 2.0"):
        guard.accept(9.0, where="step 63")


def test_state_goes_through_json_values() -> None:
    guard = SpikeGuard(config=SpikeConfig())
    calm(guard)
    guard.accept(9.0, where="s")
    other = SpikeGuard(config=SpikeConfig())
    other.restore(guard.state())
    assert other == guard


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="patience"):
        SpikeConfig(patience=-1)
