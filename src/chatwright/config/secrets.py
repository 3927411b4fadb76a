"""Secrets from the environment: one variable, or a file that a variable names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from chatwright.errors import ConfigError


def secret(name: str) -> str:
    """The value of `NAME`, or the content of the file that `NAME_FILE` names; "" without either. Raises ConfigError."""
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigError(f"{name}_FILE: {path} cannot be read ({reason})") from None
    return os.environ.get(name, "").strip()


def variable_for(prefix: str, name: str) -> str:
    """The variable of one of several services: `PREFIX_NAME`, upper case, other characters as `_`."""
    return f"{prefix}_{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}"


def secrets_of_services(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """The key of each service from `PREFIX_NAME`; `PREFIX` itself counts only for a service that is the only one.

    One key is never sent to two addresses unless the operator says so twice. Raises ConfigError where two names would
    read one variable.
    """
    known: dict[str, str] = {}
    for name in names:
        variable = variable_for(prefix, name)
        other = known.setdefault(variable, name)
        if other != name:
            raise ConfigError(f"{other!r}, {name!r}: both would read their key from {variable}; rename one")
    keys = {name: secret(variable) for variable, name in known.items()}
    if len(keys) == 1:
        ((name, key),) = keys.items()
        keys[name] = key or secret(prefix)
    return keys
