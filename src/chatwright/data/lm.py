"""Raw text -> fixed-length blocks for the pre-training loss (ptx), documents separated by the end-of-document token.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from chatwright.data.batches import LMBatch
from chatwright.data.corpus import Document, documents, open_shards
from chatwright.data.shards import Shards, is_built
from chatwright.errors import DataError
from chatwright.text.tokenizer import Tokenizer

_ENCODE_AT_ONCE = 256


class Blocks:
    """A corpus as rows of `block_size` tokens. The last row may be shorter."""

    def __init__(self, tokens_N: torch.Tensor | Shards, block_size: int, pad_id: int) -> None:
        """`tokens_N`: the whole corpus, int32; or a built one, which stays on disk."""
        self.tokens_N = tokens_N
        self.block_size = block_size
        self.pad_id = pad_id

    def __len__(self) -> int:
        num = self.tokens_N.num_tokens if isinstance(self.tokens_N, Shards) else len(self.tokens_N)
        full, rest = divmod(num, self.block_size)
        # A row needs a token to predict and one to predict it from.
        return full + (rest > 1)

    def batch(self, indices: Sequence[int], device: torch.device | str = "cpu") -> LMBatch:
        """Rows as one batch; every real token but the first of a row is a target."""
        rows = [self._row(i * self.block_size) for i in indices]
        tokens_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad_id).to(device)
        lengths_B = torch.tensor([len(row) for row in rows], device=device)
        places_1T = torch.arange(tokens_BT.shape[1], device=device)[None]
        loss_mask_BT = (places_1T < lengths_B[:, None]) & (places_1T > 0)
        return LMBatch(tokens_BT=tokens_BT, loss_mask_BT=loss_mask_BT, lengths_B=lengths_B)

    def _row(self, start: int) -> torch.Tensor:
        if isinstance(self.tokens_N, Shards):
            stop = min(start + self.block_size, self.tokens_N.num_tokens)
            return torch.from_numpy(self.tokens_N.tokens(start, stop).astype(np.int64))
        return self.tokens_N[start : start + self.block_size].long()


def document_start(tokenizer: Tokenizer) -> list[int]:
    """Ids before every document: bos where the tokenizer puts one before text (Llama, Gemma), else nothing."""
    return [i for i in tokenizer.text_prefix_ids if i != tokenizer.document_end_id]


def load_blocks(
    paths: Sequence[str | Path], tokenizer: Tokenizer, block_size: int, *, text_field: str = "text"
) -> Blocks:
    """Tokenise files (.txt, or JSON lines with `text` or `ids`) into blocks; each document ends with
    `tokenizer.document_end_id`, and begins with bos where the tokenizer puts one before text. Or take the training part of
    a folder that `chatwright corpus build` wrote, as it is. DataError for unusable rows, ids beyond the vocabulary, another
    tokenizer, or too little text."""
    if block_size < 2:
        raise DataError(f"a block needs at least 2 tokens, not {block_size}")
    if built := [path for path in paths if is_built(path)]:
        return _built_blocks(built, paths, tokenizer, block_size)
    tokens: list[torch.Tensor] = []
    start = document_start(tokenizer)
    for ids in _encoded(documents(open_shards(paths), text_field=text_field), tokenizer):
        if max(ids) >= tokenizer.vocab_size:
            raise DataError(
                f"a replay row holds id {max(ids)}, beyond the vocabulary of {tokenizer.vocab_size}; "
                "it was made with another model"
            )
        end = [] if ids[-1] == tokenizer.document_end_id else [tokenizer.document_end_id]
        begin = [] if list(ids[: len(start)]) == start else start
        tokens.append(torch.tensor([*begin, *ids, *end], dtype=torch.int32))
    blocks = Blocks(torch.cat(tokens) if tokens else torch.zeros(0, dtype=torch.int32), block_size, tokenizer.pad_id)
    if not len(blocks):
        raise DataError(f"{', '.join(map(str, paths))}: there is no text to learn from")
    return blocks


def _built_blocks(
    built: Sequence[str | Path], paths: Sequence[str | Path], tokenizer: Tokenizer, block_size: int
) -> Blocks:
    if len(paths) > 1:
        raise DataError(f"{built[0]}: is a built corpus; give it alone, or the text files it was built from")
    shards = Shards.open(built[0])
    shards.require(tokenizer)
    blocks = Blocks(shards, block_size, tokenizer.pad_id)
    if not len(blocks):
        raise DataError(f"{built[0]}: its training part holds no text to learn from")
    return blocks


def _encoded(found: Iterator[Document], tokenizer: Tokenizer) -> Iterator[Sequence[int]]:
    while some := list(islice(found, _ENCODE_AT_ONCE)):
        texts = iter(tokenizer.encode_many(d.text for d in some if d.ids is None))
        for document in some:
            yield document.ids if document.ids is not None else next(texts)
