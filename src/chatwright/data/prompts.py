"""Prompts -> ids to generate from; deduplication, a cap per user, splits by user (InstructGPT section 3.2)."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from chatwright.data.splits import split_by
from chatwright.records import Prompt
from chatwright.records.sameness import normalised
from chatwright.text.chat import render, tools_of
from chatwright.text.tokenizer import Tokenizer

# InstructGPT drops prompts that "share a long common prefix" and does not say how long; this is our number.
PREFIX_CHARS = 128
MAX_PER_USER = 200
USER_FIELDS = ("user", "user_id")


@dataclass(frozen=True)
class PromptExample:
    """A prompt as tokens, ending with the generation prompt."""

    prompt: Prompt
    ids: tuple[int, ...]


def load_examples(prompts: Sequence[Prompt], tokenizer: Tokenizer, *, max_tokens: int = 1024) -> list[PromptExample]:
    """Render every prompt; one over `max_tokens` is left out (the paper drops prompts over 1k), counted on stderr."""
    rendered = [PromptExample(p, _ids(p, tokenizer)) for p in prompts]
    kept = [example for example in rendered if len(example.ids) <= max_tokens]
    if len(kept) < len(rendered):
        print(f"{len(kept)} of {len(rendered)} prompts used; the others are over {max_tokens} tokens", file=sys.stderr)
    return kept


def _ids(prompt: Prompt, tokenizer: Tokenizer) -> tuple[int, ...]:
    return render(prompt.messages, tokenizer, add_generation_prompt=True, tools=tools_of(prompt.meta)).ids


def user_of(prompt: Prompt) -> str | None:
    """The user a prompt came from, from its `user` or `user_id` field."""
    return next((str(prompt.meta[name]) for name in USER_FIELDS if prompt.meta.get(name) is not None), None)


def dedupe(prompts: Sequence[Prompt], prefix_chars: int = PREFIX_CHARS) -> list[Prompt]:
    """Keep the first of all prompts whose text starts with the same `prefix_chars` characters; a shorter prompt is
    dropped only when its whole text was seen. Case, width and blanks do not matter (`records.sameness`)."""
    seen: set[str] = set()
    kept: list[Prompt] = []
    for prompt in prompts:
        text = "\n".join(f"{m.role}: {normalised(m.content)}" for m in prompt.messages)
        key = text[:prefix_chars]
        if key not in seen:
            seen.add(key)
            kept.append(prompt)
    return kept


def cap_per_user(prompts: Sequence[Prompt], limit: int = MAX_PER_USER) -> list[Prompt]:
    """At most `limit` prompts of one user, the first ones; prompts without a user are all kept."""
    counts: Counter[str] = Counter()
    kept: list[Prompt] = []
    for prompt in prompts:
        name = user_of(prompt)
        if name is not None:
            counts[name] += 1
        if name is None or counts[name] <= limit:
            kept.append(prompt)
    return kept


def split_by_user(prompts: Sequence[Prompt], share: float, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """(training, held-out): all prompts of one user stay on one side; a prompt without a user counts as its own."""
    return split_by(
        prompts, lambda p: f"user:{name}" if (name := user_of(p)) is not None else f"prompt:{p.id}", share, seed
    )
