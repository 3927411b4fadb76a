"""Rankings -> one row per prompt that holds all K answers, so that one forward scores them all.

The prompt is computed once; the answers follow it, each at the positions after the prompt, each blind to the others
(a tree mask). The plain layout, one row per answer, gives the same scores and is there to prove it.

Shapes: B rows, T tokens, S keys (= T), A answers, R relations.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import torch

from chatwright.data.batches import RankingBatch, pad_right, plan
from chatwright.data.passages import prompt_tokens
from chatwright.data.splits import hash_of, split_prompts
from chatwright.records import Ranking
from chatwright.records.sameness import distinct_pairs
from chatwright.text.chat import answer_ids
from chatwright.text.tokenizer import Tokenizer

Layout = Literal["tree", "plain"]


@dataclass(frozen=True)
class RankingExample:
    """A prompt and its K answers as tokens."""

    prompt_ids: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    """Each ends with the end-of-turn token unless it was cut."""
    relations: tuple[tuple[int, int, int], ...]
    """(i, j, +1 | 0 | -1) per pair of ranked answers, i < j; empty when there is no ranking."""
    prompt_id: str = ""
    """Id of the prompt, for splits."""
    index: int = 0
    """Place of the ranking in the list it was loaded from: some are left out, so places shift."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the tree layout."""
        return len(self.prompt_ids) + sum(map(len, self.answers))


def load_examples(
    rankings: Sequence[Ranking], tokenizer: Tokenizer, *, max_tokens: int, max_prompt_tokens: int | None = None
) -> list[RankingExample]:
    """Tokenise rankings; what was cut or left out is counted on stderr.

    `max_tokens` bounds prompt plus one answer; `max_prompt_tokens` (default: three quarters of it) the prompt. The
    context is cut first; a prompt still too long, or a ranking without any pair, is left out; an answer too long is
    cut and then has no end-of-turn token. Pairs of answers of the same text teach nothing and are left out.
    """
    max_prompt_tokens = max_prompt_tokens or max_tokens * 3 // 4
    examples: list[RankingExample] = []
    counts = {"contexts cut": 0, "answers cut": 0, "left out, prompt too long": 0, "left out, no pair": 0,
              "left out, equal answers": 0}  # fmt: skip
    for index, ranking in enumerate(rankings):
        prompt_ids, context_cut = prompt_tokens(ranking.prompt, tokenizer, max_prompt_tokens)
        if len(prompt_ids) > max_prompt_tokens:
            counts["left out, prompt too long"] += 1
            continue
        relations = distinct_pairs(ranking)
        if not relations:
            counts["left out, equal answers" if ranking.order.pairs() else "left out, no pair"] += 1
            continue
        room = max_tokens - len(prompt_ids)
        answers = [
            answer_ids(text, tokenizer, ended=ended)
            for text, ended in zip(ranking.completions, ranking.ended, strict=True)
        ]
        counts["contexts cut"] += context_cut
        counts["answers cut"] += sum(len(ids) > room for ids in answers)
        cut = tuple(ids[:room] for ids in answers)
        examples.append(RankingExample(prompt_ids, cut, relations, ranking.prompt_id, index))
    if any(counts.values()):
        notes = ", ".join(f"{name}: {num}" for name, num in counts.items() if num)
        print(f"{len(examples)} of {len(rankings)} rankings used ({notes}; limit {max_tokens} tokens, prompt "
              f"{max_prompt_tokens})", file=sys.stderr)  # fmt: skip
    return examples


def split_by_prompt(rankings: Sequence[Ranking], share: float, seed: int) -> tuple[list[Ranking], list[Ranking]]:
    """(training, held-out): all rankings of one prompt, and of one user, stay on one side (`splits.split_prompts`)."""
    return split_prompts(rankings, lambda ranking: ranking.prompt, share, seed)


def shuffled_pairs(examples: Sequence[RankingExample], seed: int) -> list[RankingExample]:
    """Every pair as an example of its own, shuffled: what the K-wise batch element is compared with."""
    pairs = [
        RankingExample(
            example.prompt_ids, (example.answers[i], example.answers[j]), ((0, 1, relation),), example.prompt_id
        )
        for example in examples
        for i, j, relation in example.relations
    ]
    Random(hash_of("pairs", seed)).shuffle(pairs)
    return pairs


def micro_batches(
    examples: Sequence[RankingExample],
    max_tokens: int,
    pad_id: int,
    device: torch.device | str = "cpu",
    layout: Layout = "tree",
) -> list[RankingBatch]:
    """Whole prompts of like length together, at most `max_tokens` padded tokens each (a longer one stands alone)."""
    if layout == "tree":
        groups = plan([example.num_tokens for example in examples], max_tokens)
        return [_tree_batch(examples, group, pad_id, device) for group in groups]
    widths = [len(example.prompt_ids) + max(map(len, example.answers)) for example in examples]
    groups = plan(widths, max_tokens, rows=[len(example.answers) for example in examples])
    return [_plain_batch(examples, group, pad_id, device) for group in groups]


def _tree_batch(
    examples: Sequence[RankingExample], group: Sequence[int], pad_id: int, device: torch.device | str
) -> RankingBatch:
    tokens, positions, segments, rows, last = [], [], [], [], []
    for row, index in enumerate(group):
        example = examples[index]
        start = len(example.prompt_ids)
        row_tokens, row_positions, row_segments = list(example.prompt_ids), list(range(start)), [0] * start
        for number, answer in enumerate(example.answers, start=1):
            row_tokens += answer
            row_positions += range(start, start + len(answer))
            row_segments += [number] * len(answer)
            rows.append(row)
            last.append(len(row_tokens) - 1)
        tokens.append(row_tokens)
        positions.append(row_positions)
        segments.append(row_segments)
    return _batch(
        [examples[i] for i in group], group, pad_right(tokens, pad_id, device), list(map(len, tokens)), rows, last,
        pad_right(positions, 0, device), tree_mask(pad_right(segments, -1, device)),
    )  # fmt: skip


def _plain_batch(
    examples: Sequence[RankingExample], group: Sequence[int], pad_id: int, device: torch.device | str
) -> RankingBatch:
    tokens = [[*examples[i].prompt_ids, *answer] for i in group for answer in examples[i].answers]
    lengths = list(map(len, tokens))
    return _batch(
        [examples[i] for i in group], group, pad_right(tokens, pad_id, device), lengths, list(range(len(tokens))),
        [length - 1 for length in lengths], None, None,
    )  # fmt: skip


def _batch(
    members: Sequence[RankingExample],
    group: Sequence[int],
    tokens_BT: torch.Tensor,
    lengths: Sequence[int],
    answer_row: Sequence[int],
    answer_last: Sequence[int],
    positions_BT: torch.Tensor | None,
    mask_BTS: torch.Tensor | None,
) -> RankingBatch:
    def column(values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=tokens_BT.device)

    num_answers = tuple(len(example.answers) for example in members)
    starts = [sum(num_answers[:n]) for n in range(len(members))]
    pairs = [(starts[p] + i, starts[p] + j, r, p) for p, example in enumerate(members) for i, j, r in example.relations]
    return RankingBatch(
        tokens_BT=tokens_BT,
        lengths_B=column(lengths),
        positions_BT=positions_BT,
        mask_BTS=mask_BTS,
        answer_row_A=column(answer_row),
        answer_last_A=column(answer_last),
        first_R=column([pair[0] for pair in pairs]),
        second_R=column([pair[1] for pair in pairs]),
        relation_R=column([pair[2] for pair in pairs]),
        prompt_R=column([pair[3] for pair in pairs]),
        num_prompts=len(members),
        num_answers=num_answers,
        rows=tuple(group),
        prompt_lengths=tuple(len(example.prompt_ids) for example in members),
    )


def tree_mask(segments_BT: torch.Tensor) -> torch.Tensor:
    """[B, T, S] bool from segments (0 prompt, 1.. answers, -1 padding): a token looks back at the prompt and at its
    own segment. Padding looks at itself, so no row is empty."""
    num = segments_BT.shape[1]
    causal_TS = torch.ones(num, num, dtype=torch.bool, device=segments_BT.device).tril()
    query_BT1, key_B1S = segments_BT[:, :, None], segments_BT[:, None, :]
    allowed_BTS = ((key_B1S == 0) | (key_B1S == query_BT1)) & (query_BT1 >= 0) & causal_TS
    return allowed_BTS | torch.eye(num, dtype=torch.bool, device=segments_BT.device)
