"""The report of a run file: the page that `teach` writes, and on it what every stage began with and what it left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chatwright import __version__
from chatwright.errors import ConfigError
from chatwright.pipeline.times import StageTimes

Stages = Sequence[tuple[str, Any]]
"""(command, its config), in the order of the file."""
NEEDED = ("sft", "reward", "ppo", "evaluate")


def check(stages: Stages, file: str) -> None:
    """ConfigError when the file asks for a report of stages that it does not have."""
    missing = [name for name in NEEDED if not _of(stages, name)]
    if missing:
        raise ConfigError(f"{file}: report: tells of the stages {', '.join(NEEDED)}; there is no {', no '.join(missing)}")


def write(stages: Stages, folder: Path, times: StageTimes, file: str) -> dict[str, Any]:
    """report.json, report.html and the table in the terminal, from what the stages left; returns the report."""
    from chatwright.engine.checkpoint import write_text
    from chatwright.evals import stage_table, teach_report
    from chatwright.evals.terminal import print_table
    from chatwright.hub import model_folder
    from chatwright.labellers.rubric import gold_judge, rubric_for
    from chatwright.recipes.evaluate import named_models

    evaluate, ppo = _of(stages, "evaluate")[-1], _of(stages, "ppo")[0]
    evaluation = json.loads((Path(evaluate.out) / "evaluation.json").read_text(encoding="utf-8"))
    models = named_models(evaluate.models)
    labels = _labels(stages)
    language = evaluate.judge.removeprefix("museum-")
    files = teach_report.ChainFiles(
        sft=Path(_of(stages, "sft")[-1].out),
        reward=Path(_of(stages, "reward")[-1].out),
        ppo=Path(ppo.out),
        evaluation=Path(evaluate.out),
        labels=labels,
        replay=any(one.out in ppo.ptx.data for one in _of(stages, "replay")),
    )
    about = {
        "model": next(iter(models.values())),
        "language": language if language in ("en", "zh") else "en",
        "seed": ppo.seed,
        "folder": str(folder),
        "command": f"chatwright run {file}",
        "chat_command": f"chatwright chat --model {ppo.out}",
        "machine": times.machine(ppo.precision, ppo.device),
        "chatwright": __version__,
    }
    report, page = teach_report.build(
        files,
        evaluation,
        seconds=times.state["seconds"],
        peak_rss_bytes=times.state["peak_rss_bytes"],
        paths={name: str(model_folder(source)) for name, source in models.items()},
        about=about,
        judge=gold_judge(rubric_for(about["language"])) if evaluate.judge.startswith("museum-") else None,
    )
    done = [
        stage_table.Stage(
            command=name,
            folder=Path(config.out),
            model=str(getattr(config, "model", "")),
            ptx=bool(name == "ppo" and config.ptx.data),
        )
        for name, config in stages
        if hasattr(config, "out")
    ]
    report["stages"] = page["stages"] = stage_table.rows(done, models, evaluation, labels)
    page["curves"] |= stage_table.curves(done)
    page["samples"] = stage_table.samples(done)
    teach_report.write(folder, report, page, write_text)
    print_table(report)
    print(f"\nreport:    {folder / 'report.html'}\nmodel:     {model_folder(ppo.out)}\nchat with: {about['chat_command']}")
    return report


def _of(stages: Stages, command: str) -> list[Any]:
    return [config for name, config in stages if name == command]


def _labels(stages: Stages) -> dict[str, Any]:
    """What is known of simulated labels; {} when somebody else ranked."""
    from chatwright.labellers.simulated import summary
    from chatwright.records import load_rankings

    made = [config for config in _of(stages, "label") if config.labeller == "simulated"]
    return summary(load_rankings(made[-1].out)).to_dict() if made else {}
