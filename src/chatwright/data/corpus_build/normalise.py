"""One spelling for what is the same text: Unicode normal form, line ends, invisible characters, blanks."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

# Controls other than tab and line end; byte order marks, soft hyphens, bidirectional overrides; not the joiners U+200C and
# U+200D, which Indic scripts and emoji need, nor variation selectors.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]"
)
_LINE_ENDS = re.compile("\r\n?|\x0c|\x85|\u2028")
_PARAGRAPH_ENDS = re.compile("\u2029")
_TRAILING = re.compile("[ \t\u00a0\u3000]+(?=\n|$)")
_BLANK_LINES = re.compile("\n{3,}")


def normalise(text: str, form: Literal["nfc", "nfkc", "none"]) -> str:
    """The text in a normal form; a second time changes nothing. `none` returns it unchanged."""
    if form == "none":
        return text
    text = _PARAGRAPH_ENDS.sub("\n\n", _LINE_ENDS.sub("\n", text))
    text = _INVISIBLE.sub("", text)
    text = unicodedata.normalize("NFKC" if form == "nfkc" else "NFC", text)
    return _BLANK_LINES.sub("\n\n", _TRAILING.sub("", text)).strip("\n")
