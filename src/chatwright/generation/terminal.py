"""A conversation in the terminal: history, slash commands, streaming, Ctrl-C."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from chatwright.errors import ChatwrightError, DataError, UsageError
from chatwright.generation.api import SamplingParams
from chatwright.generation.calculator_steps import Step, calculator_steps, held_to, with_steps
from chatwright.generation.commands import printable
from chatwright.generation.lm import LM
from chatwright.records import Message, write_jsonl

HELP = """/system TEXT   set the system message (without TEXT: show it; /system - : the model's default)
/regen         answer the last message again
/undo          take the last message and its answer back
/save FILE     write the conversation as JSON lines, as `chatwright sft --data` reads them
/help          this list
/exit          leave (or Ctrl-D)
//TEXT         send a message that begins with /"""


class Session:
    """Messages so far, and the model that answers them."""

    def __init__(self, lm: LM, params: SamplingParams, *, system: str = "", calculator: bool = True) -> None:
        self.lm, self.params, self.system, self.calculator = lm, params, system, calculator
        self.messages: list[Message] = []
        self.first = 0
        """Messages before this one are no longer sent: they do not fit into the model's context."""
        self._saved: set[Path] = set()
        self._draws = 0

    def answer(self) -> Iterator[str]:
        """Answer the conversation, which ends with a user message, piece by piece; then it is part of the history.

        Also when the caller stops listening. Raises DataError when the last message alone is too long.
        """
        ids = self.fit()
        params = replace(held_to(self.params, self.steps()), seed=self.params.seed + self._draws)
        self._draws += 1
        pieces: list[str] = []
        try:
            for _, _, text in self.lm.generator.stream(ids, params):
                pieces.append(text)
                yield text
        finally:
            if text := "".join(pieces):
                self.messages.append(Message(role="assistant", content=text))
            else:
                self.messages.pop()  # nobody can answer two user messages in a row

    def steps(self) -> tuple[Step, ...]:
        """Calculator steps of the last message."""
        return calculator_steps(self.messages) if self.calculator and self.lm.is_chat else ()

    def fit(self) -> list[int]:
        """Prompt tokens of the conversation; moves `first` on until an answer fits behind them."""
        context = self.lm.model.config.max_positions
        room = min(held_to(self.params, self.steps()).max_new_tokens, context // 4)
        while True:
            kept = self.messages[self.first :]
            ids = self.lm.prompt_ids(with_steps(kept, self.steps()), system=self.system)
            if len(ids) + room <= context:
                return ids
            later = [n for n, m in enumerate(self.messages) if m.role == "user" and n > self.first]
            if not later:
                self.messages.pop()
                raise DataError(
                    f"the message takes {len(ids)} tokens, and with {room} for the answer that is more than the model's "
                    f"context of {context}. It was not sent; make it shorter."
                )
            self.first = later[0]

    def undo(self) -> str:
        """Take the last exchange back; returns the user's message. UsageError when there is none."""
        last = max((n for n, m in enumerate(self.messages) if m.role == "user"), default=None)
        if last is None:
            raise UsageError("there is nothing to take back")
        text = self.messages[last].content
        del self.messages[last:]
        if self.first >= len(self.messages):
            self.first = 0  # found anew when the next message is sent
        return text

    def save(self, name: str) -> Path:
        """Write the conversation to a new file (or one written before in this session)."""
        if not name:
            raise UsageError("name a file: /save FILE")
        if not self.messages:
            raise UsageError("there is nothing to save yet")
        path = Path(name).expanduser()
        if path.exists() and path.resolve() not in self._saved:
            raise UsageError(f"{path} exists already; choose another name")
        system = [Message(role="system", content=self.system)] if self.system else []
        try:
            write_jsonl(path, [{"messages": [m.to_dict() for m in [*system, *self.messages]]}])
        except OSError as error:
            raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error
        self._saved.add(path.resolve())
        return path


def converse(session: Session) -> None:
    """Read lines from standard input until it ends; answers to stdout, everything else to stderr."""
    for line in _lines():
        text = line.strip()
        if not text:
            continue
        try:
            if text.startswith("/") and not text.startswith("//"):
                if _command(session, text):
                    return
            else:
                session.messages.append(Message(role="user", content=text[1:] if text.startswith("//") else text))
                _answer(session)
        except ChatwrightError as error:
            _note(str(error))


def _lines() -> Iterator[str]:
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives `input` line editing
    while True:
        try:
            yield input("you: ")
        except EOFError:
            print(file=sys.stderr)
            return
        except KeyboardInterrupt:
            print(file=sys.stderr)
            _note("Ctrl-D or /exit leaves")


def _answer(session: Session) -> None:
    """Print the answer as it comes; Ctrl-C ends the answer and keeps what was said."""
    first = session.first
    session.fit()
    if session.first > first:
        context = session.lm.model.config.max_positions
        _note(f"the first {session.first} messages no longer fit into the context of {context} tokens and are not sent")
    for step in session.steps():
        _note(f"calculator: {step.sentence}")
    pieces, said = session.answer(), False
    try:
        for text in pieces:
            print(printable(text), end="", flush=True)
            said = said or bool(text)
        print(flush=True)
        if not said:
            _note("the model said nothing; your message was taken back")
    except KeyboardInterrupt:
        pieces.close()  # type: ignore[attr-defined]
        print(flush=True)
        _note("stopped")


def _command(session: Session, line: str) -> bool:
    """Carry out a slash command; True when the conversation is over."""
    name, _, rest = line.partition(" ")
    actions: dict[str, Callable[[Session, str], None]] = {
        "/system": _system,
        "/regen": _regen,
        "/undo": _undo,
        "/save": _save,
        "/help": _help,
    }
    if name in ("/exit", "/quit"):
        return True
    if name not in actions:
        raise UsageError(f"unknown command {name}; /help lists them, and //... sends a message that begins with /")
    actions[name](session, rest.strip())
    return False


def _help(session: Session, rest: str) -> None:
    print(HELP, file=sys.stderr, flush=True)


def _system(session: Session, text: str) -> None:
    if text:
        session.system = "" if text == "-" else text
    default = session.lm.tokenizer.template.default_system or "(none)"
    _note(f"system: {session.system}" if session.system else f"system: the model's default: {default}")


def _regen(session: Session, rest: str) -> None:
    if not session.messages:
        raise UsageError("there is no answer to write again")
    if session.messages[-1].role == "assistant":
        session.messages.pop()
    _answer(session)


def _undo(session: Session, rest: str) -> None:
    text = session.undo()
    _note(f"taken back: {text if len(text) <= 60 else text[:57] + '...'}")


def _save(session: Session, rest: str) -> None:
    _note(f"saved to {session.save(rest)}")


def _note(text: str) -> None:
    print(f"({printable(text)})", file=sys.stderr, flush=True)
