"""A chain that stops at the gate leaves an evaluated SFT model, and later goes on from it (use.md F2, F3, F10)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_training as tiny
from chatwright import cli
from chatwright.errors import ConfigError
from chatwright.pipeline.settings import StageSettings

TEACH = (
    "teach", "--model", "model", "--demonstrations", "demonstrations.jsonl", "--rankings", "rankings.jsonl",
    "--out", "chain", "--device", "cpu", "--precision", "fp32", "--stages.sft-epochs", "2", "--stages.reward-epochs", "1",
    "--stages.eval-samples", "1", "--stages.eval-max-new-tokens", "8", "--stages.max-new-tokens", "8",
    "--stages.ppo-steps", "1", "--stages.ppo-batch", "4", "--stages.replay-texts", "4",
)  # fmt: skip


@pytest.mark.slow
def test_a_closed_gate_leaves_sft_evaluated_and_more_rankings_are_noticed(
    tmp_path: Path, make_tokenizer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.save_tiny_model(tmp_path / "model", make_tokenizer(chat_template=tiny.SHORT_JINJA), max_positions=256)
    tiny.write_rows(tmp_path / "demonstrations.jsonl", tiny.demonstration_rows(20))
    tiny.write_rows(tmp_path / "rankings.jsonl", tiny.ranking_rows(12, kind="human"))
    assert cli.main(list(TEACH)) == 1
    shown = capsys.readouterr()
    assert "chatwright chat --model chain/1-sft" in shown.out and "report.html" in shown.out
    assert "rankings" in shown.err.splitlines()[-1] and "Traceback" not in shown.err
    assert not (tmp_path / "chain" / "5-replay.jsonl").exists(), "the gate is asked before the text for PPO is written"
    report = json.loads((tmp_path / "chain" / "5-evaluation-sft" / "report.json").read_text())
    assert list(report["models"]) == ["base", "sft"] and (tmp_path / "chain" / "5-evaluation-sft" / "report.html").is_file()
    sft = tiny.tensor_hashes(tmp_path / "chain" / "1-sft" / "final")

    tiny.write_rows(tmp_path / "rankings.jsonl", tiny.ranking_rows(16, kind="human"))
    assert cli.main(list(TEACH)) == 2
    refused = capsys.readouterr().err
    assert "chain/4-reward: holds a reward run with other inputs" in refused and "lines" in refused and "--fresh" in refused
    assert cli.main([*TEACH, "--fresh", "--ignore-gate"]) == 0
    assert tiny.tensor_hashes(tmp_path / "chain" / "1-sft" / "final") == sft, "the stages before the change are kept"
    assert "It is made anew" in capsys.readouterr().err
    assert (tmp_path / "chain" / "report.html").is_file()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"answers": 1}, "2 to 9"), ({"replay_texts": 0}, "replay-texts"), ({"reward_held_out": 1.0}, "reward-held-out")],
)
def test_what_a_late_stage_cannot_do_is_refused_before_the_first(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StageSettings(**wrong)
