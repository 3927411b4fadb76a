"""One suite on one model: a row per item, added to a file as it is known, so that an interrupted run continues."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from chatwright.errors import DataError
from chatwright.evals.suites.items import Decoding, Item, Row, Suite
from chatwright.generation.api import SamplingParams
from chatwright.generation.lm import LM
from chatwright.generation.score import score_continuations
from chatwright.jsonl import read_lines, write_jsonl
from chatwright.progress import ProgressBar

_ITEMS_AT_ONCE = 16
_SEED_STRIDE = 1_000_003  # runs with neighbouring seeds share no item's randomness


def known_rows(path: Path) -> list[Row]:
    """Rows written so far; a last line that was cut off by a crash is removed from the file."""
    if not path.is_file():
        return []
    rows: list[Row] = []
    for _, row in read_lines(path):
        if isinstance(row, DataError):
            write_jsonl(path, rows)
            break
        rows.append(row)
    return rows


def answer_suite(
    lm: LM, suite: Suite, items: Sequence[Item], path: Path, *, title: str, temperature: float = 1.0, seed: int = 0
) -> list[Row]:
    """Score or answer the items that `path` lacks; returns all rows in the order of `items`.

    DataError names the suite when an item does not fit the model's context.
    """
    rows = known_rows(path)
    known = {row["id"] for row in rows}
    missing = [(number, item) for number, item in enumerate(items) if item.id not in known]
    with ProgressBar(title, len(items), done=len(items) - len(missing), unit="item") as bar:
        for at in range(0, len(missing), _ITEMS_AT_ONCE):
            part = missing[at : at + _ITEMS_AT_ONCE]
            try:
                fresh = list(_rows(lm, suite, part, temperature, seed))
            except DataError as error:
                raise DataError(f"suite {suite.name}, items {part[0][1].id} to {part[-1][1].id}: {error}") from None
            _append(path, fresh)
            rows += fresh
            bar.advance(len(part))
    by_id = {row["id"]: row for row in rows}
    return [by_id[item.id] for item in items]


def _append(path: Path, rows: Sequence[Row]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _rows(lm: LM, suite: Suite, part: Sequence[tuple[int, Item]], temperature: float, seed: int) -> Iterator[Row]:
    items = [item for _, item in part]
    if suite.decoding is None:
        yield from likelihood_rows(lm, items)
        return
    params = sampling(suite.decoding, temperature)
    chat = lm.is_chat and bool(items[0].chat_prompts)
    prompts = [prompt for item in items for prompt in (item.chat_prompts if chat else item.prompts)]
    ids = [lm.prompt_ids(prompt, raw=not chat) for prompt in prompts]
    seeds = [seed * _SEED_STRIDE + number for number, item in part for _ in item.prompts]
    texts = iter([completion.text for (completion,) in lm.generator.generate(ids, params, seeds=seeds)])
    for item in items:
        yield {"id": item.id, "texts": [next(texts) for _ in item.prompts]}


def sampling(decoding: Decoding, temperature: float) -> SamplingParams:
    """Settings by which the answers of a suite are drawn."""
    return SamplingParams(
        max_new_tokens=decoding.max_new_tokens,
        temperature=0.0 if decoding.greedy else temperature,
        stop=decoding.stop,
    )


def likelihood_rows(lm: LM, items: Sequence[Item]) -> Iterator[Row]:
    """Sums of log-probabilities in nats of all continuations, of raw text without a chat template."""
    pairs = [token_pair(lm, context, text) for item in items for context, text in item.pairs]
    scores = iter(score_continuations(lm.model, pairs))
    for item in items:
        own = [next(scores) for _ in item.pairs]
        yield {"id": item.id, "logprobs": [value for value, _ in own], "greedy": [greedy for _, greedy in own]}


def token_pair(lm: LM, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Context and continuation are tokenised as one text and parted where the context alone would end, as
    lm-evaluation-harness does. An empty context is the model's first token, or its end of text."""
    tokenizer = lm.tokenizer
    prefix = list(tokenizer.text_prefix_ids)
    body = context.rstrip()  # blanks at its end belong to the continuation
    whole = tokenizer.encode(context + continuation)
    start = min(len(tokenizer.encode(body)) if body else 0, len(whole) - 1)
    if not start and not prefix:
        prefix = [tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id]
    whole, start = [*prefix, *whole], start + len(prefix)
    too_many = len(whole) - lm.model.config.max_positions
    if too_many > 0 and start - too_many < 1:
        raise DataError(f"a text has {len(whole)} tokens, the model's context is {lm.model.config.max_positions}")
    cut = max(too_many, 0)  # the context loses its beginning, as in lm-evaluation-harness
    return whole[cut:start], whole[start:]
