"""benchmarks/quick.py: rules of claims, the table, and what a failed run leaves."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import quick
import readme_claims
from readme_claims import CLAIMS, Claim

SEED_0 = json.loads((readme_claims.RESULTS / "quickstart-seed-0.json").read_text(encoding="utf-8"))


def interval(low: float, high: float) -> dict[str, Any]:
    return {"rate": (low + high) / 2, "low": low, "high": high, "bound": 0.5}


@pytest.mark.parametrize(
    ("rule", "report", "holds"),
    [
        (readme_claims.above("", 0.5), interval(0.51, 0.6), True),
        (readme_claims.above("", 0.5), interval(0.5, 0.9), False),
        (readme_claims.above("", "bound"), interval(0.51, 0.6), True),
        (readme_claims.not_above("", "bound", ("rate", "low", "high")), interval(0.4, 0.6), True),
        (readme_claims.not_above("", "bound", ("rate", "low", "high")), interval(0.6, 0.7), False),
        (readme_claims.between("low", 0, 1), {"low": 1.01}, False),
        (readme_claims.lower("low", "high"), interval(0.2, 0.3), True),
        (readme_claims.lower("high", "low"), interval(0.2, 0.3), False),
        (readme_claims.every(readme_claims.above("", 0.5), readme_claims.lower("high", "low")), interval(0.6, 0.7), False),
        (readme_claims.overlaps("win_rates.ppo_vs_sft.", "quickstart-seed-0"), SEED_0, True),
    ],
)
def test_rules(rule: readme_claims.Rule, report: dict[str, Any], holds: bool) -> None:
    assert rule(report)[1] is holds


def test_another_result_does_not_confirm_an_interval() -> None:
    other = {"win_rates": {"ppo_vs_sft": interval(0.3, 0.4)}}
    assert not readme_claims.overlaps("win_rates.ppo_vs_sft.", "quickstart-seed-0")(other)[1]


@pytest.mark.parametrize("claim", CLAIMS, ids=[str(n) for n in range(len(CLAIMS))])
def test_kept_results_have_what_their_rules_ask(claim: Claim) -> None:
    """Each claim can be judged by the kept report of its own run."""
    kept = {"no-ptx": "quickstart-no-ptx", "quickstart": "quickstart-seed-0"}.get(claim.run, claim.run)
    report = json.loads((readme_claims.RESULTS / f"{kept}.json").read_text(encoding="utf-8"))
    assert quick.judged(claim, report, "")["measured"]


def test_a_run_that_fails_leaves_the_others_and_its_claims_are_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(name: str, code: str) -> quick.Run:
        report = f"{{work}}/{name}.json"
        return quick.Run(command=("-c", code), report=report, minutes=1, reduced="all", judge="rubric")

    good = "import pathlib; pathlib.Path(r'{work}/good.json').write_text('{\"x\": 1}'); raise SystemExit(1)"
    monkeypatch.setattr(quick, "RUNS", {"bad": run("bad", "raise SystemExit(3)"), "good": run("good", good)})
    monkeypatch.setattr(quick, "KEPT", tmp_path / "kept.json")
    one = replace(CLAIMS[0], rule=readme_claims.between("x", 0, 1))
    monkeypatch.setattr(quick, "CLAIMS", (replace(one, run="bad"), replace(one, run="good")))
    assert quick.main(["--work", str(tmp_path)]) == 1
    kept = json.loads((tmp_path / "kept.json").read_text(encoding="utf-8"))
    assert [row["holds"] for row in kept["claims"]] == [False, True] and not kept["holds"]
    assert kept["claims"][0]["why"] == "exit status 3" and kept["claims"][1]["judge"] == "rubric"
    assert "NOT MEASURED" in capsys.readouterr().out
    monkeypatch.setattr(quick, "CLAIMS", (replace(one, run="good"),))
    assert quick.main(["--work", str(tmp_path), "--resume"]) == 0  # the failed run has no claim left
    assert json.loads((tmp_path / "kept.json").read_text(encoding="utf-8"))["holds"]


def test_list_runs_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(quick, "run", lambda *_, **__: pytest.fail("it ran"))
    assert quick.main(["--list", "--work", str(tmp_path)]) == 0


def test_a_run_that_takes_too_long_is_ended() -> None:
    assert "took more than" in quick._ended([sys.executable, "-c", "import time; time.sleep(600)"], 0.2)


def test_an_hour_is_enough() -> None:
    assert sum(run.minutes for run in quick.RUNS.values()) <= 60
