"""The whole wheel on a two-layer model: a real server, its intake, jobs, and the promotion where the interval allows it."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_training as tiny

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "flywheel.py"
STAGES = {
    "max_new_tokens": 12, "reward_epochs": 1, "reward_held_out": 0.0, "ppo_steps": 2, "ppo_batch": 8, "ptx_gamma": 0.0,
    "eval_samples": 2, "eval_questions": 4,
}  # fmt: skip


@pytest.mark.timeout(900)  # seconds on a machine of its own, minutes beside others
@pytest.mark.slow
def test_the_wheel_turns_unattended(
    tmp_path: Path, make_tokenizer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tiny.SRC), *(p for p in sys.path if p)]))
    monkeypatch.setenv("CHATWRIGHT_DATABASE_URL", "")
    tiny.save_tiny_model(tmp_path / "model", make_tokenizer(chat_template=tiny.SHORT_JINJA), max_positions=256)
    prompts = [f"Why is {word} so nice?" for word in tiny.WORDS]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    spec = importlib.util.spec_from_file_location("flywheel", FILE)
    assert spec is not None and spec.loader is not None
    flywheel = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(flywheel)
    result = flywheel.main(
        ["--prompts", str(tmp_path / "prompts.jsonl"), "--work", str(tmp_path / "work"), "--model", str(tmp_path / "model"),
         "--people", "4", "--answers", "3", "--labellers", "2", "--max-tokens", "12", "--ignore-gate", "--job-threads", "1",
         "--stages", json.dumps(STAGES), "--out", str(tmp_path / "out.json")]
    )  # fmt: skip
    assert json.loads((tmp_path / "out.json").read_text()) == result
    assert result["tasks"] == len(prompts) and result["labels"] == 2 * len(prompts)
    assert set(result["by_labeller"]) == {"simulated:general-en-1", "simulated:general-en-2"}
    gate = result["verdicts"][0]
    assert (gate["judge"], gate["judge_kind"]) == ("general-en", "simulated")
    assert result["promoted"] == (gate["low"] > 0.5 and gate["p"] <= 0.025) and bool(result["refusal"]) != result["promoted"]
    assert result["report_card"]["simulated_share"] == 1.0 and result["report_card"]["gate"]  # nothing was held out for it
    if not result["promoted"]:  # a model that is not promoted changes nothing
        assert result["after"] == result["before"]
