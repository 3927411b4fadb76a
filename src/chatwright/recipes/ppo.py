"""PPO and PPO-ptx against a learned reward (InstructGPT sections 3.5 and C.4), in one file.

One iteration, five steps, each a function from dataclass to dataclass:

    1 sample      prompts -> answers of the current policy                      Rollouts
    2 score       reward model, log-probabilities of policy and reference, values   Scored
    3 advantages  per-token KL reward, GAE, whitening                           Advantaged
    4 update      clipped policy loss + gamma * ptx loss, then the critic       UpdateStats
    5 log         figures, guard rails, KL controller

Shapes: B answers, T answer positions (padded), N answer tokens of a micro-batch, D width, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from chatwright.data.batches import LMBatch
from chatwright.data.cursor import Order
from chatwright.data.prompts import PromptExample, load_examples
from chatwright.data.ptx import PtxText, open_ptx
from chatwright.data.responses import ResponseBatch, response_batches
from chatwright.engine import run as runs
from chatwright.engine.metrics import Metrics
from chatwright.engine.optim import EMA, MasterAdamW, OptimConfig
from chatwright.engine.schedule import ScheduleConfig, rate_at
from chatwright.engine.step import accumulate
from chatwright.errors import ConfigError, TrainingStopped
from chatwright.evals.rewards import Answered, RewardMix, answered, check_gate, open_reward
from chatwright.generation.api import SamplingParams
from chatwright.generation.lm import load_model
from chatwright.generation.local import LocalGenerator
from chatwright.kernels.cross_entropy import token_logprobs
from chatwright.model.formats.final import save_final
from chatwright.model.formats.reward import final_folder, load_scalar_model
from chatwright.model.heads import ScalarModel
from chatwright.model.lora import LoraConfig, adapter_off, inject
from chatwright.model.precision import DeviceName, Precision, pick_device, pick_dtype
from chatwright.model.transformer import Transformer
from chatwright.objectives import ppo as objective
from chatwright.objectives.lm import batch_nll, mean_nll
from chatwright.objectives.stats import masked_mean, whiten
from chatwright.progress import console
from chatwright.recipes.guards import GuardConfig, check_first_minibatch, check_start, guard_breach
from chatwright.records import load_prompts
from chatwright.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """How answers are sampled."""

    batch_size: int = 32
    """Answers (episodes) in one iteration. The paper: 512."""
    max_new_tokens: int = 64
    """Longest answer in tokens."""
    temperature: float = 1.0
    """Sampling temperature; log-probabilities are of the same distribution. The paper: 1."""
    eos_rule: Literal["none", "replace", "subtract"] = "replace"
    """What an answer without a stop token earns: `replace` its score by eos_penalty, or `subtract` its size."""
    eos_penalty: float = -1.0
    """See eos_rule."""


@dataclass(frozen=True, kw_only=True)
class PPOAlgorithmConfig:
    """The objective. Values other than the paper's own are from Ziegler 2019 and N+ (arXiv 2403.17031)."""

    beta: float = 0.02
    """KL coefficient per token. The paper: 0.02."""
    kl_target: float | None = None
    """Nats per answer that an adaptive controller steers to; none: beta is fixed."""
    kl_horizon: int = 10_000
    """Episodes over which the adaptive controller moves."""
    gamma: float = 1.0
    """Discount. The paper: 1."""
    lam: float = 0.95
    """GAE lambda (not from the paper)."""
    clip: float = 0.2
    """Policy ratio clip. The paper: 0.2."""
    value_clip: float = 0.2
    """Value clip (not from the paper)."""
    minibatch_size: int = 8
    """Answers in one optimiser step. The paper: 64."""
    inner_epochs: int = 1
    """Passes over each batch of answers. The paper: 1."""
    whiten_rewards: bool = False
    """Scale per-token rewards to unit variance, without moving their mean."""
    whiten_advantages: bool = True
    """Mean 0, variance 1 over the batch."""


@dataclass(frozen=True, kw_only=True)
class PtxConfig:
    """Pre-training gradients mixed into PPO."""

    data: tuple[str, ...] = ()
    """Text files or JSON lines; empty switches ptx off."""
    gamma: float = 27.8
    """Weight of the ptx gradient. The paper: 27.8; which reduction stands behind it is not published."""
    reduction: Literal["mean", "sequence_sum"] = "mean"
    """mean: per token; sequence_sum: summed over each sequence, averaged over sequences."""
    per_episode: float = 8.0
    """ptx sequences for each answer. The paper: 8."""
    block_tokens: int = 128
    """Length of a ptx sequence in tokens."""
    held_out: int = 32
    """Sequences kept aside; their loss is measured before and after."""


@dataclass(frozen=True, kw_only=True)
class PPOTrainConfig(runs.SaveConfig):
    """Length of the run."""

    steps: int = 10
    """PPO iterations (batches of answers). The paper: 500 (256k episodes)."""
    micro_tokens: int = 1024
    """Tokens that go through a model at once; changes memory and speed, not the result."""
    ema: float = 0.0
    """Decay of a weight average that is exported instead of the raw weights; 0: none. The paper: 0.992."""


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Raise a learned reward by PPO, kept near the reference by a KL penalty and to pre-training text by ptx."""

    model: str = "smollm2-135m-instruct"
    """Policy to start from: the SFT model (a run folder or any model folder)."""
    reference: str = ""
    """KL reference; empty: the starting policy."""
    reward: tuple[str, ...]
    """Reward sources: a reward run folder, `python:module:function`, or an http(s) endpoint; `0.5*SOURCE` weighs one."""
    critic: str = ""
    """Reward folder the critic starts from; empty: the first reward folder."""
    data: tuple[str, ...]
    """Prompts, JSON lines."""
    out: str = "runs/ppo"
    """Run folder."""
    seed: int = 0
    """Fixes prompts, samples and minibatches."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format; masters and moments are fp32 always."""
    ignore_gate: bool = False
    """Run even when the reward model's report card forbids it."""
    train: PPOTrainConfig = PPOTrainConfig()
    """Length."""
    rollout: RolloutConfig = RolloutConfig()
    """Sampling."""
    ppo: PPOAlgorithmConfig = PPOAlgorithmConfig()
    """Objective."""
    ptx: PtxConfig = PtxConfig()
    """Pre-training mix."""
    optim: OptimConfig = OptimConfig(lr=1e-5)
    """Policy optimiser. The paper's policy rate is not published (above 8.05e-6 its runs diverged without ptx)."""
    critic_optim: OptimConfig = OptimConfig(lr=2e-5)
    """Critic optimiser. The paper: 9e-6."""
    schedule: ScheduleConfig = ScheduleConfig(kind="constant", warmup_steps=2, warmup_start=0.1)
    """Over iterations. The paper: constant after 10 warm-up iterations from a tenth."""
    guard: GuardConfig = GuardConfig()
    """Run-time invariants and limits."""
    lora: LoraConfig | None = None
    """Train low-rank adapters of policy and critic; the policy without its adapter is then the reference."""

    def __post_init__(self) -> None:
        if self.lora is not None and self.reference:
            raise ConfigError("--reference has no effect with --lora: the policy without its adapter is the reference")


@dataclass(frozen=True, kw_only=True)
class Models:
    """The four networks of PPO and what drives them."""

    policy: Transformer
    reference: Transformer | None
    """None: the policy with its adapter switched off."""
    critic: ScalarModel
    reward: RewardMix
    tokenizer: Tokenizer
    generator: LocalGenerator
    policy_optim: MasterAdamW
    critic_optim: MasterAdamW


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Step 1: prompts and sampled answers; ids include the stop token where `ended_B`."""

    answers: tuple[Answered, ...]
    prompt_ids: tuple[tuple[int, ...], ...]
    response_ids: tuple[tuple[int, ...], ...]
    ended_B: torch.Tensor
    sampled_logprob_BT: torch.Tensor
    mask_BT: torch.Tensor


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


# ---------------------------------------------------------------------------------------------------- 2 score


def batches_of(rollouts: Rollouts, rows: Sequence[int], models: Models, micro_tokens: int) -> list[ResponseBatch]:
    """Micro-batches of the given rows: the single place where answer positions are laid out."""
    device = models.policy.embed.weight.device
    return response_batches(
        rollouts.prompt_ids, rollouts.response_ids, rows, micro_tokens, models.tokenizer.pad_id, device
    )


def response_logprobs(
    model: Transformer, batch: ResponseBatch, temperature: float, *, with_entropy: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(log-probability, entropy) of every answer token of a micro-batch, [N] each, nats."""
    hidden_BTD = model(batch.tokens_BT)
    hidden_ND = hidden_BTD[batch.row_N, batch.predict_N]
    return token_logprobs(
        hidden_ND, model.output_weight(), batch.targets_N, temperature or 1.0, with_entropy=with_entropy
    )


@contextlib.contextmanager
def reference_model(models: Models) -> Iterator[Transformer]:
    """The KL reference: a network of its own, or the policy with its adapter off."""
    if models.reference is not None:
        yield models.reference
        return
    with adapter_off(models.policy):
        yield models.policy


@torch.no_grad()
def score(rollouts: Rollouts, models: Models, cfg: PPOConfig) -> Scored:
    """Log-probabilities by the training code path, reference, values, and the reward of each whole answer."""
    zeros = torch.zeros_like(rollouts.sampled_logprob_BT)
    logprob_BT, reference_BT, entropy_BT, value_BT = (zeros.clone() for _ in range(4))
    temperature = cfg.rollout.temperature
    models.policy.eval()
    for batch in batches_of(rollouts, range(len(rollouts.answers)), models, cfg.train.micro_tokens):
        place = (batch.source_N, batch.column_N)
        policy_N, entropy_N = response_logprobs(models.policy, batch, temperature, with_entropy=True)
        with reference_model(models) as reference:
            reference_N, _ = response_logprobs(reference, batch, temperature)
        assert entropy_N is not None
        logprob_BT[place] = policy_N.cpu()
        entropy_BT[place] = entropy_N.cpu()
        reference_BT[place] = reference_N.cpu()
        value_BT[place] = models.critic(batch.tokens_BT)[batch.row_N, batch.predict_N].cpu()
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
    rates: tuple[float, float],
    where: str,
) -> UpdateStats:
    """One pass (or inner_epochs) over shuffled minibatches. Policy and ptx gradients meet in one optimiser step."""
    totals: dict[str, float] = {}
    minibatches = _minibatches(advantaged, cfg, cfg.seed + 7919 * step)
    position = round(step * cfg.ppo.inner_epochs * cfg.rollout.batch_size * cfg.ptx.per_episode)
    first_log_ratio = 0.0
    models.policy.train()
    for index, rows in enumerate(minibatches):
        batches = batches_of(advantaged.scored.rollouts, rows, models, cfg.train.micro_tokens)
        count = float(sum(batch.targets_N.numel() for batch in batches))
        largest, policy = _policy_backward(batches, count, advantaged, models, cfg, where)
        if index == 0:
            first_log_ratio = largest
            check_first_minibatch(largest, models.policy.embed.weight.dtype, cfg.guard, where)
        policy["policy_grad_norm"] = models.policy_optim.grad_norm()
        num_ptx = round(len(rows) * cfg.ptx.per_episode)
        policy |= _ptx_backward(models, ptx.take(position, num_ptx), cfg.ptx, where)
        position += num_ptx
        models.policy_optim.step(rates[0], where=where)
        critic = _critic_step(batches, count, advantaged, models, cfg, rates[1], where)
        for name, value in {**policy, **critic}.items():
            totals[name] = totals.get(name, 0.0) + value / len(minibatches)
    return UpdateStats(first_log_ratio=first_log_ratio, **totals)


def _minibatches(advantaged: Advantaged, cfg: PPOConfig, seed: int) -> list[list[int]]:
    num, size = len(advantaged.scored.rollouts.answers), cfg.ppo.minibatch_size
    shuffled: list[list[int]] = []
    for epoch in range(cfg.ppo.inner_epochs):
        rows = Order(num, seed + epoch).batch(0, num)
        shuffled += [list(rows[start : start + size]) for start in range(0, num, size)]
    return shuffled


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
        value_N = models.critic(batch.tokens_BT)[batch.row_N, batch.predict_N]
        old_N = advantaged.scored.value_BT[place].to(value_N.device)
        return_N = advantaged.return_BT[place].to(value_N.device)
        return objective.value_loss(value_N, old_N, return_N, cfg.ppo.value_clip)

    mean = accumulate(models.critic_optim, batches, loss, count, where=f"{where}, critic")
    norm = models.critic_optim.step(rate, where=f"{where}, critic")
    return {"value_loss": mean, "critic_grad_norm": norm}


# ------------------------------------------------------------------------------------------------------- 5 log


def figures(advantaged: Advantaged, stats: UpdateStats, beta: float) -> dict[str, float]:
    """What metrics.jsonl says of one iteration. KL in nats; k1 is never clamped."""
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
        **vars(stats),
    }


def _log_rollouts(written: Metrics, step: int, scored: Scored) -> None:
    """rollouts.jsonl: every answer the policy was trained on, for people to read."""
    for answer, reward in zip(scored.rollouts.answers, scored.raw_score_B.tolist(), strict=True):
        row = {"completion": answer.text, "ended": answer.ended, "reward": round(reward, 4)}
        written.log(step, {**answer.prompt.to_dict(), **row})


# --------------------------------------------------------------------------------------------------------- run


def open_models(cfg: PPOConfig) -> Models:
    """Load policy, reference, critic and reward. The critic is a network of its own, started from the reward model."""
    device = pick_device(cfg.device)
    dtype = pick_dtype(cfg.precision, device)
    policy, tokenizer = load_model(cfg.model, dtype=dtype, device=device)
    reference: Transformer | None = None
    if cfg.lora is None:
        reference, other = load_model(cfg.reference or cfg.model, dtype=dtype, device=device)
        reference.requires_grad_(False).eval()
        if other.fingerprint != tokenizer.fingerprint:
            raise ConfigError(f"--reference {cfg.reference}: its tokenizer is not the policy's, so KL has no meaning")
    reward = open_reward(cfg.reward, tokenizer, dtype=dtype, device=device, micro_tokens=cfg.train.micro_tokens)
    critic_folder = cfg.critic or reward.first_folder
    if not critic_folder:
        raise ConfigError("--critic: name a reward run folder to start the critic from; --reward names none")
    critic, _ = load_scalar_model(critic_folder, dtype=dtype, device=device)
    if Tokenizer.from_folder(final_folder(critic_folder)).fingerprint != tokenizer.fingerprint:
        raise ConfigError(f"--critic {critic_folder}: not the policy's tokenizer; name a reward run of the same model")
    critic.tie_parameter.requires_grad_(False)
    critic.head.init_zeros()
    if cfg.lora is not None:
        inject(policy, cfg.lora, seed=cfg.seed)
        inject(critic.trunk, cfg.lora, seed=cfg.seed + 1)
    return Models(
        policy=policy,
        reference=reference,
        critic=critic,
        reward=reward,
        tokenizer=tokenizer,
        generator=LocalGenerator(policy, tokenizer, max_batch=cfg.rollout.batch_size),
        policy_optim=MasterAdamW(policy.named_parameters(), cfg.optim),
        critic_optim=MasterAdamW(critic.named_parameters(), cfg.critic_optim),
    )


def main(cfg: PPOConfig) -> dict[str, Any]:
    """Train; returns result.json's contents. Running it again resumes or returns the finished result."""
    run = runs.start("ppo", cfg.out, cfg, cfg.train)
    if isinstance(run, dict):
        return run
    if not cfg.ignore_gate:
        check_gate(cfg.reward)
    torch.manual_seed(cfg.seed)
    models = open_models(cfg)
    prompts = load_examples(load_prompts(cfg.data), models.tokenizer)
    ptx = open_ptx(
        cfg.ptx.data,
        models.tokenizer,
        block_tokens=cfg.ptx.block_tokens,
        held_out=cfg.ptx.held_out,
        seed=cfg.seed + 1,
        micro_tokens=cfg.train.micro_tokens,
        device=models.policy.embed.weight.device,
    )
    console().print(f"ppo: {len(prompts)} prompts, {ptx.num_train} ptx sequences (+ {ptx.num_held_out} held out)")
    ema = EMA(models.policy_optim, cfg.train.ema) if cfg.train.ema else None
    controller = objective.KLController(beta=cfg.ppo.beta, target=cfg.ppo.kl_target, horizon=cfg.ppo.kl_horizon)

    def ptx_loss_now() -> float | None:
        batches = ptx.held_out()
        return mean_nll(models.policy, batches) if batches else None

    ptx_before: float | None
    if run.resumed:
        controller = _restore(run.resumed, models, ema, controller)
        ptx_before = run.resumed.meta["ptx_before"]
    else:
        with reference_model(models) as reference:
            check_start(models.policy, reference, models.generator, prompts[0].ids, cfg.guard)
        ptx_before = ptx_loss_now()

    def state() -> tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]:
        tensors = {**models.policy_optim.state_tensors("policy"), **models.critic_optim.state_tensors("critic")}
        if ema is not None:
            tensors |= ema.state_tensors("ema")
        return tensors, {"beta": controller.beta, "ptx_before": ptx_before}

    prompt_order = Order(len(prompts), cfg.seed)
    written = Metrics(run.folder, resume_step=run.first_step, name="rollouts.jsonl")
    stopped = ""
    for step, bar in run.steps(cfg.train.steps, state):
        where = f"ppo step {step + 1}"
        chosen = prompt_order.batch(step, cfg.rollout.batch_size)
        seeds = [cfg.seed * 1_000_003 + step * cfg.rollout.batch_size + i for i in range(len(chosen))]
        rollouts = sample(models, [prompts[i] for i in chosen], cfg.rollout, seeds)
        scored = score(rollouts, models, cfg)
        advantaged = advantages(scored, controller.beta, cfg.ppo)
        peaks = (cfg.optim.lr, cfg.critic_optim.lr)
        rates = (
            rate_at(step, cfg.train.steps, peaks[0], cfg.schedule),
            rate_at(step, cfg.train.steps, peaks[1], cfg.schedule),
        )
        stats = update(advantaged, models, ptx, cfg, step=step, rates=rates, where=where)
        if ema is not None:
            ema.update()
        values = figures(advantaged, stats, controller.beta)
        run.metrics.log(step + 1, values)
        _log_rollouts(written, step + 1, scored)
        controller = controller.updated(values["kl_per_answer"], len(chosen))
        tokens = int(values["answer_tokens"] * len(chosen))
        bar.advance(tokens=tokens, note=f"reward {values['reward']:+.2f}, KL {values['kl_per_token']:.3f}/token")
        stopped = guard_breach(values, cfg.guard, where)
        if stopped:
            break
    written.close()
    if stopped:
        _roll_back(run, models, ema, controller, stopped, cfg.guard)
    if ema is not None:
        ema.copy_to_model()
    result = {
        "model": cfg.model,
        "reward": list(cfg.reward),
        "steps": cfg.train.steps,
        "stopped_by": stopped,
        "ptx_sequences": ptx.num_train,
        "ptx_loss_before": ptx_before,
        "ptx_loss_after": ptx_loss_now(),
        "data": runs.data_hashes(cfg.data + cfg.ptx.data),
    }
    policy, tokenizer = models.policy, models.tokenizer
    return run.finish(result, lambda folder: save_final(policy, folder, tokenizer, base=cfg.model))


def _restore(
    loaded: runs.Loaded, models: Models, ema: EMA | None, controller: objective.KLController
) -> objective.KLController:
    models.policy_optim.load_state_tensors(loaded.tensors, "policy")
    models.critic_optim.load_state_tensors(loaded.tensors, "critic")
    if ema is not None:
        ema.load_state_tensors(loaded.tensors, "ema")
    return objective.KLController(beta=loaded.meta["beta"], target=controller.target, horizon=controller.horizon)


def _roll_back(
    run: runs.Run, models: Models, ema: EMA | None, controller: objective.KLController, reason: str, guard: GuardConfig
) -> None:
    """Leave the weights of the last checkpoint before the breach, or stop with an error when that is asked for."""
    loaded, _ = run.store.latest()
    if guard.on_breach == "stop" or loaded is None:
        raise TrainingStopped(f"{reason}. Nothing was exported; the checkpoints in {run.folder} stand")
    _restore(loaded, models, ema, controller)
    console().print(f"{reason}. Rolled back to step {loaded.step}")
