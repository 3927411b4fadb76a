"""Train a reward model on rankings with ties (InstructGPT section 3.5, eq. 1), and write its report card.

All answers of a prompt are one batch element: the shared prompt is computed once, K answers hang on it as branches.
Read top to bottom: open the run, load the trunk, the loop, then bias, report card, gate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from chatwright.config import check_least, check_length, check_share
from chatwright.data.batches import RankingBatch, pad_states
from chatwright.data.cursor import Batches
from chatwright.data.passages import prompt_tokens
from chatwright.data.ranking_splits import ReservedConfig, Split, divide
from chatwright.data.rankings import (
    Layout,
    RankingExample,
    load_examples,
    micro_batches,
    shuffled_pairs,
)
from chatwright.engine import run as runs
from chatwright.engine.checkpoint import write_text
from chatwright.engine.optim import MasterAdamW, OptimConfig
from chatwright.engine.record import Sources, files, model_source
from chatwright.engine.schedule import ScheduleConfig, rate_at
from chatwright.engine.step import accumulate, step_all
from chatwright.errors import ConfigError, DataError
from chatwright.evals.gate import MIN_PROMPTS
from chatwright.evals.report_card import card_text, report_card
from chatwright.evals.rewards import LearnedReward, open_learned
from chatwright.generation.lm import load_model
from chatwright.jsonl import check_writable
from chatwright.labellers.simulated import META_KEY, summary
from chatwright.model.formats.reward import save_scalar_model
from chatwright.model.heads import ScalarModel
from chatwright.model.lora import LoraConfig, inject, merge
from chatwright.model.precision import DeviceName, Precision, pick_device, pick_dtype
from chatwright.objectives.ranking import PairNorm, TieMode, initial_tie_parameter, ranking_loss
from chatwright.progress import console
from chatwright.records import (
    Prompt,
    Ranking,
    Where,
    load_demonstrations,
    load_rankings,
    read_jsonl,
    write_jsonl,
)
from chatwright.records.sameness import distinct_pairs
from chatwright.statistics.ties import fit_log_nu
from chatwright.text.tokenizer import Tokenizer

_KEEP_BYTES = 2**30  # states of frozen blocks that are kept for the next pass


@dataclass(frozen=True, kw_only=True)
class RewardTrainConfig(runs.SaveConfig):
    """Length and shape of the run."""

    steps: int = 0
    """Optimiser steps; 0: `epochs` passes over the data."""
    epochs: int = 1
    """Passes over the rankings when `steps` is 0. The paper: 1."""
    batch_size: int = 8
    """Prompts (whole rankings) in one step. The paper: 64."""
    max_tokens: int = 2048
    """Longer prompts with their answers are cut or left out (counts are printed); never more than the model's context."""
    micro_tokens: int = 2048
    """Tokens that go through the model at once; changes memory and speed, not the result."""
    ties: TieMode = "davidson"
    """What a tie means to the loss. The paper: drop."""
    pair_norm: PairNorm = "k2"
    """Pairs of a prompt are divided by C(K, 2), or by the pairs that count."""
    head_lr: float = 2e-4
    """Learning rate of the head, which starts from noise while the trunk starts from a trained model."""
    head_init: Literal["normal", "zeros"] = "normal"
    """Weights of the head at the start: N(0, 1/(D+1)), as in OpenAI's published code, or zeros: every answer scores the
    same then, and a short run spends no steps on unlearning a random order."""
    tie_lr: float = 1e-2
    """Learning rate of the tie parameter (a single number)."""
    frozen_layers: int = 0
    """Blocks from the bottom, embeddings with them, that keep the SFT model's weights: their backward pass is saved."""
    layout: Layout = "tree"
    """tree: one row per prompt with all its answers, the prompt computed once. plain: one row per answer, the same scores;
    without the tree's mask, so that the attention kernels of a GPU need no scores of the whole row in memory."""
    shuffled_pairs: bool = False
    """Tear rankings into pairs and shuffle them, as the paper warns against; for comparison only."""

    def __post_init__(self) -> None:
        check_length(self, "train")
        check_least(self, "train", 1, "batch_size", "max_tokens", "micro_tokens")
        check_least(self, "train", 0, "head_lr", "tie_lr", "frozen_layers")


@dataclass(frozen=True, kw_only=True)
class RewardEvalConfig:
    """What is kept aside for the report card."""

    data: tuple[str, ...] = ()
    """Held-out rankings; empty: a share of --data."""
    share: float = 0.2
    """Share of prompts kept aside when `data` is empty; 0: no report card."""

    def __post_init__(self) -> None:
        check_share(self, "eval", "share", whole=False)


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Learn from rankings what people prefer."""

    model: str = "smollm2-135m-instruct"
    """Trunk to start from: the SFT model."""
    template: str = ""
    """Chat template instead of the model's own: a Jinja file, a layout (chatml, llama3, gemma, mistral, plain), or settings
    of it: thinking=on, thinking=off, date=YYYY-MM-DD. Several are joined by commas. It is saved with the model."""
    data: tuple[str, ...]
    """Rankings, JSON lines."""
    demonstrations: tuple[str, ...] = ()
    """Demonstrations whose mean reward is set to 0 after training."""
    out: str = "runs/reward"
    """Run folder."""
    fresh: bool = False
    """Delete the run in `out` and start anew; without it, a run of other inputs or settings is refused."""
    seed: int = 0
    """Fixes head, data order and split."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format; head, masters and moments are fp32 always."""
    train: RewardTrainConfig = RewardTrainConfig()
    """Length and loss."""
    eval: RewardEvalConfig = RewardEvalConfig()
    """Held-out rankings."""
    reserved: ReservedConfig = ReservedConfig()
    """Prompts for a second reward model."""
    optim: OptimConfig = OptimConfig(lr=1e-5)
    """Optimiser. The paper: 9e-6."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The paper: cosine to 10 %."""
    lora: LoraConfig | None = None
    """Train a low-rank adapter of the trunk (merged into it at the end) and the head."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Score the completions of a file with a trained reward model."""

    reward: str
    """Reward run folder."""
    data: str
    """JSON lines with messages (or prompt) and completions (or completion)."""
    out: str
    """File to write: each row as it was, with "scores": [...]."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format."""


def score_batch(model: ScalarModel, batch: RankingBatch) -> torch.Tensor:
    """One score per answer, read at its last token: [A] fp32."""
    hidden_BTD = model.trunk(
        batch.tokens_BT, positions_BT=batch.positions_BT, mask_BTS=batch.mask_BTS, bottom_BTD=batch.bottom_BTD
    )
    scores_A: torch.Tensor = model.head(hidden_BTD[batch.answer_row_A, batch.answer_last_A])
    return scores_A


def loss_of(model: ScalarModel, batch: RankingBatch, cfg: RewardTrainConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of one micro-batch, (sum over prompts, prompts)."""
    return ranking_loss(
        score_batch(model, batch),
        batch.first_R,
        batch.second_R,
        batch.relation_R,
        batch.prompt_R,
        batch.num_prompts,
        mode=cfg.ties,
        pair_norm=cfg.pair_norm,
        tie_parameter=model.tie_parameter,
    )


@torch.no_grad()
def score_examples(
    model: ScalarModel, examples: Sequence[RankingExample], pad_id: int, micro_tokens: int
) -> list[list[float]]:
    """Scores of every answer of every ranking, in order."""
    model.eval()
    scores: list[list[float]] = []
    for example in examples:  # one ranking at a time: a score never depends on its neighbours in a batch
        (batch,) = micro_batches([example], micro_tokens, pad_id, model.head.weight.device)
        scores.append(score_batch(model, batch).tolist())
    return scores


def split(cfg: RewardConfig) -> Split:
    """(training, held-out) rankings of a run."""
    held_out = load_rankings(cfg.eval.data) if cfg.eval.data else None
    return divide(load_rankings(cfg.data), held_out, cfg.eval.share, cfg.reserved, seed=cfg.seed, least=MIN_PROMPTS)


def tie_share(rankings: Sequence[Ranking]) -> float:
    """Share of tied pairs."""
    relations = [relation for ranking in rankings for _, _, relation in ranking.order.pairs()]
    return relations.count(0) / max(len(relations), 1)


def sources(cfg: RewardConfig) -> Sources:
    """Inputs of a run."""
    found = {"model": model_source(cfg.model), "data": files(cfg.data), "eval.data": files(cfg.eval.data)}
    return found | {"demonstrations": files(cfg.demonstrations)}


def main(cfg: RewardConfig) -> dict[str, Any]:
    """Train; returns result.json's contents. Running it again resumes or returns the finished result."""
    run = runs.start("reward", cfg.out, cfg, cfg.train, sources(cfg))
    if isinstance(run, dict):
        return run
    device = pick_device(cfg.device)
    dtype = pick_dtype(cfg.precision, device)
    torch.manual_seed(cfg.seed)
    parts = split(cfg)
    train, held_out = parts.train, parts.held_out
    trunk, tokenizer = load_model(cfg.model, dtype=dtype, device=device, template=cfg.template)
    limit = min(cfg.train.max_tokens, trunk.config.max_positions)
    examples = load_examples(train, tokenizer, max_tokens=limit)
    if not examples:
        raise ConfigError(f"--data {' '.join(cfg.data)}: no ranking is left to train on")
    if not any(relation for example in examples for _, _, relation in example.relations):
        raise ConfigError(f"--data {' '.join(cfg.data)}: every pair of answers is tied, so there is no order to learn")
    judged = load_examples(held_out, tokenizer, max_tokens=limit)
    if held_out and not judged:
        console().print("reward: no held-out ranking fits, so there will be no report card, and PPO stays closed")
    demonstrations = _demonstrations(cfg, tokenizer, trunk.config.max_positions)
    if held_out and not any(relation for ranking in held_out for _, _, relation in distinct_pairs(ranking)):
        raise ConfigError(
            "the held-out rankings are all ties or compare equal texts, which no report card can be made of; "
            "--eval.share 0: none"
        )
    if cfg.lora is not None:
        inject(trunk, cfg.lora, seed=cfg.seed)
    trunk.freeze_bottom(cfg.train.frozen_layers)
    model = ScalarModel(trunk).to(device)
    if cfg.train.head_init == "normal":
        model.head.init_normal(torch.Generator().manual_seed(cfg.seed))
    else:
        model.head.init_zeros()
    with torch.no_grad():
        model.tie_parameter.fill_(initial_tie_parameter(cfg.train.ties, tie_share(train)))
    console().print(f"reward: {len(examples)} rankings, {len(held_out)} held out, ties {tie_share(train):.0%}, {dtype}")
    if parts.in_training:
        console().print(f"reward: {parts.in_training} held-out rankings left out, their prompts are in training")
    units = shuffled_pairs(examples, cfg.seed) if cfg.train.shuffled_pairs else examples
    _train(run, model, units, tokenizer, cfg)
    merge(model.trunk)
    _centre(model, demonstrations, tokenizer, cfg)
    card, no_card = _report(run.folder, model, examples, held_out, judged, train, tokenizer, cfg)
    result = {
        "model": cfg.model,
        "rankings": len(examples),
        "ties": cfg.train.ties,
        "tie_parameter": float(model.tie_parameter.detach()),
        "accuracy": card["accuracy"]["value"] if card else None,
        "length_baseline": card["length_baseline"] if card else None,
        "gate": card["gate"] if card else no_card or _no_card(parts.in_training),
        "held_out_in_training": parts.in_training,
        "simulated_share": sum(r.labeller_kind == "simulated" for r in train) / len(train),
        "data": run.record.hashes("data"),
    }
    return run.finish(result, lambda folder: _export(model, folder, tokenizer, cfg))


def _export(model: ScalarModel, folder: Path, tokenizer: Tokenizer, cfg: RewardConfig) -> None:
    merge(model.trunk)
    meta = {"ties": cfg.train.ties, "pair_norm": cfg.train.pair_norm, "base": cfg.model}
    save_scalar_model(model, folder, tokenizer, meta)


def _train(
    run: runs.Run, model: ScalarModel, examples: Sequence[RankingExample], tokenizer: Tokenizer, cfg: RewardConfig
) -> None:
    """The loop: every step a batch of whole prompts, one optimiser step; the tie parameter has a rate of its own."""
    optimizers = _optimizers(model, cfg)
    if run.resumed:
        for name, (optimizer, _) in optimizers.items():
            optimizer.load_state_tensors(run.resumed.tensors, name)

    def state() -> tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]:
        tensors: dict[str, torch.Tensor] = {}
        for name, (optimizer, _) in optimizers.items():
            tensors |= optimizer.state_tensors(name)
        return tensors, {}

    bottoms: dict[int, torch.Tensor] = {}  # per ranking, filled in the first pass
    order = Batches(len(examples), cfg.train.batch_size, cfg.seed, epochs=cfg.train.epochs, steps=cfg.train.steps)
    model.train()
    for step, bar in run.steps(order.total, state):
        where = f"reward step {step + 1}"
        places = order.at(step)
        chosen = [examples[i] for i in places]
        device, layout = model.head.weight.device, cfg.train.layout
        batches = micro_batches(chosen, cfg.train.micro_tokens, tokenizer.pad_id, device, layout)
        if model.trunk.num_frozen and layout == "tree" and not cfg.train.shuffled_pairs:
            batches = [_with_bottom(batch, places, bottoms, model) for batch in batches]
        trunk = optimizers["trunk"][0]
        rates = {name: (o, rate_at(step, order.total, lr, cfg.schedule)) for name, (o, lr) in optimizers.items()}
        with run.saved_on_error(state, lambda folder: _export(model, folder, tokenizer, cfg)):
            loss = accumulate(trunk, batches, lambda b: loss_of(model, b, cfg.train), len(chosen), where=where)
            norms = step_all(rates, where=where)
        tokens = sum(e.num_tokens for e in chosen)
        values = {"loss": loss, "lr": rates["trunk"][1], "grad_norm": norms["trunk"], "tokens": tokens}
        run.metrics.log(step + 1, {**values, "tie_parameter": float(model.tie_parameter.detach())})
        bar.advance(tokens=tokens, note=f"loss {loss:.3f}")


def _with_bottom(
    batch: RankingBatch, places: Sequence[int], known: dict[int, torch.Tensor], model: ScalarModel
) -> RankingBatch:
    """The batch with what the frozen blocks make of it. Each ranking goes through them once, by itself, so that what is
    kept depends neither on its neighbours nor on where a run was resumed; what does not fit is computed again."""
    assert batch.positions_BT is not None and batch.mask_BTS is not None, "tree layout"
    rows = []
    for row, (member, length) in enumerate(zip(batch.rows, batch.lengths_B.tolist(), strict=True)):
        if places[member] not in known:
            one, cut = slice(row, row + 1), slice(0, length)
            states_1TD = model.trunk.bottom(
                batch.tokens_BT[one, cut], positions_BT=batch.positions_BT[one, cut], mask_BTS=batch.mask_BTS[one, cut, cut]
            )
            if sum(states.nbytes for states in known.values()) + states_1TD.nbytes <= _KEEP_BYTES:
                known[places[member]] = states_1TD[0]
            rows.append(states_1TD[0])
        else:
            rows.append(known[places[member]])
    return replace(batch, bottom_BTD=pad_states(rows, batch.tokens_BT.shape[1]))


def _optimizers(model: ScalarModel, cfg: RewardConfig) -> dict[str, tuple[MasterAdamW, float]]:
    """(optimiser, peak rate) of trunk, head and, where one is learned, the tie parameter."""
    head = OptimConfig(lr=cfg.train.head_lr, max_grad_norm=0.0)
    out = {
        "trunk": (MasterAdamW(model.trunk.named_parameters(), cfg.optim), cfg.optim.lr),
        "head": (MasterAdamW(model.head.named_parameters(), head), cfg.train.head_lr),
    }
    model.tie_parameter.requires_grad_(cfg.train.ties in ("rao_kupper", "davidson"))
    if model.tie_parameter.requires_grad:
        tie = OptimConfig(lr=cfg.train.tie_lr, max_grad_norm=0.0)
        out["tie"] = (MasterAdamW([("tie_parameter", model.tie_parameter)], tie), cfg.train.tie_lr)
    return out


Answered = tuple[Prompt, str, bool]
"""(prompt, answer, whether it ended by itself)."""


def _demonstrations(cfg: RewardConfig, tokenizer: Tokenizer, context: int) -> list[Answered]:
    """Answers on which the scores are centred; those whose prompt leaves no room in the context are left out and counted."""
    rows = [(d.prompt, d.answer, True) for d in load_demonstrations(cfg.demonstrations)]
    kept = [row for row in rows if len(prompt_tokens(row[0], tokenizer, context * 3 // 4)[0]) < context]
    if len(kept) < len(rows):
        console().print(f"reward: {len(kept)} of {len(rows)} demonstrations used; the others are over {context} tokens")
    if rows and not kept:
        raise ConfigError(f"--demonstrations {' '.join(cfg.demonstrations)}: none fits into the context of {context} tokens")
    return kept


def _centre(model: ScalarModel, rows: Sequence[Answered], tokenizer: Tokenizer, cfg: RewardConfig) -> None:
    """Set the bias so that demonstrations have mean reward 0 (InstructGPT section 3.5)."""
    if not rows:
        return
    mean = LearnedReward(model, tokenizer, micro_tokens=cfg.train.micro_tokens).score_texts(rows).mean()
    if not bool(torch.isfinite(mean)):
        console().print("reward: the mean score of the demonstrations is not finite, so the scores are not centred")
        return
    with torch.no_grad():
        model.head.bias.sub_(mean)


def _no_card(in_training: int) -> str:
    if in_training:
        return f"too few to tell: all {in_training} held-out rankings have a prompt that is in training"
    return "no rankings were held out, so there is no report card"


def _report(
    folder: Path,
    model: ScalarModel,
    examples: Sequence[RankingExample],
    held_out: Sequence[Ranking],
    judged: Sequence[RankingExample],
    train: Sequence[Ranking],
    tokenizer: Tokenizer,
    cfg: RewardConfig,
) -> tuple[dict[str, Any] | None, str]:
    """Report card on the held-out rankings: report_card.json (with the gate's verdict) and report_card.txt. Without one:
    None and the reason, which closes the gate; the trained weights are kept."""
    if not held_out:
        return None, ""
    scores = score_examples(model, judged, tokenizer.pad_id, cfg.train.micro_tokens)
    try:
        card = report_card(
            [held_out[e.index] for e in judged],
            scores,
            [[float(len(answer)) for answer in e.answers] for e in judged],
            tie_mode=cfg.train.ties,
            tie_param=_reported_tie_parameter(model, examples, tokenizer, cfg),
            train_labellers={r.labeller for r in train if r.labeller},
            accuracy_ceiling=_ceiling(held_out),
            seed=cfg.seed,
        )
    except DataError as error:
        reason = f"no report card: {error}"
        console().print(f"reward: PPO is closed for this model: {reason}")
        return None, reason
    write_text(folder / "report_card.json", json.dumps(card, indent=1) + "\n")
    write_text(folder / "report_card.txt", card_text(card) + "\n")
    console().print(card_text(card))
    if card["gate"]:
        console().print(f"reward: PPO is closed for this model: {card['gate']}")
    return card, ""


def _reported_tie_parameter(
    model: ScalarModel, train: Sequence[RankingExample], tokenizer: Tokenizer, cfg: RewardConfig
) -> float:
    """eta, log nu, or (drop, soft) a Davidson log nu fitted on training ties for reporting only."""
    value = model.tie_parameter.detach()
    if cfg.train.ties == "rao_kupper":
        return float(torch.nn.functional.softplus(value))
    if cfg.train.ties == "davidson":
        return float(value)
    examples = train[:200]
    scores = score_examples(model, examples, tokenizer.pad_id, cfg.train.micro_tokens)
    rows = [
        (row[i] - row[j], relation)
        for example, row in zip(examples, scores, strict=True)
        for i, j, relation in example.relations
    ]
    return fit_log_nu(np.array([d for d, _ in rows]), np.array([r for _, r in rows]))


def _ceiling(rankings: Sequence[Ranking]) -> float | None:
    """Share of strict pairs a perfect model would get right, where the simulated labeller recorded it."""
    simulated = [r for r in rankings if META_KEY in r.meta]
    return summary(simulated).accuracy_ceiling if simulated else None


def _to_score(row: Mapping[str, Any], where: Where) -> list[Answered]:
    """(prompt, answer, ended) of every completion of a row."""
    prompt = Prompt.from_dict({key: value for key, value in row.items() if key != "completion"}, where)
    answers = where.list(row.get("completions", [row.get("completion")]), "completions")
    reasons = row.get("finish_reasons", row.get("finish_reason"))  # bestofn: the plural is of all its answers
    cut = [r == "length" for r in reasons] if isinstance(reasons, list) else [reasons == "length"] * len(answers)
    if len(cut) != len(answers):
        raise where.error("finish_reason", f"has {len(cut)} values for {len(answers)} completions")
    texts = [where.text(answer, f"completions[{i}]") for i, answer in enumerate(answers)]
    return [(prompt, text, not was_cut) for text, was_cut in zip(texts, cut, strict=True)]


def score(cfg: ScoreConfig) -> dict[str, Any]:
    """Write each row of --data back with its scores."""
    check_writable(cfg.out)
    device = pick_device(cfg.device)
    learned = open_learned(cfg.reward, dtype=pick_dtype(cfg.precision, device), device=device)
    out = []
    for line, row in read_jsonl(cfg.data):
        where = Where(cfg.data, line)
        items = _to_score(row, where)
        try:
            scores = learned.score_texts(items)
        except DataError as error:  # a prompt that fills the context
            raise where.error("messages", str(error)) from None
        out.append({**row, "scores": [round(float(score), 6) for score in scores]})
    write_jsonl(cfg.out, out)
    console().print(f"score: {len(out)} rows -> {cfg.out}")
    return {"rows": len(out), "out": cfg.out}
