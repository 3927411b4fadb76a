"""Instructions, lists of questions, lines of text, and our own rows -> records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatwright.data.importers.base import (
    EQUAL,
    EQUAL_APART,
    Found,
    LeftOut,
    Turns,
    conversation_record,
    other_fields,
    pair_record,
    turn,
)
from chatwright.data.importers.chats import is_openai, openai_row
from chatwright.jsonl import Where
from chatwright.records import MIN_K, Demonstration, LabelledAnswer, Prompt, Ranking, Samples
from chatwright.records.marks import as_verdict

_NO_INPUT = {"", "noinput", "no input", "nan"}  # what Alpaca's generator and pandas write where there is none


def with_input(instruction: str, extra: str) -> str:
    """An instruction with the text that it is about, if there is one."""
    return instruction if extra.strip().strip("<>[]").casefold() in _NO_INPUT else f"{instruction}\n\n{extra}"


def alpaca_row(row: Mapping[str, Any], where: Where) -> Found:
    """Alpaca: `{"instruction", "input"?, "output", "system"?, "history"?}`, or with `chosen` and `rejected`."""
    extra = where.optional_text(row, "input") or ""
    turns: Turns = []
    if system := where.optional_text(row, "system"):
        turns.append(turn("system", system))
    for n, exchange in enumerate(where.list(row.get("history") or [], "history")):
        if not (isinstance(exchange, list) and len(exchange) == 2):
            raise where.error(f"history[{n}]", "must be [question, answer]")
        question, answer = (where.text(text, f"history[{n}]") for text in exchange)
        turns += [turn("user", question), turn("assistant", answer)]
    turns.append(turn("user", with_input(where.text(row.get("instruction"), "instruction"), extra)))
    rest = other_fields(row, "instruction", "input", "output", "response", "system", "history", "chosen", "rejected")
    if "chosen" in row:
        chosen, rejected = (where.text(row.get(name), name) for name in ("chosen", "rejected"))
        return pair_record(turns, chosen, rejected, rest, "alpaca", where)
    answer = row.get("output", row.get("response"))
    return conversation_record([*turns, turn("assistant", where.text(answer, "output"))], rest, "alpaca", where)


def self_instruct_row(row: Mapping[str, Any], where: Where) -> Found:
    """self-instruct seed tasks: `{"instruction", "instances": [{"input", "output"}, ...]}`."""
    instruction = where.text(row.get("instruction"), "instruction")
    found: Found = []
    for n, instance in enumerate(where.list(row.get("instances"), "instances")):
        if not isinstance(instance, dict):
            raise where.error(f"instances[{n}]", "must be an object with input and output")
        question = with_input(instruction, where.optional_text(instance, "input") or "")
        answer = where.text(instance.get("output"), f"instances[{n}].output")
        rest = other_fields(row, "instruction", "instances")
        found += conversation_record([turn("user", question), turn("assistant", answer)], rest, "self-instruct", where)
    return found or [LeftOut("no instance")]


def mt_bench_row(row: Mapping[str, Any], where: Where) -> Found:
    """MT-Bench: `{"turns": [...]}`; the first turn is a prompt, later ones need answers before them."""
    turns = [where.text(text, f"turns[{n}]") for n, text in enumerate(where.list(row.get("turns"), "turns"))]
    if not turns:
        return [LeftOut("no message")]
    rest = other_fields(row, "turns") | ({"later_turns": turns[1:]} if turns[1:] else {})
    return conversation_record([turn("user", turns[0])], rest, "mt-bench", where)


def text_row(text: str, where: Where) -> Found:
    """A line of text: a prompt."""
    return conversation_record([turn("user", text.strip())], {}, "text", where)


# ---- our own rows ------------------------------------------------------------------------------------------


def own_row(row: Mapping[str, Any], where: Where) -> Found:
    """Our own JSON lines: a ranking, samples, a labelled answer, a demonstration or a prompt, told by its fields. Messages
    that use OpenAI's extensions are read as OpenAI's."""
    if row.get("completions") is not None or "ranking" in row:
        if row.get("ranking") is None and row.get("completions"):
            return [Samples.from_dict(row, where)]
        ranking = Ranking.from_dict(row, where)
        return [LeftOut(EQUAL if ranking.order.k == MIN_K else EQUAL_APART)] if ranking.equal_apart else [ranking]
    if is_openai(row):
        return openai_row(row, where)
    messages = row.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if "completion" in row or (isinstance(last, dict) and last.get("role") == "assistant"):
        if "label" in row and as_verdict(row["label"]) is not None:
            return [LabelledAnswer.from_dict(row, where)]
        return [Demonstration.from_dict(row, where)]
    return [Prompt.from_dict(row, where)]
