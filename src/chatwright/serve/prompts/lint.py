"""What in a prompt is likely to go wrong: rules for English and Chinese, each with an id, a reason and a suggestion.

A rule speaks up only on words that are there (two roles, two lengths, an unmarked slot) or, for what is missing, on prompts
that plainly need it: a question of one line needs neither an audience nor a format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from chatwright.errors import DataError
from chatwright.records.prompt_template import Place, PromptTemplate
from chatwright.serve.prompts import lint_words as w
from chatwright.serve.prompts.suite import Suite

Severity = Literal["error", "warning", "hint"]
MAX_WORDS = 600
MAX_CHARS = 50_000


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing a rule found."""

    rule: str
    severity: Severity
    line: int
    quote: str
    """The words it is about."""
    where: str = ""
    """The wording of a suite."""

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """For JSON and the terminal; explanation and suggestion in `en` or `zh`."""
        explanation, suggestion = w.EXPLAINED[self.rule][language]
        said = explanation.replace("{quote}", self.quote)
        return {
            "rule": self.rule, "severity": self.severity, "line": self.line, "quote": self.quote,
            "explanation": f"{self.where}: {said}" if self.where else said, "suggestion": suggestion,
        }  # fmt: skip


Rule = Callable[[str], list[Finding]]


def lint(text: str, *, values: Mapping[str, str] | None = None) -> list[Finding]:
    """Findings in a prompt, in the order of its lines. `values`: the variables that will be filled in; one without a place
    in the text, and a place without a value, are findings too."""
    text = text[:MAX_CHARS]
    if not text.strip():
        return [Finding(rule="empty", severity="error", line=1, quote="")]
    found = [finding for rule in RULES for finding in rule(text)]
    if values is not None:
        found += _variables(text, values)
    return sorted(found, key=lambda finding: (finding.line, finding.rule))


def lint_suite(suite: Suite) -> list[Finding]:
    """Findings in every wording of a suite: system message and prompt are read as one."""
    found = []
    for variant in suite.variants:
        parts = (variant.system, variant.prompt)
        text = "\n\n".join(source_of(part) for part in parts if part.parts)
        found += [
            Finding(rule=f.rule, severity=f.severity, line=f.line, quote=f.quote, where=variant.name) for f in lint(text)
        ]
    return found


def source_of(template: PromptTemplate) -> str:
    """The text that a template was read from."""
    return "".join(
        part if isinstance(part, str) else f"{{{{{part.name}{'' if part.default is None else '|' + part.default}}}}}"
        for part in template.parts
    )


def _at(text: str, rule: str, severity: Severity, match: re.Match[str]) -> Finding:
    quote = match.group().lstrip(" \t\n.!?。！？，")
    line = text.count("\n", 0, match.end() - len(quote)) + 1
    return Finding(rule=rule, severity=severity, line=line, quote=quote.strip()[:80])


def _template(text: str) -> list[Finding]:
    try:
        PromptTemplate.parse(text)
    except DataError as error:
        line = re.match(r"line (\d+)", str(error))
        return [Finding(rule="bad-variable", severity="error", line=int(line[1]) if line else 1, quote=str(error)[:200])]
    return []


def _single_braces(text: str) -> list[Finding]:
    return [_at(text, "single-brace", "warning", m) for m in w.SINGLE_BRACE.finditer(_without_code(text))]


def _without_code(text: str) -> str:
    """The text with code, quotations, tags and addresses blanked out; every character keeps its place."""
    return w.CODE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def _variables(text: str, values: Mapping[str, str]) -> list[Finding]:
    try:
        variables = PromptTemplate.parse(text).variables
    except DataError:
        return []
    found = []
    for name in values:
        if name not in variables:
            found.append(Finding(rule="unused-variable", severity="warning", line=1, quote=name))
    for name, default in variables.items():
        if default is None and name not in values:
            line = text.count("\n", 0, max(text.find("{{" + name), 0)) + 1
            found.append(Finding(rule="undefined-variable", severity="error", line=line, quote=name))
    return found


def _roles(text: str) -> list[Finding]:
    """Two different roles for the same reader: `You are a lawyer ... You are a pirate`."""
    found: dict[str, re.Match[str]] = {}
    for pattern in w.ROLE:
        for match in pattern.finditer(text):
            found.setdefault(match.group("role").strip().casefold(), match)
    matches = sorted(found.values(), key=lambda match: match.start())
    return [_at(text, "two-roles", "warning", match) for match in matches[1:]]


def _contradictions(text: str) -> list[Finding]:
    found = []
    for first, second in w.CONTRADICTIONS:
        one, other = first.search(text), second.search(text)
        if one and other:
            later = max(one, other, key=lambda match: match.start())
            found.append(_at(text, "contradiction", "warning", later))
    lengths = [(_number(m.group("n")), m) for pattern in w.EXACT_LENGTH for m in pattern.finditer(text)]
    units: dict[str, int] = {}
    for number, match in lengths:
        unit = w.UNITS.get(match.group("unit").casefold().rstrip("s"), match.group("unit"))
        if units.setdefault(unit, number) != number:
            found.append(_at(text, "contradiction", "warning", match))
    return found


def _number(text: str) -> int:
    return int(text) if text.isdigit() else w.NUMBERS.get(text.casefold(), -1)


def _length(text: str) -> list[Finding]:
    size = len(w.WORDS.findall(text))
    return [Finding(rule="too-long", severity="hint", line=1, quote=str(size))] if size > MAX_WORDS else []


def _vague(text: str) -> list[Finding]:
    return [_at(text, "vague", "hint", m) for pattern in w.VAGUE for m in list(pattern.finditer(text))[:1]]


def _missing(text: str) -> list[Finding]:
    """An audience or a format, for prompts that order a text to be written and say nothing about either."""
    order = next((m for pattern in w.WRITES for m in [pattern.search(text)] if m), None)
    if order is None:
        return []
    found = []
    if not any(pattern.search(text) for pattern in w.AUDIENCE):
        found.append(_at(text, "no-audience", "hint", order))
    if not any(pattern.search(text) for pattern in w.FORMAT):
        found.append(_at(text, "no-format", "hint", order))
    return found


def _slots(text: str) -> list[Finding]:
    """A place for other people's text that nothing sets apart from the instructions around it."""
    try:
        parts = PromptTemplate.parse(text).parts
    except DataError:
        return []
    found = []
    at = 0
    for number, part in enumerate(parts):
        source = part if isinstance(part, str) else source_of(PromptTemplate(parts=(part,)))
        if isinstance(part, Place) and w.FOREIGN.search(part.name):
            before = parts[number - 1] if number and isinstance(parts[number - 1], str) else ""
            after = parts[number + 1] if number + 1 < len(parts) and isinstance(parts[number + 1], str) else ""
            fenced = w.OPENS.search(str(before)[-200:]) and w.CLOSES.match(str(after))
            alone = not (str(before) + str(after)).strip()
            if not fenced and not alone:
                line = text.count("\n", 0, at) + 1
                found.append(Finding(rule="open-slot", severity="warning", line=line, quote=part.name))
        at += len(source)
    return found


def _languages(text: str) -> list[Finding]:
    """Instructions in two languages: lines of Chinese and lines of English, without a word about translation."""
    first: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(w.SLOT.sub(" ", _without_code(text)).split("\n"), start=1):
        if len(w.HAN.findall(line)) >= 5:
            first.setdefault("zh", (number, line))
        elif not w.HAN.search(line) and len(w.LATIN_WORD.findall(line)) >= 4:
            first.setdefault("en", (number, line))
    if len(first) < 2 or w.TRANSLATES.search(text):
        return []
    number, line = max(first.values())
    return [Finding(rule="mixed-languages", severity="hint", line=number, quote=line.strip()[:80])]


def _negative(text: str) -> list[Finding]:
    """Nothing but prohibitions: says what not to do, never what to do."""
    no = [m for pattern in w.PROHIBITS for m in pattern.finditer(text)]
    sentences = sum(bool(re.search(r"\w", part)) for part in w.SENTENCE_END.split(text))
    alone = len(no) >= 3 and len(no) >= sentences
    return [_at(text, "only-prohibitions", "hint", no[0])] if alone else []


RULES: tuple[Rule, ...] = (
    _template, _single_braces, _roles, _contradictions, _length, _vague, _missing, _slots, _languages, _negative,
)  # fmt: skip
