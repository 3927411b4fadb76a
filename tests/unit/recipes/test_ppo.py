"""PPO's five steps one by one on a two-layer model: rollouts, scores, advantages, update, guard rails."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_training as tiny
from chatwright.data.prompts import load_examples
from chatwright.data.ptx import open_ptx
from chatwright.engine.optim import EMA, MasterAdamW
from chatwright.engine.schedule import ScheduleConfig
from chatwright.errors import ConfigError, TrainingStopped
from chatwright.generation.lm import load_model
from chatwright.model.lora import LoraConfig
from chatwright.objectives.lm import batch_nll
from chatwright.objectives.ppo import KLController
from chatwright.recipes import guards, ppo, reward
from chatwright.recipes.guards import GuardConfig
from chatwright.recipes.ppo_config import PPOConfig, RolloutConfig
from chatwright.recipes.ppo_models import Models, Training, open_models
from chatwright.records import load_prompts


@pytest.fixture(scope="module")
def likes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A python: reward that counts the letter e."""
    import sys

    folder = tmp_path_factory.mktemp("reward_module")
    (folder / "likes_e.py").write_text(
        "def score(items):\n    return [i['completion'].count('e') / 3 for i in items]\n"
        "def length(items):\n    return [len(i['completion']) / 9 for i in items]\n"
    )
    sys.path.insert(0, str(folder))
    yield "python:likes_e:score"
    sys.path.remove(str(folder))


@pytest.fixture
def config(bench: Any, sft_run: str, reward_run: str, tmp_path: Path) -> Callable[..., PPOConfig]:
    """`config(**changes)`: SFT policy, learned reward."""

    def make(out: str = "ppo", **changes: Any) -> PPOConfig:
        made: PPOConfig = bench.ppo(tmp_path / out, **{"model": sft_run, "reward": (reward_run,), **changes})
        return made

    return make


def scored(cfg: PPOConfig, num: int = 16, seed: int = 0) -> tuple[Models, ppo.Scored]:
    """Models, and one batch through steps 1 and 2."""
    models = open_models(cfg)
    prompts = load_examples(load_prompts(cfg.data), models.tokenizer)
    chosen = [prompts[i % len(prompts)] for i in range(num)]
    rollouts = ppo.sample(models, chosen, cfg.rollout, range(seed, seed + num))
    return models, ppo.score(rollouts, models, cfg, step=0)


def ptx_of(cfg: PPOConfig, models: Models) -> Any:
    return open_ptx(
        cfg.ptx.data, models.tokenizer, block_tokens=cfg.ptx.block_tokens, held_out=cfg.ptx.held_out, seed=1,
        micro_tokens=cfg.train.micro_tokens, device=torch.device("cpu"), context=128,
    )  # fmt: skip


def metrics(folder: str) -> list[dict[str, Any]]:
    return tiny.read_rows(Path(folder) / "metrics.jsonl")


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


# ---- 1 sample --------------------------------------------------------------------------------------------------------


def test_rollouts_stop_at_the_real_stop_token_and_keep_it(config: Callable[..., PPOConfig]) -> None:
    """TRL's never stopped at EOS. Here an answer ends with the stop token, which is trained, or at the limit."""
    cfg = config()
    models, result = scored(cfg, 64)
    rollouts, stops = result.rollouts, models.tokenizer.stop_ids
    for ids, ended, answer in zip(rollouts.response_ids, rollouts.ended_B.tolist(), rollouts.answers, strict=True):
        assert not stops & set(ids[:-1])
        assert ended == (ids[-1] in stops) == answer.ended
        assert ended or len(ids) == cfg.rollout.max_new_tokens
    assert 0.2 < rollouts.ended_B.float().mean() < 1.0  # both kinds are there
    assert [len(ids) for ids in rollouts.response_ids] == rollouts.mask_BT.sum(1).tolist()


def test_rollouts_are_sampled_and_not_greedy(config: Callable[..., PPOConfig]) -> None:
    """DeepSpeed-Chat's are greedy. Other seeds give other answers, the same seeds the same, temperature 0 is refused."""
    cfg = config()
    first, again, other = (scored(cfg, seed=seed)[1].rollouts.response_ids for seed in (0, 0, 99))
    assert first == again
    assert sum(a != b for a, b in zip(first, other, strict=True)) > 12
    with pytest.raises(ConfigError, match="must be above 0"):
        RolloutConfig(temperature=0.0)


# ---- 2 score ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_rollout_logprobs_equal_those_of_the_training_path(config: Callable[..., PPOConfig], temperature: float) -> None:
    cfg = config(rollout={"temperature": temperature})
    _, result = scored(cfg)
    mask = result.rollouts.mask_BT
    assert (result.logprob_BT - result.rollouts.sampled_logprob_BT)[mask].abs().max() < 1e-4
    assert not result.logprob_BT[~mask].any() and not result.value_BT[~mask].any()
    assert (result.entropy_BT[mask] > 0).all()


def test_kl_of_the_policy_to_itself_is_exactly_zero_at_the_start(config: Callable[..., PPOConfig]) -> None:
    _, result = scored(config())
    assert torch.equal(result.logprob_BT, result.reference_BT)


def test_a_reference_of_its_own_is_used(config: Callable[..., PPOConfig], bench: Any) -> None:
    cfg = config(reference=bench.model)
    models, result = scored(cfg)
    assert (result.logprob_BT - result.reference_BT)[result.rollouts.mask_BT].sum() > 1
    base = load_model(bench.model, "float32", "cpu")[0]
    assert models.reference is not None and all(
        torch.equal(a, b) for a, b in zip(models.reference.parameters(), base.parameters(), strict=True)
    )


@pytest.mark.parametrize("micro_tokens", [1, 60, 4096])
def test_figures_do_not_depend_on_how_rows_are_batched_and_padded(
    config: Callable[..., PPOConfig], micro_tokens: int
) -> None:
    models, reference = scored(config())
    cfg = config(train={"micro_tokens": micro_tokens})
    again = ppo.score(reference.rollouts, models, cfg, step=0)
    for name in ("logprob_BT", "reference_BT", "entropy_BT", "value_BT", "score_B"):
        torch.testing.assert_close(getattr(again, name), getattr(reference, name), rtol=1e-4, atol=1e-5)


def test_the_critic_is_a_network_of_its_own(config: Callable[..., PPOConfig]) -> None:
    models = open_models(config())
    networks = [models.policy, models.reference, models.critic, models.reward.parts[0][1].model]  # type: ignore[attr-defined]
    places = [{p.data_ptr() for p in network.parameters()} for network in networks if network is not None]
    assert len(set().union(*places)) == sum(map(len, places))


def test_the_critic_starts_on_the_rewards_scale_or_at_zero(config: Callable[..., PPOConfig]) -> None:
    _, result = scored(config(rollout={"eos_rule": "none"}))
    for row, ids in enumerate(result.rollouts.response_ids):
        # The value before the last token is the reward model's reading of what stands there, not of the whole answer.
        assert result.value_BT[row, len(ids) - 1] != result.raw_score_B[row]
    assert result.value_BT.abs().max() > 0.1
    models, result = scored(config(ppo={"critic_head": "zeros"}))
    assert not result.value_BT.any() and not models.critic.head.weight.any()


def test_values_stand_before_each_token(config: Callable[..., PPOConfig], reward_run: str) -> None:
    """Column t holds the critic's number at the state that predicts answer token t."""
    models, result = scored(config())
    for row in range(4):
        prompt, answer = result.rollouts.prompt_ids[row], result.rollouts.response_ids[row]
        with torch.no_grad():
            values = models.critic(torch.tensor([[*prompt, *answer]]))[0]
        expected = values[len(prompt) - 1 : len(prompt) + len(answer) - 1]
        torch.testing.assert_close(result.value_BT[row, : len(answer)], expected, rtol=1e-4, atol=1e-4)


def test_frozen_layers_do_not_move(config: Callable[..., PPOConfig]) -> None:
    cfg = config(train={"frozen_layers": 1})
    models, result = scored(cfg)
    before, before_policy = weights(models.critic), weights(models.policy)
    update(cfg, models, result, rates=(1e-3, 1e-2))
    moved = {name for name, value in weights(models.critic).items() if not torch.equal(value, before[name])}
    assert "head.weight" in moved and any(name.startswith("trunk.blocks.1.") for name in moved)
    assert not any(name.startswith(("trunk.blocks.0.", "trunk.embed")) for name in moved)
    moved = {name for name, value in weights(models.policy).items() if not torch.equal(value, before_policy[name])}
    assert any(name.startswith("blocks.1.") for name in moved)
    assert not any(name.startswith(("blocks.0.", "embed")) for name in moved)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
def test_shared_frozen_blocks_change_no_number(
    bench: Any, config: Callable[..., PPOConfig], sft_run: str, tmp_path: Path, lora: LoraConfig | None
) -> None:
    """A reward model with the SFT model's own bottom: computed once for policy, reference and critic, with equal results."""
    frozen = reward.main(bench.reward(tmp_path / "reward", model=sft_run, train={"frozen_layers": 1, "epochs": 1}))
    cfg = config(reward=(str(tmp_path / "reward"),), train={"frozen_layers": 1}, lora=lora)
    assert frozen["rankings"] and not open_models(config(train={"frozen_layers": 1})).shared_bottom  # another bottom
    models, shared = scored(cfg)
    assert models.shared_bottom and len(shared.rollouts.bottoms) == len(shared.rollouts.answers)
    apart = ppo.score(
        dataclasses.replace(shared.rollouts, bottoms=()), dataclasses.replace(models, shared_bottom=False), cfg, step=0
    )
    assert not apart.rollouts.bottoms
    for name in ("logprob_BT", "reference_BT", "entropy_BT", "value_BT", "score_B"):
        torch.testing.assert_close(getattr(shared, name), getattr(apart, name), rtol=1e-5, atol=1e-5)
    update(cfg, models, shared)
    trained = weights(models.policy)
    again = open_models(cfg)
    update(cfg, again, apart)
    for name, value in weights(again.policy).items():
        torch.testing.assert_close(trained[name], value, rtol=1e-3, atol=1e-4)


def test_the_reward_models_score_is_of_prompt_and_whole_answer(
    config: Callable[..., PPOConfig], reward_run: str
) -> None:
    from chatwright.evals.rewards import open_learned

    cfg = config(rollout={"eos_rule": "none"})
    _, result = scored(cfg)
    learned = open_learned(reward_run, dtype=torch.float32, device="cpu")
    rows = [(a.prompt, a.text, a.ended) for a in result.rollouts.answers]
    alone = learned.score_texts(rows)
    same = [
        tuple(ids) == tuple(learned.tokenizer.encode(a.text)) + ((ids[-1],) if a.ended else ())
        for ids, a in zip(result.rollouts.response_ids, result.rollouts.answers, strict=True)
    ]
    assert any(same)  # a text may be tokenised in another way than it was sampled
    for equal, ours, theirs in zip(same, result.raw_score_B.tolist(), alone.tolist(), strict=True):
        assert not equal or ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(("rule", "penalty"), [("none", -1.0), ("replace", -2.5), ("subtract", -0.5)])
def test_the_eos_rule_goes_by_the_real_stop_token(config: Callable[..., PPOConfig], rule: str, penalty: float) -> None:
    """TRL looked for the wrong id."""
    _, result = scored(config(rollout={"eos_rule": rule, "eos_penalty": penalty}), 48)
    ended = result.rollouts.ended_B
    assert ended.any() and not ended.all()
    assert torch.equal(result.score_B[ended], result.raw_score_B[ended])
    punished = {
        "none": result.raw_score_B[~ended],
        "replace": torch.full_like(result.raw_score_B[~ended], penalty),
        "subtract": result.raw_score_B[~ended] - abs(penalty),
    }
    assert torch.equal(result.score_B[~ended], punished[rule])


# ---- 3 advantages ----------------------------------------------------------------------------------------------------


def test_the_reward_lands_on_the_end_of_turn_token(config: Callable[..., PPOConfig]) -> None:
    """trl#3750 placed it one slot late."""
    models, result = scored(config(), 32)
    made = ppo.advantages(result, 0.0, dataclasses.replace(config().ppo, whiten_advantages=False))
    for row, ids in enumerate(result.rollouts.response_ids):
        assert made.reward_BT[row].count_nonzero() <= 1
        assert made.reward_BT[row, len(ids) - 1] == result.score_B[row]
        if result.rollouts.ended_B[row]:
            assert ids[len(ids) - 1] in models.tokenizer.stop_ids


def test_per_token_kl_is_in_the_reward_with_its_sign(config: Callable[..., PPOConfig], bench: Any) -> None:
    _, result = scored(config(reference=bench.model))
    made = ppo.advantages(result, 0.3, config().ppo)
    without = ppo.advantages(result, 0.0, config().ppo)
    expected = -0.3 * (result.logprob_BT - result.reference_BT)
    torch.testing.assert_close(made.reward_BT - without.reward_BT, expected * result.rollouts.mask_BT, rtol=1e-4, atol=1e-5)
    assert (expected > 0).any()  # where the reference likes the token better, KL pays


@pytest.mark.parametrize("scale", [True, False])
def test_whitening_is_over_the_batch_and_reward_scaling_keeps_the_mean(
    config: Callable[..., PPOConfig], bench: Any, scale: bool
) -> None:
    _, result = scored(config(reference=bench.model))
    mask = result.rollouts.mask_BT
    made = ppo.advantages(result, 0.2, dataclasses.replace(config().ppo, whiten_rewards=scale))
    assert made.advantage_BT[mask].mean().item() == pytest.approx(0.0, abs=1e-5)
    assert made.advantage_BT[mask].var(unbiased=False).item() == pytest.approx(1.0, rel=1e-4)
    plain = ppo.advantages(result, 0.2, dataclasses.replace(config().ppo, whiten_rewards=False)).reward_BT
    assert made.reward_BT[mask].mean().item() == pytest.approx(plain[mask].mean().item(), abs=1e-5)
    if scale:
        assert made.reward_BT[mask].var(unbiased=False).item() == pytest.approx(1.0, rel=1e-4)


# ---- 4 update --------------------------------------------------------------------------------------------------------


def update(
    cfg: PPOConfig, models: Models, result: ppo.Scored, rates: tuple[float, float] = (1e-3, 1e-3)
) -> ppo.UpdateStats:
    """Steps 3 and 4 at constant rates of policy and critic."""
    cfg = dataclasses.replace(
        cfg,
        schedule=ScheduleConfig(kind="constant"),
        optim=dataclasses.replace(cfg.optim, lr=rates[0]),
        critic_optim=dataclasses.replace(cfg.critic_optim, lr=rates[1]),
    )
    made = ppo.advantages(result, cfg.ppo.beta, cfg.ppo)
    return ppo.update(made, models, ptx_of(cfg, models), cfg, step=0, where="ppo step 1")


def test_one_optimiser_step_per_minibatch_with_and_without_ptx(config: Callable[..., PPOConfig], bench: Any) -> None:
    """DeepSpeed-Chat takes a second Adam step for ptx."""
    for data, epochs in itertools.product(((), (bench.corpus,)), (1, 2)):
        cfg = config(ppo={"inner_epochs": epochs}, ptx={"data": data})
        models, result = scored(cfg)
        stats = update(cfg, models, result)
        assert models.policy_optim.steps_done == models.critic_optim.steps_done == 2 * epochs
        assert (stats.ptx_loss > 0) == (stats.ptx_grad_norm > 0) == bool(data)


def test_policy_and_ptx_gradients_meet_in_one_step(
    config: Callable[..., PPOConfig], bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the optimiser sees is the policy gradient plus gamma times the mean ptx gradient, each measured alone."""
    seen: list[dict[str, torch.Tensor]] = []
    real = MasterAdamW.step

    def spy(self: MasterAdamW, lr: float, *, where: str) -> float:
        seen.append({name: m.grad.clone() for name, m in self.masters.items() if m.grad is not None})
        return real(self, lr, where=where)

    def policy_gradient(gamma: float, data: tuple[str, ...]) -> tuple[dict[str, torch.Tensor], ppo.UpdateStats]:
        cfg = config(ppo={"minibatch_size": 16}, ptx={"data": data, "gamma": gamma})
        models, result = scored(cfg)
        with monkeypatch.context() as patched:
            patched.setattr(MasterAdamW, "step", spy)
            stats = update(cfg, models, result)
        policy, _critic = seen[-2:]
        return policy, stats

    alone, _ = policy_gradient(0.0, ())
    both, stats = policy_gradient(27.8, (bench.corpus,))
    cfg = config(ptx={"data": (bench.corpus,)})
    models = open_models(cfg)
    batches = ptx_of(cfg, models).take(0, 4)  # 16 answers, a quarter of a sequence each
    loss, count = (sum(values) for values in zip(*(batch_nll(models.policy, b) for b in batches), strict=True))
    (loss / count).backward()
    norm = 0.0
    for name, parameter in models.policy.named_parameters():
        assert parameter.grad is not None
        expected = 27.8 * parameter.grad
        torch.testing.assert_close(both[name] - alone[name], expected, rtol=1e-3, atol=2e-4)
        norm += float((expected**2).sum())
    assert stats.ptx_grad_norm == pytest.approx(math.sqrt(norm), rel=1e-3)
    assert stats.policy_grad_norm == pytest.approx(
        math.sqrt(sum(float((g**2).sum()) for g in alone.values())), rel=1e-3
    )


def test_gamma_changes_the_weights_and_zero_leaves_them_as_without_ptx(
    config: Callable[..., PPOConfig], bench: Any
) -> None:
    found = {}
    for name, ptx in {"none": {}, "0": {"gamma": 0.0}, "1": {"gamma": 1.0}}.items():
        cfg = config(ptx={"data": (bench.corpus,) if ptx else (), **ptx})
        models, result = scored(cfg)
        update(cfg, models, result)
        found[name] = weights(models.policy)
    assert all(torch.equal(value, found["0"][name]) for name, value in found["none"].items())
    assert any(not torch.equal(value, found["1"][name]) for name, value in found["none"].items())


def test_the_ptx_reduction_is_explicit(config: Callable[..., PPOConfig], bench: Any) -> None:
    """sequence_sum weighs a sequence of n targets n times as much as the mean per token does."""
    norms = {}
    for reduction in ("mean", "sequence_sum"):
        cfg = config(ptx={"data": (bench.corpus,), "reduction": reduction, "block_tokens": 24})
        models, result = scored(cfg)
        norms[reduction] = update(cfg, models, result).ptx_grad_norm
    assert norms["sequence_sum"] == pytest.approx(23 * norms["mean"], rel=0.25)


@pytest.mark.parametrize("per_episode", [0.05, 0.25, 0.3, 2.0])
def test_ptx_sequences_follow_the_episodes_even_below_one_per_minibatch(
    config: Callable[..., PPOConfig], bench: Any, per_episode: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config(ptx={"data": (bench.corpus,), "per_episode": per_episode})
    models, result = scored(cfg)
    ptx = ptx_of(cfg, models)
    taken: list[int] = []
    real = type(ptx).take

    def spy(self: Any, position: int, count: int) -> Any:
        taken.extend(range(position, position + count))
        return real(self, position, count)

    monkeypatch.setattr(type(ptx), "take", spy)
    for step in range(5):
        made = ppo.advantages(result, 0.0, cfg.ppo)
        # Later steps are no first updates any more, so the invariant does not apply to this batch.
        quiet = dataclasses.replace(cfg, guard=GuardConfig(invariants=False))
        ppo.update(made, models, ptx, quiet, step=step, where="x")
    assert taken == list(range(round(5 * 16 * per_episode)))


def test_a_stale_log_probability_stops_before_any_weight_moves(config: Callable[..., PPOConfig]) -> None:
    cfg = config()
    models, result = scored(cfg)
    before = weights(models.policy)
    stale = dataclasses.replace(result, logprob_BT=result.logprob_BT - 0.01 * result.rollouts.mask_BT)
    with pytest.raises(TrainingStopped, match=r"\|log rho\| of the first minibatch is 0.01.*No weight was changed"):
        update(cfg, models, stale)
    assert all(torch.equal(value, before[name]) for name, value in weights(models.policy).items())


def test_the_first_minibatch_has_ratio_one_and_later_ones_move(config: Callable[..., PPOConfig]) -> None:
    cfg = config(ppo={"minibatch_size": 4, "inner_epochs": 2})
    models, result = scored(cfg)
    stats = update(cfg, models, result, rates=(1e-2, 1e-3))
    assert stats.first_log_ratio < 1e-4 and stats.k3_update > 0 and stats.clip_fraction > 0


@pytest.mark.parametrize("frozen_layers", [0, 1])
def test_in_bf16_old_and_new_logprobs_are_the_same_numbers(config: Callable[..., PPOConfig], frozen_layers: int) -> None:
    """Scored and updated in the same minibatches: a batch of another shape would round otherwise (0.25 nats were seen)."""
    train = {"frozen_layers": frozen_layers, "micro_tokens": 100}
    cfg = config(precision="bf16", train=train, ppo={"minibatch_size": 5}, rollout={"batch_size": 16})
    models, result = scored(cfg)
    assert models.policy.embed.weight.dtype == torch.bfloat16
    assert update(cfg, models, result).first_log_ratio == 0.0
    stale = ppo.score(result.rollouts, models, cfg, step=1)
    assert not torch.equal(stale.logprob_BT, result.logprob_BT)


def test_only_the_critic_moves_by_the_value_loss(config: Callable[..., PPOConfig]) -> None:
    cfg = config()
    models, result = scored(cfg)
    policy, critic = weights(models.policy), weights(models.critic)
    update(cfg, models, result, rates=(0.0, 1e-2))
    assert all(torch.equal(value, policy[name]) for name, value in weights(models.policy).items())
    moved = {name for name, value in weights(models.critic).items() if not torch.equal(value, critic[name])}
    assert {"head.weight", "head.bias"} <= moved and "tie_parameter" not in moved


def test_the_value_loss_falls_on_the_same_batch(config: Callable[..., PPOConfig]) -> None:
    critic = {"value_clip": 100.0, "minibatch_size": 16, "critic_head": "zeros"}
    cfg = config(ppo=critic, guard={"invariants": False})
    models, result = scored(cfg)
    losses = [update(cfg, models, result, rates=(0.0, 1e-2)).value_loss for _ in range(25)]
    assert losses[-1] < 0.7 * losses[0]


# ---- whole runs ------------------------------------------------------------------------------------------------------


def test_a_reward_that_likes_a_letter_rises(config: Callable[..., PPOConfig], likes: str, reward_run: str) -> None:
    cfg = config(
        reward=(likes,), critic=reward_run, train={"steps": 10}, optim={"lr": 5e-3},
        rollout={"batch_size": 32, "eos_rule": "none"}, ppo={"beta": 0.0},
    )  # fmt: skip
    result = ppo.main(cfg)
    rows = metrics(cfg.out)
    first, last = (sum(row["reward"] for row in part) / 2 for part in (rows[:2], rows[-2:]))
    assert last > first + 0.8, (first, last)
    assert result["steps"] == 10 and result["stopped_by"] == ""
    assert result["reward_mean"] > rows[-1]["reward"]  # of the exported weights, which one more update has made
    assert rows[0]["kl_per_token"] == 0.0 and rows[-1]["kl_per_token"] > 0.1
    assert all(row["first_log_ratio"] < 1e-4 and row["rollout_gap"] < 1e-4 for row in rows)
    written = tiny.read_rows(Path(cfg.out) / "rollouts.jsonl")
    assert len(written) == 320 and {"completion", "ended", "reward", "step", "messages", "topic"} <= set(written[0])
    by_step = [row["reward"] for row in written if row["step"] == 3]
    assert sum(by_step) / 32 == pytest.approx(rows[2]["reward"], abs=1e-3)


def test_the_learned_reward_rises_and_the_held_out_text_is_measured(
    config: Callable[..., PPOConfig], bench: Any
) -> None:
    cfg = config(
        train={"steps": 8}, ptx={"data": (bench.corpus,), "gamma": 1.0}, optim={"lr": 5e-3}, rollout={"batch_size": 32}
    )
    result = ppo.main(cfg)
    rows = metrics(cfg.out)
    assert rows[-1]["reward_after_eos_rule"] > rows[0]["reward_after_eos_rule"] + 0.5
    assert result["ptx_loss_after"] < result["ptx_loss_before"] - 0.5
    assert result["ptx_sequences"] > 10 and set(result["data"]) == {bench.prompts, bench.corpus}


def test_a_large_beta_holds_the_policy_near_the_reference(
    config: Callable[..., PPOConfig], likes: str, reward_run: str
) -> None:
    last = {}
    for beta in (0.0, 3.0):
        cfg = config(f"beta{beta}", reward=(likes,), critic=reward_run, train={"steps": 8}, ppo={"beta": beta})
        ppo.main(cfg)
        last[beta] = metrics(cfg.out)[-1]["kl_per_token"]
    assert last[3.0] < 0.5 * last[0.0]


def test_an_adaptive_beta_follows_its_formula(config: Callable[..., PPOConfig]) -> None:
    cfg = config(train={"steps": 4}, ppo={"kl_target": 0.5, "kl_horizon": 100, "beta": 0.1})
    ppo.main(cfg)
    rows = metrics(cfg.out)
    for row, after in itertools.pairwise(rows):
        error = min(max(row["kl_per_answer"] / 0.5 - 1, -0.2), 0.2)
        assert after["beta"] == pytest.approx(row["beta"] * (1 + error * 16 / 100))
    assert rows[0]["beta"] == 0.1 > rows[1]["beta"]


def test_the_weight_average_is_exported(config: Callable[..., PPOConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    masters: list[dict[str, torch.Tensor]] = []
    real = EMA.update

    def spy(self: Any) -> None:
        masters.append({name: m.detach().clone() for name, m in self.source.masters.items()})
        real(self)

    monkeypatch.setattr(EMA, "update", spy)
    cfg = config(train={"steps": 3, "ema": 0.9})
    start = weights(load_model(cfg.model, "float32", "cpu")[0])
    result = ppo.main(cfg)
    exported = weights(load_model(result["path"], "float32", "cpu")[0])
    assert len(masters) == 3
    for name, value in start.items():
        for step in masters:
            value = 0.9 * value + 0.1 * step[name]
        torch.testing.assert_close(exported[name], value, rtol=1e-4, atol=1e-6)


def test_lora_keeps_the_policy_without_its_adapter_as_the_reference(
    config: Callable[..., PPOConfig], sft_run: str
) -> None:
    cfg = config(lora=LoraConfig(rank=4, alpha=8.0), train={"steps": 3}, optim={"lr": 1e-2})
    models, result = scored(cfg)
    assert models.reference is None and torch.equal(result.logprob_BT, result.reference_BT)
    update(cfg, models, result, rates=(1e-2, 1e-2))
    again = ppo.score(result.rollouts, models, cfg, step=0)
    assert not torch.equal(again.logprob_BT, result.logprob_BT)
    torch.testing.assert_close(again.reference_BT, result.reference_BT, rtol=1e-5, atol=1e-5)
    done = ppo.main(cfg)
    final = Path(done["path"])
    assert (final / "adapter" / "adapter_model.safetensors").is_file()
    assert metrics(cfg.out)[0]["kl_per_token"] == 0.0 < metrics(cfg.out)[-1]["kl_per_token_k3"]
    merged, base = (load_model(path, "float32", "cpu")[0] for path in (final, sft_run))
    assert torch.equal(merged.embed.weight, base.embed.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": LoraConfig(), "reference": "x"}, "--reference has no effect with --lora"),
        ({"lora": LoraConfig(dropout=0.1)}, "--lora.dropout"),
    ],
)
def test_settings_without_effect_are_refused(
    config: Callable[..., PPOConfig], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_networks_that_do_not_belong_together_are_refused(
    config: Callable[..., PPOConfig], bench: Any, likes: str, make_tokenizer: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="--critic: name a reward run folder"):
        open_models(config(reward=(likes,)))
    other = tiny.save_tiny_model(tmp_path / "other", make_tokenizer(merges=200, chat_template=tiny.SHORT_JINJA))
    with pytest.raises(ConfigError, match="its tokenizer is not the policy's"):
        open_models(config(reference=str(other)))
    too_long = str(tiny.write_rows(tmp_path / "long.jsonl", [{"prompt": "bees " * 2000}]))
    with pytest.raises(ConfigError, match="no prompt is left"):
        ppo.main(config(data=(too_long,)))


# ---- guard rails -----------------------------------------------------------------------------------------------------


BREACHES: dict[str, dict[str, Any]] = {
    "kl_per_token": {"max_kl_per_token": 0.6},
    "entropy": {"min_entropy": 2.0},
    "answer_tokens": {"min_answer_tokens": 6.0},
    "clip_fraction": {"max_clip_fraction": 0.2},
}


@pytest.mark.parametrize(
    ("name", "save_every_steps"), [*((name, 0) for name in BREACHES), ("kl_per_token", 1), ("kl_per_token", 3)]
)
def test_a_breach_exports_weights_whose_own_figures_are_inside_the_limits(
    config: Callable[..., PPOConfig], likes: str, reward_run: str, name: str, save_every_steps: int
) -> None:
    """Not those of the checkpoint before: step k measures the weights that step k - 1 made."""
    sign = "-1*" if name == "answer_tokens" else ""
    cfg = config(
        "breach", reward=(sign + likes.replace(":score", ":length") if sign else likes,), critic=reward_run,
        train={"steps": 14, "save_every_steps": save_every_steps}, guard=BREACHES[name], optim={"lr": 5e-3},
        rollout={"batch_size": 32, "eos_rule": "none"}, ppo={"beta": 0.0},
    )  # fmt: skip
    result = ppo.main(cfg)
    rows = metrics(cfg.out)
    breach = rows[-1]["step"]
    assert 2 < breach <= 14 and f"ppo step {breach}: " in result["stopped_by"] and name in result["stopped_by"]
    # A measured figure condemns the weights of the step before; the share of clipped ratios only the update itself.
    assert result["steps"] == (breach - 1 if name == "clip_fraction" else breach - 2)
    exported = dataclasses.replace(cfg, model=result["path"], reference=cfg.model, out=cfg.out + "-again")
    models = open_models(exported)
    training = Training(
        models=models, prompts=load_examples(load_prompts(cfg.data), models.tokenizer),
        controller=KLController(beta=0.0), good=guards.LastGood(optimizer=models.policy_optim, ema=None),
    )  # fmt: skip
    own = ppo.figures(ppo.iteration_batch(training, exported, result["steps"]), 0.0)
    assert guards.measured_breach(own, cfg.guard, "") == ""
    row = rows[result["steps"]]
    assert row["step"] == result["steps"] + 1
    for shown, logged in (("kl_per_token", "kl_per_token"), ("entropy", "entropy"), ("reward_mean", "reward")):
        assert result[shown] == row[logged] == pytest.approx(own[logged], rel=1e-4, abs=1e-4)


def test_the_last_update_is_measured_too(config: Callable[..., PPOConfig], likes: str, reward_run: str) -> None:
    """The run ends before the step that would have shown the breach; the exported weights are inside the limits, too."""
    settings: dict[str, Any] = {
        "reward": (likes,), "critic": reward_run, "optim": {"lr": 5e-3}, "ppo": {"beta": 0.0},
        "rollout": {"batch_size": 32, "eos_rule": "none"}, "guard": BREACHES["kl_per_token"],
    }  # fmt: skip
    long = ppo.main(config("long", train={"steps": 14}, **settings))
    breach = metrics(config("long", **settings).out)[-1]["step"]
    short = ppo.main(config("short", train={"steps": breach - 1}, **settings))
    assert short["steps"] == long["steps"] == breach - 2 and short["kl_per_token"] == long["kl_per_token"] <= 0.6
    assert f"ppo after step {breach - 1}: the policy has moved too far" in short["stopped_by"]
    assert tiny.tensor_hashes(Path(short["path"])) == tiny.tensor_hashes(Path(long["path"]))
    shorter = ppo.main(config("shorter", train={"steps": breach - 2}, **settings))
    assert shorter["stopped_by"] == "" and shorter["kl_per_token"] == long["kl_per_token"]
    assert tiny.tensor_hashes(Path(shorter["path"])) == tiny.tensor_hashes(Path(long["path"]))


@pytest.mark.parametrize("killed_at", ["before the breach", "at the breach"])
def test_a_run_killed_around_a_breach_exports_the_same(
    config: Callable[..., PPOConfig],
    likes: str,
    reward_run: str,
    monkeypatch: pytest.MonkeyPatch,
    opened: Any,
    killed_at: str,
) -> None:
    def settings(out: str) -> PPOConfig:
        return config(
            out, reward=(likes,), critic=reward_run, train={"steps": 14, "save_every_steps": 1, "keep_checkpoints": 1},
            guard=BREACHES["kl_per_token"], optim={"lr": 5e-3}, ppo={"beta": 0.0},
            rollout={"batch_size": 32, "eos_rule": "none"},
        )  # fmt: skip

    expected = ppo.main(settings("straight"))
    breach = metrics(settings("straight").out)[-1]["step"]

    class Killed(BaseException):
        pass

    real = ppo.measured_breach

    def kill(values: Any, guard: GuardConfig, where: str) -> str:
        if where == f"ppo step {breach - (killed_at == 'before the breach')}":
            raise Killed
        return real(values, guard, where)

    monkeypatch.setattr(ppo, "measured_breach", kill)
    with pytest.raises(Killed):
        ppo.main(settings("killed"))
    opened.close()
    monkeypatch.setattr(ppo, "measured_breach", real)
    result = ppo.main(settings("killed"))
    same = ("steps", "stopped_by", "kl_per_token", "entropy", "reward_mean")
    assert {name: result[name] for name in same} == {name: expected[name] for name in same}
    assert tiny.tensor_hashes(Path(result["path"])) == tiny.tensor_hashes(Path(expected["path"]))


def test_a_loss_that_is_no_number_exports_the_weights_from_before_it(
    config: Callable[..., PPOConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ppo.objective.policy_loss
    calls = [0]

    def broken(*args: Any) -> Any:
        calls[0] += 1
        terms = real(*args)
        in_step_3 = calls[0] == 6  # its second minibatch: the first one has moved the weights
        return dataclasses.replace(terms, loss_sum=terms.loss_sum * math.nan) if in_step_3 else terms

    monkeypatch.setattr(ppo.objective, "policy_loss", broken)
    result = ppo.main(config("nan", train={"steps": 5}, rollout={"batch_size": 16}))
    assert result["steps"] == 2 and "ppo step 3, policy: the loss is nan" in result["stopped_by"]
    monkeypatch.undo()
    other = ppo.main(config("two", train={"steps": 2}, rollout={"batch_size": 16}))
    assert tiny.tensor_hashes(Path(result["path"])) == tiny.tensor_hashes(Path(other["path"]))


def test_an_average_is_measured_itself(config: Callable[..., PPOConfig], likes: str, reward_run: str) -> None:
    settings: dict[str, Any] = {
        "reward": (likes,), "critic": reward_run, "optim": {"lr": 5e-3}, "ppo": {"beta": 0.0},
        "rollout": {"batch_size": 32, "eos_rule": "none"}, "guard": BREACHES["kl_per_token"],
    }  # fmt: skip
    raw = ppo.main(config("raw", train={"steps": 14}, **settings))
    averaged = ppo.main(config("averaged", train={"steps": 14, "ema": 0.8}, **settings))
    assert averaged["steps"] == raw["steps"] and 0 < averaged["kl_per_token"] < raw["kl_per_token"]


@pytest.mark.parametrize("on_breach", ["rollback", "stop"])
@pytest.mark.parametrize("save_every_steps", [0, 1])
def test_where_nothing_trained_is_good_nothing_is_exported_and_nothing_is_claimed(
    config: Callable[..., PPOConfig], on_breach: str, save_every_steps: int
) -> None:
    guard = {"min_answer_tokens": 1e9, "on_breach": on_breach}
    cfg = config(train={"steps": 3, "save_every_steps": save_every_steps}, guard=guard)
    words = "ppo step 1: the answers have become too short.*Nothing was exported"
    with pytest.raises(TrainingStopped, match=words) as error:
        ppo.main(cfg)
    assert not (Path(cfg.out) / "final").exists() and not list(Path(cfg.out).glob("checkpoints/step-*"))
    said = "There is no checkpoint" if on_breach == "stop" else f"{cfg.model} is still the model to use"
    assert said in str(error.value) and "stand" not in str(error.value)


def test_a_breach_that_stops_names_the_newest_checkpoint(config: Callable[..., PPOConfig]) -> None:
    cfg = config(
        train={"steps": 12, "save_every_steps": 1}, optim={"lr": 3e-4},
        guard={"max_kl_per_token": 0.02, "on_breach": "stop"},
    )  # fmt: skip
    words = r"Nothing was exported. The newest checkpoint is that of step (\d+) in "
    with pytest.raises(TrainingStopped, match=words) as error:
        ppo.main(cfg)
    (step,) = re.findall(r"of step (\d+) in", str(error.value))
    assert sorted(Path(cfg.out).glob("checkpoints/step-*"))[-1].name == f"step-{int(step):06d}"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("kl_per_token", 0.6, "moved too far"),
        ("kl_per_token", math.nan, "moved too far"),
        ("entropy", 0.01, "stopped to vary"),
        ("answer_tokens", 1.0, "too short"),
    ],
)
def test_each_limit_says_why_in_plain_words(name: str, value: float, words: str) -> None:
    fine = {"kl_per_token": 0.1, "entropy": 2.0, "answer_tokens": 20.0}
    assert guards.measured_breach(fine, GuardConfig(), "ppo step 4") == ""
    said = guards.measured_breach({**fine, name: value}, GuardConfig(), "ppo step 4")
    assert words in said and said.startswith("ppo step 4: ") and f"{name} {value:.3g} against the limit" in said


def test_the_limit_of_clipped_ratios_says_why() -> None:
    assert guards.update_breach(0.1, GuardConfig(), "ppo step 4") == ""
    said = guards.update_breach(0.9, GuardConfig(), "ppo step 4")
    assert said.startswith("ppo step 4: most updates are clipped") and "clip_fraction 0.9 against the limit 0.5" in said


def test_the_start_is_checked_cache_against_full_forward(config: Callable[..., PPOConfig]) -> None:
    cfg = config()
    models = open_models(cfg)
    assert models.reference is not None
    prompt = load_examples(load_prompts(cfg.data), models.tokenizer)[0].ids
    guards.check_start(models.policy, models.reference, models.generator, prompt, cfg.guard)
    models.policy.blocks[0].mlp.down.weight.data += 0.3  # type: ignore[operator,union-attr] (unseen by the generator)
    with pytest.raises(TrainingStopped, match="cached decoding differs from a full forward"):
        guards.check_start(models.policy, models.reference, models.generator, prompt, cfg.guard)
    guards.check_start(models.policy, models.reference, models.generator, prompt, GuardConfig(invariants=False))


def test_a_reference_computed_in_another_way_is_noticed(config: Callable[..., PPOConfig]) -> None:
    cfg = config()
    models = open_models(cfg)
    assert models.reference is not None
    prompt = load_examples(load_prompts(cfg.data), models.tokenizer)[0].ids
    real = models.reference.forward
    models.reference.forward = lambda *a, **k: real(*a, **k) * 1.001  # type: ignore[method-assign]
    with pytest.raises(TrainingStopped, match=r"KL\(pi, pi\) is not 0"):
        guards.check_start(models.policy, models.reference, models.generator, prompt, cfg.guard)


def test_a_checkpoint_holds_policy_critic_both_optimisers_and_the_average(
    config: Callable[..., PPOConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL does not save the critic."""
    saved: dict[str, torch.Tensor] = {}
    from chatwright.engine.checkpoint import CheckpointStore

    real = CheckpointStore.save
    monkeypatch.setattr(
        CheckpointStore, "save", lambda self, step, tensors, *rest: saved.update(tensors) or real(self, step, tensors, *rest)
    )
    ppo.main(config(train={"steps": 2, "save_every_steps": 1, "ema": 0.9}))
    for start in (
        "policy.master.embed", "policy.exp_avg.embed", "policy.exp_avg_sq.embed", "policy.steps_done",
        "critic.master.trunk.embed", "critic.master.head.weight", "critic.exp_avg.head.bias", "ema.embed",
    ):  # fmt: skip
        assert any(name.startswith(start) for name in saved), start
