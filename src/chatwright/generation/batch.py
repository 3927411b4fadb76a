"""Continuous batching: rows of one cache that answers enter and leave while the others go on.

Live answers always stand in the first rows of the cache (a leaving row's place is taken by the last one), so a step
reads a contiguous part of it. An answer's last prompt token goes through its first decode step, what is before it
through prefill; prompts that several answers share are prefilled once, and so is what all prompts begin with.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from chatwright.errors import ModelError
from chatwright.generation.api import Completion, FinishReason, SamplingParams, TopLogprobs
from chatwright.generation.constrain import Matcher
from chatwright.generation.decoder import DecodeCache, Decoder
from chatwright.generation.prefix_cache import PrefixCache
from chatwright.generation.sampling import RowSettings, Workspace, adjusted_logits, most_likely, sample
from chatwright.generation.shapes import groups, padded, span_of
from chatwright.text.tokenizer import StreamDecoder, Tokenizer

_PREFILL_TOKENS = 1024  # of one prefill call; more does not make the matrix products faster
_PREFILL_CHUNK = 256  # columns of one call: bounds the memory of attention for long prompts
_SHRINK_FROM = 256  # columns; a smaller cache is never made smaller while answers run


@dataclass(eq=False)
class Answer:
    """One answer being written."""

    prompt_ids: tuple[int, ...]
    params: SamplingParams
    stop_ids: frozenset[int]
    limit: int
    """Most new tokens, the context counted in."""
    uniforms: Sequence[float]
    """A random number per new token."""
    decoder: StreamDecoder | None
    """Set when text is needed on the way: for stop texts and streams."""
    place: tuple[int, int] = (0, 0)
    """(prompt, sample) of the caller."""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    """What is certain so far (only with a decoder)."""
    held: str = ""
    """Text of a script's constraint after its last whole character or emoji: only certain once that is complete."""
    finish: FinishReason | None = None
    matcher: Matcher | None = None
    """Follows the constraint of `params`."""
    top_logprobs: list[TopLogprobs] = field(default_factory=list)
    drawn: Counter[int] = field(default_factory=Counter)
    """How often each token was drawn; kept when a penalty asks for it."""
    shown: int = 0
    """Characters of `text` that `take_text` has given out."""
    owner: str = ""
    """Whose entries of the prefix cache it may use, and leaves there."""
    cached: int = 0
    """Prompt tokens whose keys and values came from the prefix cache."""

    @property
    def broken(self) -> str:
        """Why the constraint could not be followed to its end; "" as a rule."""
        return self.matcher.reason if self.matcher is not None and self.matcher.broken else ""

    @property
    def final_length(self) -> int:
        """`length` if it is written to its limit."""
        return len(self.prompt_ids) + self.limit

    @property
    def length(self) -> int:
        """Tokens whose keys and values are in the cache once it is in a batch."""
        return len(self.prompt_ids) - 1 + len(self.ids)

    @property
    def last_token(self) -> int:
        """The token that goes through the model next."""
        return self.ids[-1] if self.ids else self.prompt_ids[-1]

    def take(self, token: int, logprob: float) -> None:
        """Add a drawn token and see whether it ends the answer."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        if self.params.presence_penalty or self.params.frequency_penalty:
            self.drawn[token] += 1
        if token in self.stop_ids:
            self.finish = "stop"
            return
        if self.matcher is not None:
            self.matcher.accept(token)
        if self.decoder is not None:
            self.held += self.decoder.push(token)
            if not self._in_script or (self.matcher is not None and self.matcher.complete):
                self.text, self.held = self.text + self.held, ""
            if self._cut_at_stop_text():
                self.finish = "stop"
                return
        if self.broken:
            self.finish = "length"
        elif self.matcher is not None and self.matcher.done:
            self.finish = "stop"
        elif len(self.ids) >= self.limit:
            self.finish = "length"

    @property
    def _in_script(self) -> bool:
        return self.params.constraint is not None and self.params.constraint.kind == "script"

    def adjusted(self, logits_V: torch.Tensor) -> torch.Tensor:
        """The logits the next token is drawn by."""
        mask_V = None if self.matcher is None else self.matcher.mask().to(logits_V.device)
        return adjusted_logits(logits_V, self.params, self.drawn, self.stop_ids, mask_V)

    def _cut_at_stop_text(self) -> bool:
        found = [at for at in (self.text.find(text) for text in self.params.stop) if at >= 0]
        if found:
            self.text = self.text[: min(found)]
        return bool(found)

    def settle_text(self) -> None:
        """Complete `text` once the answer has ended (incomplete characters become U+FFFD)."""
        assert self.decoder is not None
        if self.finish == "length" or self.ids[-1] in self.stop_ids or self.matcher is not None:
            rest = self.held + self.decoder.flush()
            if self.finish == "length" and self.matcher is not None:
                rest = "" if self._in_script else rest.rstrip("\ufffd")
            self.text, self.held = self.text + rest, ""
            self._cut_at_stop_text()

    def take_text(self) -> str:
        """Text that became certain since the last call (with a decoder). What could be the beginning of a stop text is held
        back until the answer has ended."""
        if self.finish is not None:
            self.settle_text()
            certain = len(self.text)
        else:
            certain = max(self.shown, len(self.text) - _held_back(self.text, self.params.stop))
        text, self.shown = self.text[self.shown : certain], certain
        return text

    def completion(self, tokenizer: Tokenizer) -> Completion:
        """The finished answer."""
        assert self.finish is not None
        if self.decoder is None:
            ended = self.ids[-1] in self.stop_ids
            text = tokenizer.decode(self.ids[:-1] if ended else self.ids)
        else:
            self.settle_text()
            text = self.text
        return Completion(
            text=text,
            ids=tuple(self.ids),
            logprobs=tuple(self.logprobs),
            finish_reason=self.finish,
            prompt_ids=self.prompt_ids,
            top_logprobs=tuple(self.top_logprobs),
        )


def _held_back(text: str, stops: Sequence[str]) -> int:
    """Characters at the end of `text` that could begin a stop text."""
    lengths = [size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])]
    return max(lengths, default=0)


class Batch:
    """At most `max_rows` answers at a time over one cache.

    With a prefix cache it serves a scheduler: its own cache then has only the rows and columns that the answers in it need,
    as one long conversation would otherwise give every row its length.
    """

    def __init__(
        self,
        decoder: Decoder,
        max_rows: int,
        prefixes: PrefixCache | None = None,
        *,
        cache_bytes: int = 2 * 2**30,
        absent: Sequence[int] = (),
    ) -> None:
        """
        Args:
            prefixes: where the keys and values of finished answers go, and those of known beginnings come from.
            cache_bytes: what `fits` keeps to.
            absent: ids that stand for no token and are never drawn.
        """
        self.decoder, self.max_rows, self.prefixes, self.cache_bytes = decoder, max_rows, prefixes, cache_bytes
        self.answers: list[Answer] = []
        self.prefill_tokens = 0
        """Tokens that went through prefill, padding not counted (the last token of a prompt goes through a step)."""
        self._prefix: tuple[int, ...] = ()
        self._cache: DecodeCache | None = None
        self._ahead: DecodeCache | None = None
        """One row: the long prompt that is being computed."""
        self._settings: RowSettings | None = None
        self._workspace = Workspace()
        self._absent_E = torch.tensor(list(absent), dtype=torch.long, device=decoder.device) if absent else None
        # A matrix product of one row may add up in another order than one of several rows (seen in fp32).
        on_cpu_fp32 = decoder.device.type == "cpu" and decoder.dtype == torch.float32
        self._least_rows = (2 if decoder.packed else 4) if on_cpu_fp32 else 1
        config = decoder.config
        numbers = 2 * config.num_layers * config.num_kv_heads * config.head_dim
        self._position_bytes = numbers * decoder.dtype.itemsize

    @property
    def free(self) -> int:
        """Rows an answer could enter."""
        return self.max_rows - len(self.answers)

    def fits(self, more: Sequence[Answer]) -> bool:
        """Whether rows and `cache_bytes` suffice for these answers too, written to their limits. One answer always fits."""
        answers = [*self.answers, *more]
        if len(answers) > self.max_rows:
            return False
        longest = span_of(max((answer.final_length for answer in answers), default=0))
        return len(answers) == 1 or self._rows_for(len(answers)) * longest * self._position_bytes <= self.cache_bytes

    @torch.inference_mode()
    def set_prefix(self, ids: Sequence[int]) -> None:
        """Prefill once what the prompts to come begin with. Only while no answer is in the batch."""
        assert not self.answers
        self._prefix = tuple(ids)
        if ids:
            self._reserve(len(ids))
            self._prefill([tuple(ids)], self._prefix_row, 0)

    @torch.inference_mode()
    def admit(self, answers: Sequence[Answer]) -> None:
        """Let answers in (at most `free`): copy what is known of their prompts, prefill the rest."""
        assert len(answers) <= self.free
        cache = self._reserve(max(answer.length for answer in answers) + 1, len(answers))
        known = {answer.prompt_ids for answer in self.answers}
        fresh: list[Answer] = []
        copies: list[Answer] = []
        for answer in answers:
            (copies if answer.prompt_ids in known else fresh).append(answer)
            known.add(answer.prompt_ids)
        if fresh and self.prefixes is not None:
            self._prefill_known(fresh, self.prefixes)
        elif fresh:
            self._prefill_new(fresh)
        sources = {answer.prompt_ids: row for row, answer in enumerate(self.answers)}
        for answer in copies:
            cache.copy_row(sources[answer.prompt_ids], len(self.answers), len(answer.prompt_ids) - 1)
            self.answers.append(answer)
        self._settings = None

    @torch.inference_mode()
    def prefill_ahead(self, answer: Answer, done: int) -> int:
        """Compute the next part of a long prompt beside the batch while others go on; returns how far it is.

        Call it with 0, then with what it returned until that is `answer.length`, then `admit_ahead`. One prompt at a time.
        """
        ids = answer.prompt_ids[:-1]
        if not done or self._ahead is None:
            self._ahead = DecodeCache(self.decoder.config, 1, self.decoder.dtype, self.decoder.device)
            self._ahead.resize(1, span_of(len(ids)))
            if self.prefixes is not None:
                done, layers = self.prefixes.longest(ids, answer.owner)
                _put(self._ahead, 0, done, layers)
                answer.cached = done
        part = ids[done : done + _PREFILL_CHUNK]
        self._prefill([part], 0, done, self._ahead)
        return done + len(part)

    @torch.inference_mode()
    def admit_ahead(self, answer: Answer) -> None:
        """Let an answer in whose prompt `prefill_ahead` has computed."""
        assert self._ahead is not None
        layers = [layer[:, 0] for layer in self._ahead.layers_2RKSC]
        _put(self._reserve(answer.length + 1, 1), len(self.answers), answer.length, layers)
        self._ahead = None
        self.answers.append(answer)
        self._settings = None

    def forget_ahead(self) -> None:
        """Give up the prompt that `prefill_ahead` was computing."""
        self._ahead = None

    @torch.inference_mode()
    def step(self) -> list[Answer]:
        """One token for every answer; returns those that ended, which have left the batch."""
        count = len(self.answers)
        rows = min(self._rows_for(count), self._prefix_row)
        cache = self._reserve(max(answer.length for answer in self.answers) + 1)
        device, idle = self.decoder.device, [0] * (rows - count)
        tokens_B = torch.tensor([a.last_token for a in self.answers] + idle, device=device)
        positions_B = torch.tensor([a.length for a in self.answers] + idle, device=device)
        logits_BV = self.decoder.step(tokens_B, positions_B, cache)[:count]
        precise = torch.float32 if device.type == "mps" else torch.float64
        uniform_B = torch.tensor([a.uniforms[len(a.ids)] for a in self.answers], dtype=precise, device=device)
        adjusted = {row: a.adjusted(logits_BV[row]) for row, a in enumerate(self.answers) if a.params.adjusts}
        drawn_B, logprob_B = sample(logits_BV, uniform_B, self._row_settings(), self._workspace, adjusted, self._absent_E)
        for row, (answer, token, logprob) in enumerate(zip(self.answers, drawn_B.tolist(), logprob_B.tolist(), strict=True)):
            if math.isnan(logprob):
                raise ModelError("the model's output is not finite (NaN or infinity); its weights are damaged")
            if answer.params.top_logprobs:
                top = most_likely(self._workspace.probs_BV[row], answer.params.top_logprobs)
                # The logarithm of one number may differ from that of many in its last bit.
                answer.top_logprobs.append(tuple((i, logprob if i == token else other) for i, other in top))
            answer.take(token, logprob)
        return self._remove_finished()

    @torch.inference_mode()
    def drop(self, answer: Answer) -> None:
        """Take an answer out before its end."""
        self._remove(self.answers.index(answer))

    # ---- rows ------------------------------------------------------------------------------------------

    def _rows_for(self, count: int) -> int:
        """Rows of a step: few different sizes, as each new one costs the matrix library a set-up."""
        sizes = (size for size in (1, 2, 4, 8) if size >= max(count, self._least_rows))
        return next(sizes, -(-count // 8) * 8)

    @property
    def _prefix_row(self) -> int:
        """The row behind all others, which keeps the common beginning."""
        return self._rows_for(self.max_rows)

    def _row_settings(self) -> RowSettings:
        if self._settings is None:
            params = [answer.params for answer in self.answers]
            self._settings = RowSettings.of(
                [p.temperature for p in params], [p.top_k for p in params], [p.top_p for p in params], self.decoder.device
            )
        return self._settings

    def _remove_finished(self) -> list[Answer]:
        done = [row for row, answer in enumerate(self.answers) if answer.finish is not None]
        return [self._remove(row) for row in reversed(done)]

    def _remove(self, row: int) -> Answer:
        assert self._cache is not None
        answer, last = self.answers[row], self.answers.pop()
        if self.prefixes is not None:
            known = (*answer.prompt_ids, *answer.ids)[: answer.length]
            layers = [layer[:, row, :, : len(known)] for layer in self._cache.layers_2RKSC]
            self.prefixes.keep(known, layers, answer.owner)
        if last is not answer:
            self._cache.copy_row(len(self.answers), row, last.length)
            self.answers[row] = last
        self._settings = None
        self._shrink()
        return answer

    # ---- memory and prefill ----------------------------------------------------------------------------

    def _reserve(self, length: int, entering: int = 0) -> DecodeCache:
        """The cache, with room for `length` positions in every row and for more answers; what is in it stays."""
        rows = self._prefix_row + 1 if self.prefixes is None else self._rows_for(len(self.answers) + entering)
        if self._cache is None:
            self._cache = DecodeCache(self.decoder.config, rows, self.decoder.dtype, self.decoder.device)
        if self._cache.columns < length or self._cache.rows < rows:
            columns = max(self._cache.columns, span_of(length))
            self._cache.resize(max(self._cache.rows, rows), columns)
        return self._cache

    def _shrink(self) -> None:
        """Give memory back, and the time that steps spend on empty columns, once the longest answers have left."""
        if self.prefixes is None or self._cache is None:
            return
        if not self.answers:
            self._cache = None
            return
        needed = span_of(max(answer.length for answer in self.answers) + 1)
        if self._cache.columns >= max(_SHRINK_FROM, 2 * needed):
            self._cache.resize(self._rows_for(len(self.answers)), needed)

    def _prefill_new(self, answers: list[Answer]) -> None:
        """Prefill answers into the rows after the live ones, those of similar length together."""
        assert self._cache is not None
        first = len(self.answers)
        start = len(self._prefix)
        if start:
            self._cache.copy_row(self._prefix_row, slice(first, first + len(answers)), start)
        suffixes = [answer.prompt_ids[start:-1] for answer in answers]
        self._prefill_groups(suffixes, first, start)
        self.answers += answers

    def _prefill_known(self, answers: list[Answer], prefixes: PrefixCache) -> None:
        """Prefill answers into the next rows after what is known of their prompts, those with equally much together."""
        assert self._cache is not None
        found = [(*prefixes.longest(answer.prompt_ids[:-1], answer.owner), answer) for answer in answers]
        found.sort(key=lambda item: (item[0], len(item[2].prompt_ids)))
        for start, items in itertools.groupby(found, key=lambda item: item[0]):
            first, suffixes = len(self.answers), []
            for _, layers, answer in items:
                _put(self._cache, len(self.answers), start, layers)
                answer.cached = start
                suffixes.append(answer.prompt_ids[start:-1])
                self.answers.append(answer)
            self._prefill_groups(suffixes, first, start)

    def _prefill_groups(self, parts: list[tuple[int, ...]], first_row: int, start: int) -> None:
        """Prefill one row after another, as many at a time as are computed well together."""
        at = 0
        for size in groups(len(parts), _PREFILL_TOKENS // padded(max(map(len, parts)) or 1)):
            self._prefill(parts[at : at + size], first_row + at, start)
            at += size

    def _prefill(self, parts: list[tuple[int, ...]], first_row: int, start: int, cache: DecodeCache | None = None) -> None:
        cache = cache or self._cache
        assert cache is not None
        longest = max(map(len, parts))
        self.prefill_tokens += sum(map(len, parts))
        if not longest:
            return
        whole, rest = divmod(longest, _PREFILL_CHUNK)
        columns = whole * _PREFILL_CHUNK + padded(rest)
        if cache.columns < span_of(start + columns):
            cache.grow(span_of(start + columns))
        tokens_BT = torch.zeros(len(parts), columns, dtype=torch.long)
        for row, part in enumerate(parts):
            tokens_BT[row, : len(part)] = torch.tensor(part, dtype=torch.long)
        for at in range(0, columns, _PREFILL_CHUNK):
            chunk_BT = tokens_BT[:, at : at + _PREFILL_CHUNK].to(self.decoder.device)
            self.decoder.prefill(chunk_BT, cache, first_row=first_row, start=start + at)


def _put(cache: DecodeCache, row: int, length: int, layers_2KTC: Sequence[torch.Tensor]) -> None:
    """Write the first `length` positions of a sequence's keys and values into a row."""
    if length:
        for layer_2RKSC, known_2KTC in zip(cache.layers_2RKSC, layers_2KTC, strict=True):
            layer_2RKSC[:, row, :, :length] = known_2KTC[:, :, :length]
