"""Two ways that must give one result: micro-batches of any size, and PPO reduced to the plain policy gradient.

Through the real commands on a two-layer model. (Packed = unpacked, K = 2 = Bradley-Terry, GAE(1), fast kernel = plain
and cached = full forward stand beside the functions: tests/unit/objectives, kernels and recipes/test_ppo.py.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import tiny_training as tiny
from chatwright import cli
from chatwright.data.prompts import load_examples
from chatwright.data.ptx import open_ptx
from chatwright.engine.optim import MasterAdamW, OptimConfig
from chatwright.generation.lm import load_model
from chatwright.recipes import ppo
from chatwright.recipes.ppo_config import PPOAlgorithmConfig, PPOConfig, RolloutConfig
from chatwright.recipes.ppo_models import open_models
from chatwright.records import load_prompts

COMMON = ("--device", "cpu", "--precision", "fp32")


def run(*argv: str) -> None:
    assert cli.main([*argv, *COMMON]) == 0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, make_tokenizer: Callable[..., Any]) -> Path:
    """Model, data, an SFT run and a reward run, made by the commands."""
    folder = tmp_path_factory.mktemp("training")
    tiny.save_tiny_model(folder / "model", make_tokenizer(chat_template=tiny.SHORT_JINJA))
    tiny.write_rows(folder / "demos.jsonl", tiny.demonstration_rows())
    tiny.write_rows(folder / "prompts.jsonl", tiny.prompt_rows())
    tiny.write_rows(folder / "rankings.jsonl", tiny.ranking_rows(40))
    (folder / "corpus.txt").write_text(tiny.corpus_text(), encoding="utf-8")
    run("sft", "--model", f"{folder}/model", "--data", f"{folder}/demos.jsonl", "--out", f"{folder}/sft",
        "--train.epochs", "40", "--optim.lr", "1e-2")  # fmt: skip
    run("reward", "--model", f"{folder}/sft", "--data", f"{folder}/rankings.jsonl", "--out", f"{folder}/reward",
        "--train.epochs", "2", "--optim.lr", "5e-3")  # fmt: skip
    return folder


COMMANDS: dict[str, tuple[str, ...]] = {
    "sft": ("--model", "{home}/model", "--data", "{home}/demos.jsonl", "--train.steps", "3", "--optim.lr", "1e-4"),
    "reward": ("--model", "{home}/sft", "--data", "{home}/rankings.jsonl", "--train.steps", "3", "--optim.lr", "1e-4"),
    "dpo": ("--model", "{home}/sft", "--data", "{home}/rankings.jsonl", "--train.steps", "3", "--optim.lr", "1e-4"),
    "ppo": ("--model", "{home}/sft", "--reward", "{home}/reward", "--data", "{home}/prompts.jsonl", "--ignore-gate",
            "--train.steps", "3", "--rollout.batch-size", "8", "--rollout.max-new-tokens", "8", "--optim.lr", "1e-4",
            "--ptx.data", "{home}/corpus.txt", "--ptx.block-tokens", "16", "--ptx.per-episode", "1", "--ptx.gamma", "0.5",
            "--guard.max-kl-per-token", "9"),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_the_size_of_a_micro_batch_changes_memory_and_nothing_else(home: Path, tmp_path: Path, command: str) -> None:
    """One row at a time, a few, or all at once: ragged lengths, the same update (trl#2175)."""
    argv = [value.format(home=home) for value in COMMANDS[command]]
    sizes = (1, 70, 100_000)
    for size in sizes:
        run(command, *argv, "--out", str(tmp_path / str(size)), "--train.micro-tokens", str(size))
    rows = [tiny.read_rows(tmp_path / str(size) / "metrics.jsonl") for size in sizes]
    for other in rows[1:]:
        for mine, theirs in zip(rows[0], other, strict=True):
            for name in mine.keys() - {"explained_variance", "clip_fraction"}:
                assert mine[name] == pytest.approx(theirs[name], rel=2e-3, abs=1e-5), name
    models = [load_model(tmp_path / str(size), "float32", "cpu")[0] for size in sizes]
    for other_model in models[1:]:
        for (name, a), (_, b) in zip(models[0].named_parameters(), other_model.named_parameters(), strict=True):
            assert torch.isclose(a, b, atol=2e-6, rtol=1e-5).float().mean() > 0.98, name


def test_ppo_with_clip_infinite_and_one_epoch_is_the_policy_gradient(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With values 0, lambda = gamma = 1 and no KL, the gradient is that of -1/N sum_i score_i log pi(answer_i)."""
    cfg = PPOConfig(
        model=f"{home}/sft", reward=(f"{home}/reward",), data=(f"{home}/prompts.jsonl",), device="cpu", precision="fp32",
        rollout=RolloutConfig(batch_size=12, max_new_tokens=10), optim=OptimConfig(lr=1.0, max_grad_norm=0.0),
        ppo=PPOAlgorithmConfig(
            clip=math.inf, minibatch_size=12, lam=1.0, beta=0.0, whiten_advantages=False, critic_head="zeros"
        ),
    )  # fmt: skip
    models = open_models(cfg)
    prompts = load_examples(load_prompts(cfg.data), models.tokenizer)
    rollouts = ppo.sample(models, [prompts[i % 8] for i in range(12)], cfg.rollout, range(12))
    scored = ppo.score(rollouts, models, cfg, step=0)
    advantaged = ppo.advantages(scored, 0.0, cfg.ppo)
    sizes = {"block_tokens": 8, "held_out": 0, "seed": 0, "micro_tokens": 8, "context": 64}
    ptx = open_ptx((), models.tokenizer, device=torch.device("cpu"), **sizes)

    seen: list[dict[str, torch.Tensor]] = []

    def spy(self: MasterAdamW, lr: float, *, where: str) -> float:
        seen.append({name: m.grad.clone() for name, m in self.masters.items() if m.grad is not None})
        self.adam.zero_grad(set_to_none=True)
        return 0.0

    monkeypatch.setattr(MasterAdamW, "step", spy)
    ppo.update(advantaged, models, ptx, cfg, step=0, where="test")

    policy, _ = load_model(f"{home}/sft", "float32", "cpu")
    loss = torch.zeros(())
    for prompt, answer, score in zip(rollouts.prompt_ids, rollouts.response_ids, scored.score_B.tolist(), strict=True):
        logprobs_TV = F.log_softmax(policy.logits(policy(torch.tensor([[*prompt, *answer]])))[0], -1)
        total = sum(logprobs_TV[len(prompt) - 1 + t, token] for t, token in enumerate(answer))
        loss = loss - score * total
    (loss / sum(map(len, rollouts.response_ids))).backward()
    assert scored.score_B.unique().numel() > 3
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(seen[0][name], parameter.grad, rtol=1e-3, atol=1e-6)
