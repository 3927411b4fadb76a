"""Grammars of constraints for llguidance, and the limits under which they are compiled and followed. No torch.

The server compiles a constraint twice: first in a process that can be killed (`grammar_probe`), then in its own. Both
use this module, so what the probe finished quickly takes as long in the server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from chatwright.errors import ConfigError, ModelError
from chatwright.generation.api import Constraint
from chatwright.text.scripts import script_regex

MAX_SOURCE = 65_536  # characters of a schema, expression or grammar
MAX_INTERSECTED = 8  # patterns of one intersection: deciding whether any text fits is exponential in their number
_MAX_DEPTH = 64
_TRIED = 4  # tokens
# Below llguidance's own where its defaults allow a step of 100 ms, or hundreds of MB for one answer.
LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 500_000,
    "step_lexer_fuel": 100_000,
    "step_max_items": 10_000,
    "max_lexer_states": 25_000,
    "verbose_errors": False,
}


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Bytes of every token, as llguidance reads them."""

    pieces: tuple[bytes, ...]
    """By token id; b"" for control tokens and ids without an entry."""
    end_id: int
    """The token that ends a turn."""
    bos_id: int | None
    stop_ids: tuple[int, ...]
    """Tokens that end an answer."""

    def to_json(self) -> dict[str, Any]:
        """For another process."""
        return {**vars(self), "pieces": [piece.hex() for piece in self.pieces]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Vocabulary:
        """What `to_json` gave."""
        pieces = tuple(bytes.fromhex(piece) for piece in value["pieces"])
        return cls(**value | {"pieces": pieces, "stop_ids": tuple(value["stop_ids"])})

    def tokenizer(self, encode: Callable[[str], list[int]] | None = None) -> Any:
        """llguidance's own form of it. `encode` cuts texts that a grammar forces into tokens; without it: into bytes."""
        import llguidance

        # A first byte that no UTF-8 text holds marks control tokens.
        tokens = [piece or b"\xff<|control|>" for piece in self.pieces]
        single = {piece[0]: n for n, piece in enumerate(self.pieces) if len(piece) == 1}
        controls = [n for n, piece in enumerate(self.pieces) if not piece]

        class Wrapped:
            eos_token_id = self.end_id
            bos_token_id = self.bos_id
            special_token_ids = controls

            def __init__(self) -> None:
                self.tokens = tokens

            def __call__(self, text: str) -> list[int]:
                return (self._exact(text) if encode else None) or [single[byte] for byte in text.encode() if byte in single]

            def _exact(self, text: str) -> list[int] | None:
                """The tokenizer's own tokens of a text, without the blank that SentencePiece puts before every text."""
                assert encode is not None
                whole, after_line = encode(text), encode(f"\n{text}")
                wanted = text.encode()
                for ids in (whole, *(after_line[n:] for n in range(1, min(4, len(after_line))))):
                    if b"".join(tokens[i] for i in ids) == wanted:
                        return ids
                return None

        return llguidance.LLTokenizer(llguidance.TokenizerWrapper(Wrapped()), eos_token=list(self.stop_ids))


def check(constraint: Constraint) -> None:
    """Refuse what needs no compiler to refuse. Raises ConfigError: too long, not JSON, too deep, or a large intersection
    of patterns, which takes exponential time."""
    kind, value = constraint.kind, constraint.value
    if len(value) > MAX_SOURCE:
        raise ConfigError(f"{kind}: {len(value)} characters; at most {MAX_SOURCE} are taken")
    if kind == "json_schema":
        _check_schema(value)
    if kind == "lark":
        _check_operators(value)
        for embedded in re.finditer(r"%json\s*(?=[{])", value):
            _check_intersections(_embedded(value[embedded.end() :]))


def compile_matcher(tokenizer: Any, constraint: Constraint) -> Any:
    """llguidance's matcher at the beginning of an answer. `tokenizer`: of `Vocabulary.tokenizer`. Raises ConfigError."""
    import llguidance

    check(constraint)
    try:
        limits = llguidance.LLParserLimits(**LIMITS)
        matcher = llguidance.LLMatcher(tokenizer, source(constraint), log_level=0, limits=limits)
    except (ValueError, RuntimeError, RecursionError) as error:
        if isinstance(error, (ConfigError, ModelError)):
            raise
        raise _cannot_follow(constraint, error) from None
    if matcher.is_error():
        raise _cannot_follow(constraint, matcher.get_error())
    return matcher


def try_out(matcher: Any, constraint: Constraint, stop_ids: tuple[int, ...]) -> None:
    """Write a few tokens: a constraint that no text fulfils, or that is too complex to follow, shows at once. Uses
    `matcher` up. Raises ConfigError."""
    stops = sum(1 << token for token in stop_ids)
    for _ in range(_TRIED):
        allowed = int.from_bytes(matcher.compute_bitmask(), "little")
        if matcher.is_error():
            raise _cannot_follow(constraint, matcher.get_error())
        texts = allowed & ~stops
        if not texts:
            if not allowed and not matcher.is_accepting():
                raise _cannot_follow(constraint, "no text fulfils it")
            return
        matcher.consume_token((texts & -texts).bit_length() - 1)


def source(constraint: Constraint) -> str:
    """The constraint in llguidance's own form. Raises ConfigError."""
    from llguidance import LLMatcher

    kind, value = constraint.kind, constraint.value
    if kind == "script":
        return str(LLMatcher.grammar_from_regex(script_regex(value)))
    if kind == "regex":
        if not value:
            raise ConfigError("regex: is empty, so every answer would be")
        return str(LLMatcher.grammar_from_regex(value))
    if kind == "lark":
        return str(LLMatcher.grammar_from_lark(value))
    if kind == "choice":
        texts = _json("choice", value)
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise ConfigError('choice: give a JSON list of texts that are not empty, like ["yes", "no"]')
        # One lexeme: as a rule, each text would be an item of the parser, and thousands are too many for it.
        return str(LLMatcher.grammar_from_lark("start: TEXT\nTEXT: " + " | ".join(json.dumps(text) for text in texts)))
    schema = {"type": "object"} if kind == "json_object" else _json("json_schema", value)
    return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), {"whitespace_flexible": False}))


# ---- checks without a compiler -----------------------------------------------------------------------------


def _check_schema(text: str) -> None:
    schema = _json("json_schema", text)
    if not isinstance(schema, (dict, bool)):
        raise ConfigError("json_schema: a schema is a JSON object")
    _check_intersections(schema)


def _check_intersections(schema: Any) -> None:
    for node in _nodes(schema):
        if isinstance(node.get("allOf"), list):
            count = _count_patterns(node, schema, set())
            if count > MAX_INTERSECTED:
                raise ConfigError(
                    f"json_schema: an `allOf` joins {count} patterns, formats and lengths of strings; at most "
                    f"{MAX_INTERSECTED} are taken, as the time to compile them grows exponentially. Write one pattern."
                )


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object inside `value`."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _count_patterns(node: Any, root: Any, seen: set[str], depth: int = 0) -> int:
    """Restrictions that one string may have to fulfil together by `node` and what it refers to, each reference once."""
    if not isinstance(node, dict) or depth > _MAX_DEPTH:
        return 0
    count = ("pattern" in node) + ("format" in node) + ("minLength" in node or "maxLength" in node)
    reference = node.get("$ref")
    if isinstance(reference, str) and reference not in seen:
        seen.add(reference)
        count += _count_patterns(_resolve(reference, root), root, seen, depth + 1)
    for key, total in (("allOf", sum), ("anyOf", max), ("oneOf", max)):
        parts = node.get(key)
        if isinstance(parts, list) and parts:
            count += total([_count_patterns(part, root, seen, depth + 1) for part in parts])
    return count


def _resolve(reference: str, root: Any) -> Any:
    """What `#/$defs/name` points to; None for other kinds of references."""
    node = root
    if not reference.startswith("#"):
        return None
    for step in reference[1:].split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _check_operators(text: str) -> None:
    """Refuse grammars with many intersections (`&`) and complements (`~` that is not a repetition)."""
    outside = re.sub(r'"(?:[^"\\\n]|\\.)*+"|/(?:[^/\\\n]|\\.)++/|//[^\n]*', " ", text)
    count = len(re.findall(r"&|~(?!\s*\d)", outside))
    if count > MAX_INTERSECTED:
        raise ConfigError(
            f"lark: {count} intersections (`&`) and complements (`~`); at most {MAX_INTERSECTED} are taken, as the time to "
            "compile them grows exponentially"
        )


def _embedded(text: str) -> Any:
    """The JSON value that `text` begins with; None when it is damaged (the compiler says so)."""
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None


def _json(name: str, text: str) -> Any:
    if _depth(text) > _MAX_DEPTH:
        raise ConfigError(f"{name}: is nested more than {_MAX_DEPTH} deep")
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name}: is not JSON: {error}") from None


def _depth(text: str) -> int:
    deepest = depth = 0
    for bracket in re.findall(r"[\[{\]}]", text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _cannot_follow(constraint: Constraint, error: object) -> ConfigError:
    reason = first_line(error)
    if reason in ("NoExtension", "NoExtensionBias"):  # llguidance's names for a grammar without a next byte
        reason = "no answer satisfies it; a reference leads back to itself, or parts contradict each other"
    return ConfigError(f"{constraint.kind}: cannot be followed: {reason}")


def first_line(error: object) -> str:
    """The part of llguidance's error that fits into one message."""
    lines = str(error).replace("<non-verbose/>", "").strip().splitlines()
    return lines[0][:300].strip() if lines else "no reason was given"
