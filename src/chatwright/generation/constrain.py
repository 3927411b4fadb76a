"""Answers restricted to a script, a schema, an expression or a grammar, by masks over the vocabulary (llguidance).

Masks work on bytes: a token that would leave half a character is only allowed where the rest can follow, and an answer
may end only where the restriction is fulfilled, so what ends by itself is valid UTF-8 and complete. Of an answer in a script
that is cut at its token limit, what follows the last whole character (or emoji) is not shown; a cut JSON text is just cut.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections import OrderedDict
from functools import cached_property
from typing import Any

import torch

from chatwright.errors import ConfigError, ModelError
from chatwright.generation.api import Constraint
from chatwright.generation.grammar import Vocabulary, compile_matcher, first_line, try_out
from chatwright.text.pieces import token_bytes
from chatwright.text.tokenizer import Tokenizer

_COMPILED = 64  # constraints kept
_REFUSED = 1024
BUDGET_S = 0.25  # CPU time that an answer may spend on its masks, whatever its length ...
BUDGET_TOKEN_S = 0.005  # ... and for each of its tokens


class Matcher:
    """Where one answer stands in its constraint.

    Masks of an ambiguous grammar cost more with each token, and all answers of a server wait for them. So an answer has a
    budget of CPU time; one that exceeds it is `broken`.
    """

    def __init__(self, matcher: Any, vocab_size: int, stop_ids: frozenset[int]) -> None:
        self._matcher, self._stop_ids = matcher, stop_ids
        self._num_tokens, self._spent_s = 0, 0.0
        self._bits = torch.zeros((vocab_size + 31) // 32, dtype=torch.int32)
        self._vocab_size = vocab_size
        self._shifts = torch.arange(32, dtype=torch.int32)

    def mask(self) -> torch.Tensor:
        """Tokens that may come next, bool [V]; a stop token exactly when the answer may end here."""
        began = time.thread_time()
        self._matcher.unsafe_compute_mask_ptr(self._bits.data_ptr(), self._bits.nbytes)
        self._spent_s += time.thread_time() - began
        allowed_V = ((self._bits[:, None] >> self._shifts) & 1).bool().flatten()[: self._vocab_size]
        if self.broken or not bool(allowed_V.any()):
            allowed_V.zero_()
            allowed_V[torch.tensor(sorted(self._stop_ids), dtype=torch.long)] = True
        return allowed_V

    def accept(self, token: int) -> None:
        """Continue with a token that `mask` allowed."""
        began = time.thread_time()
        self._matcher.consume_token(token)
        self._spent_s += time.thread_time() - began
        self._num_tokens += 1

    def copy(self) -> Matcher:
        """A second matcher in the same state, to continue in another way. It has the budget of a new answer."""
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
        """Whether the constraint has become too complex to follow, or its budget is spent: the answer is cut here."""
        return bool(self._matcher.is_error()) or self._over_budget

    @property
    def reason(self) -> str:
        """Why it is broken."""
        if self._over_budget:
            return f"its masks took {self._spent_s:.1f} s of computing in {self._num_tokens} tokens; make it less ambiguous"
        return first_line(self._matcher.get_error())

    @property
    def _over_budget(self) -> bool:
        return self._spent_s > BUDGET_S + BUDGET_TOKEN_S * self._num_tokens


class ConstraintCompiler:
    """Turns constraints into matchers for one tokenizer. Keeps what it compiled and what it refused, by content; safe to
    call from several threads, none of which waits for another's constraint."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        """`vocab_size`: width of the model's logits."""
        self.tokenizer, self.vocab_size = tokenizer, vocab_size
        self._compiled: OrderedDict[bytes, Any] = OrderedDict()
        self._refused: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.Lock()

    def matcher(self, constraint: Constraint) -> Matcher:
        """A matcher at the beginning of an answer. ConfigError when the constraint is damaged, too large or unsupported."""
        known = self.known(constraint)
        if known is not None:
            return known
        try:
            compiled = compile_matcher(self._tokenizer, constraint)
            try_out(compiled.deep_copy(), constraint, tuple(self.tokenizer.stop_ids))
        except ConfigError as error:
            self.refuse(constraint, str(error))
            raise
        with self._lock:
            self._compiled[_key(constraint)] = compiled
            if len(self._compiled) > _COMPILED:
                self._compiled.popitem(last=False)
        return self._new(compiled)

    def known(self, constraint: Constraint) -> Matcher | None:
        """The matcher, if the constraint was compiled before; None if it is new. ConfigError if it was refused before."""
        key = _key(constraint)
        with self._lock:
            if key in self._refused:
                self._refused.move_to_end(key)
                raise ConfigError(self._refused[key])
            if key not in self._compiled:
                return None
            self._compiled.move_to_end(key)
            return self._new(self._compiled[key])

    def refuse(self, constraint: Constraint, message: str) -> None:
        """Keep a refusal: the same constraint gets `message` as its ConfigError from now on."""
        with self._lock:
            self._refused[_key(constraint)] = message
            if len(self._refused) > _REFUSED:
                self._refused.popitem(last=False)

    def _new(self, compiled: Any) -> Matcher:
        return Matcher(compiled.deep_copy(), self.vocab_size, self.tokenizer.stop_ids)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's tokens as bytes. ModelError for a vocabulary that is not known."""
        pieces = token_bytes(self.tokenizer)
        pieces += [b""] * (self.vocab_size - len(pieces))
        return Vocabulary(
            pieces=tuple(pieces),
            end_id=self.tokenizer.end_of_turn_id,
            bos_id=self.tokenizer.bos_id,
            stop_ids=tuple(sorted(self.tokenizer.stop_ids)),
        )

    def prepare(self) -> None:
        """Read the vocabulary now, which takes up to a second, instead of with the first constraint. Vocabularies that are
        not known stay an error of the first constraint."""
        with contextlib.suppress(ModelError):
            _ = self._tokenizer

    @cached_property
    def _tokenizer(self) -> Any:
        return self.vocabulary.tokenizer(self.tokenizer.encode)


def _key(constraint: Constraint) -> bytes:
    return hashlib.sha256(f"{constraint.kind}\0{constraint.value}".encode("utf-8", "surrogatepass")).digest()
