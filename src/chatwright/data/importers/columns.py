"""Meanings of the columns of a table: prompt, answers, and the marks that say which answer is better.

The answers of a row are told apart by a suffix (`answer_1`, `response_a`, `human_ref_A`, a bare `A`); a mark belongs
to the answer
with the same suffix (`rank_1`, `response_a_score`), or names the suffix of the better answer (`winner` = `model_a`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chatwright.jsonl import Where

MEANINGS = {
    "prompt": (
        "prompt", "question", "instruction", "query", "user_prompt", "user_input", "user_message",
        "提示", "提示词", "问题", "指令",
        "提问",
    ),
    "completion": ("completion", "answer", "response", "output", "demonstration", "reply", "回答", "答案", "输出", "回复"),
    "chosen": ("chosen", "preferred", "better", "chosen_response", "response_chosen", "preferred_response", "response_j",
        "更好"),
    "rejected": (
        "rejected", "dispreferred", "worse", "rejected_response", "response_rejected", "dispreferred_response",
        "response_k", "更差",
    ),
    "ranking": ("ranking", "rank", "order", "preference", "排序", "排名"),
    "input": ("input", "输入"),
    "system": ("system", "system_prompt", "系统", "系统提示"),
}  # fmt: skip
_ANSWER_WORDS = frozenset(
    "completion answer response output generation candidate reply summary text model assistant bot human ref conversation "
    "completions answers responses outputs generations candidates replies 回答 答案 输出 回复 模型".split()
)
_RANK_WORDS = frozenset("rank ranking position place 排名 排序 名次".split())
_SCORE_WORDS = frozenset("score scores rating reward grade stars points likert quality 评分 得分 分数 打分".split())
_CHOICE_WORDS = frozenset(
    "preference preferred winner better best choice chosen selected "
    "vote verdict judgement judgment 偏好 选择 更好 优胜 胜者".split()
)
_TIES = frozenset(
    "tie tied ties equal same both draw neither no_preference "
    "bothbad both_bad tie_bothbad a_b 平 平局 一样 相同 都好 都不好".split()
)
_SIGNED = ("preference_strength", "overall_preference")
"""HelpSteer: -3 (response 1 is much better) to 3 (response 2 is)."""
_PARTS = re.compile(r"[^\W\d_]+|\d+")
_LETTER_GLUED = re.compile(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[\u4e00-\u9fff])(?=[A-Za-z0-9])")


def parts_of(name: str) -> list[str]:
    """The words and numbers of a column's name, in small letters: `responseA score` is response, a, score."""
    return [part.casefold() for part in _PARTS.findall(_LETTER_GLUED.sub("_", name.strip()).replace("_", " "))]


def plain_name(name: str) -> str:
    """A column's name in small letters with `_` between its words."""
    return re.sub(r"[\s_.-]+", "_", name.strip().casefold())


def is_suffix(part: str) -> bool:
    """True when a part of a name tells answers apart: a letter a to i, or a number below 10."""
    return len(part) == 1 and (part.isdigit() or part in "abcdefghi")


def is_answer_name(name: str) -> bool:
    """True when a name is an answer word with one suffix: `answer_1`, `response-b`."""
    words = [part for part in parts_of(name) if not is_suffix(part)]
    one_suffix = len(parts_of(name)) == len(words) + 1
    return one_suffix and bool(words) and set(words) <= _ANSWER_WORDS and words not in (["model"], ["assistant"])


@dataclass
class Columns:
    """The columns of a row by their meaning."""

    by_meaning: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    """Suffix -> column of each answer, in the order of the suffixes."""
    ranks: dict[str, str] = field(default_factory=dict)
    """Suffix -> column of the answer's rank: lower is better."""
    scores: dict[str, str] = field(default_factory=dict)
    """Suffix -> column of the answer's score: higher is better."""
    choices: list[str] = field(default_factory=list)
    """Columns that name the better answer."""
    one_hot: dict[str, str] = field(default_factory=dict)
    """Suffix, or `tie` -> column that is 1 when this answer won."""
    signed: str = ""
    """Column with a preference from -3 to 3."""

    @property
    def marked(self) -> bool:
        """True when anything says which answer is better."""
        full = len(self.ranks) >= 2 or len(self.scores) >= 2 or len(self.one_hot) >= 2
        return bool(full or self.choices or self.signed or "ranking" in self.by_meaning)


def columns_of(names: Sequence[str]) -> Columns:
    """The meaning of each name; unknown names are in no field."""
    found = Columns()
    for name in names:
        plain = plain_name(name)
        for meaning, words in MEANINGS.items():
            if plain in words:
                found.by_meaning.setdefault(meaning, name)
        if plain in _SIGNED:
            found.signed = name
    _find_answers(names, found)
    if found.answers:
        for name in names:
            if name not in (*found.by_meaning.values(), *found.answers.values()) or plain_name(name) in (
                "better",
                "preferred",
            ):
                _find_mark(name, found)
    return found


def _find_answers(names: Sequence[str], found: Columns) -> None:
    answers: dict[str, str] = {}
    bare: dict[str, str] = {}
    for name in names:
        parts = parts_of(name)
        suffixes = [part for part in parts if is_suffix(part)]
        words = [part for part in parts if not is_suffix(part)]
        if len(suffixes) != 1 or name in found.by_meaning.values():
            continue
        if is_answer_name(name):
            answers.setdefault(suffixes[0], name)
        elif not words:
            bare.setdefault(suffixes[0], name)
    if len(answers) < 2 and "a" in bare or "1" in bare and len(answers) < 2:
        answers = {**bare, **answers}
    found.answers = dict(sorted(answers.items()))


def _find_mark(name: str, found: Columns) -> None:
    parts = parts_of(name)
    suffixes = [part for part in parts if is_suffix(part) and part in found.answers]
    words = {part for part in parts if not is_suffix(part)}
    if len(suffixes) == 1 and words & _RANK_WORDS:
        found.ranks.setdefault(suffixes[0], name)
    elif len(suffixes) == 1 and words & _SCORE_WORDS:
        found.scores.setdefault(suffixes[0], name)
    elif len(suffixes) == 1 and words & {"winner", "won", "wins", "preferred", "chosen", "better", "selected"}:
        found.one_hot.setdefault(suffixes[0], name)
    elif not suffixes and words & {"winner", "preferred"} and words & {"tie", "tied", "draw"}:
        found.one_hot.setdefault("bothbad" if "bothbad" in words or "bad" in words else "tie", name)
    elif not suffixes and (words & _CHOICE_WORDS or words == {"labels"}) and name != found.signed:
        found.choices.append(name)
    found.choices.sort(key=lambda choice: "safer" in parts_of(choice))


def choice_of(
    value: Any, row: Mapping[str, Any], answers: Mapping[str, str], name: str, where: Where
) -> str | Literal["tie"]:
    """The suffix of the answer that a choice names, or `tie`. DataError when it names none of them."""
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    parts = parts_of(text)
    plain = "_".join(parts)
    if plain in _TIES or (parts and set(parts) <= _TIES) or text.strip() in ("=", "A=B", "a=b"):
        return "tie"
    by_name = [suffix for suffix, column in answers.items() if plain_name(column) == plain_name(text)]
    said = [part for part in parts if is_suffix(part)]
    words = [part for part in parts if not is_suffix(part)]
    if by_name:
        return by_name[0]
    if len(said) == 1 and set(words) <= _ANSWER_WORDS | {"option", "side", "is", "better", "wins"} and said[0] in answers:
        return said[0]
    if len(answers) == 2 and plain in ("left", "right", "first", "second", "左", "右"):
        return list(answers)[plain in ("right", "second", "右")]
    equal = [suffix for suffix, column in answers.items() if str(row.get(column, "")).strip() == text.strip()]
    if len(equal) == 1:
        return equal[0]
    raise where.error(name, f"is {text!r}, which names none of the answers {', '.join(answers.values())}, nor a tie")
