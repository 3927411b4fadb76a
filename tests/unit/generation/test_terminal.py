"""`chatwright generate` and `chatwright chat` through the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatwright import cli
from chatwright.errors import DataError
from chatwright.generation.api import SamplingParams
from chatwright.generation.commands import printable
from chatwright.generation.lm import load
from chatwright.generation.local import LocalGenerator
from chatwright.generation.terminal import Session
from chatwright.model.formats.huggingface import save_folder
from chatwright.records import Message, load_rows
from tiny_models import tiny_model

Run = Callable[..., tuple[str, str]]


@pytest.fixture(scope="session")
def model(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("chat") / "model"
    save_folder(tiny_model("llama", tokenizer.vocab_size, max_positions=160), folder, tokenizer)
    return str(folder)


@pytest.fixture
def chat(model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`chat(lines, *flags)`: stdout and stderr of a conversation."""

    def run(lines: str, *flags: str) -> tuple[str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        standard = ["--model", model, "--max-new-tokens", "6", "--seed", "1", "--precision", "fp32"]
        assert cli.main(["chat", *standard, *flags]) == 0
        return capsys.readouterr()

    return run


def saved_messages(path: Path) -> list[dict[str, str]]:
    (row,) = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return list(row["messages"])


def test_generate_prints_the_answer(model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--model", model, "--max-new-tokens", "6", "--precision", "fp32"]
    assert cli.main(["generate", "Why?", *flags]) == 0
    streamed, note = capsys.readouterr()
    lm = load(model)
    (answer,) = lm.generate("Why?", max_new_tokens=6, temperature=0.7, top_p=0.95)
    assert streamed == printable(answer.text) + "\n"
    assert ("cut after 6 tokens" in note) == (answer.finish_reason == "length")
    monkeypatch.setattr("sys.stdin", io.StringIO("Why?"))
    assert cli.main(["generate", "-", *flags]) == 0
    assert capsys.readouterr().out == streamed
    assert cli.main(["generate", "Why?", *flags, "--n", "3", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 3 and tuple(rows[0]["ids"]) == answer.ids and rows[0]["finish_reason"] == answer.finish_reason
    assert cli.main(["generate", "Why?", *flags, "--n", "2"]) == 0
    assert "--- 2 of 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["", "--model", "MODEL"], 1, "prompt is empty"),
        (["x", "--model", "no-such-model"], 1, "no-such-model"),
        (["x", "--model", "MODEL", "--temperature", "-1"], 2, "temperature -1"),
        (["x", "--model", "MODEL", "--raw", "--system", "s"], 2, "no effect with --raw"),
        (["word " * 200, "--model", "MODEL"], 1, "context is 160 tokens"),
    ],
)
def test_generate_errors(model: str, capsys: pytest.CaptureFixture[str], args: list[str], code: int, message: str) -> None:
    assert cli.main(["generate", *[arg.replace("MODEL", model) for arg in args]]) == code
    out, err = capsys.readouterr()
    assert message in err and "Traceback" not in err and not out


def test_conversation_has_a_memory(chat: Run, tmp_path: Path, model: str) -> None:
    out, err = chat(f"Hello\n\nWhy?\n/save {tmp_path / 'talk.jsonl'}\n")
    messages = saved_messages(tmp_path / "talk.jsonl")
    assert [m["role"] for m in messages] == ["user", "assistant"] * 2 and messages[2]["content"] == "Why?"
    assert out == "".join(printable(m["content"]) + "\n" for m in messages if m["role"] == "assistant")
    assert f"saved to {tmp_path / 'talk.jsonl'}" in err and "you:" not in out + err
    lm = load(model)
    ids = lm.prompt_ids([Message(**m) for m in messages[:3]])  # type: ignore[arg-type]
    params = SamplingParams(max_new_tokens=6, temperature=0.7, top_p=0.95, seed=2)
    assert messages[3]["content"] == lm.generator.generate([ids], params)[0][0].text
    assert len(load_rows([tmp_path / "talk.jsonl"], lambda row, where: row)) == 1


def test_commands(chat: Run, tmp_path: Path) -> None:
    talk = tmp_path / "talk.jsonl"
    lines = ["/undo", "/regen", "/save", "/nonsense", "/system", "/system Be kind.", "One", "Two", "/undo", "/regen"]
    out, err = chat("\n".join([*lines, "//slash", f"/save {talk}", f"/save {talk}", "/system -", "/help", "/exit", "Three"]))
    for wanted in (
        "there is nothing to take back", "there is no answer to write again", "name a file", "unknown command /nonsense",
        "the model's default: You are a helpful AI assistant", "(system: Be kind.)", "taken back: Two", "//TEXT",
    ):  # fmt: skip
        assert wanted in err
    assert err.count("saved to") == 2
    messages = saved_messages(talk)
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert [messages[n]["content"] for n in (0, 1, 3)] == ["Be kind.", "One", "/slash"]
    assert len(out.splitlines()) >= 4, "One, Two, One again, /slash"
    again, err = chat(f"One\n/save {talk}\n")
    assert "exists already" in err and saved_messages(talk) == messages


def test_regen_answers_otherwise(chat: Run, tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    chat(f"Hello\n/save {files[0]}\n/regen\n/save {files[1]}\n")
    first, second = (saved_messages(file) for file in files)
    assert first[0] == second[0] and first[1] != second[1]


def test_history_is_trimmed_in_sight(chat: Run) -> None:
    out, err = chat("A rather long message, so that few of them fit.\n" * 6)
    assert len(err.splitlines()) == err.count("no longer fit into the context of 160 tokens") >= 1
    out, err = chat("word " * 200 + "\nShort\n")
    assert "It was not sent; make it shorter" in err and out.strip()


def test_trimming_keeps_whole_exchanges_and_the_system_message(model: str) -> None:
    lm = load(model)
    session = Session(lm, SamplingParams(max_new_tokens=8), system="Be kind.")
    for n in range(12):
        session.messages.append(Message(role="user", content=f"Question number {n}?"))
        if n < 11:
            session.messages.append(Message(role="assistant", content="An answer."))
    ids = session.fit()
    text = lm.tokenizer.decode(ids)
    assert len(ids) + 8 <= 160 and session.messages[session.first].role == "user" and session.first > 0
    assert "Be kind." in text and "number 11?" in text and "number 0?" not in text
    session.messages = [Message(role="user", content="word " * 200)]
    session.first = 0
    with pytest.raises(DataError, match=r"takes \d+ tokens, and with 8 for the answer"):
        session.fit()
    assert session.messages == []


def test_ctrl_c_stops_the_answer_not_the_program(chat: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = LocalGenerator.stream, []

    def interrupted(self: LocalGenerator, ids: Any, params: SamplingParams) -> Iterator[tuple[int, float, str]]:
        calls.append(ids)
        for number, (token, logprob, _) in enumerate(real(self, ids, params)):
            if len(calls) == 1 and number == 2:
                raise KeyboardInterrupt
            yield token, logprob, f"<{number}>"

    monkeypatch.setattr(LocalGenerator, "stream", interrupted)
    out, err = chat(f"Hello\nAgain\n/save {tmp_path / 'talk.jsonl'}\n")
    messages = saved_messages(tmp_path / "talk.jsonl")
    assert messages[1]["content"] == "<0><1>" and messages[2]["content"] == "Again" and len(messages) == 4
    assert "(stopped)" in err and out.startswith("<0><1>\n<0><1><2>")


def test_at_a_terminal(chat: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    typed: Iterator[Any] = iter(["Hello", KeyboardInterrupt(), "Why?", EOFError()])

    def type_line(prompt: str) -> str:
        assert prompt == "you: "
        line = next(typed)
        if isinstance(line, BaseException):
            raise line
        return str(line)

    monkeypatch.setattr("builtins.input", type_line)
    monkeypatch.setattr("io.StringIO", Terminal)
    out, err = chat("")
    assert "/help lists commands" in err and "Ctrl-D or /exit leaves" in err and len(out.splitlines()) >= 2


def test_what_a_model_writes_does_not_steer_the_terminal() -> None:
    assert printable("a\x1b[31m\tb\r\n\x9b你\x7f") == "a[31m\tb\n你"


@pytest.mark.parametrize(
    ("question", "result"),
    [("What is 3457 * 43216?", "3457 × 43216 = 149397712"), ("3457 乘以 43216 等于多少？", "3457 × 43216 = 149397712")],
)
def test_the_terminal_calculates_and_does_not_cut_the_result(
    question: str, result: str, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    model = str(tmp_path / "roomy")  # the tiny tokenizer makes some hundred tokens of a Chinese question
    save_folder(tiny_model("llama", tokenizer.vocab_size, max_positions=512), Path(model), tokenizer)
    flags = ["--model", model, "--max-new-tokens", "2", "--precision", "fp32"]
    assert cli.main(["generate", question, *flags]) == 0
    answer, note = capsys.readouterr()
    assert result in answer and "calculator: " in note and "cut" not in note
    assert cli.main(["generate", question, "--n", "2", *flags]) == 0
    assert capsys.readouterr().out.count(result) == 2
    monkeypatch.setattr("sys.stdin", io.StringIO(question + "\n"))
    assert cli.main(["chat", *flags]) == 0
    said, note = capsys.readouterr()
    assert result in said and f"calculator: {result}" in note
    assert cli.main(["generate", question, "--calculator", "false", *flags]) == 0
    answer, note = capsys.readouterr()
    assert "149397712" not in answer and "calculator" not in note


def test_the_rest_of_an_answer_keeps_its_limit(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    question = "What is 12 * 12? And tell me a story."
    assert cli.main(["generate", question, "--model", model, "--max-new-tokens", "60", "--precision", "fp32"]) == 0
    assert capsys.readouterr().out.startswith("12 × 12 = 144")
