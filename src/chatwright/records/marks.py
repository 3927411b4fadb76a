"""Marks: fields that say how good an answer is, or whether to train on it.

A mark that a reader does not understand must be named, and a bad answer must never become a demonstration. The
functions here
are the only place that decides which field names and values are marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

VERDICT_FIELDS = (
    "label", "labels", "kto_tag", "kto_label", "desirable", "is_desirable", "thumbs", "thumb", "thumbs_up",
    "feedback", "vote", "verdict", "judgement", "judgment", "liked", "like", "accepted", "is_accepted", "approved",
    "is_approved", "is_chosen", "is_selected", "selected", "is_preferred", "is_best", "is_good", "good",
    "is_positive", "is_correct", "correct", "is_safe", "safe", "is_helpful", "helpful", "rating", "score", "reward",
    "quality", "status", "decision", "标签", "评价", "是否采纳",
)  # fmt: skip
"""Fields that mark one answer as good or bad, the first one found counts."""
_INVERTED = ("thumbs_down", "undesirable", "is_bad", "is_rejected", "is_harmful", "is_unsafe", "unsafe")
_SCALES = ("rating", "score", "reward", "quality", "status", "decision")
"""Fields in which a number is no verdict; a word, or true and false, is."""
_GOOD = frozenset(
    "true t yes y good 1 1.0 +1 up thumbs_up thumbsup thumbs-up 👍 positive pos desirable chosen accept accepted like liked "
    "upvote correct right safe helpful win approved 好 赞 是 对 正确 喜欢 点赞 采纳 有用 优".split()
)
_BAD = frozenset(
    "false f no n bad 0 0.0 -1 -1.0 down "
    "thumbs_down thumbsdown thumbs-down 👎 negative neg undesirable rejected reject dislike "
    "disliked downvote incorrect wrong unsafe unhelpful harmful lose refused "
    "坏 踩 否 错 错误 不喜欢 点踩 不采纳 没用 差".split()
)
_MARK_WORDS = frozenset(
    "label labels score scores rating ratings rate rated rank "
    "ranks ranking rankings weight weights loss losses train trainable "
    "mask masked chosen rejected winner loser better worse "
    "best worst preferred preference preferences selected accepted approved "
    "desirable undesirable kto reward rewards vote votes upvote upvotes "
    "downvote downvotes thumb thumbs feedback like liked likes "
    "dislike dislikes verdict judgment judgement annotation annotations quality "
    "likert helpfulness correctness coherence toxicity stars grade grades safer safe unsafe harmful "
    "correct incorrect good bad helpful toxic 标签 评分 得分 分数 排序 排名 偏好 权重 评价 打分 等级".split()
)
_MESSAGE_MARKS = ("weight", "loss", "train", "trainable", "is_trainable", "loss_weight", "loss_scale", "training", "learn")
_ROW_MARKS = (
    "weight", "sample_weight", "example_weight", "loss_weight", "train", "trainable", "is_trainable", "train_on",
    "use_for_training",
)  # fmt: skip
_UNDECIDED = frozenset(
    "unsure unknown undecided neutral neither maybe mixed skip skipped pending none n/a na - ? 未定 不确定".split()
)
_MESSAGE_MASKS = ("mask", "masked", "ignore", "loss_mask_out", "no_loss")
_WORD = re.compile(r"[^\W\d_]+")


def as_verdict(value: Any) -> bool | None:
    """True: good. False: bad. None: the value is neither (a topic, a number on a scale)."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return True if value == 1 else False if value in (0, -1) else None
    if isinstance(value, str):
        word = value.strip().casefold().replace(" ", "_")
        return True if word in _GOOD else False if word in _BAD else None
    return None


def verdict_fields(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The fields of these rows that mark an answer as good or bad: every value that is not null reads as a verdict, or
    says that there is none (`unsure`).

    A `label` that holds topics, or 0 to 4, is none. `score` and the like are verdicts only as words or true and false.
    """
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            if _verdict_name(str(name)) is not None and value is not None:
                values.setdefault(str(name), []).append(value)
    found = [
        name
        for name, given in values.items()
        if any(_reads(name, value) for value in given) and all(_reads(name, value) or is_undecided(value) for value in given)
    ]
    return tuple(sorted(found, key=lambda name: _order(_verdict_name(name) or "")))


def is_undecided(value: Any) -> bool:
    """True when a mark says that no verdict was given."""
    return value is None or (isinstance(value, str) and value.strip().casefold() in {"", *_UNDECIDED})


def _verdict_name(name: str) -> str | None:
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip()).casefold().replace("-", "_").replace(" ", "_")
    return plain if plain in VERDICT_FIELDS or plain in _INVERTED else None


def _order(name: str) -> int:
    return VERDICT_FIELDS.index(name) if name in VERDICT_FIELDS else len(VERDICT_FIELDS)


def _reads(name: str, value: Any) -> bool:
    plain = _verdict_name(name) or ""
    if plain in _SCALES:
        return isinstance(value, bool) or (isinstance(value, str) and as_verdict(value) is not None and not _number(value))
    return as_verdict(value) is not None


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def verdict(name: str, value: Any) -> bool | None:
    """The verdict of field `name`; True is good, also for fields that mark what is bad (`thumbs_down`)."""
    said = as_verdict(value) if _verdict_name(name) is not None and _reads(name, value) else None
    return None if said is None else said != (_verdict_name(name) in _INVERTED)


def is_mark(name: str) -> bool:
    """True when a field's name looks like a preference, label, weight or mask."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).casefold()
    return any(word in _MARK_WORDS for word in _WORD.findall(spaced.replace("_", " ")))


def marks_in(value: Any, depth: int = 3) -> Iterator[str]:
    """Names of the fields in a row, nested ones too, that look like marks and hold something."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if inner is not None and is_mark(str(name)):
                yield str(name)
            elif depth:
                yield from marks_in(inner, depth - 1)
    elif isinstance(value, list) and depth:
        for inner in value[:20]:
            yield from marks_in(inner, depth - 1)


def training_marks(message: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """(field, share of the loss) of each mark in a message that says whether it is trained on; None: cannot be read."""
    for name in (*_MESSAGE_MARKS, *_MESSAGE_MASKS):
        value = message.get(name)
        if value is None:
            continue
        share = _share(value)
        yield name, share if share is None or name in _MESSAGE_MARKS else float(share == 0)
    for name, value in message.items():
        if (good := verdict(str(name), value)) is not None:
            yield str(name), float(good)


def not_to_learn(row: Mapping[str, Any]) -> str | None:
    """The field by which a row says that it is not trained on: a weight of 0, `train: false`."""
    return next((name for name in _ROW_MARKS if row.get(name) is not None and _share(row[name]) == 0), None)


def _share(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        said = as_verdict(value)
        return float(value) if _number(value) else None if said is None else float(said)
    return None
