"""Loss on held-out text: while pre-training, and of any model later on the corpus it grew from (what alignment costs)."""

from __future__ import annotations

import math
from typing import Literal

import torch

from chatwright.data.masking import MaskConfig, vocabulary_of
from chatwright.data.pretrain import WindowMaker
from chatwright.data.shards import Shards
from chatwright.errors import DataError
from chatwright.model.transformer import Transformer
from chatwright.objectives.lm import window_nll
from chatwright.text.tokenizer import Tokenizer

_MICRO_TOKENS = 8192


@torch.no_grad()
def held_out_loss(
    model: Transformer, windows: WindowMaker, kind: Literal["causal", "masked"], rows: int, max_tokens: int
) -> dict[str, float]:
    """Mean loss in nats per token, and for the causal objective bits per byte and per character of the text.

    Every token's cost counts, document ends included; bytes and characters are those of the text itself.
    """
    nats, count, num_bytes, num_characters = 0.0, 0, 0, 0
    was_training = model.training
    model.eval()
    for batch in windows.whole(kind, rows, max_tokens):
        if not batch.num_targets:
            continue
        nats += float(window_nll(model, batch)[0])
        targets = (batch.targets_BT if batch.counted_BT is None else batch.targets_BT[batch.counted_BT]).cpu().numpy()
        count += targets.size
        num_bytes += int(windows.vocabulary.num_bytes_V[targets].sum())
        num_characters += int(windows.vocabulary.num_characters_V[targets].sum())
    model.train(was_training)
    found = {"loss": nats / max(count, 1)}
    if kind == "causal":
        bits = nats / math.log(2)
        found |= {"bits_per_byte": bits / max(num_bytes, 1), "bits_per_character": bits / max(num_characters, 1)}
    return found


def held_out_text(corpus: str) -> Shards:
    """The held-out part of a built corpus; DataError when there is none, or too little to measure on."""
    shards = Shards.open(corpus, "held_out")
    if shards.num_tokens < 2:
        raise DataError(f"{corpus}: holds no text that was kept aside; build it with a --split.share above 0")
    return shards


def bits_per_byte(model: Transformer, tokenizer: Tokenizer, corpus: str) -> float:
    """Of the corpus's held-out part, in windows of the longest text the model can read. DataError when the corpus was
    built with another tokenizer than the model's."""
    shards = held_out_text(corpus)
    shards.require(tokenizer)
    windows = WindowMaker(
        source=shards,
        context=min(model.config.max_positions, shards.num_tokens - 1, _MICRO_TOKENS),
        vocabulary=vocabulary_of(tokenizer, shards.vocab_size),
        document_end=shards.eos_id,
        mask_id=None,
        masking=MaskConfig(),
        apart=False,
        seed=0,
        device=model.embed.weight.device,
    )
    rows = max(_MICRO_TOKENS // windows.context, 1)
    return held_out_loss(model, windows, "causal", rows, max_tokens=0)["bits_per_byte"]
