"""What CLDR's lists say of translations: which answers are right, and which of them is the best.

A *word* is any name of an emoji, one of several words included, in the form of `normal` (lower case, single blanks). Lists
are not aligned, so an answer is **right** when some emoji carries both: accepted(w) = union of the names of the emoji that
w names. So apple may be 苹果, and 水果 (fruit) as well. What a model should say is the **closest** of these: names that
stand with the same emoji mean the same. Closeness is Dice's coefficient of the two sets of emoji (Dice 1945, Ecology 26(3)):

    dice(w, v) = 2 |E(w) and E(v)| / (|E(w)| + |E(v)|)

Only emoji take part: of CLDR's other signs (arrows, operators) the names are no words of everyday language.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from chatwright.data.cldr import Names, plain_form
from chatwright.text.spelled import is_phrase, with_presentation

Language = Literal["en", "zh", "es", "emoji"]
LANGUAGES: tuple[Language, ...] = ("en", "zh", "es", "emoji")
SCRIPT_OF: Mapping[Language, str] = {"en": "Latin", "zh": "Han", "es": "Latin", "emoji": "emoji"}
DIRECTIONS: tuple[tuple[Language, Language], ...] = tuple((a, b) for a in LANGUAGES for b in LANGUAGES if a != b)


def normal(text: str, language: Language) -> str:
    """The form in which words are compared and read by the model; an emoji is fully qualified, if it is one."""
    text = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    if language == "emoji":
        return with_presentation(plain_form(text)) or text
    return text


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """Words of all languages and the emoji that they name."""

    emoji: Mapping[Language, Mapping[str, frozenset[str]]]
    """{language: {word: emoji}}; an emoji names itself."""
    names: Mapping[str, Mapping[Language, tuple[str, ...]]]
    """{emoji: {language: words, CLDR's short name first}}."""

    def accepted(self, word: str, source: Language, target: Language) -> frozenset[str]:
        """Right answers; none for a word that is not known."""
        found = self.emoji[source].get(word, frozenset())
        return frozenset(name for one in found for name in self.names[one][target])

    def closest(self, word: str, source: Language, target: Language) -> list[str]:
        """Right answers, the best first. Of equally close ones those first that CLDR's short names contain."""
        own = self.emoji[source].get(word, frozenset())

        def key(name: str) -> tuple[float, float, int, str]:
            other = self.emoji[target][name]
            dice = 2 * len(own & other) / (len(own) + len(other))
            shared = max(self._share(word, source, one) + self._share(name, target, one) for one in own & other)
            return -dice, -shared, len(name), name

        return sorted(self.accepted(word, source, target), key=key)

    def _share(self, word: str, language: Language, emoji: str) -> float:
        """How much of an emoji's short name a word is, 0 to 1; where it is none, a little for a short list of names."""
        names = self.names[emoji][language]
        if language == "emoji" or not names:
            return 0.0
        inside = f" {word} " in f" {names[0]} " if SCRIPT_OF[language] == "Latin" else word in names[0]
        return len(word) / len(names[0]) if inside else 0.1 / len(names)


def lexicon(names: Names, without: Iterable[str] = ()) -> Lexicon:
    """The lexicon of CLDR's names (`cldr.load`), without some emoji (fully qualified)."""
    left_out = frozenset(without)
    words: dict[str, dict[Language, tuple[str, ...]]] = {}
    index: dict[Language, dict[str, set[str]]] = {language: defaultdict(set) for language in LANGUAGES}
    for point, by_locale in names.items():
        emoji = with_presentation(point)
        if emoji is None or emoji in left_out:
            continue
        words[emoji] = {language: _words(by_locale.get(language, ()), language) for language in LANGUAGES}
        words[emoji]["emoji"] = (emoji,)
        for language, own in words[emoji].items():
            for word in own:
                index[language][word].add(emoji)
    frozen = {language: {word: frozenset(found) for word, found in own.items()} for language, own in index.items()}
    return Lexicon(emoji=frozen, names=words)


def _words(names: Iterable[str], language: Language) -> tuple[str, ...]:
    """Names that are written in the script of the language (no 10:00, no VHS in a Chinese list)."""
    if language == "emoji":
        return ()
    fits = is_phrase(SCRIPT_OF[language])
    return tuple(dict.fromkeys(word for word in (normal(name, language) for name in names) if fits(word)))


def read_as(word: str, source: Language, target: Language) -> str:
    """What a model reads when it is asked for a translation: `en apple<tab>zh`. No word holds a tab."""
    return f"{written(word, source)}\t{target}"


def written(word: str, language: Language) -> str:
    """A word after the name of its language: what a model writes, tag included. Han needs no blank, and a token less."""
    return f"{language}{'' if language == 'zh' else ' '}{word}"
