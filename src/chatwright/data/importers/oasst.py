"""Open-Assistant message trees -> rankings of human replies, demonstrations and prompts.

Each prompter message with two to nine ranked replies is a ranking (`rank` 0 is best, strict). Demonstrations follow
the best reply at every turn, so that a conversation never continues from a worse one. Root messages are prompts.
Files with one message per row, as the hub has them, are rebuilt into trees first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chatwright.data.importers.base import Found, LeftOut, Turns, conversation_record, turn
from chatwright.jsonl import Where
from chatwright.records import MAX_K, Ranking, WeakOrder
from chatwright.records.marks import as_verdict

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


def _walk(node: Node, turns: Turns, found: Found, meta: Mapping[str, Any], *, best: bool, name: str, where: Where) -> None:
    """Below a prompter message: its replies' ranking, then each reply's own continuations."""
    replies = [_node(reply, f"{name}.replies[{n}]", where) for n, reply in enumerate(node.get("replies") or [])]
    usable = [reply for reply in replies if _usable(reply)]
    found += [LeftOut("a reply was deleted or failed review")] * (len(replies) - len(usable))
    ranked = sorted((reply for reply in usable if _rank(reply) is not None), key=lambda reply: _rank(reply) or 0)
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
    order = WeakOrder.from_ranks([_rank(reply) for reply in replies])
    row = {"messages": turns, "completions": [reply["text"] for reply in replies], "ranking": str(order)}
    return Ranking.from_dict({**row, "labeller_kind": "human", "source": "oasst", **meta}, where)


def _node(value: Any, name: str, where: Where) -> Node:
    if not isinstance(value, dict):
        raise where.error(name, "must be a message object")
    where.text(value.get("text"), f"{name}.text")
    if value.get("replies") is not None:
        where.list(value["replies"], f"{name}.replies")
    return value


def _rank(node: Node) -> float | None:
    """The rank of a reply; tables write whole numbers as 0.0."""
    rank = node.get("rank")
    if isinstance(rank, str):  # a table's cell
        try:
            rank = float(rank)
        except ValueError:
            return None
    return float(rank) if isinstance(rank, int | float) and not isinstance(rank, bool) and rank == rank else None


def _usable(node: Node) -> bool:
    review = node.get("review_result")
    refused = review is not None and not _is_true(review)
    return not _is_true(node.get("deleted")) and not refused and bool(node["text"].strip())


def _is_true(value: Any) -> bool:
    """A flag of a message; tables write True as 1.0, `True` or `1`."""
    return as_verdict(value) is True if isinstance(value, str) else bool(value)


# ---- one message per row -----------------------------------------------------------------------------------


def is_flat(row: Mapping[str, Any]) -> bool:
    """True when a row is one message of a flat export."""
    return {"message_id", "parent_id", "text", "role"} <= set(row)


def is_message(row: Mapping[str, Any]) -> bool:
    """Whether a row of a flat export is a message. Tables leave blank cells out: the first messages have no `parent_id`, and
    deleted ones may have no `text`."""
    return {"message_id", "role"} <= set(row)


def trees(rows: Sequence[tuple[Where, Node]]) -> Iterator[tuple[list[Where], dict[str, Any] | LeftOut]]:
    """(places of its rows, tree) of every root message, then the messages without one, each with the reason.

    Every row is in exactly one of the results.
    """
    by_id = {str(node["message_id"]): n for n, (_, node) in enumerate(rows)}
    children: dict[str, list[int]] = {}
    roots, alone = [], []
    for n, (_, node) in enumerate(rows):
        parent, own = node.get("parent_id"), str(node["message_id"])
        if by_id[own] != n:
            alone.append((n, "a message whose id stands twice"))
        elif parent is None or parent != parent or str(parent).strip().casefold() in _NO_PARENT:
            roots.append(n)
        else:
            children.setdefault(str(parent), []).append(n)
    reached: set[int] = set()
    for root in roots:
        members: list[int] = []
        tree = _grown(root, rows, children, members, depth=0)
        reached.update(members)
        node = rows[root][1]
        state = {"tree_state": node["tree_state"]} if node.get("tree_state") else {}
        yield (
            [rows[n][0] for n in members],
            {"message_tree_id": node.get("message_tree_id", node["message_id"]), **state, "prompt": tree},
        )
    lost = [n for numbers in children.values() for n in numbers if n not in reached]
    for n, reason in [*alone, *((n, "a message whose parent is not in the file") for n in sorted(lost))]:
        yield [rows[n][0]], LeftOut(reason)


def _grown(
    root: int, rows: Sequence[tuple[Where, Node]], children: Mapping[str, list[int]], members: list[int], depth: int
) -> dict[str, Any]:
    members.append(root)
    where, node = rows[root]
    if depth > MAX_TREE_DEPTH:
        raise where.error("parent_id", f"hangs more than {MAX_TREE_DEPTH} messages below the first one")
    below = [_grown(n, rows, children, members, depth + 1) for n in children.get(str(node["message_id"]), [])]
    return {"text": "", **node, "replies": below}


_NO_PARENT = ("", "nan", "none", "null")
MAX_TREE_DEPTH = 100
