"""SFT in process on a two-layer model: what is trained, what is kept, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_training as tiny
from chatwright.data.ptx import open_ptx
from chatwright.data.sft import load_examples, micro_batches
from chatwright.engine.checkpoint import verify_folder
from chatwright.engine.optim import MasterAdamW, OptimConfig
from chatwright.errors import ConfigError, DataError, TemplateError, TrainingStopped
from chatwright.generation.lm import load, load_model
from chatwright.model.formats.huggingface import save_folder
from chatwright.model.lora import LoraConfig
from chatwright.objectives.lm import batch_nll, mean_nll
from chatwright.recipes import sft
from chatwright.recipes.sft import MixConfig, SelectConfig
from chatwright.records import load_demonstrations
from chatwright.text.chat import answer_ids


def test_the_loss_falls_and_the_answers_are_learned_word_for_word(bench: Any, tmp_path: Path) -> None:
    result = sft.main(bench.sft(tmp_path / "r", train={"epochs": 120}))
    rows = tiny.read_rows(tmp_path / "r" / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 121)) and result["steps"] == 120
    assert rows[0]["loss"] > 5 > 0.3 > rows[-1]["loss"] == result["loss"]
    assert rows[0]["lr"] == 1e-2 and rows[-1]["lr"] == pytest.approx(1e-3, rel=0.01)
    lm = load(result["path"])
    learned = 0
    for demonstration in load_demonstrations((bench.demonstrations,)):
        (answer,) = lm.generate([list(demonstration.prompt.messages)], temperature=0, max_new_tokens=40)
        learned += answer.text == demonstration.answer and answer.finish_reason == "stop"
    assert learned >= 7
    verify_folder(tmp_path / "r")
    assert json.loads((tmp_path / "r" / "result.json").read_text()) == result
    assert list(result["data"]) == [bench.demonstrations]


def test_exactly_the_answers_and_their_end_of_turn_are_trained(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trl#7230: an end-of-turn token that is never trained is never written. Prompts and controls are not trained."""
    trained: list[int] = []
    rows = 0

    def spy(model: Any, batch: Any) -> Any:
        nonlocal rows
        trained.extend(batch.tokens_BT[:, 1:][batch.loss_mask_BT[:, 1:]].tolist())
        rows += len(batch.tokens_BT)
        return batch_nll(model, batch)

    monkeypatch.setattr(sft, "batch_nll", spy)
    sft.main(bench.sft(tmp_path / "r", train={"epochs": 1, "batch_size": 3, "micro_tokens": 64}))
    demonstrations = load_demonstrations((bench.demonstrations,))
    expected = [i for d in demonstrations for i in answer_ids(d.answer, bench.tokenizer)]
    assert rows == 8  # batches of 3, 3 and 2
    assert sorted(trained) == sorted(expected) and trained.count(bench.tokenizer.eos_id) == 8


@pytest.mark.parametrize(("num", "steps"), [(9, 4), (1, 2), (8, 2)])
def test_an_epoch_trains_every_token_once(bench: Any, tmp_path: Path, num: int, steps: int) -> None:
    """Case T01: 9 rows in batches of 8 are 2 passes after 2 epochs, not 3.6."""
    data = tiny.write_rows(tmp_path / "d.jsonl", tiny.demonstration_rows(num))
    sft.main(bench.sft(tmp_path / "r", data=(str(data),), train={"epochs": 2, "batch_size": 8}))
    rows = tiny.read_rows(tmp_path / "r" / "metrics.jsonl")
    examples = load_examples(load_demonstrations(data), bench.tokenizer, max_tokens=2048)
    assert sum(row["tokens"] for row in rows) == 2 * sum(len(example.ids) for example in examples)
    assert len(rows) == steps


def test_held_out_loss_is_logged_after_every_pass(bench: Any, tmp_path: Path) -> None:
    result = sft.main(bench.sft(tmp_path / "r", eval_data=(bench.demonstrations,), train={"epochs": 3, "batch_size": 4}))
    rows = tiny.read_rows(tmp_path / "r" / "metrics.jsonl")
    assert [row["step"] for row in rows if "eval_loss" in row] == [2, 4, 6]
    assert result["eval_loss"] == rows[-1]["eval_loss"] < rows[1]["eval_loss"]


def test_a_finished_run_is_not_trained_again(bench: Any, tmp_path: Path) -> None:
    config = bench.sft(tmp_path / "r", train={"epochs": 1})
    first = sft.main(config)
    assert sft.main(config) == first
    with pytest.raises(ConfigError, match="other settings .*seed"):
        sft.main(bench.sft(tmp_path / "r", train={"epochs": 1}, seed=5))


def test_dropout_is_on_in_training_only(bench: Any, tmp_path: Path) -> None:
    losses = {}
    for p in (0.0, 0.5):
        train = {"steps": 1, "dropout": p}
        sft.main(bench.sft(tmp_path / str(p), train=train, optim={"lr": 1e-9}, eval_data=(bench.demonstrations,)))
        losses[p] = tiny.read_rows(tmp_path / str(p) / "metrics.jsonl")[0]
    assert losses[0.0]["loss"] == pytest.approx(losses[0.0]["eval_loss"], rel=1e-5)
    assert losses[0.5]["loss"] != pytest.approx(losses[0.5]["eval_loss"], rel=1e-4)
    assert losses[0.5]["eval_loss"] == pytest.approx(losses[0.0]["eval_loss"], rel=1e-6)


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 27), (3, 9), (9, 3), (27, 1)])
def test_pretraining_text_is_mixed_in_at_its_share(bench: Any, tmp_path: Path, batch_size: int, steps: int) -> None:
    """27 demonstrations and 3 sequences of text are 10 % text, whatever the batch size."""
    mix = MixConfig(data=(bench.corpus,), share=0.1, block_tokens=16)
    sft.main(bench.sft(tmp_path / "mix", train={"steps": steps, "batch_size": batch_size}, mix=mix))
    sft.main(bench.sft(tmp_path / "plain", train={"steps": steps, "batch_size": batch_size}))
    mixed, plain = (tiny.read_rows(tmp_path / name / "metrics.jsonl") for name in ("mix", "plain"))
    assert sum(row["tokens"] for row in mixed) - sum(row["tokens"] for row in plain) == 3 * 16
    assert len([row for row in mixed if "mix_loss" in row]) == min(3, steps)
    assert tiny.tensor_hashes(tmp_path / "mix" / "final") != tiny.tensor_hashes(tmp_path / "plain" / "final")


def test_a_mixed_sequence_weighs_as_much_as_a_demonstration_however_long_it_is(bench: Any) -> None:
    model, tokenizer = load_model(bench.model)
    optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=0.0))
    examples = load_examples(load_demonstrations(bench.demonstrations), tokenizer, max_tokens=512)[:3]
    taught = micro_batches(examples, 512, tokenizer.pad_id)
    cpu, sizes = torch.device("cpu"), {"block_tokens": 100, "held_out": 0, "micro_tokens": 512, "context": 128}
    text = open_ptx((bench.corpus,), tokenizer, seed=0, device=cpu, **sizes)

    def gradient(*kinds: tuple[list[Any], float]) -> torch.Tensor:
        parts = [weight * batch_nll(model, b)[0] / sum(x.num_targets for x in some) for some, weight in kinds for b in some]
        found = torch.autograd.grad(sum(parts), list(model.parameters()))
        return torch.cat([g.flatten() for g in found])

    mixed = text.take(0, 1)
    losses = sft._backward(model, optimizer, taught, mixed, "step 1")
    got = torch.cat([g.flatten() for g in optimizer.take_gradients().values()])
    torch.testing.assert_close(got, gradient((taught, 3 / 4), (mixed, 1 / 4)), rtol=1e-4, atol=1e-6)
    assert losses == {"loss": pytest.approx(mean_nll(model, taught)), "mix_loss": pytest.approx(mean_nll(model, mixed))}


@pytest.mark.parametrize("share", [1.0, -0.1, 2.0, float("nan")])
def test_a_share_that_leaves_no_room_for_demonstrations_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"--mix.share .* below 1"):
        MixConfig(data=("x.txt",), share=share)


def test_the_pass_that_a_reward_likes_best_is_kept(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Selected by reward on validation prompts, not by loss: here the reward likes the second of four passes."""
    (tmp_path / "likes_second.py").write_text(
        "scores = iter([0.0, 1.0, 0.5, 1.0])\ndef score(items):\n    value = next(scores)\n    return [value] * len(items)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    select = SelectConfig(reward=("python:likes_second:score",), prompts=(bench.prompts,), max_new_tokens=4)
    constant = {"schedule": sft.ScheduleConfig(kind="constant")}
    result = sft.main(bench.sft(tmp_path / "r", train={"epochs": 4, "batch_size": 4}, select=select, **constant))
    assert result["selected"] == {"score": 1.0, "step": 4}
    sft.main(bench.sft(tmp_path / "two", train={"epochs": 2, "batch_size": 4}, **constant))
    assert tiny.tensor_hashes(tmp_path / "r" / "final") == tiny.tensor_hashes(tmp_path / "two" / "final")
    assert not (tmp_path / "r" / "checkpoints").exists()
    logged = [row["select_reward"] for row in tiny.read_rows(tmp_path / "r" / "metrics.jsonl") if "select_reward" in row]
    assert logged == [0.0, 1.0, 0.5, 1.0]


def test_a_reward_without_prompts_to_select_by_is_refused() -> None:
    with pytest.raises(ConfigError, match="work together"):
        SelectConfig(reward=("x",))


@pytest.mark.parametrize("system", [None, "", "You are a museum guide."])
def test_the_system_message_that_is_taught_is_exported_with_the_model(
    bench: Any, make_tokenizer: Any, tmp_path: Path, system: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.save_tiny_model(tmp_path / "model", make_tokenizer(), max_positions=256)  # SmolLM2's own default system
    seen: list[list[int]] = []
    monkeypatch.setattr(sft, "batch_nll", lambda m, b: (seen.extend(b.tokens_BT.tolist()), batch_nll(m, b))[1])
    result = sft.main(bench.sft(tmp_path / "r", model=str(model), train={"steps": 1}, system=system))
    _, tokenizer = load_model(result["path"])
    expected = "You are a helpful AI assistant named SmolLM, trained by Hugging Face" if system is None else system
    assert tokenizer.template.default_system == expected
    start = f"<|im_start|>system\n{expected}<|im_end|>" if expected else "<|im_start|>user"
    assert all(tokenizer.decode(ids, skip_special=False).startswith(start) for ids in seen)


def test_lora_trains_an_adapter_and_exports_both(bench: Any, sft_run: str, tmp_path: Path) -> None:
    rows = [{**row, "completion": f"museum {row['completion']}"} for row in tiny.demonstration_rows()]
    data = str(tiny.write_rows(tmp_path / "other.jsonl", rows))
    lora = LoraConfig(rank=8, alpha=16.0)
    result = sft.main(bench.sft(tmp_path / "r", model=sft_run, data=(data,), lora=lora, optim={"lr": 1e-2}))
    logged = tiny.read_rows(tmp_path / "r" / "metrics.jsonl")
    assert logged[-1]["loss"] < 0.6 * logged[0]["loss"]
    final = Path(result["path"])
    assert (final / "adapter" / "adapter_model.safetensors").is_file()
    trained, base, adapted = (load_model(path, "float32", "cpu")[0] for path in (final, sft_run, final / "adapter"))
    assert torch.equal(trained.embed.weight, base.embed.weight)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.allclose(trained(ids), adapted(ids), atol=1e-4)
        assert not torch.allclose(trained(ids), base(ids), atol=1e-2)


def test_nothing_to_train_on_is_an_error(bench: Any, tmp_path: Path, opened: Any) -> None:
    with pytest.raises(ConfigError, match="no demonstration is left"):
        sft.main(bench.sft(tmp_path / "r", train={"max_tokens": 4}))
    with pytest.raises(DataError, match="absent.jsonl"):
        sft.main(bench.sft(tmp_path / "s", data=(str(tmp_path / "absent.jsonl"),)))
    opened.close()
    result = sft.main(bench.sft(tmp_path / "s", train={"steps": 1}))  # the flag is mended: the same folder is fine
    assert result["examples"] == 8


def test_a_model_with_a_nan_weight_stops_before_anything_is_written(bench: Any, tmp_path: Path) -> None:
    model, tokenizer = load_model(bench.model, "float32", "cpu")
    with torch.no_grad():
        model.final_norm.weight[0] = float("nan")
    (tmp_path / "nan").mkdir()
    save_folder(model, tmp_path / "nan", tokenizer)
    with pytest.raises(TrainingStopped, match="sft step 1: the loss is nan; no weight was changed"):
        sft.main(bench.sft(tmp_path / "r", model=str(tmp_path / "nan"), train={"save_every_steps": 1}))
    assert not (tmp_path / "r" / "final").exists() and not (tmp_path / "r" / "checkpoints").exists()


@pytest.mark.parametrize("resume_at_the_end", [False, True])
def test_interrupted_after_the_last_step_the_result_is_complete(
    bench: Any, tmp_path: Path, opened: Any, resume_at_the_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose last step was saved has nothing left to do; its result still says what the loss was."""
    import os
    import signal

    config = bench.sft(tmp_path / "r", train={"steps": 3})
    if resume_at_the_end:
        calls = 0

        def spy(model: Any, batch: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return batch_nll(model, batch)

        monkeypatch.setattr(sft, "batch_nll", spy)
        with pytest.raises(KeyboardInterrupt):
            sft.main(config)
        opened.close()
        assert [p.name for p in (tmp_path / "r" / "checkpoints").iterdir()] == ["step-000003"]
    result = sft.main(config)
    assert result["loss"] == tiny.read_rows(tmp_path / "r" / "metrics.jsonl")[-1]["loss"]
    assert "NaN" not in (tmp_path / "r" / "result.json").read_text()


def test_the_default_system_message_is_none_also_where_a_template_has_no_place_for_one(
    bench: Any, make_tokenizer: Any
) -> None:
    with_place = make_tokenizer()
    assert sft._with_system(with_place, "").template.default_system == ""
    assert sft._with_system(with_place, None) is with_place

    class NoPlace:
        def with_default_system(self, text: str) -> Any:
            raise TemplateError("no place")

    bare: Any = NoPlace()
    assert sft._with_system(bare, "") is bare
    with pytest.raises(TemplateError):
        sft._with_system(bare, "You are a guide.")
