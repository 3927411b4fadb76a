"""Counts over records for `data check`: lengths, ties, the length baseline, duplicates. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from chatwright.records import Conversation, Demonstration, LabelledAnswer, Prompt, Ranking


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Lengths of texts in characters."""

    num: int
    least: int
    median: int
    mean: float
    p95: int
    most: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> Lengths:
        """All zero when there are no texts."""
        sizes = sorted(map(len, texts))
        if not sizes:
            return cls(num=0, least=0, median=0, mean=0.0, p95=0, most=0)
        return cls(
            num=len(sizes),
            least=sizes[0],
            median=sizes[len(sizes) // 2],
            mean=fmean(sizes),
            p95=sizes[min(len(sizes) - 1, len(sizes) * 95 // 100)],
            most=sizes[-1],
        )

    def __str__(self) -> str:
        return (f"{self.least} to {self.most} characters, median {self.median}, mean {self.mean:.0f}, "
                f"95 % up to {self.p95}")  # fmt: skip


def length_win_share(rankings: Sequence[Ranking]) -> float | None:
    """Share of strict pairs in which the answer with more characters is preferred (equal lengths count 0.5); None
    without strict pairs. A reward model that only likes length reaches max(p, 1 - p)."""
    wins = [
        0.5
        if len(r.completions[w]) == len(r.completions[lo])
        else float(len(r.completions[w]) > len(r.completions[lo]))
        for r in rankings
        for w, lo in r.order.strict_pairs()
    ]
    return fmean(wins) if wins else None


def tie_share(rankings: Sequence[Ranking]) -> float | None:
    """Share of tied pairs among all pairs; None without pairs."""
    relations = [relation for ranking in rankings for _, _, relation in ranking.order.pairs()]
    return sum(relation == 0 for relation in relations) / len(relations) if relations else None


def duplicates(keys: Iterable[Any]) -> int:
    """How many items repeat an earlier one."""
    counts = Counter(keys)
    return sum(counts.values()) - len(counts)


def ranking_lines(rankings: Sequence[Ranking]) -> list[str]:
    """What to know about rankings before training a reward model on them."""
    strict = sum(len(ranking.order.strict_pairs()) for ranking in rankings)
    pairs = sum(len(ranking.order.pairs()) for ranking in rankings)
    by_k = Counter(ranking.order.k for ranking in rankings)
    kinds = Counter(ranking.labeller_kind or "not stated" for ranking in rankings)
    with_ties = sum(any(relation == 0 for _, _, relation in ranking.order.pairs()) for ranking in rankings)
    all_tied = sum(not ranking.order.strict_pairs() for ranking in rankings)
    lines = [
        f"rankings: {len(rankings)} of {len({r.prompt_id for r in rankings})} prompts, "
        f"{duplicates((r.prompt_id, r.completions) for r in rankings)} exact duplicates",
        f"answers per ranking: {', '.join(f'K = {k}: {num}' for k, num in sorted(by_k.items()))}",
        f"kind of labeller: {', '.join(f'{kind} {num}' for kind, num in sorted(kinds.items()))}{_labellers(rankings)}",
        f"pairs: {pairs}, of them {strict} strict; rankings with a tie: {with_ties}, all tied: {all_tied}",
    ]
    ties, longer = tie_share(rankings), length_win_share(rankings)
    if ties is not None:
        lines.append(f"tie share: {ties:.3f} of all pairs")
    if longer is not None:
        lines.append(
            f"the longer answer wins {longer:.3f} of strict pairs: length baseline {max(longer, 1 - longer):.3f}"
        )
    unranked = sum(len(ranking.order.unranked) for ranking in rankings)
    cut = sum(not ended for ranking in rankings for ended in ranking.ended)
    empty = sum(not text.strip() for ranking in rankings for text in ranking.completions)
    for name, num in (("unranked answers", unranked), ("answers cut at a token limit", cut), ("empty answers", empty)):
        lines += [f"{name}: {num}"] if num else []
    return [
        *lines,
        f"length of prompts: {Lengths.of(_prompt_text(ranking.prompt) for ranking in rankings)}",
        f"length of answers: {Lengths.of(text for ranking in rankings for text in ranking.completions)}",
    ]


def _labellers(rankings: Sequence[Ranking]) -> str:
    names = {ranking.labeller for ranking in rankings if ranking.labeller}
    return f"; {len(names)} labellers by name" if names else ""


def odd_turns(messages: Conversation) -> list[str]:
    """In which ways a conversation differs from system?, user, assistant, user, ...: some chat templates refuse it."""
    roles = [message.role for message in messages]
    spoken = [role for role in roles if role not in ("system", "tool")]
    return [
        *(["a system message that is not the first"] if "system" in roles[1:] else []),
        *(["the assistant speaks first"] if spoken and spoken[0] == "assistant" else []),
        *(["the same role twice in a row"] if any(a == b for a, b in zip(spoken, spoken[1:], strict=False)) else []),
    ]


def demonstration_lines(demonstrations: Sequence[Demonstration]) -> list[str]:
    """What to know about demonstrations before training on them."""
    turns = Counter(sum(m.role == "assistant" for m in d.messages) for d in demonstrations)
    return [
        f"demonstrations: {len(demonstrations)} of {len({d.prompt.id for d in demonstrations})} prompts, "
        f"{duplicates(d.messages for d in demonstrations)} exact duplicates",
        f"answers per conversation: {', '.join(f'{n}: {num}' for n, num in sorted(turns.items()))}",
        *_odd_lines(d.messages for d in demonstrations),
        f"length of prompts: {Lengths.of(_prompt_text(d.prompt) for d in demonstrations)}",
        f"length of answers: {Lengths.of(d.answer for d in demonstrations)}",
    ]


def _odd_lines(conversations: Iterable[Conversation]) -> list[str]:
    counts = Counter(way for messages in conversations for way in odd_turns(messages))
    return [f"odd turns, which some chat templates refuse: {num} x {way}" for way, num in counts.most_common()]


def labelled_lines(labelled: Sequence[LabelledAnswer]) -> list[str]:
    """Figures of answers marked as good or bad."""
    good = sum(answer.good for answer in labelled)
    prompts = len({answer.prompt.id for answer in labelled})
    return [
        f"labelled answers: {len(labelled)} of {prompts} prompts, {good} good, {len(labelled) - good} bad",
        f"length of answers: {Lengths.of(answer.messages[-1].content for answer in labelled)}",
    ]


def prompt_lines(prompts: Sequence[Prompt]) -> list[str]:
    """What to know about prompts before sampling from them."""
    return [
        f"prompts: {len(prompts)}, {duplicates(prompt.messages for prompt in prompts)} exact duplicates",
        f"length of prompts: {Lengths.of(map(_prompt_text, prompts))}",
    ]


def _prompt_text(prompt: Prompt) -> str:
    return "\n".join(message.content for message in prompt.messages)
