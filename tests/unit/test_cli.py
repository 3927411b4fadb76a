"""The command table: dispatch, messages, exit codes. A fake command stands in where a failure must be provoked."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from chatwright import __version__, cli, config
from chatwright.commands import COMMANDS, load
from chatwright.config import flags
from chatwright.errors import CheckpointError, DataError, GateError, UsageError
from chatwright.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class FakeConfig:
    """What the fake command takes."""

    size: int = 1
    """Any number."""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """`fake.action` is what `chatwright verify` does for the length of a test."""
    box = SimpleNamespace(action=lambda cfg: None)
    monkeypatch.setattr(cli, "load", lambda name: (lambda cfg: box.action(cfg), FakeConfig))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return box


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["--help"], ["-h"]):
        assert cli.main(argv) == 0
        text = capsys.readouterr().out
        for name, command in cli.COMMANDS.items():
            assert f"  {name} " in text and command.help in text
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"chatwright {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["sft", "x.jsonl", "--out", "o", "--seed", "9" * 23], "--seed: the number has 77 bits"),
        (["sft", "x.jsonl", "--out", "o", "--train.epochs", "9" * 20], "--train.epochs: the number has 67 bits"),
        (["sft", "x.jsonl", "--out", "o", "--optim.lr", "nan"], "nan"),
        (["sft", "x.jsonl", "--out", "o", "--optim.lr=-1e-4"], "--optim.lr -0.0001: must be at least 0"),
        (["sft", "x.jsonl", "--out", "o", "--optim.beta1", "1"], "--optim.beta1 1.0: must be"),
        (["sample", "--data", "x.jsonl", "--out", "o", "--temperature", "inf"], "temperature"),
        (["sft", "x.jsonl", "--out", ""], "--out is empty; name a folder or file"),
        (["data", "import", "x.jsonl", "--out", " "], "--out is empty; name a folder or file"),
        (["serve", "--workspace", ""], "--workspace is empty; name a folder or file"),
        (["tokenizer", "train", "x.txt", "--vocab-size", "99999999999", "--out", "o"], "must be at most 4194304"),
    ],
)
def test_values_that_no_command_can_mean(
    argv: list[str], reason: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.txt").write_text("some text", encoding="utf-8")
    assert cli.main(argv) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "users reset-admin", "users links", "feedback export --out o", "feedback merge", "feedback label",
        "feedback import x.jsonl", "retrain", "jobs run", "workspace upgrade", "workspace backup --out o",
    ],
)  # fmt: skip
def test_no_command_begins_a_workspace_in_a_folder_named_by_mistake(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CHATWRIGHT_DATABASE_URL", raising=False)
    Path("notes").mkdir()
    Path("notes/mine.txt").touch()
    assert cli.main([*command.split(), "--workspace", "notes"]) == 2
    assert "notes: is no workspace (there is no chatwright.sqlite3 in it)" in capsys.readouterr().err
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["mine.txt"]


def test_whole_numbers_of_a_file_are_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.toml").write_text(f"seed = {10**20}\n", encoding="utf-8")
    assert cli.main(["sft", "--config", str(tmp_path / "run.toml"), "--data", "x.jsonl", "--out", str(tmp_path / "o")]) == 2
    assert "seed: the number has 67 bits" in capsys.readouterr().err


def test_group_help_lists_only_the_group(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["runs"], ["runs", "--help"]):
        assert cli.main(argv) == 0
        text = capsys.readouterr().out
        assert "runs prune" in text and "models" not in text


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["sfr"], "did you mean `chatwright sft`?"),
        (["models", "pul"], "did you mean `chatwright models pull`?"),
        (["qqqqqqqq"], "`chatwright --help` lists all commands"),
        (["--model", "x"], "the command comes first"),
    ],
)
def test_unknown_commands_name_the_nearest(argv: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("chatwright: error: ") and part in captured.err and captured.out == ""


def test_config_errors_name_the_command(fake: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "--sise", "3"]) == 2
    error = capsys.readouterr().err
    assert error == "chatwright verify: error: unknown flag --sise; did you mean --size?\n"


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (UsageError("wrong use"), 2),
        (DataError.at("a.jsonl", 3, "ranking", "no such letter"), 1),
        (CheckpointError("broken"), 1),
        (GateError("gate"), 1),
        (KeyboardInterrupt(), 130),
        (PermissionError(13, "Permission denied", "/root/x"), 1),
    ],
)
def test_failures_are_one_message(
    fake: SimpleNamespace, raised: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(cfg: FakeConfig) -> None:
        raise raised

    fake.action = fail
    assert cli.main(["verify"]) == code
    error = capsys.readouterr().err
    assert "chatwright verify: " in error and "Traceback" not in error and error.strip().count("\n") == 0
    if isinstance(raised, OSError):
        assert "/root/x: Permission denied" in error


def test_a_database_that_cannot_work_is_no_unexpected_error(
    fake: SimpleNamespace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from chatwright.workspace.database import Workspace

    def fill(cfg: object) -> None:
        with Workspace.open(tmp_path / "w") as workspace, workspace.engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 2")  # what a full disk answers
            connection.exec_driver_sql("CREATE TABLE t (x)")
            connection.exec_driver_sql("INSERT INTO t VALUES (zeroblob(1000000))")

    fake.action = fill
    assert cli.main(["verify"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("chatwright verify: error: database: database or disk is full; ") and said.count("\n") == 1
    assert not (tmp_path / "state").exists()


def test_an_unexpected_error_saves_its_traceback(
    fake: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(cfg: FakeConfig) -> None:
        raise ZeroDivisionError("one\ntwo")

    fake.action = fail
    assert cli.main(["verify", "--size", "4"]) == 1
    error = capsys.readouterr().err
    (crash,) = (tmp_path / "state" / "chatwright").iterdir()
    assert error == f"chatwright verify: error: unexpected ZeroDivisionError: one. The traceback is in {crash}\n"
    saved = crash.read_text()
    assert saved.startswith("chatwright verify --size 4\n") and "Traceback" in saved and "in fail" in saved


def test_command_help_exits_zero(fake: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    def never(cfg: FakeConfig) -> None:
        raise AssertionError("--help must not run the command")

    fake.action = never
    assert cli.main(["verify", "--help"]) == 0
    text = capsys.readouterr().out
    assert "usage: chatwright verify" in text and "Any number." in text and "--config FILE.toml" in text


SLEEPER = textwrap.dedent(
    """
    import signal, sys, time
    from types import SimpleNamespace
    from chatwright import cli
    sys.path.insert(0, sys.argv[1])
    from test_cli import FakeConfig

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it begins in the background ignore it

    def wait(cfg):
        try:
            print("ready", flush=True)
            time.sleep(30)
        finally:
            print("cleaned", flush=True)

    cli.load = lambda name: (wait, FakeConfig)
    sys.exit(cli.main(["verify"]))
    """
)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_clean_up_and_give_their_exit_code(number: signal.Signals, code: int) -> None:
    here = str(Path(__file__).parent)
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, here], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()  # does nothing once it has ended
    assert process.returncode == code and out == "cleaned\n" and "Traceback" not in err


def test_a_closed_pipe_is_quiet() -> None:
    command = [sys.executable, "-m", "chatwright", "--help"]
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=20)
    os.close(write)
    assert process.returncode == 141 and process.stderr == ""


def test_console_script_matches_the_module() -> None:
    result = subprocess.run([sys.executable, "-m", "chatwright", "--version"], capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.strip() == f"chatwright {__version__}"


def test_settings_without_a_flag_exist() -> None:
    """Every command's positional setting is one of its own, takes text, and is the only way without a flag."""
    for name, command in COMMANDS.items():
        if command.positional:
            kinds = dict(config.leaves(load(name)[1]))
            assert kinds[command.positional] in (str, tuple[str, ...]), name
            assert not flags._positional_fields(load(name)[1]), name


ROW = {"messages": [{"role": "user", "content": "狐狸？🦊 déjà"}, {"role": "assistant", "content": "👩‍👩‍👧‍👦 一家人 ✓"}]}


@pytest.mark.parametrize("encoding", ["gbk", "cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize(
    "command",
    [
        ["data", "check", "{}"], ["data", "check", "{}", "missing 一.jsonl"], ["data", "import", "{}", "--out", "out 一"],
        ["data", "export", "{}", "--out", "other 一"], ["sft", "{}", "--model", "models 一/🦊"], ["models", "list"],
        ["feedback", "import", "{}", "--workspace", "desk 一", "--new", "--labeller-kind", "human"],
        ["runs", "list", "runs 🦊"], ["verify", "一 🦊"], ["nonsense 🦊"], ["sft", "--🦊"], ["--help"],
    ],
    ids=lambda command: "-".join(command[:2]),
)  # fmt: skip
def test_signs_that_the_console_cannot_show_are_replaced(
    encoding: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("数据 一 🦊.jsonl").write_text(json.dumps(ROW, ensure_ascii=False), encoding="utf-8")
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    code = cli.main([part.replace("{}", "数据 一 🦊.jsonl") for part in command])
    said = b"".join(stream.buffer.getvalue() for stream in streams).decode(encoding)  # type: ignore[attr-defined]
    assert code in (0, 1, 2) and "unexpected" not in said and "traceback" not in said.lower(), said
    if encoding in ("gbk", "utf-8") and command[:2] in (["data", "check"], ["data", "import"], ["feedback", "import"]):
        assert "数据 一" in said


@pytest.mark.parametrize(
    "command",
    [
        "sample --data DEMOS --model nothing --n 2", "tokenizer train TEXT",
        "corpus build TEXT --tokenizer TOKENIZER --raw", "data import DEMOS",
    ],
)  # fmt: skip
def test_an_output_that_cannot_be_written_is_a_wrong_call(
    command: str, tmp_path: Path, make_tokenizer: Callable[..., Tokenizer], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same exit code for every command, the name that was given, and nothing of the hidden names beside it."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    files = {"DEMOS": tmp_path / "d.jsonl", "TEXT": tmp_path / "t.txt", "TOKENIZER": tmp_path / "tokenizer"}
    files["DEMOS"].write_text('{"prompt": "q", "completion": "a"}\n', encoding="utf-8")
    files["TEXT"].write_text("some words of text " * 9, encoding="utf-8")
    make_tokenizer().save(files["TOKENIZER"])
    out = tmp_path / "file" / "inside"
    code = cli.main([*(str(files.get(word, word)) for word in command.split()), "--out", str(out)])
    said = capsys.readouterr().err
    assert code == 2 and str(out) in said and "cannot be" in said and ".tmp" not in said and said.count("\n") == 1


def test_an_error_names_the_file_that_was_wanted(fake: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    def action(cfg: FakeConfig) -> None:
        raise OSError(28, "No space left on device", "/data/.exp.17168.tmp")

    fake.action = action
    assert cli.main(["verify"]) == 1 and "/data/exp: No space left" in capsys.readouterr().err
