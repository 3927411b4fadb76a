"""Many answers to many prompts, with progress, for `sample`, `bestofn`, `evaluate` and the selection of `sft`."""

from __future__ import annotations

from collections.abc import Sequence

from chatwright.errors import DataError
from chatwright.generation.api import Completion, SamplingParams
from chatwright.generation.local import LocalGenerator
from chatwright.progress import ProgressBar, console
from chatwright.records import Prompt
from chatwright.text.chat import render, tools_of
from chatwright.text.tokenizer import Tokenizer

_SEED_STRIDE = 1_000_003  # runs with neighbouring seeds share no prompt's randomness


def check_room(prompts: Sequence[Prompt], tokenizer: Tokenizer, context: int, max_new_tokens: int, where: str) -> None:
    """Before anything is generated: DataError when a prompt leaves no room for an answer in the model's context; says how
    many answers have less room than `max_new_tokens`. `where`: the files, for the message."""
    lengths = [len(render(p.messages, tokenizer, add_generation_prompt=True).ids) for p in prompts]
    full = [number for number, length in enumerate(lengths, start=1) if length >= context]
    if full:
        raise DataError(
            f"{where}: {len(full)} of {len(prompts)} prompts leave no room for an answer in the model's context of "
            f"{context} tokens (the first is prompt {full[0]} with {lengths[full[0] - 1]} tokens); shorten them, leave them "
            "out, or take a model with a longer context"
        )
    short = sum(length + max_new_tokens > context for length in lengths)
    if short:
        console().print(f"{where}: {short} of {len(prompts)} prompts have room for fewer than {max_new_tokens} tokens of an "
                        f"answer in the model's context of {context}")  # fmt: skip


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
