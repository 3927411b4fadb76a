"""A chain whose reward model's quality gate is closed: it evaluates SFT, writes a report, and names the model to use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatwright import __version__
from chatwright.errors import GateError
from chatwright.pipeline.judging import JUDGE_FOLDER, evaluate_models, simulated_only
from chatwright.progress import console

if TYPE_CHECKING:
    from chatwright.pipeline import Chain

FOLDER = "5-evaluation-sft"


def closed_gate(chain: Chain) -> GateError | None:
    """Why PPO may not start, asked before anything is prepared for it; None when it may, or --ignore-gate is given."""
    from chatwright.evals.rewards import check_gate

    if chain.cfg.ignore_gate:
        return None
    try:
        check_gate((chain.path("4-reward"),))
    except GateError as error:
        return error
    return None


def report_without_ppo(chain: Chain, questions: str) -> dict[str, Any]:
    """Evaluate base and SFT, write the report page of both, and say how to use the SFT model."""
    from chatwright.engine.checkpoint import write_text
    from chatwright.evals import teach_report
    from chatwright.evals.terminal import print_table
    from chatwright.labellers.rubric import gold_judge, rubric_for

    cfg, folder = chain.cfg, Path(chain.path(FOLDER))
    evaluation = chain.stage(5, "evaluation without PPO", lambda: _evaluated(chain, questions))
    chat = f"chatwright chat --model {chain.path('1-sft')}"
    about = {
        "model": cfg.model, "language": cfg.language, "seed": cfg.seed, "folder": str(chain.folder),
        "command": f"chatwright teach --config {chain.path('config.toml')}", "chat_command": chat,
        "machine": chain.machine(), "chatwright": __version__,
    }  # fmt: skip
    report, page = teach_report.build(
        teach_report.ChainFiles(
            sft=Path(chain.path("1-sft")), reward=Path(chain.path("4-reward")), ppo=None, evaluation=folder, labels={},
            replay=False,
        ),
        evaluation,
        seconds=chain.times.state["seconds"],
        peak_rss_bytes=chain.times.state["peak_rss_bytes"],
        paths={"base": cfg.model, "sft": chain.path("1-sft/final")},
        about=about,
        judge=gold_judge(rubric_for(cfg.language)) if simulated_only(cfg) else None,
    )  # fmt: skip
    teach_report.write(folder, report, page, write_text)
    print_table(report)
    print(f"\nreport:    {folder / 'report.html'}\nmodel:     {chain.path('1-sft/final')}\nchat with: {chat}")
    console().print("More rankings open the gate: add them and run the same command with --fresh. SFT is kept.")
    return report


def _evaluated(chain: Chain, questions: str) -> dict[str, Any]:
    held_out = Path(chain.path(JUDGE_FOLDER))
    judge = str(held_out) if held_out.is_dir() else chain.path("4-reward")
    return evaluate_models(chain, ("sft=1-sft",), questions, FOLDER, judge)
