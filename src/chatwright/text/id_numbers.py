"""Numbers that prove themselves by a checksum: identity cards, bank cards, bank accounts.

Sources: GB 11643-1999 (mainland China, check digit by ISO 7064 MOD 11-2), ISO/IEC 7812 (Luhn), ISO 13616 (IBAN). Checking
them keeps order numbers and the like of the same length in the text: one in eleven to one in 97 passes by chance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

_CN = re.compile(r"(?<![0-9A-Za-z])[1-9][0-9]{5}[ -]?(?:19|20)[0-9]{6}[ -]?[0-9]{3}[0-9Xx](?![0-9A-Za-z])")
_CN_OLD = re.compile(r"(?:身份证|身分证|ID card)[^0-9\n]{0,12}([1-9][0-9]{14})(?![0-9A-Za-z])", re.IGNORECASE)
_HONG_KONG = re.compile(r"(?<![0-9A-Za-z])[A-Z]{1,2}[0-9]{6} ?\([0-9A]\)")
_TAIWAN = re.compile(r"(?<![0-9A-Za-z])[A-Z][12][0-9]{8}(?![0-9A-Za-z])")
_US = re.compile(r"(?<![0-9A-Za-z-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![0-9A-Za-z-])")
_PASSPORT = re.compile(
    r"(?:护照|passport)[^0-9A-Za-z\n]{0,6}(?:number|no\.?)?[^0-9A-Za-z\n]{0,4}([A-Z]{0,2}[0-9]{7,9})(?![0-9A-Za-z])",
    re.IGNORECASE,
)
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
# Taiwan's letters stand for places; their values are not in the order of the alphabet.
_TAIWAN_LETTERS = {letter: value for value, letter in enumerate("ABCDEFGHJKLMNPQRSTUVXYWZIO", start=10)}


def find(text: str) -> Iterator[tuple[int, int]]:
    """Where identity numbers stand."""
    yield from (found.span() for found in _CN.finditer(text) if is_cn_id(re.sub("[ -]", "", found[0])))
    yield from (found.span(1) for found in _CN_OLD.finditer(text))
    yield from (found.span() for found in _HONG_KONG.finditer(text) if is_hong_kong_id(found[0]))
    yield from (found.span() for found in _TAIWAN.finditer(text) if is_taiwan_id(found[0]))
    yield from (found.span() for found in _US.finditer(text))
    yield from (found.span(1) for found in _PASSPORT.finditer(text))


def is_cn_id(number: str) -> bool:
    """Whether 18 characters are a resident identity number of mainland China."""
    if not re.fullmatch("[0-9]{17}[0-9Xx]", number):
        return False
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number, strict=False))
    return born.year >= 1900 and "10X98765432"[total % 11] == number[17].upper()


def is_hong_kong_id(number: str) -> bool:
    """Whether a text such as `A123456(3)` is a Hong Kong identity number."""
    plain = re.sub(r"[() ]", "", number)
    letters, digits, check = plain[:-7], plain[-7:-1], plain[-1]
    values = [36] * (2 - len(letters)) + [ord(letter) - 55 for letter in letters] + [int(digit) for digit in digits]
    values.append(10 if check == "A" else int(check))
    return sum(value * weight for value, weight in zip(values, range(9, 0, -1), strict=True)) % 11 == 0


def is_taiwan_id(number: str) -> bool:
    """Whether a text such as `A123456789` is a Taiwanese identity number."""
    place = _TAIWAN_LETTERS[number[0]]
    values = [place // 10, place % 10, *(int(digit) for digit in number[1:])]
    return sum(value * weight for value, weight in zip(values, (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1), strict=True)) % 10 == 0


def is_bank_card(digits: str) -> bool:
    """Whether digits are the number of a card: a known issuer, its length, and Luhn's check digit."""
    return _has_issuer(digits) and luhn(digits)


def _has_issuer(digits: str) -> bool:
    length, two, four = len(digits), int(digits[:2] or 0), int(digits[:4] or 0)
    return (
        (digits.startswith("4") and length in (13, 16, 19))  # Visa
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and length == 16)  # Mastercard
        or (two in (34, 37) and length == 15)  # American Express
        or (two == 62 and 16 <= length <= 19)  # UnionPay
        or (3528 <= four <= 3589 and 16 <= length <= 19)  # JCB
        or ((four == 6011 or two in (64, 65)) and 16 <= length <= 19)  # Discover
        or ((two in (36, 38, 39) or 300 <= four // 10 <= 305) and length == 14)  # Diners
    )


def luhn(digits: str) -> bool:
    """Luhn's check digit (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_iban(text: str) -> bool:
    """Whether a text without blanks is an international bank account number (15 to 34 characters)."""
    if not 15 <= len(text) <= 34:
        return False
    turned = text[4:] + text[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1
