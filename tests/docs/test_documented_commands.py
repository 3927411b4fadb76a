"""Every `chatwright ...` line of the code blocks in README, README.zh-CN and docs/ is a command that works.

A page is followed from top to bottom in a folder of its own: a line's files are those that earlier lines wrote, or small
ones made for it. A named model is a tiny one. Lines of a few commands are parsed only, for the reasons in PARSED_ONLY.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import openpyxl
import pytest

import tiny_training as tiny
from chatwright import cli, config, hub
from chatwright.commands import COMMANDS, load
from chatwright.hub import remote

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]
MUSEUM = ROOT / "src/chatwright/bundled/museum/en"

PARSED_ONLY = {
    "quickstart": "takes minutes; tests/recipes follow a chain to its end",
    "teach": "takes minutes; tests/recipes/test_tiny_loop.py follows it to its end",
    "run": "takes minutes; tests/recipes/test_run_file.py follows it to its end",
    "retrain": "takes minutes; tests/recipes/test_retrain.py follows it to its end",
    "serve": "runs until it is stopped",
    "chat": "reads from a terminal",
    "models pull": "needs the network",
    "cldr fetch": "needs the network",
    "wordnet text": "needs the network",
    "data pairs": "reads CLDR, which needs the network",
    "moderation train": "reads data sets of others",
    "moderation check": "reads what `moderation train` makes",
    "translate": "needs a model of recipes/translate.toml",
    "pretrain": "trains by the clock, or for hours",
    "prompt test": "generates some hundred answers, or asks a server",
    "report": "reads a finished chain",
    "overopt": "reads what other reward models have scored",
    "evaluate": "takes minutes; tests/recipes/test_tiny_loop.py runs it",
    "cloze": "needs a masked model",
    "users delete": "needs a workspace with accounts",
    "users reset-admin": "needs a workspace with an administrator",
    "runs compare": "needs two finished runs",
}
NEEDS = {  # lines of other commands that only parse: what they need and a test does not have
    "ai.base-url": "asks an AI judge at an address",
    "runs/quickstart": "reads a finished quickstart",
    "--words": "needs a trained embedding head",
    "runs/embed": "needs a trained embedding head",
    "--labeller human": "waits until people have ranked",
}
SMALL = {
    "sft": "--train.steps 1 --train.batch-size 2 --train.frozen-layers 0",
    "reward": "--train.epochs 1 --train.frozen-layers 0 --eval.share 0.25",
    "dpo": "--train.steps 1",
    "ppo": "--train.steps 1 --train.frozen-layers 0 --rollout.batch-size 4 --rollout.max-new-tokens 4 "
    "--ppo.minibatch-size 4 --ptx.block-tokens 16 --ptx.held-out 1 --ignore-gate",
    "embed-train": "--train.steps 1",
    "sample": "--n 3 --max-new-tokens 4",
    "replay": "--num-texts 4 --max-new-tokens 24",
    "generate": "--max-new-tokens 4",
    "bestofn": "--n 2 --max-new-tokens 4",
    "tokenizer train": "--vocab-size 400",
}
"""Flags that make a command small: they take the place of the line's own, where it has them."""
DROPPED = {"sft": ("--train.epochs",)}
"""Flags of lines that contradict those of SMALL."""


class Line(NamedTuple):
    """A command of a page."""

    page: Path
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.number}: {self.text}"


def lines_of(page: Path) -> Iterator[Line]:
    """The command lines in a page's code blocks; a line that ends with a backslash continues."""
    text = page.read_text(encoding="utf-8")
    for block in re.finditer(r"^```\w*[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        number = text.count("\n", 0, block.start(1)) + 1
        joined = re.sub(r"\\\n", lambda _: " \0", block[1])
        for line in joined.split("\n"):
            command = re.sub(r" \0\s*", " ", line).strip().removeprefix("$ ")
            if re.match(r"(\w+=\S* )*(\S*/)?chatwright\s", command):
                yield Line(page, number, command)
            number += 1 + line.count("\0")


def arguments(line: Line) -> list[str]:
    """The arguments behind `chatwright`, without comment and redirection."""
    words = shlex.split(line.text.replace("$MUSEUM", str(MUSEUM)), comments=True)
    start = next(n for n, word in enumerate(words) if word.endswith("chatwright"))
    words = words[start + 1 :]
    return words[: words.index(">")] if ">" in words else words


def split(args: list[str]) -> tuple[str, list[str]]:
    """(command, its arguments)."""
    name = " ".join(args[:2]) if " ".join(args[:2]) in COMMANDS else args[0]
    return name, args[len(name.split()) :]


def reason_to_parse_only(line: Line, name: str) -> str | None:
    """Why a line is not run; None: it is."""
    return PARSED_ONLY.get(name) or next((why for part, why in NEEDS.items() if part in line.text), None)


def made_small(name: str, args: list[str]) -> list[str]:
    """The arguments with the flags of SMALL."""
    small = SMALL.get(name, "").split()
    replaced = {word for word in small if word.startswith("--")} | set(DROPPED.get(name, ()))
    out: list[str] = []
    skipping = False
    for word in args:
        skipping = word.partition("=")[0] in replaced if word.startswith("--") else skipping
        out += [] if skipping else [word]
    return [*out, *small]


class Desk:
    """Makes the files that a line names and that do not exist."""

    def __init__(self, model: Path, reward: Path) -> None:
        self.model, self.reward = model, reward

    def make(self, name: str) -> None:
        """A small file or folder under this name, when it is one that pages speak of."""
        path = Path(name.partition("=")[2] or name)
        if path.exists() or path.is_absolute() or path.name.startswith("-"):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        makers: dict[str, Callable[[Path], Any]] = {
            r"demo.*\.jsonl": lambda p: tiny.write_rows(p, tiny.demonstration_rows()),
            r"rankings\.jsonl": lambda p: tiny.write_rows(p, tiny.ranking_rows(40)),
            r"(prompts|questions|held-?out|my-prompts)\.jsonl": lambda p: tiny.write_rows(p, tiny.prompt_rows(6)),
            r"samples\.jsonl": lambda p: tiny.write_rows(p, [{**r, "ranking": None} for r in tiny.ranking_rows(4)]),
            r"pairs\.jsonl": lambda p: tiny.write_rows(p, [{"a": f"{w} one", "b": f"{w} two"} for w in tiny.WORDS]),
            r"their-file\.jsonl": lambda p: tiny.write_rows(p, ARGILLA),
            r".*\.xlsx": _workbook,
            r".*\.txt": lambda p: p.write_text(tiny.corpus_text(), encoding="utf-8"),
            r"texts": _texts,
            r"prompt\.md": lambda p: p.write_text("Write a report about rain.", encoding="utf-8"),
            r"my-prompts\.toml": lambda p: shutil.copy(next((ROOT / "src").rglob("example*.toml")), p),
            r"sft\.toml": lambda p: p.write_text('data = ["demos.jsonl"]\nout = "runs/from-a-file"\n', encoding="utf-8"),
            r"workspace": lambda p: cli.main(["demo-desk", "--workspace", str(p)]),
            r".*reward.*": lambda p: shutil.copytree(self.reward, p),
        }
        if "runs" in path.parts and "reward" not in path.name and not path.suffix:
            shutil.copytree(self.model, path)
            return
        for pattern, maker in makers.items():
            if re.fullmatch(pattern, path.name):
                maker(path)
                return


ARGILLA = [
    {
        "fields": {"prompt": "q", "response-1": "a", "response-2": "b"},
        "responses": {"ranking": [{"value": ["response-2", "response-1"], "user_id": "u"}]},
    }
]


def _workbook(path: Path) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in (["prompt", "completion"], ["q", "a"]):
        book.active.append(row)
    book.save(path)


def _texts(path: Path) -> None:
    path.mkdir()
    for n in range(3):
        random = Random(n)
        paragraphs = ("".join(random.choices("abcdefgh ", k=400)) for _ in range(8))
        (path / f"{n}.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, make_tokenizer: Callable[..., Any]) -> Desk:
    """A tiny model and a reward model."""
    home = tmp_path_factory.mktemp("pages")
    model = tiny.save_tiny_model(home / "model", make_tokenizer(chat_template=tiny.SHORT_JINJA), max_positions=256)
    rankings = tiny.write_rows(home / "rankings.jsonl", tiny.ranking_rows(40))
    command = ["reward", str(rankings), "--model", str(model), "--out", str(home / "reward"), "--device", "cpu"]
    assert cli.main(made_small("reward", command)) == 0
    return Desk(model, home / "reward")


@pytest.mark.parametrize("page", [page for page in PAGES if any(lines_of(page))], ids=lambda p: str(p.relative_to(ROOT)))
def test_the_commands_of_a_page(
    page: Path, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(hub, "fetch", lambda named: desk.model)
    monkeypatch.setattr(remote, "fetch", lambda name, refresh=False: desk.model)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for line in lines_of(page):
        name, args = split(arguments(line))
        assert name in COMMANDS, f"{line}: no such command"
        small = made_small(name, args)
        outputs = {args[n + 1] for n, word in enumerate(args[:-1]) if word == "--out"}
        for word in args:
            if word not in outputs and not (name == "demo-desk" and word == "workspace"):
                desk.make(word.rstrip("/"))
        if "sft.toml" in line.text:
            desk.make("demos.jsonl")
        cfg = config.parse(load(name)[1], args, prog=f"chatwright {name}", positional=COMMANDS[name].positional)
        assert cfg is not None
        if (reason := reason_to_parse_only(line, name)) is not None:
            assert reason and all((ROOT / word).is_file() for word in args if word.startswith("recipes/")), line
            continue
        code = cli.main([*name.split(), *small])
        said = capfd.readouterr()
        assert code == 0, f"{line}\n{said.out}{said.err}"


def test_lines_are_found() -> None:
    assert sum(1 for page in PAGES for _ in lines_of(page)) > 120
    names = {split(arguments(line))[0] for page in PAGES for line in lines_of(page)}
    assert set(PARSED_ONLY) <= names and {"feedback import", "data check", "sft", "export"} <= names
    run = [
        line for page in PAGES for line in lines_of(page) if reason_to_parse_only(line, split(arguments(line))[0]) is None
    ]
    assert len(run) > 60, f"{len(run)} lines are run"
