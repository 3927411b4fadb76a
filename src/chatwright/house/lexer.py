"""Text to tokens in which equal numbers, times, prices and ordinals are equal, however they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from chatwright.house.normal import RawToken, raw_tokens
from chatwright.house.numerals import ORDINALS, TENS, read_number, read_small, skip_dash

Kind = Literal["word", "cjk", "number", "time", "money", "ordinal"]
_CURRENCY_SYMBOLS = {"$": "usd", "€": "eur", "£": "gbp", "¥": "cny"}
_CURRENCY_WORDS = {
    "dollar": "usd", "buck": "usd", "usd": "usd", "euro": "eur", "eur": "eur", "pound": "gbp", "gbp": "gbp",
    "yuan": "cny", "rmb": "cny", "cny": "cny", "元": "cny", "块": "cny", "圆": "cny",
}  # fmt: skip
_BEFORE_CLOCK = frozenset("at from until till til by before after since around between to past".split())
_UNITS = frozenset(
    "minute hour day week month year child kid people person guest metre meter centimetre centimeter cm m km floor "
    "time percent pupil adult step ticket".split()
)
_MORNING, _AFTERNOON = frozenset(("morning",)), frozenset(("afternoon", "evening", "night"))
_CHINESE_MORNING = ("上午", "早上", "早晨", "清晨", "凌晨")
_CHINESE_AFTERNOON = ("下午", "傍晚", "晚上", "夜里", "中午")


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a text."""

    kind: Kind
    text: str
    """A word or character; a price's currency; else empty."""
    number: float
    """A number or ordinal; minutes since midnight; an amount of money; else 0."""
    sentence: int
    """Number of the sentence."""
    clause: int
    """Number of the clause; commas and sentence ends begin a new one."""
    clock: bool = False
    """number: it may be a time ("at ten"). time: True when the half of the day is known."""
    article: bool = False
    """number: "one" or 一, which is an article more often than a count."""

    @property
    def key(self) -> tuple[str, str, float]:
        """Identity of a token: tokens with equal keys are equal."""
        return self.kind, self.text, self.number


def lex(text: str) -> list[Token]:
    """Tokens of a text without punctuation."""
    return _Lexer(raw_tokens(text)).run()


class _Lexer:
    def __init__(self, raw: Sequence[RawToken]) -> None:
        self.raw, self.at, self.sentence, self.clause = raw, 0, 0, 0
        self.tokens: list[Token] = []

    def run(self) -> list[Token]:
        while self.at < len(self.raw):
            token = self.raw[self.at]
            if token.kind in ("stop", "comma"):
                self.sentence += token.kind == "stop"
                self.clause += 1
                self.at += 1
            elif not (self._time() or self._money() or self._ordinal() or self._number()):
                if token.kind in ("word", "digits"):
                    self._add("word", self.at + 1, token.text)
                elif token.kind == "cjk":
                    self._add("cjk", self.at + 1, token.text)
                else:
                    self.at += 1
        return self.tokens

    def _add(self, kind: Kind, end: int, text: str = "", number: float = 0.0, *, clock: bool = False) -> bool:
        article = kind == "number" and number == 1 and self.raw[self.at].kind != "digits"
        self.tokens.append(Token(kind, text, number, self.sentence, self.clause, clock, article))
        self.at = end
        return True

    def _text(self, at: int) -> str:
        return self.raw[at].text if 0 <= at < len(self.raw) else ""

    def _joined(self, at: int, count: int) -> str:
        return "".join(self._text(i) for i in range(at, at + count))

    # ---- times ----

    def _time(self) -> bool:
        start = self.at
        half = self._chinese_half(start)
        if half:
            start += 2
        found = self._clock_words(start) or self._clock_number(start, bool(half))
        if found is None:
            return False
        hour, minute, end, known = found
        end, after = self._half_after(end)
        half = half or after
        if not known and half:
            hour, known = _on_day(hour, half), True
        return self._add("time", end, number=60 * hour + minute, clock=known)

    def _chinese_half(self, at: int) -> str:
        word = self._joined(at, 2)
        return word if word in _CHINESE_MORNING + _CHINESE_AFTERNOON else ""

    def _clock_words(self, at: int) -> tuple[int, int, int, bool] | None:
        """noon, midnight, half past nine, quarter to five, ten past five."""
        word = self._text(at)
        if word in ("noon", "midday", "midnight"):
            return (0 if word == "midnight" else 12), 0, at + 1, True
        minutes = {"half": 30, "quarter": 15}.get(word)
        end = at + 1
        if minutes is None:
            small = read_small(self.raw, at)
            if small is None or self._text(small[1]) != "past":
                return None
            minutes, end = small
        relation = self._text(end)
        hour = read_number(self.raw, end + 1) if relation in ("past", "to") else None
        if hour is None or not 1 <= hour[0] <= 12 or hour[0] % 1:
            return None
        if relation == "past":
            return int(hour[0]), minutes, hour[1], False
        return (int(hour[0]) - 1) or 12, 60 - minutes, hour[1], False

    def _clock_number(self, at: int, chinese_half: bool) -> tuple[int, int, int, bool] | None:
        token = self.raw[at] if at < len(self.raw) else None
        if token is None:
            return None
        if token.kind == "digits" and token.text.count(":") == 1:
            hour, minute = token.text.split(":")
            if len(hour) <= 2 and len(minute) == 2 and int(hour) <= 24 and int(minute) < 60:
                return int(hour) % 24, int(minute), at + 1, int(hour) > 12 or int(hour) == 0
            return None
        found = read_number(self.raw, at)
        if found is None:
            return None
        if self._text(found[1]) in ("点", "时"):
            return self._chinese_time(found, chinese_half)
        return self._english_time(token, found)

    def _english_time(self, token: RawToken, found: tuple[float, int]) -> tuple[int, int, int, bool] | None:
        value, end = found
        hour, minute = int(value), round(value % 1 * 100)
        if not 0 <= hour <= 24 or minute > 59:
            return None
        spoken = read_small(self.raw, skip_dash(self.raw, end)) if token.kind == "word" else None
        if spoken and 1 <= hour <= 12 and minute == 0 and 10 <= spoken[0] <= 55 and spoken[0] % 5 == 0:
            return hour, spoken[0], spoken[1], False  # ten thirty
        following = self._text(end)
        if following == "noon" and hour == 12:
            return 12, 0, end + 1, True
        if following == "oclock" and minute == 0:
            return hour % 24, 0, end + 1, hour > 12
        marked = following in ("am", "pm") or (1 <= hour <= 12 and self._half_after(end)[1] != "" and minute == 0)
        return (hour, minute, end, False) if marked else None

    def _chinese_time(self, found: tuple[float, int], half_known: bool) -> tuple[int, int, int, bool] | None:
        hour, end = int(found[0]), found[1] + 1
        minute, marked = 0, half_known
        if self._text(end) == "半":
            minute, end, marked = 30, end + 1, True
        elif self._joined(end, 2) in ("一刻", "三刻"):
            minute, end, marked = (15 if self._text(end) == "一" else 45), end + 2, True
        elif self._text(end) in ("钟", "整"):
            end, marked = end + 1, True
        else:
            extra = read_number(self.raw, end)
            if extra and extra[0] < 60 and extra[0] >= 10:
                minute, marked = int(extra[0]), True
                end = extra[1] + (self._text(extra[1]) == "分")
        if found[0] % 1 or hour > 24 or (hour == 1 and not marked):  # 一点 alone means "a little"
            return None
        return hour % 24, minute, end, hour > 12

    def _half_after(self, end: int) -> tuple[int, str]:
        """Index after "pm" or "in the afternoon", and morning or afternoon; ("" when nothing follows)."""
        if self._text(end) in ("am", "pm"):
            return end + 1, "morning" if self._text(end) == "am" else "afternoon"
        for words in (("in", "the"), ("on", "the"), ("at",)):
            then = end + len(words)
            if all(self._text(end + i) == word for i, word in enumerate(words)):
                if self._text(then) in _MORNING:
                    return then + 1, "morning"
                if self._text(then) in _AFTERNOON:
                    return then + 1, "afternoon"
        return end, ""

    # ---- prices, ordinals, numbers ----

    def _money(self) -> bool:
        token = self.raw[self.at]
        if token.text in _CURRENCY_SYMBOLS:
            found = read_number(self.raw, self.at + 1)
            return found is not None and self._add("money", found[1], _CURRENCY_SYMBOLS[token.text], found[0])
        found = read_number(self.raw, self.at)
        if found is None and token.text == "a" and self._text(self.at + 1) in ("dollar", "euro", "pound"):
            found = (1.0, self.at + 1)
        if found is None:
            return False
        amount, end = found[0], skip_dash(self.raw, found[1])
        if self._text(end) == "cent":
            return self._add("money", end + 1, "usd", amount / 100)
        currency = _CURRENCY_WORDS.get(self._text(end))
        if currency is None:
            return False
        end += 1 + (self._text(end + 1) == "钱")
        amount, end = self._cents(amount, end)
        return self._add("money", end, currency, amount)

    def _cents(self, amount: float, end: int) -> tuple[float, int]:
        then = end + (self._text(end) == "and")
        found = read_number(self.raw, then)
        if found and found[0] < 100 and self._text(found[1]) == "cent":
            return amount + found[0] / 100, found[1] + 1
        return amount, end

    def _ordinal(self) -> bool:
        token = self.raw[self.at]
        if token.kind == "digits" and token.text.isdigit() and len(token.text) < 5:
            after = self.raw[self.at + 1] if self.at + 1 < len(self.raw) else None
            if after and after.glued and after.text in ("st", "nd", "rd", "th"):
                return self._add("ordinal", self.at + 2, number=float(token.text))
        if token.text in ORDINALS:
            return self._add("ordinal", self.at + 1, number=ORDINALS[token.text])
        then = skip_dash(self.raw, self.at + 1)
        if token.text in TENS and ORDINALS.get(self._text(then), 99) < 10:
            return self._add("ordinal", then + 1, number=TENS[token.text] + ORDINALS[self._text(then)])
        if token.text == "第":
            found = read_number(self.raw, self.at + 1)
            return found is not None and self._add("ordinal", found[1], number=found[0])
        return False

    def _number(self) -> bool:
        found = read_number(self.raw, self.at)
        if found is None:
            return False
        value, end = found
        following = self._text(end)
        range_follows = following in ("to", "-", "–", "until", "till") and read_number(self.raw, end + 1) is not None
        clock = value % 1 == 0 and 1 <= value <= 24 and following not in _UNITS
        before = self._text(self.at - 1)
        clock = clock and (before in _BEFORE_CLOCK or before in ("-", "–") or range_follows or self._ends_range())
        return self._add("number", end, number=value, clock=clock)

    def _ends_range(self) -> bool:
        """True for the second number of "between ten and five" and "from 10 and 5"."""
        return self._text(self.at - 1) == "and" and bool(self.tokens[-2:]) and any(t.clock for t in self.tokens[-2:])


def _on_day(hour: int, half: str) -> int:
    if half in _CHINESE_MORNING or half == "morning":
        return hour % 12 if hour <= 12 else hour
    if half == "中午":
        return hour + 12 if 1 <= hour < 11 else hour
    if half in ("晚上", "夜里") and hour == 12:
        return 0
    return hour % 12 + 12 if hour <= 12 else hour
