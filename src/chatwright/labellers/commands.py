"""`chatwright label`: sampled answers in, rankings out; by the simulated labeller, an AI judge, or people's files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from chatwright.config.secrets import secret
from chatwright.engine.record import Record, files, open_output, record_of_file
from chatwright.errors import ConfigError, DataError
from chatwright.jsonl import check_writable, dumps
from chatwright.labellers.ai_judge import AIJudge, AIJudgeConfig, JudgeError, UnreadableError
from chatwright.labellers.human import HumanQueue
from chatwright.labellers.protocol import LabelTask
from chatwright.labellers.rubric import rubric_for
from chatwright.labellers.simulated import DEFAULT_NOISE, SimulatedLabeller, choose_tie_width, summary
from chatwright.progress import ProgressBar, console
from chatwright.records import Prompt, Ranking, Where, load_rankings, load_rows, write_jsonl

_ANSWER_FIELDS = ("completions", "finish_reason", "finish_reasons", "completion_meta")


@dataclass(frozen=True, kw_only=True)
class SimulatedConfig:
    """The museum rubric as a labeller that errs as people do; for tests and examples, never a finding about people."""

    language: Literal["en", "zh"] = "en"
    """Which rubric."""
    noise: float = DEFAULT_NOISE
    """Expected share of strict pairs that are turned round, 0 to 0.5."""
    tie_width: float | None = None
    """Answers whose scores differ by at most this are tied; None: chosen to tie a little over a quarter of the pairs."""
    seed: int = 0
    """Fixes the mistakes."""


@dataclass(frozen=True, kw_only=True)
class HumanConfig:
    """People: tasks.jsonl is written into a folder, rankings.jsonl is collected from it."""

    folder: str = "labels"
    """Folder of the two files; share it with the people who rank."""
    name: str = "human"
    """Labeller of rows that name none."""
    guideline: str = ""
    """Version of the instructions people follow, copied into every task."""


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Rank sampled answers."""

    data: tuple[str, ...]
    """Files of `chatwright sample`: JSON lines with messages (or prompt) and completions."""
    out: str = "rankings.jsonl"
    """File of rankings to write."""
    fresh: bool = False
    """Delete the rankings in `out` that were not made by people and start anew; without it, rankings of other answers or
    settings are refused."""
    labeller: Literal["simulated", "ai", "human"] = "simulated"
    """Who ranks. Every record says which kind it was."""
    simulated: SimulatedConfig = SimulatedConfig()
    """Settings of the simulated labeller."""
    ai: AIJudgeConfig | None = None
    """The judge's address and model. The key: --ai.api-key, JUDGE_API_KEY, or a file named by JUDGE_API_KEY_FILE."""
    human: HumanConfig = HumanConfig()
    """Where people rank."""

    def __post_init__(self) -> None:
        if self.labeller == "ai" and self.ai is None:
            raise ConfigError("--labeller ai needs --ai.base-url and --ai.model, the judge's address and name")
        given_sections = {
            "simulated": self.simulated != SimulatedConfig(),
            "ai": self.ai is not None,
            "human": self.human != HumanConfig(),
        }
        for kind, given in given_sections.items():
            if given and kind != self.labeller:
                raise ConfigError(f"--{kind}.* has no effect with --labeller {self.labeller}; use --labeller {kind}")


def task_from_row(row: Mapping[str, Any], where: Where) -> LabelTask:
    """K answers to rank, from a row of `chatwright sample`; DataError names file, line and field."""
    prompt = Prompt.from_dict(row, where)
    completions = tuple(where.text(c, "completions") for c in where.list(row.get("completions"), "completions"))
    reasons = row.get("finish_reason", ["stop"] * len(completions))
    if not isinstance(reasons, list) or len(reasons) != len(completions):
        raise where.error("finish_reason", f"must be a list of {len(completions)}, one for each completion")
    meta = {name: value for name, value in prompt.meta.items() if name not in _ANSWER_FIELDS}
    try:
        return LabelTask(
            prompt=Prompt(messages=prompt.messages, meta=meta),
            completions=completions,
            ended=tuple(reason != "length" for reason in reasons),
        )
    except DataError as error:
        raise where.error("completions", f"{error} Sample 2 to 9 answers per prompt.") from None


def open_rankings(cfg: LabelConfig) -> Record | None:
    """The record of the rankings in `out`, None where people rank: those are never refused nor deleted, and answers that are
    new are further tasks. RunChangedError when the rankings are of other answers or settings."""
    if cfg.labeller == "human":
        return None
    out = Path(cfg.out)
    record = Record.of("label", cfg, {"data": files(cfg.data)})
    open_output(record, cfg, out, record_of_file(out), [out])
    return record


def label(cfg: LabelConfig) -> dict[str, Any]:
    """Write the rankings; returns counts and shares. Running it again adds what is missing."""
    record = open_rankings(cfg)
    tasks = load_rows(cfg.data, task_from_row)
    check_writable(cfg.out)
    if cfg.labeller == "simulated":
        result = _label_simulated(cfg, tasks)
    elif cfg.labeller == "ai":
        result = _label_ai(cfg, tasks)
    else:
        result = _label_human(cfg, tasks)
    if record is not None:
        record.write(record_of_file(cfg.out))
    written = f"{result['rankings']} rankings -> {cfg.out}" if result["rankings"] else "no ranking yet"
    console().print(f"label: {len(tasks)} rows used, {written}")
    return {"labeller": cfg.labeller, "tasks": len(tasks), **result}


def simulated_labeller(cfg: SimulatedConfig, tasks: Sequence[LabelTask]) -> SimulatedLabeller:
    """The labeller of `cfg`; where no tie width is set, one that ties a little over a quarter of the pairs of `tasks`."""
    rubric = rubric_for(cfg.language)
    labeller = SimulatedLabeller(rubric, noise=cfg.noise, tie_width=cfg.tie_width or 0.0, seed=cfg.seed)
    if cfg.tie_width is None:
        labeller.tie_width = choose_tie_width([[s.total for s in labeller.scores(task)] for task in tasks])
    return labeller


def _label_simulated(cfg: LabelConfig, tasks: Sequence[LabelTask]) -> dict[str, Any]:
    labeller = simulated_labeller(cfg.simulated, tasks)
    for task in tasks:
        labeller.submit(task)
    rankings = labeller.collect()
    write_jsonl(cfg.out, (ranking.to_dict() for ranking in rankings))
    figures = summary(rankings)
    console().print(
        f"label: SIMULATED by {labeller.name}: {figures.tie_share:.0%} of the pairs tied "
        f"(width {labeller.tie_width:g}), {figures.flip_share:.0%} of the strict pairs turned round, "
        f"so accuracy can reach {figures.accuracy_ceiling:.0%}"
    )
    return {**figures.to_dict(), "tie_width": labeller.tie_width}


def _label_ai(cfg: LabelConfig, tasks: Sequence[LabelTask]) -> dict[str, Any]:
    assert cfg.ai is not None  # __post_init__ has seen to it
    judge = AIJudge(with_key(cfg.ai))
    out = Path(cfg.out)
    done = _rankings_so_far(out)
    known = {ranking.uuid for ranking in done}
    if strangers := {ranking.labeller for ranking in done} - {judge.name}:
        raise ConfigError(f"{out}: holds rankings by {sorted(map(str, strangers))[0]}; choose another --out")
    left = [task for task in tasks if judge.uuid_of(task) not in known]
    out.parent.mkdir(parents=True, exist_ok=True)
    with ProgressBar("label", len(tasks), done=len(tasks) - len(left), unit="prompt") as bar, open(out, "ab") as file:
        for task in left:
            try:
                ranking = judge.rank(task)
            except UnreadableError:
                bar.advance()
                continue
            except JudgeError:
                kept = f"{len(done)} of {len(tasks)} rankings are in {out}"
                console().print(f"label: {kept}. Run the same command to continue.")
                raise
            done.append(ranking)
            file.write(dumps(ranking.to_dict(), where=cfg.out))
            file.flush()
            os.fsync(file.fileno())
            bar.advance()
    missing = len(tasks) - len(done)
    without = f"; {missing} rows without a ranking" if missing else ""
    console().print(f"label: {judge.name}: {judge.counts.text()}{without}")
    return {"rankings": len(done), "tie_share": tie_share(done), **judge.counts.to_dict()}


def _rankings_so_far(out: Path) -> list[Ranking]:
    """What an earlier run has written; the last line, if a kill tore it, is cut off."""
    if not out.exists():
        return []
    content = out.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        out.write_bytes(whole)
    return load_rankings(out) if whole else []


def with_key(cfg: AIJudgeConfig) -> AIJudgeConfig:
    """The config with the key from the environment where none is given."""
    return cfg if cfg.api_key else replace(cfg, api_key=secret("JUDGE_API_KEY"))


def _label_human(cfg: LabelConfig, tasks: Sequence[LabelTask]) -> dict[str, Any]:
    queue = HumanQueue(cfg.human.folder, name=cfg.human.name, guideline=cfg.human.guideline)
    for task in tasks:
        queue.submit(task)
    rankings = queue.collect()
    pending = len(queue.pending())
    if rankings:
        write_jsonl(cfg.out, (ranking.to_dict() for ranking in rankings))
    console().print(
        f"label: {pending} of {len(tasks)} tasks in {queue.tasks_path} wait for a ranking. Add rows like "
        f'{{"task": "...", "ranking": "B>A=C", "labeller": "ann"}} to {queue.rankings_path}, then run this again.'
        if pending
        else f"label: every task of {queue.tasks_path} is ranked"
    )
    return {"rankings": len(rankings), "pending": pending, "tie_share": tie_share(rankings)}


def tie_share(rankings: Sequence[Ranking]) -> float:
    """Tied pairs / all pairs of ranked answers; 0 without any."""
    relations = [relation for ranking in rankings for _, _, relation in ranking.order.pairs()]
    return sum(relation == 0 for relation in relations) / len(relations) if relations else 0.0
