"""What is trained is never lost: failures in a step, after the last step, and of files that cannot be written."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_training as tiny
from chatwright.engine.optim import OptimConfig
from chatwright.errors import ConfigError, DataError, GateError, TrainingStopped
from chatwright.evals.rewards import check_gate
from chatwright.generation.lm import load_model
from chatwright.recipes import bestofn, dpo, embed, overopt, replay, reward, sample, sft
from chatwright.recipes.reward import RewardEvalConfig, ScoreConfig

CPU: dict[str, Any] = {"device": "cpu", "precision": "fp32"}


def pairs_file(folder: Path) -> str:
    rows = [{"query": row["prompt"], "passage": row["completion"]} for row in tiny.demonstration_rows(24)]
    return str(tiny.write_rows(folder / "pairs.jsonl", rows))


def runs_of(bench: Any, folder: Path) -> dict[str, tuple[Any, Callable[[], Any], str]]:
    """Per recipe: its module, one run of four steps, and the module's function that gives a loss."""
    rankings = str(tiny.write_rows(folder / "rankings.jsonl", tiny.ranking_rows(40)))
    settings: dict[str, Any] = {"model": bench.model, **CPU}
    train = dpo.DPOTrainConfig(steps=4)
    embed_train = embed.EmbedTrainConfig(steps=4, batch_size=4)
    return {
        "sft": (sft, lambda: sft.main(bench.sft(folder / "sft", train={"steps": 4})), "batch_nll"),
        "reward": (reward, lambda: reward.main(bench.reward(folder / "reward", train={"steps": 4})), "loss_of"),
        "dpo": (
            dpo,
            lambda: dpo.main(dpo.DPOConfig(data=(rankings,), out=str(folder / "dpo"), train=train, **settings)),
            "loss_of",
        ),
        "embed": (
            embed,
            lambda: embed.main(
                embed.EmbedConfig(data=(pairs_file(folder),), out=str(folder / "embed"), dimensions=(16,),
                                  train=embed_train, **settings)
            ),
            "matryoshka_info_nce",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["sft", "reward", "dpo", "embed"])
def test_a_loss_that_is_no_number_leaves_the_weights_of_the_step_before(
    bench: Any, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, opened: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the default settings, which save by the clock: a checkpoint, and the weights as a model."""
    module, run, function = runs_of(bench, tmp_path)[name]
    real, calls, kinds = getattr(module, function), [0], {"sft": "sft", "embed": "embed-train"}

    def broken(*args: Any, **kwargs: Any) -> Any:
        total, count = real(*args, **kwargs)
        return total * (math.nan if calls[0] >= 2 else 1.0), count

    monkeypatch.setattr(module, function, broken)
    real_rate = module.rate_at

    def counting(step: int, *args: Any) -> float:
        calls[0] = step
        return float(real_rate(step, *args))

    monkeypatch.setattr(module, "rate_at", counting)
    if name in ("sft", "dpo", "reward", "embed"):  # the rate is asked for before the loss
        with pytest.raises(TrainingStopped, match="step 3.*the loss is nan; no weight was changed"):
            run()
    said = capfd.readouterr().err
    assert f"{kinds.get(name, name)}: saved after step 2. The weights of that step are in" in said
    folder = tmp_path / name
    assert [p.name for p in folder.glob("checkpoints/step-*")] == ["step-000002"]
    kept = load_model(folder / "final", "float32", "cpu")[0]
    assert all(bool(torch.isfinite(p).all()) for p in kept.parameters())
    opened.close()
    monkeypatch.undo()
    result = run()  # whatever made the loss no number is gone: the run resumes
    assert "resuming after step 2" in capfd.readouterr().err and math.isfinite(result.get("loss") or 0.0)


def test_a_reward_head_with_a_broken_gradient_moves_no_weight(bench: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """The trunk's step comes first; the checkpoint must be of one step, not of one and a half."""
    from chatwright.engine.optim import MasterAdamW

    real, before = MasterAdamW.grad_norm, {}

    def norm(self: Any) -> float:
        if "weight" in self.masters and self.steps_done == 1:  # the head
            return math.nan
        before.setdefault(id(self), self)
        return real(self)

    monkeypatch.setattr(MasterAdamW, "grad_norm", norm)
    with pytest.raises(TrainingStopped, match="reward step 2, head: the gradient norm is nan"):
        reward.main(bench.reward(tmp_path / "r", train={"steps": 3}))
    assert all(optimizer.steps_done == 1 for optimizer in before.values())


# ---- reward: what comes after the last step --------------------------------------------------------------------------


def test_held_out_rankings_that_do_not_fit_close_the_gate_and_keep_the_weights(
    bench: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    held = [{**row, "prompt": "bees " * 300} for row in tiny.ranking_rows(4, seed=9)]
    data = str(tiny.write_rows(tmp_path / "held.jsonl", held))
    result = reward.main(bench.reward(tmp_path / "r", eval=RewardEvalConfig(data=(data,)), train={"epochs": 1}))
    said = capfd.readouterr().err
    assert "no report card" in result["gate"] and result["accuracy"] is None
    assert said.index("there will be no report card") < said.index("steps")  # before training
    assert load_model(tmp_path / "r" / "final", "float32", "cpu")[0] is not None
    with pytest.raises(GateError, match="no report card.*--ignore-gate"):
        check_gate((str(tmp_path / "r"),))


def test_a_score_that_is_not_finite_closes_the_gate_and_keeps_the_weights(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reward.score_examples

    def broken(*args: Any) -> list[list[float]]:
        scores = real(*args)
        scores[0][0] = math.nan
        return scores

    monkeypatch.setattr(reward, "score_examples", broken)
    result = reward.main(bench.reward(tmp_path / "r", train={"epochs": 1}))
    assert result["gate"].startswith("no report card: ") and (tmp_path / "r" / "final").is_dir()


def test_a_report_that_crashes_is_resumed_without_training_again(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise MemoryError("report")

    with monkeypatch.context() as patched:
        patched.setattr(reward, "report_card", crash)
        with pytest.raises(MemoryError):
            reward.main(bench.reward(tmp_path / "r", train={"steps": 3}))
    opened.close()
    monkeypatch.setattr(reward, "accumulate", crash)  # no step is taken again
    result = reward.main(bench.reward(tmp_path / "r", train={"steps": 3}))
    assert "resuming after step 3" in capfd.readouterr().err and result["accuracy"] is not None
    monkeypatch.undo()
    straight = reward.main(bench.reward(tmp_path / "s", train={"steps": 3}))
    assert tiny.tensor_hashes(tmp_path / "r" / "final") == tiny.tensor_hashes(tmp_path / "s" / "final")
    assert straight["accuracy"] == result["accuracy"]


@pytest.mark.parametrize("ties", ["drop", "davidson", "soft"])
def test_rankings_without_any_preference_are_refused(bench: Any, tmp_path: Path, ties: str) -> None:
    rows = [{**row, "ranking": "A=B=C"} for row in tiny.ranking_rows(6)]
    data = str(tiny.write_rows(tmp_path / "ties.jsonl", rows))
    with pytest.raises(ConfigError, match="every pair of answers is tied"):
        reward.main(bench.reward(tmp_path / "r", data=(data,), eval=RewardEvalConfig(share=0.0), train={"ties": ties}))
    with pytest.raises(ConfigError, match="every pair of answers is tied"):
        dpo.main(dpo.DPOConfig(model=bench.model, data=(data,), out=str(tmp_path / "d"), optim=OptimConfig(lr=1e-3),
                               train=dpo.DPOTrainConfig(ties=ties), **CPU))  # type: ignore[arg-type]  # fmt: skip


# ---- sft: selection by a reward that fails ---------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [2, 4])
def test_a_selection_that_fails_is_made_up_for_when_the_run_resumes(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Any, failing: int,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The reward is gone at the end of an epoch; nothing is trained twice, and every epoch is compared."""
    (tmp_path / "fails.py").write_text(
        "calls = [0]\nfailing = [0]\n"
        "def score(items):\n"
        "    calls[0] += 1\n"
        "    if calls[0] == failing[0]:\n        raise RuntimeError('gone')\n"
        "    return [float(sum(map(ord, i['completion'])) % 97) for i in items]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import fails  # type: ignore[import-not-found]

    select = sft.SelectConfig(reward=("python:fails:score",), prompts=(bench.prompts,), max_new_tokens=4)

    def run(out: str) -> Any:
        return sft.main(bench.sft(tmp_path / out, train={"epochs": 4, "batch_size": 4, "dropout": 0.1}, select=select))

    straight = run("straight")
    fails.calls[0], fails.failing[0] = 0, failing
    with pytest.raises(DataError, match="python:fails:score: raised RuntimeError: gone"):
        run("r")
    opened.close()
    steps = failing * 2  # two steps a pass
    assert f"saved after step {steps}. Run the same command to resume" in capfd.readouterr().err
    fails.failing[0] = 0
    result = run("r")
    assert result["selected"] == straight["selected"]
    assert tiny.tensor_hashes(tmp_path / "r" / "final") == tiny.tensor_hashes(tmp_path / "straight" / "final")
    assert tiny.read_rows(tmp_path / "r" / "metrics.jsonl") == tiny.read_rows(tmp_path / "straight" / "metrics.jsonl")


# ---- files that cannot be written are refused before the work --------------------------------------------------------


@pytest.mark.parametrize("kind", ["a folder", "below a file"])
def test_an_out_that_cannot_be_written_is_refused_before_any_work(
    bench: Any, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: Any, **__: Any) -> None:
        raise AssertionError("work began")

    for module in (sample, replay, bestofn):
        monkeypatch.setattr(module, "load_model", loaded)
    monkeypatch.setattr(reward, "open_learned", loaded)
    monkeypatch.setattr(overopt, "open_judge", loaded)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    out = str(tmp_path / "folder" if kind == "a folder" else tmp_path / "file" / "out.jsonl")
    words = "cannot be written .*choose another file"
    calls: list[Callable[[], Any]] = [
        lambda: sample.main(sample.SampleConfig(data=(bench.prompts,), out=out)),
        lambda: replay.main(replay.ReplayConfig(out=out)),
        lambda: bestofn.main(bestofn.BestOfNConfig(reward=("r",), data=(bench.prompts,), out=out)),
        lambda: reward.score(ScoreConfig(reward="r", data=bench.prompts, out=out)),
        lambda: overopt.main(overopt.OveroptConfig(data=("x",), out=out)),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=words):
            call()
    assert not list((tmp_path / "folder").iterdir())


def test_best_of_n_continues_after_an_endpoint_has_failed(
    bench: Any, sft_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sometimes.py").write_text(
        "calls = [0]\nlast = [99]\n"
        "def score(items):\n    calls[0] += 1\n    if calls[0] > last[0]:\n        raise OSError('gone')\n"
        "    return [float(len(i['completion'])) for i in items]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import sometimes  # type: ignore[import-not-found]

    monkeypatch.setattr(bestofn, "_CHUNK_ANSWERS", 4)
    common: dict[str, Any] = {"model": sft_run, "reward": ("python:sometimes:score",), "data": (bench.prompts,), "n": 2}
    cfg = bestofn.BestOfNConfig(**common, out=str(tmp_path / "b.jsonl"), max_new_tokens=6, **CPU)
    straight = bestofn.main(dataclasses.replace(cfg, out=str(tmp_path / "straight.jsonl")))
    sometimes.calls[0], sometimes.last[0] = 0, 5
    with pytest.raises(DataError, match="raised OSError"):
        bestofn.main(cfg)
    assert len(tiny.read_rows(tmp_path / "b.jsonl")) == 4  # two chunks of two prompts
    sometimes.last[0] = 99
    again = bestofn.main(cfg)
    assert tiny.read_rows(tmp_path / "b.jsonl") == tiny.read_rows(tmp_path / "straight.jsonl")
    assert again["reward_best"] == straight["reward_best"]
    with pytest.raises(ConfigError, match="max-new-tokens 7, was 6"):
        bestofn.main(dataclasses.replace(cfg, max_new_tokens=7))
