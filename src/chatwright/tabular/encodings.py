"""Bytes of a text file -> text: UTF-8, UTF-16 and UTF-32 with a byte order mark, or another encoding beyond doubt.

Text of one encoding is valid in many others, so a wrong guess turns answers into other words without an error. Beyond
doubt is
GB18030 when the commonest Chinese characters make up a large share of the file: text of a Western, Korean or Japanese
encoding,
read as GB18030, holds almost none of them. Everything else must be declared.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path

from chatwright.errors import ConfigError, DataError
from chatwright.jsonl import Where

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_LIKELY = ("cp1252", "gb18030", "big5", "shift_jis", "euc_kr", "cp1251", "cp1250", "latin-1")
# The characters that are commonest in Chinese prose of any kind, and the punctuation that goes with them.
_COMMON = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去"
    "法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实什问题答提示请回，。？！：；、“”（）"
)
_MIN_CHINESE = 12
_MIN_WIDE = 8
_PROBE_BYTES = 2**16
_MIN_COMMON_SHARE = 0.3
_COLUMN_WORDS = ("提示", "提示词", "问题", "指令", "回答", "答案", "输出", "排序", "排名")
_SHOWN_CHARACTERS = 100


def checked_encoding(name: str) -> str:
    """The name of a text encoding as given by a user; ConfigError when Python knows none of this name."""
    try:
        codecs.lookup(name)
        "".encode(name)
    except (LookupError, ValueError):
        raise ConfigError(f"encoding {name!r}: is not known; use utf-8, utf-16, {', '.join(_LIKELY)}") from None
    return name


def encoding_of(data: bytes, declared: str = "") -> str | None:
    """The encoding of a file's bytes; None: it is not UTF-8, and no other one is beyond doubt."""
    if declared:
        return "utf-8-sig" if codecs.lookup(declared).name == "utf-8" else declared
    for mark, name in _BOMS:
        if data.startswith(mark):
            return name
    if b"\0" in data[:_PROBE_BYTES] and (wide := _utf16_without_mark(data[:_PROBE_BYTES])) is not None:
        return wide  # ASCII in UTF-16 is valid UTF-8 as well, with a NUL after every sign
    if _decodes(data, "utf-8") is not None:
        return "utf-8"
    return "gb18030" if _is_chinese(data) else None


def decoded(path: str | Path, data: bytes, declared: str = "") -> tuple[str, str]:
    """(text, encoding). DataError shows the first bad line as the likeliest encodings read it."""
    name = encoding_of(data, declared)
    if name is None:
        raise undecided(path, data)
    try:
        return data.decode(name), name.removesuffix("-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError.at(
            path, line, "line", f"is not {name} at byte {error.start} of the file; name another --encoding"
        ) from None


def undecided(path: str | Path, data: bytes) -> DataError:
    """The error for a file that is not UTF-8."""
    line, number = first_bad_line(data)
    return Where(path, number).error("line", f"is not UTF-8. {readings(line)}")


def readings(line: bytes) -> str:
    """A line as the likeliest encodings read it, and what to do."""
    shown: dict[str, str] = {}
    for name in _LIKELY:
        text = _decodes(line, name)
        if text and not any(sign < " " and sign not in "\t\r\n" or "\x7f" <= sign <= "\x9f" for sign in text):
            shown.setdefault(_around_first_foreign(text), name)
    lines = [f"\n  {name:<10}{text}" for text, name in shown.items()]
    return (
        "It could be" + "".join(lines) + "\nName the right one with --encoding, or save the file as UTF-8" if lines
        else "Save it as UTF-8, or name its encoding with --encoding"
    )  # fmt: skip


def first_bad_line(data: bytes) -> tuple[bytes, int]:
    """(the first line that is not UTF-8, its number)."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        if _decodes(line, "utf-8") is None:
            return line, number
    return b"", 1


def _around_first_foreign(text: str) -> str:
    text = text.strip()
    first = next((n for n, sign in enumerate(text) if not sign.isascii()), 0)
    start = max(0, first - _SHOWN_CHARACTERS // 2)
    return ("..." if start else "") + text[start : start + _SHOWN_CHARACTERS]


def _decodes(data: bytes, name: str) -> str | None:
    try:
        return data.decode(name)
    except UnicodeDecodeError:
        return None


def _utf16_without_mark(start: bytes) -> str | None:
    """UTF-16 of Western or Chinese text, by the beginning of a file that holds NUL bytes, which no other encoding of text
    has. The end may be cut inside of a sign."""
    for name in ("utf-16-le", "utf-16-be"):
        text = start[: len(start) // 2 * 2].decode(name, "replace").rstrip("\ufffd")
        plain = len(text) >= _MIN_WIDE and not any(sign < " " and sign not in "\t\r\n\f" for sign in text)
        if plain and (sum(sign < "\u0250" for sign in text) > 0.9 * len(text) or _reads_as_chinese(text)):
            return name
    return None


def _is_chinese(data: bytes) -> bool:
    text = _decodes(data, "gb18030")
    return text is not None and _reads_as_chinese(text)


def _reads_as_chinese(text: str) -> bool:
    if any(word in _first_cells(text) for word in _COLUMN_WORDS):  # a header in our own column names
        return True
    foreign = [sign for sign in text if not sign.isascii()]
    common = sum(sign in _COMMON for sign in foreign)
    return len(foreign) >= _MIN_CHINESE and common >= _MIN_COMMON_SHARE * len(foreign)


def _first_cells(text: str) -> Sequence[str]:
    line = text.split("\n", 1)[0]
    return [cell.strip().strip('"') for cell in line.replace(";", ",").replace("\t", ",").split(",")]
