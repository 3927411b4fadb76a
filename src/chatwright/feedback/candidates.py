"""Several answers to one question become a task to order them: regenerated ones, those side by side, those that went another
way at a token, and those to an earlier wording of the question that was close to the last.

One answer with a thumb becomes a task to rate it. What its reader thought (thumb, reasons) goes along as a note that
labellers do not see, and moves the task forward in the queue.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chatwright.feedback.tasks import Answer
from chatwright.records import MAX_K
from chatwright.records.sameness import normalised

CLOSE_WORDING = 0.6
_COMPARED_CHARS = 400  # the work grows with the square


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An answer that somebody got."""

    id: str
    """Of the message."""
    text: str
    """What was answered."""
    model: str
    """By whom."""
    model_version: str = ""
    """Content hash of the model; empty: unknown."""
    finish_reason: str = "stop"
    """stop, length, ..."""
    origin: str = "new"
    """How it came about: new, regenerate, branch (another way from a token)."""
    thumb: str = ""
    """up, down or "" (none)."""
    reasons: tuple[str, ...] = ()
    """Of the thumb."""
    comment: str = ""
    """Of the thumb; free text."""
    earlier_wording: bool = False
    """Whether it answers an earlier wording of the question."""
    picked: bool = False
    """Whether its reader went on from it."""

    def answer(self) -> Answer:
        """As a task holds it."""
        notes = {
            "origin": self.origin, "thumb": self.thumb, "reasons": list(self.reasons), "comment": self.comment,
            "earlier_wording": self.earlier_wording, "picked": self.picked,
        }  # fmt: skip
        meta = {name: value for name, value in notes.items() if value}
        return Answer(
            text=self.text, model=self.model, model_version=self.model_version, finish_reason=self.finish_reason or "stop",
            meta=meta,
        )  # fmt: skip


def kind_for(number: int) -> str:
    """The kind of task for so many answers."""
    return "rate" if number == 1 else "compare" if number == 2 else "rank"


def distinct(answers: Iterable[Answer]) -> tuple[Answer, ...]:
    """Answers that say something, each once, the last `MAX_K` of them."""
    kept: dict[str, Answer] = {}
    for answer in answers:
        if answer.text.strip():
            kept.setdefault(" ".join(answer.text.split()), answer)
    return tuple(kept.values())[-MAX_K:]


def is_set(samples: Sequence[Sample]) -> bool:
    """Whether there is anything to ask a labeller: two different answers, or a thumb."""
    return len(distinct(sample.answer() for sample in samples)) > 1 or any(sample.thumb for sample in samples)


def chosen(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples of a task: different ones, and those with a thumb before others when there are too many."""
    seen: set[str] = set()
    different = []
    for sample in sorted(samples, key=lambda sample: not sample.thumb):
        text = " ".join(sample.text.split())
        if text and text not in seen:
            seen.add(text)
            different.append(sample)
    kept = {sample.id for sample in different[:MAX_K]}
    return tuple(sample for sample in samples if sample.id in kept)


def priority_of(samples: Sequence[Sample]) -> float:
    """1 for a set; one more where a reader was not content, half for any other thumb: there the model has most to learn."""
    thumbs = {sample.thumb for sample in samples}
    return 1.0 + (1.0 if "down" in thumbs else 0.5 if "up" in thumbs else 0.0)


def digest_of(samples: Sequence[Sample]) -> str:
    """Changes when an answer or a thumb does."""
    parts = sorted([sample.id, sample.thumb, *sample.reasons, sample.comment] for sample in samples)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def close_wording(one: str, other: str) -> bool:
    """Whether two wordings ask about the same: most of their text is shared, in order."""
    first, second = normalised(one)[:_COMPARED_CHARS], normalised(other)[:_COMPARED_CHARS]
    return difflib.SequenceMatcher(None, first, second, autojunk=False).ratio() >= CLOSE_WORDING
