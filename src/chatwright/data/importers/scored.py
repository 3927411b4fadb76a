"""One prompt with a list of answers, each with a rank or a score (Nectar, UltraFeedback, Stack Exchange, distilabel), and
conversations of two models with a winner (Chatbot Arena, MT-Bench's judgements) -> rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chatwright.data.importers.base import Found, LeftOut, other_fields, ranked_record, samples_record
from chatwright.data.importers.chats import chat_turns, prompt_turns
from chatwright.data.importers.columns import choice_of
from chatwright.jsonl import Where

LISTS = ("answers", "responses", "completions", "generations", "candidates", "outputs", "replies", "summaries")
_PROMPTS = ("prompt", "instruction", "question", "query", "messages", "input", "context")
_TEXTS = ("response", "answer", "text", "completion", "content", "output", "generation", "message", "summary", "body")
_RANKS = ("rank", "ranking", "position")
_SCORES = (
    "fine-grained_score", "overall_score", "score", "overall_rating", "rating", "reward", "pm_score", "grade", "stars",
    "quality", "votes",
)  # fmt: skip
_RANK_LISTS = ("ranks",)
_SCORE_LISTS = ("scores", "ratings", "rewards", "grades", "overall_scores")


def answers_of(row: Mapping[str, Any]) -> str | None:
    """The field of a row that lists at least two answers, objects or texts with a parallel list of marks; None: no field."""
    if not any(name in row for name in _PROMPTS):
        return None
    for name in LISTS:
        value = row.get(name)
        if not isinstance(value, list) or len(value) < 2:
            continue
        if all(isinstance(item, dict) and _text_field(item) is not None for item in value):
            return name
        marked = any(_numbers(row.get(marks), len(value)) is not None for marks in (*_RANK_LISTS, *_SCORE_LISTS))
        if all(isinstance(item, str) for item in value) and (marked or name != "completions"):
            return name
    return None


def scored_row(row: Mapping[str, Any], where: Where) -> Found:
    """`{"prompt", "answers": [{"answer", "rank" or "score"}, ...]}`, or texts with parallel `ranks`, `scores` or
    `ratings`."""
    field = answers_of(row)
    asked = next((name for name in _PROMPTS if name in row), None)
    if field is None or asked is None:
        raise where.error("answers", f"is missing; a prompt and a list of answers are needed (lists: {', '.join(LISTS)})")
    turns = prompt_turns(row[asked], asked, where)
    if isinstance(turns, LeftOut):
        return [turns]
    if isinstance(row.get("ranking"), list):
        raise where.error(
            "ranking", 'is a list, which may hold ranks or an order; write it as "B>A=C", or name it ranks (1 is best)'
        )
    items = row[field]
    texts = [_text(item, f"{field}[{n}]", where) for n, item in enumerate(items)]
    ranks, by = _marks(items, row)
    rest = other_fields(row, asked, field, *([by] if by in row else []))
    rest |= _about(items, by) | ({"ranked_by": by} if by else {})
    if ranks is None:
        return samples_record(turns, texts, rest, "scored", where)
    return ranked_record(turns, texts, ranks, rest, "scored", where)


def _text_field(item: Mapping[str, Any]) -> str | None:
    return next((name for name in _TEXTS if isinstance(item.get(name), str | list)), None)


def _text(item: Any, name: str, where: Where) -> str:
    if isinstance(item, str):
        return item
    field = _text_field(item)
    value = None if field is None else item[field]
    if isinstance(value, list):
        turns = chat_turns(value, f"{name}.{field}", where)
        if isinstance(turns, LeftOut) or len(turns) != 1:
            raise where.error(f"{name}.{field}", "must be a text or one message")
        return turns[0]["content"]
    return where.text(value, f"{name}.{field}")


def _marks(items: Sequence[Any], row: Mapping[str, Any]) -> tuple[list[float | None] | None, str]:
    """(rank of each answer, lower is better; the field it follows from): the first mark that two answers have."""
    if isinstance(items[0], dict):
        marks: tuple[tuple[Sequence[str], int], ...] = ((_RANKS, 1), (_SCORES, -1))
        for names, sign in marks:
            for name in names:
                values = [_as_number(item.get(name)) for item in items]
                if sum(value is not None for value in values) >= 2:
                    return [None if value is None else sign * value for value in values], name
    lists: tuple[tuple[Sequence[str], int], ...] = ((_RANK_LISTS, 1), (_SCORE_LISTS, -1))
    for names, sign in lists:
        for name in names:
            numbers = _numbers(row.get(name), len(items))
            if numbers is not None and sum(value is not None for value in numbers) >= 2:
                return [None if value is None else sign * value for value in numbers], name
    return None, ""


def _numbers(value: Any, k: int) -> list[float | None] | None:
    if not isinstance(value, list) or len(value) != k:
        return None
    numbers = [_as_number(one) for one in value]
    sound = all(number is not None or one is None for number, one in zip(numbers, value, strict=True))
    return numbers if sound else None


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) < 1e300 else None


def _about(items: Sequence[Any], by: str) -> dict[str, Any]:
    """The marks of each answer besides its text."""
    if not isinstance(items[0], dict):
        return {}
    about = [other_fields(item, _text_field(item) or "", by) for item in items]
    return {"completion_meta": about} if any(about) and len(items) <= 9 else {}


# ---- two models, one winner --------------------------------------------------------------------------------


def arena_row(row: Mapping[str, Any], where: Where) -> Found:
    """Chatbot Arena: `{"conversation_a", "conversation_b", "winner"}`; the conversations share all but the last answer."""
    both = [chat_turns(row.get(name), name, where) for name in ("conversation_a", "conversation_b")]
    sides = []
    for side in both:
        if isinstance(side, LeftOut):
            return [side]
        sides.append(side)
    first, second = sides
    if not first or not second or first[-1]["role"] != "assistant" or second[-1]["role"] != "assistant":
        return [LeftOut("does not end with an answer")]
    if first[:-1] != second[:-1]:
        return [LeftOut("the two conversations differ before the last answer")]
    texts = [first[-1]["content"], second[-1]["content"]]
    rest = other_fields(row, "conversation_a", "conversation_b", "winner")
    if row.get("winner") is None:
        return samples_record(first[:-1], texts, rest, "arena", where)
    said = choice_of(row["winner"], row, {"a": "model_a", "b": "model_b"}, "winner", where)
    ranks: list[float | None] = [1.0 if said in ("tie", suffix) else 2.0 for suffix in ("a", "b")]
    if "bad" in str(row["winner"]).lower():
        rest["none_acceptable"] = True
    return ranked_record(first[:-1], texts, ranks, rest, "arena", where)
