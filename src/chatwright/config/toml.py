"""Config dataclasses as TOML text."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from chatwright.config.values import default_of, key_of, to_plain
from chatwright.errors import ConfigError


def dump_toml(cfg: Any, *, header: str = "") -> str:
    """The whole config as TOML that `--config` reads back to an equal config. `header` lines become comments."""
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    _dump_table(cfg, None, "", lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _dump_table(cfg: Any, base: Any, path: str, lines: list[str]) -> None:
    """Append the settings of `cfg`, then its sections; `base` is what leaving a key out would mean (None: defaults)."""
    sections = []
    for field in dataclasses.fields(cfg):
        value = getattr(cfg, field.name)
        default = getattr(base, field.name) if base is not None else default_of(field)
        if dataclasses.is_dataclass(value):
            sections.append((field.name, value, None if default is dataclasses.MISSING else default))
        elif value is not None:
            lines.append(f"{key_of(field.name)} = {_toml(to_plain(value))}")
        elif default is not None:
            lines.append(f'{key_of(field.name)} = "None"')
    for name, value, default in sections:
        lines.extend(["", f"[{path}{name}]"])
        _dump_table(value, default, f"{path}{name}.", lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_string(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    return _toml_string(value)


def _toml_string(value: str) -> str:
    """A basic string. JSON leaves U+007F as it is, TOML does not allow it."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file; a file that is missing or not TOML is a ConfigError that names it."""
    import tomllib

    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not readable as TOML: {error}") from error
