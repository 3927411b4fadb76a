"""What the model is fed: padded tensors, and the plan that groups rows of like length under a token budget.

Shapes: B rows, T tokens, S keys (= T), A answers of the whole batch, R relations (pairs of answers of one prompt).
Padding is always on the right and is known by length, never by the pad id (which some tokenizers share with eos).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

# A micro-batch more costs about as much as this many tokens (launch overhead, thinner matrix products).
BATCH_OVERHEAD_TOKENS = 64

# Rows are as wide as a whole number of these. Every width is a matrix product of its own, for which oneDNN compiles a
# kernel and keeps it: with every width there is, a run on a CPU slows down as it goes.
WIDTH_BLOCK = 16


@dataclass(frozen=True, kw_only=True)
class LMBatch:
    """Rows of tokens for a language-model loss."""

    tokens_BT: torch.Tensor
    """Token ids, int64."""
    loss_mask_BT: torch.Tensor
    """True where the token *at this place* is a target; shift by one against the logits. Column 0 is never one."""
    lengths_B: torch.Tensor
    """Real tokens per row, int64."""
    positions_BT: torch.Tensor | None = None
    """Position of each token in its own document; None: 0, 1, 2, ..."""
    mask_BTS: torch.Tensor | None = None
    """True where token t may look at token s; None: the causal rule."""

    @property
    def num_targets(self) -> int:
        """Tokens that count in the loss."""
        return int(self.loss_mask_BT[:, 1:].sum())

    @property
    def num_tokens(self) -> int:
        """Real tokens, without padding."""
        return int(self.lengths_B.sum())


@dataclass(frozen=True, kw_only=True)
class RankingBatch:
    """Answers to several prompts, laid out for one forward, and the relations between them.

    Scores of all answers: `score_BT[batch.answer_row_A, batch.answer_last_A]`.
    """

    tokens_BT: torch.Tensor
    """Tree layout: a row is a prompt followed by all its answers. Plain layout: a prompt and one answer."""
    lengths_B: torch.Tensor
    """Real tokens per row, int64."""
    positions_BT: torch.Tensor | None
    """Tree layout: answers all start at the position after the prompt. Plain: None."""
    mask_BTS: torch.Tensor | None
    """Tree layout: an answer's token looks at the prompt and its own answer. Plain: None (causal)."""
    answer_row_A: torch.Tensor
    """Row of each answer, prompt by prompt, in the order of `completions`."""
    answer_last_A: torch.Tensor
    """Column of each answer's last token: its end of turn, or where it was cut."""
    first_R: torch.Tensor
    """Index into the A answers: the first of each pair."""
    second_R: torch.Tensor
    """Index into the A answers: the second of each pair."""
    relation_R: torch.Tensor
    """+1 the first is preferred, 0 a tie, -1 the second is preferred."""
    prompt_R: torch.Tensor
    """Prompt of each pair, 0 .. num_prompts - 1."""
    num_prompts: int
    """Prompts in the batch."""
    num_answers: tuple[int, ...]
    """Answers of each prompt; they sum to A."""
    rows: tuple[int, ...]
    """Which of the examples given to `micro_batches` each prompt is."""
    prompt_lengths: tuple[int, ...]
    """Tokens of each prompt."""
    bottom_BTD: torch.Tensor | None = None
    """States after the frozen blocks, where the caller has them."""

    def answer_tokens(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of every answer token n: (row, column of the state that predicts it, its own column, its answer), [N] each.

        In both layouts an answer's first token is predicted by the last token of its prompt.
        """
        places: list[tuple[int, int, int, int]] = []
        rows, lasts = self.answer_row_A.tolist(), self.answer_last_A.tolist()
        answer = 0
        for prompt_length, num in zip(self.prompt_lengths, self.num_answers, strict=True):
            for place in range(num):
                new_row = place == 0 or rows[answer] != rows[answer - 1]
                start = prompt_length if new_row else lasts[answer - 1] + 1
                columns = range(start, lasts[answer] + 1)
                places += [(rows[answer], prompt_length - 1 if c == start else c - 1, c, answer) for c in columns]
                answer += 1
        row_N, predict_N, column_N, answer_N = torch.tensor(places, device=self.tokens_BT.device).unbind(1)
        return row_N, predict_N, column_N, answer_N

    @property
    def num_tokens(self) -> int:
        """Real tokens, without padding."""
        return int(self.lengths_B.sum())


def padded_width(width: int) -> int:
    """Tokens a row of this length takes in a batch."""
    return -(-width // WIDTH_BLOCK) * WIDTH_BLOCK


def pad_right(rows: Sequence[Sequence[int]], fill: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Rows of numbers as one [B, T] int64 tensor, T a whole number of blocks."""
    width = padded_width(max(map(len, rows)))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=torch.int64, device=device)


def pad_states(rows: Sequence[torch.Tensor], width: int) -> torch.Tensor:
    """Hidden states [T_i, D] of rows as one [B, width, D] tensor, zeros behind each."""
    out_BTD = rows[0].new_zeros(len(rows), width, rows[0].shape[1])
    for row, states_TD in enumerate(rows):
        out_BTD[row, : len(states_TD)] = states_TD
    return out_BTD


def plan(costs: Sequence[int], max_tokens: int, rows: Sequence[int] | None = None) -> list[list[int]]:
    """Group items into micro-batches: the least padding plus overhead, none over `max_tokens` padded tokens.

    `costs[i]` is the width item i needs; `rows[i]` how many rows it brings (1 each by default). An item over the
    budget stands alone. Returns indices; widest group first, so that memory peaks at once and not after an hour.
    """
    order = sorted(range(len(costs)), key=lambda i: (-costs[i], i))
    num_rows = [1] * len(costs) if rows is None else rows
    # best[n]: (least cost of grouping the n widest items, where the last group starts)
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(order) + 1):
        options: list[tuple[int, int]] = []
        height = 0
        for start in range(end - 1, -1, -1):
            height += num_rows[order[start]]
            padded = padded_width(costs[order[start]]) * height
            if padded > max_tokens and start < end - 1:
                break
            options.append((best[start][0] + padded + BATCH_OVERHEAD_TOKENS, start))
        best.append(min(options))
    groups: list[list[int]] = []
    end = len(order)
    while end > 0:
        start = best[end][1]
        groups.append(order[start:end])
        end = start
    return groups[::-1]
