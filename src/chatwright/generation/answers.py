"""Many answers to many prompts, with progress: what `sample` and `evaluate` share."""

from __future__ import annotations

from collections.abc import Sequence

from chatwright.generation.api import Completion, SamplingParams
from chatwright.generation.local import LocalGenerator
from chatwright.progress import ProgressBar
from chatwright.records import Prompt
from chatwright.text.chat import render, tools_of
from chatwright.text.tokenizer import Tokenizer

_SEED_STRIDE = 1_000_003  # runs with neighbouring seeds share no prompt's randomness


def sample_answers(
    generator: LocalGenerator,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    params: SamplingParams,
    *,
    n: int,
    seed: int,
    title: str,
    first: int = 0,
) -> list[list[Completion]]:
    """`n` answers to each prompt. `first` is the place of prompts[0] in the whole list: seeds follow from it."""
    ids = [render(p.messages, tokenizer, add_generation_prompt=True, tools=tools_of(p.meta)).ids for p in prompts]
    seeds = [seed * _SEED_STRIDE + first + place for place in range(len(prompts))]
    with ProgressBar(title, len(prompts) * n, unit="answer") as bar:

        def progress(tokens: int, sequences: int) -> None:
            bar.advance(sequences - bar.done, tokens=tokens - bar.tokens)

        return generator.generate(ids, params, n=n, seeds=seeds, progress=progress)
