"""Words, sentences, syllables and the Flesch-Kincaid grade of English text; sentences and Han characters of Chinese.

Pure functions without torch and without downloads (today's `textstat` fetches a corpus at run time).
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

import pyphen

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+(?:[.,]\d+)*")
_ABBREVIATION = re.compile(r"\b(Mr|Mrs|Ms|Dr|St|vs|e\.g|i\.e|etc)\.(?=\s+\w)", re.IGNORECASE)
_SENTENCE_EN = re.compile(r"[^\n]*?[.!?…]+[\"'”’)\]*]*(?=\s|$)|[^\n]+?(?=\n|$)")
_SENTENCE_ZH = re.compile(r"[^\n。！？!?…]*[。！？!?…]+[”’」』）)\"]*|[^\n。！？!?…]+")
_VOWELS = re.compile(r"[aeiouy]+")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0002fa1f]")


def words(text: str) -> list[str]:
    """Words in reading order; an apostrophe stays inside a word, a hyphen separates, a number is one word."""
    return _WORD.findall(text)


def sentences(text: str) -> list[str]:
    """Sentences with their end marks. A line break ends a sentence; the dot of "3.5" or "Dr. Fox" does not."""
    guarded = _ABBREVIATION.sub(lambda match: match.group().replace(".", "\0"), text)
    found = (match.group().strip() for match in _SENTENCE_EN.finditer(guarded))
    return [sentence.replace("\0", ".") for sentence in found if sentence]


def sentences_zh(text: str) -> list[str]:
    """Chinese sentences with their end marks 。！？… (and the ASCII ones); a line break ends a sentence."""
    found = (match.group().strip() for match in _SENTENCE_ZH.finditer(text))
    return [sentence for sentence in found if sentence]


def han_characters(text: str) -> list[str]:
    """Chinese characters in order; punctuation, digits and Latin letters are left out."""
    return _HAN.findall(text)


@cache
def _hyphenator() -> pyphen.Pyphen:
    return pyphen.Pyphen(lang="en_US")


@lru_cache(maxsize=50_000)
def syllables(word: str) -> int:
    """Syllables of an English word, at least 1.

    Hyphenation points of `pyphen` plus one. Hyphenation never splits off one letter ("away", "open", "idea"), so a
    word that it leaves whole is counted by vowel groups instead, without the silent -e, -es and -ed.
    """
    word = word.lower().replace("’", "'").split("'")[0]
    by_hyphens = len(_hyphenator().positions(word)) + 1 if word else 1
    return by_hyphens if by_hyphens > 1 else _vowel_groups(word)


def _vowel_groups(word: str) -> int:
    spoken = re.sub(r"(?<=[aeiouy])e$", "", word)  # "bee" stays one group either way, "blue" loses nothing audible
    if re.search(r"[^aeiouylr]e$|[aeiouy][lr]e$", spoken) and len(_VOWELS.findall(spoken)) > 1:
        spoken = spoken[:-1]  # silent e: "make", "whole", "fire"
    elif re.search(r"[^aeiouytd]ed$", spoken) and len(_VOWELS.findall(spoken)) > 1:
        spoken = spoken[:-2]  # "jumped", but not "needed"
    elif re.search(r"[^aeiouysxzcgh]es$", spoken) and len(_VOWELS.findall(spoken)) > 1:
        spoken = spoken[:-2]  # "makes", but not "places"
    return max(1, len(_VOWELS.findall(spoken)))


def flesch_kincaid_grade(text: str) -> float:
    """0.39 words/sentences + 11.8 syllables/words - 15.59 (Kincaid et al. 1975); text without words gives 0.0."""
    found = words(text)
    if not found:
        return 0.0
    num_sentences = max(1, sum(1 for sentence in sentences(text) if words(sentence)))
    num_syllables = sum(syllables(word) for word in found)
    return 0.39 * len(found) / num_sentences + 11.8 * num_syllables / len(found) - 15.59
