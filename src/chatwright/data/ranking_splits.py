"""Divides rankings into those to learn from, those for the report card, and those reserved for a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chatwright.data.rankings import split_by_prompt
from chatwright.errors import ConfigError
from chatwright.records import Ranking
from chatwright.records.sameness import prompt_key


@dataclass(frozen=True, kw_only=True)
class ReservedConfig:
    """A part of the prompts for a second reward model, which judges what is trained against the first."""

    share: float = 0.0
    """Share of the prompts of --data that is reserved; 0: none."""
    learn: bool = False
    """Learn from the reserved prompts, instead of from the others."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.share < 1.0 or (self.learn and not self.share):
            message = f"--reserved.share {self.share}: must be from 0 up to, not with, 1; above 0 with --reserved.learn"
            raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rankings to learn from and rankings for the report card."""

    train: list[Ranking]
    held_out: list[Ranking]
    in_training: int
    """Held-out rankings left out, since their prompt (`sameness.prompt_key`) is in training."""


def divide(
    rankings: Sequence[Ranking], held_out: Sequence[Ranking] | None, share: float, reserved: ReservedConfig, *, seed: int,
    least: int,
) -> Split:  # fmt: skip
    """Divide by prompt. Without a file of held-out rankings a share of the prompts is held out, and of few prompts at least
    `least`, as long as half of them are left to learn from."""
    train = list(rankings)
    if reserved.share:
        others, kept = split_by_prompt(train, reserved.share, seed + 1)  # another draw than the next one
        train = kept if reserved.learn else others
    if held_out is None:
        prompts = len({prompt_key(ranking.messages) for ranking in train})
        enough = max(share, least / prompts) if share and prompts >= 2 * least else share
        train, held_out = split_by_prompt(train, enough, seed) if share else (train, [])
    known = {prompt_key(ranking.messages) for ranking in train}
    apart = [ranking for ranking in held_out if prompt_key(ranking.messages) not in known]
    return Split(train=train, held_out=apart, in_training=len(held_out) - len(apart))
