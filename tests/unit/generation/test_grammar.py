"""Checks of constraints before they are compiled, and the trial in a process that can be killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from chatwright.errors import ConfigError
from chatwright.generation import grammar_probe
from chatwright.generation.api import Constraint
from chatwright.generation.constrain import ConstraintCompiler
from chatwright.generation.grammar import Vocabulary, check
from chatwright.generation.grammar_probe import Probe
from hostile_constraints import HOSTILE, PATTERNS


def schema(value: Any) -> Constraint:
    return Constraint(kind="json_schema", value=json.dumps(value))


@pytest.fixture(scope="module")
def probe() -> Iterator[Probe]:
    made = Probe()
    yield made
    made.close()


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Any) -> Vocabulary:
    return ConstraintCompiler(tokenizer, tokenizer.vocab_size).vocabulary


@pytest.mark.parametrize(
    "name",
    [
        "allOf of 26 patterns",
        "allOf of 16 patterns",
        "nested allOf",
        "allOf behind references",
        "a schema inside Lark",
        "intersections in Lark",
        "complements in Lark",
    ],
)
def test_large_intersections_are_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match="grows exponentially"):
        check(HOSTILE[name])


@pytest.mark.parametrize(
    "constraint",
    [
        schema({"anyOf": PATTERNS}),
        schema({"type": "object", "properties": {f"p{n}": {"allOf": [pattern]} for n, pattern in enumerate(PATTERNS)}}),
        schema({"allOf": [{"anyOf": PATTERNS}, {"maxLength": 20}]}),
        schema({"allOf": [{"type": "object", "properties": {"a": {}}}] * 30}),
        schema({"$defs": {"t": {"allOf": [{"$ref": "#/$defs/t"}]}}, "$ref": "#/$defs/t"}),
        schema({"allOf": [{"$ref": "#/$defs/~0"}, {"$ref": 3}, {"$ref": "http://x/y"}, 4], "$defs": []}),
        Constraint(
            kind="lark", value='start: "a & b & c & d & e & f & g & h & i & j & k" | /[&~]{20}&&&&&&&&&&/ // &&&&&&&&&'
        ),
        Constraint(kind="lark", value="start: " + " ".join('"a"~1..3' for _ in range(20))),
    ],
)
def test_what_is_not_an_intersection_passes(constraint: Constraint) -> None:
    check(constraint)


def test_the_trial_ends_whatever_the_constraint(probe: Probe, vocabulary: Vocabulary) -> None:
    """Time and memory are bounded by the process: each constraint is refused with a sentence, or found safe."""
    refused = {name: probe.refusal(vocabulary, constraint) for name, constraint in HOSTILE.items()}
    slow = [name for name, refusal in refused.items() if "to compile" in refusal]
    assert {"stars", "optional letters"} <= set(slow), refused
    kinds = {name: refusal.partition(":")[0] for name, refusal in refused.items()}
    assert all(kinds[name] in ("", constraint.kind, "json_schema") for name, constraint in HOSTILE.items()), refused
    assert refused["huge enum"] == refused["many states"] == "", "large is not hostile"


def test_ordinary_constraints_pass_the_trial(probe: Probe, vocabulary: Vocabulary) -> None:
    large = {
        "type": "object",
        "properties": {f"p{n}": {"type": "string", "pattern": "^[a-z]{1,20}$", "description": "x"} for n in range(150)},
    }
    tools = {"anyOf": [{"type": "object", "properties": {"name": {"const": f"f{n}"}, "arguments": large}} for n in range(4)]}
    for constraint in (
        schema(large),
        schema(tools),
        Constraint(kind="choice", value=json.dumps([f"c{n}" for n in range(3000)])),
    ):
        assert probe.refusal(vocabulary, constraint) == ""
    assert "is empty" in probe.refusal(vocabulary, Constraint(kind="regex", value=""))


def test_a_killed_process_is_started_again(probe: Probe, vocabulary: Vocabulary) -> None:
    plain = Constraint(kind="regex", value="ab?")
    assert probe.refusal(vocabulary, plain) == ""
    assert probe._process is not None
    os.kill(probe._process.pid, signal.SIGKILL)
    assert probe.refusal(vocabulary, plain) == ""
    probe._process.terminate()
    probe._process.wait()
    assert probe.refusal(vocabulary, plain) == ""


def test_a_closed_probe_refuses(vocabulary: Vocabulary) -> None:
    closed = Probe()
    closed.close()
    assert "could not be checked" in closed.refusal(vocabulary, Constraint(kind="regex", value="a"))


def test_the_process_loads_no_torch() -> None:
    """It starts for each model and again after each kill."""
    import subprocess
    import sys

    code = "import sys, chatwright.generation.grammar_probe; print('torch' in sys.modules, 'tokenizers' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"] and grammar_probe.CPU_S <= 2
