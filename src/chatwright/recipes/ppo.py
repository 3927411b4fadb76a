"""PPO and PPO-ptx against a learned reward (InstructGPT sections 3.5 and C.4), in one file.

One iteration, five steps, each a function from dataclass to dataclass:

    1 sample      prompts -> answers of the current policy                      Rollouts
    2 score       reward model, log-probabilities of policy and reference, values   Scored
    3 advantages  per-token KL reward, GAE, whitening                           Advantaged
    4 update      clipped policy loss + gamma * ptx loss, then the critic       UpdateStats
    5 log         figures, KL controller

Guard rails look at the figures of steps 2 and 4 (`guards.py`); what is exported was measured to be inside the limits.

Shapes: B answers, T answer positions (padded), N answer tokens of a micro-batch, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from chatwright.data.batches import LMBatch
from chatwright.data.cursor import Order
from chatwright.data.prompts import PromptExample
from chatwright.data.ptx import PtxText
from chatwright.data.responses import ResponseBatch, response_batches
from chatwright.engine import run as runs
from chatwright.engine.metrics import Metrics
from chatwright.engine.record import Sources, files, model_source
from chatwright.engine.schedule import rate_at
from chatwright.engine.step import accumulate
from chatwright.errors import TrainingStopped
from chatwright.evals.rewards import Answered, answered, check_gate, reward_sources
from chatwright.generation.api import SamplingParams
from chatwright.kernels.cross_entropy import token_logprobs
from chatwright.model.formats.final import save_final
from chatwright.model.transformer import Transformer
from chatwright.objectives import ppo as objective
from chatwright.objectives.lm import batch_nll, mean_nll
from chatwright.objectives.stats import masked_mean, whiten
from chatwright.progress import console
from chatwright.recipes.guards import check_first_minibatch, check_start, measured_breach, update_breach
from chatwright.recipes.ppo_config import PPOAlgorithmConfig, PPOConfig, PtxConfig, RolloutConfig
from chatwright.recipes.ppo_models import Models, Training, open_training, reference_model


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Step 1: prompts and sampled answers; ids include the stop token where `ended_B`."""

    answers: tuple[Answered, ...]
    prompt_ids: tuple[tuple[int, ...], ...]
    response_ids: tuple[tuple[int, ...], ...]
    ended_B: torch.Tensor
    sampled_logprob_BT: torch.Tensor
    mask_BT: torch.Tensor
    bottoms: tuple[torch.Tensor, ...] = ()
    """Per answer [T, D]: what the frozen blocks, which all networks share, make of prompt and answer."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Step 2. All [B, T] tensors are aligned with the answer tokens; values stand before each token."""

    rollouts: Rollouts
    logprob_BT: torch.Tensor
    reference_BT: torch.Tensor
    entropy_BT: torch.Tensor
    value_BT: torch.Tensor
    raw_score_B: torch.Tensor
    score_B: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Advantaged:
    """Step 3."""

    scored: Scored
    reward_BT: torch.Tensor
    advantage_BT: torch.Tensor
    return_BT: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class UpdateStats:
    """Step 4: means over the tokens of all minibatches."""

    policy_loss: float
    value_loss: float
    ptx_loss: float
    clip_fraction: float
    k3_update: float
    first_log_ratio: float
    policy_grad_norm: float
    ptx_grad_norm: float
    critic_grad_norm: float


# ---------------------------------------------------------------------------------------------------- 1 sample


def sample(models: Models, prompts: Sequence[PromptExample], cfg: RolloutConfig, seeds: Sequence[int]) -> Rollouts:
    """Draw one answer per prompt from the current policy (eval mode, stops at the real stop tokens)."""
    models.generator.refresh()
    params = SamplingParams(max_new_tokens=cfg.max_new_tokens, temperature=cfg.temperature)
    answers = [row[0] for row in models.generator.generate([p.ids for p in prompts], params, seeds=seeds)]
    longest = max(len(answer.ids) for answer in answers)
    logprob_BT = torch.zeros(len(answers), longest)
    mask_BT = torch.zeros(len(answers), longest, dtype=torch.bool)
    for row, answer in enumerate(answers):
        logprob_BT[row, : len(answer.ids)] = torch.tensor(answer.logprobs)
        mask_BT[row, : len(answer.ids)] = True
    rows = tuple(answered(example.prompt, answer) for example, answer in zip(prompts, answers, strict=True))
    return Rollouts(
        answers=rows,
        prompt_ids=tuple(row.prompt_ids for row in rows),
        response_ids=tuple(row.response_ids for row in rows),
        ended_B=torch.tensor([answer.finish_reason == "stop" for answer in answers]),
        sampled_logprob_BT=logprob_BT,
        mask_BT=mask_BT,
    )


def _bottoms(rollouts: Rollouts, models: Models, micro_tokens: int) -> tuple[torch.Tensor, ...]:
    """What the frozen blocks make of every answer, computed once for old, new and reference log-probabilities and values."""
    found: dict[int, torch.Tensor] = {}
    for batch in batches_of(rollouts, range(len(rollouts.answers)), models, micro_tokens):
        bottom_BTD = models.policy.bottom(batch.tokens_BT)
        for row, source in enumerate(batch.rows):
            found[source] = bottom_BTD[row, : int(batch.last_B[row]) + 1]
    return tuple(found[source] for source in range(len(found)))


# ---------------------------------------------------------------------------------------------------- 2 score


def batches_of(rollouts: Rollouts, rows: Sequence[int], models: Models, micro_tokens: int) -> list[ResponseBatch]:
    """Micro-batches of the given rows: the single place where answer positions are laid out."""
    device = models.policy.embed.weight.device
    return response_batches(
        rollouts.prompt_ids, rollouts.response_ids, rows, micro_tokens, models.tokenizer.pad_id, device, rollouts.bottoms
    )


def minibatches(num_answers: int, cfg: PPOConfig, step: int) -> list[list[tuple[int, ...]]]:
    """Per inner epoch, the answers of each minibatch: shuffled by seed, step and epoch."""
    size = cfg.ppo.minibatch_size
    shuffled = [
        tuple(Order(num_answers, cfg.seed + 7919 * step + epoch).batch(0, num_answers))
        for epoch in range(cfg.ppo.inner_epochs)
    ]
    return [[rows[start : start + size] for start in range(0, num_answers, size)] for rows in shuffled]


def response_logprobs(
    model: Transformer, batch: ResponseBatch, temperature: float, *, with_entropy: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(log-probability, entropy) of every answer token of a micro-batch, [N] each, nats."""
    hidden_BTD = model(batch.tokens_BT, bottom_BTD=batch.bottom_BTD)
    hidden_ND = hidden_BTD[batch.row_N, batch.predict_N]
    return token_logprobs(hidden_ND, model.output_weight(), batch.targets_N, temperature, with_entropy=with_entropy)


def values_of(models: Models, batch: ResponseBatch) -> torch.Tensor:
    """The critic's value before every answer token of a micro-batch, [N]."""
    value_BT: torch.Tensor = models.critic(batch.tokens_BT, bottom_BTD=batch.bottom_BTD)
    return value_BT[batch.row_N, batch.predict_N]


@torch.no_grad()
def score(rollouts: Rollouts, models: Models, cfg: PPOConfig, *, step: int) -> Scored:
    """Log-probabilities by the training code path, reference, values, and the reward of each whole answer.

    The answers go through the networks in the minibatches that the update will take them in: matrix products of another
    shape round otherwise, by up to 0.3 nats in bf16, and old and new log-probabilities would differ before any update.
    """
    if models.shared_bottom:
        rollouts = replace(rollouts, bottoms=_bottoms(rollouts, models, cfg.train.micro_tokens))
    zeros = torch.zeros_like(rollouts.sampled_logprob_BT)
    logprob_BT, reference_BT, entropy_BT, value_BT = (zeros.clone() for _ in range(4))
    temperature = cfg.rollout.temperature
    models.policy.eval()
    first_epoch = minibatches(len(rollouts.answers), cfg, step)[0]
    for batch in (batch for rows in first_epoch for batch in batches_of(rollouts, rows, models, cfg.train.micro_tokens)):
        place = (batch.source_N, batch.column_N)
        policy_N, entropy_N = response_logprobs(models.policy, batch, temperature, with_entropy=True)
        with reference_model(models) as reference:
            reference_N, _ = response_logprobs(reference, batch, temperature)
        assert entropy_N is not None
        logprob_BT[place] = policy_N.cpu()
        entropy_BT[place] = entropy_N.cpu()
        reference_BT[place] = reference_N.cpu()
        value_BT[place] = values_of(models, batch).cpu()
    raw_score_B = models.reward.score(rollouts.answers)
    score_B = objective.apply_eos_rule(raw_score_B, rollouts.ended_B, cfg.rollout.eos_rule, cfg.rollout.eos_penalty)
    return Scored(
        rollouts=rollouts,
        logprob_BT=logprob_BT,
        reference_BT=reference_BT,
        entropy_BT=entropy_BT,
        value_BT=value_BT,
        raw_score_B=raw_score_B,
        score_B=score_B,
    )


# ------------------------------------------------------------------------------------------------ 3 advantages


def advantages(scored: Scored, beta: float, cfg: PPOAlgorithmConfig) -> Advantaged:
    """Per-token KL reward with the score on the last token, optional whitening, GAE, returns, whitening."""
    mask_BT = scored.rollouts.mask_BT
    reward_BT = objective.token_rewards(scored.score_B, scored.logprob_BT, scored.reference_BT, mask_BT, beta)
    if cfg.whiten_rewards:
        reward_BT = whiten(reward_BT, mask_BT, shift_mean=False)
    advantage_BT, return_BT = objective.gae(reward_BT, scored.value_BT, mask_BT, cfg.gamma, cfg.lam)
    if cfg.whiten_advantages:
        advantage_BT = objective.whiten_advantages(advantage_BT, mask_BT)
    return Advantaged(scored=scored, reward_BT=reward_BT, advantage_BT=advantage_BT, return_BT=return_BT)


# ---------------------------------------------------------------------------------------------------- 4 update


def update(
    advantaged: Advantaged,
    models: Models,
    ptx: PtxText,
    cfg: PPOConfig,
    *,
    step: int,
    where: str,
) -> UpdateStats:
    """One pass (or inner_epochs) over shuffled minibatches. Policy and ptx gradients meet in one optimiser step."""
    totals: dict[str, float] = {}
    updates = [rows for epoch in minibatches(len(advantaged.scored.rollouts.answers), cfg, step) for rows in epoch]
    policy_rate, critic_rate = (
        rate_at(step, cfg.train.steps, o.lr, cfg.schedule) for o in (cfg.optim, cfg.critic_optim)
    )
    episodes = step * cfg.ppo.inner_epochs * cfg.rollout.batch_size
    first_log_ratio = 0.0
    models.policy.train()
    for index, rows in enumerate(updates):
        batches = batches_of(advantaged.scored.rollouts, rows, models, cfg.train.micro_tokens)
        count = float(sum(batch.targets_N.numel() for batch in batches))
        largest, policy = _policy_backward(batches, count, advantaged, models, cfg, where)
        if index == 0:
            first_log_ratio = largest
            check_first_minibatch(largest, models.policy.embed.weight.dtype, cfg.guard, where)
        policy["policy_grad_norm"] = models.policy_optim.grad_norm()
        position = round(episodes * cfg.ptx.per_episode)
        episodes += len(rows)
        num_ptx = round(episodes * cfg.ptx.per_episode) - position
        policy |= _ptx_backward(models, ptx.take(position, num_ptx), cfg.ptx, where)
        models.policy_optim.step(policy_rate, where=where)
        critic = _critic_step(batches, count, advantaged, models, cfg, critic_rate, where)
        for name, value in {**policy, **critic}.items():
            totals[name] = totals.get(name, 0.0) + value / len(updates)
    return UpdateStats(first_log_ratio=first_log_ratio, **totals)


def _policy_backward(
    batches: list[ResponseBatch], count: float, advantaged: Advantaged, models: Models, cfg: PPOConfig, where: str
) -> tuple[float, dict[str, float]]:
    """Clipped policy loss into the policy's gradients; returns the largest |log rho| and the means."""
    seen = {"clip_fraction": 0.0, "k3_update": 0.0}
    largest = 0.0

    def loss(batch: ResponseBatch) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal largest
        place = (batch.source_N, batch.column_N)
        old_N = advantaged.scored.logprob_BT[place].to(batch.targets_N.device)
        logprob_N, _ = response_logprobs(models.policy, batch, cfg.rollout.temperature)
        advantage_N = advantaged.advantage_BT[place].to(logprob_N.device)
        terms = objective.policy_loss(logprob_N, old_N, advantage_N, cfg.ppo.clip)
        seen["clip_fraction"] += float(terms.clipped_sum) / count
        seen["k3_update"] += float(terms.k3_sum) / count
        largest = max(largest, float((logprob_N.detach() - old_N).abs().max()))
        return terms.loss_sum, terms.count

    mean = accumulate(models.policy_optim, batches, loss, count, where=f"{where}, policy")
    return largest, {"policy_loss": mean, **seen}


def _ptx_backward(models: Models, batches: list[LMBatch], cfg: PtxConfig, where: str) -> dict[str, float]:
    """Add gamma times the gradient of the pre-training loss to the same buffers (InstructGPT eq. 2)."""
    if not batches:
        return {"ptx_loss": 0.0, "ptx_grad_norm": 0.0}
    set_aside = models.policy_optim.take_gradients()  # so that the ptx norm can be measured by itself
    tokens = float(sum(batch.num_targets for batch in batches))
    sequences = float(sum(batch.tokens_BT.shape[0] for batch in batches))
    weight = cfg.gamma * (tokens / sequences if cfg.reduction == "sequence_sum" else 1.0)
    policy, optim = models.policy, models.policy_optim
    mean = accumulate(optim, batches, lambda b: batch_nll(policy, b), tokens, where=f"{where}, ptx", weight=weight)
    norm = models.policy_optim.grad_norm()
    models.policy_optim.add_gradients(set_aside)
    return {"ptx_loss": mean, "ptx_grad_norm": norm}


def _critic_step(
    batches: list[ResponseBatch],
    count: float,
    advantaged: Advantaged,
    models: Models,
    cfg: PPOConfig,
    rate: float,
    where: str,
) -> dict[str, float]:
    """Clipped value loss and one step of the critic's own optimiser."""

    def loss(batch: ResponseBatch) -> tuple[torch.Tensor, torch.Tensor]:
        place = (batch.source_N, batch.column_N)
        value_N = values_of(models, batch)
        old_N = advantaged.scored.value_BT[place].to(value_N.device)
        return_N = advantaged.return_BT[place].to(value_N.device)
        return objective.value_loss(value_N, old_N, return_N, cfg.ppo.value_clip)

    mean = accumulate(models.critic_optim, batches, loss, count, where=f"{where}, critic")
    norm = models.critic_optim.step(rate, where=f"{where}, critic")
    return {"value_loss": mean, "critic_grad_norm": norm}


# ------------------------------------------------------------------------------------------------------- 5 log


def figures(advantaged: Advantaged, beta: float) -> dict[str, float]:
    """Figures of the policy that wrote the batch, before its update. KL in nats; k1 is never clamped."""
    scored = advantaged.scored
    mask_BT = scored.rollouts.mask_BT
    counted = float(mask_BT.sum())
    k1, k3 = objective.k1_k3(scored.logprob_BT[mask_BT], scored.reference_BT[mask_BT])
    gap_BT = (scored.logprob_BT - scored.rollouts.sampled_logprob_BT).abs()
    residual = masked_mean((advantaged.return_BT - scored.value_BT) ** 2, mask_BT)
    spread = masked_mean((advantaged.return_BT - masked_mean(advantaged.return_BT, mask_BT)) ** 2, mask_BT)
    return {
        "reward": float(scored.raw_score_B.mean()),
        "reward_after_eos_rule": float(scored.score_B.mean()),
        "kl_per_token": float(k1) / counted,
        "kl_per_token_k3": float(k3) / counted,
        "kl_per_answer": float(k1) / len(scored.rollouts.answers),
        "entropy": float(masked_mean(scored.entropy_BT, mask_BT)),
        "answer_tokens": counted / len(scored.rollouts.answers),
        "ended_share": float(scored.rollouts.ended_B.float().mean()),
        "explained_variance": 1.0 - float(residual) / max(float(spread), 1e-8),
        "rollout_gap": float(masked_mean(gap_BT, mask_BT)),
        "beta": beta,
    }


def _log_rollouts(written: Metrics, step: int, scored: Scored) -> None:
    """rollouts.jsonl: every answer the policy was trained on, for people to read."""
    for answer, reward in zip(scored.rollouts.answers, scored.raw_score_B.tolist(), strict=True):
        row = {"completion": answer.text, "ended": answer.ended, "reward": round(reward, 4)}
        written.log(step, {**answer.prompt.to_dict(), **row})


# --------------------------------------------------------------------------------------------------------- run


def sources(cfg: PPOConfig) -> Sources:
    """Inputs of a run."""
    found = {"model": model_source(cfg.model), "reference": model_source(cfg.reference), "data": files(cfg.data)}
    found |= {"reward": reward_sources(cfg.reward), "critic": reward_sources((cfg.critic,) if cfg.critic else ())}
    return found | {"ptx.data": files(cfg.ptx.data)}


def main(cfg: PPOConfig) -> dict[str, Any]:
    """Train; returns result.json's contents. Running it again resumes or returns the finished result."""
    run = runs.start("ppo", cfg.out, cfg, cfg.train, sources(cfg))
    if isinstance(run, dict):
        return run
    if not cfg.ignore_gate:
        check_gate(cfg.reward)
    torch.manual_seed(cfg.seed)
    training, ptx = open_training(cfg)
    models = training.models
    if run.resumed:
        training.restore(run.resumed.tensors, run.resumed.meta)
    else:
        with reference_model(models) as reference:
            check_start(models.policy, reference, models.generator, training.prompts[0].ids, cfg.guard)
        training.ptx_before = _ptx_loss(models, ptx)
    written = Metrics(run.folder, resume_step=run.first_step, name="rollouts.jsonl")
    stopped = ""
    for step, bar in run.steps(cfg.train.steps, training.state):
        where = f"ppo step {step + 1}"
        with run.saved_on_error(training.state):  # a reward endpoint that stays away costs no step
            advantaged = iteration_batch(training, cfg, step)
        values = figures(advantaged, training.controller.beta)
        stopped = measured_breach(values, cfg.guard, where)
        if not stopped:
            training.good.keep(step, values)
            updated, stopped = _guarded_update(advantaged, training, ptx, cfg, step, where)
            values |= updated
        run.metrics.log(step + 1, values)
        _log_rollouts(written, step + 1, advantaged.scored)
        num_answers = len(advantaged.scored.rollouts.answers)
        training.controller = training.controller.updated(values["kl_per_answer"], num_answers)
        tokens = int(values["answer_tokens"] * num_answers)
        bar.advance(tokens=tokens, note=f"reward {values['reward']:+.2f}, KL {values['kl_per_token']:.3f}/token")
        if stopped:
            break
    written.close()
    return _finish(run, training, ptx, cfg, stopped)


def iteration_batch(training: Training, cfg: PPOConfig, step: int) -> Advantaged:
    """Steps 1 to 3 of the iteration after `step` updates."""
    chosen = Order(len(training.prompts), cfg.seed).batch(step, cfg.rollout.batch_size)
    seeds = [cfg.seed * 1_000_003 + step * cfg.rollout.batch_size + i for i in range(len(chosen))]
    rollouts = sample(training.models, [training.prompts[i] for i in chosen], cfg.rollout, seeds)
    return advantages(score(rollouts, training.models, cfg, step=step), training.controller.beta, cfg.ppo)


def _guarded_update(
    advantaged: Advantaged, training: Training, ptx: PtxText, cfg: PPOConfig, step: int, where: str
) -> tuple[dict[str, float], str]:
    """(figures of the update, why it crosses a limit). A loss that is not finite counts as a limit: nothing is lost by it,
    since the weights from before the update are kept."""
    try:
        stats = update(advantaged, training.models, ptx, cfg, step=step, where=where)
    except TrainingStopped as error:
        return {}, str(error).rstrip(".")
    if training.models.ema is not None:
        training.models.ema.update()
    return dict(vars(stats)), update_breach(stats.clip_fraction, cfg.guard, where)


def _finish(run: runs.Run, training: Training, ptx: PtxText, cfg: PPOConfig, stopped: str) -> dict[str, Any]:
    """Choose the weights to export, measure, seal the run."""
    models, good = training.models, training.good
    if not stopped:  # the last update has been measured by nobody yet: on the batch that would come next
        with run.saved_on_error(training.state):
            values = figures(iteration_batch(training, cfg, cfg.train.steps), training.controller.beta)
        stopped = measured_breach(values, cfg.guard, f"ppo after step {cfg.train.steps}")
        if not stopped:
            good.keep(cfg.train.steps, values)
    exported = _restore_good(run, training, cfg, stopped)
    shown = {"reward": "reward_mean", "kl_per_token": "kl_per_token", "entropy": "entropy", "ended_share": "ended_share",
             "answer_tokens": "answer_tokens"}  # fmt: skip
    result = {
        "model": cfg.model,
        "reward": list(cfg.reward),
        "steps": good.step,
        "stopped_by": stopped,
        **{to: exported[name] for name, to in shown.items()},
        "ptx_sequences": ptx.num_train,
        "ptx_loss_before": training.ptx_before,
        "ptx_loss_after": _ptx_loss(models, ptx),
        "data": run.record.hashes("data", "ptx.data"),
    }
    policy, tokenizer = models.policy, models.tokenizer
    return run.finish(result, lambda folder: save_final(policy, folder, tokenizer, base=cfg.model))


def _restore_good(run: runs.Run, training: Training, cfg: PPOConfig, stopped: str) -> dict[str, float]:
    """Put the weights to export into the policy, their average where one is kept; their own figures, measured on the batch
    after them. TrainingStopped when no trained weights are inside the limits, or --guard.on-breach stop asks for it."""
    good = training.good
    if stopped and cfg.guard.on_breach == "stop":
        raise TrainingStopped(f"{stopped}. Nothing was exported. {run.checkpoint_words()}")
    if stopped and good.step < 1:
        raise TrainingStopped(
            f"{stopped}. Nothing was exported: no update stayed inside the limits, so {cfg.model} is still the model to "
            "use. Try a lower --optim.lr, or other --guard limits"
        )
    good.put_back("weights")
    if stopped:
        console().print(f"{stopped}. Rolled back to the weights after step {good.step}, which are inside the limits")
    if training.models.ema is None:
        return good.figures
    good.put_back("average")
    averaged = figures(iteration_batch(training, cfg, good.step), training.controller.beta)
    if not (breach := measured_breach(averaged, cfg.guard, "ppo, average of the weights")):
        return averaged
    console().print(f"{breach}. The weights after step {good.step} are exported instead of their average")
    good.put_back("weights")
    return good.figures


def _ptx_loss(models: Models, ptx: PtxText) -> float | None:
    """Held-out pre-training loss in nats per token, None without ptx data."""
    batches = ptx.held_out()
    return mean_nll(models.policy, batches) if batches else None
