"""Which characters a text written in a script may hold: the policy behind `--script`, as regular expressions.

A script can be guaranteed, a language cannot: Spanish and English are both Latin. The rule is the same for all scripts:
letters of the script and marks that combine with them, the digits 0-9, blanks, line ends, and punctuation (for Han, Kana
and Hangul also the full-width forms). At least one letter of the script has to come before the text may end.

`emoji` means whole emoji as Unicode's UTS #51 spells them (flags, keycaps, skin tones, families joined by ZWJ, tags), with
blanks between them and nothing else; digits alone, which `\\p{Emoji}` would take in, are no emoji.
"""

from __future__ import annotations

from chatwright.errors import ConfigError

SCRIPTS = (
    "Arabic", "Armenian", "Bengali", "Cyrillic", "Devanagari", "Ethiopic", "Georgian", "Greek", "Gujarati", "Han", "Hangul",
    "Hebrew", "Hiragana", "Kannada", "Katakana", "Khmer", "Lao", "Latin", "Malayalam", "Myanmar", "Tamil", "Telugu", "Thai",
    "Tibetan",
)  # fmt: skip
EMOJI = "emoji"
_EAST_ASIAN = {"Han", "Hangul", "Hiragana", "Katakana"}
_PUNCTUATION = r"!-/:-@\[-`{-~\u{2010}-\u{2027}¡¿«»·"
_KANA_MARKS = r"\u{3099}\u{309A}ー"
_MARKS = {
    "Arabic": r"\u{064B}-\u{0655}", "Han": "", "Hangul": "", "Hiragana": _KANA_MARKS, "Katakana": _KANA_MARKS,
}  # fmt: skip
_COMMON_MARKS = r"\u{0300}-\u{036F}"
_WIDE_PUNCTUATION = (
    r"\u{3001}-\u{3003}\u{3008}-\u{3011}\u{3014}-\u{301B}\u{30FB}\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF20}\u{FF3B}-\u{FF40}"
    r"\u{FF5B}-\u{FF65}"
)
# Skin tones and the letters of flags count as emoji by themselves for Unicode; for us they are parts.
_PARTS = r"\u{1F1E6}-\u{1F1FF}\u{1F3FB}-\u{1F3FF}"
# Extended_Pictographic alone would take in places that Unicode has only reserved.
_PICTURE = rf"([\p{{Emoji_Presentation}}--[{_PARTS}]]\u{{FE0F}}?|[\p{{Emoji}}&&\p{{Extended_Pictographic}}]\u{{FE0F}})"
_PERSON = r"(\p{Emoji_Modifier_Base}[\u{1F3FB}-\u{1F3FF}])"
_KEYCAP = r"([0-9#*]\u{FE0F}\u{20E3})"
# England, Scotland, Wales: the only tagged flags that Unicode recommends.
_TAGGED = (
    r"(\u{1F3F4}\u{E0067}\u{E0062}(\u{E0065}\u{E006E}\u{E0067}|\u{E0073}\u{E0063}\u{E0074}|\u{E0077}\u{E006C}\u{E0073})"
    r"\u{E007F})"
)
# Second letters of the flags by their first (CLDR's regions): two letters that name no region would show as letters.
_REGIONS = {
    "A": "CDEFGILMOQRSTUWXZ", "B": "ABDEFGHIJLMNOQRSTVWYZ", "C": "ACDFGHIKLMNOPRUVWXYZ", "D": "EGJKMOZ", "E": "ACEGHRSTU",
    "F": "IJKMOR", "G": "ABDEFGHILMNPQRSTUWY", "H": "KMNRTU", "I": "CDELMNOQRST", "J": "EMOP", "K": "EGHIMNPRWYZ",
    "L": "ABCIKRSTUVY", "M": "ACDEFGHKLMNOPQRSTUVWXYZ", "N": "ACEFGILOPRUZ", "O": "M", "P": "AEFGHKLMNRSTWY", "Q": "A",
    "R": "EOSUW", "S": "ABCDEGHIJKLMNORSTVXYZ", "T": "ACDFGHJKLMNORTVWZ", "U": "AGMNSYZ", "V": "ACEGINU", "W": "FS",
    "X": "K", "Y": "ET", "Z": "AMW",
}  # fmt: skip


def _flag_letter(letter: str) -> str:
    return rf"\u{{{0x1F1E6 + ord(letter) - ord('A'):X}}}"


_FLAG = (
    "(" + "|".join(f"{_flag_letter(one)}[{''.join(map(_flag_letter, others))}]" for one, others in _REGIONS.items()) + ")"
)
_SINGLE = rf"({_PERSON}|{_PICTURE})"
_SEQUENCE = rf"({_SINGLE}(\u{{200D}}{_SINGLE})*|{_FLAG}|{_KEYCAP}|{_TAGGED})"


def script_regex(names: str) -> str:
    """The regular expression (Rust syntax) of texts in scripts joined by `|`; ConfigError for an unknown one."""
    needed, allowed = _parts_of(names)
    return f"({allowed})*({needed})({allowed})*"


def beginning_regex(names: str) -> str:
    """The regular expression of texts that may stand at the beginning of one in these scripts, by whole characters and
    whole emoji; empty texts too."""
    return f"({_parts_of(names)[1]})*"


def _parts_of(names: str) -> tuple[str, str]:
    """(what a text must hold once, what it may hold)."""
    wanted = [name.strip() for name in names.split("|")]
    canonical = {name.lower(): name for name in (*SCRIPTS, EMOJI)}
    unknown = [name for name in wanted if name.lower() not in canonical]
    if unknown:
        raise ConfigError(f"script {unknown[0]!r}: is none of {', '.join((EMOJI, *SCRIPTS))}")
    scripts = [canonical[name.lower()] for name in wanted if canonical[name.lower()] != EMOJI]
    parts = []
    if scripts:
        letters, beside = _letters(scripts)
        parts.append((f"[{letters}]", rf"[{letters}{beside} \n]"))
    if len(scripts) < len(wanted):
        parts.append((_SEQUENCE, rf"({_SEQUENCE}|[ \n])"))
    return "|".join(first for first, _ in parts), "|".join(second for _, second in parts)


def phrase_regex(script: str) -> str:
    """The regular expression of one phrase in a script of `SCRIPTS`: what `script_regex` allows, in one line, with single
    blanks between its words and none around them. For `emoji`: exactly one emoji."""
    if script == EMOJI:
        return _SEQUENCE
    letters, beside = _letters([script])
    word = f"[{letters}{beside}]"
    return f"({word}+ )*{word}*[{letters}]{word}*( {word}+)*"


def _letters(scripts: list[str]) -> tuple[str, str]:
    """Insides of character classes: (letters of the scripts, what may stand beside them except white space)."""
    wide = _WIDE_PUNCTUATION if _EAST_ASIAN & set(scripts) else ""
    marks = "".join(_MARKS.get(name, _COMMON_MARKS) for name in scripts)
    return "".join(rf"\p{{{name}}}" for name in scripts), rf"{marks}0-9{_PUNCTUATION}{wide}"
