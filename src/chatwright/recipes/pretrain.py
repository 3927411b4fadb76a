"""Pre-training: a language model from raw text, or a trained one trained further (`chatwright corpus build` makes the data).

Read top to bottom: open the run, the corpus and the model, then the loop. The size dial is in
`pretrain_config.py`, the windows in `data/pretrain.py`, the loss is `objectives/lm.py:window_nll` for every objective.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import torch

from chatwright.data.masking import vocabulary_of
from chatwright.data.pretrain import WindowMaker, Windows
from chatwright.data.shards import TOKENIZER, Shards, read_manifest
from chatwright.engine import run as runs
from chatwright.engine.metrics import Metrics
from chatwright.engine.muon import MuonAdamW
from chatwright.engine.optim import EMA, MasterAdamW, OptimConfig
from chatwright.engine.record import files, model_source
from chatwright.engine.schedule import rate_at
from chatwright.engine.spikes import SpikeGuard
from chatwright.engine.step import accumulate
from chatwright.errors import ConfigError, TrainingStopped
from chatwright.evals.held_out import held_out_loss
from chatwright.generation.api import SamplingParams
from chatwright.generation.cloze import ABOUT
from chatwright.generation.lm import load_model
from chatwright.generation.local import LocalGenerator
from chatwright.model.formats.final import save_final
from chatwright.model.init import initialised
from chatwright.model.lora import adapters
from chatwright.model.precision import pick_device, pick_dtype
from chatwright.model.transformer import Transformer
from chatwright.objectives.lm import window_nll
from chatwright.progress import ProgressBar, console
from chatwright.recipes.pretrain_config import Plan, PretrainConfig, model_config, plan_of
from chatwright.text.tokenizer import Tokenizer

NO_END = 2**40
"""Steps of a run by the clock before its pace is known."""
Kind = Literal["causal", "masked"]


@dataclass(kw_only=True)
class Trained:
    """Everything that an update changes: what a checkpoint holds, and what goes back after a spike."""

    optimizer: MasterAdamW
    ema: EMA | None
    guard: SpikeGuard
    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    """Weights and moments to go back to."""
    seconds: float = 0.0
    """Time spent in training steps."""
    tokens: int = 0
    """Tokens that went through the model."""
    loss: float = math.nan
    untrained: dict[str, float] = field(default_factory=dict)
    """Held-out figures before the first step."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights, moments, averages."""
        return self.optimizer.state_tensors("optimizer") | (self.ema.state_tensors("ema") if self.ema else {})

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Inverse of `tensors`."""
        self.optimizer.load_state_tensors(tensors, "optimizer")
        if self.ema:
            self.ema.load_state_tensors(tensors, "ema")

    def state(self) -> tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]:
        """For the checkpoint."""
        kept = {f"kept.{name}": tensor for name, tensor in self.kept.items()}
        return {**self.tensors(), **kept}, {
            "guard": self.guard.state(),
            "train_seconds": self.seconds,
            "tokens": self.tokens,
            "loss": self.loss,
            "untrained": self.untrained,
        }

    def resume(self, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self.load(tensors)
        self.kept = {name.removeprefix("kept."): tensors[name] for name in tensors if name.startswith("kept.")}
        self.guard.restore(meta["guard"])
        self.seconds, self.tokens, self.loss = meta["train_seconds"], meta["tokens"], meta["loss"]
        self.untrained = meta.get("untrained", {})

    def update(self, loss: float, rate: float, *, where: str) -> float | None:
        """Apply what was accumulated, or leave it out when the loss jumped; the gradient norm, None when left out."""
        if self.guard.keep_now:
            self.kept = {name: tensor.detach().clone() for name, tensor in self.tensors().items()}
        if not self.guard.accept(loss, where=where):
            self.optimizer.take_gradients()
            if self.guard.must_go_back and self.kept:
                self.load(self.kept)
                self.guard.went_back()
            return None
        norm = self.optimizer.step(rate, where=where)
        if self.ema:
            self.ema.update()
        return norm


def main(cfg: PretrainConfig) -> dict[str, Any]:
    """Train; returns result.json's contents. Running it again resumes or returns the finished result."""
    if not runs.is_complete(cfg.out):
        read_manifest(Path(cfg.data))  # says so when there is no corpus, before the folder is made
    run = runs.start("pretrain", cfg.out, cfg, cfg.train, {"data": files([cfg.data]), "model": model_source(cfg.model)})
    if isinstance(run, dict):
        return run
    device = pick_device(cfg.device)
    dtype = pick_dtype(cfg.precision, device)
    torch.manual_seed(cfg.seed)
    model, tokenizer = open_model(cfg, dtype, device)
    train, held_out = (open_windows(cfg, tokenizer, split, device) for split in ("train", "held_out"))
    assert train is not None
    plan = plan_of(cfg, model.config, text_tokens=train.source.num_tokens, on_cpu=device.type == "cpu")
    (run.folder / "plan.json").write_text(json.dumps(plan.to_dict(), indent=1) + "\n", encoding="utf-8")
    console().print(f"pretrain: {_words(cfg, plan, train.source.num_tokens)}, {dtype} on {device}")
    model.set_dropout(cfg.train.dropout)
    trained = open_optimizer(cfg, model, plan, dtype)
    samples = Metrics(run.folder, name="samples.jsonl", resume_step=run.first_step)
    model.train()
    if run.resumed:
        trained.resume(run.resumed.tensors, run.resumed.meta)
    else:
        trained.untrained = _measured(cfg, model, trained, held_out, cfg.held_out.tokens) if held_out is not None else {}
        if cfg.sample.every_steps:
            _write_samples(cfg, model, trained, tokenizer, samples, 0)
    step = run.first_step - 1
    for step, bar in run.steps(plan.steps or None, trained.state):
        total = plan.steps or steps_by_clock(step, trained.seconds, cfg.train.minutes * 60)
        if total <= step:
            step -= 1
            run.save_last(step + 1, trained.state)
            break
        values = _train_step(cfg, plan, trained, model, train, step, total)
        if held_out is not None and _due(step + 1, total, cfg.held_out.every_steps or (plan.steps // 10)):
            values |= _measured(cfg, model, trained, held_out, cfg.held_out.tokens)
        if cfg.objective != "masked" and _due(step + 1, total, cfg.sample.every_steps):
            _write_samples(cfg, model, trained, tokenizer, samples, step + 1)
        run.metrics.log(step + 1, values)
        _show(bar, plan.windows * cfg.context, values)
        if not plan.steps:
            bar.left_s = cfg.train.minutes * 60 - trained.seconds
    if trained.ema:
        trained.ema.copy_to_model()
        trained.ema = None
    if cfg.objective != "masked":
        _write_samples(cfg, model, trained, tokenizer, samples, step + 1)
    samples.close()
    final = _measured(cfg, model, trained, held_out, cfg.held_out.final_tokens) if held_out is not None else {}
    result = _result(cfg, plan, trained, step + 1) | final | {"data": run.record.hashes("data")}
    return run.finish(result, lambda folder: _save(model, folder, tokenizer, cfg))


def open_model(cfg: PretrainConfig, dtype: torch.dtype, device: torch.device) -> tuple[Transformer, Tokenizer]:
    """A new model with the corpus's tokenizer, or the one to be trained further with its own. ConfigError for a context
    that the model cannot read."""
    if not cfg.model:
        tokenizer = Tokenizer.from_folder(Path(cfg.data) / TOKENIZER)
        return initialised(model_config(cfg, tokenizer.vocab_size), cfg.seed, dtype=dtype, device=device), tokenizer
    model, tokenizer = load_model(cfg.model, dtype=dtype, device=device)
    if cfg.context > model.config.max_positions:
        raise ConfigError(f"--context {cfg.context}: {cfg.model} reads at most {model.config.max_positions} tokens")
    if any(True for _ in adapters(model)):
        raise ConfigError(f"--model {cfg.model}: is an adapter; merge it first: chatwright export --to hf")
    return model, tokenizer


def open_windows(cfg: PretrainConfig, tokenizer: Tokenizer, split: Literal["train", "held_out"], device: torch.device) -> (
    WindowMaker | None
):  # fmt: skip
    """The windows of a split; None when there is no held-out text. ConfigError when there is no token to hide words with."""
    shards = Shards.open(cfg.data, split)
    shards.require(tokenizer)
    if split == "held_out" and shards.num_tokens < 2:
        return None
    return WindowMaker(
        source=shards,
        context=min(cfg.context, shards.num_tokens - 1) if split == "held_out" else cfg.context,
        vocabulary=vocabulary_of(tokenizer, tokenizer.vocab_size),
        document_end=shards.eos_id,
        mask_id=_mask_id(cfg, tokenizer),
        masking=cfg.mask,
        apart=cfg.documents == "apart",
        seed=cfg.seed,
        device=device,
    )


def _mask_id(cfg: PretrainConfig, tokenizer: Tokenizer) -> int | None:
    if cfg.objective == "causal":
        return None
    named = tokenizer.config.get("mask_token")
    if named not in tokenizer.special_ids:
        raise ConfigError(
            f"--objective {cfg.objective}: the tokenizer of {cfg.data} has no mask token; "
            "make one with `chatwright tokenizer train`, and build the corpus with it"
        )
    return tokenizer.special_ids[named]


def open_optimizer(cfg: PretrainConfig, model: Transformer, plan: Plan, dtype: torch.dtype) -> Trained:
    """Optimiser, moving average and guard."""
    chosen = cfg.optim
    config = OptimConfig(
        lr=plan.lr,
        beta1=chosen.beta1,
        beta2=chosen.beta2,
        weight_decay=chosen.weight_decay,
        max_grad_norm=chosen.max_grad_norm,
    )
    optimizer: MasterAdamW
    if chosen.kind == "muon":
        optimizer = MuonAdamW(
            model.named_parameters(),
            config,
            model.matrices(),
            momentum=chosen.momentum,
            adam_lr_factor=chosen.adam_lr_factor,
            dtype=dtype,
        )
    else:
        optimizer = MasterAdamW(model.named_parameters(), config)
    ema = EMA(optimizer, cfg.train.ema_decay) if cfg.train.ema_decay else None
    return Trained(optimizer=optimizer, ema=ema, guard=SpikeGuard(config=cfg.spikes))


def steps_by_clock(step: int, seconds: float, limit_s: float) -> int:
    """Steps that fit into the time at the pace so far; at most `step` when another one would end too late."""
    if step == 0 or seconds <= 0:
        return NO_END
    return int(limit_s / (seconds / step))


def kind_of(cfg: PretrainConfig, step: int) -> Kind:
    """Which objective a step takes; mixed: spread evenly over the steps."""
    if cfg.objective != "mixed":
        return cfg.objective
    return "masked" if int((step + 1) * cfg.mixed_share) > int(step * cfg.mixed_share) else "causal"


def micro_batches(cfg: PretrainConfig, plan: Plan, windows: WindowMaker, step: int) -> list[Windows]:
    """The windows of a step, as many at a time as `--train.micro-tokens` allows."""
    at_once = max(cfg.train.micro_tokens // cfg.context, 1)
    first = step * plan.windows
    return [
        windows.batch(first + at, min(at_once, plan.windows - at), kind_of(cfg, step))
        for at in range(0, plan.windows, at_once)
    ]


def _train_step(
    cfg: PretrainConfig, plan: Plan, trained: Trained, model: Transformer, windows: WindowMaker, step: int, total: int
) -> dict[str, Any]:
    """One update; its figures."""
    started = perf_counter()
    where = f"pretrain step {step + 1}"
    batches = micro_batches(cfg, plan, windows, step)
    count = sum(batch.num_targets for batch in batches)
    rate = rate_at(step, total, plan.lr, cfg.schedule)
    norm = None
    if count:  # a very small masked batch may hide nothing
        try:
            trained.loss = accumulate(trained.optimizer, batches, lambda b: window_nll(model, b), count, where=where)
        except TrainingStopped:
            if not cfg.spikes.factor:
                raise
            trained.loss = math.inf
        norm = trained.update(trained.loss, rate, where=where)
    trained.tokens += plan.batch_tokens
    trained.seconds += perf_counter() - started
    values = {"loss": trained.loss if math.isfinite(trained.loss) else None, "lr": rate, "grad_norm": norm}
    return {**values, "kind": kind_of(cfg, step), "tokens": plan.batch_tokens, "skipped": trained.guard.skipped}


@contextlib.contextmanager
def averaged(trained: Trained) -> Iterator[None]:
    """The moving average as the model's weights, for a while."""
    if trained.ema is None:
        yield
        return
    params = trained.optimizer.params
    current = {name: param.detach().clone() for name, param in params.items()}
    trained.ema.copy_to_model()
    try:
        yield
    finally:
        with torch.no_grad():
            for name, param in params.items():
                param.copy_(current[name])


def _measured(
    cfg: PretrainConfig, model: Transformer, trained: Trained, windows: WindowMaker, max_tokens: int
) -> dict[str, float]:
    """Held-out figures of the objectives that are trained."""
    kinds: tuple[Kind, ...] = ("causal", "masked") if cfg.objective == "mixed" else (cfg.objective,)
    rows = max(cfg.train.micro_tokens // windows.context, 1)
    found: dict[str, float] = {}
    with averaged(trained):
        for kind in kinds:
            prefix = "held_out" if kind == "causal" else "held_out_masked"
            figures = held_out_loss(model, windows, kind, rows, max_tokens)
            found |= {f"{prefix}_{name}": value for name, value in figures.items()}
    return found


def _write_samples(
    cfg: PretrainConfig, model: Transformer, trained: Trained, tokenizer: Tokenizer, samples: Metrics, step: int
) -> None:
    room = cfg.context - 1
    start = document_start(cfg)
    starts = [[start, *tokenizer.encode(prompt)][:room] for prompt in cfg.sample.prompts]
    params = SamplingParams(
        max_new_tokens=cfg.sample.max_new_tokens, temperature=cfg.sample.temperature, seed=cfg.seed
    )
    with averaged(trained):
        answers = LocalGenerator(model, tokenizer).generate(starts, params, n=1) if starts else []
    for prompt, (answer,) in zip(cfg.sample.prompts, answers, strict=True):
        samples.log(step, {"prompt": prompt, "text": answer.text})
    if answers:
        console().print(f"step {step}: {cfg.sample.prompts[0]}{answers[0][0].text}")


def document_start(cfg: PretrainConfig) -> int:
    """What stands before a document in the shards: bos, or the end of the one before."""
    document = read_manifest(Path(cfg.data))["document"]
    return int(document["eos"] if document["bos"] is None else document["bos"])


def _due(done: int, total: int, every: int) -> bool:
    """Whether something that happens every so many steps is due; the end has its own."""
    return bool(every) and done % every == 0 and done < total


def _show(bar: ProgressBar, tokens: int, values: Mapping[str, Any]) -> None:
    skipped = f", {values['skipped']} updates left out" if values["skipped"] else ""
    loss = "not finite" if values["loss"] is None else f"{values['loss']:.3f}"
    bar.advance(tokens=tokens, note=f"loss {loss}{skipped}")


def _words(cfg: PretrainConfig, plan: Plan, num_tokens: int) -> str:
    length = f"{plan.steps} steps" if plan.steps else f"{cfg.train.minutes:g} minutes"
    passes = f", {plan.steps * plan.batch_tokens / num_tokens:.1f} passes" if plan.steps else ""
    return (
        f"{plan.parameters:,} weights, {num_tokens:,} tokens of text, {length} of {plan.batch_tokens:,} tokens{passes}, "
        f"{cfg.objective}, {cfg.optim.kind} at {plan.lr:.4g}"
    )


def _result(cfg: PretrainConfig, plan: Plan, trained: Trained, steps: int) -> dict[str, Any]:
    return {
        "objective": cfg.objective,
        **({"model": cfg.model} if cfg.model else {}),
        **{name.replace("held_out", "untrained"): value for name, value in trained.untrained.items()},
        **plan.to_dict(),
        "steps": steps,
        "tokens": trained.tokens,
        "loss": trained.loss,
        "train_seconds": round(trained.seconds, 3),
        "skipped": trained.guard.skipped,
        "rolled_back": trained.guard.rolled_back,
    }


def _save(model: Transformer, folder: Path, tokenizer: Tokenizer, cfg: PretrainConfig) -> None:
    save_final(model, folder, tokenizer, base=cfg.model)
    about = {"objective": cfg.objective, "mask_id": _mask_id(cfg, tokenizer), "start_id": document_start(cfg)}
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
