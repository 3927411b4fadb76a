"""overopt: best-of-n and PPO sweeps against a gold judge, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny_training as tiny
from chatwright.errors import ConfigError, DataError
from chatwright.recipes import bestofn, overopt, reward

CPU: dict[str, Any] = {"device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="session")
def samples(bench: Any, sft_run: str, reward_run: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Six answers per prompt with the scores of the tiny reward model."""
    out = str(tmp_path_factory.mktemp("overopt") / "bestofn.jsonl")
    config = bestofn.BestOfNConfig(
        model=sft_run, reward=(reward_run,), data=(bench.prompts,), out=out, n=6, max_new_tokens=8, **CPU
    )
    bestofn.main(config)
    return out


def run(reward_run: str, out: Path, **changes: Any) -> dict[str, Any]:
    return overopt.main(overopt.OveroptConfig(judge=reward_run, out=str(out), **CPU, **changes))


def test_judged_by_the_proxy_itself_gold_is_the_proxy_and_rises(samples: str, reward_run: str, tmp_path: Path) -> None:
    result = run(reward_run, tmp_path / "o.json", data=(samples,))
    points = result["bestofn"]["points"]
    assert [point["n"] for point in points] == [1, 2, 4, 6] and points[0]["kl_nats"] == 0.0
    golds = [point["gold"] for point in points]
    # The judge reads text, the proxy read ids: equal but for answers whose tokens are not the text's usual ones.
    assert golds == pytest.approx([point["proxy"] for point in points], abs=0.05)
    assert golds == sorted(golds) and golds[-1] > golds[0]
    assert json.loads((tmp_path / "o.json").read_text()) == result


def test_a_proxy_turned_round_is_seen_to_lower_gold(samples: str, reward_run: str, tmp_path: Path) -> None:
    rows = [{**row, "scores": [-score for score in row["scores"]]} for row in tiny.read_rows(Path(samples))]
    turned = tiny.write_rows(tmp_path / "turned.jsonl", rows)
    found = run(reward_run, tmp_path / "o.json", data=(str(turned),))["bestofn"]
    golds, proxies = ([point[name] for point in found["points"]] for name in ("gold", "proxy"))
    assert golds == sorted(golds, reverse=True) and golds[-1] < golds[0] and proxies == sorted(proxies)
    assert found["fit"]["recommended_kl"] == 0.0


def evaluation(folder: Path, samples: str, kls: dict[str, float]) -> Path:
    """A folder as `evaluate` leaves it: the model furthest from the start keeps the answers the proxy likes best."""
    folder.mkdir()
    for place, name in enumerate(kls):
        rows = []
        for row in tiny.read_rows(Path(samples)):
            best = sorted(range(6), key=lambda i, scores=row["scores"]: scores[i])[place : place + 2]  # type: ignore[misc]
            reasons = [row["finish_reasons"][i] for i in best]
            rows.append({**row, "completions": [row["completions"][i] for i in best], "finish_reason": reasons})
        tiny.write_rows(folder / f"{name}-sampled.jsonl", rows)
    (folder / "kl.json").write_text(json.dumps({name: {"kl_nats_per_answer": kl} for name, kl in kls.items()}))
    return folder


def test_ppo_checkpoints_are_points_at_their_measured_kl(samples: str, reward_run: str, tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "ev", samples, {"sft": 0.0, "early": 1.0, "later": 4.0})
    found = run(reward_run, tmp_path / "o.json", evaluation=str(folder))["ppo"]
    assert [(p["model"], p["kl_nats"]) for p in found["points"]] == [("sft", 0.0), ("early", 1.0), ("later", 4.0)]
    golds = [point["gold"] for point in found["points"]]
    assert golds == sorted(golds) and found["fit"]["kind"] == "rl" and found["fit"]["measured_kl"] == 4.0
    assert found["fit"]["rmse"] == pytest.approx(0.0, abs=1e-9)  # two points that moved, two parameters


def test_what_is_missing_is_named(samples: str, reward_run: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--data.*--evaluation"):
        run(reward_run, tmp_path / "o.json")
    with pytest.raises(DataError, match="kl.json: cannot be read"):
        run(reward_run, tmp_path / "o.json", evaluation=str(tmp_path))
    folder = evaluation(tmp_path / "ev", samples, {"sft": 0.0, "early": 1.0})
    with pytest.raises(ConfigError, match="--start ppo.*there: sft, early"):
        run(reward_run, tmp_path / "o.json", evaluation=str(folder), start="ppo")
    with pytest.raises(DataError, match="two or more points"):
        run(reward_run, tmp_path / "o.json", evaluation=str(folder))
    rows = [{k: v for k, v in row.items() if k != "finish_reasons"} for row in tiny.read_rows(Path(samples))]
    old = tiny.write_rows(tmp_path / "old.jsonl", rows)
    with pytest.raises(DataError, match="as many `finish_reasons`"):
        run(reward_run, tmp_path / "o.json", data=(str(old),))


def test_score_reads_how_each_of_the_best_of_n_ended(samples: str, reward_run: str, tmp_path: Path) -> None:
    """The row's own finish_reason is that of the best answer alone."""
    first = tiny.read_rows(Path(samples))[0]
    assert len(first["finish_reasons"]) == 6 and isinstance(first["finish_reason"], str)
    twice = {**first, "completions": ["honey."] * 2, "finish_reasons": ["stop", "length"], "finish_reason": "stop"}
    data, out = tiny.write_rows(tmp_path / "in.jsonl", [twice]), tmp_path / "scored.jsonl"
    reward.score(reward.ScoreConfig(reward=reward_run, data=str(data), out=str(out), **CPU))
    ended, cut = tiny.read_rows(out)[0]["scores"]
    assert ended != cut
