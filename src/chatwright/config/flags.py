"""Config dataclasses from the command line: our checks and messages around tyro's parser and help pages."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin

from chatwright.config.toml import read_toml
from chatwright.config.values import check_size, key_of, leaves, nearest, read
from chatwright.errors import ChatwrightError, ConfigError

T = TypeVar("T")

CONFIG_HELP = "--config FILE.toml reads any of these settings from a file; a flag wins over the file."
_PLAIN_WORDS = (
    (r"invalid literal for int\(\) with base 10: (.*)", r"expected a whole number, got \1"),
    (r"could not convert string to float: (.*)", r"expected a number, got \1"),
    (r"no type matching (\S+) could be instantiated from \[(.*)\]", r"expected \1, got \2"),
    (r" \.$", "."),
)
_SWITCH_WORDS = {"true": True, "True": True, "false": False, "False": False}


def parse(cls: type[T], argv: Sequence[str], *, prog: str, description: str | None = None, positional: str = "") -> T:
    """A `cls` from command-line arguments. `--help` prints and exits 0; every misuse is a ConfigError (exit code 2).

    `positional`: the setting that arguments without a flag are, beside its flag.
    """
    args, seen, file = _scan(cls, list(argv), positional)
    if positional:
        flag = positional.replace("_", "-")
        description = f"{description or (cls.__doc__ or '').strip()}\nArguments without a flag are --{flag}."
    data = read_toml(file) if file is not None else {}
    helping = bool({"-h", "--help"} & set(args))
    flags = [key for key, _ in leaves(cls)] if helping else [flag.replace("-", "_") for flag in seen]
    default = read(cls, data, str(file), None, _bare, flags)
    if not helping:
        _require(cls, default, seen)
    made = _run_tyro(cls, args, default, prog, description)
    _check_values(made, seen)
    return cast(T, made)


def _check_values(made: Any, seen: set[str], prefix: str = "") -> None:
    """ConfigError for a number that is not finite or too large (a file's are checked when it is read), and for `--out ""`,
    which would be the current folder."""
    for field in dataclasses.fields(made):
        value, flag = getattr(made, field.name), prefix + key_of(field.name).replace("_", "-")
        if dataclasses.is_dataclass(value):
            _check_values(value, seen, f"{flag}.")
        if flag in seen and flag in ("out", "workspace") and isinstance(value, str) and not value.strip():
            raise ConfigError(f"--{flag} is empty; name a folder or file")
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, int | float) and not isinstance(one, bool):
                check_size(one, f"--{flag}")


def _bare(cls: type, values: dict[str, Any], where: str) -> Any:
    """A `cls` made without running `__init__`: its checks may only see the values that the flags have completed."""
    import tyro

    instance: Any = object.__new__(cls)
    for name, value in values.items():
        object.__setattr__(instance, name, tyro.MISSING if value is dataclasses.MISSING else value)
    return instance


def _require(cls: type, default: Any, seen: set[str], prefix: str = "") -> None:
    """ConfigError for the first required setting given by neither flag nor file (positionals are left to tyro)."""
    import tyro

    positional = _positional_fields(cls)
    for name, kind in typing.get_type_hints(cls, include_extras=True).items():
        value, flag = getattr(default, name), f"{prefix}{key_of(name)}".replace("_", "-")
        if dataclasses.is_dataclass(value):
            _require(type(value), value, seen, f"{flag}.")
        elif value is tyro.MISSING and flag not in seen and name not in positional:
            hint = _list_hint(flag, {flag: kind}) or f": --{flag} VALUE"
            raise ConfigError(f"--{flag} is required{hint} (or `{name} = ...` in a --config file)")


def _scan(cls: type, argv: list[str], positional: str = "") -> tuple[list[str], set[str], Path | None]:
    """The arguments, without `--config FILE` and with `--switch true|false` spelled tyro's way; the flags given; FILE.

    Raises:
        ConfigError: an unknown flag (with the nearest one), a flag given twice, or one without its value.
    """
    # A field that would be a Python keyword ends in an underscore: `from_` is --from.
    kinds = {key.replace("_", "-").rstrip("-"): kind for key, kind in leaves(cls)}
    out: list[str] = []
    loose: list[str] = []
    seen: set[str] = set()
    file: Path | None = None
    position, in_list = 0, False  # in_list: the last flag takes all values up to the next one
    while position < len(argv):
        token = argv[position]
        position += 1
        if token == "--":  # everything behind it is positional
            loose += argv[position:]
            break
        if not token.startswith("--") or token == "--help" or token.startswith("--tyro-"):
            (out if in_list or token.startswith("-") else loose).append(token)
            continue
        name, equals, inline = token[2:].partition("=")
        name, switch = _flag_name(name.replace("_", "-"), kinds)
        if name in seen:
            raise ConfigError(f"--{name} is given twice; give it once" + _list_hint(name, kinds))
        seen.add(name)
        following = inline if equals else argv[position] if position < len(argv) else None
        in_list = name != "config" and not equals and _takes_many(kinds[name])
        if name == "config":
            if not following:
                raise ConfigError("--config needs a file: --config FILE.toml")
            file, position = Path(following), position + (not equals)
        elif kinds[name] is bool:
            word = _SWITCH_WORDS.get(following or "")
            if equals and word is None:
                raise ConfigError(f"--{name}: expected true or false, got {inline!r}")
            position += word is not None and not equals
            out.append(_switch_flag(name, switch if word is None else switch == word))
        elif following is None or (not equals and following.startswith("--")):
            raise ConfigError(f"--{name} needs a value" + _list_hint(name, kinds))
        else:
            out += [token] if equals or in_list else [token, following]
            position += not equals and not in_list
    return _with_loose(cls, out, loose, seen, positional, kinds), seen, file


def _takes_many(kind: Any) -> bool:
    return any(get_origin(option) in (tuple, dict, list) for option in (kind, *get_args(kind)))


def _with_loose(
    cls: type, out: list[str], loose: list[str], seen: set[str], positional: str, kinds: Mapping[str, Any]
) -> list[str]:
    """The arguments with those without a flag put where they belong; adds to `seen`."""
    if not loose:
        return out
    name = positional.replace("_", "-")
    if not name:
        if not _positional_fields(cls):
            raise ConfigError(f"unexpected argument {loose[0]!r}; every setting has a flag, which begins with --")
        return [*loose, *out] if not any(value.startswith("-") for value in loose) else [*out, "--", *loose]
    if name in seen:
        raise ConfigError(f"{loose[0]!r} has no flag and --{name} is given too; give all of them in one place")
    if len(loose) > 1 and not _takes_many(kinds[name]):
        raise ConfigError(f"--{name} takes one value, got {', '.join(map(repr, loose))}")
    seen.add(name)
    return [*out, f"--{name}", *loose]


def _positional_fields(cls: type) -> list[str]:
    """Fields that tyro itself reads without a flag."""
    import tyro

    markers = set(get_args(tyro.conf.Positional[str])[1:])
    hints = typing.get_type_hints(cls, include_extras=True)
    return [name for name, kind in hints.items() if not markers.isdisjoint(getattr(kind, "__metadata__", ()))]


def _flag_name(name: str, kinds: Mapping[str, Any]) -> tuple[str, bool]:
    """The setting a flag names, and what a switch says: `train.no-shuffle` is (`train.shuffle`, False)."""
    if name in kinds or name == "config":
        return name, True
    section, dot, last = name.rpartition(".")
    positive = section + dot + last.removeprefix("no-")
    if last.startswith("no-") and kinds.get(positive) is bool:
        return positive, False
    raise ConfigError(f"unknown flag --{name}{nearest(name, ['config', *kinds], '--')}")


def _switch_flag(name: str, value: bool) -> str:
    section, dot, last = name.rpartition(".")
    return f"--{section}{dot}{'' if value else 'no-'}{last}"


def _list_hint(name: str, kinds: Mapping[str, Any]) -> str:
    return f": --{name} A B C" if get_origin(kinds.get(name)) is tuple else ""


def _run_tyro(cls: type, args: list[str], default: Any, prog: str, description: str | None) -> Any:
    """tyro.cli with its boxed error messages turned into ConfigErrors of one line."""
    import contextlib
    import io

    import tyro

    text = f"{description or (cls.__doc__ or '').strip()}\n{CONFIG_HELP}"
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            # Sections that may be None were decided above; tyro must not make subcommands of them.
            markers = (tyro.conf.AvoidSubcommands,)
            return tyro.cli(cls, args=args, default=default, prog=prog, description=text, config=markers)
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        raised: BaseException | None = stop
        while raised is not None and not isinstance(raised, ChatwrightError):
            raised = raised.__context__
        message = str(raised) if raised is not None else _unboxed(complaint.getvalue())
        raise ConfigError(f"{message.rstrip('.')}. See `{prog} --help`.") from None


def _unboxed(box: str) -> str:
    """The message inside tyro's frame, as one line, without its pointer to the help."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip("│ ") for line in box.splitlines() if "╭" not in line]
    kept: list[str] = []
    for line in lines:
        if set(line) <= set("─╰╯") and line:
            break
        kept.append(line)
    text = re.sub(r"\s+", " ", " ".join(kept)).strip().replace("Error parsing ", "", 1)
    text = text.partition(" Got errors:")[0]
    for pattern, plain in _PLAIN_WORDS:
        text = re.sub(pattern, plain, text)
    return text or "the arguments could not be understood"
