"""Train an embedding head, and the trunk under it, on pairs of texts (in-batch negatives, Matryoshka).

Read top to bottom: open the run, load trunk and pairs, the loop, then recall on held-out pairs beside mean pooling of the
trunk as it came. A step whose texts do not fit into memory at once is computed twice, as GradCache does (arXiv 2101.06983):
first all vectors and the gradient of the loss with respect to them, then, part by part, what that does to the weights.

Shapes: N pairs, B texts of a micro-batch, T tokens, W numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chatwright.config import check_above, check_least, check_share
from chatwright.data.batches import plan
from chatwright.data.pairs import Pair, SourceOrder, distinct, load_pairs, split_pairs, text_key
from chatwright.engine import run as runs
from chatwright.engine.optim import MasterAdamW, OptimConfig
from chatwright.engine.record import Sources, files, model_source
from chatwright.engine.schedule import ScheduleConfig, rate_at
from chatwright.engine.step import accumulate, step_all
from chatwright.errors import ConfigError
from chatwright.evals.retrieval import Retrieval, measure
from chatwright.generation.embed import Embedder, pooled_states
from chatwright.generation.lm import load_model
from chatwright.model.formats.embedding import Attention, EmbeddingSpec, Pooling, save_embedding_head
from chatwright.model.formats.huggingface import save_folder
from chatwright.model.heads import EmbeddingHead
from chatwright.model.precision import DeviceName, Precision, pick_device, pick_dtype
from chatwright.model.transformer import Transformer
from chatwright.objectives.contrastive import matryoshka_info_nce
from chatwright.progress import ProgressBar, console
from chatwright.text.tokenizer import Tokenizer

_MEASURED_AT_ONCE = 512  # texts between two lines of progress
_STATES = 512  # pairs whose states the head is whitened by


@dataclass(frozen=True, kw_only=True)
class EmbedTrainConfig(runs.SaveConfig):
    """Length and shape of the run."""

    steps: int = 300
    """Optimiser steps."""
    batch_size: int = 128
    """Pairs in one step: each has the passages of the others as negatives."""
    max_tokens: int = 64
    """Longer texts are cut; never more than the model's context."""
    micro_tokens: int = 8192
    """Tokens that go through the model at once; changes memory and speed, not the result."""
    frozen_layers: int = 0
    """Blocks from the bottom, embeddings with them, that keep the trunk's weights: their backward pass is saved."""
    temperature: float = 0.05
    """What cosines are divided by (SimCSE, arXiv 2104.08821: 0.05)."""
    head_lr: float = 1e-3
    """Learning rate of the head, which starts as a whitening of the states while the trunk starts from a trained model."""
    source_power: float = 0.5
    """Sources take turns in proportion to the number of their pairs to this power."""

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ConfigError(f"--train.batch-size {self.batch_size}: must be 2 or more; one pair alone has no negatives")
        check_least(self, "train", 1, "steps", "max_tokens", "micro_tokens")
        check_least(self, "train", 0, "frozen_layers", "head_lr", "source_power")
        check_above(self, "train", 0, "temperature")


@dataclass(frozen=True, kw_only=True)
class EmbedEvalConfig:
    """What is kept aside."""

    data: tuple[str, ...] = ()
    """Held-out pairs; empty: a share of --data."""
    share: float = 0.1
    """Share of the groups of --data kept aside when `data` is empty; 0: nothing is measured."""

    def __post_init__(self) -> None:
        check_share(self, "eval", "share", whole=False)


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """Learn vectors that are near for texts which belong together."""

    model: str = "smollm2-135m-instruct"
    """Trunk to start from."""
    data: tuple[str, ...]
    """Pairs, JSON lines: {"query", "passage", "source", "group"}."""
    out: str = "runs/embed"
    """Run folder."""
    dimensions: tuple[int, ...] = (1536, 768, 256, 64)
    """Widths a vector can be cut to (Matryoshka), the widest first."""
    layers: int = 0
    """Blocks of the trunk that are kept, from the bottom: fewer make a smaller and quicker model; 0: all."""
    pooling: Pooling = "mean"
    """Mean of all tokens' states, or the state of an end-of-document token behind them."""
    attention: Attention = "causal"
    """What a token sees: those before it, or those on both sides."""
    fresh: bool = False
    """Delete the run in `out` and start anew; without it, a run of other inputs or settings is refused."""
    seed: int = 0
    """Fixes head, data order and split."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format; head, masters and moments are fp32 always."""
    train: EmbedTrainConfig = EmbedTrainConfig()
    """Length and loss."""
    eval: EmbedEvalConfig = EmbedEvalConfig()
    """Held-out pairs."""
    optim: OptimConfig = OptimConfig(lr=5e-5)
    """Optimiser."""
    schedule: ScheduleConfig = ScheduleConfig(warmup_steps=20)
    """Learning-rate schedule."""

    def __post_init__(self) -> None:
        if not self.dimensions or list(self.dimensions) != sorted(set(self.dimensions), reverse=True):
            raise ConfigError("--dimensions: name one or more widths, the widest first, none twice")
        if self.dimensions[-1] < 1:
            raise ConfigError(f"--dimensions {self.dimensions[-1]}: must be 1 or more")
        check_least(self, "", 0, "layers")


def sources(cfg: EmbedConfig) -> Sources:
    """Inputs of a run."""
    return {"model": model_source(cfg.model), "data": files(cfg.data), "eval.data": files(cfg.eval.data)}


def main(cfg: EmbedConfig) -> dict[str, Any]:
    """Train; returns result.json's contents. Running it again resumes or returns the finished result."""
    run = runs.start("embed-train", cfg.out, cfg, cfg.train, sources(cfg))
    if isinstance(run, dict):
        return run
    device = pick_device(cfg.device)
    dtype = pick_dtype(cfg.precision, device)
    torch.manual_seed(cfg.seed)
    pairs = distinct(load_pairs(cfg.data))
    train, held_out = _split(pairs, cfg)
    model, tokenizer = load_model(cfg.model, dtype=dtype, device=device)
    if cfg.layers:
        model.cut_layers(cfg.layers)
    max_tokens = min(cfg.train.max_tokens, model.config.max_positions)
    console().print(f"embed-train: {len(train)} pairs, {len(held_out)} held out, {dtype} on {device}")
    before = measure_pairs(Embedder(model, tokenizer), held_out, max_tokens, "embed-train: held-out pairs, mean pooling")
    model.freeze_bottom(cfg.train.frozen_layers)
    head = EmbeddingHead(model.config.hidden_size, cfg.dimensions[0])
    spec = EmbeddingSpec(
        pooling=cfg.pooling, attention=cfg.attention, dimensions=cfg.dimensions, max_tokens=max_tokens,
        about={"base": cfg.model, "temperature": cfg.train.temperature, "pairs": len(train)},
    )  # fmt: skip
    head.init_whitened(first_states(model, tokenizer, spec, train, cfg), torch.Generator().manual_seed(cfg.seed))
    embedder = Embedder(model, tokenizer, head.to(device), spec)

    def save(folder: Path) -> None:
        save_folder(model, folder, tokenizer)
        save_embedding_head(head, folder, spec)

    loss = _train(run, embedder, train, cfg, save)
    model.eval()
    after = measure_pairs(embedder, held_out, max_tokens, "embed-train: held-out pairs, trained")
    for source, found in after.items():
        console().print(f"embed-train: {source or 'pairs'}: {found.summary()} (mean pooling {before[source].summary()})")
    result = {
        "model": cfg.model,
        "steps": cfg.train.steps,
        "pairs": len(train),
        "held_out": len(held_out),
        "loss": loss,
        "retrieval": {source: found.to_dict() for source, found in after.items()},
        "mean_pooling": {source: found.to_dict() for source, found in before.items()},
        "data": run.record.hashes("data", "eval.data"),
    }
    return run.finish(result, save)


def _split(pairs: Sequence[Pair], cfg: EmbedConfig) -> tuple[list[Pair], list[Pair]]:
    """(training, held-out) pairs."""
    if cfg.eval.data:
        held = distinct(load_pairs(cfg.eval.data))
        known, units = {text_key(t) for p in held for t in (p.query, p.passage)}, {p.group for p in held if p.group}
        train = [p for p in pairs if p.group not in units and not {text_key(p.query), text_key(p.passage)} & known]
    else:
        train, held = split_pairs(pairs, cfg.eval.share, cfg.seed) if cfg.eval.share else (list(pairs), [])
    if not train:
        raise ConfigError(f"--data {' '.join(cfg.data)}: no pair is left to train on")
    return train, held


@torch.no_grad()
def first_states(
    model: Transformer, tokenizer: Tokenizer, spec: EmbeddingSpec, pairs: Sequence[Pair], cfg: EmbedConfig
) -> torch.Tensor:
    """[N, D]: pooled states of the texts of some training pairs, as many of every source, before training."""
    embedder = Embedder(model, tokenizer, None, spec)
    order = SourceOrder(pairs, alpha=0.0, seed=cfg.seed)
    chosen = {place for step in range(len(order.places)) for place in order.batch(step, _STATES // len(order.places) + 1)}
    texts = [text for n in sorted(chosen) for text in (pairs[n].query, pairs[n].passage)]
    rows = [embedder.cut(embedder.ids(text), spec.max_tokens) for text in texts]
    groups = plan([len(row) for row in rows], cfg.train.micro_tokens)
    return torch.cat([pooled_states(model, spec, *embedder.batch([rows[n] for n in group])) for group in groups])


def measure_pairs(
    embedder: Embedder, pairs: Sequence[Pair], max_tokens: int, title: str = "held-out pairs"
) -> dict[str, Retrieval]:
    """Recall and neighbours of every source, with progress under `title`; {} without pairs."""
    out = {}
    with ProgressBar(title, 2 * len(pairs), unit="text") as bar:

        def vectors(texts: Sequence[str]) -> np.ndarray[Any, Any]:
            parts = []
            for at in range(0, len(texts), _MEASURED_AT_ONCE):
                parts.append(embedder.vectors(texts[at : at + _MEASURED_AT_ONCE], max_tokens=max_tokens).numpy())
                bar.advance(len(parts[-1]))
            return np.concatenate(parts)

        for source in sorted({pair.source for pair in pairs}):
            some = [pair for pair in pairs if pair.source == source]
            out[source] = measure(some, vectors([p.query for p in some]), vectors([p.passage for p in some]))
    return out


def _train(
    run: runs.Run, embedder: Embedder, pairs: Sequence[Pair], cfg: EmbedConfig, save: Callable[[Path], None]
) -> float:
    """The loop: every step a batch of pairs of one source. Returns the last loss."""
    model, head = embedder.model, embedder.head
    assert head is not None
    trunk = MasterAdamW(model.named_parameters(), cfg.optim)
    heads = MasterAdamW(head.named_parameters(), OptimConfig(lr=cfg.train.head_lr, max_grad_norm=0.0, weight_decay=0.0))
    order = SourceOrder(pairs, alpha=cfg.train.source_power, seed=cfg.seed)
    loss = float("nan")
    if run.resumed:
        trunk.load_state_tensors(run.resumed.tensors, "trunk")
        heads.load_state_tensors(run.resumed.tensors, "head")
        loss = run.resumed.meta["loss"]

    def state() -> tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]:
        return trunk.state_tensors("trunk") | heads.state_tensors("head"), {"loss": loss}

    model.train()
    for step, bar in run.steps(cfg.train.steps, state):
        where = f"embed-train step {step + 1}"
        chosen = [pairs[i] for i in order.batch(step, cfg.train.batch_size)]
        rows = [embedder.cut(embedder.ids(t), embedder.spec.max_tokens) for p in chosen for t in (p.query, p.passage)]
        same_NN = same_pairs(chosen).to(model.embed.weight.device)
        parts = step_parts(embedder, rows, same_NN, cfg)
        peaks = {"trunk": (trunk, cfg.optim.lr), "head": (heads, cfg.train.head_lr)}
        rates = {name: (o, rate_at(step, cfg.train.steps, peak, cfg.schedule)) for name, (o, peak) in peaks.items()}
        with run.saved_on_error(state, save):
            loss = accumulate(trunk, parts, lambda part: part, len(chosen), where=where)
            norms = step_all(rates, where=where)
        tokens = sum(map(len, rows))
        values = {"loss": loss, "lr": rates["trunk"][1], "grad_norm": norms["trunk"], "tokens": tokens}
        run.metrics.log(step + 1, values)
        bar.advance(tokens=tokens, note=f"loss {loss:.3f}")
    return loss


def same_pairs(pairs: Sequence[Pair]) -> torch.Tensor:
    """[N, N] bool: True where two pairs share a text or a group, so that neither is the other's negative."""
    out_NN = torch.eye(len(pairs), dtype=torch.bool)
    holders: dict[tuple[str, str], list[int]] = {}
    for place, pair in enumerate(pairs):
        for text in {text_key(pair.query), text_key(pair.passage)}:
            holders.setdefault(("text", text), []).append(place)
        if pair.group:
            holders.setdefault(("group", pair.group), []).append(place)
    for places in holders.values():
        index = torch.tensor(places)
        out_NN[index[:, None], index[None]] = True
    return out_NN


Part = tuple[torch.Tensor, torch.Tensor]
"""(loss sum, pairs) of a part of a step."""


def step_parts(embedder: Embedder, rows: Sequence[Sequence[int]], same_NN: torch.Tensor, cfg: EmbedConfig) -> Iterator[Part]:
    """What `accumulate` adds up: rows are query, passage, query, passage, ...; the parts' sums add up to the loss, and
    their gradients to its gradient, however many parts there are."""
    groups = plan([len(row) for row in rows], cfg.train.micro_tokens)
    inverse = torch.tensor([place for group in groups for place in group]).argsort()

    def vectors(group: Sequence[int]) -> torch.Tensor:
        assert embedder.head is not None
        out: torch.Tensor = embedder.head(
            pooled_states(embedder.model, embedder.spec, *embedder.batch([rows[n] for n in group]))
        )
        return out

    def loss_of(vectors_MW: torch.Tensor) -> Part:
        whole_NW = vectors_MW[inverse.to(vectors_MW.device)]
        return matryoshka_info_nce(
            whole_NW[0::2], whole_NW[1::2], same_NN, dimensions=cfg.dimensions, temperature=cfg.train.temperature
        )

    if len(groups) == 1:
        yield loss_of(vectors(groups[0]))
        return
    with torch.no_grad():
        ready_MW = torch.cat([vectors(group) for group in groups])
    ready_MW.requires_grad_()
    total, count = loss_of(ready_MW)
    (slope_MW,) = torch.autograd.grad(total, ready_MW)
    done = 0
    for group in groups:
        made_BW = vectors(group)
        linear = (made_BW * slope_MW[done : done + len(group)]).sum()  # its gradient is the loss's
        done += len(group)
        share = len(group) / len(rows)
        yield total.detach() * share + (linear - linear.detach()), count * share
