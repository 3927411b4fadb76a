"""Renders chat templates of unknown origin; run as a process of its own by `jinja_sandbox`, with nothing but jinja2.

A template is a program: `{% for i in range(10**9) %}` never ends, `'a' * 10**10` takes all memory. Jinja's sandbox keeps
templates away from attributes and files; time is limited by the parent, memory by the operating system, output here.

Protocol, one JSON object per line: {"key", "source"?, "date", "jobs": [variables, ...]} gives
{"results": [{"text", "clock"} or {"error", "kind"}, ...]}. `source` is sent once per key.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MIN_OUTPUT = 1_000_000
_Compiled = tuple[jinja2.Template, list[str], list[bool]]
_TEMPLATES: dict[str, _Compiled | dict[str, str]] = {}


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}` (transformers marks answers with it) renders its body."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=lineno)


def _raise(message: object) -> None:
    raise jinja2.TemplateError(str(message))


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Plain JSON, as transformers defines the filter; Jinja's own escapes `<` and `&`."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment(strftime_now: Callable[[str], str]) -> ImmutableSandboxedEnvironment:
    """The environment in which transformers 4.57 renders chat templates, with another clock."""
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    env.filters["tojson"] = _tojson
    env.globals |= {"raise_exception": _raise, "strftime_now": strftime_now}
    return env


def _compile(source: str) -> _Compiled | dict[str, str]:
    """The template, a cell with the date that its clock shows, and a cell that says whether it was read; or the refusal of
    a template that does not compile."""
    date, read = [""], [False]

    def strftime_now(form: str) -> str:
        read[0] = True
        return datetime.fromisoformat(date[0]).strftime(form)

    try:
        return environment(strftime_now).from_string(source), date, read
    except Exception as error:  # syntax errors, and whatever a compiler of foreign text may meet
        return _refusal(error, "template")


def _render(template: jinja2.Template, variables: dict[str, Any], limit: int) -> str:
    parts: list[str] = []
    size = 0
    for part in template.generate(**variables):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise MemoryError(f"writes more than {limit:,} characters")
    return "".join(parts)


def _answer(request: dict[str, Any], limit: int) -> dict[str, Any]:
    if "source" in request:
        _TEMPLATES[request["key"]] = _compile(request["source"])
    compiled = _TEMPLATES[request["key"]]
    if isinstance(compiled, dict):
        return {"results": [compiled] * len(request["jobs"])}
    template, date, read = compiled
    date[0] = request["date"]
    results: list[dict[str, Any]] = []
    for variables in request["jobs"]:
        read[0] = False
        try:
            results.append({"text": _render(template, variables, limit), "clock": read[0]})
        except jinja2.TemplateError as error:
            kind = "refused" if type(error) is jinja2.TemplateError else "template"
            results.append(_refusal(error, kind))
        except Exception as error:  # a template can raise anything: TypeError, MemoryError, OverflowError, ...
            results.append(_refusal(error, "template"))
    return {"results": results}


def _refusal(error: Exception, kind: str) -> dict[str, str]:
    name = "" if type(error) is jinja2.TemplateError else f"{type(error).__name__}: "
    return {"error": f"{name}{error}"[:500], "kind": kind}


def _limit_memory(num_bytes: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (num_bytes, num_bytes))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    _limit_memory(int(sys.argv[1]))
    for line in sys.stdin.buffer:
        answer = _answer(json.loads(line), max(MIN_OUTPUT, 8 * len(line)))
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
