"""Open-Assistant message trees -> rankings of human replies, demonstrations and prompts.

Each prompter message with two to nine ranked replies is a ranking (`rank` 0 is best, strict). Demonstrations follow
the best reply at every turn, so that a conversation never goes on from a worse one. Root messages are prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatwright.data.importers.rows import Found, LeftOut, Turns, conversation_record, turn
from chatwright.jsonl import Where
from chatwright.records import MAX_K, Ranking, WeakOrder

Node = Mapping[str, Any]


def oasst_row(row: Mapping[str, Any], where: Where) -> Found:
    """One tree of the export: `{"message_tree_id", "tree_state", "prompt": {..., "replies": [...]}}`."""
    if row.get("tree_state", "ready_for_export") != "ready_for_export":
        return [LeftOut(f"tree is {row['tree_state']}")]
    root = _node(row.get("prompt"), "prompt", where)
    if not _usable(root):
        return [LeftOut("the first message was deleted or failed review")]
    meta = {"tree": row.get("message_tree_id"), "lang": root.get("lang")}
    asked = [turn("user", root["text"])]
    found = conversation_record(asked, meta, "oasst", where)
    _walk(root, asked, found, meta, best=True, name="prompt", where=where)
    return found


def _walk(
    node: Node, turns: Turns, found: Found, meta: Mapping[str, Any], *, best: bool, name: str, where: Where
) -> None:
    """Below a prompter message: its replies' ranking, then each reply's own continuations."""
    replies = [_node(reply, f"{name}.replies[{n}]", where) for n, reply in enumerate(node.get("replies") or [])]
    usable = [reply for reply in replies if _usable(reply)]
    found += [LeftOut("a reply was deleted or failed review")] * (len(replies) - len(usable))
    ranked = sorted((reply for reply in usable if isinstance(reply.get("rank"), int)), key=lambda reply: reply["rank"])
    if len(ranked) >= 2:
        found += [LeftOut(f"a reply beyond the {MAX_K} best")] * max(0, len(ranked) - MAX_K)
        found.append(_ranking(ranked[:MAX_K], turns, meta, where))
    if len(usable) >= 2:
        found += [LeftOut("a reply without a rank beside others")] * (len(usable) - len(ranked))
    first = ranked[0] if ranked else usable[0] if len(usable) == 1 else None
    for n, reply in enumerate(usable):
        is_best = best and reply is first
        said = [*turns, turn("assistant", reply["text"])]
        place = f"{name}.replies[{n}]"
        questions = [_node(child, f"{place}.replies[{i}]", where) for i, child in enumerate(reply.get("replies") or [])]
        questions = [child for child in questions if _usable(child)]
        if is_best and not any(child.get("replies") for child in questions):
            found += conversation_record(said, {**meta, "synthetic": bool(reply.get("synthetic"))}, "oasst", where)
        for i, child in enumerate(questions):
            asked = [*said, turn("user", child["text"])]
            _walk(child, asked, found, meta, best=is_best, name=f"{place}.replies[{i}]", where=where)


def _ranking(replies: list[Node], turns: Turns, meta: Mapping[str, Any], where: Where) -> Ranking:
    # In the order of the file's ids, so that the letter says nothing about the rank.
    replies = sorted(replies, key=lambda reply: str(reply.get("message_id", "")))
    order = WeakOrder.from_ranks([reply["rank"] for reply in replies])
    row = {"messages": turns, "completions": [reply["text"] for reply in replies], "ranking": str(order)}
    return Ranking.from_dict({**row, "labeller_kind": "human", "source": "oasst", **meta}, where)


def _node(value: Any, name: str, where: Where) -> Node:
    if not isinstance(value, dict):
        raise where.error(name, "must be a message object")
    where.text(value.get("text"), f"{name}.text")
    if value.get("replies") is not None:
        where.list(value["replies"], f"{name}.replies")
    return value


def _usable(node: Node) -> bool:
    return not node.get("deleted") and node.get("review_result") is not False and bool(node["text"].strip())
