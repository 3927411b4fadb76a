"""The networks of PPO: policy, reference, critic, reward; how they are opened, saved and restored; what fits into them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from chatwright.data.prompts import PromptExample, load_examples
from chatwright.data.ptx import PtxText, open_ptx
from chatwright.engine.optim import EMA, MasterAdamW
from chatwright.errors import ConfigError
from chatwright.evals.rewards import RewardMix, open_reward, open_scalar
from chatwright.generation.lm import load_model
from chatwright.generation.local import LocalGenerator
from chatwright.hub import model_folder
from chatwright.model.heads import ScalarModel
from chatwright.model.lora import adapter_off, inject
from chatwright.model.precision import pick_device, pick_dtype
from chatwright.model.transformer import Transformer
from chatwright.objectives.ppo import KLController
from chatwright.progress import console
from chatwright.recipes.guards import LastGood
from chatwright.recipes.ppo_config import PPOConfig
from chatwright.records import load_prompts
from chatwright.text.tokenizer import Tokenizer

_MAX_PROMPT_TOKENS = 1024  # the paper drops longer prompts


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
    ema: EMA | None
    """Average of the policy's weights, exported instead of them; None: the weights themselves are."""
    shared_bottom: bool
    """Policy, reference and critic have the same frozen blocks, so that what these compute can be shared."""

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """Everything that a resumed run needs of the networks."""
        tensors = {**self.policy_optim.state_tensors("policy"), **self.critic_optim.state_tensors("critic")}
        return tensors | (self.ema.state_tensors("ema") if self.ema is not None else {})

    def load_state_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Inverse of `state_tensors`."""
        self.policy_optim.load_state_tensors(tensors, "policy")
        self.critic_optim.load_state_tensors(tensors, "critic")
        if self.ema is not None:
            self.ema.load_state_tensors(tensors, "ema")


@dataclass(kw_only=True)
class Training:
    """Everything that an iteration changes: what a checkpoint holds."""

    models: Models
    prompts: Sequence[PromptExample]
    controller: KLController
    good: LastGood
    ptx_before: float | None = None
    """Held-out pre-training loss before the first update."""

    def state(self) -> tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]:
        """For the checkpoint."""
        tensors, good = self.good.state()
        meta = {"beta": self.controller.beta, "ptx_before": self.ptx_before, "good": good}
        return {**self.models.state_tensors(), **tensors}, meta

    def restore(self, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self.models.load_state_tensors(tensors)
        self.controller = replace(self.controller, beta=meta["beta"])
        self.good.restore(tensors, meta["good"])
        self.ptx_before = meta["ptx_before"]


@contextlib.contextmanager
def reference_model(models: Models) -> Iterator[Transformer]:
    """The KL reference: a network of its own, or the policy with its adapter off."""
    if models.reference is not None:
        yield models.reference
        return
    with adapter_off(models.policy):
        yield models.policy


def open_models(cfg: PPOConfig) -> Models:
    """Load policy, reference, critic and reward. The critic is a network of its own, started from the reward model."""
    device = pick_device(cfg.device)
    dtype = pick_dtype(cfg.precision, device)
    policy, tokenizer = load_model(cfg.model, dtype=dtype, device=device, template=cfg.template)
    reference: Transformer | None = None
    if cfg.lora is None:
        reference, other = load_model(
            cfg.reference or cfg.model, dtype=dtype, device=device, template=cfg.template
        )
        reference.requires_grad_(False).eval()
        if other.fingerprint != tokenizer.fingerprint:
            raise ConfigError(f"--reference {cfg.reference}: its tokenizer is not the policy's, so KL has no meaning")
    reward = open_reward(cfg.reward, tokenizer, dtype=dtype, device=device, micro_tokens=cfg.train.micro_tokens)
    critic_folder = cfg.critic or reward.first_folder
    if not critic_folder:
        raise ConfigError("--critic: name a reward run folder to start the critic from; --reward names none")
    critic = open_scalar(critic_folder, dtype=dtype, device=device)
    if Tokenizer.from_folder(model_folder(critic_folder, "reward")).fingerprint != tokenizer.fingerprint:
        raise ConfigError(f"--critic {critic_folder}: not the policy's tokenizer; name a reward run of the same model")
    critic.tie_parameter.requires_grad_(False)
    if cfg.ppo.critic_head == "zeros":
        critic.head.init_zeros()
    if cfg.lora is not None:
        inject(policy, cfg.lora, seed=cfg.seed)
        inject(critic.trunk, cfg.lora, seed=cfg.seed + 1)
    networks = [model for model in (policy, reference, critic.trunk) if model is not None]
    for model in networks:
        model.freeze_bottom(cfg.train.frozen_layers)
    shared = cfg.train.frozen_layers > 0 and all(_same_bottom(policy, m) for m in networks)
    policy_optim = MasterAdamW(policy.named_parameters(), cfg.optim)
    return Models(
        policy=policy,
        reference=reference,
        critic=critic,
        reward=reward,
        tokenizer=tokenizer,
        generator=LocalGenerator(policy, tokenizer, max_batch=cfg.rollout.generate_batch),
        policy_optim=policy_optim,
        critic_optim=MasterAdamW(critic.named_parameters(), cfg.critic_optim),
        ema=EMA(policy_optim, cfg.train.ema) if cfg.train.ema else None,
        shared_bottom=shared,
    )


def open_training(cfg: PPOConfig) -> tuple[Training, PtxText]:
    """Networks, prompts and pre-training text of a run, with a line about what they are and what they need."""
    models = open_models(cfg)
    prompts = open_prompts(cfg, models)
    ptx = open_ptx(
        cfg.ptx.data,
        models.tokenizer,
        block_tokens=cfg.ptx.block_tokens,
        held_out=cfg.ptx.held_out,
        seed=cfg.seed + 1,
        micro_tokens=cfg.train.micro_tokens,
        device=models.policy.embed.weight.device,
        context=models.policy.config.max_positions,
    )
    console().print(f"ppo: {len(prompts)} prompts, {ptx.num_train} ptx sequences (+ {ptx.num_held_out} held out)")
    console().print(memory_words(cfg, models, max(len(prompt.ids) for prompt in prompts)))
    controller = KLController(beta=cfg.ppo.beta, target=cfg.ppo.kl_target, horizon=cfg.ppo.kl_horizon)
    good = LastGood(optimizer=models.policy_optim, ema=models.ema)
    return Training(models=models, prompts=prompts, controller=controller, good=good), ptx


def open_prompts(cfg: PPOConfig, models: Models) -> list[PromptExample]:
    """Prompts that leave room for an answer in the context of every network that reads them; the others are counted."""
    contexts = {"policy": models.policy.config.max_positions, "critic": models.critic.trunk.config.max_positions}
    if models.reference is not None:
        contexts["reference"] = models.reference.config.max_positions
    contexts |= models.reward.contexts()
    name = min(contexts, key=lambda network: contexts[network])
    room = contexts[name] - cfg.rollout.max_new_tokens
    if room < 1:
        raise ConfigError(
            f"--rollout.max-new-tokens {cfg.rollout.max_new_tokens}: leaves no room for a prompt in the {name}'s context of "
            f"{contexts[name]} tokens"
        )
    prompts = load_examples(load_prompts(cfg.data), models.tokenizer, max_tokens=min(room, _MAX_PROMPT_TOKENS))
    fitting = models.reward.fitting([example.prompt for example in prompts], cfg.rollout.max_new_tokens)
    kept = [example for example, fits in zip(prompts, fitting, strict=True) if fits]
    if not kept:
        raise ConfigError(
            f"--data {' '.join(cfg.data)}: no prompt is left to answer: each needs room for {cfg.rollout.max_new_tokens} "
            f"tokens of an answer in the {name}'s context of {contexts[name]} tokens"
        )
    return kept


def memory_words(cfg: PPOConfig, models: Models, prompt_tokens: int) -> str:
    """A line about the memory that the run holds on its device, in GB (10^9 bytes); activations come on top."""
    networks = [models.policy, models.reference, models.critic, *models.reward.networks()]
    networks += [models.policy]  # the generator's packed copy
    weights = sum(p.numel() * p.element_size() for m in networks if m is not None for p in m.parameters())
    trained = [p for o in (models.policy_optim, models.critic_optim) for p in o.params.values()]
    # Moments and gradient in fp32, and a master where the compute format is another.
    optimisers = sum(p.numel() * (12 if p.dtype == torch.float32 else 16) for p in trained)
    optimisers += sum(4 * value.numel() for value in models.ema.average.values()) if models.ema is not None else 0
    config, rows = models.policy.config, min(cfg.rollout.generate_batch, cfg.rollout.batch_size)
    tokens = prompt_tokens + cfg.rollout.max_new_tokens
    item = models.policy.embed.weight.element_size()
    cache = 2 * config.num_layers * config.num_kv_heads * config.head_dim * item * rows * tokens
    return (
        f"ppo: {(weights + optimisers + cache) / 1e9:.2f} GB of memory: weights {weights / 1e9:.2f}, optimisers "
        f"{optimisers / 1e9:.2f}, key-value cache {cache / 1e9:.2f} for {rows} answers at once of up to {tokens} tokens "
        "with their prompts (--rollout.generate-batch); activations come on top"
    )


def _same_bottom(one: Transformer, other: Transformer) -> bool:
    """Whether embeddings and frozen blocks of two models are equal, bit for bit. Frozen adapters add nothing (their B is
    0), so they are left out."""

    def tensors(model: Transformer) -> list[torch.Tensor]:
        modules = [model.embed, model.position_embed, *model.blocks[: model.num_frozen]]
        found = [named for module in modules if module is not None for named in module.named_parameters()]
        return [parameter for name, parameter in found if "lora_" not in name]

    pairs = zip(tensors(one), tensors(other), strict=True)
    return all(a is b or (a.shape == b.shape and torch.equal(a, b)) for a, b in pairs)
