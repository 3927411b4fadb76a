"""Prompts -> ids to generate from; prompts without repetitions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from chatwright.data.passages import prompt_tokens
from chatwright.records import Prompt
from chatwright.records.sameness import prompt_key
from chatwright.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class PromptExample:
    """A prompt as tokens, ending with the generation prompt."""

    prompt: Prompt
    ids: tuple[int, ...]


def load_examples(prompts: Sequence[Prompt], tokenizer: Tokenizer, *, max_tokens: int = 1024) -> list[PromptExample]:
    """Render every prompt with its passages, cut where they are too long; one over `max_tokens` without them is left out
    (the paper drops prompts over 1k). Both are counted on stderr."""
    found = [(p, *prompt_tokens(p, tokenizer, max_tokens)) for p in prompts]
    rendered = [PromptExample(p, ids) for p, ids, _ in found]
    if cut := sum(was_cut for _, _, was_cut in found):
        print(f"passages of {cut} prompts cut at {max_tokens} tokens", file=sys.stderr)
    kept = [example for example in rendered if len(example.ids) <= max_tokens]
    if len(kept) < len(rendered):
        print(f"{len(kept)} of {len(rendered)} prompts used; the others are over {max_tokens} tokens", file=sys.stderr)
    return kept


def distinct(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Without repetitions, the first ones: width, case and blanks make no difference, other passages (`context`) do."""
    seen: dict[tuple[str, str], Prompt] = {}
    for prompt in prompts:
        seen.setdefault((prompt_key(prompt.messages), repr(prompt.meta.get("context"))), prompt)
    return list(seen.values())
