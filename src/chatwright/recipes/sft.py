"""Supervised fine-tuning on demonstrations (InstructGPT section 3.5; settings of the paper: `presets.py`).

Read top to bottom: open the run, load the model, render the demonstrations, then the loop. Only the assistant's words
and its end-of-turn token are trained (`chatwright show-mask FILE` prints which).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from chatwright.data.cursor import Order
from chatwright.data.sft import Example, load_examples, micro_batches
from chatwright.engine import run as runs
from chatwright.engine.optim import MasterAdamW, OptimConfig
from chatwright.engine.precision import DeviceName, Precision, pick_device, pick_dtype
from chatwright.engine.schedule import ScheduleConfig, rate_at
from chatwright.engine.step import accumulate
from chatwright.errors import ConfigError
from chatwright.generation.lm import load_model
from chatwright.model.formats.final import save_final
from chatwright.model.lora import LoraConfig, inject
from chatwright.objectives.lm import batch_nll, mean_nll
from chatwright.progress import console
from chatwright.records import load_demonstrations


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
    """Longer examples are cut (the count is printed)."""
    micro_tokens: int = 2048
    """Tokens that go through the model at once; changes memory and speed, not the result."""
    dropout: float = 0.0
    """Residual dropout. The paper: 0.2."""


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
    """Teach a model by demonstrations."""

    model: str = "smollm2-135m-instruct"
    """Named model, Hugging Face name, or folder to start from."""
    data: tuple[str, ...]
    """JSON-lines files of demonstrations: {"messages": [..., {"role": "assistant", ...}]}."""
    out: str = "runs/sft"
    """Run folder."""
    eval_data: tuple[str, ...] = ()
    """Held-out demonstrations: their loss is logged after every epoch."""
    seed: int = 0
    """Fixes the data order and dropout."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format; masters and moments are fp32 always."""
    train: SFTTrainConfig = SFTTrainConfig()
    """Length and batch."""
    optim: OptimConfig = OptimConfig(lr=2e-5)
    """Optimiser."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning-rate schedule. The paper: cosine to 10 %, no warm-up."""
    lora: LoraConfig | None = None
    """Train a low-rank adapter instead of all weights."""


def num_steps(train: SFTTrainConfig, num_examples: int) -> int:
    """Optimiser steps of the whole run."""
    return train.steps or train.epochs * math.ceil(num_examples / train.batch_size)


def main(cfg: SFTConfig) -> dict[str, Any]:
    """Train; returns result.json's contents. Running it again resumes or returns the finished result."""
    run = runs.start("sft", cfg.out, cfg, cfg.train)
    if isinstance(run, dict):
        return run
    device = pick_device(cfg.device)
    dtype = pick_dtype(cfg.precision, device)
    torch.manual_seed(cfg.seed)
    model, tokenizer = load_model(cfg.model, dtype=dtype, device=device)
    if cfg.lora is not None:
        inject(model, cfg.lora, seed=cfg.seed)
    model.set_dropout(cfg.train.dropout)
    examples = load_examples(load_demonstrations(cfg.data), tokenizer, max_tokens=cfg.train.max_tokens)
    if not examples:
        raise ConfigError(f"--data {' '.join(cfg.data)}: no demonstration is left to train on")
    held_out = load_examples(load_demonstrations(cfg.eval_data), tokenizer, max_tokens=cfg.train.max_tokens)
    console().print(f"sft: {len(examples)} demonstrations, {sum(len(e.ids) for e in examples)} tokens, {dtype} on {device}")
    optimizer = MasterAdamW(model.named_parameters(), cfg.optim)
    if run.resumed:
        optimizer.load_state_tensors(run.resumed.tensors, "optimizer")

    def state() -> tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]:
        return optimizer.state_tensors("optimizer"), {}

    order = Order(len(examples), cfg.seed)
    total = num_steps(cfg.train, len(examples))
    held_out_batches = micro_batches(held_out, cfg.train.micro_tokens, tokenizer.pad_id, device) if held_out else []
    model.train()
    loss = math.nan
    for step, bar in run.steps(total, state):
        chosen: list[Example] = [examples[i] for i in order.batch(step, cfg.train.batch_size)]
        batches = micro_batches(chosen, cfg.train.micro_tokens, tokenizer.pad_id, device)
        count = sum(batch.num_targets for batch in batches)
        loss = accumulate(optimizer, batches, lambda b: batch_nll(model, b), count, where=f"sft step {step + 1}")
        rate = rate_at(step, total, cfg.optim.lr, cfg.schedule)
        norm = optimizer.step(rate, where=f"sft step {step + 1}")
        tokens = sum(len(example.ids) for example in chosen)
        values = {"loss": loss, "lr": rate, "grad_norm": norm, "tokens": tokens}
        if held_out_batches and (step + 1 == total or (step + 1) * cfg.train.batch_size % len(examples) < cfg.train.batch_size):
            values["eval_loss"] = mean_nll(model, held_out_batches)
        run.metrics.log(step + 1, values)
        bar.advance(tokens=tokens, note=f"loss {loss:.3f}")

    result = {"model": cfg.model, "steps": total, "examples": len(examples), "loss": loss, "data": runs.data_hashes(cfg.data)}
    if held_out_batches:
        result["eval_loss"] = mean_nll(model, held_out_batches)
    return run.finish(result, lambda folder: save_final(model, folder, tokenizer, base=cfg.model))
