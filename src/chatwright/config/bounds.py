"""Bounds of numeric settings, checked when a config is made: before data and model are loaded."""

from __future__ import annotations

import math
from typing import Any

from chatwright.errors import ConfigError


def check_least(config: Any, section: str, least: float, *names: str) -> None:
    """ConfigError for a field of `config` below `least`, infinite or not a number. None is not checked.

    `section`: the flags' prefix (`train`); empty: none.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not (value >= least and math.isfinite(value)):
            raise _error(section, name, value, f"at least {least:g}")


def check_above(config: Any, section: str, limit: float, *names: str) -> None:
    """ConfigError for a field of `config` that is `limit` or below it, or not a number. None is not checked; an
    infinite one passes (an infinite clip range switches clipping off)."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > limit:
            raise _error(section, name, value, f"above {limit:g}")


def check_share(config: Any, section: str, *names: str, whole: bool = True) -> None:
    """ConfigError for a field of `config` outside of 0 to 1; `whole` False: 1 itself is refused, too."""
    for name in names:
        value = getattr(config, name)
        if not (0 <= value < 1 or (whole and value == 1)):
            raise _error(section, name, value, "between 0 and 1" if whole else "at least 0 and below 1")


def check_length(config: Any, section: str) -> None:
    """ConfigError for `steps` and `epochs` that make no run: at least one step, or one pass where `steps` is 0."""
    check_least(config, section, 0, "steps")
    if not config.steps:
        check_least(config, section, 1, "epochs")


def _error(section: str, name: str, value: float, bound: str) -> ConfigError:
    flag = f"{section}.{name}" if section else name
    return ConfigError(f"--{flag.replace('_', '-')} {value}: must be {bound}")
