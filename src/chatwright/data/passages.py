"""Passages (`context`) into the prompts of every stage: one place. What is too long loses passages first."""

from __future__ import annotations

from collections.abc import Callable

from chatwright.records import Conversation, Prompt
from chatwright.records.passages import passages_text, with_passages
from chatwright.text.chat import render, tools_of
from chatwright.text.tokenizer import Tokenizer


def fit_passages(
    prompt: Prompt,
    answer: Conversation,
    tokenizer: Tokenizer,
    max_tokens: int,
    num_tokens: Callable[[Conversation], int],
) -> tuple[Conversation, bool]:
    """(prompt with its passages before the question, then `answer`; whether passages were cut).

    Where `num_tokens` of the whole is over `max_tokens`, the passages' end is cut off; what is too long without any stays
    too long.
    """
    text, bare = passages_text(prompt.context), (*prompt.messages, *answer)
    if not text:
        return bare, False

    def whole(length: int) -> Conversation:
        return (*with_passages(prompt.messages, text[:length]), *answer)

    over = num_tokens(whole(len(text))) - max_tokens
    if over <= 0:
        return whole(len(text)), False
    ends = tokenizer.encode_with_ends(text)[1]
    room = len(ends) - over
    while room > 0:
        # Joining text can cost a token more than the parts, so try again a little shorter until it fits.
        shorter = whole(ends[room - 1])
        over = num_tokens(shorter) - max_tokens
        if over <= 0:
            return shorter, True
        room -= over
    return bare, True


def prompt_tokens(prompt: Prompt, tokenizer: Tokenizer, max_tokens: int) -> tuple[tuple[int, ...], bool]:
    """(ids of a prompt with its passages and the generation prompt, whether passages were cut)."""
    tools = tools_of(prompt.meta)

    def ids(messages: Conversation) -> tuple[int, ...]:
        return render(messages, tokenizer, add_generation_prompt=True, tools=tools).ids

    messages, cut = fit_passages(prompt, (), tokenizer, max_tokens, lambda whole: len(ids(whole)))
    return ids(messages), cut
