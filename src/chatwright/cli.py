"""The command line: which command, its settings, one message for every failure. The table is in commands.py.

Exit codes: 0 done, 1 failed, 2 called wrongly, 130 Ctrl-C, 141 the reader of our output went away, 143 SIGTERM.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from chatwright.commands import COMMANDS, GROUPS, load, unknown_command
from chatwright.errors import ChatwrightError, ConfigError, UsageError
from chatwright.leftovers import Leftovers

_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
_ASIDE = re.compile(r"\.(.+)\.(?:\d+\.(?:tmp|old)|building|[a-z0-9_]{8})")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Every failure becomes one message on stderr."""
    args = list(sys.argv[1:] if argv is None else argv)
    prog = "chatwright"
    _replace_unprintable_signs()
    previous = signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        name, rest = _split(args)
        prog = f"chatwright {name}".rstrip()
        code = _call(name, rest, prog) if name else _top_level(rest)
        sys.stdout.flush()
        return code
    except ChatwrightError as error:
        return _failed(prog, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _failed(prog, "stopped by Ctrl-C; run a training command again and it goes on where it was", 130)
    except BrokenPipeError:
        # The interpreter would flush stdout once more on exit and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        place = f"{_final_name(error.filename)}: " if error.filename else ""
        return _failed(prog, f"{place}{error.strerror or error}", 1)
    except Exception as error:
        if said := _database_words(error):
            return _failed(prog, said, 1)
        summary = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        kept = _save_traceback(args)
        return _failed(prog, f"unexpected {type(error).__name__}: {summary}. The traceback is in {kept}", 1)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _replace_unprintable_signs() -> None:
    """Output whose encoding has no place for a sign (a Chinese console and an emoji, cp1252 and Chinese) gets a `?`
    for it."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with contextlib.suppress(OSError, ValueError):  # a closed stream says so when it is written to
                reconfigure(errors="replace")


def entry() -> NoReturn:
    """The console script."""
    sys.exit(main())


def _split(args: list[str]) -> tuple[str, list[str]]:
    """(command name, its arguments); the name is empty for `chatwright`, its flags, and `chatwright models`."""
    if not args or args[0].startswith("-"):
        return "", args
    if args[0] in COMMANDS:
        return args[0], args[1:]
    subcommands = [name.split()[1] for name in COMMANDS if name.startswith(f"{args[0]} ")]
    if subcommands and (len(args) == 1 or args[1] in ("-h", "--help")):
        return "", args
    if subcommands and args[1] in subcommands:
        return f"{args[0]} {args[1]}", args[2:]
    wanted = " ".join(args[:2]) if subcommands else args[0]
    raise UsageError(unknown_command(wanted))


def _top_level(args: list[str]) -> int:
    """`chatwright`, `--help`, `--version`, or the name of a command group."""
    if args and args[0] in ("-V", "--version"):
        from chatwright import __version__

        print(f"chatwright {__version__}")
        return 0
    if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
        raise UsageError(f"unknown flag {args[0]}; the command comes first: `chatwright COMMAND {args[0]} ...`")
    prefix = f"{args[0]} " if args and not args[0].startswith("-") else ""
    print(_overview(prefix))
    return 0


def _overview(prefix: str = "") -> str:
    """The text of `chatwright --help`, or of one command group (`prefix` "models ")."""
    width = max(len(name) for name in COMMANDS) + 2
    lines = [f"usage: chatwright {prefix}COMMAND [flags]"]
    if not prefix:
        lines += ["", "Align an open language model with human feedback: demonstrations, rankings, PPO."]
    for title, group in GROUPS.items():
        rows = [f"  {name:<{width}}{command.help}" for name, command in group.items() if name.startswith(prefix)]
        if rows:
            lines += ["", f"{title}:", *rows]
    lines += ["", "`chatwright COMMAND --help` lists the flags of a command. Every command reads --config FILE.toml."]
    if not prefix:
        lines += ["`chatwright --version` prints the version. Start with: chatwright quickstart"]
    return "\n".join(lines)


def _call(name: str, args: list[str], prog: str) -> int:
    """Parse the arguments of command `name` and run it."""
    from chatwright import config

    function, config_class = load(name)
    summary = COMMANDS[name].help
    try:
        cfg: Any = config.parse(
            config_class,
            args,
            prog=prog,
            description=f"{summary[0].upper()}{summary[1:]}.",
            positional=COMMANDS[name].positional,
        )
    except SystemExit as stop:  # --help has been printed
        return int(stop.code or 0)
    out = str(getattr(cfg, "out", "") or "")
    leftovers = Leftovers(out)
    try:
        function(cfg)
    except BaseException as error:
        if error.__traceback__ is not None:
            traceback.clear_frames(error.__traceback__)  # a run in them removes its folder when it is collected
        leftovers.remove()
        if isinstance(error, OSError):
            _refuse_output(out, error)
        raise
    return 0


def _refuse_output(out: str, error: OSError) -> None:
    """ConfigError for an error that says that nothing can be written at `--out`: the same words and exit code for every
    command. A full disk is another matter: the command was called rightly."""
    if not out or not error.filename or error.errno not in _UNWRITABLE:
        return
    wanted, failed = Path(os.path.abspath(out)), Path(os.path.abspath(_final_name(error.filename)))
    if failed == wanted or wanted in failed.parents or failed in wanted.parents:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror}); choose another place") from error


def _final_name(path: Any) -> str:
    """The name that a file or folder gets when it is whole, of the hidden one beside it that is written first."""
    place = Path(os.fsdecode(path))
    hidden = _ASIDE.fullmatch(place.name)
    return str(place.with_name(hidden.group(1))) if hidden else str(place)


def _failed(prog: str, message: str, code: int) -> int:
    with contextlib.suppress(OSError):  # stderr itself may be gone; the exit code still tells
        print(f"{prog}: error: {message}" if code != 130 else f"\n{prog}: {message}", file=sys.stderr)
    return code


def _on_sigterm(signum: int, frame: FrameType | None) -> NoReturn:
    sys.exit(143)  # as an exception, so that files being written are cleaned up


def _database_words(error: Exception) -> str:
    """Message of a database that cannot work at all (a full disk, a folder that became read-only, a server that went
    away); empty for other errors. The class is known by its name: commands without a database do not import SQLAlchemy."""
    if type(error).__name__ != "OperationalError" or not type(error).__module__.startswith("sqlalchemy"):
        return ""
    words = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    return f"database: {words}; nothing of the last step was stored, and the command can be repeated"


def _save_traceback(args: Sequence[str]) -> str:
    """Write the current exception to a file under XDG_STATE_HOME (or the temporary folder); returns where."""
    import tempfile
    import time

    text = f"chatwright {' '.join(args)}\n\n{traceback.format_exc()}"
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    for folder in (Path(state) / "chatwright", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        except OSError:
            continue
        return str(folder / name)
    return "no file (nothing was writable)"
