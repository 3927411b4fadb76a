"""Forms: literal texts that an answer must or must not contain. The syntax is documented in docs/howto/house-sheet.md.

    form        a run of tokens; numbers, times and prices match however they are written
    word*       any word with that beginning
    A & B       both parts in one sentence, in any order
    ~form       counts even where a negation precedes it

There are no regular expressions: a form costs at most (its tokens x the answer's tokens) comparisons.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chatwright.errors import DataError
from chatwright.house.lexer import Token, lex
from chatwright.house.normal import fold

MAX_FORM_CHARACTERS = 200
_PATTERN_MARKS = ("\\", "[", "]", "{", "}", "|", "^", "(?", ".*", ".+", ")*", ")+")
NEGATION_REACH = 4
"""Tokens before a form within which a negator of the same clause takes it back."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start` to `end` (exclusive) that match a part of a form."""

    start: int
    end: int


@dataclass(frozen=True)
class Form:
    """A parsed form."""

    text: str
    """The form as it is written on the sheet."""
    parts: tuple[tuple[Token, ...], ...]
    """Tokens of the parts between ` & `."""
    negatable: bool = True
    """False for `~form` and for forms that have a negator themselves."""

    @classmethod
    def parse(cls, text: str, negators: NegatorList | None = None) -> Form:
        """Read one form. DataError when it is empty, too long, or its star is not at a word's end."""
        if len(text) > MAX_FORM_CHARACTERS:
            raise DataError(f"{text[:40]!r}... has more than {MAX_FORM_CHARACTERS} characters; write a shorter form")
        body = text.strip()
        negatable = not body.startswith("~")
        parts = tuple(tuple(_lex_part(part, text)) for part in f" {body.lstrip('~')} ".split(" & "))
        if not all(parts):
            raise DataError(f"{text!r} has a part without letters or digits; write the words that the answer must contain")
        if negators is not None and any(negators.positions(part) for part in parts):
            negatable = False
        return cls(text, parts, negatable)


def _lex_part(part: str, form: str) -> list[Token]:
    if any(mark in form for mark in _PATTERN_MARKS):
        raise DataError(f"{form!r} looks like a regular expression; forms are plain words (word* and A & B are read)")
    folded = fold(part)
    for word in folded.split():
        star = word.find("*")
        if star == 0 or 0 < star < len(word) - 1:
            raise DataError(f"{form!r}: a star stands at the end of a word only, as in open*; other patterns are not read")
    tokens = lex(part)
    if len({token.sentence for token in tokens}) > 1:
        raise DataError(f"{form!r} goes over the end of a sentence; write the words of one sentence")
    return tokens


def tokens_match(form: Token, found: Token) -> bool:
    """True when a token of an answer is the form's token, written in whatever way."""
    if form.kind == "time":
        return _same_time(form, found)
    if form.text.endswith("*"):
        return found.kind == "word" and found.text.startswith(form.text[:-1])
    return form.key == found.key


def _same_time(form: Token, found: Token) -> bool:
    if found.kind == "number" and found.clock:
        return form.number % 720 == found.number * 60 % 720
    if found.kind != "time":
        return False
    return form.number == found.number if form.clock and found.clock else form.number % 720 == found.number % 720


def find_part(part: Sequence[Token], tokens: Sequence[Token]) -> list[Span]:
    """All places where the tokens of `part` follow one another inside one sentence."""
    found = []
    for start in range(len(tokens) - len(part) + 1):
        if tokens[start].sentence != tokens[start + len(part) - 1].sentence:
            continue
        if all(tokens_match(wanted, tokens[start + i]) for i, wanted in enumerate(part)):
            found.append(Span(start, start + len(part)))
    return found


class NegatorList:
    """Words that take back what follows them, and phrases in which they do not ("not only")."""

    def __init__(self, negators: Iterable[str], exceptions: Iterable[str] = ()) -> None:
        """Both are lists of plain words or phrases of one language."""
        self._negators = [Form.parse(text).parts[0] for text in negators]
        self._exceptions = [Form.parse(text).parts[0] for text in exceptions]

    def positions(self, tokens: Sequence[Token]) -> frozenset[int]:
        """Indices of the tokens at which a negation ends."""
        harmless = {
            i for phrase in self._exceptions for span in find_part(phrase, tokens) for i in range(span.start, span.end)
        }
        return frozenset(
            span.end - 1
            for negator in self._negators
            for span in find_part(negator, tokens)
            if not harmless.intersection(range(span.start, span.end))
        )


class Text:
    """An answer, read once for many forms."""

    def __init__(self, text: str, negators: NegatorList | None = None) -> None:
        self.tokens = lex(text.replace("*", " "))  # stars are markup here; in a form they end a prefix
        self._keys = frozenset(token.key for token in self.tokens)
        self._negated_at = negators.positions(self.tokens) if negators else frozenset()

    def find(self, form: Form) -> list[Span]:
        """Occurrences that no negation takes back. A form with ` & ` needs all parts in one sentence."""
        if not all(self._may_contain(token) for part in form.parts for token in part):
            return []
        per_part = [self._find_part(part, form.negatable) for part in form.parts]
        if len(per_part) == 1:
            return per_part[0]
        common = set.intersection(*({self.tokens[span.start].sentence for span in spans} for spans in per_part))
        return [span for spans in per_part for span in spans if self.tokens[span.start].sentence in common]

    def _may_contain(self, token: Token) -> bool:
        return token.kind == "time" or token.text.endswith("*") or token.key in self._keys

    def find_any(self, forms: Iterable[Form]) -> list[Span]:
        """Occurrences of all forms of a list."""
        return [span for form in forms for span in self.find(form)]

    def _find_part(self, part: Sequence[Token], negatable: bool) -> list[Span]:
        spans = find_part(part, self.tokens)
        return [span for span in spans if not self._is_negated(span)] if negatable else spans

    def _is_negated(self, span: Span) -> bool:
        clause = self.tokens[span.start].clause
        reach = range(max(0, span.start - NEGATION_REACH), span.start)
        return any(i in self._negated_at and self.tokens[i].clause == clause for i in reach)
