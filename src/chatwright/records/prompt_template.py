"""Prompts with places to fill in: `Translate into {{language|English}}: {{text}}`.

A value is text and nothing more: braces in it stay as they are and are never read as a place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chatwright.errors import DataError

MAX_NAME = 64
MAX_RENDERED = 1_000_000  # characters


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place to fill in."""

    name: str
    """Letters of any script, digits and `_`; it does not begin with a digit."""
    default: str | None = None
    """What stands there when no value is given; None: a value is needed."""


@dataclass(frozen=True, kw_only=True)
class PromptTemplate:
    """A text in parts: plain texts and places."""

    parts: tuple[str | Place, ...]

    @classmethod
    def parse(cls, text: str) -> PromptTemplate:
        """Read `{{name}}` and `{{name|default}}`. DataError names the line of what is neither."""
        parts: list[str | Place] = []
        at = 0
        while (start := text.find("{{", at)) >= 0:
            end = text.find("}}", start + 2)
            line = text.count("\n", 0, start) + 1
            if end < 0:
                raise DataError(f"line {line}: `{{{{` is never closed; write {{{{name}}}}")
            if start > at:
                parts.append(text[at:start])
            parts.append(_place(text[start + 2 : end], line))
            at = end + 2
        if at < len(text):
            parts.append(text[at:])
        defaults: dict[str, str] = {}
        for place in parts:
            if not isinstance(place, Place) or place.default is None:
                continue
            if defaults.setdefault(place.name, place.default) != place.default:
                raise DataError(f"{{{{{place.name}}}}}: has two different defaults; give one")
        return cls(parts=tuple(parts))

    @property
    def variables(self) -> dict[str, str | None]:
        """Names in the order of the text, each with its default."""
        found: dict[str, str | None] = {}
        for part in self.parts:
            if isinstance(part, Place):
                known = found.get(part.name)
                found[part.name] = part.default if known is None else known
        return found

    def render(self, values: Mapping[str, str]) -> str:
        """The text with every place filled in. DataError names variables without a value and values without a place."""
        variables = self.variables
        if missing := [name for name, default in variables.items() if default is None and name not in values]:
            raise DataError(f"no value for {', '.join(missing)}; fill in every variable without a default")
        if unknown := sorted(set(values) - set(variables)):
            raise DataError(f"{', '.join(unknown)}: no such variable; the text has {', '.join(variables) or 'none'}")
        filled = {name: values.get(name, default or "") for name, default in variables.items()}
        text = "".join(part if isinstance(part, str) else filled[part.name] for part in self.parts)
        if len(text) > MAX_RENDERED:
            raise DataError(f"the filled-in text has {len(text)} characters; at most {MAX_RENDERED} are allowed")
        return text


def _place(inside: str, line: int) -> Place:
    name, bar, default = inside.partition("|")
    name = name.strip()
    if not name.isidentifier() or len(name) > MAX_NAME:
        raise DataError(
            f"line {line}: {{{{{inside[:80]}}}}} is no variable: a name has letters, digits and _, at most {MAX_NAME}, "
            "and does not begin with a digit"
        )
    return Place(name=name, default=default.strip() if bar else None)
