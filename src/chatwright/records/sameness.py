"""When two prompts, or two answers, count as the same: one rule for de-duplication, splits and held-out checks."""

from __future__ import annotations

import hashlib
import json
import unicodedata

from chatwright.records.messages import Conversation
from chatwright.records.ranking import Ranking


def normalised(text: str) -> str:
    """The text in NFKC, case-folded, blanks run together: width, case and blanks do not make another text."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def prompt_key(messages: Conversation) -> str:
    """Equal for conversations of the same roles and normalised texts: 16 hex digits."""
    turns = [[message.role, normalised(message.content)] for message in messages]
    return hashlib.sha256(json.dumps(turns).encode()).hexdigest()[:16]


def distinct_pairs(ranking: Ranking) -> tuple[tuple[int, int, int], ...]:
    """The pairs (i, j, relation) of a ranking (`WeakOrder.pairs`) whose answers are different texts.

    A reward model gives equal texts equal scores, so their order can neither be learned nor be got right. Blanks at either
    end make no difference; an answer that was cut is another one than the same text with its end.
    """
    texts = [(text.strip(), ended) for text, ended in zip(ranking.completions, ranking.ended, strict=True)]
    return tuple((i, j, relation) for i, j, relation in ranking.order.pairs() if texts[i] != texts[j])
