"""Answers restricted to a script, a schema, an expression or a grammar, by masks over the vocabulary (llguidance).

Masks work on bytes: a token that would leave half a character is only allowed where the rest can follow, and an answer
may end only where the restriction is fulfilled, so what ends by itself is valid UTF-8 and complete. Of an answer in a script
that is cut at its token limit, what follows the last whole character (or emoji) is not shown; a cut JSON text is just cut.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from functools import cached_property
from typing import Any

import torch

from chatwright.errors import ConfigError, ModelError
from chatwright.generation.api import Constraint
from chatwright.text.pieces import token_bytes
from chatwright.text.scripts import script_regex
from chatwright.text.tokenizer import Tokenizer

MAX_SOURCE = 65_536  # characters of a schema, expression or grammar
_MAX_DEPTH = 64
_CACHED = 64
_TRIED = 4  # tokens


class Matcher:
    """Where one answer stands in its constraint."""

    def __init__(self, matcher: Any, vocab_size: int, stop_ids: frozenset[int]) -> None:
        self._matcher, self._stop_ids = matcher, stop_ids
        self._bits = torch.zeros((vocab_size + 31) // 32, dtype=torch.int32)
        self._vocab_size = vocab_size
        self._shifts = torch.arange(32, dtype=torch.int32)

    def mask(self) -> torch.Tensor:
        """Tokens that may come next, bool [V]; a stop token exactly when the answer may end here."""
        self._matcher.unsafe_compute_mask_ptr(self._bits.data_ptr(), self._bits.nbytes)
        allowed_V = ((self._bits[:, None] >> self._shifts) & 1).bool().flatten()[: self._vocab_size]
        if self.broken or not bool(allowed_V.any()):
            allowed_V.zero_()
            allowed_V[torch.tensor(sorted(self._stop_ids), dtype=torch.long)] = True
        return allowed_V

    def accept(self, token: int) -> None:
        """Go on with a token that `mask` allowed."""
        self._matcher.consume_token(token)

    def copy(self) -> Matcher:
        """Another one at the same place, to go on with in another way."""
        return Matcher(self._matcher.deep_copy(), self._vocab_size, self._stop_ids)

    @property
    def done(self) -> bool:
        """Whether nothing but a stop token could follow."""
        return bool(self._matcher.is_stopped())

    @property
    def complete(self) -> bool:
        """Whether the answer could end here."""
        return bool(self._matcher.is_accepting())

    @property
    def broken(self) -> bool:
        """Whether the constraint has become too complex to follow: the answer is cut here."""
        return bool(self._matcher.is_error())


class ConstraintCompiler:
    """Turns constraints into matchers for one tokenizer. Compiled grammars are kept; safe to call from several threads."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        """`vocab_size`: width of the model's logits."""
        self.tokenizer, self.vocab_size = tokenizer, vocab_size
        self._known: OrderedDict[Constraint, Any] = OrderedDict()
        self._lock = threading.Lock()

    def matcher(self, constraint: Constraint) -> Matcher:
        """A matcher at the beginning of an answer. ConfigError when the constraint is damaged, too large or unsupported."""
        with self._lock:
            if constraint not in self._known:
                self._known[constraint] = self._compile(constraint)
                if len(self._known) > _CACHED:
                    self._known.popitem(last=False)
            self._known.move_to_end(constraint)
            return Matcher(self._known[constraint].deep_copy(), self.vocab_size, self.tokenizer.stop_ids)

    @cached_property
    def _vocabulary(self) -> Any:
        import llguidance

        pieces = token_bytes(self.tokenizer)
        pieces += [b""] * (self.vocab_size - len(pieces))
        special = [n for n, piece in enumerate(pieces) if not piece]
        # A control token is told from text by a first byte that no UTF-8 text holds.
        tokens = [piece or b"\xff<|control|>" for piece in pieces]

        class Wrapped:
            eos_token_id = self.tokenizer.end_of_turn_id
            bos_token_id = self.tokenizer.bos_id
            special_token_ids = special

            def __init__(self, tokenizer: Tokenizer) -> None:
                self.tokens, self._tokenizer = tokens, tokenizer

            def __call__(self, text: str) -> list[int]:
                return self._tokenizer.encode(text)

        wrapped = llguidance.TokenizerWrapper(Wrapped(self.tokenizer))
        return llguidance.LLTokenizer(wrapped, eos_token=sorted(self.tokenizer.stop_ids))

    def _compile(self, constraint: Constraint) -> Any:
        import llguidance

        what, value = constraint.kind, constraint.value
        if len(value) > MAX_SOURCE:
            raise ConfigError(f"{what}: {len(value)} characters; at most {MAX_SOURCE} are taken")
        try:
            matcher = llguidance.LLMatcher(self._vocabulary, _grammar(constraint), log_level=0)
        except (ValueError, RuntimeError, RecursionError) as error:
            if isinstance(error, (ConfigError, ModelError)):
                raise
            raise ConfigError(f"{what}: cannot be followed: {_first_line(error)}") from None
        if matcher.is_error():
            raise ConfigError(f"{what}: cannot be followed: {_first_line(matcher.get_error())}")
        self._try(matcher.deep_copy(), what)
        return matcher

    def _try(self, matcher: Any, what: str) -> None:
        """Write a few tokens: what nothing can fulfil, or is too complex to follow, shows at once."""
        trial = Matcher(matcher, self.vocab_size, frozenset())
        for _ in range(_TRIED):
            allowed = trial.mask().nonzero()[:, 0]
            if trial.broken or (not len(allowed) and not trial.complete):
                reason = _first_line(matcher.get_error()) if trial.broken else "no text fulfils it"
                raise ConfigError(f"{what}: cannot be followed: {reason}")
            texts = [token for token in allowed.tolist() if token not in self.tokenizer.stop_ids]
            if not texts:
                return
            trial.accept(texts[0])


def _grammar(constraint: Constraint) -> str:
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
    if not isinstance(schema, (dict, bool)):
        raise ConfigError("json_schema: a schema is a JSON object")
    return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), {"whitespace_flexible": False}))


def _json(name: str, text: str) -> Any:
    if _depth(text) > _MAX_DEPTH:
        raise ConfigError(f"{name}: is nested more than {_MAX_DEPTH} deep")
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name}: is not JSON: {error}") from None


def _depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    return deepest


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else "no reason was given"
