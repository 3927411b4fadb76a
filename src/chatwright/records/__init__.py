"""What people and models say, as values: messages, prompts, demonstrations and rankings (weak orders).

One schema for every stage, in and out as JSON lines. A ranking is stored as one weak order (`D>C>A=B`), never
as pairs; letter i is `completions[i]`, never the order in which a labeller saw the answers.
"""

from chatwright.jsonl import IN_MEMORY, Where, read_jsonl, write_jsonl
from chatwright.records.kinds import Demonstration, LabelledAnswer, Prompt, Samples
from chatwright.records.load import (
    SHOWN_BAD_ROWS,
    bad_rows_error,
    load_demonstrations,
    load_prompts,
    load_rankings,
    load_rows,
)
from chatwright.records.messages import Conversation, Message, Role, ToolCall, conversation, conversation_id, user
from chatwright.records.ranking import LabellerKind, Ranking
from chatwright.records.weak_order import LETTERS, MAX_K, MIN_K, WeakOrder, letter_index

__all__ = [
    "IN_MEMORY", "LETTERS", "MAX_K", "MIN_K", "SHOWN_BAD_ROWS", "Conversation", "Demonstration", "LabelledAnswer",
    "LabellerKind", "Message", "Prompt", "Ranking", "Role", "Samples", "ToolCall", "WeakOrder", "Where", "bad_rows_error",
    "conversation",
    "conversation_id", "letter_index", "load_demonstrations", "load_prompts", "load_rankings", "load_rows",
    "read_jsonl", "user", "write_jsonl",
]  # fmt: skip
