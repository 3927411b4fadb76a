"""Chats and pairs of other projects: HH-RLHF, OpenAI fine-tuning, ShareGPT, TRL.

Our trainers learn every answer of a conversation. A conversation that marks one of its answers as not to be learned
(OpenAI's and
ShareGPT's `weight`, swift's `loss`, axolotl's `train`) is therefore left out as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatwright.data.importers.base import (
    Found,
    LeftOut,
    Turns,
    conversation_record,
    hh_turns,
    other_fields,
    pair_record,
    turn,
)
from chatwright.jsonl import Where
from chatwright.records.marks import training_marks


def hh_row(row: Mapping[str, Any], where: Where) -> Found:
    r"""`{"chosen": "\n\nHuman: ...\n\nAssistant: ...", "rejected": ...}`: people's choice between two replies."""
    chosen, rejected = (hh_turns(where.text(row.get(name), name), where, name) for name in ("chosen", "rejected"))
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        return [LeftOut("does not end with an answer")]
    if chosen[:-1] != rejected[:-1]:
        return [LeftOut("the two conversations differ before the last answer")]
    rest = {"labeller_kind": "human", **other_fields(row, "chosen", "rejected")}
    return pair_record(chosen[:-1], chosen[-1]["content"], rejected[-1]["content"], rest, "hh", where)


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
        role = _SPEAKERS[speaker.lower()]
        if role == "assistant" and (reason := _not_learned(item)) is not None:
            return LeftOut(reason)
        turns.append(turn(role, where.text(content, f"{place}.content")))
        if role == "assistant" and (thought := where.optional_text(item, "reasoning_content")):
            turns[-1]["reasoning_content"] = thought
    return turns


def _not_learned(message: Mapping[str, Any]) -> str | None:
    """Why an answer cannot be learned as it is marked; None: it has no mark, or is to be learned fully."""
    for name, share in training_marks(message):
        if share is None:
            return f"holds an answer whose {name} cannot be read"
        if share == 0:
            return f"holds an answer that is not to be learned ({name})"
        if share != 1:
            return f"holds an answer that is to be learned with another weight than the rest ({name})"
    return None


def prompt_turns(value: Any, name: str, where: Where) -> Turns | LeftOut:
    """A prompt as a text, as HH-RLHF's text form, as a list of messages, or as an object that holds its text."""
    if isinstance(value, dict):
        value = next((value[key] for key in ("full_text", "text", "content", "prompt") if key in value), value)
    if isinstance(value, list):
        return chat_turns(value, name, where)
    text = where.text(value, name)
    if ("\n\n" + text.lstrip()).startswith("\n\nHuman:") and "\n\nAssistant:" in text:
        turns = hh_turns("\n\n" + text.lstrip(), where, name)
        return turns[:-1] if turns[-1]["role"] == "assistant" and not turns[-1]["content"] else turns
    return [turn("user", text)]


def is_openai(row: Mapping[str, Any]) -> bool:
    """True when messages use what our own rows lack: text parts, weights, other roles, old function calls."""
    messages = row["messages"] if isinstance(row.get("messages"), list) else []
    spoken = [item for item in messages if isinstance(item, dict)]
    roles = {item.get("role") for item in spoken if isinstance(item.get("role"), str)}
    parts = any(isinstance(item.get("content"), list) for item in spoken)
    marked = any("function_call" in item or list(training_marks(item)) for item in spoken)
    pair = {"rejected_response", "rejected_messages"} & set(row)
    return bool(roles & {"developer", "function"} or parts or marked or pair)


_TOOL_SPEAKERS = ("tool", "function", "function_call", "observation")


def openai_row(row: Mapping[str, Any], where: Where) -> Found:
    """OpenAI fine-tuning: `{"messages": [...]}` with weights, or a preference `{"input", "preferred_output",
    "non_preferred_output"}`."""
    if "preferred_output" in row:
        asked = row.get("input")
        messages = asked.get("messages") if isinstance(asked, dict) else asked
        given = {"prompt": messages, "chosen": row["preferred_output"], "rejected": row.get("non_preferred_output")}
        return _chat_pair(given, other_fields(row, "input", "preferred_output", "non_preferred_output"), "openai", where)
    if "rejected_messages" in row:  # swift: the worse conversation beside the better one
        given = {"chosen": row.get("messages"), "rejected": row["rejected_messages"]}
        return _chat_pair(given, other_fields(row, "messages", "rejected_messages"), "openai", where)
    turns = chat_turns(row.get("messages"), "messages", where)
    if isinstance(turns, LeftOut):
        return [turns]
    if "rejected_response" in row and turns and turns[-1]["role"] == "assistant":  # swift: a pair beside its better answer
        worse = where.text(row["rejected_response"], "rejected_response")
        return pair_record(
            turns[:-1], turns[-1]["content"], worse, other_fields(row, "messages", "rejected_response"), "openai", where
        )
    return conversation_record(turns, other_fields(row, "messages", "tools", "parallel_tool_calls"), "openai", where)


def sharegpt_row(row: Mapping[str, Any], where: Where) -> Found:
    """ShareGPT: `{"conversations": [{"from", "value"}, ...], "system"?}`, with `chosen` and `rejected` as a pair."""
    turns = chat_turns(row.get("conversations"), "conversations", where)
    if isinstance(turns, LeftOut):
        return [turns]
    if isinstance(row.get("system"), str) and row["system"].strip():
        turns.insert(0, turn("system", row["system"]))
    rest = other_fields(row, "conversations", "system", "chosen", "rejected", "tools")
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
    if "chosen" in row or "rejected" in row:
        # UltraFeedback repeats the better conversation as `messages`; the preference says more.
        rest = other_fields(row, "prompt", "chosen", "rejected", *(["messages"] if "prompt" in row else []))
        if isinstance(row.get("chosen"), list):
            return _chat_pair(row, rest, "trl", where)
        if "prompt" not in row and isinstance(row.get("messages"), list):  # swift: `rejected_response` beside `messages`
            return [LeftOut("the better answer is no list of messages")]
        return _text_pair(row, rest, "trl", where)
    if "messages" in row:
        return openai_row(row, where)
    prompt = row.get("prompt")
    turns = prompt_turns(prompt, "prompt", where)
    if isinstance(turns, LeftOut):
        return [turns]
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
    return conversation_record(turns, other_fields(row, "prompt", "completion"), "trl", where)


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
    turns = prompt_turns(prompt, "prompt", where)
    if isinstance(turns, LeftOut):
        return [turns]
    if isinstance(prompt, str) and prompt and chosen.startswith(prompt) and rejected.startswith(prompt):
        chosen, rejected = chosen[len(prompt) :].lstrip(), rejected[len(prompt) :].lstrip()
    return pair_record(turns, chosen, rejected, rest, source, where)
