"""`chatwright run`: the stages that a TOML file lists, one after the other, and a report of them where it asks for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from chatwright import config as configs
from chatwright.errors import ConfigError, RunChangedError
from chatwright.pipeline import run_report
from chatwright.pipeline.settings import RunConfig
from chatwright.pipeline.times import StageTimes, said_anew
from chatwright.progress import console


def run(cfg: RunConfig) -> list[Any]:
    """Run every [[stage]] of a TOML file in order; a complete stage is not run again, one of other inputs
    or settings is refused, or with --fresh run anew. `report = FOLDER` before them asks
    for FOLDER/report.html. ConfigError, before anything is run, for a file that names what does not exist."""
    table = configs.read_toml(cfg.file)
    stages, folder = table.get("stage"), table.get("report", "")
    if not isinstance(stages, list) or not stages or not isinstance(folder, str) or set(table) - {"stage", "report"}:
        raise ConfigError(
            f'{cfg.file}: holds [[stage]] tables, each with command = "..." and its settings, and before them at most '
            'report = "FOLDER"'
        )
    prepared: list[tuple[str, Callable[[Any], Any], Any]] = []
    for number, stage in enumerate(stages, start=1):
        settings = dict(stage)
        name = str(settings.pop("command", ""))
        function, config_class = _command(name, f"{cfg.file}: stage {number}")
        where = f"{cfg.file}: stage {number} ({name})"
        prepared.append((name, function, configs.from_dict(config_class, settings, where=where)))
    named = [(name, config) for name, _, config in prepared]
    if folder:
        run_report.check(named, cfg.file)
    times = StageTimes(Path(folder) / "chain.json" if folder else None)
    results = []
    for number, (name, function, config) in enumerate(prepared, start=1):
        console().print(f"{number}/{len(prepared)} {name}", style="bold")

        results.append(_stage(times, f"{number} {name}", function, config, fresh=cfg.fresh))
    if folder:
        run_report.write(named, Path(folder), times, cfg.file)
    return results


def _stage(times: StageTimes, title: str, function: Callable[[Any], Any], config: Any, *, fresh: bool) -> Any:
    """Run one stage; `fresh`: one that was made from other inputs or settings is made anew."""
    try:
        return times.stage(title, lambda: function(config))
    except RunChangedError as error:
        if not fresh or not hasattr(config, "fresh"):
            raise
        console().print(said_anew(error))
        times.forget(title)
        return times.stage(title, lambda: function(replace(config, fresh=True)))


def _command(name: str, where: str) -> tuple[Callable[[Any], Any], type]:
    from chatwright.commands import command_of

    return command_of(name, where=where)
