"""Demonstrations -> tokens with a loss mask -> micro-batches.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from chatwright.data.batches import LMBatch, pad_right, plan
from chatwright.data.passages import fit_passages
from chatwright.records import Conversation, Demonstration
from chatwright.text.chat import Rendered, TrainOn, tools_of, training_rows
from chatwright.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Example:
    """One conversation as tokens; `loss_mask` is True where a token is trained."""

    ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]


def load_examples(
    demonstrations: Sequence[Demonstration], tokenizer: Tokenizer, *, max_tokens: int, train_on: TrainOn = "assistant"
) -> list[Example]:
    """Render every demonstration, in a row for each answer where the template writes earlier answers in another way than
    the last one (`chat.training_rows`). One longer than `max_tokens` is cut at the end, and left out when nothing of it
    would be trained; both counts are printed to stderr."""
    examples: list[Example] = []
    num_cut = num_dropped = 0
    for demonstration in demonstrations:
        rows = _rows(demonstration, tokenizer, max_tokens, train_on)
        kept = [Example(row.ids[:max_tokens], row.loss_mask[:max_tokens]) for row in rows]
        kept = [example for example in kept if any(example.loss_mask[1:])]
        num_dropped += not kept
        num_cut += bool(kept) and any(len(row) > max_tokens for row in rows)
        examples += kept
    if num_cut or num_dropped:
        print(f"{len(examples)} of {len(demonstrations)} demonstrations used: {num_cut} cut at {max_tokens} tokens, "
              f"{num_dropped} left out (no answer within {max_tokens} tokens)", file=sys.stderr)  # fmt: skip
    return examples


def _rows(demonstration: Demonstration, tokenizer: Tokenizer, max_tokens: int, train_on: TrainOn) -> list[Rendered]:
    """A demonstration with its passages, which are cut first where the whole is too long."""
    tools = tools_of(demonstration.meta)

    def rows(messages: Conversation) -> list[Rendered]:
        return training_rows(messages, tokenizer, train_on=train_on, tools=tools)

    answer = demonstration.messages[-1:]
    fitting, _ = fit_passages(
        demonstration.prompt, answer, tokenizer, max_tokens, lambda whole: max(map(len, rows(whole)), default=0)
    )
    return rows(fitting)


def micro_batches(
    examples: Sequence[Example], max_tokens: int, pad_id: int, device: torch.device | str = "cpu"
) -> list[LMBatch]:
    """Examples of like length together, padded on the right, at most `max_tokens` padded tokens each (a longer
    example stands alone). Every example is in exactly one batch."""
    groups = plan([len(example.ids) for example in examples], max_tokens)
    return [lm_batch([examples[i] for i in group], pad_id, device) for group in groups]


def lm_batch(examples: Sequence[Example], pad_id: int, device: torch.device | str = "cpu") -> LMBatch:
    """Examples as one right-padded batch."""
    return LMBatch(
        tokens_BT=pad_right([example.ids for example in examples], pad_id, device),
        loss_mask_BT=pad_right([(False, *example.loss_mask[1:]) for example in examples], 0, device).bool(),
        lengths_B=torch.tensor([len(example.ids) for example in examples], device=device),
    )
