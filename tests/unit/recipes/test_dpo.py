"""DPO on rankings: equal to its formula, tied answers included, the reference never moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import tiny_training as tiny
from chatwright.data.rankings import load_examples, micro_batches
from chatwright.engine.optim import OptimConfig
from chatwright.generation.lm import load_model
from chatwright.model.lora import LoraConfig
from chatwright.objectives.ranking import initial_tie_parameter
from chatwright.recipes import dpo
from chatwright.records import load_rankings


def config(bench: Any, out: Path, **changes: Any) -> dpo.DPOConfig:
    train = dpo.DPOTrainConfig(**{"epochs": 2, **changes.pop("train", {})})
    settings = {"data": (bench.rankings,), "out": str(out), "device": "cpu", "precision": "fp32", **changes}
    return dpo.DPOConfig(**{"train": train, "optim": OptimConfig(lr=3e-3), **settings})


def slow_logprob(model: Any, prompt: tuple[int, ...], answer: tuple[int, ...]) -> torch.Tensor:
    """Sum of log p(token | everything before it), one answer at a time."""
    logits_TV = model.logits(model(torch.tensor([[*prompt, *answer]])))[0]
    logprobs_TV = F.log_softmax(logits_TV, dim=-1)
    return sum(logprobs_TV[len(prompt) - 1 + t, token] for t, token in enumerate(answer))  # type: ignore[return-value]


@pytest.mark.parametrize("layout", ["tree", "plain"])
@torch.no_grad()
def test_answer_logprobs_are_those_of_each_answer_alone(bench: Any, sft_run: str, layout: Any) -> None:
    model, tokenizer = load_model(sft_run, "float32", "cpu")
    examples = load_examples(load_rankings((bench.rankings,))[:5], tokenizer, max_tokens=96)
    for batch in micro_batches(examples, 300, tokenizer.pad_id, layout=layout):
        expected = [slow_logprob(model, examples[row].prompt_ids, a) for row in batch.rows for a in examples[row].answers]
        torch.testing.assert_close(dpo.answer_logprobs(model, batch), torch.stack(expected), rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_two_answers_without_ties_are_the_plain_dpo_formula(bench: Any, sft_run: str, tmp_path: Path) -> None:
    """-log sigmoid(beta [(log pi(w) - log ref(w)) - (log pi(l) - log ref(l))]), arXiv 2305.18290 eq. 7."""
    policy, tokenizer = load_model(sft_run, "float32", "cpu")
    reference = load_model(bench.model, "float32", "cpu")[0]
    data = tiny.write_rows(tmp_path / "pairs.jsonl", tiny.ranking_rows(6, k=2))
    examples = load_examples(load_rankings((str(data),)), tokenizer, max_tokens=96)
    for ties in ("drop", "davidson"):
        cfg = dpo.DPOTrainConfig(beta=0.3, ties=ties)  # type: ignore[arg-type]
        tie = torch.tensor(-200.0)  # Davidson without ties is Bradley-Terry
        total = count = 0.0
        for batch in micro_batches(examples, 300, tokenizer.pad_id):
            loss, number = dpo.loss_of(policy, dpo.answer_logprobs(reference, batch), batch, cfg, tie)
            total, count = total + loss.item(), count + number.item()
        expected = 0.0
        for example in examples:
            ((i, j, relation),) = example.relations
            gain = [
                slow_logprob(policy, example.prompt_ids, a) - slow_logprob(reference, example.prompt_ids, a)
                for a in example.answers
            ]
            expected -= F.logsigmoid(0.3 * relation * (gain[i] - gain[j])).item()
        assert count == 6 and total == pytest.approx(expected, rel=1e-4)


def test_it_learns_the_preference_and_starts_from_the_reference(bench: Any, sft_run: str, tmp_path: Path) -> None:
    result = dpo.main(config(bench, tmp_path / "r", model=sft_run, train={"held_out_share": 0.2}))
    rows = tiny.read_rows(tmp_path / "r" / "metrics.jsonl")
    # At the start all implicit rewards are 0, so a strict pair costs -log P(win | d = 0), a tie -log P(tie | d = 0).
    share = 1 / 3
    nu = initial_tie_parameter("davidson", share)
    log_total = torch.logsumexp(torch.tensor([0.0, nu, 0.0]), 0).item()
    assert rows[0]["loss"] == pytest.approx(log_total - share * nu, rel=0.05)
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.2
    assert result["held_out_accuracy"] > 0.8 and result["simulated_share"] == 1.0
    assert result["loss"] == rows[-1]["loss"]


def test_without_held_out_rankings_there_is_no_accuracy(bench: Any, sft_run: str, tmp_path: Path) -> None:
    train = {"held_out_share": 0.0, "steps": 1, "ties": "drop"}
    result = dpo.main(config(bench, tmp_path / "r", model=sft_run, train=train))
    assert result["held_out_accuracy"] is None and result["rankings"] == 100
    assert result["loss"] == pytest.approx(2 / 3 * 0.6931, rel=1e-3)


def test_with_lora_the_reference_is_the_model_without_its_adapter(bench: Any, sft_run: str, tmp_path: Path) -> None:
    lora = LoraConfig(rank=4, alpha=8.0)
    result = dpo.main(config(bench, tmp_path / "r", model=sft_run, lora=lora, train={"epochs": 4}))
    plain = dpo.main(config(bench, tmp_path / "s", model=sft_run, train={"steps": 1}))
    rows = tiny.read_rows(tmp_path / "r" / "metrics.jsonl")
    assert rows[0]["loss"] == pytest.approx(plain["loss"], rel=1e-5) and rows[-1]["loss"] < rows[0]["loss"] - 0.1
    merged, base = (load_model(path, "float32", "cpu")[0] for path in (result["path"], sft_run))
    assert torch.equal(merged.embed.weight, base.embed.weight)
    assert (Path(result["path"]) / "adapter" / "adapter_config.json").is_file()
