"""Argilla records -> rankings, demonstrations and prompts.

Flat rows (`Dataset.records.to_list(flatten=True)`, `to_datasets`, a 1.x dataset on the hub) are unfolded first.

Read are the rows of the 2.x SDK (`responses` by question, each a list of `{"value", "user_id"}`), and those of the 1.x
feedback records and of the HTTP API (`responses` a list of `{"user_id", "status", "values": {question: {"value"}}}`). A
ranking is a list of field names, best first, or of `{"value", "rank"}` with equal ranks as ties. Every user's ranking of a
record is one ranking of ours; a text a user wrote is a demonstration; a record nobody answered is a prompt.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from chatwright.data.importers.base import EQUAL_APART, Found, LeftOut, Turns, conversation_record, samples_record, turn
from chatwright.data.importers.chats import chat_turns
from chatwright.errors import DataError
from chatwright.jsonl import Where
from chatwright.records import MAX_K, MIN_K, Demonstration, Prompt, Ranking, WeakOrder

METADATA = "chatwright"
"""Metadata field in which our exporter keeps the rest of a row, as JSON."""
_PROMPT_FIELDS = ("prompt", "messages", "instruction", "question", "input", "chat", "context", "text")
_ANSWER_FIELD = re.compile(r"(?:response|answer|completion|generation|reply|output)s?[-_ ]?([1-9]|[A-Ia-i])")
_PER_ANSWER = re.compile(r"(rating|flags)[-_ ]?([1-9])")
Answers = dict[str, dict[str, Any]]
"""What each user answered: user id -> question -> value."""


def user_id_of(labeller: str) -> str:
    """The id under which a labeller's responses stand in an export."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"chatwright:labeller:{labeller}"))


def is_flat(row: Mapping[str, Any]) -> bool:
    """True for a flat Argilla record: questions as `NAME.responses`, or 1.x columns beside `NAME-suggestion`."""
    flat = any(str(name).endswith(".responses") and f"{name}.users" in row for name in row)
    return flat or any(_hub_responses(row, str(name)) is not None for name in row)


def _hub_responses(row: Mapping[str, Any], name: str) -> list[Any] | None:
    value = row.get(name)
    if f"{name}-suggestion" not in row or not (value is None or isinstance(value, list)):
        return None
    sound = all(isinstance(one, dict) and {"user_id", "value"} <= set(one) for one in value or [])
    return list(value or []) if sound else None


def _unfolded(row: Mapping[str, Any], where: Where) -> dict[str, Any]:
    """A flat row as `{"fields", "responses", "metadata"}`."""
    responses: dict[str, list[dict[str, Any]]] = {}
    used: set[str] = set()
    for name in row:
        base, _, last = str(name).rpartition(".")
        if last == "responses" and isinstance(row[name], list):
            responses[base] = _flat_responses(row, base, where)
            used |= {other for other in row if str(other).startswith(f"{base}.responses")}
        elif (given := _hub_responses(row, str(name))) is not None:
            responses[str(name)] = [{**one, "value": _hub_value(one.get("value"), where)} for one in given]
            used |= {str(name)}
    fields = {
        name: value for name, value in row.items()
        if isinstance(value, str | list) and (name in _PROMPT_FIELDS or _ANSWER_FIELD.fullmatch(name)) and name not in used
    }  # fmt: skip
    metadata = row.get("metadata")
    if isinstance(metadata, str):
        metadata = _json_object(metadata)
    rest = {
        name: value for name, value in row.items()
        if name not in used and name not in fields and name not in ("metadata", "id", "status", "_server_id", "external_id")
        and not str(name).endswith(("-suggestion", "-suggestion-metadata", ".suggestion", ".suggestion.score",
        ".suggestion.agent"))
    }  # fmt: skip
    suggested = [
        name for name, value in row.items() if str(name).endswith(("-suggestion", ".suggestion")) and value is not None
    ]
    return {"fields": fields, "responses": responses, "metadata": {**rest, **(metadata or {})}, "suggestions": suggested}


def _flat_responses(row: Mapping[str, Any], base: str, where: Where) -> list[dict[str, Any]]:
    values = where.list(row[f"{base}.responses"], f"{base}.responses")
    users, status = (row.get(f"{base}.responses.{name}") or [None] * len(values) for name in ("users", "status"))
    if len(users) != len(values) or len(status) != len(values):
        raise where.error(f"{base}.responses", f"holds {len(values)} responses of {len(users)} users")
    return [
        {"value": value, "user_id": user, **({"status": state} if state else {})}
        for value, user, state in zip(values, users, status, strict=True)
    ]


def _hub_value(value: Any, where: Where) -> Any:
    """The hub's `{"rank": [...], "value": [...]}` as a list of `{"value", "rank"}`."""
    if isinstance(value, dict) and isinstance(value.get("value"), list) and isinstance(value.get("rank"), list):
        if len(value["value"]) != len(value["rank"]):
            raise where.error("rank", "must have as many ranks as values")
        return [{"value": name, "rank": rank} for name, rank in zip(value["value"], value["rank"], strict=True)]
    return value


def argilla_row(row: Mapping[str, Any], where: Where) -> Found:
    """`{"fields", "responses"?, "metadata"?, ...}`."""
    if "fields" not in row and is_flat(row):
        row = _unfolded(row, where)
    fields = row.get("fields")
    if not isinstance(fields, dict):
        raise where.error("fields", "is missing; an Argilla record has fields")
    turns = _prompt(fields, where)
    if isinstance(turns, LeftOut):
        return [turns]
    given = row.get("metadata")
    metadata: Mapping[str, Any] = given if isinstance(given, dict) else {}
    names = sorted((match[1].upper(), name) for name in fields if (match := _ANSWER_FIELD.fullmatch(name)))
    completions = [name for _, name in names]
    users, unfinished = _users(row.get("responses"), where)
    found: Found = [LeftOut("a response that was not submitted")] * unfinished
    suggested = row.get("suggestions")
    found += [LeftOut("a suggestion, which is no person's answer")] * (
        len(suggested) if isinstance(suggested, list | dict) else 0
    )
    own = _own_rest(metadata, where)
    rest = {name: value for name, value in metadata.items() if name not in (METADATA, "labeller", "labeller_kind")}
    if len(completions) >= MIN_K:
        texts = [where.text(fields[name], f"fields.{name}") for name in completions]
        return found + _rankings(turns, dict(zip(completions, texts, strict=True)), users, rest, own, where)
    written = [(user, text) for user, said in users.items() for text in said.values() if isinstance(text, str)]
    if own is not None and len(written) <= 1:
        answers = [turn("assistant", text) for _, text in written]
        kind = Demonstration if answers else Prompt
        return [*found, kind.from_dict({"messages": turns + answers, **own}, where)]
    for user, text in written:
        extra = {**rest, "labeller": user, "labeller_kind": "human"}
        found += conversation_record([*turns, turn("assistant", text)], extra, "argilla", where)
    return found if written else found + conversation_record(turns, rest, "argilla", where)


def _prompt(fields: Mapping[str, Any], where: Where) -> Turns | LeftOut:
    name = next((name for name in _PROMPT_FIELDS if name in fields), None)
    if name is None:
        raise where.error("fields", f"none is named {', '.join(_PROMPT_FIELDS)} (found: {', '.join(fields)})")
    value = fields[name]
    return chat_turns(value, f"fields.{name}", where) if isinstance(value, list) else [turn("user", where.text(value, name))]


def _users(responses: Any, where: Where) -> tuple[Answers, int]:
    """What every user submitted, and how many responses are drafts or discarded."""
    found: Answers = {}
    unfinished = 0
    if isinstance(responses, dict):
        for question, given in responses.items():
            for n, one in enumerate(where.list(given, f"responses.{question}")):
                if not isinstance(one, dict) or "value" not in one:
                    raise where.error(f"responses.{question}[{n}]", "must be an object with a value")
                if one.get("status") in ("draft", "discarded"):
                    unfinished += 1
                else:
                    found.setdefault(str(one.get("user_id", "")), {})[question] = one["value"]
        return found, unfinished
    for n, one in enumerate(where.list([] if responses is None else responses, "responses")):
        values = one.get("values") if isinstance(one, dict) else None
        if not isinstance(values, dict):
            raise where.error(f"responses[{n}]", "must be an object with values")
        if one.get("status", "submitted") != "submitted":
            unfinished += 1
            continue
        for question, value in values.items():
            plain = value.get("value") if isinstance(value, dict) else value
            found.setdefault(str(one.get("user_id", "")), {})[question] = plain
    return found, unfinished


def _own_rest(metadata: Mapping[str, Any], where: Where) -> dict[str, Any] | None:
    """The rest of the row that our exporter kept; None in records of others."""
    if not isinstance(metadata.get(METADATA), str):
        return None
    value = _json_object(metadata[METADATA])
    if value is None:
        raise where.error(f"metadata.{METADATA}", "is not the JSON object that the exporter wrote")
    return value


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _rankings(
    turns: Turns, answers: Mapping[str, str], users: Answers, rest: Mapping[str, Any], own: Mapping[str, Any] | None,
    where: Where,
) -> Found:  # fmt: skip
    names = list(answers)
    if len(names) > MAX_K:
        return [LeftOut(f"a record of more than {MAX_K} answers")]
    found: Found = []
    row = {"messages": turns, "completions": list(answers.values())}
    exported = user_id_of(str(own.get("labeller", ""))) if own is not None else None
    if own is not None and "ranking" in own:
        kept = Ranking.from_dict({**row, **own}, where)
        now = _order(users.get(exported or "", {}), names, where)
        if now is None or now == kept.order:
            found.append(kept)
            users = {user: answered for user, answered in users.items() if user != exported}
    for user, given in users.items():
        order = _order(given, names, where)
        if order is None:
            found.append(LeftOut("a response without a ranking of the record's answers"))
            continue
        if _equal_apart(answers, order):
            found.append(LeftOut(EQUAL_APART))
            continue
        more = {"labeller": user, "labeller_kind": "human", "source": "argilla", **rest}
        ranked = {"ranking": str(order), "unranked": list(order.unranked), **_per_answer(given, len(names))}
        found.append(Ranking.from_dict({**row, **ranked, **more}, where))
    return found or samples_record(turns, list(answers.values()), rest, "argilla", where)


def _equal_apart(answers: Mapping[str, str], order: WeakOrder) -> bool:
    texts = [text.strip() for text in answers.values()]
    return any(texts[winner] == texts[loser] for winner, loser in order.strict_pairs())


def _order(given: Mapping[str, Any], names: list[str], where: Where) -> WeakOrder | None:
    """The ranking among a user's answers."""
    for question, value in given.items():
        if not isinstance(value, list) or not value:
            continue
        ranks: dict[str, Any] = {}
        for place, one in enumerate(value, 1):
            name, rank = (one.get("value"), one.get("rank", place)) if isinstance(one, dict) else (one, place)
            if name in names and isinstance(rank, int | float) and not isinstance(rank, bool):
                ranks[str(name)] = rank
        if len(ranks) < len(value) or not ranks:
            continue  # a question with several labels is a list too
        try:
            return WeakOrder.from_ranks([ranks.get(name) for name in names])
        except DataError as error:
            raise where.error(f"responses.{question}", str(error)) from None
    return None


def _per_answer(given: Mapping[str, Any], k: int) -> dict[str, Any]:
    """Ratings and flags that stand in questions of their own for each answer."""
    likert: list[int | None] = [None] * k
    flags: list[list[str]] = [[] for _ in range(k)]
    for question, value in given.items():
        match = _PER_ANSWER.fullmatch(question)
        if match is None or int(match[2]) > k:
            continue
        if match[1] == "rating" and isinstance(value, int) and 1 <= value <= 7:
            likert[int(match[2]) - 1] = value
        elif match[1] == "flags" and isinstance(value, list):
            flags[int(match[2]) - 1] = [str(name) for name in value]
    found: dict[str, Any] = {"likert": likert} if any(likert) else {}
    return found | ({"flags": flags} if any(flags) else {})
