"""Vectors of texts and words from any model; with a trained head (`chatwright embed-train`) they are made for comparing.

Without a head a vector is the mean of the states after the final norm, at the model's own width: the model was trained to
continue text, so near texts are near, but a trained head does it better. Vectors have length 1, cosine is their product.

Shapes: B rows, T tokens, D width of the model, W numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F

from chatwright import hub
from chatwright.data.batches import pad_right, plan
from chatwright.data.masking import Vocabulary, pieces_of, unit_starts, vocabulary_of
from chatwright.errors import ConfigError, DataError
from chatwright.generation.score import PART, hidden_parts
from chatwright.model.formats.embedding import EmbeddingSpec, has_embedding_head, load_embedding_head
from chatwright.model.heads import EmbeddingHead
from chatwright.model.transformer import Transformer
from chatwright.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class WordVector:
    """A word where it stands in a text."""

    word: str
    vector: tuple[float, ...]


def pooled_states(model: Transformer, spec: EmbeddingSpec, tokens_BT: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
    """States after the final norm, pooled over the first `lengths_B` tokens of each row: [B, D] in fp32.

    Training and use share this. Padding is neither looked at nor pooled.
    """
    real_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)[None] < lengths_B[:, None]
    mask_BTS = real_BT[:, None].expand(-1, tokens_BT.shape[1], -1) if spec.attention == "both" else None
    hidden_BTD = model(tokens_BT, mask_BTS=mask_BTS)
    if spec.pooling == "last":
        last_BD: torch.Tensor = hidden_BTD[torch.arange(len(lengths_B), device=tokens_BT.device), lengths_B - 1]
        return last_BD.float()
    kept_BTD = hidden_BTD.float() * real_BT[:, :, None]
    return kept_BTD.sum(1) / lengths_B[:, None]


class Embedder:
    """Makes vectors with one model."""

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, head: EmbeddingHead | None = None, spec: EmbeddingSpec | None = None
    ) -> None:
        """`head` and `spec` as of `load_embedding_head`; without them the model's own states are pooled."""
        self.model, self.tokenizer, self.head = model, tokenizer, head
        self.spec = spec or EmbeddingSpec()

    @classmethod
    def of(cls, model: Transformer, tokenizer: Tokenizer, folder: str | Path | None = None) -> Embedder:
        """With the head that stands in the model's folder, if there is one. ModelError for one that does not fit."""
        if folder is None or not has_embedding_head(Path(folder)):
            return cls(model, tokenizer)
        device = model.embed.weight.device
        return cls(model, tokenizer, *load_embedding_head(Path(folder), model.config.hidden_size, device))

    @property
    def width(self) -> int:
        """Numbers of a whole vector."""
        return self.spec.dimensions[0] if self.head else self.model.config.hidden_size

    def check_dimensions(self, dimensions: int | None) -> None:
        """ConfigError for more dimensions than there are."""
        if dimensions is not None and not 1 <= dimensions <= self.width:
            raise ConfigError(
                f"dimensions {dimensions}: the model's embeddings have {self.width} numbers; ask for 1 to {self.width}, "
                "or train a wider head with `chatwright embed-train` (1536 numbers by default)"
            )

    def ids(self, text: str | Sequence[int]) -> list[int]:
        """The tokens that are read for a text (or for its tokens)."""
        ids = self.tokenizer.encode(text) if isinstance(text, str) else list(text)
        return [*ids, self.tokenizer.document_end_id] if self.spec.pooling == "last" else ids

    # ---- one text: the same vector whatever is asked beside it -----------------------------------------

    def vector(self, text: str | Sequence[int], dimensions: int | None = None) -> list[float]:
        """The unit vector of a text. ConfigError for too many `dimensions`, DataError for a text that is empty or longer
        than the context."""
        return self.joined(list(self.parts(self.ids(text))), dimensions)

    def parts(self, ids: Sequence[int], part: int = PART) -> Iterator[torch.Tensor]:
        """States [t, D] of the tokens of one text, in pieces of work between which a server can do something else."""
        if self.spec.attention == "causal":
            yield from hidden_parts(self.model, ids, part)
            return
        window = self.spec.max_tokens or self.model.config.max_positions
        for at in range(0, max(len(ids), 1), window):
            yield from hidden_parts(self.model, ids[at : at + window], window, both_sides=True)

    @torch.inference_mode()
    def joined(self, parts_TD: Sequence[torch.Tensor], dimensions: int | None = None) -> list[float]:
        """The vector of a text whose states came in parts."""
        self.check_dimensions(dimensions)
        states_TD = torch.cat([part.float() for part in parts_TD])
        return self._unit(states_TD[-1] if self.spec.pooling == "last" else states_TD.mean(0), dimensions).tolist()

    def _unit(self, pooled: torch.Tensor, dimensions: int | None) -> torch.Tensor:
        whole = self.head(pooled) if self.head else pooled
        return F.normalize(whole[..., : dimensions or self.width], dim=-1)

    @torch.inference_mode()
    def words(self, text: str, dimensions: int | None = None) -> list[WordVector]:
        """A unit vector for every word as it stands in the text: the states of its tokens, pooled by their mean and put
        through the head. Chinese characters are words, except where a token holds several. Blanks have none."""
        self.check_dimensions(dimensions)
        ids = self.tokenizer.encode(text)
        states_TD = torch.cat([part.float() for part in self.parts(ids)])
        starts = unit_starts(torch.tensor([ids]).numpy(), self._vocabulary)[0].nonzero()[0].tolist()
        found = []
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            word = b"".join(self._pieces[i] for i in ids[start:end]).decode("utf-8", "replace").strip()
            if word:
                vector = self._unit(states_TD[start:end].mean(0), dimensions)
                found.append(WordVector(word=word, vector=tuple(vector.tolist())))
        return found

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return vocabulary_of(self.tokenizer, self.model.config.vocab_size)

    @cached_property
    def _pieces(self) -> list[bytes]:
        return pieces_of(self.tokenizer)

    # ---- many texts at once ----------------------------------------------------------------------------

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str], *, max_tokens: int = 0, micro_tokens: int = 8192) -> torch.Tensor:
        """Unit vectors [len(texts), W] in fp32, many texts to a batch: `vector` up to rounding, and much faster.

        `max_tokens`: longer texts are cut; 0: at the context. DataError for a text without tokens.
        """
        rows = [self.cut(self.ids(text), max_tokens or self.model.config.max_positions) for text in texts]
        out_NW = torch.zeros(len(rows), self.width)
        for group in plan([len(row) for row in rows], micro_tokens):
            tokens_BT, lengths_B = self.batch([rows[n] for n in group])
            out_NW[group] = self._unit(pooled_states(self.model, self.spec, tokens_BT, lengths_B), None).cpu()
        return out_NW

    def cut(self, ids: list[int], max_tokens: int) -> list[int]:
        """At most so many tokens; the end-of-document token stays. DataError for none at all."""
        if not ids:
            raise DataError("an empty text has no vector; give it some text")
        return ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]] if self._ends else ids[:max_tokens]

    @property
    def _ends(self) -> bool:
        return self.spec.pooling == "last"

    def batch(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """(tokens [B, T], lengths [B]) of rows."""
        device = self.model.embed.weight.device
        lengths_B = torch.tensor([len(row) for row in rows], device=device)
        return pad_right(rows, self.tokenizer.pad_id, device), lengths_B


def load_embedder(name_or_folder: str | Path = hub.DEFAULT, dtype: str = "float32", device: str = "auto") -> Embedder:
    """The embedder of a model by name, folder or run folder. Raises HubError, ModelError, CheckpointError."""
    from chatwright.generation.lm import load

    return load(name_or_folder, dtype=dtype, device=device).embedder
