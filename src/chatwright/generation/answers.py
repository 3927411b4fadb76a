"""Many answers to many prompts, with progress, for `sample`, `bestofn`, `evaluate` and the selection of `sft`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from chatwright.data.passages import prompt_tokens
from chatwright.errors import DataError
from chatwright.generation.api import Completion, SamplingParams
from chatwright.generation.local import LocalGenerator
from chatwright.progress import ProgressBar, console
from chatwright.records import Prompt
from chatwright.text.tokenizer import Tokenizer

_SEED_STRIDE = 1_000_003  # runs with neighbouring seeds share no prompt's randomness


def check_room(prompts: Sequence[Prompt], tokenizer: Tokenizer, context: int, max_new_tokens: int, where: str) -> None:
    """Before anything is generated: DataError when a prompt leaves no room for an answer in the model's context; says how
    many answers have less room than `max_new_tokens`. `where`: the files, for the message."""
    lengths = [len(prompt_tokens(p, tokenizer, context - max_new_tokens)[0]) for p in prompts]
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
    room = generator.model.config.max_positions - params.max_new_tokens
    found = [prompt_tokens(prompt, tokenizer, room) for prompt in prompts]
    ids = [ids for ids, _ in found]
    if cut := sum(was_cut for _, was_cut in found):
        print(f"{title}: passages of {cut} prompts cut at {room} tokens, to leave room for an answer", file=sys.stderr)
    seeds = [seed * _SEED_STRIDE + first + place for place in range(len(prompts))]
    with ProgressBar(title, len(prompts) * n, unit="answer") as bar:

        def progress(tokens: int, sequences: int) -> None:
            bar.advance(sequences - bar.done, tokens=tokens - bar.tokens)

        return generator.generate(ids, params, n=n, seeds=seeds, progress=progress)
