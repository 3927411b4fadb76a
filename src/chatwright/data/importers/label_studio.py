"""Label Studio's JSON export -> rankings and demonstrations.

Read are the results of `Ranker` (a list of item ids, best first), `Pairwise` (`left` or `right`) and `TextArea` (a written
answer), one per annotation. Cancelled annotations and other results are counted as left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatwright.data.importers.base import (
    Found,
    LeftOut,
    Turns,
    conversation_record,
    other_fields,
    ranked_record,
    samples_record,
    turn,
)
from chatwright.data.importers.chats import prompt_turns
from chatwright.data.importers.columns import columns_of
from chatwright.jsonl import Where

_PROMPTS = ("prompt", "question", "instruction", "query", "text", "messages", "dialogue")
_TEXTS = ("body", "text", "html", "content", "answer", "response", "value", "title")


def is_label_studio(row: Mapping[str, Any]) -> bool:
    """True when a row is a task of a Label Studio export."""
    return isinstance(row.get("data"), dict) and isinstance(row.get("annotations", row.get("completions")), list)


def label_studio_row(row: Mapping[str, Any], where: Where) -> Found:
    """`{"data": {...}, "annotations": [{"result": [...]}]}`."""
    data = row.get("data")
    if not isinstance(data, dict):
        raise where.error("data", "is missing; a task of Label Studio has data")
    asked = next((name for name in _PROMPTS if isinstance(data.get(name), str | list)), None)
    if asked is None:
        raise where.error("data", f"no field is named {', '.join(_PROMPTS)} (found: {', '.join(map(str, data))})")
    turns = prompt_turns(data[asked], f"data.{asked}", where)
    if isinstance(turns, LeftOut):
        return [turns]
    answers = _answers(data, asked)
    rest = {name: value for name, value in data.items() if name != asked and isinstance(value, int | float | str)}
    rest = other_fields(rest, *columns_of([str(name) for name in data]).answers.values())
    found: Found = []
    annotations = where.list(row.get("annotations", row.get("completions")), "annotations")
    for n, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            raise where.error(f"annotations[{n}]", "must be an object with a result")
        if annotation.get("was_cancelled"):
            found.append(LeftOut("an annotation that was cancelled"))
            continue
        more = {**rest, "labeller": _labeller(annotation), "labeller_kind": "human"}
        for m, result in enumerate(where.list(annotation.get("result"), f"annotations[{n}].result")):
            place = f"annotations[{n}].result[{m}]"
            if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
                raise where.error(place, "must be an object with a value")
            found += _result(result["value"], answers, turns, more, place, where)
    if any(not isinstance(item, LeftOut) for item in found):
        return found
    if len(answers) >= 2:
        return found + samples_record(turns, list(answers.values()), rest, "label-studio", where)
    return found + conversation_record(turns, rest, "label-studio", where)


def _labeller(annotation: Mapping[str, Any]) -> str:
    by = annotation.get("completed_by", "")
    return f"label-studio:{by.get('id', '') if isinstance(by, dict) else by}"


def _answers(data: Mapping[str, Any], asked: str) -> dict[str, str]:
    """Id -> text of the answers: a list of items, or columns like answer1 and answer2."""
    for name, value in data.items():
        if name != asked and isinstance(value, list) and len(value) >= 2 and all(isinstance(item, dict) for item in value):
            texts = {
                str(item.get("id", n)): next((item[k] for k in _TEXTS if isinstance(item.get(k), str)), "")
                for n, item in enumerate(value)
            }
            if len(texts) == len(value) and all(texts.values()):
                return texts
    columns = columns_of([str(name) for name in data]).answers.values()
    return {column: data[column] for column in columns if isinstance(data[column], str)}


def _result(
    value: Mapping[str, Any], answers: Mapping[str, str], turns: Turns, rest: Mapping[str, Any], place: str, where: Where
) -> Found:
    texts, ids = list(answers.values()), list(answers)
    if isinstance(value.get("ranker"), dict):
        lists = [order for order in value["ranker"].values() if isinstance(order, list)]
        named = [str(one) for order in lists for one in order]
        if not lists or set(named) - set(ids) or len(set(named)) != len(named):
            raise where.error(f"{place}.value.ranker", f"must list ids of the items {', '.join(ids)}, each once")
        ranks: list[float | None] = [float(named.index(one)) if one in named else None for one in ids]
        return ranked_record(turns, texts, ranks, rest, "label-studio", where)
    if value.get("selected") in ("left", "right") and len(texts) == 2:
        left = value["selected"] == "left"
        return ranked_record(turns, texts, [1, 2] if left else [2, 1], rest, "label-studio", where)
    if isinstance(value.get("text"), str | list):
        written = value["text"] if isinstance(value["text"], str) else "\n".join(map(str, value["text"]))
        return conversation_record([*turns, turn("assistant", written)], rest, "label-studio", where)
    kinds = ", ".join(sorted(map(str, value))) or "nothing"
    return [LeftOut(f"a result of Label Studio that is no ranking, choice of two or text ({kinds})")]
