"""Files of prompt tests: wordings (variants), cases, and what makes an answer good. TOML; see docs/howto/prompts.md."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from chatwright.config import from_dict, read_toml
from chatwright.errors import ChatwrightError, ConfigError, DataError
from chatwright.labellers.rubric import rubric_for
from chatwright.records.prompt_template import PromptTemplate
from chatwright.serve.prompts.assertions import Assertions

EXAMPLE = "example"
_TABLES = {"name", "models", "settings", "weights", "judge", "variant", "case", "all"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How answers are drawn: the same for every wording."""

    max_new_tokens: int = 128
    """Longest answer."""
    temperature: float = 0.0
    """0: always the likeliest token."""
    samples: int = 1
    """Answers per case; more than one needs a temperature."""
    seed: int = 0
    """Fixes what is drawn."""
    rubric: str = ""
    """`en` or `zh`: the museum rubric scores too; cases need keywords."""

    def __post_init__(self) -> None:
        if self.samples < 1 or self.max_new_tokens < 1 or self.temperature < 0:
            raise ConfigError("samples and max_new_tokens must be at least 1, temperature at least 0")
        if self.samples > 1 and self.temperature == 0:
            raise ConfigError("samples: have no effect at temperature 0, where every answer is the same")
        if self.rubric:
            rubric_for(self.rubric)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A model that compares the wordings' answers, each pair in both places."""

    base_url: str
    """Address of an OpenAI-compatible API, ending in /v1; the key is in JUDGE_API_KEY."""
    model: str
    """Its model."""
    guideline: str = "Prefer the answer that is helpful, honest and harmless."
    """What "better" means."""
    max_tokens: int = 2048
    """Longest reply of the judge in tokens, its thinking included."""
    max_unreadable: float = 0.1
    """Largest share of replies that hold no verdict; above it the test fails."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A wording."""

    name: str
    prompt: PromptTemplate
    system: PromptTemplate


@dataclass(frozen=True, kw_only=True)
class Case:
    """Values for the places, and what the answer must be."""

    name: str
    values: Mapping[str, str]
    assertions: Assertions
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A whole file."""

    name: str
    models: tuple[str, ...]
    settings: Settings
    variants: tuple[Variant, ...]
    cases: tuple[Case, ...]
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weight per assertion, `rubric` and `judge`; 1 where none is given."""
    judge: Judge | None = None
    digest: str = ""
    """SHA-256 of the file."""

    def messages(self, variant: Variant, case: Case) -> list[dict[str, str]]:
        """The conversation of a case in a wording."""
        rows = []
        for role, template in (("system", variant.system), ("user", variant.prompt)):
            used = {name: value for name, value in case.values.items() if name in template.variables}
            if text := template.render(used):
                rows.append({"role": role, "content": text})
        return rows


def load_suite(path: str | Path) -> Suite:
    """Read and check a file; `example` is the bundled one. Errors name the file, the table and what to do."""
    if str(path) == EXAMPLE:
        path = Path(str(resources.files("chatwright") / "bundled" / "prompts" / "example.toml"))
    tables = read_toml(path)
    if unknown := sorted(set(tables) - _TABLES):
        raise ConfigError(f"{path}: {unknown[0]}: no such table; there are {', '.join(sorted(_TABLES))}")
    common = dict(tables.get("all", {}))
    variants = [_variant(row, f"{path}: variant {n}") for n, row in enumerate(_list(tables, "variant", path), start=1)]
    cases = [_case({**common, **row}, f"{path}: case {n}") for n, row in enumerate(_list(tables, "case", path), start=1)]
    suite = Suite(
        name=str(tables.get("name", Path(path).stem)),
        models=tuple(map(str, tables.get("models", ()))),
        settings=from_dict(Settings, tables.get("settings", {}), where=f"{path}: settings"),
        variants=tuple(variants),
        cases=tuple(cases),
        weights=_weights(tables.get("weights", {}), path),
        judge=from_dict(Judge, tables["judge"], where=f"{path}: judge") if "judge" in tables else None,
        digest=hashlib.sha256(Path(path).read_bytes()).hexdigest(),
    )
    _check(suite, path)
    return suite


def _list(tables: Mapping[str, Any], name: str, path: str | Path) -> list[dict[str, Any]]:
    rows = tables.get(name)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{path}: needs at least one [[{name}]]")
    return rows


def _variant(row: dict[str, Any], where: str) -> Variant:
    if unknown := sorted(set(row) - {"name", "prompt", "system"}):
        raise ConfigError(f"{where}: {unknown[0]}: no such key; there are name, prompt, system")
    if not isinstance(row.get("name"), str) or not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        raise ConfigError(f"{where}: needs a name and a prompt")
    try:
        system = PromptTemplate.parse(str(row.get("system", "")))
        return Variant(name=row["name"], prompt=PromptTemplate.parse(row["prompt"]), system=system)
    except DataError as error:
        raise ConfigError(f"{where}: {error}") from error


def _case(row: dict[str, Any], where: str) -> Case:
    values = row.pop("values", {})
    name, keywords = row.pop("name", ""), row.pop("keywords", [])
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise ConfigError(f"{where}: values: must be a table of texts")
    if not isinstance(keywords, list) or not all(isinstance(word, str) for word in keywords):
        raise ConfigError(f"{where}: keywords: must be a list of texts")
    assertions = from_dict(Assertions, row, where=where)
    return Case(name=str(name) or where.rpartition(" ")[2], values=values, assertions=assertions, keywords=tuple(keywords))


def _weights(table: Any, path: str | Path) -> dict[str, float]:
    known = {*Assertions.__dataclass_fields__, "rubric", "judge"}
    for name, weight in table.items():
        if name not in known or not isinstance(weight, int | float) or weight < 0:
            raise ConfigError(f"{path}: weights: {name} = {weight!r}: must be one of {', '.join(sorted(known))}, 0 or more")
    return {name: float(weight) for name, weight in table.items()}


def _check(suite: Suite, path: str | Path) -> None:
    for kind, names in (("variant", [v.name for v in suite.variants]), ("case", [c.name for c in suite.cases])):
        if len(set(names)) != len(names):
            raise ConfigError(f"{path}: two {kind}s have the same name; names tell them apart in the report")
    if suite.judge is not None and not 2 <= len(suite.variants) <= 9:
        raise ConfigError(f"{path}: judge: compares 2 to 9 variants, there are {len(suite.variants)}")
    known = {name for v in suite.variants for name in {**v.prompt.variables, **v.system.variables}}
    for case in suite.cases:
        scored = case.assertions.check("", finished=True) or suite.judge or suite.settings.rubric
        if not scored:
            raise ConfigError(f"{path}: case {case.name}: nothing says what a good answer is; add an assertion")
        if suite.settings.rubric and not case.keywords:
            raise ConfigError(f"{path}: case {case.name}: the rubric needs keywords = [...]")
        if extra := sorted(set(case.values) - known):
            raise ConfigError(f"{path}: case {case.name}: {extra[0]}: no variant has {{{{{extra[0]}}}}}")
        for variant in suite.variants:
            used = {**variant.prompt.variables, **variant.system.variables}
            if missing := [name for name, default in used.items() if default is None and name not in case.values]:
                raise ConfigError(f"{path}: case {case.name}: no value for {missing[0]}, which variant {variant.name} needs")
            try:
                suite.messages(variant, case)
            except ChatwrightError as error:
                raise ConfigError(f"{path}: case {case.name}, variant {variant.name}: {error}") from error
