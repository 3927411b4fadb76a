"""report.json and report.html of a whole chain, read from the files its stages left."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chatwright.evals.harness import Answer, Judge
from chatwright.evals.report import write_html
from chatwright.jsonl import read_jsonl
from chatwright.records import Prompt

SHOWN_QUESTIONS = 12
_NO_PPO = {"ptx_loss_before": None, "ptx_loss_after": None, "ptx_sequences": 0, "stopped_by": ""}
_JUDGE_KEYS = (
    "judge", "judge_kind", "judge_gate", "length_controlled", "preference_judge", "score_win_rates", "recommended", "reason"
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ChainFiles:
    """What the report is made of."""

    sft: Path
    """Run folder."""
    reward: Path
    """Run folder, with report_card.json."""
    ppo: Path | None
    """Run folder, with metrics.jsonl and rollouts.jsonl; None: PPO has not run."""
    evaluation: Path
    """Folder with answers."""
    labels: Mapping[str, Any]
    """Summary of the simulated labels; empty when people or a judge ranked."""
    replay: bool
    """Whether the ptx text was sampled from the base model."""


def build(
    files: ChainFiles,
    evaluation: Mapping[str, Any],
    *,
    seconds: Mapping[str, float],
    peak_rss_bytes: int,
    paths: Mapping[str, str],
    about: Mapping[str, Any],
    judge: Judge | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(report.json, the page's data). `judge` scores PPO's own rollouts, so that gold stands beside the proxy."""
    card_file = files.reward / "report_card.json"
    card = json.loads(card_file.read_text(encoding="utf-8")) if card_file.is_file() else {}
    ppo_result = json.loads((files.ppo / "result.json").read_text(encoding="utf-8")) if files.ppo else dict(_NO_PPO)
    ptx = {
        "source": "replay" if files.replay else "corpus",
        "loss_before": ppo_result["ptx_loss_before"],
        "loss_after": ppo_result["ptx_loss_after"],
    }
    report = {
        "seconds": round(sum(seconds.values()), 1),
        "seconds_by_stage": dict(seconds),
        "peak_rss_bytes": peak_rss_bytes,
        "models": {name: {**row, "path": paths[name]} for name, row in evaluation["models"].items()},
        "greedy": evaluation["greedy"],
        "answered_alike": evaluation["answered_alike"],
        "win_rates": evaluation["win_rates"],
        "reward_model": _reward_figures(card, str(files.reward)),
        "labels": dict(files.labels),
        "ptx": ptx if ppo_result["ptx_sequences"] else None,
        "stopped_by": ppo_result["stopped_by"],
        **{name: evaluation[name] for name in _JUDGE_KEYS if name in evaluation},
        **about,
    }
    curves = {name: _rows(folder / "metrics.jsonl") for name, folder in _stages(files).items()}
    if judge is not None and files.ppo is not None:
        curves["ppo"] = _with_gold(curves["ppo"], files.ppo / "rollouts.jsonl", judge)
    page = {
        "report": report,
        "greedy": evaluation["greedy"],
        "language": about.get("language", "en"),
        "run": {**about, "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")},
        "labels": files.labels,
        "card": card,
        "curves": curves,
        "frontier": _frontier(evaluation),
        "ptx": report["ptx"] or {},
        "answers": _side_by_side(files.evaluation, list(evaluation["models"]), judge),
        "notes": about.get("notes", []),
    }
    return report, page


def write(folder: Path, report: Mapping[str, Any], page: Mapping[str, Any], save: Callable[[Path, str], None]) -> None:
    """Write both files; `save` writes text atomically."""
    save(folder / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    save(folder / "page.json", json.dumps(page, ensure_ascii=False) + "\n")
    write_html(page, folder / "report.html")


def _stages(files: ChainFiles) -> dict[str, Path]:
    stages = {"sft": files.sft, "reward": files.reward, "ppo": files.ppo}
    return {name: folder for name, folder in stages.items() if folder is not None}


def _rows(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(path)] if path.is_file() else []


def _reward_figures(card: Mapping[str, Any], path: str) -> dict[str, Any]:
    if not card:
        return {"accuracy": None, "length_baseline": None, "ece": None, "tie_nll": None, "path": path}
    return {
        "accuracy": card["accuracy"]["value"],
        "accuracy_low": card["accuracy"]["low"],
        "accuracy_high": card["accuracy"]["high"],
        "accuracy_ceiling": card["accuracy_ceiling"],
        "strict_pairs": card["strict_pairs"],
        "length_baseline": card["length_baseline"],
        "ece": card["ece"],
        "tie_nll": _value(card["tie_nll"]),
        "gate": card["gate"],
        "path": path,
    }


def _value(figure: Any) -> Any:
    return figure["value"] if isinstance(figure, Mapping) else figure


def _with_gold(rows: Sequence[Mapping[str, Any]], rollouts: Path, judge: Judge) -> list[dict[str, Any]]:
    """The PPO curve with the mean gold score of each iteration's own rollouts."""
    totals: dict[int, list[float]] = {}
    for row in _rows(rollouts):
        prompt = Prompt.from_dict(row)
        score = judge(prompt, Answer(text=row["completion"], ended=row["ended"])).total
        totals.setdefault(row["step"], []).append(score)
    return [
        {**row, "gold": sum(totals[row["step"]]) / len(totals[row["step"]])} if row["step"] in totals else dict(row)
        for row in rows
    ]


def _frontier(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    points = []
    for name, row in evaluation["models"].items():
        kl = row.get("kl_nats_per_answer")
        if kl is not None:
            points.append({"name": name, "kl_nats": kl, "gold": row["gold_mean"]})
    return points


def _side_by_side(folder: Path, names: Sequence[str], judge: Judge | None) -> list[dict[str, Any]]:
    """One sampled answer of each model to the first held-out questions."""
    rows = {name: _rows(folder / f"{name}-sampled.jsonl")[:SHOWN_QUESTIONS] for name in names}
    out = []
    for index, first in enumerate(rows[names[0]]):
        answers = {}
        for name in names:
            row = rows[name][index]
            answer = Answer(text=row["completions"][0], ended=row["finish_reason"][0] == "stop")
            cell: dict[str, Any] = {"text": answer.text, "ended": answer.ended}
            if judge is not None:
                verdict = judge(Prompt.from_dict({k: v for k, v in row.items() if k != "completions"}), answer)
                cell |= {"gold": verdict.total, "parts": dict(verdict.parts)}
            answers[name] = cell
        out.append({"question": first["messages"][-1]["content"], "models": answers})
    return out
