"""Every command can be called, explains itself, and is documented."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from chatwright import cli
from chatwright.commands import command_of
from chatwright.config import dump_toml, field_types, from_dict, parse, read_toml
from chatwright.config.values import key_of, section_of

TOP = Path(__file__).resolve().parents[2]
NAMES = sorted(cli.COMMANDS)


def sections(cls: type, prefix: str = "") -> dict[str, type]:
    """Dotted prefix -> config class, the outermost one included."""
    found = {prefix: cls}
    for name, kind in field_types(cls).items():
        inner = section_of(kind)
        if inner is not None:
            found |= sections(inner, f"{prefix}{name}.")
    return found


def documented_fields(cls: type) -> set[str]:
    """Names of the fields of `cls` and its bases that a string follows."""
    names: set[str] = set()
    for base in cls.__mro__:
        if not dataclasses.is_dataclass(base):
            continue
        (body,) = (n.body for n in ast.parse(textwrap.dedent(inspect.getsource(base))).body)  # type: ignore[attr-defined]
        for field, after in zip(body, body[1:], strict=False):
            said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and after.value.value
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and said:
                names.add(field.target.id)
    return names


@pytest.mark.parametrize("name", NAMES)
def test_command_exists_with_a_frozen_documented_config(name: str) -> None:
    function, config_class = cli.load(name)
    assert callable(function)
    for prefix, cls in sections(config_class).items():
        parameters: Any = cls.__dataclass_params__  # type: ignore[attr-defined]
        keyword_only = all(field.kw_only for field in dataclasses.fields(cls))
        assert parameters.frozen and keyword_only, f"{cls.__name__} must be frozen and keyword-only"
        assert cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}("), f"{cls.__name__} needs a docstring"
        missing = {f.name for f in dataclasses.fields(cls)} - documented_fields(cls)
        assert not missing, f"no help text under {[prefix + m for m in sorted(missing)]} of {cls.__name__}"


@pytest.mark.parametrize("name", NAMES)
def test_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert f"usage: chatwright {name}" in text and "--config FILE.toml" in text
    for prefix, cls in sections(cli.load(name)[1]).items():
        for field in dataclasses.fields(cls):
            if section_of(field_types(cls)[field.name]) is None:
                flag = f"--{prefix}{key_of(field.name)}".replace("_", "-")
                assert flag in text or field.name.upper() in text or "positional arguments" in text, flag


@pytest.mark.parametrize("name", NAMES)
def test_defaults_survive_a_toml_file(name: str, tmp_path: Path) -> None:
    """What a run folder's config.toml holds gives the same settings again."""
    _, config_class = cli.load(name)

    def some(hint: Any) -> Any:
        if get_origin(hint) is Literal:
            return get_args(hint)[0]
        return ("x",) if get_origin(hint) is tuple else "x"

    required = {
        f.name: some(field_types(config_class)[f.name])
        for f in dataclasses.fields(config_class)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    cfg = config_class(**required)
    path = tmp_path / "config.toml"
    path.write_text(dump_toml(cfg), encoding="utf-8")
    assert parse(config_class, ["--config", str(path)], prog="x") == cfg


def documents() -> dict[str, str]:
    paths = [TOP / "README.md", TOP / "README.zh-CN.md", TOP / "CONTRIBUTING.md", *(TOP / "docs").rglob("*.md")]
    return {str(path.relative_to(TOP)): path.read_text(encoding="utf-8") for path in paths}


def test_every_command_is_documented() -> None:
    reference = documents()["docs/howto/commands.md"]
    missing = [name for name in NAMES if f"`chatwright {name}" not in reference]
    assert not missing, f"docs/howto/commands.md says nothing about: {', '.join(missing)}"


def test_documents_show_only_commands_and_flags_that_exist() -> None:
    """Every `chatwright ...` line inside a code block parses: the command is known and so are its flags."""
    wrong = []
    for name, text in documents().items():
        for block in re.findall(r"```(?:sh|bash|console|shell)\n(.*?)```", text, flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if match := re.match(r"\$?\s*(?:\S*/)?chatwright\s+(.*)", line.split("  #")[0]):
                    wrong += [f"{name}: {line.strip()}: {problem}" for problem in problems(match.group(1))]
    assert not wrong, "\n".join(wrong)


def problems(arguments: str) -> list[str]:
    """What is wrong with a documented command line (values are not judged)."""
    words = arguments.split()
    if words[0].startswith("-"):
        return []
    command = next((c for c in (" ".join(words[:2]), words[0]) if c in cli.COMMANDS), None)
    if command is None:
        is_group = any(c.startswith(f"{words[0]} ") for c in NAMES) and words[1:2] == ["--help"]
        return [] if is_group else ["unknown command"]
    known = {"--help", "--config"}
    for prefix, cls in sections(cli.load(command)[1]).items():
        flags = [f"{prefix}{key_of(f.name)}".replace("_", "-") for f in dataclasses.fields(cls)]
        known |= {f"--{flag}" for flag in flags}
        known |= {f"--{head}{dot}no-{tail}" for head, dot, tail in (flag.rpartition(".") for flag in flags)}
    given = [word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--") and word != "--"]
    return [f"unknown flag {flag}" for flag in given if flag not in known]


def test_links_inside_the_documents_lead_somewhere() -> None:
    broken = []
    for name, text in documents().items():
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if not re.match(r"[a-z]+:", target) and not ((TOP / name).parent / target).exists():
                broken.append(f"{name}: {target}")
    assert not broken, "\n".join(broken)


def test_code_named_by_the_methods_pages_exists() -> None:
    """`path.py:name` in docs/methods leads to a definition in that file."""
    missing = []
    for name, text in documents().items():
        if not name.startswith("docs/methods"):
            continue
        for path, symbol in re.findall(r"`([\w/]+\.py)(?::(\w+))?`", text):
            source = TOP / "src" / "chatwright" / path
            defined = source.is_file() and (
                not symbol or re.search(rf"^(?:def|class) {symbol}\b", source.read_text(encoding="utf-8"), re.MULTILINE)
            )
            if not defined:
                missing.append(f"{name}: {path}:{symbol}")
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("path", sorted((TOP / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_run_files_name_commands_and_settings_that_exist(path: Path) -> None:
    stages = read_toml(path)["stage"]
    for number, stage in enumerate(stages, start=1):
        settings = dict(stage)
        _, config_class = command_of(settings.pop("command"), where=f"{path.name}: stage {number}")
        from_dict(config_class, settings, where=f"{path.name}: stage {number}")
    assert len(stages) > 1
