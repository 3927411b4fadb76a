"""Numbers written as digits, English words or Chinese numerals, read from raw tokens."""

from __future__ import annotations

from collections.abc import Sequence

from chatwright.house.normal import RawToken

UNITS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
}
TENS = {
    word: 10 * value for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
ORDINALS = {
    word: value
    for value, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
        "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        start=1,
    )
} | {"thirtieth": 30}
_CHINESE_DIGITS = {c: value for value, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_CHINESE_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10000}
_MAX_DIGITS = 15  # longer digit strings are no numbers of a house; they stay words


def read_number(tokens: Sequence[RawToken], at: int) -> tuple[float, int] | None:
    """(value, index after it) of the number that begins at `at`, or None."""
    if at >= len(tokens):
        return None
    token = tokens[at]
    if token.kind == "digits":
        value = digits_value(token.text)
        return None if value is None else (value, at + 1)
    if token.kind == "cjk":
        return _chinese(tokens, at)
    return _english(tokens, at) if token.kind == "word" else None


def digits_value(text: str) -> float | None:
    """Value of "1,500", "6.00" or "12"; None for times, dates and the like."""
    if len(text) > _MAX_DIGITS or ":" in text:
        return None
    groups = text.split(",")
    if len(groups) > 1 and not (len(groups[0]) <= 3 and all(len(group.split(".")[0]) == 3 for group in groups[1:])):
        return float(text.replace(",", ".")) if len(groups) == 2 and "." not in text else None
    plain = text.replace(",", "")
    return float(plain) if plain.count(".") <= 1 else None


def read_small(tokens: Sequence[RawToken], at: int) -> tuple[int, int] | None:
    """(value, index after it) of an English number word from 0 to 99, or None."""
    if at >= len(tokens) or tokens[at].kind != "word":
        return None
    word = tokens[at].text
    if word in UNITS:
        return UNITS[word], at + 1
    if word not in TENS:
        return None
    then = skip_dash(tokens, at + 1)
    if then < len(tokens) and 1 <= UNITS.get(tokens[then].text, 0) <= 9:
        return TENS[word] + UNITS[tokens[then].text], then + 1
    return TENS[word], at + 1


def skip_dash(tokens: Sequence[RawToken], at: int) -> int:
    """Index of the token at or after `at` that is not a hyphen."""
    return at + 1 if at < len(tokens) and tokens[at].kind == "dash" else at


def _english(tokens: Sequence[RawToken], at: int) -> tuple[float, int] | None:
    following = tokens[at + 1].text if at + 1 < len(tokens) else ""
    small = (1, at + 1) if tokens[at].text == "a" and following in ("hundred", "thousand") else read_small(tokens, at)
    if small is None:
        return None
    value, end = small
    second = read_small(tokens, skip_dash(tokens, end))
    if 13 <= value <= 99 and second and 10 <= second[0] <= 99:
        return float(100 * value + second[0]), second[1]  # nineteen eleven
    total = 0
    for scale, factor in (("thousand", 1000), ("hundred", 100)):
        then = skip_dash(tokens, end)
        if value and then < len(tokens) and tokens[then].text == scale:
            total += value * factor
            value, end = _after_scale(tokens, then + 1)
    return float(total + value), end


def _after_scale(tokens: Sequence[RawToken], at: int) -> tuple[int, int]:
    then = at + 1 if at < len(tokens) and tokens[at].text == "and" else at
    return read_small(tokens, skip_dash(tokens, then)) or (0, at)


def _chinese(tokens: Sequence[RawToken], at: int) -> tuple[float, int] | None:
    end = at
    while end < len(tokens) and tokens[end].kind == "cjk" and _is_numeral(tokens[end].text) and end - at < _MAX_DIGITS:
        end += 1
    text = "".join(token.text for token in tokens[at:end])
    return (float(chinese_value(text)), end) if text else None


def _is_numeral(character: str) -> bool:
    return character in _CHINESE_DIGITS or character in _CHINESE_SCALES


def chinese_value(text: str) -> int:
    """Value of a run of Chinese numerals: 二十五 -> 25, 一百五 -> 105 is read as 100 + 5, 二〇二六 -> 2026."""
    if not any(c in _CHINESE_SCALES for c in text):
        return int("".join(str(_CHINESE_DIGITS[c]) for c in text))
    total = section = digit = 0
    for c in text:
        if c in _CHINESE_DIGITS:
            digit = _CHINESE_DIGITS[c]
        elif c == "万":
            total, section, digit = (total + section + digit) * 10000, 0, 0
        else:
            section += (digit or 1) * _CHINESE_SCALES[c]
            digit = 0
    return total + section + digit
