"""Constraints that were made to stop a server: exponential checks, explosions of states, deep nesting, ambiguity."""

from __future__ import annotations

import json
from typing import Any

from chatwright.generation.api import Constraint, ConstraintKind


def _schema(value: Any) -> Constraint:
    return Constraint(kind="json_schema", value=json.dumps(value))


def _text(kind: ConstraintKind, value: str) -> Constraint:
    return Constraint(kind=kind, value=value)


def pattern(number: int) -> dict[str, str]:
    """One of many patterns whose intersection has exponentially many states."""
    return {"type": "string", "pattern": f".*{chr(97 + number % 26)}.{{{5 + number}}}"}


PATTERNS = [pattern(n) for n in range(26)]
_TREE = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)} | {"a40": {"type": "string"}}
_CHAIN = {
    f"a{n}": {"type": "object", "properties": {key: {"$ref": f"#/$defs/a{n + 1}"} for key in "xy"}} for n in range(600)
} | {"a600": {"type": "string"}}
AMBIGUOUS = _text("lark", 'start: s\ns: s s | "a" | "b" | s s s')

HOSTILE = {
    # Those of the audit that found it.
    "allOf of 26 patterns": _schema({"allOf": PATTERNS}),
    "allOf of 20 patterns": _schema({"allOf": PATTERNS[:20]}),
    "allOf of 16 patterns": _schema({"allOf": PATTERNS[:16]}),
    "ambiguous grammar": AMBIGUOUS,
    # Other ways to the same check.
    "nested allOf": _schema({"allOf": [{"allOf": PATTERNS[2 * n : 2 * n + 2]} for n in range(12)]}),
    "allOf behind references": _schema(
        {
            "$defs": {f"a{n}": pattern(n) for n in range(24)},
            "allOf": [{"$ref": f"#/$defs/a{n}"} for n in range(24)],
        }
    ),
    "allOf of objects": _schema({"allOf": [{"type": "object", "properties": {"p": pattern(n)}} for n in range(24)]}),
    "a schema inside Lark": _text("lark", "start: x\nx: %json " + json.dumps({"allOf": PATTERNS})),
    "intersections in Lark": _text("lark", "start: T\nT: " + " & ".join(f"/{p['pattern']}/" for p in PATTERNS)),
    "complements in Lark": _text("lark", "start: T\nT: " + " & ".join(f"~/{p['pattern']}/" for p in PATTERNS)),
    # Other explosions.
    "references that double": _schema({"$defs": _TREE, "$ref": "#/$defs/a0"}),
    "a long chain of references": _schema({"$defs": _CHAIN, "$ref": "#/$defs/a0"}),
    "allOf of anyOf objects": _schema(
        {"allOf": [{"anyOf": [{"properties": {f"k{n}": {"const": m}}} for m in range(2)]} for n in range(20)]}
    ),
    "oneOf of patterns": _schema({"oneOf": PATTERNS}),
    "thousands of optional properties": _schema({"type": "object", "properties": {f"p{n}": {} for n in range(3500)}}),
    "patternProperties": _schema({"type": "object", "patternProperties": {p["pattern"]: {} for p in PATTERNS}}),
    "huge enum": _schema({"enum": [f"value {n}" for n in range(4000)]}),
    "nested repetitions": _schema({"type": "string", "pattern": "^(((a{1,100}){1,100}){1,100}){1,100}$"}),
    "a long string": _schema({"type": "string", "minLength": 100_000, "maxLength": 10_000_000}),
    "numbers with ranges": _schema(
        {
            "type": "array",
            "prefixItems": [{"type": "number", "minimum": n * 1.23456789, "maximum": n * 9.8} for n in range(900)],
        }
    ),
    "stars": _text("regex", ".*" * 10_000),
    "optional letters": _text("regex", "a?" * 10_000 + "a" * 10_000),
    "alternation": _text("regex", "(" + "|".join(f".*w{n}.*" for n in range(3000)) + ")"),
    "classes": _text("regex", r"([\p{L}&&[^\p{Han}]]{1,200}[\p{N}--[0-9]]?){1,200}"),
    "many states": _text("regex", "(.*a.{18}|.*b.{17}|.*c.{16}).*d.{14}"),
    "look-ahead": _text("regex", "(?=.*a)(?=.*b).{1,1000}"),
    "parentheses": _text("lark", "start: " + "(" * 30_000 + '"a"' + ")" * 30_000),
    "a chain of rules": _text(
        "lark", "start: r0\n" + "\n".join(f'r{n}: r{n + 1} | r{n + 1} "x"' for n in range(2500)) + '\nr2500: "a"'
    ),
    "lexemes that double": _text(
        "lark", "start: T0\n" + "\n".join(f"T{n}: T{n + 1} T{n + 1}" for n in range(60)) + '\nT60: "a"'
    ),
    "empty ambiguity": _text("lark", "start: a\na: b b b b b b\nb: c c c c c c\nc: d d d d d d\nd: |TX\nTX: /[a-z]/"),
}
"""By name."""
