"""What a chain is taught and what it is examined on: no question of the evaluation is in anything it is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatwright.data.cursor import Order
from chatwright.data.splits import split_by
from chatwright.pipeline.settings import TeachConfig
from chatwright.records import Prompt, load_demonstrations, load_prompts, load_rankings, write_jsonl

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
    without these too. Without --questions a tenth of the prompts is held out."""
    demonstrations, rankings = load_demonstrations(cfg.demonstrations), load_rankings(cfg.rankings)
    found = [d.prompt for d in demonstrations] + load_prompts(cfg.prompts)
    prompts = list({prompt.id: prompt for prompt in found}.values())
    if cfg.questions:
        questions = load_prompts(cfg.questions)
    else:
        prompts, questions = split_by(prompts, lambda p: p.id, _HELD_OUT_SHARE, cfg.seed)
    held_out = {question.id for question in questions}
    prompts = [prompt for prompt in prompts if prompt.id not in held_out]
    ranked = Order(len(prompts), cfg.seed).batch(0, min(cfg.stages.rank_prompts or len(prompts), len(prompts)))

    def write(name: str, rows: Sequence[Prompt]) -> str:
        write_jsonl(folder / name, [row.to_dict() for row in rows])
        return str(folder / name)

    def without(paths: tuple[str, ...], rows: Sequence[Any], id_of: Callable[[Any], str], name: str) -> tuple[str, ...]:
        kept = [row for row in rows if id_of(row) not in held_out]
        return paths if len(kept) == len(rows) else (write(name, kept),)

    return Inputs(
        prompts=write("prompts.jsonl", prompts),
        to_rank=write("to-rank.jsonl", [prompts[i] for i in sorted(ranked)]),
        questions=write("questions.jsonl", questions[: cfg.stages.eval_questions or len(questions)]),
        demonstrations=without(cfg.demonstrations, demonstrations, lambda d: d.prompt.id, "demonstrations.jsonl"),
        rankings=without(cfg.rankings, rankings, lambda r: r.prompt_id, "rankings.jsonl"),
    )
