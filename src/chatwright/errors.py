"""Every error a user can cause, as one tree. The CLI prints the message and exits; no traceback.

ChatwrightError (ValueError)          what was wrong, where, what to do
├── UsageError                        a command was called wrongly                      (exit 2)
├── ConfigError                       a setting is unknown, of the wrong type, or without effect (exit 2)
│   └── RunChangedError               what lies in the folder was made from other inputs or settings
├── DataError                         a row or a file of user data is not usable
├── TemplateError                     a conversation cannot be rendered with this chat template
├── HubError                          a named model cannot be found, fetched or verified
├── ModelError                        model files are damaged or of an unsupported kind
├── CheckpointError                   a run folder or checkpoint does not verify
├── MissingError                      there is no such thing, or it is not yours
├── ConflictError                     it does not fit what is stored already
├── GateError                         a report card forbids the next step
└── TrainingStopped                   a guard rail or an invariant stopped the run
"""

from __future__ import annotations

from pathlib import Path


class ChatwrightError(ValueError):
    """Base of all errors caused by input. `exit_code` is what the CLI exits with."""

    exit_code = 1

    def __init__(self, message: str = "", *, code: str | None = None) -> None:
        """`code`: its name for programs that tell it from others of its kind; the web app translates by it."""
        super().__init__(message)
        self.code = code


class UsageError(ChatwrightError):
    """A command was called wrongly."""

    exit_code = 2


class ConfigError(ChatwrightError):
    """A setting is unknown, has the wrong type, or would have no effect."""

    exit_code = 2


class RunChangedError(ConfigError):
    """The output folder holds results of other inputs or settings. `--fresh` replaces them."""


class DataError(ChatwrightError):
    """User data cannot be used. `at` builds the message from file, line, field, reason."""

    @classmethod
    def at(cls, path: str | Path, line: int | None, field: str, reason: str) -> DataError:
        """Message `file:line: field: reason` (line and an empty path are left out)."""
        place = f"{path}:{line}" if line is not None else str(path)
        return cls(f"{place}: {field}: {reason}" if place else f"{field}: {reason}")


class TemplateError(ChatwrightError):
    """A conversation cannot be rendered with this chat template."""


class HubError(ChatwrightError):
    """A named model cannot be found, fetched or verified."""


class ModelError(ChatwrightError):
    """Model files are damaged or of an unsupported kind."""


class CheckpointError(ChatwrightError):
    """A run folder or checkpoint does not verify."""


class MissingError(ChatwrightError):
    """There is no such thing, or it belongs to somebody else."""


class ConflictError(ChatwrightError):
    """What is asked does not fit what is stored already."""


class GateError(ChatwrightError):
    """A report card forbids the next step."""


class TrainingStopped(ChatwrightError):
    """A guard rail or a run-time invariant stopped the run."""
