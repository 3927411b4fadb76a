"""Right forms taken from a fact's answers where the sheet gives none: numbers and names that no other answer has."""

from __future__ import annotations

import re
from collections.abc import Iterable

from chatwright.house.lexer import Token, lex
from chatwright.house.sheet import Fact, Sheet

_PIECE = re.compile(r"[「“\"]([^」”\"\n]{1,40})[」”\"]|(?<![.!?。！？\n\s])\s+([A-Z][\w'’-]*(?:\s+[A-Z][\w'’-]*)*)")
_NUMBER = re.compile(r"[$€£¥]?\s?\d+(?:[.:,]\d+)*(?:\s?[ap]\.?m\b\.?)?")
Key = tuple[str, str, float]
_VALUE_KINDS = ("number", "time", "money", "ordinal")


def default_right(sheet: Sheet) -> dict[str, tuple[str, ...]]:
    """Per house fact without `right`: forms of its answers that no other fact's answer contains.

    Numbers, times and prices first; names and quoted words when there are none. Empty when nothing is found, or when
    one of the fact's answers has none of the forms.
    """
    wanting = [fact for fact in sheet.facts if fact.is_house and not fact.right]
    if not wanting:
        return {}
    owners: dict[Key, set[str]] = {}
    for fact in sheet.facts:
        for key in _keys(fact):
            owners.setdefault(key, set()).add(fact.id)
    return {fact.id: _forms(fact, owners) for fact in wanting}


def _keys(fact: Fact) -> set[Key]:
    return {token.key for answer in fact.answers for token in lex(answer)}


def _forms(fact: Fact, owners: dict[Key, set[str]]) -> tuple[str, ...]:
    for candidates in (_values(fact), _names(fact)):
        own = [(text, tokens) for text, tokens in candidates if any(owners.get(t.key) == {fact.id} for t in tokens)]
        if own and all(_has_one(answer, [tokens for _, tokens in own]) for answer in fact.answers):
            return tuple(dict.fromkeys(text for text, _ in own))
    return ()


def _has_one(answer: str, forms: list[list[Token]]) -> bool:
    keys = {token.key for token in lex(answer)}
    return any(all(token.key in keys for token in form) for form in forms)


def _values(fact: Fact) -> Iterable[tuple[str, list[Token]]]:
    for answer in fact.answers:
        for token in lex(answer):
            if token.kind in _VALUE_KINDS and not token.article:
                yield _write(token), [token]


def _names(fact: Fact) -> Iterable[tuple[str, list[Token]]]:
    for answer in fact.answers:
        for match in _PIECE.finditer(answer):
            text = match[1] or match[2]
            if tokens := lex(text):
                yield text, tokens


def _write(token: Token) -> str:
    """A form that the lexer reads as this token again."""
    if token.kind == "time":
        hour, minute = divmod(int(token.number), 60)
        if not token.clock:
            return f"{hour}:{minute:02}"
        return f"{hour % 12 or 12}:{minute:02} {'am' if hour < 12 else 'pm'}"
    if token.kind == "money":
        return f"{token.number:g} {token.text}"
    if token.kind == "ordinal":
        return f"{token.number:g}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(int(token.number), 'th') }"
    return f"{token.number:g}"
