"""`chatwright cldr pairs`: from CLDR's names to text that a model learns to translate from, and questions to ask it.

An emoji is held out with all its names, so a word is **held out** when nothing but held-out emoji carries it: neither the
word nor what it means was in training. All other words are **seen**.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chatwright.data.cldr import load
from chatwright.data.cldr_words import DIRECTIONS, LANGUAGES, Language, Lexicon, lexicon, normal, written
from chatwright.data.splits import hash_of, split_by
from chatwright.errors import ConfigError
from chatwright.jsonl import IN_MEMORY, Where, read_jsonl, write_jsonl

TRAIN, SEEN, HELD_OUT, ABOUT = "train.txt", "seen.jsonl", "held-out.jsonl", "about.json"


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Make training text and questions for a translator of words out of CLDR's names (English, Chinese, Spanish, emoji)."""

    out: str
    """Folder to write to: train.txt, seen.jsonl, held-out.jsonl, about.json."""
    file: str = ""
    """The npm package's .tgz; empty: the one that `chatwright cldr fetch` put into the cache."""
    held_out: float = 0.1
    """Share of the emoji that are held out with all their names; 0: none."""
    answers: int = 1
    """Translations of each word that are trained on, the closest ones."""
    seed: int = 0
    """Another seed holds out other emoji."""

    def __post_init__(self) -> None:
        if self.answers < 1:
            raise ConfigError(f"--answers {self.answers}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Question:
    """A word to translate, and what is right."""

    text: str
    """In the form of `cldr_words.normal`."""
    source: Language
    """Language of the text."""
    target: Language
    """Language of the answer."""
    accepted: tuple[str, ...]
    """Right answers, the closest first."""

    def is_right(self, answer: str) -> bool:
        """Whether an answer is in the accepted set, in whatever case and however an emoji is spelled."""
        return normal(answer, self.target) in self.accepted

    @classmethod
    def from_dict(cls, row: Any, where: Where = IN_MEMORY) -> Question:
        """A row of a questions file; DataError for what is none."""
        if not isinstance(row, dict):
            raise where.error("row", "must be an object")
        source, target = (where.text(row.get(name), name) for name in ("source", "target"))
        for name, value in (("source", source), ("target", target)):
            if value not in LANGUAGES:
                raise where.error(name, f"must be one of {', '.join(LANGUAGES)}")
        if source == target:
            raise where.error("target", "is the language of the text")
        accepted = [where.text(one, "accepted") for one in where.list(row.get("accepted"), "accepted")]
        if not accepted:
            raise where.error("accepted", "is empty: no answer could be right")
        text = where.text(row.get("text"), "text")
        return cls(text=text, source=source, target=target, accepted=tuple(accepted))  # type: ignore[arg-type]


def load_questions(path: str | Path) -> list[Question]:
    """All questions of a file. DataError for the first bad row."""
    return [Question.from_dict(row, Where(path, number)) for number, row in read_jsonl(path)]


def main(cfg: PairsConfig) -> None:
    """Write the folder, and print what is in it."""
    names = load(file=cfg.file or None)
    whole = lexicon(names)
    _, held_out = split_by(sorted(whole.names), lambda emoji: emoji, cfg.held_out, cfg.seed)
    train = lexicon(names, without=held_out)
    lines = sorted(training_lines(train, cfg.answers), key=lambda line: hash_of(line, cfg.seed))
    seen, unseen = questions(whole, train)
    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    _write_if_changed(folder / TRAIN, "\n".join(lines) + "\n")
    write_jsonl(folder / SEEN, (asdict(one) for one in seen))
    write_jsonl(folder / HELD_OUT, (asdict(one) for one in unseen))
    about = {
        "emoji": len(whole.names), "held_out_emoji": len(held_out), "lines": len(lines), "seen": len(seen),
        "held_out": len(unseen), "words": {language: len(whole.emoji[language]) for language in LANGUAGES},
        "source": "Unicode CLDR annotations (npm cldr-annotations-full 48.2.0), licence Unicode-3.0",
    }  # fmt: skip
    (folder / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(
        f"{folder}: {len(lines):,} lines of training text; {len(seen):,} questions on seen words, {len(unseen):,} on words "
        f"of {len(held_out)} held-out emoji (of {len(whole.names):,})"
    )


def _write_if_changed(path: Path, text: str) -> None:
    """A corpus that was built from the file stays valid when the same is made again."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def training_lines(train: Lexicon, answers: int) -> Iterator[str]:
    """`en apple<tab>zh苹果` for every word and direction."""
    for source, target in DIRECTIONS:
        for word in train.emoji[source]:
            for answer in train.closest(word, source, target)[:answers]:
                yield f"{written(word, source)}\t{written(answer, target)}"


def questions(whole: Lexicon, train: Lexicon) -> tuple[list[Question], list[Question]]:
    """(on words in training, on words of held-out emoji only), every word in every direction that has an answer.

    What is right is judged by all of CLDR. A seen word without any translation in training is in neither list.
    """
    seen, held_out = [], []
    for source, target in DIRECTIONS:
        for word in sorted(whole.emoji[source]):
            accepted = tuple(whole.closest(word, source, target))
            question = Question(text=word, source=source, target=target, accepted=accepted)
            if word not in train.emoji[source]:
                if accepted:
                    held_out.append(question)
            elif train.accepted(word, source, target):
                seen.append(question)
    return seen, held_out
