"""sample, replay, bestofn and evaluate: what they write, how they go on after a kill, what they refuse."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

import tiny_training as tiny
from chatwright.data.lm import load_blocks
from chatwright.errors import ConfigError, DataError, RunChangedError
from chatwright.generation.lm import load_model
from chatwright.recipes import bestofn, evaluate, replay, sample

CPU: dict[str, Any] = {"device": "cpu", "precision": "fp32"}


# ---- sample ----------------------------------------------------------------------------------------------------------


def sample_config(bench: Any, model: str, out: Path, **changes: Any) -> sample.SampleConfig:
    settings = {"model": model, "data": (bench.prompts,), "out": str(out), "n": 3, "max_new_tokens": 8, **CPU}
    return sample.SampleConfig(**{**settings, **changes})


def test_sample_writes_k_different_answers_with_their_finish_reasons(bench: Any, sft_run: str, tmp_path: Path) -> None:
    result = sample.main(sample_config(bench, sft_run, tmp_path / "s.jsonl"))
    rows = tiny.read_rows(tmp_path / "s.jsonl")
    assert result == {"prompts": 8, "answers": 24, "out": str(tmp_path / "s.jsonl")} and len(rows) == 8
    assert {len(set(row["completions"])) for row in rows} & {2, 3}
    reasons = [reason for row in rows for reason in row["finish_reason"]]
    assert set(reasons) == {"stop", "length"} and len(reasons) == 24
    assert rows[0]["topic"] == "bees" and rows[0]["model"] == sft_run and rows[0]["temperature"] == 1.0


@pytest.mark.parametrize("cut", [0, 1, 25, 400])
def test_sample_goes_on_after_a_torn_last_line(
    bench: Any, sft_run: str, tmp_path: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "_CHUNK_PROMPTS", 3)
    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    sample.main(sample_config(bench, sft_run, whole))
    lines = whole.read_bytes().splitlines(keepends=True)
    torn.write_bytes(b"".join(lines[:4]) + lines[4][:cut])
    sample.main(sample_config(bench, sft_run, torn))
    assert torn.read_bytes() == whole.read_bytes()


def test_sample_of_a_complete_file_loads_no_model(
    bench: Any, sft_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = sample_config(bench, sft_run, tmp_path / "s.jsonl")
    sample.main(config)
    before = (tmp_path / "s.jsonl").read_bytes()
    monkeypatch.setattr(sample, "load_model", lambda *a, **k: pytest.fail("loaded a model"))
    assert sample.main(config)["answers"] == 24 and (tmp_path / "s.jsonl").read_bytes() == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"n": 2}, {"temperature": 0.5}, {"data": None}])
def test_sample_does_not_mix_answers_of_different_settings(
    bench: Any, sft_run: str, tmp_path: Path, change: dict[str, Any]
) -> None:
    out = tmp_path / "s.jsonl"
    sample.main(sample_config(bench, sft_run, out))
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:3]))
    if "data" in change:
        other = tiny.write_rows(tmp_path / "other.jsonl", [{"prompt": f"Other {i}?"} for i in range(8)])
        change = {"data": (str(other),)}
    with pytest.raises(RunChangedError, match=r"s.jsonl: holds a sample run with other .*another --out"):
        sample.main(sample_config(bench, sft_run, out, **change))
    Path(f"{out}.inputs.json").unlink()  # as an earlier version left it
    with pytest.raises(DataError, match=r"s.jsonl:1: .*use another --out"):
        sample.main(sample_config(bench, sft_run, out, **change))
    assert out.read_bytes() == b"".join(lines[:3])
    sample.main(sample_config(bench, sft_run, out, fresh=True, **change))
    assert len(out.read_bytes().splitlines()) == 8


@pytest.mark.parametrize("n", [0, 10])
def test_sample_takes_one_to_nine_answers(bench: Any, tmp_path: Path, n: int) -> None:
    with pytest.raises(ConfigError, match=f"--n {n}"):
        sample.main(sample_config(bench, bench.model, tmp_path / "s.jsonl", n=n))


# ---- replay ----------------------------------------------------------------------------------------------------------


def test_replay_text_is_what_the_model_writes_and_ptx_can_use_it(bench: Any, sft_run: str, tmp_path: Path) -> None:
    out = tmp_path / "replay.jsonl"
    config = replay.ReplayConfig(model=sft_run, out=str(out), num_texts=12, max_new_tokens=20, **CPU)
    result = replay.main(config)
    rows = tiny.read_rows(out)
    assert result["texts"] == len(rows) > 6 and result["tokens"] == sum(len(row["ids"]) for row in rows)
    assert len({row["text"] for row in rows}) > len(rows) // 2
    assert all(row["source"] == f"sampled from {sft_run}" for row in rows)
    blocks = load_blocks((str(out),), load_model(sft_run)[1], 16)
    assert sum(row["ids"] == row["ids"][:20] for row in rows) and len(blocks) >= result["tokens"] // 16
    before = out.read_bytes()
    assert replay.main(config)["out"] == str(out) and out.read_bytes() == before
    with pytest.raises(RunChangedError, match=r"other settings \(--seed 1, was 0\)"):
        replay.main(dataclasses.replace(config, seed=1))
    Path(f"{out}.inputs.json").unlink()  # as an earlier version left it
    with pytest.raises(DataError, match="seed: is of other settings"):
        replay.main(dataclasses.replace(config, seed=1))
    assert out.read_bytes() == before


# ---- best of n -------------------------------------------------------------------------------------------------------


def best_config(bench: Any, sft_run: str, reward_run: str, out: Path, **changes: Any) -> bestofn.BestOfNConfig:
    settings = {"model": sft_run, "reward": (reward_run,), "data": (bench.prompts,), "out": str(out), "n": 6, **CPU}
    return bestofn.BestOfNConfig(**{**settings, "max_new_tokens": 8, **changes})


def test_best_of_n_keeps_the_best_and_says_what_it_cost(bench: Any, sft_run: str, reward_run: str, tmp_path: Path) -> None:
    result = bestofn.main(best_config(bench, sft_run, reward_run, tmp_path / "b.jsonl"))
    rows = tiny.read_rows(tmp_path / "b.jsonl")
    for row in rows:
        top = row["scores"].index(max(row["scores"]))
        assert row["completion"] == row["completions"][top] and len(row["scores"]) == 6
    assert result["reward_best"] == pytest.approx(sum(max(row["scores"]) for row in rows) / 8, abs=1e-5)
    assert result["reward_first"] == pytest.approx(sum(row["scores"][0] for row in rows) / 8, abs=1e-5)
    assert result["reward_best"] > result["reward_first"]
    assert result["kl_nats"] == pytest.approx(math.log(6) - 5 / 6)


def test_best_of_one_is_a_sample(bench: Any, sft_run: str, reward_run: str, tmp_path: Path) -> None:
    result = bestofn.main(best_config(bench, sft_run, reward_run, tmp_path / "b.jsonl", n=1))
    assert result["kl_nats"] == 0.0 and result["reward_best"] == result["reward_first"]
    sample.main(sample_config(bench, sft_run, tmp_path / "s.jsonl", n=1))
    assert [row["completion"] for row in tiny.read_rows(tmp_path / "b.jsonl")] == [
        row["completions"][0] for row in tiny.read_rows(tmp_path / "s.jsonl")
    ]


@pytest.mark.parametrize("changes", [{"n": 0}, {"temperature": 0.0}])
def test_best_of_n_refuses_what_makes_no_sense(
    bench: Any, sft_run: str, reward_run: str, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="--n|--temperature"):
        bestofn.main(best_config(bench, sft_run, reward_run, tmp_path / "b.jsonl", **changes))


# ---- evaluate --------------------------------------------------------------------------------------------------------


def museum(folder: Path, num: int = 5) -> str:
    rows = [{"prompt": f"What is {tiny.WORDS[i]}?", "keywords": [tiny.WORDS[i], "big"]} for i in range(num)]
    return str(tiny.write_rows(folder / "questions.jsonl", rows))


def evaluate_config(bench: Any, sft_run: str, folder: Path, **changes: Any) -> evaluate.EvaluateConfig:
    settings = {
        "models": (f"base={bench.model}", f"sft={sft_run}", f"again={sft_run}"), "data": (museum(folder),),
        "out": str(folder / "e"), "samples": 2, "max_new_tokens": 8, "reference": "sft", **CPU,
    }  # fmt: skip
    return evaluate.EvaluateConfig(**{**settings, **changes})


def test_evaluation_asks_in_another_template(bench: Any, sft_run: str, tmp_path: Path) -> None:
    """The prompts of the answers are those of the template; answers by another one are refused, not mixed in."""
    own = evaluate_config(bench, sft_run, tmp_path, models=(f"base={bench.model}",), reference="", samples=1)
    plain = dataclasses.replace(own, template="plain", out=str(tmp_path / "p"))
    evaluate.main(own)
    evaluate.main(plain)
    asked = [tiny.read_rows(Path(cfg.out) / "base-greedy.jsonl")[0]["prompt_ids"] for cfg in (own, plain)]
    assert asked[0] != asked[1]
    with pytest.raises(RunChangedError, match="template"):
        evaluate.main(dataclasses.replace(plain, template=""))


def test_evaluation_tabulates_models_win_rates_and_kl(bench: Any, sft_run: str, tmp_path: Path) -> None:
    result = evaluate.main(evaluate_config(bench, sft_run, tmp_path))
    assert json.loads((tmp_path / "e" / "evaluation.json").read_text()) == result
    assert list(result["models"]) == ["base", "sft", "again"] and result["questions"] == 5
    wanted = {"gold_mean", "fk_grade", "distinct_2", "words_mean", "ended_share", "kl_nats_per_token"}
    assert all(wanted <= set(row) for part in ("models", "greedy") for row in result[part].values())
    assert result["models"]["base"]["kl_nats_per_token"] is None  # before the reference
    for name in ("sft", "again"):
        assert result["models"][name]["kl_nats_per_token"] == pytest.approx(0.0, abs=1e-6)
    assert result["models"]["sft"]["ended_share"] > result["models"]["base"]["ended_share"]
    same = result["win_rates"]["again_vs_sft"]
    assert set(same) >= {"rate", "low", "high", "n"} and same["rate"] == 0.5  # equal answers: every comparison a tie
    assert set(result["win_rates"]) == {"sft_vs_base", "again_vs_base", "again_vs_sft"}
    rows = tiny.read_rows(tmp_path / "e" / "sft-sampled.jsonl")
    assert len(rows) == 5 and all(len(row["completions"]) == 2 for row in rows)
    assert all(len(row["completions"]) == 1 for row in tiny.read_rows(tmp_path / "e" / "sft-greedy.jsonl"))


def test_kl_is_measured_on_the_models_own_samples(bench: Any, sft_run: str, tmp_path: Path) -> None:
    """mean of log pi - log ref over tokens the model wrote; a model far from the reference has a large one."""
    import torch
    import torch.nn.functional as F

    models = (f"ref={sft_run}", f"far={bench.model}")
    result = evaluate.main(evaluate_config(bench, sft_run, tmp_path, models=models, reference="ref"))
    far, reference = (load_model(path, "float32", "cpu")[0] for path in (bench.model, sft_run))
    total, tokens, answers = 0.0, 0, 0
    for row in tiny.read_rows(tmp_path / "e" / "far-sampled.jsonl"):
        for ids in row["completion_ids"]:
            whole, start = torch.tensor([[*row["prompt_ids"], *ids]]), len(row["prompt_ids"])
            for sign, model in ((1, far), (-1, reference)):
                with torch.no_grad():
                    logprobs = F.log_softmax(model.logits(model(whole))[0], -1)
                total += sign * sum(logprobs[start - 1 + t, token].item() for t, token in enumerate(ids))
            tokens, answers = tokens + len(ids), answers + 1
    assert result["models"]["far"]["kl_nats_per_token"] == pytest.approx(total / tokens, rel=1e-3)
    assert result["models"]["far"]["kl_nats_per_answer"] == pytest.approx(total / answers, rel=1e-3)


def test_an_interrupted_evaluation_goes_on_and_a_complete_one_writes_no_answers(
    bench: Any, sft_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = evaluate_config(bench, sft_run, tmp_path)
    first = evaluate.main(config)
    files = {p.name: p.read_bytes() for p in (tmp_path / "e").glob("*.jsonl")}
    kls = json.loads((tmp_path / "e" / "kl.json").read_text())
    (tmp_path / "e" / "again-greedy.jsonl").unlink()  # killed before this one
    (tmp_path / "e" / "kl.json").write_text(json.dumps({name: kls[name] for name in ("base", "sft")}))
    loaded: list[str] = []
    real = evaluate.load_model
    monkeypatch.setattr(evaluate, "load_model", lambda path, **k: loaded.append(str(path)) or real(path, **k))
    assert evaluate.main(config) == first
    assert {p.name: p.read_bytes() for p in (tmp_path / "e").glob("*.jsonl")} == files
    assert loaded == [sft_run, sft_run]  # the model that was missing, and the reference
    loaded.clear()
    assert evaluate.main(config) == first and loaded == []


def test_answers_of_other_settings_are_not_reused(bench: Any, sft_run: str, reward_run: str, tmp_path: Path) -> None:
    """A retrained model under the same name must not be judged by the old one's answers."""
    evaluate.main(evaluate_config(bench, sft_run, tmp_path))
    for change in ({"models": (f"base={sft_run}",), "reference": ""}, {"samples": 3}, {"seed": 1}, {"temperature": 0.5}):
        with pytest.raises(ConfigError, match="other settings"):
            evaluate.main(evaluate_config(bench, sft_run, tmp_path, **change))
    result = evaluate.main(evaluate_config(bench, sft_run, tmp_path, judge=reward_run))  # another judge may read them
    assert result["judge"] == reward_run and set(result["models"]["sft"]["parts"]) == {"reward"}


@pytest.mark.parametrize(
    "models", [("base",), ("=x",), ("a=",), ("a=x", "a=y")], ids=["no name", "empty name", "no model", "twice"]
)
def test_models_need_names_of_their_own(models: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="write NAME=MODEL, each name once"):
        evaluate.named_models(models)


def test_a_reference_that_is_none_of_the_models_is_refused(bench: Any, sft_run: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--reference x: not one of"):
        evaluate.main(evaluate_config(bench, sft_run, tmp_path, reference="x"))


def test_the_museum_judge_needs_key_words(bench: Any, sft_run: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="keywords"):
        evaluate.main(evaluate_config(bench, sft_run, tmp_path, data=(bench.prompts,)))
