"""A corpus whose split is given (benchmarks with a fixed one), in the format of `chatwright corpus build`. No torch.

`chatwright corpus build` cleans, removes duplicates and splits by a hash of the document; here the caller has done all that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from chatwright.data.shard_writer import ShardWriter
from chatwright.data.shards import FORMAT, MANIFEST, SPLITS, TOKENIZER, VERSION, vocabulary_sha256
from chatwright.text.tokenizer import Tokenizer

_SHARD_TOKENS = 2**26


def write_corpus(
    folder: Path, tokenizer: Tokenizer, train: Iterable[str], held_out: Iterable[str], *, ends: bool = True
) -> None:
    """Write `folder`: every text as a document `[bos] tokens eos`; `ends` False: the tokens alone, for one running text."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder / TOKENIZER)
    dtype = "uint16" if tokenizer.vocab_size <= 2**16 else "uint32"
    first = [] if tokenizer.bos_id is None or not ends else [tokenizer.bos_id]
    last = [tokenizer.eos_id] if ends else []
    splits = {}
    for split, texts in zip(SPLITS, (train, held_out), strict=True):
        writer = ShardWriter(folder, split, dtype=dtype, shard_tokens=_SHARD_TOKENS)
        for text in texts:
            ids = np.array([*first, *tokenizer.encode(text), *last])
            if len(ids):
                writer.add(ids, num_bytes=len(text.encode()), num_characters=len(text))
        splits[split] = writer.finish()
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "dtype": dtype,
        "document": {"bos": tokenizer.bos_id if ends else None, "eos": tokenizer.eos_id},
        "tokenizer": {"sha256": vocabulary_sha256(tokenizer), "vocab_size": tokenizer.vocab_size},
        "splits": splits,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
