"""Questions to begin a chat with, such as a model can answer: what it was examined on, where its run folder has that."""

from __future__ import annotations

from pathlib import Path

from chatwright.errors import ChatwrightError
from chatwright.hub.named import NAMED
from chatwright.records import load_prompts

NUMBER = 4
_LONGEST = 160  # characters that fit on a card
_GENERIC_ENGLISH = [
    "Why is the sky blue?", "What is 3457 * 43216?", "Give me three tips for a good night's sleep.",
    "Write two sentences about the sea.",
]  # fmt: skip


def starters_of(model: str) -> list[str]:
    """Up to `NUMBER` questions for a name, folder or file; none where nothing is known of the model."""
    if model in NAMED:
        return _GENERIC_ENGLISH if NAMED[model].languages.startswith("English only") else []
    folder = Path(model).resolve()
    for chain in (folder, *folder.parents[:2]):
        # Only `teach` has an evaluation stage: the questions of a retraining were asked by users of a server.
        if (chain / "questions.jsonl").is_file() and (chain / "7-evaluation").is_dir():
            return _questions(chain / "questions.jsonl")
    return []


def _questions(path: Path) -> list[str]:
    try:
        prompts = load_prompts((str(path),))
    except ChatwrightError:
        return []
    texts = [p.messages[0].content for p in prompts if len(p.messages) == 1 and len(p.messages[0].content) <= _LONGEST]
    texts = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    step = max(1, len(texts) // NUMBER)
    return texts[::step][:NUMBER]
