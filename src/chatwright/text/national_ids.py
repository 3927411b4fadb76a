"""National identity numbers that prove themselves by their shape and check digits, and any that stand behind their name.

Sources: Spain, Orden INT/2058/2008 and Real Decreto 1553/2005 (DNI, NIE: letter by the rest of 23); United Kingdom, HMRC's
National Insurance Manual NIM39110 (letters that occur; no check digit); France, INSEE (NIR: 97 minus the rest of 97); Italy,
D.M. 23/12/1976 (codice fiscale); Brazil, Receita Federal (CPF: two digits by eleven); India, UIDAI (Aadhaar: Verhoeff);
South Korea (resident registration: birthday and century; newer ones have no check digit). Numbers of nothing but digits and
without separators pass by chance too often: those are found only behind a label.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

_SPAIN = re.compile(r"(?<![0-9A-Za-z])(?:[0-9]{8}|[XYZxyz]-?[0-9]{7})[ -]?[A-Za-z](?![0-9A-Za-z])")
_SPAIN_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_BRITAIN = re.compile(
    r"(?<![0-9A-Za-z])(?!BG|GB|KN|NK|NT|TN|ZZ)[ABCEGHJ-PRSTW-Z][ABCEGHJ-NPRSTW-Z]"
    r"(?:[0-9]{6}| [0-9]{2} [0-9]{2} [0-9]{2} )[A-D](?![0-9A-Za-z])"
)
_FRANCE = re.compile(
    r"(?<![0-9A-Za-z.,])[12] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"
    r"(?![0-9A-Za-z])(?![.,][0-9])"
)
_ITALY = re.compile(
    r"(?<![0-9A-Za-z])[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z](?![0-9A-Za-z])"
)
# The values of characters in odd places, counted from one: first those of 0-9, which A-J share, then those of K-Z.
_ITALY_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_BRAZIL = re.compile(r"(?<![0-9A-Za-z.])[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}(?![0-9A-Za-z])")
_INDIA = re.compile(r"(?<![0-9A-Za-z.,-])(?<![0-9] )[2-9][0-9]{3}([ -])[0-9]{4}\1[0-9]{4}(?![0-9A-Za-z])(?![ .,-][0-9])")
_KOREA = re.compile(r"(?<![0-9A-Za-z-])([0-9]{6})-([1-8])[0-9]{6}(?![0-9A-Za-z-])")
_LABELLED = re.compile(
    r"(?:(?<![A-Za-z])(?:(?-i:SSN|SIN|NINO?|DNI|NIE|NIF|CPF|PESEL|BSN|TFN)|social security|social insurance|"
    r"national insurance|aadhaa?r|tax(?:payer)? (?:file|ID|identification)|national (?:ID|identity|identification)|"
    r"ID card|identity card|"
    r"driver[’']?s? licen[cs]e|driving licen[cs]e|health insurance|medicare|passport)|"
    r"社保卡?号?码?|医保卡?号?码?|驾驶?证号?码?|证件号码?|身份证号?码?|居留证号?码?|通行证号?码?)"
    r"(?: (?:number|no\.?|num\.?|code|card))*\s{0,2}(?:is|[:#=：]|是|为)?\s{0,2}"
    r"((?=[0-9A-Za-z]{0,4}[0-9])[0-9A-Za-z](?:[ .-]?[0-9A-Za-z]){5,17})(?![0-9A-Za-z])",
    re.IGNORECASE,
)
_VERHOEFF_PERMUTED = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def find(text: str) -> Iterator[tuple[int, int]]:
    """Where national identity numbers stand."""
    for pattern, proves in _PROVED:
        yield from (found.span() for found in pattern.finditer(text) if proves(re.sub(r"[ .-]", "", found[0])))
    for found in _LABELLED.finditer(text):
        whole = found[1]
        while sum(c.isdigit() for c in whole) >= 6:  # a word after it may have been taken for its end
            last = whole.rpartition(" ")[2]
            if any(c.isdigit() for c in last) or len(last) == 1:
                yield found.start(1), found.start(1) + len(whole)
                break
            whole = whole.rpartition(" ")[0]


def is_spanish_id(number: str) -> bool:
    """Whether 9 characters are a DNI (12345678Z) or a NIE (X1234567L)."""
    digits = number[:-1].upper().translate(str.maketrans("XYZ", "012"))
    return digits.isdecimal() and _SPAIN_LETTERS[int(digits) % 23] == number[-1].upper()


def is_french_nir(number: str) -> bool:
    """Whether 15 characters are a French social security number."""
    month, rest = int(number[3:5]), number[:13].replace("2A", "19", 1).replace("2B", "18", 1)
    if not rest.isdecimal() or not (1 <= month <= 12 or 20 <= month <= 42 or 50 <= month <= 99):
        return False
    return 97 - int(rest) % 97 == int(number[13:])


def is_italian_code(code: str) -> bool:
    """Whether 16 characters are an Italian codice fiscale."""
    values = [ord(c) - 48 if c.isdigit() else ord(c) - 65 for c in code[:15]]
    total = sum(_ITALY_ODD[value] if place % 2 == 0 else value for place, value in enumerate(values))
    return chr(65 + total % 26) == code[15]


def is_brazilian_cpf(number: str) -> bool:
    """Whether 11 digits are a Brazilian CPF."""
    digits = [int(c) for c in number]
    checks = [sum((n + 1 - i) * digits[i] for i in range(n)) * 10 % 11 % 10 for n in (9, 10)]
    return len(set(digits)) > 1 and digits[9:] == checks


def is_aadhaar(number: str) -> bool:
    """Whether 12 digits pass Verhoeff's check (J. Verhoeff, Error detecting decimal codes, 1969)."""
    check = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit)
        for _ in range(place % 8):
            value = _VERHOEFF_PERMUTED[value]
        check = _dihedral(check, value)
    return check == 0


def _dihedral(a: int, b: int) -> int:
    """The product in the group of a pentagon's symmetries: 0-4 turn it, 5-9 turn it over as well."""
    turned = (a % 5 + (b % 5 if a < 5 else -(b % 5))) % 5
    return turned + 5 * ((a < 5) != (b < 5))


def is_korean_id(number: str) -> bool:
    """Whether 13 digits begin with a birthday."""
    century = {"1": 1900, "2": 1900, "5": 1900, "6": 1900}.get(number[6], 2000)
    try:
        date(century + int(number[:2]), int(number[2:4]), int(number[4:6]))
    except ValueError:
        return False
    return True


_PROVED = (
    (_SPAIN, is_spanish_id), (_BRITAIN, lambda _: True), (_FRANCE, is_french_nir), (_ITALY, is_italian_code),
    (_BRAZIL, is_brazilian_cpf), (_INDIA, is_aadhaar), (_KOREA, is_korean_id),
)  # fmt: skip
