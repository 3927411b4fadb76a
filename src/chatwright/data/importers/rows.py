"""One row of another project's file -> a record of ours, or the reason why it is left out.

Every reader takes (row, place) and returns records and `LeftOut` values; a DataError is a damaged row. Fields we do
not know stay in the record. The `source` field says which format a record came from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatwright.jsonl import Where
from chatwright.records import LETTERS, Demonstration, Prompt, Ranking, letter_index


@dataclass(frozen=True)
class LeftOut:
    """A row that is sound but of no use here."""

    reason: str


Record = Prompt | Demonstration | Ranking
Found = list[Record | LeftOut]
Turns = list[dict[str, str]]


def _rest(row: Mapping[str, Any], *used: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in used}


def turn(role: str, content: str) -> dict[str, str]:
    """A message as it stands in our rows."""
    return {"role": role, "content": content}


def conversation_record(turns: Turns, rest: Mapping[str, Any], source: str, where: Where) -> Found:
    """A demonstration when the assistant speaks last, a prompt when the user does."""
    if (problem := _problem(turns)) is not None:
        return [LeftOut(problem)]
    row = {"messages": turns, "source": source, **rest}
    if turns[-1]["role"] == "assistant":
        return [Demonstration.from_dict(row, where)]
    return [Prompt.from_dict(row, where)]


def pair_record(turns: Turns, chosen: str, rejected: str, rest: Mapping[str, Any], source: str, where: Where) -> Found:
    """A ranking A>B of two answers to one conversation."""
    if chosen.strip() == rejected.strip():
        return [LeftOut("both answers are equal")]
    if (problem := _problem(turns)) is not None:
        return [LeftOut(problem)]
    if turns[-1]["role"] == "assistant":
        return [LeftOut("the prompt ends with the assistant")]
    row = {"messages": turns, "completions": [chosen, rejected], "ranking": "A>B", "source": source, **rest}
    return [Ranking.from_dict(row, where)]


def _problem(turns: Turns) -> str | None:
    spoken = [t for t in turns if t["role"] != "system"]
    if not spoken:
        return "no message"
    if spoken[0]["role"] == "assistant":
        return "the conversation starts with the assistant"
    if any(not t["content"].strip() for t in turns):
        return "an empty message"
    return None


# ---- Anthropic HH-RLHF -------------------------------------------------------------------------------------

_HH_TURN = re.compile(r"\n\n(Human|Assistant):")


def hh_row(row: Mapping[str, Any], where: Where) -> Found:
    r"""`{"chosen": "\n\nHuman: ...\n\nAssistant: ...", "rejected": ...}`: people's choice between two replies."""
    chosen, rejected = (_hh_turns(where.text(row.get(name), name), where, name) for name in ("chosen", "rejected"))
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        return [LeftOut("does not end with an answer")]
    if chosen[:-1] != rejected[:-1]:
        return [LeftOut("the two conversations differ before the last answer")]
    rest = {"labeller_kind": "human", **_rest(row, "chosen", "rejected")}
    return pair_record(chosen[:-1], chosen[-1]["content"], rejected[-1]["content"], rest, "hh", where)


def _hh_turns(text: str, where: Where, name: str) -> Turns:
    parts = _HH_TURN.split(text if text.startswith("\n\n") else "\n\n" + text)
    if parts[0].strip() or len(parts) < 3:
        raise where.error(name, 'must be "\\n\\nHuman: ...\\n\\nAssistant: ..."')
    turns: Turns = []
    for speaker, content in zip(parts[1::2], parts[2::2], strict=True):
        role = "user" if speaker == "Human" else "assistant"
        if turns and turns[-1]["role"] == role:  # a person who wrote twice in a row
            turns[-1]["content"] += "\n\n" + content.strip()
        else:
            turns.append(turn(role, content.strip()))
    return turns


# ---- chat lists: OpenAI fine-tuning, ShareGPT, TRL ---------------------------------------------------------

_SPEAKERS = {
    "human": "user", "user": "user", "prompter": "user", "gpt": "assistant", "assistant": "assistant",
    "chatgpt": "assistant", "bard": "assistant", "bing": "assistant", "model": "assistant", "bot": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip


def chat_turns(value: Any, name: str, where: Where) -> Turns | LeftOut:
    """A chat list of any dialect: role/content or from/value; text parts are joined."""
    turns: Turns = []
    for n, item in enumerate(where.list(value, name)):
        place = f"{name}[{n}]"
        if not isinstance(item, dict):
            raise where.error(place, "must be an object with a role and a content")
        speaker = where.text(item.get("role", item.get("from")), f"{place}.role")
        if item.get("tool_calls") or item.get("function_call") or speaker in _TOOL_SPEAKERS:
            return LeftOut("uses tools")
        if speaker.lower() not in _SPEAKERS:
            raise where.error(f"{place}.role", f"is {speaker!r}; known are {', '.join(_SPEAKERS)}")
        content = item.get("content", item.get("value"))
        if isinstance(content, list):
            if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
                return LeftOut("holds more than text")
            content = "".join(where.text(part.get("text"), f"{place}.content") for part in content)
        turns.append(turn(_SPEAKERS[speaker.lower()], where.text(content, f"{place}.content")))
    return turns


_TOOL_SPEAKERS = ("tool", "function", "function_call", "observation")


def openai_row(row: Mapping[str, Any], where: Where) -> Found:
    """OpenAI fine-tuning: `{"messages": [...]}` with weights, or a preference `{"input", "preferred_output",
    "non_preferred_output"}`."""
    if "preferred_output" in row:
        asked = row.get("input")
        messages = asked.get("messages") if isinstance(asked, dict) else asked
        given = {"prompt": messages, "chosen": row["preferred_output"], "rejected": row.get("non_preferred_output")}
        return _chat_pair(given, _rest(row, "input", "preferred_output", "non_preferred_output"), "openai", where)
    turns = chat_turns(row.get("messages"), "messages", where)
    if isinstance(turns, LeftOut):
        return [turns]
    # Our trainer learns every answer of a conversation; it cannot learn some and not others.
    spoken = [item for item in row["messages"] if item.get("role") == "assistant"]
    if any(item.get("weight") == 0 for item in spoken):
        return [LeftOut("holds an answer with weight 0")]
    return conversation_record(turns, _rest(row, "messages", "tools", "parallel_tool_calls"), "openai", where)


def sharegpt_row(row: Mapping[str, Any], where: Where) -> Found:
    """ShareGPT: `{"conversations": [{"from", "value"}, ...], "system"?}`, with `chosen` and `rejected` as a pair."""
    turns = chat_turns(row.get("conversations"), "conversations", where)
    if isinstance(turns, LeftOut):
        return [turns]
    if isinstance(row.get("system"), str) and row["system"].strip():
        turns.insert(0, turn("system", row["system"]))
    rest = _rest(row, "conversations", "system", "chosen", "rejected", "tools")
    if "chosen" not in row:
        return conversation_record(turns, rest, "sharegpt", where)
    answers = [chat_turns([row.get(name)], name, where) for name in ("chosen", "rejected")]
    if isinstance(answers[0], LeftOut) or isinstance(answers[1], LeftOut):
        return [LeftOut("uses tools")]
    return pair_record(turns, answers[0][0]["content"], answers[1][0]["content"], rest, "sharegpt", where)


def trl_row(row: Mapping[str, Any], where: Where) -> Found:
    """TRL: preference (`prompt`? `chosen` `rejected`), prompt-completion, unpaired (`label`), prompt only; each field
    a text or a list of messages. A preference without `prompt` has it as the common start of both."""
    if row.get("images") or row.get("image"):
        return [LeftOut("holds more than text")]
    if "messages" in row:
        return openai_row(row, where)
    if "chosen" in row or "rejected" in row:
        rest = _rest(row, "prompt", "chosen", "rejected")
        if isinstance(row.get("chosen"), list):
            return _chat_pair(row, rest, "trl", where)
        return _text_pair(row, rest, "trl", where)
    prompt = row.get("prompt")
    turns = (
        chat_turns(prompt, "prompt", where) if isinstance(prompt, list) else [turn("user", where.text(prompt, "prompt"))]
    )
    if isinstance(turns, LeftOut):
        return [turns]
    if row.get("label") is False:
        return [LeftOut("an answer marked as bad, with none to compare it with")]
    if "completion" in row:
        value = row["completion"]
        more = (
            chat_turns(value, "completion", where)
            if isinstance(value, list)
            else [turn("assistant", where.text(value, "completion"))]
        )
        if isinstance(more, LeftOut):
            return [more]
        turns = turns + more
    return conversation_record(turns, _rest(row, "prompt", "completion", "label"), "trl", where)


def _chat_pair(row: Mapping[str, Any], rest: Mapping[str, Any], source: str, where: Where) -> Found:
    prompt = row.get("prompt")
    lists = [chat_turns(row.get(name), name, where) for name in ("chosen", "rejected")]
    asked = (
        [] if prompt is None else [turn("user", prompt)] if isinstance(prompt, str) else chat_turns(prompt, "prompt", where)
    )
    found: list[Turns] = []
    for part in (*lists, asked):
        if isinstance(part, LeftOut):
            return [part]
        found.append(part)
    chosen, rejected, before = found
    if not chosen or not rejected:
        raise where.error("chosen" if not chosen else "rejected", "is an empty list")
    if before and chosen[: len(before)] == before:  # the prompt is repeated in both answers
        chosen, rejected = chosen[len(before) :], rejected[len(before) :]
    if chosen[:-1] != rejected[:-1]:
        return [LeftOut("the two conversations differ before the last answer")]
    if not chosen or not rejected or chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        return [LeftOut("does not end with an answer")]
    before = before + chosen[:-1]
    return pair_record(before, chosen[-1]["content"], rejected[-1]["content"], rest, source, where)


def _text_pair(row: Mapping[str, Any], rest: Mapping[str, Any], source: str, where: Where) -> Found:
    chosen, rejected = (where.text(row.get(name), name) for name in ("chosen", "rejected"))
    if "prompt" not in row:
        return [LeftOut("has no prompt field, and a common start of plain text is no safe prompt")]
    prompt = row["prompt"]
    turns = (
        chat_turns(prompt, "prompt", where) if isinstance(prompt, list) else [turn("user", where.text(prompt, "prompt"))]
    )
    if isinstance(turns, LeftOut):
        return [turns]
    if isinstance(prompt, str) and prompt and chosen.startswith(prompt) and rejected.startswith(prompt):
        chosen, rejected = chosen[len(prompt) :].lstrip(), rejected[len(prompt) :].lstrip()
    return pair_record(turns, chosen, rejected, rest, source, where)


# ---- instructions ------------------------------------------------------------------------------------------


def _instruction(instruction: str, extra: str) -> str:
    return f"{instruction}\n\n{extra}" if extra.strip() else instruction


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
    turns.append(turn("user", _instruction(where.text(row.get("instruction"), "instruction"), extra)))
    rest = _rest(row, "instruction", "input", "output", "response", "system", "history", "chosen", "rejected")
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
        question = _instruction(instruction, where.optional_text(instance, "input") or "")
        answer = where.text(instance.get("output"), f"instances[{n}].output")
        rest = _rest(row, "instruction", "instances")
        found += conversation_record([turn("user", question), turn("assistant", answer)], rest, "self-instruct", where)
    return found or [LeftOut("no instance")]


def mt_bench_row(row: Mapping[str, Any], where: Where) -> Found:
    """MT-Bench: `{"turns": [...]}`; the first turn is a prompt, later ones need answers before them."""
    turns = [where.text(text, f"turns[{n}]") for n, text in enumerate(where.list(row.get("turns"), "turns"))]
    if not turns:
        return [LeftOut("no message")]
    rest = _rest(row, "turns") | ({"later_turns": turns[1:]} if turns[1:] else {})
    return conversation_record([turn("user", turns[0])], rest, "mt-bench", where)


def text_row(text: str, where: Where) -> Found:
    """A line of text: a prompt."""
    return conversation_record([turn("user", text.strip())], {}, "text", where)


# ---- our own rows ------------------------------------------------------------------------------------------


def own_row(row: Mapping[str, Any], where: Where) -> Found:
    """Our own JSON lines: a ranking, a demonstration or a prompt, told by its fields."""
    if "completions" in row or "ranking" in row:
        return [Ranking.from_dict(row, where)]
    messages = row.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if "completion" in row or (isinstance(last, dict) and last.get("role") == "assistant"):
        return [Demonstration.from_dict(row, where)]
    return [Prompt.from_dict(row, where)]


# ---- tables ------------------------------------------------------------------------------------------------

_COLUMNS = {
    "prompt": ("prompt", "question", "instruction", "query", "提示", "提示词", "问题", "指令"),
    "completion": ("completion", "answer", "response", "output", "demonstration", "回答", "答案", "输出"),
    "chosen": ("chosen", "preferred", "better"),
    "rejected": ("rejected", "dispreferred", "worse"),
    "ranking": ("ranking", "rank", "order", "preference", "排序", "排名"),
    "input": ("input", "输入"),
    "system": ("system", "系统"),
}
_ANSWER_COLUMN = re.compile(r"(?:completion|answer|response|output|回答|答案)?[ _-]?([a-i]|[1-9])", re.IGNORECASE)


def table_columns(names: Sequence[str]) -> dict[str, str]:
    """{what it means: column}; the answers of a ranking are `A` .. `I`. Case does not matter."""
    found: dict[str, str] = {}
    for name in names:
        word = name.strip().lower()
        for meaning, words in _COLUMNS.items():
            if word in words:
                found.setdefault(meaning, name)
        if match := _ANSWER_COLUMN.fullmatch(word):
            letter = LETTERS[int(match[1]) - 1] if match[1].isdigit() else match[1].upper()
            found.setdefault(letter, name)
    return found


def table_row(row: Mapping[str, Any], where: Where) -> Found:
    """A row with named columns (CSV, XLSX, flat JSON): prompt with completion, chosen and rejected, or ranking and
    answers (columns A, B, C ... or answer_1, answer_2 ...)."""
    columns = table_columns(list(row))
    if "prompt" not in columns:
        raise where.error(
            "prompt", f"is missing or empty; name its column prompt, question or instruction (found: {', '.join(row)})"
        )
    question = _instruction(
        where.text(row[columns["prompt"]], columns["prompt"]), str(row.get(columns.get("input", ""), ""))
    )
    turns = [turn("user", question)]
    if "system" in columns:
        turns.insert(0, turn("system", where.text(row[columns["system"]], columns["system"])))
    if "ranking" in columns:
        return _table_ranking(row, columns, turns, where)
    rest = _rest(row, *columns.values())
    if "chosen" in columns and "rejected" in columns:
        chosen, rejected = (where.text(row[columns[name]], columns[name]) for name in ("chosen", "rejected"))
        return pair_record(turns, chosen, rejected, rest, "table", where)
    if "completion" in columns:
        turns.append(turn("assistant", where.text(row[columns["completion"]], columns["completion"])))
    return conversation_record(turns, rest, "table", where)


def _table_ranking(row: Mapping[str, Any], columns: Mapping[str, str], turns: Turns, where: Where) -> Found:
    letters = [letter for letter in LETTERS if letter in columns]
    if [letter_index(letter) for letter in letters] != list(range(len(letters))) or len(letters) < 2:
        raise where.error(
            "ranking", "needs the answers in columns A, B, ... (or answer_1, answer_2, ...) without a gap"
        )
    used = [columns[name] for name in (*letters, "prompt", "input", "system", "ranking") if name in columns]
    return [Ranking.from_dict({
        "messages": turns, "completions": [row[columns[letter]] for letter in letters],
        "ranking": row[columns["ranking"]], "source": "table", **_rest(row, *used),
    }, where)]  # fmt: skip
