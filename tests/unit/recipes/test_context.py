"""Text that is longer than the model's context: cut or left out and counted, or refused before the first step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_training as tiny
from chatwright.errors import ConfigError, DataError
from chatwright.recipes import bestofn, dpo, embed, evaluate, ppo, replay, reward, sample, sft
from chatwright.recipes.reward import RewardEvalConfig, ScoreConfig

CPU: dict[str, Any] = {"device": "cpu", "precision": "fp32"}
CONTEXT = 48
LONG = "bees honey winter flowers " * 40


@pytest.fixture(scope="module")
def short(bench: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with a context of 48 tokens, far below every default."""
    return str(tiny.save_tiny_model(tmp_path_factory.mktemp("short") / "model", bench.tokenizer, max_positions=CONTEXT))


@pytest.fixture(scope="module")
def short_reward(bench: Any, short: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("short_reward") / "r"
    reward.main(bench.reward(out, model=short, train={"epochs": 1}))
    return str(out)


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str, list[dict[str, Any]]], str]:
    return lambda name, rows: str(tiny.write_rows(tmp_path / f"{name}.jsonl", rows))


def test_sft_cuts_at_the_context_and_says_so(
    bench: Any, short: str, files: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [*tiny.demonstration_rows(3), {"prompt": "Why?", "completion": LONG}, {"prompt": LONG, "completion": "x"}]
    result = sft.main(
        bench.sft(tmp_path / "r", model=short, data=(files("d", rows),), eval_data=(files("e", rows),),
                  train={"epochs": 1}, mix=sft.MixConfig(data=(bench.corpus,), share=0.5))
    )  # fmt: skip
    said = capfd.readouterr().err
    assert result["examples"] == 4 and f"1 cut at {CONTEXT} tokens, 1 left out" in said
    assert f"blocks of {CONTEXT} tokens, the model's context, not 512" in said


def test_reward_and_dpo_cut_at_the_context(
    bench: Any, short: str, files: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = tiny.ranking_rows(24)
    rows[0]["completions"][1] = LONG
    rows[1]["prompt"] = LONG
    held = tiny.ranking_rows(12, seed=5)
    held[0]["completions"][0], held[1]["prompt"] = LONG, LONG
    long = [{"prompt": "Why?", "completion": LONG}, {"prompt": LONG, "completion": "x"}]
    demonstrations = [*tiny.demonstration_rows(3), *long]
    result = reward.main(
        bench.reward(tmp_path / "r", model=short, data=(files("t", rows),), train={"epochs": 1},
                     demonstrations=(files("d", demonstrations),), eval=RewardEvalConfig(data=(files("h", held),)))
    )  # fmt: skip
    said = capfd.readouterr().err
    assert result["rankings"] == 23 and "4 of 5 demonstrations used" in said
    assert "answers cut: 1" in said and "left out, prompt too long: 1" in said and f"limit {CONTEXT} tokens" in said
    settings: dict[str, Any] = {"model": short, "data": (files("t2", rows),), **CPU}
    train = dpo.DPOTrainConfig(held_out_share=0.3)
    assert dpo.main(dpo.DPOConfig(out=str(tmp_path / "d"), train=train, **settings))["held_out_accuracy"] is not None


def test_ppo_leaves_prompts_out_that_leave_no_room_for_an_answer(
    bench: Any, short: str, short_reward: str, files: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The room is that of the shortest context among policy, critic, reference and reward models."""
    rows = [*tiny.prompt_rows(4), {"prompt": "bees " * (CONTEXT - 12)}]
    settings: dict[str, Any] = {"data": (files("p", rows),), "reward": (short_reward,), "ignore_gate": True,
                                "ptx": {"data": (bench.corpus,), "block_tokens": 500}, "train": {"steps": 1}}  # fmt: skip
    for number, model in enumerate((short, bench.model)):
        result = ppo.main(bench.ppo(tmp_path / f"p{number}", model=model, **{**settings, "train": {"steps": 1}, "ptx": {
            "data": (bench.corpus,), "block_tokens": 500 if model == short else 24}}))  # fmt: skip
        said = capfd.readouterr().err
        assert result["steps"] == 1 and f"4 of 5 prompts used; the others are over {CONTEXT - 10} tokens" in said
    with pytest.raises(ConfigError, match="leaves no room for a prompt in the policy's context of 48 tokens"):
        ppo.main(bench.ppo(tmp_path / "q", model=short, **{**settings, "train": {"steps": 1}, "ptx": {},
                                                           "rollout": {"max_new_tokens": 60}}))  # fmt: skip
    with pytest.raises(ConfigError, match="no prompt is left to answer"):
        only = files("long", [{"prompt": LONG}])
        ppo.main(bench.ppo(tmp_path / "s", model=short, **{**settings, "train": {"steps": 1}, "ptx": {}, "data": (only,)}))
    assert not (tmp_path / "q" / "checkpoints").exists()


def test_a_reward_model_with_another_tokenizer_and_a_shorter_context(
    bench: Any, sft_run: str, reward_run: str, make_tokenizer: Any, files: Any, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Its tokens are smaller, so prompts and answers are longer for it: prompts are left out before the first step, answers
    that are longer than expected are cut."""
    other = make_tokenizer(merges=5, chat_template=tiny.SHORT_JINJA)
    folder = tiny.save_tiny_model(tmp_path / "other", other, max_positions=80)
    reward.main(bench.reward(tmp_path / "rm", model=str(folder), train={"epochs": 1}))
    rows = [*tiny.prompt_rows(4), {"prompt": "flowers museum gravity " * 3}]
    capfd.readouterr()
    result = ppo.main(
        bench.ppo(tmp_path / "p", model=sft_run, reward=(str(tmp_path / "rm"),), critic=reward_run, ignore_gate=True,
                  data=(files("p", rows),), train={"steps": 2}, rollout={"max_new_tokens": 20})
    )  # fmt: skip
    said = capfd.readouterr().err
    assert result["steps"] == 2 and "4 of 5 prompts used; with an answer of 20 tokens" in said
    assert "answers cut at its context of 80 tokens" in said


def test_sampling_refuses_before_anything_is_written(
    bench: Any, short: str, short_reward: str, files: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fits = tiny.prompt_rows(3)
    data = files("p", [*fits, {"prompt": LONG}])
    words = r"1 of 4 prompts leave no room for an answer in the model's context of 48 tokens \(the first is prompt 4"
    with pytest.raises(DataError, match=words):
        sample.main(sample.SampleConfig(model=short, data=(data,), out=str(tmp_path / "s.jsonl"), **CPU))
    with pytest.raises(DataError, match=words):
        bestofn.main(bestofn.BestOfNConfig(model=short, reward=(short_reward,), data=(data,), n=2,
                                           out=str(tmp_path / "b.jsonl"), **CPU))  # fmt: skip
    with pytest.raises(DataError, match=words):
        evaluate.main(evaluate.EvaluateConfig(models=(f"a={short}",), data=(data,), judge="general-en",
                                              out=str(tmp_path / "e"), **CPU))  # fmt: skip
    with pytest.raises(DataError, match="prompts fill the context of 48 tokens of the reward model"):
        data_60 = files("m", [*fits, {"prompt": "bees " * 60}])
        evaluate.main(evaluate.EvaluateConfig(models=(f"a={bench.model}",), judge=short_reward, data=(data_60,),
                                              out=str(tmp_path / "f"), **CPU))  # fmt: skip
    select = sft.SelectConfig(reward=(short_reward,), prompts=(data,))
    with pytest.raises(DataError, match=words):
        sft.main(bench.sft(tmp_path / "r", model=short, select=select, train={"epochs": 1}))
    assert not (tmp_path / "s.jsonl").exists() and not (tmp_path / "b.jsonl").exists()
    sample.main(sample.SampleConfig(model=short, data=(files("ok", fits),), out=str(tmp_path / "s.jsonl"), n=1, **CPU))
    assert "3 of 3 prompts have room for fewer than 128 tokens of an answer" in capfd.readouterr().err


def test_score_names_the_line_of_a_prompt_that_fills_the_context(
    short_reward: str, files: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": "Why?", "completions": ["honey.", LONG]}, {"prompt": LONG, "completions": ["a", "b"]}]
    with pytest.raises(DataError, match=r"rows.jsonl:2: messages: .*leaves no room"):
        reward.score(ScoreConfig(reward=short_reward, data=files("rows", rows), out=str(tmp_path / "o.jsonl"), **CPU))
    reward.score(ScoreConfig(reward=short_reward, data=files("rows", rows[:1]), out=str(tmp_path / "o.jsonl"), **CPU))
    assert len(tiny.read_rows(tmp_path / "o.jsonl")[0]["scores"]) == 2
    assert "1 of 2 answers cut at its context of 48 tokens" in capfd.readouterr().err


def test_kl_to_a_reference_with_a_shorter_context_is_refused(
    bench: Any, short: str, files: Any, tmp_path: Path
) -> None:
    data = files("p", [{"prompt": "bees " * 20}])
    cfg = evaluate.EvaluateConfig(models=(f"short={short}", f"long={bench.model}"), reference="short", data=(data,),
                                  judge="general-en", out=str(tmp_path / "e"), samples=1, **CPU)  # fmt: skip
    with pytest.raises(DataError, match="more than the reference's context of 48"):
        evaluate.main(cfg)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_embeddings_cut_at_the_context(short: str, files: Any, tmp_path: Path, pooling: Any) -> None:
    rows = [{"query": f"{word} {LONG}", "passage": f"of {word} {n} {LONG}"} for n, word in enumerate(tiny.WORDS)]
    result = embed.main(
        embed.EmbedConfig(model=short, data=(files("pairs", rows),), out=str(tmp_path / "e"), dimensions=(16,),
                          pooling=pooling, train=embed.EmbedTrainConfig(steps=2, batch_size=4, max_tokens=999), **CPU)
    )  # fmt: skip
    assert result["steps"] == 2 and result["held_out"] > 0


def test_replay_of_a_short_model(short: str, tmp_path: Path) -> None:
    result = replay.main(
        replay.ReplayConfig(model=short, out=str(tmp_path / "r.jsonl"), num_texts=4, max_new_tokens=500, **CPU)
    )
    assert result["texts"] > 0 and all(len(row["ids"]) < CONTEXT for row in tiny.read_rows(tmp_path / "r.jsonl"))
