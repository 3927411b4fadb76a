"""K answers to one prompt and their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from chatwright.errors import DataError
from chatwright.jsonl import IN_MEMORY, Where
from chatwright.records.kinds import Prompt
from chatwright.records.messages import Conversation, conversation_id, messages_out, prompt_in, rest_of
from chatwright.records.passages import FIELD, passages_in
from chatwright.records.weak_order import LETTERS, MAX_K, MIN_K, WeakOrder, letter_index

LabellerKind = Literal["human", "simulated", "ai"]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """K answers to one prompt and the order a labeller gave them."""

    messages: Conversation
    completions: tuple[str, ...]
    order: WeakOrder
    context: tuple[Any, ...] = field(default=(), hash=False)
    """Passages the labeller and the model were shown: strings or `{"title", "text"}`."""
    likert: tuple[int | None, ...] | None = None
    """A 1-7 rating per answer."""
    flags: tuple[tuple[str, ...], ...] | None = None
    """Flags per answer."""
    labeller: str | None = None
    labeller_kind: LabellerKind | None = None
    """Who ranked; None when the file does not say."""
    shown_order: tuple[int, ...] | None = None
    """`shown_order[n]` is the index of the answer shown at place n."""
    guideline: str | None = None
    seconds: float | Mapping[str, float] | None = field(default=None, hash=False)
    uuid: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Every other field of the row."""

    def __post_init__(self) -> None:
        if len(self.completions) != self.order.k:
            raise DataError(f"{len(self.completions)} completions but a ranking of {self.order.k}")

    @property
    def prompt(self) -> Prompt:
        """The prompt, with the meta of the row and its passages."""
        return Prompt(messages=self.messages, meta={**self.meta, FIELD: list(self.context)} if self.context else self.meta)

    @property
    def prompt_id(self) -> str:
        """Stable id of the prompt messages (the context does not change it)."""
        return conversation_id(self.messages)

    @property
    def equal_apart(self) -> int:
        """Pairs of answers with the same text (but for blanks at its ends) of which one is ranked above the other."""
        texts = [text.strip() for text in self.completions]
        return sum(texts[winner] == texts[loser] for winner, loser in self.order.strict_pairs())

    @property
    def ended(self) -> tuple[bool, ...]:
        """Whether each answer ended by itself: False where `finish_reason` says "length"."""
        per_answer = self.meta.get("completion_meta")
        reasons: Any = self.meta.get("finish_reason", self.meta.get("finish_reasons"))
        if isinstance(per_answer, list) and len(per_answer) == self.order.k:
            reasons = [m.get("finish_reason") if isinstance(m, dict) else None for m in per_answer]
        if not isinstance(reasons, list) or len(reasons) != self.order.k:
            reasons = [reasons] * self.order.k
        return tuple(reason != "length" for reason in reasons)

    def to_dict(self) -> dict[str, Any]:
        """The row as written to JSON lines; fields that are not known are left out."""
        row: dict[str, Any] = {
            "messages": messages_out(self.messages),
            "completions": list(self.completions),
            "ranking": str(self.order),
        }
        known: dict[str, Any] = {
            "unranked": list(self.order.unranked) or None,
            "context": list(self.context) or None,
            "likert": None if self.likert is None else list(self.likert),
            "flags": None if self.flags is None else [list(names) for names in self.flags],
            "labeller": self.labeller,
            "labeller_kind": self.labeller_kind,
            "shown_order": None if self.shown_order is None else [LETTERS[i] for i in self.shown_order],
            "guideline": self.guideline,
            "seconds": dict(self.seconds) if isinstance(self.seconds, Mapping) else self.seconds,
            "uuid": self.uuid,
        }
        return row | {name: value for name, value in known.items() if value is not None} | dict(self.meta)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], where: Where = IN_MEMORY) -> Ranking:
        """From `{"messages"|"prompt", "completions", "ranking", ...}`; DataError names the field."""
        messages, used = prompt_in(row, where)
        raw = where.list(row.get("completions"), "completions")
        completions = tuple(where.text(text, f"completions[{i}]") for i, text in enumerate(raw))
        if not MIN_K <= len(completions) <= MAX_K:
            raise where.error("completions", f"holds {len(completions)}; a ranking has {MIN_K} to {MAX_K}")
        k = len(completions)
        ranking = where.text(row.get("ranking"), "ranking")
        try:
            order = WeakOrder.parse(ranking, k, _letters_in(row.get("unranked"), "unranked", where))
        except DataError as error:
            raise where.error("ranking", str(error)) from None
        kind = where.optional_text(row, "labeller_kind")
        if kind is not None and kind not in get_args(LabellerKind):
            raise where.error("labeller_kind", f"is {kind!r}; use one of {', '.join(get_args(LabellerKind))}")
        return cls(
            messages=messages,
            completions=completions,
            order=order,
            context=passages_in(row.get(FIELD), where),
            likert=_likert_in(row.get("likert"), k, where),
            flags=_flags_in(row.get("flags"), k, where),
            labeller=where.optional_text(row, "labeller"),
            labeller_kind=kind,  # type: ignore[arg-type]
            shown_order=_shown_order_in(row.get("shown_order"), k, where),
            guideline=where.optional_text(row, "guideline"),
            seconds=_seconds_in(row.get("seconds"), where),
            uuid=where.optional_text(row, "uuid"),
            meta=rest_of(row, used | _RANKING_FIELDS),
        )


_RANKING_FIELDS = {
    "completions", "ranking", "unranked", "context", "likert", "flags", "labeller", "labeller_kind", "shown_order",
    "guideline", "seconds", "uuid",
}  # fmt: skip


def _letters_in(value: Any, name: str, where: Where) -> tuple[str, ...]:
    letters = list(value) if isinstance(value, str) else where.list([] if value is None else value, name)
    return tuple(where.text(letter, f"{name}[{i}]") for i, letter in enumerate(letters))


def _likert_in(value: Any, k: int, where: Where) -> tuple[int | None, ...] | None:
    if value is None:
        return None
    ratings = where.list(value, "likert")
    good = all(r is None or (isinstance(r, int) and not isinstance(r, bool) and 1 <= r <= 7) for r in ratings)
    if len(ratings) != k or not good:
        raise where.error("likert", f"must hold {k} ratings from 1 to 7 (or null), one per answer")
    return tuple(ratings)


def _flags_in(value: Any, k: int, where: Where) -> tuple[tuple[str, ...], ...] | None:
    if value is None:
        return None
    flags = where.list(value, "flags")
    if len(flags) != k or not all(isinstance(names, list) for names in flags):
        raise where.error("flags", f"must hold {k} lists of flag names, one per answer")
    return tuple(tuple(where.text(name, f"flags[{i}]") for name in names) for i, names in enumerate(flags))


def _shown_order_in(value: Any, k: int, where: Where) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        order = tuple(letter_index(letter, k) for letter in _letters_in(value, "shown_order", where))
    except DataError as error:
        raise where.error("shown_order", str(error)) from None
    if sorted(order) != list(range(k)):
        raise where.error("shown_order", f"must name each of the {k} answers once")
    return order


def _seconds_in(value: Any, where: Where) -> float | Mapping[str, float] | None:
    for seconds in value.values() if isinstance(value, dict) else [value]:
        if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0):
            raise where.error("seconds", "must be a number of seconds, or one per phase")
    seconds_or_none: float | Mapping[str, float] | None = value
    return seconds_or_none
