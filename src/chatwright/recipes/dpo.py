"""Direct preference optimisation on the same rankings, ties included (arXiv 2305.18290, ties: 2409.17431).

The alternative to reward model + PPO: no sampling, one model beside its reference. A K-wise ranking is one batch
element here too: the shared prompt is computed once and K answers hang on it as branches.

Shapes: A answers, N answer tokens of a micro-batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from chatwright.config import check_above, check_least, check_length, check_share
from chatwright.data.batches import RankingBatch
from chatwright.data.cursor import Batches
from chatwright.data.rankings import Layout, RankingExample, load_examples, micro_batches, split_by_prompt
from chatwright.engine import run as runs
from chatwright.engine.optim import MasterAdamW, OptimConfig
from chatwright.engine.record import Sources, files, model_source
from chatwright.engine.schedule import ScheduleConfig, rate_at
from chatwright.engine.step import accumulate
from chatwright.errors import ConfigError
from chatwright.generation.lm import load_model
from chatwright.kernels.cross_entropy import token_logprobs
from chatwright.model.formats.final import save_final
from chatwright.model.lora import LoraConfig, adapter_off, inject
from chatwright.model.precision import DeviceName, Precision, pick_device, pick_dtype
from chatwright.model.transformer import Transformer
from chatwright.objectives.dpo import dpo_loss
from chatwright.objectives.ranking import TieMode, initial_tie_parameter
from chatwright.progress import console
from chatwright.records import Ranking, load_rankings


@dataclass(frozen=True, kw_only=True)
class DPOTrainConfig(runs.SaveConfig):
    """Length and shape of the run."""

    steps: int = 0
    """Optimiser steps; 0: `epochs` passes over the data."""
    epochs: int = 1
    """Passes over the rankings when `steps` is 0."""
    batch_size: int = 8
    """Prompts (whole rankings) in one step."""
    max_tokens: int = 2048
    """Longer prompts with their answers are cut or left out (counts are printed); never more than the model's context."""
    micro_tokens: int = 2048
    """Tokens that go through the model at once; changes memory and speed, not the result."""
    layout: Layout = "tree"
    """tree: one row per prompt with all its answers, the prompt computed once. plain: one row per answer, the same
    probabilities; without the tree's mask, so that the attention kernels of a GPU need less memory for long rows."""
    beta: float = 0.1
    """Scale of the implicit reward beta * log(pi / pi_ref)."""
    ties: TieMode = "davidson"
    """What a tie means to the loss; its parameter stays at the value that fits the share of ties."""
    held_out_share: float = 0.1
    """Share of prompts kept aside; the accuracy of the implicit reward on them is measured at the end."""

    def __post_init__(self) -> None:
        check_length(self, "train")
        check_least(self, "train", 1, "batch_size", "max_tokens", "micro_tokens")
        check_above(self, "train", 0, "beta")
        check_share(self, "train", "held_out_share", whole=False)


@dataclass(frozen=True, kw_only=True)
class DPOConfig:
    """Optimise a model on rankings directly."""

    model: str = "smollm2-135m-instruct"
    """Policy to start from, and the reference: the SFT model."""
    template: str = ""
    """Chat template instead of the model's own: a Jinja file, a layout (chatml, llama3, gemma, mistral, plain), or settings
    of it: thinking=on, thinking=off, date=YYYY-MM-DD. Several are joined by commas. It is saved with the model."""
    data: tuple[str, ...]
    """Rankings, JSON lines."""
    out: str = "runs/dpo"
    """Run folder."""
    fresh: bool = False
    """Delete the run in `out` and start anew; without it, a run of other inputs or settings is refused."""
    seed: int = 0
    """Fixes data order and split."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format; masters and moments are fp32 always."""
    train: DPOTrainConfig = DPOTrainConfig()
    """Length and loss."""
    optim: OptimConfig = OptimConfig(lr=5e-6)
    """Optimiser."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning-rate schedule."""
    lora: LoraConfig | None = None
    """Train a low-rank adapter; the model without it is the reference."""


def answer_logprobs(model: Transformer, batch: RankingBatch) -> torch.Tensor:
    """Summed log-probability of every answer given its prompt, [A] in nats.

    In the tree layout an answer's first token is predicted by the prompt's last, the others by the token before them.
    """
    hidden_BTD = model(batch.tokens_BT, positions_BT=batch.positions_BT, mask_BTS=batch.mask_BTS)
    row_N, predict_N, target_N, answer_N = batch.answer_tokens()
    logprob_N, _ = token_logprobs(
        hidden_BTD[row_N, predict_N], model.output_weight(), batch.tokens_BT[row_N, target_N]
    )
    return torch.zeros(len(batch.answer_row_A), device=logprob_N.device).index_add(0, answer_N, logprob_N)


def loss_of(
    policy: Transformer, reference_A: torch.Tensor, batch: RankingBatch, cfg: DPOTrainConfig, tie: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of one micro-batch, (sum over prompts, prompts)."""
    return dpo_loss(
        answer_logprobs(policy, batch),
        reference_A,
        batch.first_R,
        batch.second_R,
        batch.relation_R,
        batch.prompt_R,
        batch.num_prompts,
        beta=cfg.beta,
        mode=cfg.ties,
        tie_parameter=tie,
    )


class Reference:
    """Log-probabilities under the reference: a copy of the start, or the policy with its adapter off."""

    def __init__(self, policy: Transformer, cfg: DPOConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.policy = policy
        self.copy = None if cfg.lora is not None else load_model(cfg.model, dtype=dtype, device=device)[0].eval()

    @torch.no_grad()
    def __call__(self, batch: RankingBatch) -> torch.Tensor:
        """[A] in nats."""
        if self.copy is not None:
            return answer_logprobs(self.copy, batch)
        with adapter_off(self.policy):
            return answer_logprobs(self.policy, batch)


@torch.no_grad()
def implicit_accuracy(
    policy: Transformer, reference: Reference, examples: Sequence[RankingExample], pad_id: int, micro_tokens: int
) -> float | None:
    """Share of held-out strict pairs that beta * log(pi / pi_ref) orders as the labeller did (equal counts 0.5)."""
    policy.eval()
    right, pairs = 0.0, 0
    for batch in micro_batches(examples, micro_tokens, pad_id, policy.embed.weight.device):
        gain_A = answer_logprobs(policy, batch) - reference(batch)
        margin_R = (gain_A[batch.first_R] - gain_A[batch.second_R]) * batch.relation_R
        strict_R = batch.relation_R != 0
        right += float((margin_R > 0)[strict_R].sum()) + 0.5 * float((margin_R == 0)[strict_R].sum())
        pairs += int(strict_R.sum())
    policy.train()
    return right / pairs if pairs else None


def _tie_share(rankings: Sequence[Ranking]) -> float:
    relations = [relation for ranking in rankings for _, _, relation in ranking.order.pairs()]
    return relations.count(0) / max(len(relations), 1)


def sources(cfg: DPOConfig) -> Sources:
    """Inputs of a run."""
    return {"model": model_source(cfg.model), "data": files(cfg.data)}


def main(cfg: DPOConfig) -> dict[str, Any]:
    """Train; returns result.json's contents. Running it again resumes or returns the finished result."""
    run = runs.start("dpo", cfg.out, cfg, cfg.train, sources(cfg))
    if isinstance(run, dict):
        return run
    device = pick_device(cfg.device)
    dtype = pick_dtype(cfg.precision, device)
    torch.manual_seed(cfg.seed)
    policy, tokenizer = load_model(cfg.model, dtype=dtype, device=device, template=cfg.template)
    if cfg.lora is not None:
        inject(policy, cfg.lora, seed=cfg.seed)
    reference = Reference(policy, cfg, dtype, device)
    rankings = load_rankings(cfg.data)
    train, held_out = split_by_prompt(rankings, cfg.train.held_out_share, cfg.seed)
    limit = min(cfg.train.max_tokens, policy.config.max_positions)
    examples = load_examples(train, tokenizer, max_tokens=limit)
    held = load_examples(held_out, tokenizer, max_tokens=limit)
    if not examples:
        raise ConfigError(f"--data {' '.join(cfg.data)}: no ranking is left to train on")
    if not any(relation for example in examples for _, _, relation in example.relations):
        raise ConfigError(f"--data {' '.join(cfg.data)}: every pair of answers is tied, so there is no order to learn")
    console().print(f"dpo: {len(examples)} rankings, {len(held_out)} held out, {dtype} on {device}")
    tie = torch.tensor(initial_tie_parameter(cfg.train.ties, _tie_share(train)), device=device)
    optimizer = MasterAdamW(policy.named_parameters(), cfg.optim)
    loss = math.nan
    if run.resumed:
        optimizer.load_state_tensors(run.resumed.tensors, "optimizer")
        loss = run.resumed.meta["loss"]

    def state() -> tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]:
        return optimizer.state_tensors("optimizer"), {"loss": loss}

    order = Batches(len(examples), cfg.train.batch_size, cfg.seed, epochs=cfg.train.epochs, steps=cfg.train.steps)

    def export(folder: Path) -> None:
        save_final(policy, folder, tokenizer, base=cfg.model)

    policy.train()
    for step, bar in run.steps(order.total, state):
        where = f"dpo step {step + 1}"
        chosen = [examples[i] for i in order.at(step)]
        batches = micro_batches(chosen, cfg.train.micro_tokens, tokenizer.pad_id, device, cfg.train.layout)
        rate = rate_at(step, order.total, cfg.optim.lr, cfg.schedule)
        with run.saved_on_error(state, export):
            loss = accumulate(
                optimizer, batches, lambda b: loss_of(policy, reference(b), b, cfg.train, tie), len(chosen), where=where
            )
            norm = optimizer.step(rate, where=where)
        tokens = sum(e.num_tokens for e in chosen)
        run.metrics.log(step + 1, {"loss": loss, "lr": rate, "grad_norm": norm, "tokens": tokens})
        bar.advance(tokens=tokens, note=f"loss {loss:.3f}")
    accuracy = implicit_accuracy(policy, reference, held, tokenizer.pad_id, cfg.train.micro_tokens) if held else None
    result = {
        "model": cfg.model,
        "steps": order.total,
        "rankings": len(examples),
        "loss": loss,
        "held_out_accuracy": accuracy,
        "simulated_share": sum(r.labeller_kind == "simulated" for r in train) / len(train),
        "data": run.record.hashes("data"),
    }
    return run.finish(result, export)
