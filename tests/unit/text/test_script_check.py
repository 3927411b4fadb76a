from __future__ import annotations

import pytest

from chatwright.errors import ConfigError
from chatwright.text.script_check import ScriptCheck

APPLE, FAMILY = "🍎".encode(), "👩\u200d".encode()


@pytest.mark.parametrize(
    ("script", "before", "piece", "allowed"),
    [
        ("emoji", b"", b"Apple", False),
        ("emoji", b"", b" ", True),
        ("emoji", b"", " 🍎".encode(), True),
        ("emoji", b"", b"1", False),
        ("emoji", b"", "1️⃣".encode(), True),
        ("emoji", APPLE, b"It", False),
        ("emoji", APPLE[:3], APPLE[3:], True),
        ("emoji", APPLE[:2], APPLE[2:3], False),
        ("emoji", FAMILY, b" ", False),
        ("emoji", FAMILY, "🚒".encode(), True),
        ("emoji", b"", "🇩".encode(), False),
        ("emoji", "🇩".encode(), "🇪".encode(), True),
        ("emoji", APPLE * 5000, APPLE, True),
        ("emoji", APPLE * 5000, b"x", False),
        ("Han", "舟".encode(), "，".encode(), True),
        ("Han", b"", "あ".encode(), False),
        ("Hiragana|Katakana|Han", b"", "あ".encode(), True),
        ("Latin", b"a", "é".encode(), True),
        ("Latin", b"a", b"\xc3", False),
        ("Latin", b"", b"\xff", False),
        ("Latin", b"a", b"", True),
        ("Latin", b"", "舟".encode(), False),
        ("Latin", b"", b"\x00", False),
    ],
)  # fmt: skip
def test_what_may_follow(script: str, before: bytes, piece: bytes, allowed: bool) -> None:
    assert ScriptCheck(script).allows(before, piece) is allowed


def test_an_unknown_script_is_refused() -> None:
    with pytest.raises(ConfigError, match="Klingon"):
        ScriptCheck("Klingon")
