"""Open-Assistant message trees: one tree per record, the answers of a ranking as ranked replies.

A tie is an equal `rank`. Open-Assistant's own readers sort by rank and so put tied replies in the order of the file.
"""

from __future__ import annotations

import uuid

from chatwright.data.exporters.common import Record, Row, Written, left_out, lost_fields, problem
from chatwright.records import Demonstration, Ranking

_ROLES = {"user": "prompter", "assistant": "assistant"}


def oasst(record: Record) -> Written:
    """`{"message_tree_id", "tree_state", "prompt": {"message_id", "text", "role", "replies": [...]}}`."""
    if (reason := problem(record.messages, system=False)) is not None:
        return left_out(reason)
    roles = [message.role for message in record.messages]
    if any(one == other for one, other in zip(roles, roles[1:], strict=False)):
        return left_out("a conversation with two turns of one speaker in a row")
    answers = record.completions if isinstance(record, Ranking) else ()
    if any(not answer.strip() for answer in answers):
        return left_out("a ranking with an empty answer")
    written = Written()
    if isinstance(record, Ranking) and record.order.unranked:
        if sum(rank is not None for rank in record.order.ranks) < 2:
            return left_out("a ranking of fewer than two answers")
        written.lost += ["an unranked answer: it is in the file, but no reader compares it"] * len(record.order.unranked)
    content = "\x00".join([message.content for message in record.messages] + list(answers))
    # Ids follow from the content (the same record gives the same file) and ascend, for readers go by them.
    ids = sorted(str(uuid.uuid5(uuid.NAMESPACE_OID, f"{n}\x00{content}")) for n in range(len(roles) + len(answers)))
    lang = record.meta.get("lang")
    lang = lang if isinstance(lang, str) else "en"
    leaves = []
    if isinstance(record, Ranking):
        for answer, rank, name in zip(answers, record.order.ranks, ids[len(roles) :], strict=True):
            place = None if rank is None else rank - 1
            leaves.append(_node("assistant", answer, name, ids[len(roles) - 1], lang, place, []))
    for n in range(len(roles) - 1, -1, -1):
        parent = ids[n - 1] if n else None
        rank = 0 if roles[n] == "assistant" else None
        leaves = [_node(_ROLES[roles[n]], record.messages[n].content, ids[n], parent, lang, rank, leaves)]
        if n == len(roles) - 1 and isinstance(record, Demonstration):
            leaves[0]["synthetic"] = bool(record.meta.get("synthetic", False))
    written.rows.append({"message_tree_id": ids[0], "tree_state": "ready_for_export", "prompt": leaves[0]})
    lost_fields(record, written, kept={"lang", "synthetic"} if isinstance(record, Demonstration) else {"lang"})
    return written


def _node(
    role: str, text: str, name: str, parent: str | None, lang: str, rank: int | None, replies: list[Row]
) -> Row:  # fmt: skip
    node: Row = {
        "message_id": name, "parent_id": parent, "text": text, "role": role, "lang": lang, "review_count": 0,
        "review_result": True, "deleted": False, "synthetic": False, "emojis": {}, "labels": {}, "replies": replies,
    }  # fmt: skip
    return node if rank is None else node | {"rank": rank}
