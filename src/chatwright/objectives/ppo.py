"""PPO as InstructGPT runs it: pure functions, tensors in, tensors out.

Shapes: B responses, T response positions (padded on the right). Every [B, T] tensor is aligned with the response
tokens: column t speaks of response token t (its log-probability, the value *before* it, the reward after it).
One mask, `mask_BT`, is used for KL, reward, GAE and losses alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from chatwright.objectives.stats import whiten


def token_rewards(
    score_B: torch.Tensor, logprob_BT: torch.Tensor, reference_BT: torch.Tensor, mask_BT: torch.Tensor, beta: float
) -> torch.Tensor:
    """-beta (log pi - log pi_ref) on every token, plus the score on the last one (InstructGPT eq. 2; Ziegler 2019)."""
    reward_BT = -beta * (logprob_BT - reference_BT) * mask_BT
    last_B1 = mask_BT.sum(1, keepdim=True).long() - 1
    assert bool((last_B1 >= 0).all()), "a response has no tokens"
    return reward_BT.scatter_add(1, last_B1, score_B[:, None])


def gae(
    reward_BT: torch.Tensor, value_BT: torch.Tensor, mask_BT: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantage estimation (arXiv 1506.02438): (advantages [B, T], returns [B, T]), 0 outside the mask.

    The value after the last token is 0: the episode ends there.
    """
    advantage_BT = torch.zeros_like(reward_BT)
    carried_B = torch.zeros_like(reward_BT[:, 0])
    next_value_B = torch.zeros_like(carried_B)
    for t in range(reward_BT.shape[1] - 1, -1, -1):
        delta_B = reward_BT[:, t] + gamma * next_value_B - value_BT[:, t]
        inside_B = mask_BT[:, t]
        carried_B = torch.where(inside_B, delta_B + gamma * lam * carried_B, carried_B.new_zeros(()))
        next_value_B = torch.where(inside_B, value_BT[:, t], next_value_B.new_zeros(()))
        advantage_BT[:, t] = carried_B
    return advantage_BT, (advantage_BT + value_BT) * mask_BT


def whiten_advantages(advantage_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Mean 0 and population variance 1 over all response tokens of the batch."""
    return whiten(advantage_BT, mask_BT)


@dataclass(frozen=True, kw_only=True)
class PolicyTerms:
    """Sums over the tokens of a minibatch, for the loss and for the log."""

    loss_sum: torch.Tensor
    count: torch.Tensor
    clipped_sum: torch.Tensor
    k3_sum: torch.Tensor


def policy_loss(
    logprob_N: torch.Tensor, old_logprob_N: torch.Tensor, advantage_N: torch.Tensor, clip: float
) -> PolicyTerms:
    """max(-A rho, -A clip(rho, 1 +- clip)) summed over N response tokens (arXiv 1707.06347 eq. 7, negated)."""
    log_ratio_N = logprob_N - old_logprob_N
    ratio_N = log_ratio_N.exp()
    unclipped_N = -advantage_N * ratio_N
    clipped_N = -advantage_N * ratio_N.clamp(1.0 - clip, 1.0 + clip)
    return PolicyTerms(
        loss_sum=torch.maximum(unclipped_N, clipped_N).sum(),
        count=torch.tensor(float(logprob_N.numel()), device=logprob_N.device),
        clipped_sum=(clipped_N > unclipped_N).sum().detach().float(),
        k3_sum=(ratio_N - 1.0 - log_ratio_N).sum().detach(),
    )


def value_loss(
    value_N: torch.Tensor, old_value_N: torch.Tensor, return_N: torch.Tensor, clip: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """0.5 max((v - R)^2, (clip(v) - R)^2), **(sum, count)**; v is clipped to old_value +- clip."""
    bounded_N = old_value_N + (value_N - old_value_N).clamp(-clip, clip)
    loss_N = torch.maximum((value_N - return_N) ** 2, (bounded_N - return_N) ** 2)
    return 0.5 * loss_N.sum(), torch.tensor(float(value_N.numel()), device=value_N.device)


@dataclass(frozen=True, kw_only=True)
class KLController:
    """Coefficient of the KL penalty: constant, or steered to `target` nats per response (Ziegler 2019, section 2.2)."""

    beta: float
    target: float | None = None
    horizon: int = 10_000

    def updated(self, kl_per_response: float, num_episodes: int) -> KLController:
        """e = clip(KL / target - 1, -0.2, 0.2); beta *= 1 + e n / horizon. A fixed controller returns itself."""
        if self.target is None:
            return self
        error = min(max(kl_per_response / self.target - 1.0, -0.2), 0.2)
        beta = self.beta * (1.0 + error * num_episodes / self.horizon)
        return KLController(beta=beta, target=self.target, horizon=self.horizon)


def apply_eos_rule(
    score_B: torch.Tensor, ended_B: torch.Tensor, rule: str, penalty: float
) -> torch.Tensor:
    """What a response that did not stop by itself earns: `replace` its score by `penalty`, or `subtract` |penalty|.

    `ended_B` says whether the last token is a real stop token (not: whether the pad id appears).
    """
    if rule == "none":
        return score_B
    punished_B = torch.full_like(score_B, penalty) if rule == "replace" else score_B - abs(penalty)
    return torch.where(ended_B, score_B, punished_B)


def k1_k3(logprob_N: torch.Tensor, reference_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """KL estimates per token, summed: k1 = log pi - log ref (may be negative: never clamped), k3 = e^-k1 - 1 + k1."""
    k1_N = logprob_N - reference_N
    return k1_N.sum(), (torch.exp(-k1_N) - 1.0 + k1_N).sum()
