"""Exact arithmetic over a text: a parser of its own, never `eval`.

Operands are rational numbers, so 0.1 + 0.2 is 0.3 and integers are exact at any length up to the caps. Only roots and broken
powers that are irrational are rounded, and say so. Operators, the loosest first: `+ -`, `* / // %`, unary `-`, `^` (from the
right); `sqrt(...)`; `%` after an operand is a hundredth (`10% of 50`); between operands it is the remainder, which has the
sign of the divisor as in Python. English and Chinese words for the operators are understood.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from math import isqrt

from chatwright.errors import DataError

MAX_CHARACTERS = 2_000  # of an expression
MAX_DIGITS = 1_000  # of a number that is read, written, or comes up on the way
_MAX_BITS = 3_330  # of numerator and denominator: 1,000 digits and a little
_MAX_DEPTH = 50  # of parentheses, signs and powers in one another
_SHOWN = 12  # significant digits of a result that has no finite decimal form
_ROOTS = Context(prec=60, Emax=2_000, Emin=-2_000)

# The longer words first: a lexer takes the first that fits. Every pattern is linear.
_WORDS = {
    "*": r"multiplied by|times|的(?=\s*[0-9.]+\s*%)|乘以|乘上|乘|[*×✕✖⨯]",
    "//": "//",
    "/": "divided by|除以|[/÷∕]",
    "+": r"plus|加上|加|\+",
    "-": "minus|减去|减|[-−–]",
    "mod": "modulo|mod",
}
_LEXER = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4}(?![0-9A-Za-z]))?"
    r"|\.[0-9]+)"
    r"|(?P<power>\*\*|\^|to the power of)"
    r"|(?P<after>squared(?![a-z])|cubed(?![a-z])|的平方根|的平方|的立方|的\s*[0-9]{1,6}\s*次方)"
    r"|(?P<percent_of>%\s*of\b|percent of\b|%\s*的)|(?P<percent>%|percent\b)"
    r"|(?P<root>the square root of|square root of|sqrt|√)"
    r"|(?P<open>[(\[])|(?P<close>[)\]])|"
    + "|".join(f"(?P<o{n}>{pattern})" for n, pattern in enumerate(_WORDS.values()))
    + r"|(?P<letter_x>[xX](?=\s*[0-9(.]))"
    + ")",
    re.IGNORECASE,
)
_OPERATORS = list(_WORDS)
_SIGNS = {"*": " × ", "/": " / ", "//": " // ", "+": " + ", "-": " - ", "mod": " % ", "^": "^", "%": "%", "sqrt": "sqrt"}


@dataclass(frozen=True)
class Token:
    """A piece of an expression."""

    kind: str
    """`number`, `(`, `)`, `^`, `%` (a hundredth or a remainder), `sqrt`, or an operator."""
    text: str
    """Digits of a number without separators."""
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Calculation:
    """An expression and what it comes to."""

    expression: str
    """As people write it: `3457 × 43216`."""
    result: str
    """Digits, without separators."""
    exact: bool
    """False: rounded to twelve significant digits."""

    def __str__(self) -> str:
        return f"{self.expression} {'=' if self.exact else '≈'} {self.result}"


@dataclass(frozen=True)
class _Value:
    number: Fraction
    exact: bool = True


def calculate(text: str) -> Calculation:
    """Work out an expression. DataError says what is wrong with it, or which cap it exceeds."""
    if len(text) > MAX_CHARACTERS:
        raise DataError(f"calculator: {len(text):,} characters; at most {MAX_CHARACTERS:,} are taken")
    text = normalised(text)
    tokens = list(tokens_from(text, 0, len(text)))
    end = tokens[-1].end if tokens else 0
    if text[end:].strip():
        raise DataError(f"calculator: {text[end:].strip()[:40]!r} is neither a number nor an operator")
    return calculate_tokens(tokens)


def calculate_tokens(tokens: list[Token]) -> Calculation:
    """As `calculate`, from tokens."""
    value = _Parser(tokens).parse()
    result, finite = _written(value.number)
    return Calculation(expression=written(tokens), result=result, exact=value.exact and finite)


def normalised(text: str) -> str:
    """The text with full-width digits and signs as plain ones, character by character, so that places stay."""
    folded = (unicodedata.normalize("NFKC", c) if "\uff01" <= c <= "\uff5e" else c for c in text)
    return "".join(folded)


def tokens_from(text: str, start: int, end: int) -> Iterator[Token]:
    """The tokens between two places, up to what is none."""
    while match := _LEXER.match(text, start, end):
        kind, piece = str(match.lastgroup), match.group(match.lastgroup or 0)
        place, start = match.start(kind), match.end()
        for meant, as_read in _meaning(kind, piece):
            yield Token(meant, as_read, place, start)


def _meaning(kind: str, piece: str) -> list[tuple[str, str]]:
    match kind:
        case "number":
            return [("number", piece.replace(",", ""))]
        case "power":
            return [("^", "^")]
        case "after":
            piece = piece.lower()
            if piece == "的平方根":
                return [("root_after", piece)]
            digits = "3" if piece in ("cubed", "的立方") else "".join(c for c in piece if c.isdigit()) or "2"
            return [("^", "^"), ("number", digits)]
        case "percent":
            return [("%", "%")]
        case "percent_of":
            return [("%", "%"), ("*", "*")]
        case "root":
            return [("sqrt", "sqrt")]
        case "open" | "close":
            return [("(", "(")] if kind == "open" else [(")", ")")]
        case "letter_x":
            return [("*", "*")]
    return [(_OPERATORS[int(kind[1:])], piece)]


def written(tokens: list[Token]) -> str:
    """An expression as people write it."""
    out = ""
    for at, token in enumerate(tokens):
        if token.kind == "-" and (not at or tokens[at - 1].kind not in ("number", ")", "root_after")):
            out += "-"
        elif token.kind == "%" and _is_operand_start(tokens, at + 1):
            out += " % "
        elif token.kind == "root_after":
            out += "的平方根"
        elif token.kind == "sqrt" and tokens[at + 1 : at + 2] and tokens[at + 1].kind != "(":
            out += "sqrt "
        else:
            out += _SIGNS.get(token.kind, token.text)
    return out.strip()


def _is_operand_start(tokens: list[Token], at: int) -> bool:
    return at < len(tokens) and tokens[at].kind in ("number", "(", "sqrt")


class _Parser:
    """Recursive descent, one function per strength of operators."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0

    def parse(self) -> _Value:
        value = self._sum()
        if self._at < len(self._tokens):
            raise DataError(f"calculator: {self._tokens[self._at].text!r} is not expected there")
        return value

    @property
    def _kind(self) -> str:
        return self._tokens[self._at].kind if self._at < len(self._tokens) else ""

    def _take(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _sum(self) -> _Value:
        value = self._product()
        while self._kind in ("+", "-"):
            sign = 1 if self._take().kind == "+" else -1
            other = self._product()
            value = _checked(_Value(value.number + sign * other.number, value.exact and other.exact))
        return value

    def _product(self) -> _Value:
        value = self._signed()
        while self._kind in ("*", "/", "//", "mod", "%"):
            operator = self._take().kind
            other = self._signed()
            if operator != "*" and not other.number:
                raise DataError("calculator: division by zero")
            a, b = value.number, other.number
            number = (
                a * b if operator == "*" else a / b if operator == "/" else Fraction(a // b) if operator == "//" else a % b
            )
            value = _checked(_Value(number, value.exact and other.exact))
        return value

    def _signed(self) -> _Value:
        if self._kind not in ("-", "+"):
            return self._power()
        negative = self._take().kind == "-"
        self._deeper()
        value = self._signed()
        self._depth -= 1
        return _Value(-value.number, value.exact) if negative else value

    def _power(self) -> _Value:
        base = self._operand()
        if self._kind != "^":
            return base
        self._take()
        self._deeper()
        exponent = self._signed()
        self._depth -= 1
        return _raised(base, exponent)

    def _operand(self) -> _Value:
        if self._at >= len(self._tokens):
            raise DataError("calculator: the expression ends where a number is expected")
        token = self._take()
        if token.kind == "number":
            value = _read(token.text)
        elif token.kind == "(":
            self._deeper()
            value = self._sum()
            self._depth -= 1
            if self._kind != ")":
                raise DataError("calculator: a parenthesis is not closed")
            self._take()
        elif token.kind == "sqrt":
            self._deeper()
            value = _root(self._signed() if self._kind == "-" else self._operand())
            self._depth -= 1
        else:
            raise DataError(f"calculator: a number is expected before {token.text!r}")
        while self._kind == "root_after" or (self._kind == "%" and not _is_operand_start(self._tokens, self._at + 1)):
            value = _root(value) if self._take().kind == "root_after" else _Value(value.number / 100, value.exact)
        return value

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise DataError(f"calculator: nested more than {_MAX_DEPTH} deep")


def _read(text: str) -> _Value:
    digits, _, exponent = text.lower().partition("e")
    if len(digits) > MAX_DIGITS or abs(int(exponent or 0)) > MAX_DIGITS:
        raise DataError(f"calculator: a number has more than {MAX_DIGITS:,} digits")
    return _checked(_Value(Fraction(text)))


def _checked(value: _Value) -> _Value:
    if max(value.number.numerator.bit_length(), value.number.denominator.bit_length()) > _MAX_BITS:
        raise DataError(f"calculator: a number grows past {MAX_DIGITS:,} digits")
    return value


def _raised(base: _Value, exponent: _Value) -> _Value:
    a, b = base.number, exponent.number
    exact = base.exact and exponent.exact
    if not a and b < 0:
        raise DataError("calculator: division by zero")
    if b.denominator == 1:
        bits = max(abs(a.numerator).bit_length(), a.denominator.bit_length())
        # A number of one bit is 0 or 1 in size: its powers do not grow, whatever the exponent.
        if bits > 1 and abs(b.numerator) * (bits - 1) > _MAX_BITS:
            raise DataError(f"calculator: a number grows past {MAX_DIGITS:,} digits")
        return _checked(_Value(_whole_power(a, b.numerator), exact))
    if a < 0:
        raise DataError("calculator: a broken power of a negative number is not a real number")
    if b.denominator == 2 and (root := _root(base)).exact:
        return _raised(root, _Value(Fraction(b.numerator), exact))
    if a == 0 or abs(float(b)) * max(abs(a.numerator).bit_length(), a.denominator.bit_length()) <= _MAX_BITS:
        return _rounded(_ROOTS.power(_decimal(a), _decimal(b)))
    raise DataError(f"calculator: a number grows past {MAX_DIGITS:,} digits")


def _whole_power(a: Fraction, b: int) -> Fraction:
    if a in (0, 1, -1):
        return Fraction(1) if b == 0 or (a == -1 and b % 2 == 0) else a
    return Fraction(a**b)


def _root(value: _Value) -> _Value:
    if value.number < 0:
        raise DataError("calculator: the square root of a negative number is not a real number")
    above, below = isqrt(value.number.numerator), isqrt(value.number.denominator)
    if above**2 == value.number.numerator and below**2 == value.number.denominator:
        return _Value(Fraction(above, below), value.exact)
    return _rounded(_ROOTS.sqrt(_decimal(value.number)))


def _decimal(number: Fraction) -> Decimal:
    return _ROOTS.divide(Decimal(number.numerator), Decimal(number.denominator))


def _rounded(number: Decimal) -> _Value:
    return _checked(_Value(Fraction(number), exact=False))


def _written(number: Fraction) -> tuple[str, bool]:
    """(decimal digits, whether they are all of them)."""
    if number.denominator == 1:
        return _digits(number.numerator), True
    rest, places = number.denominator, 0
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest, count = rest // prime, count + 1
        places = max(places, count)
    if rest == 1 and places <= 30:
        whole = _digits(abs(number.numerator) * 10**places // number.denominator).rjust(places + 1, "0")
        return f"{'-' if number < 0 else ''}{whole[:-places]}.{whole[-places:]}", True
    return f"{Context(prec=_SHOWN).create_decimal(_decimal(number)):g}".replace("e", "E"), False


def _digits(number: int) -> str:
    text = str(number)
    if len(text) > MAX_DIGITS + 1:
        raise DataError(f"calculator: the result has more than {MAX_DIGITS:,} digits")
    return text
