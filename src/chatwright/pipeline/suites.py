"""`chatwright evaluate`: held-out questions (recipes/evaluate.py), or with `--suite` the suites of evals/suites.

Suites are run from here because toxicity is judged by the server's moderation classifier, which recipes may not import.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from chatwright.engine.checkpoint import write_text
from chatwright.engine.record import Record, Source, files, open_output, record_of_file
from chatwright.errors import ConfigError, DataError
from chatwright.evals.commands import page_of
from chatwright.evals.report import write_html
from chatwright.evals.suites.answer import answer_suite, known_rows
from chatwright.evals.suites.catalog import data_file, list_text, read_items, suites_named
from chatwright.evals.suites.items import Item, Row, Suite, ToxicityJudge
from chatwright.evals.suites.table import suite_figures, text_table
from chatwright.generation.lm import LM, load_model
from chatwright.jsonl import check_writable
from chatwright.model.precision import pick_device, pick_dtype
from chatwright.progress import console
from chatwright.recipes.evaluate import EvaluateConfig, named_models, print_summary
from chatwright.serve.moderation.classifier import Classifier

LIST = "list"


@dataclass(frozen=True, kw_only=True)
class EvaluateCommandConfig(EvaluateConfig):
    """Compare models on held-out questions, or with --suite on public and bundled suites."""

    models: tuple[str, ...] = ()
    """NAME=MODEL of each, in the order to be shown; the first is the baseline: base=smollm2-135m-instruct ppo=runs/ppo."""
    data: tuple[str, ...] = ()
    """Held-out prompts, JSON lines; not with --suite."""
    suite: tuple[str, ...] = ()
    """Suites to run instead: NAME or NAME=FILE of each; `list` shows all, with where their files come from."""
    suite_data: str = "suites"
    """Folder with the files of the public suites; folders one below it are looked into. Nothing is fetched."""
    limit: int = 0
    """First items of each suite; 0: all."""
    moderation: str = ""
    """Folder of `chatwright moderation train`: the judge of the suite toxicity."""


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """Settings that a suite's rows depend on; those of others are refused, as in run folders."""

    suite: str
    """Name."""
    template: str
    """Chat template, for suites whose answers are written."""
    temperature: float
    """Of sampled continuations."""
    seed: int
    """Of sampled continuations."""
    precision: str
    """Compute format."""
    fresh: bool
    """Delete what is there."""


def evaluate(cfg: EvaluateCommandConfig) -> None:
    """Run the command. ConfigError for settings that have no effect together."""
    if cfg.suite:
        _check(cfg)
        if LIST in cfg.suite:
            print(list_text(cfg.suite_data))
        else:
            evaluate_suites(cfg)
        return
    for name in ("data", "models"):
        if not getattr(cfg, name):
            hint = f"--{name} VALUE ... (or `{name} = ...` in a --config file), or --suite NAME"
            raise ConfigError(f"--{name} is required: {hint}")
    for field in ("suite_data", "limit", "moderation"):
        if getattr(cfg, field) != getattr(EvaluateCommandConfig, field):
            raise ConfigError(f"--{field.replace('_', '-')} has no effect without --suite")
    print_summary(EvaluateConfig(**{field.name: getattr(cfg, field.name) for field in fields(EvaluateConfig)}))


def _check(cfg: EvaluateCommandConfig) -> None:
    if cfg.data:
        raise ConfigError("--data has no effect with --suite: run `chatwright evaluate` once with each")
    if LIST in cfg.suite and len(cfg.suite) > 1:
        raise ConfigError("--suite list shows the suites and runs none; leave the other names out")
    if cfg.limit < 0:
        raise ConfigError(f"--limit {cfg.limit}: must be 0 (all items) or more")
    for name in ("corpus", "reference"):
        if getattr(cfg, name):
            raise ConfigError(f"--{name} has no effect with --suite")


def suite_models(models: Sequence[str]) -> dict[str, str]:
    """NAME=MODEL items as a mapping; an item without a name gets the last part of the model's."""
    named = [item if "=" in item else f"{Path(item).name}={item}" for item in models]
    if not named:
        raise ConfigError("--models is required: --models NAME=MODEL ..., e.g. base=smollm2-135m-instruct ppo=runs/ppo")
    found = named_models(named)
    odd = [name for name in found if not all(sign.isalnum() or sign in "._-" for sign in name) or name.startswith(".")]
    if odd:
        raise ConfigError(f"--models {odd[0]}=...: a name consists of letters, digits, '.', '_' and '-'")
    return found


class ModerationJudge:
    """The moderation classifier's category "offensive" as a `ToxicityJudge`."""

    def __init__(self, folder: str) -> None:
        """ModelError when the folder holds no classifier."""
        self._classifier = Classifier.load(folder)
        self.name = f"{self._classifier.name} (category offensive), {Path(folder).name}"

    def rate(self, text: str) -> tuple[float, bool]:
        """Score and flag of the category."""
        judged = self._classifier.judge(text)
        return judged.scores["offensive"], judged.flagged["offensive"]


def evaluate_suites(cfg: EvaluateCommandConfig) -> dict[str, Any]:
    """Run suites on models and write report.json and report.html; returns the figures by suite.

    Rows are kept in `suites/` below --out; what is there already is not computed again. Everything that can be wrong with
    suites, files and judge is said before a model is loaded.
    """
    models, suites = suite_models(cfg.models), suites_named(cfg.suite)
    judge = _judge(cfg, [suite for suite, _ in suites.values()])
    data = {name: data_file(suite, cfg.suite_data, given) for name, (suite, given) in suites.items()}
    items = {name: read_items(suite, data[name], cfg.limit) for name, (suite, _) in suites.items()}
    folder = Path(cfg.out)
    check_writable(folder / "report.json")
    (folder / "suites").mkdir(exist_ok=True)
    for name, (suite, _) in suites.items():
        for model, source in models.items():
            _open(cfg, folder, suite, model, source, data[name])
    rows: dict[str, dict[str, list[Row]]] = {name: {} for name in suites}
    for model, source in models.items():
        for name, found in _run_model(cfg, folder, model, source, {n: s for n, (s, _) in suites.items()}, items).items():
            rows[name][model] = found
    figures = {
        name: suite_figures(suite, items[name], rows[name], judge, cfg.seed) | {"data": data[name].name}
        for name, (suite, _) in suites.items()
    }
    write_report(folder, figures, models)
    print(text_table(figures))
    console().print(f"evaluate: {folder / 'report.json'}, {folder / 'report.html'}")
    return figures


def _judge(cfg: EvaluateCommandConfig, suites: Sequence[Suite]) -> ToxicityJudge | None:
    needed = [suite.name for suite in suites if suite.needs_moderation]
    if needed and not cfg.moderation:
        raise ConfigError(
            f"--suite {needed[0]} needs --moderation FOLDER, the classifier that judges; make one with `moderation train`"
        )
    if cfg.moderation and not needed:
        raise ConfigError("--moderation has no effect without --suite toxicity")
    return ModerationJudge(cfg.moderation) if needed else None


def rows_file(folder: Path, model: str, suite: str) -> Path:
    """Path of the rows of a model and a suite."""
    return folder / "suites" / f"{model}-{suite}.jsonl"


def _open(cfg: EvaluateCommandConfig, folder: Path, suite: Suite, model: str, source: str, data: Path) -> None:
    """Rows that are there already were made by the same model, file and settings, or it is a RunChangedError."""
    path = rows_file(folder, model, suite.name)
    written, sampled = suite.decoding is not None, suite.decoding is not None and not suite.decoding.greedy
    settings = AnswerSettings(
        suite=suite.name,
        template=cfg.template if written else "",
        temperature=cfg.temperature if sampled else 0.0,
        seed=cfg.seed if sampled else 0,
        precision=cfg.precision,
        fresh=cfg.fresh,
    )
    found = {"models": [Source(place=source, kind="language", prefix=f"{model}=")], "suite_data": files([data])}
    open_output(Record.of("evaluate", settings, found), settings, path, record_of_file(path), [path])


def _run_model(
    cfg: EvaluateCommandConfig,
    folder: Path,
    model: str,
    source: str,
    suites: Mapping[str, Suite],
    items: Mapping[str, Sequence[Item]],
) -> dict[str, list[Row]]:
    """All suites on one model, which is loaded only when something is missing."""
    lm: LM | None = None
    out = {}
    for name, suite in suites.items():
        path = rows_file(folder, model, name)
        by_id = {row["id"]: row for row in known_rows(path)}
        if all(item.id in by_id for item in items[name]):
            out[name] = [by_id[item.id] for item in items[name]]
            continue
        lm = lm or _load(cfg, source)
        title = f"evaluate {model} ({name})"
        settings = {"temperature": cfg.temperature, "seed": cfg.seed}
        out[name] = answer_suite(lm, suite, items[name], path, title=title, **settings)  # type: ignore[arg-type]
    return out


def _load(cfg: EvaluateCommandConfig, source: str) -> LM:
    device = pick_device(cfg.device)
    network, tokenizer = load_model(source, dtype=pick_dtype(cfg.precision, device), device=device, template=cfg.template)
    return LM(network, tokenizer, max_batch=cfg.batch_size)


def write_report(folder: Path, figures: Mapping[str, Any], models: Mapping[str, str]) -> None:
    """Add the figures to report.json and the page of a folder, which may be a chain's; suites of earlier calls stay."""
    path = folder / "report.json"
    report = _read(path) if path.is_file() else {}
    report["suites"] = {**report.get("suites", {}), **figures}
    page = page_of(folder) if (folder / "page.json").is_file() else _new_page(folder, models)
    page["report"] = {**page["report"], "suites": report["suites"]}
    write_text(path, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "page.json", json.dumps(page, ensure_ascii=False) + "\n")
    write_html(page, folder / "report.html")


def _new_page(folder: Path, models: Mapping[str, str]) -> dict[str, Any]:
    named = " ".join(f"{name}={source}" for name, source in models.items())
    title = (f"Evaluation {folder.name}", f"评测 {folder.name}")
    return {"report": {}, "title": title, "run": {"model": named, "folder": str(folder)}}


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); choose another --out") from None
