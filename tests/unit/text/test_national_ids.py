from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from chatwright.text import national_ids
from chatwright.text.national_ids import (
    is_aadhaar,
    is_brazilian_cpf,
    is_french_nir,
    is_italian_code,
    is_korean_id,
    is_spanish_id,
)

# Published as examples.
VALID: list[tuple[Callable[[str], bool], str, str]] = [
    (is_spanish_id, "12345678Z", "0123456789"),
    (is_spanish_id, "X1234567L", "0123456789"),
    (is_french_nir, "255081416802538", "0123456789"),
    (is_italian_code, "RSSMRA85T10A562S", "ABCDEFGHIJ"),
    (is_brazilian_cpf, "52998224725", "0123456789"),
    (is_aadhaar, "234123412346", "0123456789"),
]


@pytest.mark.parametrize(("proves", "number", "alphabet"), VALID)
def test_every_single_error_is_noticed(proves: Callable[[str], bool], number: str, alphabet: str) -> None:
    assert proves(number)
    places = [place for place, c in enumerate(number) if c.isdigit()] if alphabet[0] == "0" else [0, 1, 2, 3, 4, 5]
    for place in places:
        for digit in alphabet:
            if digit != number[place]:
                changed = number[:place] + digit + number[place + 1 :]
                assert not proves(changed), changed


def test_verhoeff_notices_neighbours_that_changed_places() -> None:
    rng = random.Random(1)
    right = [n for n in (str(rng.randrange(2 * 10**11, 10**12)) for _ in range(2000)) if is_aadhaar(n)]
    assert 150 < len(right) < 250
    for number in right:
        for place in range(11):
            swapped = number[:place] + number[place + 1] + number[place] + number[place + 2 :]
            assert swapped == number or not is_aadhaar(swapped)


def test_birthdays_and_repdigits() -> None:
    assert is_korean_id("9001011234567") and not is_korean_id("9013011234567") and not is_korean_id("0002303234567")
    assert is_korean_id("0002293234567")  # 2000 was a leap year
    assert not is_brazilian_cpf("11111111111") and not is_french_nir("255131416802538")


def test_random_numbers_seldom_pass() -> None:
    rng = random.Random(3)

    def hits(shape: Callable[[], str]) -> int:
        return sum(any(True for _ in national_ids.find(f"it is {shape()} here")) for _ in range(2000))

    digits = lambda count: "".join(rng.choice("0123456789") for _ in range(count))  # noqa: E731
    assert hits(lambda: digits(8) + rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ")) < 2000 * 0.06  # one letter of 26, by chance
    assert hits(lambda: digits(15)) < 2000 * 0.01
    assert hits(lambda: digits(12)) == 0 and hits(lambda: digits(11)) == 0 and hits(lambda: digits(9)) == 0
    assert hits(lambda: f"{digits(6)}-{digits(7)}") < 2000 * 0.05
