"""Log-probabilities of a text's own tokens, and embeddings of texts: one forward pass, no sampling.

Shapes: T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from chatwright.errors import ConfigError, DataError
from chatwright.generation.api import TopLogprobs
from chatwright.model.transformer import Transformer

_ROWS = 256  # positions whose logits are in memory at a time


@torch.inference_mode()
def score_tokens(model: Transformer, ids: Sequence[int], top: int = 0) -> list[tuple[float, TopLogprobs] | None]:
    """Per token of `ids` its log-probability in nats given those before it and the `top` likeliest there; None for the
    first. The realised token's number among the likeliest is the very same number.

    Raises DataError when `ids` is empty or longer than the model's context.
    """
    hidden_TD = hidden_states(model, ids)
    targets_T = torch.tensor(list(ids), device=hidden_TD.device)
    out: list[tuple[float, TopLogprobs] | None] = [None]
    for at in range(0, len(ids) - 1, _ROWS):
        logprob_TV = torch.log_softmax(model.logits(hidden_TD[at : min(at + _ROWS, len(ids) - 1)]).float(), dim=-1)
        own_T = logprob_TV.gather(1, targets_T[at + 1 : at + 1 + len(logprob_TV), None])[:, 0].tolist()
        best = logprob_TV.topk(top) if top else None
        for row, logprob in enumerate(own_T):
            likeliest = () if best is None else tuple(
                zip(best.indices[row].tolist(), best.values[row].tolist(), strict=True)
            )  # fmt: skip
            out.append((logprob, likeliest))
    return out


@torch.inference_mode()
def embed(model: Transformer, ids: Sequence[int], dimensions: int | None = None) -> list[float]:
    """A unit vector for a text: the mean of its tokens' states after the final norm, cut to the first `dimensions` numbers.

    The model was trained to continue text, not to embed it: near texts are near, but a model made for retrieval does it
    better. Raises ConfigError for more dimensions than the model's width, DataError as `score_tokens`.
    """
    width = model.config.hidden_size
    if dimensions is not None and not 1 <= dimensions <= width:
        raise ConfigError(f"dimensions {dimensions}: the model's embeddings have {width} numbers; ask for 1 to {width}")
    mean_D = hidden_states(model, ids).float().mean(0)[: dimensions or width]
    return (mean_D / mean_D.norm().clamp(min=1e-12)).tolist()


def hidden_states(model: Transformer, ids: Sequence[int]) -> torch.Tensor:
    """States after the final norm, [T, D]. DataError when `ids` is empty, too long, or not of the vocabulary."""
    context, vocab = model.config.max_positions, model.config.vocab_size
    if not 0 < len(ids) <= context:
        raise DataError(f"{len(ids)} tokens given; the model takes 1 to {context}")
    if min(ids) < 0 or max(ids) >= vocab:
        raise DataError(f"a token is outside the model's vocabulary, 0 to {vocab - 1}")
    training = model.training
    model.eval()
    try:
        out: torch.Tensor = model(torch.tensor([list(ids)], device=model.embed.weight.device))[0]
        return out
    finally:
        model.train(training)
