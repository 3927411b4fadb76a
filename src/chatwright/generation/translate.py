"""Translate a word with a model of `recipes/translate.toml`: its answer stays in the script of the language asked for.

The model goes on with `en apple<tab>zh` (`data.cldr_words.read_as`); the answer is one phrase in the target's script, or one
emoji (`text.scripts.phrase_regex`), found by best-first search with its probability.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Literal

from chatwright.data.cldr_words import LANGUAGES, SCRIPT_OF, Language, normal, read_as, written
from chatwright.errors import ConfigError, DataError, ModelError
from chatwright.generation.api import Constraint, SamplingParams
from chatwright.generation.cloze import about_of
from chatwright.generation.constrain import ConstraintCompiler
from chatwright.generation.lm import LM
from chatwright.generation.score import score_tokens
from chatwright.generation.translate_search import Search, merged
from chatwright.text.scripts import phrase_regex
from chatwright.text.spelled import is_phrase

RECIPE = "recipes/translate.toml"
RARER_NATS = 2.5
"""A word is unknown when the model takes it to be so much less likely, in nats, than the median of the words that it writes
itself. Words of training are about equally likely (they are as many lines each); others are far below."""
_OWN_WORDS = 48  # that the median is taken of
_SPELLINGS = 2  # token sequences looked at for every answer wanted: a text can be spelled in several


@dataclass(frozen=True, kw_only=True)
class Translation:
    """One answer."""

    text: str
    """The word, phrase or emoji."""
    probability: float
    """Of this answer among all that the target's script allows."""


class Translator:
    """Translates with one model."""

    def __init__(self, lm: LM, *, start_id: int | None = None) -> None:
        """`start_id`: what stood before a document in training (`pretrain.json`); only a bos token is put before a prompt.
        ModelError for a model that was not trained to translate."""
        self.lm = lm
        tokenizer = lm.tokenizer
        if any(len(tokenizer.encode(f"\t{language}")) != 1 for language in LANGUAGES):
            raise ModelError(f"translate: this model was not trained to translate; for one that is: chatwright run {RECIPE}")
        self._start = [start_id] if start_id is not None and start_id == tokenizer.bos_id else []
        self._search = Search(lm.model, tokenizer)
        self._compiler = ConstraintCompiler(tokenizer, lm.model.config.vocab_size)
        self._usual: dict[tuple[Language, Language], float] = {}

    @classmethod
    def open(cls, lm: LM, folder: str) -> Translator:
        """With what training wrote beside the model."""
        return cls(lm, start_id=about_of(folder).get("start_id"))

    def translate(
        self, text: str, target: Language, *, source: Language | Literal["auto"] = "auto", top: int = 5, guess: bool = False
    ) -> list[Translation]:
        """The `top` most probable translations, best first. DataError for a text that is no phrase of a language we know,
        and unless `guess` for a word that the model has not learned."""
        language = self.language_of(text, target) if source == "auto" else source
        if language == target:
            raise ConfigError(f"translate: from {language} to {target} there is nothing to do; give another --to")
        word = _checked(text, language)
        if not guess and not self.knows(word, language, target):
            raise DataError(
                f"translate: {text[:80].strip()!r} is no word that this model has learned ({language}), so an answer "
                "would be invented; --guess shows it"
            )
        prompt = self._start + self.lm.tokenizer.encode(read_as(word, language, target))
        matcher = self._compiler.matcher(Constraint(kind="regex", value=_answer_regex(target)))
        training = self.lm.model.training
        self.lm.model.eval()
        try:
            found = self._search.best(prompt, matcher, _SPELLINGS * top)
        finally:
            self.lm.model.train(training)
        answers = merged([(self.lm.tokenizer.decode(ids).strip(), logprob) for ids, logprob in found])
        return [Translation(text=answer, probability=probability) for answer, probability in answers[:top]]

    def language_of(self, text: str, target: Language) -> Language:
        """The language of a word: by its script, and between English and Spanish the one the model has seen it in rather.
        The target is none that comes into question. DataError for other scripts."""
        fitting = [one for one in LANGUAGES if one != target and is_phrase(SCRIPT_OF[one])(normal(text, one))]
        if not fitting:
            raise DataError(
                f"translate: {text[:80]!r} is neither a word in Latin or Han letters nor an emoji, or is {target} already"
            )
        if len(fitting) == 1:
            return fitting[0]
        return max(fitting, key=lambda one: self._fit(normal(text, one), one, target))

    def knows(self, word: str, language: Language, target: Language) -> bool:
        """True when a word in its `normal` form is like those of training: as likely, about, as words the model writes."""
        return self._fit(word, language, target) >= self._usual_fit(language, target) - RARER_NATS

    def _usual_fit(self, language: Language, target: Language) -> float:
        """The median of `_fit` over words that the model draws itself, in nats."""
        if (language, target) not in self._usual:
            lm = self.lm
            prompt = self._start + lm.tokenizer.encode(language)
            params = SamplingParams(max_new_tokens=16, temperature=1.0, stop=("\t",), n=_OWN_WORDS, seed=0)
            (drawn,) = lm.generator.generate([prompt], params)
            words = [normal(one.text.partition("\t")[0], language) for one in drawn]
            fits = [self._fit(word, language, target) for word in words if word]
            self._usual[language, target] = statistics.median(fits) if fits else -math.inf
        return self._usual[language, target]

    def _fit(self, word: str, language: Language, target: Language) -> float:
        """log p of a word after the name of its language, in nats."""
        num_tag = len(self.lm.tokenizer.encode(language))
        ids = self._start + self.lm.tokenizer.encode(read_as(word, language, target))
        rows = score_tokens(self.lm.model, ids)
        return sum(row[0] for row in rows[len(self._start) + num_tag :] if row is not None)


def _checked(text: str, language: Language) -> str:
    word = normal(text, language)
    if not is_phrase(SCRIPT_OF[language])(word):
        raise DataError(f"translate: {text[:80]!r} is not written in {SCRIPT_OF[language]}, as --from {language} needs it")
    return word


def _answer_regex(target: Language) -> str:
    """What the model may write after the name of the target language. `corpus build --documents line` keeps line ends, and
    an emoji and its line end may be one token: so the line ends within the answer, and the document after it."""
    return rf"{written('', target).removeprefix(target)}({phrase_regex(SCRIPT_OF[target])})\n"
