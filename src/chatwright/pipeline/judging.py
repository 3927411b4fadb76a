"""The judge at the end of a chain, and the model that its verdict recommends.

The reward model that PPO maximised is no judge of PPO: its verdict is an upper bound. So a part of the rankings trains a
second reward model, or an AI judge compares the answers. Simulated labels are judged by their rubric.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatwright.evals.gate import MIN_PROMPTS
from chatwright.pipeline.settings import TeachConfig
from chatwright.progress import ProgressBar, console
from chatwright.records import Prompt, load_rankings, read_jsonl
from chatwright.records.sameness import prompt_key

if TYPE_CHECKING:
    from chatwright.pipeline import Chain

JUDGE_FOLDER = "4-judge"
LEAST_PROMPTS = 6 * MIN_PROMPTS
"""Ranked prompts from which on a part of them is kept for the judge: a third is then enough for its own report card."""


def simulated_only(cfg: TeachConfig) -> bool:
    """True when the labels are those of the museum's rubric, which judges them without its noise."""
    return cfg.labeller == "simulated" and not cfg.rankings


def evaluate_models(chain: Chain, runs: tuple[str, ...], questions: str, folder: str, judge: str) -> dict[str, Any]:
    """Evaluate the base model and stages of a chain on its held-out questions. `runs`: NAME=STAGE each; `judge`: the
    reward model to use where the labels are of people."""
    from chatwright.recipes import evaluate

    cfg, stages = chain.cfg, chain.cfg.stages
    named = (run.split("=") for run in runs)
    return evaluate.main(
        evaluate.EvaluateConfig(
            models=(f"base={cfg.model}", *(f"{name}={chain.path(stage)}" for name, stage in named)),
            data=(questions,),
            out=chain.path(folder),
            fresh=chain.anew,
            judge=f"museum-{cfg.language}" if simulated_only(cfg) else judge,
            samples=stages.eval_samples,
            max_new_tokens=stages.eval_max_new_tokens,
            reference="sft",
            seed=cfg.seed,
            device=cfg.device,
            precision=cfg.precision,
        )
    )


def judge_share(chain: Chain, rankings: tuple[str, ...]) -> float:
    """Share of the ranked prompts that is reserved for the judge's reward model; 0: there is none."""
    cfg, share = chain.cfg, chain.cfg.stages.judge_share
    if simulated_only(cfg) or cfg.ai_model or not share:
        return 0.0
    prompts = len({prompt_key(row.messages) for row in load_rankings(rankings)})
    if prompts < LEAST_PROMPTS:
        console().print(
            f"{prompts} ranked prompts: too few for a second reward model ({LEAST_PROMPTS}), so the judge is the reward "
            "model that PPO is trained against, an upper bound; an AI judge (--ai...) or people are independent"
        )
        return 0.0
    console().print(f"{share:.0%} of {prompts} ranked prompts are reserved for the judge (--stages.judge-share)")
    return share


def preferred(result: dict[str, Any], folder: Path, cfg: TeachConfig) -> dict[str, Any]:
    """The evaluation with the win rates of an AI judge, where there is one, and with the recommended model."""
    from chatwright.engine.checkpoint import write_text

    if cfg.ai_model and not simulated_only(cfg):
        rates, judge = _ask(folder, list(result["models"]), cfg)
        result |= {"score_win_rates": result["win_rates"], "win_rates": rates, "preference_judge": judge}
        result.pop("length_controlled", None)
    name, reason = recommend(result)
    result |= {"recommended": name, "reason": reason}
    write_text(folder / "evaluation.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


def _ask(folder: Path, names: list[str], cfg: TeachConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """(win rates, the judge with its counts): the first sample of each model to each question, every pair in both places."""
    from chatwright.evals.winrate import win_rate
    from chatwright.labellers.ai_judge import AIJudge, AIJudgeConfig, UnreadableError
    from chatwright.labellers.commands import with_key
    from chatwright.labellers.protocol import LabelTask

    judge = AIJudge(with_key(AIJudgeConfig(base_url=cfg.ai_base_url, model=cfg.ai_model)))
    rows = {name: [row for _, row in read_jsonl(folder / f"{name}-sampled.jsonl")] for name in names}
    points: list[dict[str, float]] = []
    questions = len(rows[names[0]])
    with ProgressBar("judge", questions, unit="question") as bar:
        for number in range(questions):
            bar.advance()
            given = [rows[name][number] for name in names]
            prompt = Prompt.from_dict({"messages": given[0]["messages"]})
            texts = tuple(row["completions"][0] for row in given)
            ended = tuple(row["finish_reason"][0] != "length" for row in given)
            try:
                order = judge.rank(LabelTask(prompt=prompt, completions=texts, ended=ended)).order
            except UnreadableError:
                continue
            points.append({name: -float(rank) for name, rank in zip(names, order.ranks, strict=True) if rank is not None})
    judge.check()
    rates = {}
    for earlier, later in itertools.combinations(names, 2):
        both = [row for row in points if earlier in row and later in row]
        if both:
            rate = win_rate([[row[later]] for row in both], [[row[earlier]] for row in both], seed=cfg.seed)
            rates[f"{later}_vs_{earlier}"] = rate.to_dict()
    return rates, {"judge": judge.name, "judge_kind": "ai", **judge.counts.to_dict()}


def recommend(evaluation: Mapping[str, Any]) -> tuple[str, str]:
    """(name of the model to use, why): PPO only when its win rate over SFT is surely above one half."""
    rates, ai = evaluation["win_rates"], evaluation.get("preference_judge")
    named = {"learned": "its own training reward", "held_out": "a second reward model"}
    judge = ai["judge"] if ai else named.get(evaluation["judge_kind"], evaluation["judge"])

    def said(rate: Mapping[str, Any]) -> str:
        return f"{rate['rate']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}] (judge: {judge})"

    sft, ppo = rates.get("sft_vs_base"), rates.get("ppo_vs_sft")
    if ppo is not None and ppo["low"] > 0.5:
        bound = not ai and evaluation["judge_kind"] == "learned"
        caveat = ", which is an upper bound: compare some answers yourself" if bound else ""
        return "ppo", f"PPO is preferred to SFT in {said(ppo)}{caveat}"
    if sft is not None and sft["high"] < 0.5:
        return "base", f"the base model is preferred: SFT over it {said(sft)}"
    if ppo is None:
        return "sft", "PPO was not compared with SFT"
    worse = "PPO is worse than SFT" if ppo["high"] < 0.5 else "PPO is not surely better than SFT"
    return "sft", f"{worse}: {said(ppo)}"


def said_recommendation(report: Mapping[str, Any], paths: Mapping[str, str]) -> str:
    """Lines for the terminal: the recommended model, why, and where the others are."""
    name = report["recommended"]
    others = ", ".join(f"{other} {path}" for other, path in paths.items() if other != name)
    return f"model:     {paths[name]} ({name})\nwhy:       {report['reason']}\nothers:    {others}"
