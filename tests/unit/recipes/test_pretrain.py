"""Pre-training in process on a small text: it learns, measures, samples, guards, stops by the clock, and exports."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_training as tiny
from chatwright import cli, progress
from chatwright.data.pretrain_corpus import write_corpus
from chatwright.engine.checkpoint import verify_folder
from chatwright.engine.schedule import ScheduleConfig, rate_at
from chatwright.engine.spikes import SpikeConfig
from chatwright.errors import ConfigError, DataError, TrainingStopped
from chatwright.generation.lm import load
from chatwright.generation.score import score_tokens
from chatwright.model.formats.gguf_tokenizer import SPLITS as GGUF_SPLITS
from chatwright.recipes import pretrain
from chatwright.recipes import pretrain_config as settings
from chatwright.text.bpe import SPLITS, train_bpe

TEXTS = [f"The bees make honey {n % 7} and sleep in winter. 锄禾日当午，汗滴禾下土。" for n in range(60)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, train_bpe(TEXTS, 320), TEXTS, TEXTS[:8])
    return str(folder)


def config(corpus: str, out: Path, **changes: Any) -> settings.PretrainConfig:
    train = settings.PretrainTrainConfig(**{"steps": 40, "batch_tokens": 256, **changes.pop("train", {})})
    size = settings.SizeConfig(**{"width": 32, "heads": 2, **changes.pop("size", {})})
    sample = settings.SampleConfig(**{"max_new_tokens": 8, **changes.pop("sample", {})})
    common: dict[str, Any] = {"depth": 2, "context": 32, "device": "cpu", "precision": "fp32"}
    return settings.PretrainConfig(
        data=corpus, out=str(out), train=train, size=size, sample=sample, **common | changes
    )


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_it_learns_measures_and_exports(corpus: str, tmp_path: Path, optimizer: Any) -> None:
    chosen = settings.PretrainOptimConfig(kind=optimizer, lr=0.02)
    held_out = settings.HeldOutConfig(every_steps=20)
    cfg = config(corpus, tmp_path / "r", optim=chosen, held_out=held_out, sample={"prompts": ("锄禾",), "temperature": 0.0})
    result = pretrain.main(cfg)
    rows = tiny.read_rows(tmp_path / "r" / "metrics.jsonl")
    assert rows[0]["loss"] > 5 and result["loss"] == rows[-1]["loss"] < 2 and len(rows) == 40
    assert [row["step"] for row in rows if "held_out_loss" in row] == [20]
    assert result["held_out_loss"] < rows[19]["held_out_loss"] < 5
    (sample,) = tiny.read_rows(tmp_path / "r" / "samples.jsonl")
    assert sample["step"] == 40 and sample["prompt"] == "锄禾" and sample["text"]
    verify_folder(tmp_path / "r")
    assert json.loads((tmp_path / "r" / "final" / "pretrain.json").read_text())["objective"] == "causal"
    # Bits per byte again, from the exported model, token by token over the same windows.
    lm = load(tmp_path / "r")
    ids = [i for text in TEXTS[:8] for i in (lm.tokenizer.bos_id, *lm.tokenizer.encode(text), lm.tokenizer.eos_id)]
    nats = 0.0
    for start in range(0, len(ids) - 1, 32):
        scored = score_tokens(lm.model, ids[start : start + 33][:32])
        nats -= sum(s[0] for s in scored[1:] if s)
        if start + 32 < len(ids):
            nats -= float(torch.log_softmax(lm.logits(ids[start : start + 32])[-1], -1)[ids[start + 32]])
    num_bytes = sum(len(text.encode()) for text in TEXTS[:8])
    assert result["held_out_bits_per_byte"] == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-4)
    assert result["held_out_bits_per_character"] == pytest.approx(
        result["held_out_bits_per_byte"] * num_bytes / sum(map(len, TEXTS[:8])), rel=1e-6
    )
    assert pretrain.main(cfg) == result  # a finished run is not trained again


def test_the_splits_of_our_tokenizers_are_those_that_gguf_knows() -> None:
    assert GGUF_SPLITS["deepseek-v3"] == SPLITS


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_the_result_exports(corpus: str, tmp_path: Path, to: str) -> None:
    pretrain.main(config(corpus, tmp_path / "r", train={"steps": 2}))
    assert cli.main(["export", "--model", str(tmp_path / "r"), "--to", to, "--out", str(tmp_path / to)]) == 0
    file = next((tmp_path / to).glob("*.gguf")) if to == "gguf" else tmp_path / to
    ours, exported = load(tmp_path / "r"), load(file)
    ids = ours.tokenizer.encode("The bees 锄禾")
    assert exported.tokenizer.encode("The bees 锄禾") == ids
    torch.testing.assert_close(exported.logits(ids), ours.logits(ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("objective", ["masked", "mixed"])
def test_hidden_words_are_restored_from_both_sides(corpus: str, tmp_path: Path, objective: Any) -> None:
    result = pretrain.main(
        config(
            corpus, tmp_path / "r", objective=objective, train={"steps": 120}, optim=settings.PretrainOptimConfig(lr=0.02)
        )
    )
    rows = tiny.read_rows(tmp_path / "r" / "metrics.jsonl")
    kinds = [row["kind"] for row in rows]
    assert kinds.count("masked") == (120 if objective == "masked" else 60)
    masked = [row["loss"] for row in rows if row["kind"] == "masked"]
    assert masked[0] > 5 and result["held_out_masked_loss"] < 3
    assert ("held_out_bits_per_byte" in result) == (objective == "mixed")


def test_gradient_accumulation_changes_nothing(corpus: str, tmp_path: Path) -> None:
    one, other = (
        pretrain.main(config(corpus, tmp_path / str(m), objective="mixed", train={"steps": 4, "micro_tokens": m}))
        for m in (32, 4096)
    )
    assert one["held_out_loss"] == pytest.approx(other["held_out_loss"], rel=1e-4)


def test_documents_apart_learn_too(corpus: str, tmp_path: Path) -> None:
    result = pretrain.main(config(corpus, tmp_path / "r", documents="apart", optim=settings.PretrainOptimConfig(lr=0.02)))
    assert result["held_out_loss"] < 3


def test_a_spike_is_left_out_and_three_bring_old_weights_back(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pretrain.accumulate
    calls = 0

    def spiking(*args: Any, **named: Any) -> float:
        nonlocal calls
        calls += 1
        loss = real(*args, **named)
        if calls in (15, 20, 21):
            return 50.0
        if calls == 22:
            raise TrainingStopped("the loss is nan")
        return loss

    monkeypatch.setattr(pretrain, "accumulate", spiking)
    spikes = SpikeConfig(memory_steps=5, least_nats=2.0, factor=20.0)
    result = pretrain.main(config(corpus, tmp_path / "r", spikes=spikes))
    rows = tiny.read_rows(tmp_path / "r" / "metrics.jsonl")
    assert (result["skipped"], result["rolled_back"]) == (4, 1)
    assert [row["step"] for row in rows if row["grad_norm"] is None] == [15, 20, 21, 22]
    assert rows[21]["loss"] is None and rows[-1]["loss"] < rows[10]["loss"]
    with pytest.raises(TrainingStopped, match="nan"):
        calls = 20
        pretrain.main(config(corpus, tmp_path / "off", spikes=SpikeConfig(factor=0)))


def test_by_the_clock_the_schedule_ends_with_the_time(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(10**6))
    monkeypatch.setattr(pretrain, "perf_counter", lambda: float(next(ticks)))  # every step takes one second
    result = pretrain.main(config(corpus, tmp_path / "r", train={"steps": 0, "minutes": 0.5}))
    rows = tiny.read_rows(tmp_path / "r" / "metrics.jsonl")
    rates = [row["lr"] for row in rows]
    assert result["steps"] == len(rows) == 30 and result["train_seconds"] == 30
    assert rates[2] == result["lr"] and rates[-1] == pytest.approx(result["lr"] / 12, rel=0.01)


def test_by_the_clock_the_lines_of_progress_count_the_time_that_is_left(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not steps of a number that nobody knows, nor hours that follow from it."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(pretrain, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(progress, "_PLAIN_EVERY_S", 0.0)
    pretrain.main(config(corpus, tmp_path / "r", train={"steps": 0, "minutes": 0.1}))
    lines = [line for line in capfd.readouterr().err.splitlines() if "tokens/s" in line]
    assert lines[0].startswith("pretrain: 1 steps, ") and "0:05 left" in lines[1] and "0:01 left" in lines[-1]
    assert not any("/" in line.split(",")[0] for line in lines)


def test_by_the_clock_the_last_step_has_a_checkpoint(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Any
) -> None:
    """An evaluation that fails at the end costs none of the minutes."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(pretrain, "perf_counter", lambda: float(next(ticks)))
    cfg = config(corpus, tmp_path / "r", train={"steps": 0, "minutes": 0.1})
    real, calls = pretrain.held_out_loss, [0]

    def broken(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise MemoryError
        return real(*args, **kwargs)

    monkeypatch.setattr(pretrain, "held_out_loss", broken)
    with pytest.raises(MemoryError):
        pretrain.main(cfg)
    assert [p.name for p in (tmp_path / "r").glob("checkpoints/step-*")] == ["step-000006"]
    opened.close()
    monkeypatch.setattr(pretrain, "accumulate", broken)  # no further step
    assert pretrain.main(cfg)["steps"] == 6


def test_a_trained_model_is_trained_further(corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights, shape and tokenizer stay; one pass by default; the result names the model."""
    base = pretrain.main(config(corpus, tmp_path / "base", optim=settings.PretrainOptimConfig(lr=0.02)))
    further = settings.PretrainConfig(
        data=corpus, model=str(tmp_path / "base"), out=str(tmp_path / "more"), context=32, device="cpu", precision="fp32",
        optim=settings.PretrainOptimConfig(lr=0.01), sample=settings.SampleConfig(max_new_tokens=4),
    )  # fmt: skip
    result = pretrain.main(further)
    # Before its first step it is what the first run ended with, and it goes on from there.
    assert result["untrained_loss"] == pytest.approx(base["held_out_loss"], rel=1e-4)
    assert result["held_out_loss"] < base["held_out_loss"] and result["model"] == str(tmp_path / "base")
    tokens = sum(len(load(tmp_path / "base").tokenizer.encode(text)) + 2 for text in TEXTS)
    assert result["tokens"] == pytest.approx(tokens, abs=2 * result["batch_tokens"]) and result["steps"] >= 30
    assert load(tmp_path / "more").model.config == load(tmp_path / "base").model.config
    assert pretrain.main(further) == result
    for changes, words in (({"context": 64}, "at most 32 tokens"), ({"depth": 3}, "keeps its shape")):
        with pytest.raises(ConfigError, match=words):
            pretrain.main(replace(further, out=str(tmp_path / "no"), **changes))
    other = tiny.save_tiny_model(tmp_path / "other", train_bpe(TEXTS, 300))
    argv = ["pretrain", "--data", corpus, "--model", str(other), "--context", "32", "--out", str(tmp_path / "fit")]
    assert cli.main(argv) == 1 and "--tokenizer" in capsys.readouterr().err


def test_a_short_run_has_enough_steps() -> None:
    """The dial's batch is that of the dial's length; by the clock on a CPU, and from a trained model, it is smaller."""
    shape = settings.model_config(settings.PretrainConfig(data="x"), 8000)
    clock = settings.PretrainConfig(data="x", train=settings.PretrainTrainConfig(minutes=10))
    assert settings.plan_of(settings.PretrainConfig(data="x"), shape).batch_tokens > 20_000
    assert settings.plan_of(clock, shape, on_cpu=True).batch_tokens == 4096
    assert settings.plan_of(clock, shape).batch_tokens > 20_000
    further = settings.PretrainConfig(data="x", model="m")
    small = settings.plan_of(further, shape, text_tokens=200_000, on_cpu=True)
    assert 60 <= small.steps <= 140 and small.steps * small.batch_tokens == pytest.approx(200_000, rel=0.05)
    assert settings.plan_of(further, shape, text_tokens=10**9).batch_tokens == 4096
    assert small.lr == pytest.approx(settings.plan_of(clock, shape).lr / 10)


def test_the_average_is_what_is_exported(corpus: str, tmp_path: Path) -> None:
    plain = pretrain.main(config(corpus, tmp_path / "a", train={"steps": 10}))
    averaged = pretrain.main(config(corpus, tmp_path / "b", train={"steps": 10, "ema_decay": 0.999}))
    assert averaged["loss"] == plain["loss"] and averaged["held_out_loss"] > plain["held_out_loss"] + 0.5


def test_the_dial_grows_everything_and_can_be_overridden(tmp_path: Path) -> None:
    plans, shapes = [], []
    for depth in (2, 4, 8, 16):
        cfg = settings.PretrainConfig(data="x", depth=depth)
        shapes.append(settings.model_config(cfg, 8192))
        plans.append(settings.plan_of(cfg, shapes[-1]))
    assert [s.hidden_size for s in shapes] == [128, 256, 512, 1024] and [s.num_heads for s in shapes] == [2, 4, 8, 16]
    assert all(a.batch_tokens < b.batch_tokens and a.lr > b.lr for a, b in zip(plans, plans[1:], strict=False))
    assert all(p.steps * p.batch_tokens == pytest.approx(20 * p.parameters, rel=0.1) for p in plans)
    # DeepSeek LLM, equation 1, at the compute of depth 8.
    compute = 6 * plans[2].parameters * plans[2].dial_tokens
    assert plans[2].batch_tokens == pytest.approx(0.2920 * compute**0.3271, rel=0.05)
    assert plans[2].lr == pytest.approx(0.3118 * compute**-0.125)
    by_hand = config("x", tmp_path, size={"width": 48, "heads": 3, "kv_heads": 1, "feed_forward": 100, "qk_norm": False})
    shape = settings.model_config(by_hand, 300)
    assert (shape.family, shape.num_kv_heads, shape.intermediate_size) == ("llama", 1, 100)
    with pytest.raises(ConfigError, match="heads 5"):
        settings.model_config(config("x", tmp_path, size={"heads": 5}), 300)


def test_wsd_rises_stays_and_falls() -> None:
    schedule = ScheduleConfig(kind="wsd", warmup_steps=4, final_share=0.1, decay_share=0.5)
    rates = [rate_at(step, 20, 1.0, schedule) for step in range(20)]
    assert rates[:4] == [0, 0.25, 0.5, 0.75] and rates[4:11] == [1.0] * 7
    assert rates[15] == pytest.approx(0.55) and rates[19] == pytest.approx(0.19)
    assert rate_at(3, 20, 1.0, ScheduleConfig(kind="wsd", decay_share=0.0)) == 1.0


def test_what_cannot_be_done_is_said(corpus: str, tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="one of the two"):
        settings.PretrainTrainConfig(steps=1, minutes=1.0)
    with pytest.raises(DataError, match="no built corpus"):
        pretrain.main(config(str(tmp_path / "nowhere"), tmp_path / "a"))
    with pytest.raises(DataError, match="a window takes"):
        pretrain.main(config(corpus, tmp_path / "b", context=100_000))
    write_corpus(tmp_path / "maskless", tokenizer, TEXTS, TEXTS[:2])
    with pytest.raises(ConfigError, match="no mask token"):
        pretrain.main(config(str(tmp_path / "maskless"), tmp_path / "c", objective="masked"))
    with pytest.raises(ConfigError, match="sample"):
        config(corpus, tmp_path / "d", objective="masked", sample={"every_steps": 3})
