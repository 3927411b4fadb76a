"""Splits a model's answer, as it comes, into text and tool calls, for each form of calls."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from chatwright.text.tool_format import OWN, ToolFormat

_STRING = r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'
_STRING_OR_BRACKET = re.compile(rf"{_STRING}|[\[\]{{}}]", re.DOTALL)
_BETWEEN = re.compile(r"[\s;,]*")  # between two calls of a bare answer


@dataclass(frozen=True)
class ToolCall:
    """A call found in an answer."""

    id: str
    name: str
    arguments: str
    """JSON text."""


class ToolReader:
    """Splits an answer into text and calls. What could become a call is held back until that is certain."""

    def __init__(self, form: ToolFormat = OWN, names: Collection[str] = ()) -> None:
        """`names`: the functions that there are. A bare answer is a call only where it names one of them."""
        self.calls: list[ToolCall] = []
        self._form, self._names = form, frozenset(names)
        self._held, self._text_only = "", False
        self._string_or_close = re.compile(rf"{_STRING}|{re.escape(form.close)}", re.DOTALL)

    def push(self, text: str) -> tuple[str, list[ToolCall]]:
        """(text that belongs to the answer, calls that became complete)."""
        self._held += text
        bare = self._form.style == "bare"
        shown, found = self._bare() if bare else self._marked()
        self.calls += found
        return shown if bare or not self.calls else shown.strip("\n"), found

    def flush(self) -> str:
        """The text that was held back: the beginning of a call that never came to its end is text."""
        held, self._held = self._held, ""
        return "" if self.calls and not held.strip() else held

    # ---- calls after a mark ----------------------------------------------------------------------------

    def _marked(self) -> tuple[str, list[ToolCall]]:
        mark = self._form.open
        shown, found = "", list[ToolCall]()
        while self._held:
            start = self._held.find(mark)
            if start < 0:
                keep = _overlap(self._held, mark)
                shown, self._held = shown + self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
                break
            shown, self._held = shown + self._held[:start], self._held[start:]
            end, after = self._tagged_end() if self._form.style == "tags" else self._json_end(len(mark))
            if end < 0:
                break
            calls = self._calls(self._held[len(mark) : end])
            found += calls
            shown += "" if calls else self._held[:after]
            self._held = self._held[after:]
        return shown, found

    def _tagged_end(self) -> tuple[int, int]:
        """(where the JSON ends, where its closing mark ends), -1 before that has come. Inside a JSON string the mark is
        part of an argument."""
        close, start = self._form.close, len(self._form.open)
        marks = (match.start() for match in self._string_or_close.finditer(self._held, start) if match[0] == close)
        end = next(marks, -1)
        return end, end + len(close)

    def _json_end(self, start: int) -> tuple[int, int]:
        """Twice where the JSON value after `start` ends, -1 before it has. What is no list or object ends at once."""
        begin = len(self._held) - len(self._held[start:].lstrip())
        if begin == len(self._held):
            return -1, -1
        if self._held[begin] not in "[{":
            return begin, begin
        depth = 0
        for match in _STRING_OR_BRACKET.finditer(self._held, begin):
            depth += (match[0] in "[{") - (match[0] in "]}")
            if depth == 0:
                return match.end(), match.end()
        return -1, -1

    # ---- calls that are the answer ---------------------------------------------------------------------

    def _bare(self) -> tuple[str, list[ToolCall]]:
        found: list[ToolCall] = []
        while self._held and not self._text_only:
            gap = _BETWEEN.match(self._held) if self.calls or found else re.match(r"\s*", self._held)
            assert gap is not None
            start, mark = gap.end(), self._form.open
            if mark and self._held.startswith(mark, start):
                start += len(mark)
            elif mark and _overlap(self._held[start:], mark) == len(self._held) - start:
                return "", found  # only blanks, or the beginning of the mark
            end, _ = self._json_end(start)
            if end < 0:
                return "", found
            calls = self._calls(self._held[start:end])
            if not calls or any(call.name not in self._names for call in calls):
                self._text_only = True
                break
            found += calls
            self._held = self._held[end:]
        shown = ""
        if self._text_only:
            shown, self._held = self._held, ""
        return shown, found

    def _calls(self, text: str) -> list[ToolCall]:
        """The calls of a JSON text, an object or a list of objects; none where one of them is no call."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return []
        calls = [self._call(one) for one in (value if isinstance(value, list) else [value])]
        return [call for call in calls if call is not None] if None not in calls else []

    def _call(self, value: Any) -> ToolCall | None:
        if not isinstance(value, dict) or not isinstance(name := value.get("name"), str):
            return None
        keys = [key for key in (self._form.key, "arguments", "parameters") if key in value]
        if not keys and self._form.style == "bare":
            return None
        arguments = value[keys[0]] if keys else {}
        shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        call_id = secrets.token_hex(5)[:9] if self._form.short_ids else f"call_{secrets.token_hex(12)}"
        return ToolCall(call_id, name, shown)


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` that begins `mark`."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:n])), 0)
