"""The networks of PPO: policy, reference, critic, reward; how they are opened, saved and restored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from chatwright.engine.optim import EMA, MasterAdamW
from chatwright.errors import ConfigError
from chatwright.evals.rewards import RewardMix, open_reward, open_scalar
from chatwright.generation.lm import load_model
from chatwright.generation.local import LocalGenerator
from chatwright.model.formats.reward import final_folder
from chatwright.model.heads import ScalarModel
from chatwright.model.lora import adapter_off, inject
from chatwright.model.precision import pick_device, pick_dtype
from chatwright.model.transformer import Transformer
from chatwright.recipes.ppo_config import PPOConfig
from chatwright.text.tokenizer import Tokenizer


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
    critic = open_scalar(critic_folder, dtype=dtype, device=device)
    if Tokenizer.from_folder(final_folder(critic_folder)).fingerprint != tokenizer.fingerprint:
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
        generator=LocalGenerator(policy, tokenizer, max_batch=cfg.rollout.batch_size),
        policy_optim=policy_optim,
        critic_optim=MasterAdamW(critic.named_parameters(), cfg.critic_optim),
        ema=EMA(policy_optim, cfg.train.ema) if cfg.train.ema else None,
        shared_bottom=shared,
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
