"""The generator that runs in this process: one batched KV-cache engine for sampling, PPO, evaluation and chat.

Finished answers leave and waiting ones enter, so the batch stays full. What an answer says depends on the model, the prompt,
its settings and its seed, not on its neighbours or on `max_batch`.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from chatwright.errors import ConfigError, DataError
from chatwright.generation.api import Completion, ProgressCallback, SamplingParams
from chatwright.generation.batch import Answer, Batch
from chatwright.generation.constrain import ConstraintCompiler, Matcher
from chatwright.generation.decoder import Decoder
from chatwright.generation.prefix_cache import PrefixCache
from chatwright.generation.sampling import uniforms
from chatwright.model.lora import adapters
from chatwright.model.transformer import Transformer
from chatwright.text.tokenizer import Tokenizer

_LEAST_PREFIX = 8  # a shorter common beginning is not worth a prefill of its own


class LocalGenerator:
    """Answers tokenised prompts with a model in this process.

    The model's weights are read when the first answer starts, and again when `refresh` is called or an optimiser changed
    them in place. Dropout never applies, whatever mode the model is in, and the model's mode is left alone.
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer, *, max_batch: int = 64) -> None:
        """`max_batch`: most answers written at the same time."""
        if max_batch < 1:
            raise ConfigError(f"max_batch {max_batch}: must be at least 1")
        self.model, self.tokenizer, self.max_batch = model, tokenizer, max_batch
        self.prefill_tokens = 0
        """Prompt tokens computed by the last `generate` (a shared prompt counts once)."""
        self.decode_steps = 0
        """Steps of the last `generate`."""
        self._decoder: Decoder | None = None
        self._weights: tuple[tuple[int, int], ...] = ()
        self._packing = threading.Lock()

    @functools.cached_property
    def constraints(self) -> ConstraintCompiler:
        """Compiles what answers may consist of; made when the first one asks."""
        return ConstraintCompiler(self.tokenizer, self.model.config.vocab_size)

    @functools.cached_property
    def absent_ids(self) -> tuple[int, ...]:
        """Rows of the embedding that stand for no token (vocabularies are padded to round sizes): never drawn."""
        return self.tokenizer.ids_without_token(self.model.config.vocab_size)

    def refresh(self) -> None:
        """Read the model's weights now. Needed after changes that torch does not count (writes through `.data`)."""
        first = next(self.model.parameters())
        if self._decoder is None or (self._decoder.dtype, self._decoder.device) != (first.dtype, first.device):
            self._decoder = Decoder(self.model)
        self._decoder.pack()
        self._weights = self._fingerprint()

    def release(self) -> None:
        """Give back the memory of the packed weights (a copy of the model)."""
        self._decoder, self._weights = None, ()

    def generate(
        self,
        prompts_ids: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams],
        *,
        n: int | None = None,
        seeds: Sequence[int] | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[list[Completion]]:
        """Answer every prompt `n` times (default: `params.n`).

        Args:
            prompts_ids: token ids of each prompt.
            params: settings for all prompts, or one for each.
            n: answers per prompt, instead of `params.n`.
            seeds: a seed per prompt, instead of `params.seed`. Equal prompts with equal seeds get equal answers; without
                `seeds`, the second of two equal prompts draws on.
            progress: called after every step with (tokens generated, answers finished).
        Returns:
            Completions [prompt][n], in the order of the prompts.
        Raises:
            DataError: a prompt is empty or leaves no room in the model's context.
        """
        each = [params] * len(prompts_ids) if isinstance(params, SamplingParams) else list(params)
        if len(each) != len(prompts_ids) or (seeds is not None and len(seeds) != len(prompts_ids)):
            raise ConfigError(f"generate: {len(prompts_ids)} prompts, but {len(each)} params or another number of seeds")
        if n is not None:
            each = [replace(one, n=n) for one in each]
        waiting = self._answers(prompts_ids, each, seeds)
        results: list[list[Completion | None]] = [[None] * one.n for one in each]
        if not waiting:
            return []
        batch = Batch(self._ready_decoder(), min(self.max_batch, len(waiting)), absent=self.absent_ids)
        batch.set_prefix(_common_prefix([answer.prompt_ids for answer in waiting]))
        self.decode_steps = num_tokens = num_done = 0
        for finished in self._run(batch, waiting):
            num_tokens += len(batch.answers) + len(finished)
            num_done += len(finished)
            for answer in finished:
                results[answer.place[0]][answer.place[1]] = answer.completion(self.tokenizer)
            if progress is not None:
                progress(num_tokens, num_done)
        self.prefill_tokens = batch.prefill_tokens
        return [[c for c in row if c is not None] for row in results]

    def stream(self, prompt_ids: Sequence[int], params: SamplingParams) -> Iterator[tuple[int, float, str]]:
        """One answer as it comes: (token id, log-probability in nats, text that became certain with it).

        Text that could be the beginning of a stop text is held back; the last item carries what is left. Errors as in
        `generate`; `params.n` must be 1.
        """
        if params.n != 1:
            raise ConfigError("stream: gives one answer; set n to 1")
        (answer,) = self._answers([prompt_ids], [params], None)
        answer.decoder = self.tokenizer.stream_decoder(params.shown_ids)
        batch = Batch(self._ready_decoder(), 1, absent=self.absent_ids)
        batch.admit([answer])
        while answer.finish is None:
            batch.step()
            yield answer.ids[-1], answer.logprobs[-1], answer.take_text()

    def prepare(
        self, prompt_ids: Sequence[int], params: SamplingParams, matcher: Matcher | None = None
    ) -> list[Answer]:
        """The `params.n` answers to one prompt, ready to enter a batch, with decoders for their text. Errors as in
        `generate`. `matcher`: of the constraint, when it is compiled already; else it is compiled here."""
        answers = list(self._answers([prompt_ids], [params], None, matcher))
        for answer in answers:
            answer.decoder = self.tokenizer.stream_decoder(params.shown_ids)
        return answers

    def new_batch(self, max_rows: int, prefixes: PrefixCache, *, cache_bytes: int) -> Batch:
        """An empty batch over the weights as they are now, for a scheduler that lets answers in and out itself."""
        return Batch(self._ready_decoder(), max_rows, prefixes, cache_bytes=cache_bytes, absent=self.absent_ids)

    # ---- how -------------------------------------------------------------------------------------------

    def _run(self, batch: Batch, waiting: deque[Answer]) -> Iterator[list[Answer]]:
        """Step until all is answered; yields what finished in each step."""
        # Prefill of several prompts at once is faster per prompt than one by one, so a few rows are left empty for a
        # moment.
        worthwhile = max(1, self.max_batch // 8)
        while waiting or batch.answers:
            entering = min(batch.free, len(waiting))
            if entering and (not batch.answers or entering >= min(worthwhile, len(waiting))):
                batch.admit([waiting.popleft() for _ in range(entering)])
            self.decode_steps += 1
            yield batch.step()

    def _answers(
        self,
        prompts_ids: Sequence[Sequence[int]],
        each: Sequence[SamplingParams],
        seeds: Sequence[int] | None,
        matcher: Matcher | None = None,
    ) -> deque[Answer]:
        """The answers to write, those of similar prompt length beside one another."""
        seen: Counter[tuple[int, ...]] = Counter()
        answers: list[Answer] = []
        for number, (prompt_ids, params) in enumerate(zip(prompts_ids, each, strict=True)):
            ids = tuple(prompt_ids)
            limit = self._room(ids, params, number)
            stop_ids = self.tokenizer.stop_ids if params.stop_ids is None else params.stop_ids
            first = 0 if seeds is not None else seen[ids]
            seen[ids] += params.n
            for sample in range(params.n):
                seed = params.seed if seeds is None else seeds[number]
                numbers = uniforms(seed, ids, first + sample, limit) if params.temperature > 0 else [0.0] * limit
                decoder = self.tokenizer.stream_decoder(params.shown_ids) if params.stop or params.constraint else None
                answer = Answer(ids, params, stop_ids, limit, numbers, decoder, (number, sample))
                if params.constraint is not None:
                    answer.matcher = matcher.copy() if matcher else self.constraints.matcher(params.constraint)
                answers.append(answer)
        return deque(sorted(answers, key=lambda answer: len(answer.prompt_ids)))

    def _room(self, ids: tuple[int, ...], params: SamplingParams, number: int) -> int:
        """Most new tokens for a prompt. Raises DataError when it is empty, too long, or no token of the model."""
        context, vocab = self.model.config.max_positions, self.model.config.vocab_size
        if not ids:
            raise DataError(f"prompt {number + 1} is empty: there is nothing to answer. Give it some text.")
        if len(ids) >= context:
            raise DataError(
                f"prompt {number + 1} has {len(ids)} tokens, but the model's context is {context} tokens, prompt and answer "
                "together. Shorten the prompt or take a model with a longer context."
            )
        if min(ids) < 0 or max(ids) >= vocab:
            wrong = next(i for i in ids if not 0 <= i < vocab)
            raise DataError(f"prompt {number + 1} holds token {wrong}; the model's tokens go from 0 to {vocab - 1}")
        return min(params.max_new_tokens, context - len(ids))

    def _ready_decoder(self) -> Decoder:
        with self._packing:  # two threads may ask at the same time
            if self._decoder is None or self._weights != self._fingerprint():
                self.refresh()
            assert self._decoder is not None
            return self._decoder

    def _fingerprint(self) -> tuple[tuple[int, int], ...]:
        """Changes when a parameter is replaced or written in place, or adapters are switched on or off."""
        switches = ((int(layer.enabled), -1) for _, layer in adapters(self.model))
        return (*((p.data_ptr(), p._version) for p in self.model.parameters()), *switches)


def _common_prefix(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What all prompts begin with, each one's last token left out; empty when that saves nothing."""
    if len(set(prompts)) < 2:
        return ()
    shared = os.path.commonprefix([prompt[:-1] for prompt in prompts])
    return tuple(shared) if len(shared) >= _LEAST_PREFIX else ()

