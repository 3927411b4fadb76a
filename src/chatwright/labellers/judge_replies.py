"""Reads the verdict of an AI judge from the text of its reply. Strict: a reply that is not a verdict is unreadable.

A judge that explains itself names both answers, so a letter inside a sentence says nothing: "Answer B is better than
answer A" and "I choose B, because A is wrong" both end with A. A reply counts when the whole of it is one verdict.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Literal

Verdict = Literal["first", "second", "tie"]

CHOICES = ("A", "B", "TIE")
FIELD = "verdict"
"""The key of a structured reply."""
RESPONSE_FORMAT: Mapping[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": FIELD,
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {FIELD: {"type": "string", "enum": list(CHOICES)}},
            "required": [FIELD],
            "additionalProperties": False,
        },
    },
}
"""`response_format` that allows nothing but a verdict (OpenAI's structured outputs; vLLM, llama.cpp, SGLang, Ollama)."""

_NAMES = "(?:think|thinking|thought|thoughts|reason|reasoning|reflection|analysis|seed:think)"
_BLOCKS = (  # (opening, closing) of a thinking block: most open models, Mistral, Kimi
    (re.compile(rf"<{_NAMES}>", re.IGNORECASE), re.compile(rf"</{_NAMES}>", re.IGNORECASE)),
    (re.compile(r"\[THINK\]"), re.compile(r"\[/THINK\]")),
    (re.compile("◁think▷"), re.compile("◁/think▷")),
)
_CHANNEL_FINAL = re.compile(r"<\|channel\|>\s*final\s*<\|message\|>", re.IGNORECASE)  # gpt-oss
_CHANNEL_OTHER = re.compile(r"<\|channel\|>")
_SPECIAL = re.compile(r"<\|[^<>|]{1,40}\|>|</?s>|<end_of_turn>")
_FENCE = re.compile(r"^```[a-z]*\s*\n?(.*?)\s*```$", re.DOTALL | re.IGNORECASE)
_LATEX = re.compile(r"\\(?:boxed|text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")
_EDGES = " \t\r\n*_`~\"'“”‘’«»「」『』【】《》〈〉()（）[]［］{}<>$.,;:!|#。、，；：！・"

_LEAD = (
    r"(?:(?:my |the |最终|我的)?(?:final |最终)?"
    r"(?:verdict|judge?ment|answer|choice|decision|winner|result|preference|"
    r"better (?:answer|response|option)|better|preferred|response|"
    r"判断|判定|结论|结果|选择|答案|更好的(?:回答|答案)?|更优的?(?:回答|答案)?)"
    r"(?: is|是|为)?\s*[:：]?\s*)?"
)
_NOUN = (
    r"(?:(?:i (?:choose|pick|prefer) |我?选择?|我认为)?(?:the )?"
    r"(?:answer|response|reply|option|assistant|回答|答案|回复|选项|助手)?\s*)"
)
_TAIL = (
    r"(?:\s*(?:is (?:the )?(?:better|best|winner|preferred)(?: (?:one|answer|response|option))?|wins|"
    r"更好|更优|较好|较优|胜出|胜|获胜))?"
)
_BRACKETS = r"[\[\]()*_`\"' ]*"
_LETTER = re.compile(rf"{_LEAD}{_BRACKETS}{_NOUN}{_BRACKETS}(?P<letter>[ab]){_BRACKETS}{_TAIL}")
_TIE = re.compile(
    rf"{_LEAD}{_BRACKETS}(?:(?:it is |it's |it’s |they are |they're |both are |两者|两个回答|二者|双方)?(?:a |an )?"
    r"(?:tie|tied|draw|equal|equally good|equally bad|the same|"
    r"平局|平手|平|打平|一样好|一样|同样好|相同|相当|不分上下|不相上下))"
    rf"{_BRACKETS}"
)
_RELATION: Mapping[str, Verdict] = {
    "a>b": "first", "a>>b": "first", "b<a": "first", "b<<a": "first",
    "b>a": "second", "b>>a": "second", "a<b": "second", "a<<b": "second",
    "a=b": "tie", "b=a": "tie", "a==b": "tie", "b==a": "tie", "a≈b": "tie", "b≈a": "tie",
}  # fmt: skip
_MAX_CHARS = 400  # after the thinking is gone; a longer text is an essay


def read_verdict(reply: str) -> Verdict | None:
    """The verdict that a reply is; None when it is anything else, empty or unfinished.

    Accepted, after thinking blocks and special tokens are removed: A, B or TIE with punctuation, brackets, Markdown or a
    code fence around it; short forms ("Answer A", "Verdict: B", "B is better", "回答A更好", "平局"); `A>B`, `A=B`; and a
    JSON object with the key "verdict".
    """
    text = without_thinking(reply)
    if (fenced := _FENCE.match(text)) is not None:
        text = fenced.group(1).strip()
    if not text or len(text) > _MAX_CHARS:
        return None
    if text.startswith(("{", '"')):
        structured, verdict = _from_json(text)
        if structured:
            return verdict
    return _from_words(text)


def without_thinking(reply: str) -> str:
    """The reply without its thinking, closed or cut off, and without special tokens of chat templates."""
    text = reply
    finals = list(_CHANNEL_FINAL.finditer(text))
    if finals:
        text = text[finals[-1].end() :]
    elif (channel := _CHANNEL_OTHER.search(text)) is not None:
        text = text[: channel.start()]  # analysis that never reached its end
    for opening, closing in _BLOCKS:
        ends = list(closing.finditer(text))
        if ends:  # a template that opens the block in the prompt leaves a closing mark only
            text = text[ends[-1].end() :]
        if (begun := opening.search(text)) is not None:
            text = text[: begun.start()]
    return _SPECIAL.sub(" ", text).strip()


def _from_json(text: str) -> tuple[bool, Verdict | None]:
    """(whether the text is JSON, its verdict). Two verdicts that differ are none."""
    try:
        value = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return False, None
    if isinstance(value, str):
        return True, _from_words(value)
    if not isinstance(value, list):
        return True, None
    found = {
        _from_words(item) if isinstance(item, str) else None
        for name, item in value
        if isinstance(name, str) and name.strip().casefold() == FIELD
    }
    return True, found.pop() if len(found) == 1 else None


def _from_words(text: str) -> Verdict | None:
    folded = " ".join(unicodedata.normalize("NFKC", _LATEX.sub(r"\1", text)).casefold().split())
    bare = folded.strip(_EDGES)
    if (relation := _RELATION.get(bare.replace(" ", ""))) is not None:
        return relation
    if (letter := _LETTER.fullmatch(bare)) is not None:
        return "first" if letter.group("letter") == "a" else "second"
    return "tie" if _TIE.fullmatch(bare) is not None else None
