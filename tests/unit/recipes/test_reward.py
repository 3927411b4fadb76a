"""The reward model: it learns, its two layouts agree, its head is never lost, its report card gates PPO."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_training as tiny
from chatwright.data.ranking_splits import ReservedConfig
from chatwright.data.rankings import load_examples, micro_batches
from chatwright.engine.checkpoint import verify_folder, write_manifest
from chatwright.errors import CheckpointError, ConfigError, DataError, GateError, ModelError
from chatwright.evals.rewards import check_gate, open_learned
from chatwright.generation.lm import load_model
from chatwright.model.formats.reward import HEAD_FILE, load_scalar_model
from chatwright.model.heads import ScalarModel
from chatwright.model.lora import LoraConfig
from chatwright.model.transformer import Transformer
from chatwright.recipes import reward
from chatwright.recipes.reward import RewardEvalConfig, ScoreConfig
from chatwright.records import Ranking, load_demonstrations, load_rankings

CPU: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


@pytest.mark.parametrize("ties", ["drop", "soft", "rao_kupper", "davidson"])
def test_every_tie_mode_learns_the_preference_and_writes_its_report_card(bench: Any, tmp_path: Path, ties: str) -> None:
    result = reward.main(bench.reward(tmp_path / "r", train={"ties": ties}))
    rows = tiny.read_rows(tmp_path / "r" / "metrics.jsonl")
    assert rows[-1]["loss"] < rows[0]["loss"]
    card = json.loads((tmp_path / "r" / "report_card.json").read_text())
    assert result["accuracy"] == card["accuracy"]["value"] > 0.8 and result["gate"] is None
    assert card["accuracy"]["low"] > card["length_baseline"]
    assert card["tie_mode"] == ties and card["tie_share"] == pytest.approx(1 / 3, abs=0.01)
    assert {"ece", "tie_nll", "kendall_tau_b", "length_slope", "by_rank_distance", "held_out_labellers"} <= set(card)
    moved = len({row["tie_parameter"] for row in rows}) > 1
    assert moved == (ties in ("rao_kupper", "davidson"))
    assert "accuracy" in (tmp_path / "r" / "report_card.txt").read_text()
    verify_folder(tmp_path / "r")


def test_the_trunk_is_trained_and_not_only_the_head(bench: Any, tmp_path: Path) -> None:
    """minimind downloads a reward model instead of training one."""
    result = reward.main(bench.reward(tmp_path / "r", train={"steps": 4}))
    trained, base = load_model(result["path"])[0], load_model(bench.model)[0]
    for (name, after), (_, before) in zip(trained.named_parameters(), base.named_parameters(), strict=True):
        assert not torch.equal(after, before), name


def test_frozen_blocks_are_computed_once_per_ranking_with_equal_results(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    bottom = Transformer.bottom

    def counted(self: Transformer, tokens: torch.Tensor, **masks: Any) -> torch.Tensor:
        calls.append(tokens.shape)
        return bottom(self, tokens, **masks)

    monkeypatch.setattr(Transformer, "bottom", counted)
    train = {"frozen_layers": 1, "epochs": 3}
    kept = reward.main(bench.reward(tmp_path / "kept", train=train))
    assert len(calls) == kept["rankings"] and {shape[0] for shape in calls} == {1}
    calls.clear()
    monkeypatch.setattr(reward, "_KEEP_BYTES", 0)  # nothing fits: the same bits, computed in every pass
    again = reward.main(bench.reward(tmp_path / "again", train=train))
    assert len(calls) == 3 * kept["rankings"]
    for name, value in load_model(again["path"])[0].named_parameters():
        assert torch.equal(value, dict(load_model(kept["path"])[0].named_parameters())[name])
    monkeypatch.setattr(reward, "_with_bottom", lambda batch, *_: batch)
    whole = reward.main(bench.reward(tmp_path / "whole", train=train))
    base = load_model(bench.model)[0]
    ours, theirs = (dict(load_model(run["path"])[0].named_parameters()) for run in (kept, whole))
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-2, atol=1e-3)
    assert torch.equal(ours["embed.weight"], base.embed.weight)


def test_tree_and_plain_layouts_give_the_same_scores_and_gradients(bench: Any) -> None:
    """All answers of a prompt in one row behind the shared prompt, or each in a row of its own."""
    model = ScalarModel(load_model(bench.model, "float32", "cpu")[0])
    model.head.init_normal(torch.Generator().manual_seed(1))
    examples = load_examples(load_rankings((bench.rankings,))[:7], bench.tokenizer, max_tokens=96)
    scores, gradients = {}, {}
    for layout in ("tree", "plain"):
        model.zero_grad()
        found = [0.0] * 7
        for batch in micro_batches(examples, 200, bench.tokenizer.pad_id, layout=layout):  # type: ignore[arg-type]
            loss, _ = reward.loss_of(model, batch, reward.RewardTrainConfig())
            loss.backward()
            flat = reward.score_batch(model, batch).tolist()
            for row, k in zip(batch.rows, batch.num_answers, strict=True):
                found[row], flat = flat[:k], flat[k:]
        scores[layout] = found
        gradients[layout] = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    for tree, plain in zip(scores["tree"], scores["plain"], strict=True):
        assert tree == pytest.approx(plain, abs=1e-5)
    for name, gradient in gradients["tree"].items():
        torch.testing.assert_close(gradient, gradients["plain"][name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("frozen_layers", [0, 1])
def test_a_run_in_the_plain_layout_ends_with_the_same_scores(bench: Any, tmp_path: Path, frozen_layers: int) -> None:
    """What a GPU takes whose memory has no room for the tree's mask; one row per answer reaches the trunk."""
    found = {}
    for layout in ("tree", "plain"):
        train = {"steps": 4, "layout": layout, "frozen_layers": frozen_layers}
        reward.main(bench.reward(tmp_path / layout, train=train))
        rows = tiny.read_rows(tmp_path / layout / "metrics.jsonl")
        found[layout] = [row["loss"] for row in rows]
    assert found["tree"] == pytest.approx(found["plain"], rel=1e-4)


def test_k_answers_cost_one_pass_over_the_prompt(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """K forward passes, not C(K, 2), and the prompt once: a row per prompt reaches the trunk."""
    rows = 0
    real = reward.score_batch

    def spy(model: Any, batch: Any) -> Any:
        nonlocal rows
        rows += len(batch.tokens_BT)
        assert len(batch.tokens_BT) == batch.num_prompts
        return real(model, batch)

    monkeypatch.setattr(reward, "score_batch", spy)
    reward.main(bench.reward(tmp_path / "r", train={"steps": 2, "batch_size": 5}, eval=RewardEvalConfig(share=0.0)))
    assert rows == 10


def test_demonstrations_average_zero_after_training(bench: Any, reward_run: str) -> None:
    learned = open_learned(reward_run, **CPU)
    demonstrations = load_demonstrations((bench.demonstrations,))
    scores = learned.score_texts([(d.prompt, d.answer, True) for d in demonstrations])
    assert float(scores.mean()) == pytest.approx(0.0, abs=1e-5) and float(scores.std()) > 0.01


def test_a_score_is_read_at_the_last_token_of_the_answer_whatever_is_padded_behind_it(bench: Any, reward_run: str) -> None:
    """Off by one when pad is eos (alpaca_farm): SmolLM2's own pad token is its end of turn, so another one is taken."""
    assert bench.tokenizer.pad_id not in bench.tokenizer.stop_ids
    learned = open_learned(reward_run, **CPU)
    rows = [(d.prompt, d.answer, i % 2 == 0) for i, d in enumerate(load_demonstrations((bench.demonstrations,)))]
    together = learned.score_texts(rows)
    learned.micro_tokens = 1
    alone = torch.stack([learned.score_texts([row])[0] for row in rows])
    assert torch.allclose(together, alone, atol=1e-5) and torch.allclose(learned.score_texts(rows), alone, atol=1e-5)
    ended, cut = (learned.score_texts([(rows[0][0], rows[0][1], e)])[0] for e in (True, False))
    assert not torch.isclose(ended, cut, atol=1e-4)


def others(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with prompts that are not in training."""
    return [{**row, "prompt": f"Now {row['prompt']}"} for row in rows]


def test_shuffled_pairs_lora_and_a_file_of_held_out_rankings(bench: Any, tmp_path: Path) -> None:
    held = tiny.write_rows(tmp_path / "held.jsonl", others(tiny.ranking_rows(30, seed=9)))
    result = reward.main(
        bench.reward(
            tmp_path / "r", train={"shuffled_pairs": True, "epochs": 2}, eval=RewardEvalConfig(data=(str(held),)),
            lora=LoraConfig(rank=4, alpha=16.0), optim={"lr": 1e-2},
        )
    )  # fmt: skip
    card = json.loads((tmp_path / "r" / "report_card.json").read_text())
    assert result["rankings"] == 100 and card["rankings"] == 30 and result["accuracy"] > 0.8
    assert not list((tmp_path / "r" / "final").glob("adapter*"))  # merged into the trunk


def test_all_tied_prompts_are_harmless_when_ties_are_dropped(bench: Any, tmp_path: Path) -> None:
    rows = tiny.ranking_rows(8)
    for row in rows[:6]:
        row["ranking"] = "A=B=C"
    data = tiny.write_rows(tmp_path / "ties.jsonl", rows)
    for norm in ("k2", "retained"):
        result = reward.main(
            bench.reward(
                tmp_path / norm, data=(str(data),), eval=RewardEvalConfig(share=0.0),
                train={"ties": "drop", "pair_norm": norm, "batch_size": 2, "epochs": 2},
            )
        )  # fmt: skip
        losses = [row["loss"] for row in tiny.read_rows(tmp_path / norm / "metrics.jsonl")]
        assert 0.0 in losses and all(loss >= 0 for loss in losses) and result["rankings"] == 8


def test_held_out_rankings_that_are_all_ties_are_refused_before_training(bench: Any, tmp_path: Path) -> None:
    rows = [{**row, "ranking": "A=B=C"} for row in others(tiny.ranking_rows(5, seed=4))]
    held = tiny.write_rows(tmp_path / "held.jsonl", rows)
    with pytest.raises(ConfigError, match="all ties"):
        reward.main(bench.reward(tmp_path / "r", eval=RewardEvalConfig(data=(str(held),))))
    assert not (tmp_path / "r" / "checkpoints").exists()


# ---- the gate --------------------------------------------------------------------------------------------------------


def test_a_reward_model_that_is_no_better_than_length_closes_the_gate(bench: Any, tmp_path: Path, sft_run: str) -> None:
    from chatwright.recipes import ppo

    random, rows = Random(1), tiny.ranking_rows(60, k=2)
    for row in rows:  # the longer answer wins, whatever it says; the model is hardly trained
        row["completions"] = [" ".join(random.choices(tiny.WORDS, k=n)) for n in (2, 7)]
        row["ranking"] = "B>A"
    data = tiny.write_rows(tmp_path / "long.jsonl", rows)
    config = bench.reward(tmp_path / "r", model=sft_run, data=(str(data),), train={"steps": 1}, optim={"lr": 1e-9})
    result = reward.main(config)
    assert "length" in result["gate"] and result["length_baseline"] == 1.0
    with pytest.raises(GateError, match="length.*--ignore-gate"):
        check_gate((f"0.5*{tmp_path / 'r'}",))
    with pytest.raises(GateError):
        ppo.main(bench.ppo(tmp_path / "p", model=sft_run, reward=(str(tmp_path / "r"),)))
    config = bench.ppo(tmp_path / "q", model=sft_run, reward=(str(tmp_path / "r"),), ignore_gate=True, train={"steps": 1})
    done = ppo.main(config)
    assert done["steps"] == 1


def test_without_a_report_card_the_gate_is_closed(bench: Any, tmp_path: Path) -> None:
    result = reward.main(bench.reward(tmp_path / "r", eval=RewardEvalConfig(share=0.0), train={"steps": 1}))
    assert "no report card" in result["gate"] and result["accuracy"] is None
    with pytest.raises(GateError, match="report_card.json: missing"):
        check_gate((str(tmp_path / "r"),))
    check_gate(("python:any:thing", "http://host/score"))


def test_held_out_rankings_whose_prompt_is_trained_on_do_not_count(
    bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The training file as held-out file used to open the gate, random labels and all."""
    random, rows = Random(0), tiny.ranking_rows(40, k=2)
    for row in rows:
        row["ranking"] = random.choice(["A>B", "B>A"])
    data = tiny.write_rows(tmp_path / "random.jsonl", rows)
    respelled = [{**row, "prompt": f" {row['prompt'].upper()}\n"} for row in rows]
    held = tiny.write_rows(tmp_path / "held.jsonl", respelled)
    config = {"data": (str(data),), "train": {"steps": 1}}
    result = reward.main(bench.reward(tmp_path / "a", eval=RewardEvalConfig(data=(str(held),)), **config))
    assert result["gate"] == "too few to tell: all 40 held-out rankings have a prompt that is in training"
    assert "40 held-out rankings left out, their prompts are in training" in capsys.readouterr().err
    with pytest.raises(GateError):
        check_gate((str(tmp_path / "a"),))
    some = tiny.write_rows(tmp_path / "some.jsonl", [*respelled, *others(rows)[:9]])
    result = reward.main(bench.reward(tmp_path / "b", eval=RewardEvalConfig(data=(str(some),)), **config))
    assert result["gate"].startswith("too few to tell: 9 held-out prompts") and result["held_out_in_training"] == 40
    with pytest.raises(GateError, match="too few to tell"):
        check_gate((str(tmp_path / "b"),))


def test_as_many_prompts_are_held_out_as_the_gate_needs(bench: Any, tmp_path: Path) -> None:
    for number, held_out in ((19, 4), (20, 10), (30, 10), (60, 12)):
        data = tiny.write_rows(tmp_path / f"{number}.jsonl", tiny.ranking_rows(number))
        parts = reward.split(bench.reward(tmp_path / "r", data=(str(data),), eval=RewardEvalConfig(share=0.2)))
        assert (len(parts.train), len(parts.held_out)) == (number - held_out, held_out), number


def test_the_reserved_part_is_never_seen_by_the_other_reward_model(bench: Any, tmp_path: Path) -> None:
    data = str(tiny.write_rows(tmp_path / "r.jsonl", tiny.ranking_rows(60)))
    parts = [
        reward.split(bench.reward(tmp_path / "r", data=(data,), reserved=ReservedConfig(share=0.34, learn=learn)))
        for learn in (False, True)
    ]
    seen = [{r.prompt_id for r in (*part.train, *part.held_out)} for part in parts]
    assert not seen[0] & seen[1] and list(map(len, seen)) == [40, 20]
    assert [len(part.held_out) for part in parts] == [10, 10]
    for wrong in ({"share": 1.0}, {"share": -0.1}, {"learn": True}):
        with pytest.raises(ConfigError, match="reserved.share"):
            ReservedConfig(**wrong)


def test_rankings_of_equal_answers_teach_nothing(bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Case T07."""
    rows = [{**row, "completions": ["same text", " same text"]} for row in tiny.ranking_rows(40, k=2)]
    data = tiny.write_rows(tmp_path / "dupes.jsonl", rows)
    with pytest.raises(ConfigError, match="no ranking is left"):
        reward.main(bench.reward(tmp_path / "r", data=(str(data),), eval=RewardEvalConfig(share=0.0)))
    assert "left out, equal answers: 40" in capsys.readouterr().err
    ties = tiny.write_rows(tmp_path / "ties.jsonl", [{**row, "ranking": "A=B=C"} for row in tiny.ranking_rows(6)])
    with pytest.raises(ConfigError, match="every pair of answers is tied"):
        reward.main(bench.reward(tmp_path / "t", data=(str(ties),), eval=RewardEvalConfig(share=0.0)))
    mixed = [{**row, "completions": [*row["completions"][:2], row["completions"][0]]} for row in tiny.ranking_rows(6)]
    example = load_examples([Ranking.from_dict(row) for row in mixed], bench.tokenizer, max_tokens=200)[0]
    assert [(i, j) for i, j, _ in example.relations] == [(0, 1), (1, 2)]


# ---- the head is never lost ------------------------------------------------------------------------------------------


def without_manifest(run: str, folder: Path) -> Path:
    """A copy of a reward model that no manifest protects, as it would come from elsewhere."""
    shutil.copytree(Path(run) / "final", folder)
    (folder / "MANIFEST.json").unlink()
    return folder


def edit_head(change: Callable[[dict[str, torch.Tensor]], None], folder: Path) -> None:
    head = load_file(folder / HEAD_FILE)
    change(head)
    save_file(head, folder / HEAD_FILE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda head: head.pop("weight"), "no fitting tensor 'weight'"),
        (lambda head: head.pop("bias"), "no fitting tensor 'bias'"),
        (lambda head: head.update(weight=torch.zeros(5)), "no fitting tensor 'weight'"),
        (lambda head: head.update(value=torch.zeros(5)), "unexpected tensors: value"),
    ],
)
def test_a_missing_or_foreign_head_is_an_error_that_names_the_file(
    reward_run: str, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    """Others made a fresh head in silence (trl#2095, OpenRLHF#643)."""
    folder = without_manifest(reward_run, tmp_path / "rm")
    edit_head(change, folder)
    with pytest.raises(ModelError, match=f"{HEAD_FILE}.*{message}"):
        open_learned(str(folder), **CPU)


def test_a_folder_without_a_head_is_no_reward_model(bench: Any, reward_run: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"{HEAD_FILE}: missing; this is not a reward model"):
        open_learned(bench.model, **CPU)
    folder = without_manifest(reward_run, tmp_path / "rm")
    (folder / HEAD_FILE).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="head cannot be read"):
        open_learned(str(folder), **CPU)


@pytest.mark.parametrize("name", [HEAD_FILE, "model.safetensors"])
@pytest.mark.parametrize("whole_run", [True, False])
def test_one_flipped_byte_in_head_or_trunk_is_refused(reward_run: str, tmp_path: Path, name: str, whole_run: bool) -> None:
    shutil.copytree(reward_run if whole_run else Path(reward_run) / "final", tmp_path / "rm")
    path = tmp_path / "rm" / ("final" if whole_run else "") / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=name):
        open_learned(str(tmp_path / "rm"), **CPU)


def test_head_bias_and_tie_parameter_survive_the_round_trip(reward_run: str, tmp_path: Path) -> None:
    model, meta = load_scalar_model(reward_run, **CPU)
    assert float(model.head.bias.detach()) != 0.0 and meta["ties"] == "davidson"
    result = json.loads((Path(reward_run) / "result.json").read_text())
    assert float(model.tie_parameter.detach()) == pytest.approx(result["tie_parameter"])
    assert result["simulated_share"] == 1.0


# ---- score -----------------------------------------------------------------------------------------------------------


def score(run: str, data: Path, out: Path) -> list[dict[str, Any]]:
    reward.score(ScoreConfig(reward=run, data=str(data), out=str(out), device="cpu", precision="fp32"))
    return tiny.read_rows(out)


def test_score_writes_every_row_back_with_its_scores(bench: Any, reward_run: str, tmp_path: Path) -> None:
    held = tiny.write_rows(tmp_path / "in.jsonl", tiny.ranking_rows(20, seed=5))
    rows = score(reward_run, held, tmp_path / "out.jsonl")
    right = pairs = 0
    for row, before in zip(rows, tiny.read_rows(held), strict=True):
        scores = row.pop("scores")
        assert row == before and len(scores) == 3
        for text, value in zip(row["completions"], scores, strict=True):
            for other, lower in zip(row["completions"], scores, strict=True):
                if "honey" in text and "honey" not in other:
                    pairs, right = pairs + 1, right + (value > lower)
    assert pairs > 20 and right / pairs > 0.8


def test_score_takes_single_completions_and_knows_which_were_cut(reward_run: str, tmp_path: Path) -> None:
    texts = {"prompt": "Tell me of bees.", "completions": ["honey.", "honey."], "finish_reason": ["stop", "length"]}
    single = {"messages": [{"role": "user", "content": "Tell me of bees."}], "completion": "honey."}
    data = tiny.write_rows(tmp_path / "in.jsonl", [texts, single, {**single, "finish_reason": "length"}])
    (ended, cut), (alone,), (alone_cut,) = (row["scores"] for row in score(reward_run, data, tmp_path / "out.jsonl"))
    assert ended == pytest.approx(alone, abs=1e-5) and cut == pytest.approx(alone_cut, abs=1e-5) and ended != cut


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"prompt": "x"}, "completions"),
        ({"prompt": "x", "completions": ["a", 3]}, "completions"),
        ({"prompt": "x", "completions": ["a", "b"], "finish_reason": ["stop"]}, "finish_reason"),
        ({"completions": ["a"]}, "prompt"),
    ],
)
def test_score_names_line_and_field_of_a_bad_row(reward_run: str, tmp_path: Path, row: dict[str, Any], field: str) -> None:
    data = tiny.write_rows(tmp_path / "in.jsonl", [{"prompt": "x", "completions": ["a"]}, row])
    with pytest.raises(DataError, match=f"in.jsonl:2: .*{field}"):
        score(reward_run, data, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_the_same_rankings_after_a_restart_of_a_half_written_folder(bench: Any, tmp_path: Path) -> None:
    """A manifest written for a folder speaks of exactly what is there."""
    result = reward.main(bench.reward(tmp_path / "r", train={"steps": 1}))
    write_manifest(tmp_path / "r")
    verify_folder(Path(result["path"]))
