"""`chatwright prompt test` and `chatwright prompt lint`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from chatwright.config.secrets import secrets_of_services
from chatwright.errors import ConfigError, UsageError
from chatwright.progress import console
from chatwright.serve.prompts.lint import Finding, lint, lint_suite
from chatwright.serve.prompts.report import page, table
from chatwright.serve.prompts.suite import Suite, load_suite
from chatwright.serve.prompts.testing import Answer, Answerer, run_suite, summary

Language = Literal["en", "zh"]


@dataclass(frozen=True, kw_only=True)
class TestConfig:
    """Ask models every case in every wording and show which wording wins."""

    __test__ = False  # not a test of pytest's

    file: Positional[str]
    """A file of prompt tests (TOML), or `example` for the bundled one."""
    model: tuple[str, ...] = ()
    """Models to ask, also as `name=http://host:port/v1` for one behind an OpenAI-compatible server; none: those of the
    file."""
    out: str = "prompt-test"
    """Folder for answers, report.json and report.html; run it again and it goes on there."""
    language: Language = "en"
    """Language of the page."""


@dataclass(frozen=True, kw_only=True)
class LintConfig:
    """Say what in a prompt is likely to go wrong, and why."""

    prompt: Positional[str]
    """A text; a .txt or .md file of one prompt; a .toml file of prompt tests; `-` reads standard input."""
    language: Language = "en"
    """Language of the explanations."""
    json: bool = False
    """Print the findings as JSON."""


def test(cfg: TestConfig) -> dict[str, Any]:
    """Write the report; returns it."""
    suite = load_suite(cfg.file)
    models = cfg.model or suite.models
    if not models:
        raise UsageError(f"{cfg.file}: names no models; give --model NAME")
    if len(set(models)) != len(models):
        raise ConfigError("--model: the same model is given twice")
    folder = Path(cfg.out)
    keys = secrets_of_services("CHATWRIGHT_UPSTREAM_API_KEY", [name for name, url in map(_split, models) if url])
    scored = run_suite(suite, models, folder, lambda model: _open(model, suite, keys))
    found = summary(suite, scored, models)
    report = {
        "name": suite.name, "file_sha256": suite.digest, "settings": asdict(suite.settings), "cases": len(suite.cases),
        "models": found, "answers": [asdict(one) for one in scored],
    }  # fmt: skip
    text = json.dumps(report, indent=1, ensure_ascii=False, default=dict)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.html").write_text(page(suite.name, found, scored, cfg.language), encoding="utf-8")
    print(table(found))
    console().print(f"prompt test: report in {folder / 'report.html'}")
    return report


test.__test__ = False  # type: ignore[attr-defined]


def _split(model: str) -> tuple[str, str]:
    """(name, address) of a model behind an address, (model, "") of one in this process."""
    name, _, url = model.partition("=")
    return (name, url) if url.startswith(("http://", "https://")) else (model, "")


def _open(model: str, suite: Suite, keys: Mapping[str, str]) -> Answerer:
    """The model in this process, or the one behind an address."""
    name, url = _split(model)
    if url:
        from chatwright.serve.prompts.remote import remote_answerer

        return remote_answerer(name, url, suite, key=keys[name])
    return local_answerer(model, suite)


def local_answerer(name: str, suite: Suite) -> Answerer:
    """Answers of a model in this process."""
    from chatwright.generation.lm import load  # torch: only when something has to be answered

    lm, drawn = load(name), suite.settings

    def answer(conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[list[Answer]]:
        found = lm.generate(
            list(conversations), max_new_tokens=drawn.max_new_tokens, temperature=drawn.temperature, seed=drawn.seed,
            n=drawn.samples,
        )  # fmt: skip
        answers = [Answer(text=one.text, finished=one.finish_reason == "stop") for one in found]
        return [answers[at : at + drawn.samples] for at in range(0, len(answers), drawn.samples)]

    return answer


def lint_command(cfg: LintConfig) -> list[dict[str, Any]]:
    """Print and return the findings."""
    name, findings = _findings(cfg)
    rows = [finding.to_dict(cfg.language) for finding in findings]
    if cfg.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return rows
    for row in rows:
        print(f"{name}:{row['line']}: {row['severity']} {row['rule']}: {row['explanation']}\n    {row['suggestion']}")
    if not rows:
        print(f"{name}: nothing found")
    return rows


def _findings(cfg: LintConfig) -> tuple[str, list[Finding]]:
    if cfg.prompt == "-":
        return "stdin", lint(sys.stdin.read())
    path = Path(cfg.prompt) if len(cfg.prompt) < 300 and "\n" not in cfg.prompt else Path("")
    if path.suffix == ".toml":
        return str(path), lint_suite(load_suite(path))
    if path.suffix in (".txt", ".md"):
        try:
            return str(path), lint(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: is not UTF-8 text: {error}") from error
    return "prompt", lint(cfg.prompt)
