"""Rules of the house that a linter cannot say: layers, start-up time, sizes, names that must not appear."""

from __future__ import annotations

import ast
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
SOURCES = sorted(p for p in (TOP / "src" / "chatwright").rglob("*.py") if p.parent.name != "versions")  # those are generated
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 80


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={**os.environ, **env}
    )


def test_import_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([str(lint)], cwd=TOP, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stdout + result.stderr


def test_help_is_fast_and_loads_no_torch() -> None:
    code = (
        "import sys; from chatwright.cli import main; code = main(['--help']);"
        "heavy = {'torch', 'transformers', 'numpy', 'tyro', 'tokenizers', 'rich'} & set(sys.modules);"
        "sys.exit(f'loaded {sorted(heavy)}' if heavy else code)"
    )
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = run_python(code)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)  # processor time: other programs may load the machine
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert result.returncode == 0, result.stderr
    assert min(seconds) < 0.3, f"chatwright --help took {min(seconds):.2f} s"


@pytest.mark.parametrize(
    "package",
    "text records jsonl config hub errors house labellers feedback serve.chat serve.arena serve.desk".split(),
)
def test_runs_without_torch(package: str) -> None:
    """Every module below `package` imports where torch cannot be imported."""
    code = f"""
import importlib, pkgutil, sys
sys.modules["torch"] = None
import chatwright.{package} as package
names = [m.name for m in pkgutil.walk_packages(getattr(package, "__path__", []), "chatwright.{package}.")]
for name in names:
    importlib.import_module(name)
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_files_and_functions_stay_short() -> None:
    too_long = []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > MAX_FILE_LINES:
            too_long.append(f"{path.relative_to(TOP)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    too_long.append(f"{path.relative_to(TOP)}:{node.lineno} {node.name}: {lines} lines")
    assert not too_long, "\n".join(too_long)


def test_no_pickle_and_no_stubs_in_the_package() -> None:
    """Pickle from outside is code from outside; NotImplementedError is a promise not kept."""
    pickle, code = r"\bimport pickle\b|\bpickle\.load|torch\.load\(", r"\beval\(|\bexec\("
    forbidden = re.compile(rf"{pickle}|{code}|raise NotImplementedError")
    found = []
    for path in SOURCES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if (match := forbidden.search(line)) and ".eval()" not in line:
                found.append(f"{path.relative_to(TOP)}:{number}: {match.group()}")
    assert not found, "\n".join(found)


def test_install_instructions_name_no_package_index() -> None:
    """pip's own settings decide where packages come from (docs/decisions/0002-dependencies.md)."""
    for name in ("pyproject.toml", "Makefile", ".ci/run"):
        text = (TOP / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://|--index-url|extra-index|\+cpu", text), name
