"""What a chain is taught and what it is examined on: no question of the evaluation is in anything it is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatwright.data.cursor import Order
from chatwright.data.prompts import distinct
from chatwright.data.splits import split_prompts, user_of
from chatwright.pipeline.settings import TeachConfig
from chatwright.progress import console
from chatwright.records import Demonstration, Prompt, Ranking, load_demonstrations, load_prompts, load_rankings, write_jsonl
from chatwright.records.sameness import prompt_key

Row = Demonstration | Prompt | Ranking

_HELD_OUT_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Files of a chain."""

    prompts: str
    """All training prompts."""
    to_rank: str
    """Those whose answers are sampled and ranked."""
    questions: str
    """Held-out questions."""
    demonstrations: tuple[str, ...]
    """The user's, or one file without those of held-out questions."""
    rankings: tuple[str, ...]
    """The user's, or one file without those of held-out questions; empty: a labeller makes them."""


def divide(cfg: TeachConfig, folder: Path) -> Inputs:
    """Write prompts.jsonl and questions.jsonl; where a demonstration or ranking is of a held-out question, a file
    without these too. Without --questions a tenth of the prompts is held out, with all rows of their users."""
    demonstrations, rankings = load_demonstrations(cfg.demonstrations), load_rankings(cfg.rankings)
    prompts = distinct([d.prompt for d in demonstrations] + load_prompts(cfg.prompts))
    users: set[str | None] = set()
    if cfg.questions:
        questions = load_prompts(cfg.questions)
    else:
        kept, questions = split_prompts(prompts, lambda p: p, _HELD_OUT_SHARE, cfg.seed)
        users = {user_of(p.meta) for p in questions} - {user_of(p.meta) for p in kept} - {None}
    held_out = {prompt_key(question.messages) for question in questions}

    def is_held_out(prompt: Prompt) -> bool:
        return prompt_key(prompt.messages) in held_out or user_of(prompt.meta) in users

    prompts = [prompt for prompt in prompts if not is_held_out(prompt)]
    ranked = Order(len(prompts), cfg.seed).batch(0, min(cfg.stages.rank_prompts or len(prompts), len(prompts)))

    def write(name: str, rows: Sequence[Row]) -> str:
        write_jsonl(folder / name, [row.to_dict() for row in rows])
        return str(folder / name)

    def without(
        paths: tuple[str, ...], rows: Sequence[Row], prompt_of: Callable[[Any], Prompt], name: str
    ) -> tuple[str, ...]:
        kept = [row for row in rows if not is_held_out(prompt_of(row))]
        if len(kept) == len(rows):
            return paths
        console().print(f"{len(rows) - len(kept)} of {len(rows)} {name} are of held-out questions, so they are left out")
        return (write(f"{name}.jsonl", kept),)

    return Inputs(
        prompts=write("prompts.jsonl", prompts),
        to_rank=write("to-rank.jsonl", [prompts[i] for i in sorted(ranked)]),
        questions=write("questions.jsonl", questions[: cfg.stages.eval_questions or len(questions)]),
        demonstrations=without(cfg.demonstrations, demonstrations, lambda row: row.prompt, "demonstrations"),
        rankings=without(cfg.rankings, rankings, lambda row: row.prompt, "rankings"),
    )
