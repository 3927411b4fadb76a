"""Supervised fine-tuning on demonstrations (InstructGPT section 3.5; settings of the paper: `presets.py`).

Read top to bottom: open the run, load the model, render the demonstrations, then the loop. Only the assistant's words
and its end-of-turn token are trained (`chatwright show-mask FILE` prints which).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from chatwright.config import check_least, check_length, check_share
from chatwright.data.batches import LMBatch
from chatwright.data.cursor import Batches
from chatwright.data.ptx import PtxText, open_ptx
from chatwright.data.sft import load_examples, micro_batches
from chatwright.engine import run as runs
from chatwright.engine.checkpoint import TensorFolder, atomic_folder, save_tensors, verify_folder
from chatwright.engine.optim import MasterAdamW, OptimConfig
from chatwright.engine.record import Sources, files, model_source
from chatwright.engine.schedule import ScheduleConfig, rate_at
from chatwright.engine.step import accumulate
from chatwright.errors import ConfigError, TemplateError
from chatwright.evals.rewards import answered, open_reward, reward_sources
from chatwright.generation.answers import check_room, sample_answers
from chatwright.generation.api import SamplingParams
from chatwright.generation.lm import load_model
from chatwright.generation.local import LocalGenerator
from chatwright.model.formats.final import save_final
from chatwright.model.lora import LoraConfig, inject
from chatwright.model.precision import DeviceName, Precision, pick_device, pick_dtype
from chatwright.model.transformer import Transformer
from chatwright.objectives.lm import batch_nll, mean_nll
from chatwright.progress import console
from chatwright.records import load_demonstrations, load_prompts
from chatwright.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class SFTTrainConfig(runs.SaveConfig):
    """Length of the run and size of its steps."""

    steps: int = 0
    """Optimiser steps; 0: `epochs` passes over the data."""
    epochs: int = 2
    """Passes over the demonstrations when `steps` is 0. The paper: 16."""
    batch_size: int = 8
    """Demonstrations in one step."""
    max_tokens: int = 2048
    """Longer examples are cut (the count is printed); never more than the model's context."""
    micro_tokens: int = 2048
    """Tokens that go through the model at once; changes memory and speed, not the result."""
    dropout: float = 0.0
    """Residual dropout. The paper: 0.2."""
    frozen_layers: int = 0
    """Blocks from the bottom, embeddings with them, that keep the base model's weights: their backward pass is saved."""

    def __post_init__(self) -> None:
        check_length(self, "train")
        check_least(self, "train", 1, "batch_size", "max_tokens", "micro_tokens")
        check_least(self, "train", 0, "frozen_layers")
        check_share(self, "train", "dropout", whole=False)


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """Pre-training text among the demonstrations (InstructGPT C.3: how its PPO policies were initialised)."""

    data: tuple[str, ...] = ()
    """Text files or JSON lines; empty: demonstrations only."""
    share: float = 0.1
    """Share of pre-training sequences among all sequences of the run, and their share of the loss; at least 0, below 1.
    The loss of a step is the token mean of either kind, weighted by its number of sequences: a long sequence counts as much
    as a short demonstration. The paper: 0.1."""
    block_tokens: int = 512
    """Length of such a sequence in tokens."""

    def __post_init__(self) -> None:
        check_share(self, "mix", "share", whole=False)
        check_least(self, "mix", 2, "block_tokens")

    def sequences_before(self, rows: int) -> int:
        """Sequences mixed in beside the first `rows` demonstrations: spread evenly, whatever the batch size."""
        return round(rows * self.share / (1.0 - self.share)) if self.data else 0


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Keep the epoch whose answers a reward model likes best (InstructGPT section 3.5), not the last one."""

    reward: tuple[str, ...] = ()
    """Reward sources, as in `chatwright ppo`; empty: the last epoch is kept."""
    prompts: tuple[str, ...] = ()
    """Validation prompts."""
    max_new_tokens: int = 128
    """Longest answer in tokens."""

    def __post_init__(self) -> None:
        check_least(self, "select", 1, "max_new_tokens")
        if bool(self.reward) != bool(self.prompts):
            raise ConfigError("--select.reward and --select.prompts work together; give both or neither")


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
    """Teach a model by demonstrations."""

    model: str = "smollm2-135m-instruct"
    """Named model, Hugging Face name, or folder to start from."""
    template: str = ""
    """Chat template instead of the model's own: a Jinja file, a layout (chatml, llama3, gemma, mistral, plain), or settings
    of it: thinking=on, thinking=off, date=YYYY-MM-DD. Several are joined by commas. It is saved with the model."""
    data: tuple[str, ...]
    """JSON-lines files of demonstrations: {"messages": [..., {"role": "assistant", ...}]}."""
    out: str = "runs/sft"
    """Run folder."""
    eval_data: tuple[str, ...] = ()
    """Held-out demonstrations: their loss is logged after every epoch."""
    system: str | None = ""
    """System message of conversations that have none, taught and exported with the model ("": no system turn). None:
    the base model's own, which may give it another's name."""
    fresh: bool = False
    """Delete the run in `out` and start anew; without it, a run of other inputs or settings is refused."""
    seed: int = 0
    """Fixes the data order and dropout."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format; masters and moments are fp32 always."""
    train: SFTTrainConfig = SFTTrainConfig()
    """Length and batch."""
    optim: OptimConfig = OptimConfig(lr=1e-4)
    """Optimiser."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning-rate schedule. The paper: cosine to 10 %, no warm-up."""
    lora: LoraConfig | None = None
    """Train a low-rank adapter instead of all weights."""
    mix: MixConfig = MixConfig()
    """Pre-training text among the demonstrations."""
    select: SelectConfig = SelectConfig()
    """Choose the best epoch by a reward model."""


def sources(cfg: SFTConfig) -> Sources:
    """Inputs of a run."""
    found = {"model": model_source(cfg.model), "data": files(cfg.data), "eval_data": files(cfg.eval_data)}
    found |= {"mix.data": files(cfg.mix.data), "select.prompts": files(cfg.select.prompts)}
    return found | {"select.reward": reward_sources(cfg.select.reward)}


def main(cfg: SFTConfig) -> dict[str, Any]:
    """Train; returns result.json's contents. Running it again resumes or returns the finished result."""
    run = runs.start("sft", cfg.out, cfg, cfg.train, sources(cfg))
    if isinstance(run, dict):
        return run
    device = pick_device(cfg.device)
    dtype = pick_dtype(cfg.precision, device)
    torch.manual_seed(cfg.seed)
    model, tokenizer = _open_model(cfg, dtype, device)
    limit = min(cfg.train.max_tokens, model.config.max_positions)
    examples = load_examples(load_demonstrations(cfg.data), tokenizer, max_tokens=limit)
    if not examples:
        raise ConfigError(f"--data {' '.join(cfg.data)}: no demonstration is left to train on")
    held_out = load_examples(load_demonstrations(cfg.eval_data), tokenizer, max_tokens=limit)
    if cfg.select.reward:
        _check_selection(model, tokenizer, cfg)
    mix = open_ptx(
        cfg.mix.data,
        tokenizer,
        block_tokens=cfg.mix.block_tokens,
        held_out=0,
        seed=cfg.seed + 1,
        micro_tokens=cfg.train.micro_tokens,
        device=device,
        context=model.config.max_positions,
    )
    num_tokens = sum(len(example.ids) for example in examples)
    console().print(f"sft: {len(examples)} demonstrations, {num_tokens} tokens, {dtype} on {device}")
    optimizer = MasterAdamW(model.named_parameters(), cfg.optim)
    best: dict[str, Any] = {"score": None, "step": None, "pending": None}
    loss = math.nan
    if run.resumed:
        optimizer.load_state_tensors(run.resumed.tensors, "optimizer")
        best, loss = run.resumed.meta["best"], run.resumed.meta["loss"]

    def state() -> tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]:
        return optimizer.state_tensors("optimizer"), {"best": best, "loss": loss}

    order = Batches(len(examples), cfg.train.batch_size, cfg.seed, epochs=cfg.train.epochs, steps=cfg.train.steps)
    held_batches = micro_batches(held_out, cfg.train.micro_tokens, tokenizer.pad_id, device) if held_out else []

    def export(folder: Path) -> None:
        save_final(model, folder, tokenizer, base=cfg.model)

    if best["pending"]:
        values, best["pending"] = best["pending"], None
        _select(run, state, model, tokenizer, cfg, best, values, run.first_step)
        run.metrics.log(run.first_step, values)
    model.train()
    for step, bar in run.steps(order.total, state):
        where = f"sft step {step + 1}"
        chosen = [examples[i] for i in order.at(step)]
        batches = micro_batches(chosen, cfg.train.micro_tokens, tokenizer.pad_id, device)
        mixed = _mixed(mix, cfg.mix, order, step)
        rate = rate_at(step, order.total, cfg.optim.lr, cfg.schedule)
        with run.saved_on_error(state, export):
            values = _backward(model, optimizer, batches, mixed, where)
            norm = optimizer.step(rate, where=where)
        loss = values["loss"]
        tokens = sum(batch.num_tokens for batch in batches + mixed)
        values |= {"lr": rate, "grad_norm": norm, "tokens": tokens}
        if order.ends_epoch(step):
            if held_batches:
                values["eval_loss"] = mean_nll(model, held_batches)
            if cfg.select.reward:
                _select(run, state, model, tokenizer, cfg, best, values, step + 1)
        run.metrics.log(step + 1, values)
        bar.advance(tokens=tokens, note=f"loss {loss:.3f}")
    if cfg.select.reward:
        _restore_best(model, run.folder)
    result = {
        "model": cfg.model,
        "steps": order.total,
        "examples": len(examples),
        "loss": loss,
        "eval_loss": mean_nll(model, held_batches) if held_batches else None,
        "selected": {"score": best["score"], "step": best["step"]} if cfg.select.reward else None,
        "data": run.record.hashes("data", "mix.data"),
    }
    return run.finish(result, export)


def _open_model(cfg: SFTConfig, dtype: torch.dtype, device: torch.device) -> tuple[Transformer, Tokenizer]:
    """Model and tokenizer, ready to be trained."""
    model, tokenizer = load_model(cfg.model, dtype=dtype, device=device, template=cfg.template)
    tokenizer = _with_system(tokenizer, cfg.system)
    if cfg.lora is not None:
        inject(model, cfg.lora, seed=cfg.seed)
    model.set_dropout(cfg.train.dropout)
    model.freeze_bottom(cfg.train.frozen_layers)
    return model, tokenizer


def _with_system(tokenizer: Tokenizer, system: str | None) -> Tokenizer:
    """The tokenizer with this default system message; a template without a place for one has none already."""
    if system is None:
        return tokenizer
    try:
        return tokenizer.with_default_system(system)
    except TemplateError:
        if system:
            raise
        return tokenizer


def _mixed(text: PtxText, cfg: MixConfig, order: Batches, step: int) -> list[LMBatch]:
    """The pre-training sequences of 0-based `step`."""
    first, end = (cfg.sequences_before(order.rows_before(at)) for at in (step, step + 1))
    return text.take(first, end - first)


def _backward(
    model: Transformer, optimizer: MasterAdamW, taught: Sequence[LMBatch], mixed: Sequence[LMBatch], where: str
) -> dict[str, float]:
    """Gradients of a step; the mean loss per token of demonstrations and, where there is some, of pre-training text."""
    names = {"loss": taught, "mix_loss": mixed}
    sequences = {name: sum(len(batch.lengths_B) for batch in batches) for name, batches in names.items()}
    losses = {}
    for name, batches in names.items():
        if batches:
            count = sum(batch.num_targets for batch in batches)
            weight = sequences[name] / sum(sequences.values())
            losses[name] = accumulate(optimizer, batches, lambda b: batch_nll(model, b), count, where=where, weight=weight)
    return losses


BEST_FOLDER = "checkpoints/best"  # goes with the checkpoints, when the final weights stand


def _check_selection(model: Transformer, tokenizer: Tokenizer, cfg: SFTConfig) -> None:
    """Errors of the reward sources and of the prompts, before the first step."""
    open_reward(cfg.select.reward, tokenizer, dtype=model.embed.weight.dtype, device=model.embed.weight.device)
    where = f"--select.prompts {' '.join(cfg.select.prompts)}"
    prompts = load_prompts(cfg.select.prompts)
    if not prompts:
        raise ConfigError(f"{where}: holds no prompt")
    check_room(prompts, tokenizer, model.config.max_positions, cfg.select.max_new_tokens, where)


def _select(
    run: runs.Run,
    state: runs.StateFunction,
    model: Transformer,
    tokenizer: Tokenizer,
    cfg: SFTConfig,
    best: dict[str, Any],
    values: dict[str, Any],
    done: int,
) -> None:
    """Compare the epoch that ends with step `done`; its reward becomes one of the metrics `values`. Where the reward fails,
    the step is saved with its metrics, and a resumed run begins with the comparison."""
    try:
        values["select_reward"] = _keep_if_best(model, tokenizer, cfg, run.folder, best, done)
    except Exception:
        best["pending"] = values
        run.save_failed(done, state)
        raise


def _keep_if_best(
    model: Transformer, tokenizer: Tokenizer, cfg: SFTConfig, folder: Path, best: dict[str, Any], done: int
) -> float:
    """Mean reward of greedy answers to the validation prompts; the trained weights are kept when it is the highest."""
    device, dtype = model.embed.weight.device, model.embed.weight.dtype
    reward = open_reward(cfg.select.reward, tokenizer, dtype=dtype, device=device)
    params = SamplingParams(max_new_tokens=cfg.select.max_new_tokens, temperature=0.0)
    prompts = load_prompts(cfg.select.prompts)
    model.eval()
    generator = LocalGenerator(model, tokenizer)
    rows = sample_answers(generator, tokenizer, prompts, params, n=1, seed=cfg.seed, title="select")
    model.train()
    score = float(reward.score([answered(prompt, row[0]) for prompt, row in zip(prompts, rows, strict=True)]).mean())
    if best["score"] is None or score > best["score"]:
        best.update(score=score, step=done)
        trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        with atomic_folder(folder / BEST_FOLDER) as aside:
            save_tensors(aside, trained)
    return score


@torch.no_grad()
def _restore_best(model: Transformer, folder: Path) -> None:
    verify_folder(folder / BEST_FOLDER)
    tensors = TensorFolder(folder / BEST_FOLDER)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(tensors[name])
