"""Token shards -> windows for pre-training, causal or masked.

A window is T + 1 tokens: T states, each with the token after it as its target. Which windows a step takes is a function of
(seed, step): passes over the text, each in a new order and cut at a new place, so that no pass repeats another's windows.

Shapes: B rows, T tokens, S keys (= T).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
import torch

from chatwright.data.masking import MaskConfig, Vocabulary, hide
from chatwright.errors import DataError

Objective = Literal["causal", "masked", "mixed"]


class TokenSource(Protocol):
    """One split of a built corpus (`chatwright.data.shards.Shards`)."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the split."""

    def tokens(self, start: int, stop: int) -> np.ndarray:
        """Ids [start, stop) of the whole split as one flat text."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Rows of text with the target of every place (`objectives.lm.WindowBatch`)."""

    inputs_BT: torch.Tensor
    """What the model reads, int64."""
    targets_BT: torch.Tensor
    """The token after each place, int64."""
    counted_BT: torch.Tensor | None = None
    """Places that count; None: all."""
    positions_BT: torch.Tensor | None = None
    """Places in the own document; None: in the window."""
    mask_BTS: torch.Tensor | None = None
    """Who may look at whom; None: the causal rule."""

    @property
    def num_targets(self) -> int:
        """Places that count."""
        return self.targets_BT.numel() if self.counted_BT is None else int(self.counted_BT.sum())

    @property
    def num_tokens(self) -> int:
        """Tokens that go through the model."""
        return self.inputs_BT.numel()


@dataclass(frozen=True, kw_only=True)
class WindowMaker:
    """How rows of a split become batches."""

    source: TokenSource
    context: int
    """T."""
    vocabulary: Vocabulary
    document_end: int
    """Token after which the next document begins."""
    mask_id: int | None
    """Token that stands for a hidden one; None: causal only."""
    masking: MaskConfig
    apart: bool
    """Documents of a row do not see one another."""
    seed: int
    device: torch.device

    def __post_init__(self) -> None:
        if self.source.num_tokens < self.context + 1:
            raise DataError(
                f"the corpus has {self.source.num_tokens} tokens, a window takes {self.context + 1}; "
                "give more text or a smaller --context"
            )

    @property
    def windows_in_a_pass(self) -> int:
        """Windows of one pass over the text, wherever it is cut."""
        return max((self.source.num_tokens - self.context) // self.context, 1)

    def starts(self, position: int, count: int) -> list[int]:
        """First tokens of windows `position` .. `position + count` of the endless order."""
        found = []
        for place in range(position, position + count):
            epoch, offset = divmod(place, self.windows_in_a_pass)
            shift, order = _pass(self.seed, epoch, self.windows_in_a_pass, self._room)
            found.append(shift + int(order[offset]) * self.context)
        return found

    @property
    def _room(self) -> int:
        """Places where the first window of a pass may begin."""
        return min(self.source.num_tokens - self.windows_in_a_pass * self.context, self.context)

    def rows(self, starts: list[int]) -> np.ndarray:
        """[B, T + 1] int64."""
        return np.stack([self.source.tokens(s, s + self.context + 1) for s in starts]).astype(np.int64)

    def batch(self, position: int, count: int, kind: Literal["causal", "masked"]) -> Windows:
        """Windows from `position` of the endless order on."""
        return self.make(self.rows(self.starts(position, count)), kind, position)

    def make(self, rows: np.ndarray, kind: Literal["causal", "masked"], number: int) -> Windows:
        """Rows [B, T + 1] as a batch; `number` of the first row, and those
        after it, decide what the masked objective hides."""
        targets_BT = self._tensor(rows[:, 1:])
        segments = _segments(rows[:, :-1], self.document_end) if self.apart else None
        positions_BT = None if segments is None else self._tensor(_positions(segments))
        mask_BTS = None if segments is None and kind == "causal" else self._mask(segments, kind)
        if kind == "causal":
            inputs_BT = self._tensor(rows[:, :-1])
            counted_BT = None if segments is None else self._tensor(rows[:, :-1] != self.document_end)
            return Windows(
                inputs_BT=inputs_BT,
                targets_BT=targets_BT,
                counted_BT=counted_BT,
                positions_BT=positions_BT,
                mask_BTS=mask_BTS,
            )
        parts = [self._hidden(row[None, :-1], number + n) for n, row in enumerate(rows)]
        shown, chosen = (np.concatenate(part) for part in zip(*parts, strict=True))
        counted = np.zeros_like(chosen)
        counted[:, :-1] = chosen[:, 1:]  # the state before a hidden token predicts it; nothing stands before the first
        if segments is not None:
            counted[:, :-1] &= segments[:, :-1] == segments[:, 1:]
        return Windows(
            inputs_BT=self._tensor(shown),
            targets_BT=targets_BT,
            counted_BT=self._tensor(counted),
            positions_BT=positions_BT,
            mask_BTS=mask_BTS,
        )

    def _hidden(self, row_1T: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """`hide` for one row, so that how many rows go through the model at once changes nothing."""
        assert self.mask_id is not None
        random = np.random.Generator(np.random.Philox(key=np.array([self.seed, number], dtype=np.uint64)))
        return hide(row_1T, self.vocabulary, self.mask_id, self.masking, random)

    def _mask(self, segments: np.ndarray | None, kind: str) -> torch.Tensor:
        """[B or 1, T, T] bool."""
        T = self.context
        allowed = np.ones((1, T, T), dtype=bool)
        if segments is not None:
            allowed = segments[:, :, None] == segments[:, None, :]
        return self._tensor(allowed if kind == "masked" else np.tril(allowed))

    def whole(self, kind: Literal["causal", "masked"], rows: int, max_tokens: int = 0) -> Iterator[Windows]:
        """The split once from its beginning in windows that do not overlap: every token but the first is a target (of the
        causal objective). What is left at the end is a shorter window of its own. `max_tokens` 0: all of it."""
        num = min(self.source.num_tokens - 1, max_tokens or self.source.num_tokens)
        starts = list(range(0, num // self.context * self.context, self.context))
        for at in range(0, len(starts), rows):
            yield self.make(self.rows(starts[at : at + rows]), kind, at)
        rest = num % self.context
        if rest:
            row = self.source.tokens(num - rest, num + 1)[None].astype(np.int64)
            shorter = WindowMaker(**{**vars(self), "context": rest})
            yield shorter.make(row, kind, len(starts))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


@lru_cache(maxsize=2)
def _pass(seed: int, epoch: int, num_windows: int, room: int) -> tuple[int, np.ndarray]:
    """(where the first window of a pass begins, the order of its windows)."""
    random = np.random.Generator(np.random.Philox(key=np.array([seed, (1 << 63) + epoch], dtype=np.uint64)))
    shift = int(random.integers(0, room))
    return shift, random.permutation(num_windows).astype(np.int32 if num_windows < 2**31 else np.int64)


def _segments(tokens_BT: np.ndarray, document_end: int) -> np.ndarray:
    """[B, T]: number of the document each token belongs to; the end token belongs to the one it ends."""
    return np.cumsum(tokens_BT == document_end, axis=1) - (tokens_BT == document_end)


def _positions(segments_BT: np.ndarray) -> np.ndarray:
    """[B, T]: place of each token in its document, as far as the window shows it."""
    places = np.arange(segments_BT.shape[1])[None]
    new = np.concatenate((np.zeros((len(segments_BT), 1), dtype=bool), np.diff(segments_BT, axis=1) > 0), axis=1)
    return places - np.maximum.accumulate(np.where(new, places, 0), axis=1)
