"""What a label says, as JSON: checked, and translated between stored letters and those of a labeller's screen.

rank, adjudicate  {"ranking": "D>C>A=B", "unranked": [], "none_acceptable": bool, "cannot_judge": bool,
                   "likert": [1-7 or null, ...] or null, "flags": [[...], ...] or null, "contradictions": n}
rate              {"likert": [...], "flags": [[...], ...]}
compare           {"verdict": "a" | "b" | "tie" | "both_bad"}
prompt, demonstrate   {}; what was written is the label's payload {"messages": [...], "comment": "..."}

Stored letter i is answer i of the task; letter i of a screen is the answer shown at place i (`shown_order[i]`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from chatwright.errors import DataError
from chatwright.records import IN_MEMORY, LETTERS, Role, WeakOrder
from chatwright.records.messages import messages_in

KINDS = ("prompt", "demonstrate", "rate", "rank", "compare", "adjudicate")
ORDERED = ("rank", "adjudicate", "compare")
"""Kinds whose labels are orders."""
FLAGS = (
    "fails_instruction", "inappropriate_for_assistant", "hallucination", "satisfies_constraint", "sexual_content",
    "violent_content", "encourages_harm", "denigrates_protected_class", "harmful_advice", "expresses_opinion",
    "moral_judgement",
)  # fmt: skip
"""The flags of InstructGPT's labelling interface (arXiv 2203.02155, table 3)."""
VERDICTS = {"a": "A>B", "b": "B>A", "tie": "A=B", "both_bad": "A=B"}
_RANK_DEFAULTS: dict[str, Any] = {
    "ranking": "", "unranked": [], "none_acceptable": False, "cannot_judge": False, "likert": None, "flags": None,
}  # fmt: skip
_FIELDS = {
    "prompt": set[str](), "demonstrate": set[str](), "rate": {"likert", "flags"}, "compare": {"verdict"},
    "rank": {*_RANK_DEFAULTS, "contradictions"}, "adjudicate": {*_RANK_DEFAULTS, "contradictions"},
}  # fmt: skip


def fields_of(kind: str) -> set[str]:
    """Names of the fields a label of this kind may have."""
    return _FIELDS[kind]


def checked(
    kind: str, k: int, value: Mapping[str, Any], *, allow_unranked: bool = True, need_ratings: bool = False
) -> dict[str, Any]:
    """A value in its stored form; DataError says what is wrong. `k`: answers of the task. `need_ratings`: a ranking
    comes with a rating of every answer."""
    if unknown := sorted(set(value) - _FIELDS[kind]):
        raise DataError(f"value.{unknown[0]}: is not part of a label of kind {kind}")
    if kind == "rate":
        likert = _likert(value.get("likert"), k)
        if likert is None or None in likert:
            raise DataError(f"value.likert: must rate each of the {k} answers from 1 to 7")
        return {"likert": likert, "flags": _flags(value.get("flags"), k) or [[] for _ in range(k)]}
    if kind == "compare":
        if value.get("verdict") not in VERDICTS:
            raise DataError(f"value.verdict: must be one of {', '.join(VERDICTS)}")
        return {"verdict": value["verdict"]}
    if kind in ("rank", "adjudicate"):
        return _ranked(k, value, allow_unranked, need_ratings)
    return {}


def _ranked(k: int, value: Mapping[str, Any], allow_unranked: bool, need_ratings: bool) -> dict[str, Any]:
    out = {**_RANK_DEFAULTS, **value}
    out["none_acceptable"], out["cannot_judge"] = bool(out["none_acceptable"]), bool(out["cannot_judge"])
    out["likert"], out["flags"] = _likert(out["likert"], k), _flags(out["flags"], k)
    order = None
    if str(out["ranking"]).strip():
        try:
            order = WeakOrder.parse(str(out["ranking"]), k, out["unranked"])
        except DataError as error:
            raise DataError(f"value.ranking: {error}") from None
        if order.unranked and not allow_unranked:
            raise DataError(f"value.unranked: this project wants every answer ranked; {', '.join(order.unranked)} missing")
        out["ranking"], out["unranked"] = str(order), list(order.unranked)
    elif not (out["cannot_judge"] or out["none_acceptable"]):
        raise DataError("value.ranking: is empty; give an order such as D>C>A=B, or say that you cannot judge")
    else:
        out["ranking"], out["unranked"] = "", []
    if need_ratings and not out["cannot_judge"] and (out["likert"] is None or None in out["likert"]):
        raise DataError(f"value.likert: this project wants each of the {k} answers rated from 1 to 7 before the order")
    out["contradictions"] = contradictions(order, out["likert"])
    return out


def _likert(given: Any, k: int) -> list[int | None] | None:
    if given is None:
        return None
    good = isinstance(given, list | tuple) and len(given) == k
    if not good or any(r is not None and (type(r) is not int or not 1 <= r <= 7) for r in given):
        raise DataError(f"value.likert: must hold {k} numbers from 1 to 7 (or null), one per answer")
    return list(given)


def _flags(given: Any, k: int) -> list[list[str]] | None:
    if given is None:
        return None
    good = isinstance(given, list | tuple) and len(given) == k and all(isinstance(one, list | tuple) for one in given)
    if not good or any(name not in FLAGS for names in given for name in names):
        raise DataError(f"value.flags: must hold {k} lists, one per answer, of: {', '.join(FLAGS)}")
    return [[name for name in FLAGS if name in names] for names in given]


def contradictions(order: WeakOrder | None, likert: Sequence[int | None] | None) -> int:
    """Pairs in which the answer ranked higher has the lower rating; ties of either contradict nothing."""
    if order is None or likert is None:
        return 0
    pairs = [(likert[winner], likert[loser]) for winner, loser in order.strict_pairs()]
    return sum(high is not None and low is not None and high < low for high, low in pairs)


def order_of(kind: str, value: Mapping[str, Any], k: int) -> WeakOrder | None:
    """The order a label gives, in stored letters; None when it gives none."""
    if kind == "compare":
        return WeakOrder.parse(VERDICTS[value["verdict"]], 2)
    if kind not in ORDERED or not value.get("ranking"):
        return None
    return WeakOrder.parse(value["ranking"], k, value.get("unranked", ()))


def written(kind: str, payload: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What was written, checked for its kind of task; None when nothing was."""
    payload = payload or {}
    if unknown := sorted(set(payload) - {"messages", "comment"}):
        raise DataError(f"payload.{unknown[0]}: unknown; a payload has messages and comment")
    comment = payload.get("comment") or ""
    if not isinstance(comment, str):
        raise DataError("payload.comment: must be a text")
    given = payload.get("messages")
    turns = [turn.to_dict() for turn in messages_in(given, "messages", IN_MEMORY)] if given else []
    if kind in ("prompt", "demonstrate"):
        _check_turns(kind, turns)
    elif turns:
        raise DataError(f"payload.messages: a label of kind {kind} has no messages")
    out: dict[str, Any] = {"messages": turns} if turns else {}
    return (out | ({"comment": comment} if comment.strip() else {})) or None


def _check_turns(kind: str, turns: Sequence[Mapping[str, str]]) -> None:
    roles = [turn["role"] for turn in turns]
    assert set(roles) <= set(get_args(Role))
    if not turns or not turns[-1]["content"].strip():
        raise DataError("payload.messages: nothing is written yet")
    talk = roles[1:] if kind == "prompt" and roles[0] == "system" else roles
    first = "user" if kind == "prompt" else "assistant"
    wanted = [first if n % 2 == 0 else {"user": "assistant", "assistant": "user"}[first] for n in range(len(talk))]
    if talk != wanted or len(talk) % 2 == 0:
        raise DataError(f"payload.messages: must take turns, first and last by the {first}; found {', '.join(roles)}")


def to_stored(kind: str, value: Mapping[str, Any], shown_order: Sequence[int]) -> dict[str, Any]:
    """A value in letters of the screen -> in stored letters."""
    places = list(shown_order)
    return _moved(kind, value, [places.index(answer) for answer in range(len(places))])


def to_screen(kind: str, value: Mapping[str, Any], shown_order: Sequence[int]) -> dict[str, Any]:
    """A value in stored letters -> in letters of the screen."""
    return _moved(kind, value, list(shown_order))


def _moved(kind: str, value: Mapping[str, Any], source: Sequence[int]) -> dict[str, Any]:
    """Place n of the result is place `source[n]` of the value."""
    out = dict(value)
    k = len(source)
    for name in ("likert", "flags"):
        if isinstance(out.get(name), list | tuple) and len(out[name]) == k:
            out[name] = [out[name][n] for n in source]
    if str(out.get("ranking") or "").strip():
        try:
            order = WeakOrder.parse(str(out["ranking"]), k, out.get("unranked") or ())
        except DataError as error:
            raise DataError(f"value.ranking: {error}") from None
        moved = WeakOrder(tuple(order.ranks[n] for n in source))
        out["ranking"], out["unranked"] = str(moved), list(moved.unranked)
    if kind == "compare" and list(source) == [1, 0]:
        out["verdict"] = {"a": "b", "b": "a"}.get(str(out.get("verdict")), out.get("verdict"))
    return out


def letters(indices: Sequence[int]) -> str:
    """Letters of answers, as in `DACB`."""
    return "".join(LETTERS[i] for i in indices)
