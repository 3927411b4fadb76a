"""AI judges that the operator configures for labelling jobs: each has an address, a model and a key.

People who start jobs choose a judge by its name. An address that a request names would receive the operator's key, and the
server could be made to read services of its own network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chatwright.config.secrets import secrets_of_services
from chatwright.errors import ConfigError

KEY = "JUDGE_API_KEY"


@dataclass(frozen=True, kw_only=True)
class ConfiguredJudge:
    """A model behind an OpenAI-compatible endpoint that ranks answers."""

    name: str
    """The name that people choose."""
    model: str
    """The model's name at the endpoint."""
    base_url: str
    """Address that ends in /v1."""
    api_key: str = field(default="", repr=False)
    """Bearer token; "" sends none."""


def configured_judges(entries: Sequence[str]) -> dict[str, ConfiguredJudge]:
    """Judges of `name=model@http://host/v1` entries, by name, in their order.

    The key of a judge is `JUDGE_API_KEY_NAME`; `JUDGE_API_KEY` counts for a judge that is the only one. Raises ConfigError.
    """
    parsed = [_parse(entry) for entry in entries]
    names = [name for name, _, _ in parsed]
    if len(set(names)) != len(names):
        raise ConfigError(f"--judge {' '.join(entries)}: two judges have one name")
    keys = secrets_of_services(KEY, names)
    return {
        name: ConfiguredJudge(name=name, model=model, base_url=url, api_key=keys[name]) for name, model, url in parsed
    }


def resolve_judge(
    settings: Mapping[str, Any], judges: Mapping[str, ConfiguredJudge]
) -> tuple[dict[str, Any], str]:
    """(settings of a labelling job with the address in place of the judge's name, the judge's key).

    Raises ConfigError for a judge that is not configured, and for an address that an older version took from a request.
    """
    kept = dict(settings)
    name = kept.pop("judge", "")
    if "ai" in kept or (name and name not in judges):
        flag = f"--judge {name or 'NAME'}=MODEL@http://host:port/v1"
        raise ConfigError(f"judge {name!r}: is not configured; start `serve` or `jobs run` with {flag}")
    if not name:
        return kept, ""
    judge = judges[name]
    return kept | {"ai": {"base_url": judge.base_url, "model": judge.model}}, judge.api_key


def environment_for(environment: Mapping[str, str], api_key: str) -> dict[str, str]:
    """`environment` without any judge's key, and with `api_key` as JUDGE_API_KEY when it is not empty."""
    kept = {name: value for name, value in environment.items() if not name.startswith(KEY)}
    return kept | ({KEY: api_key} if api_key else {})


def _parse(entry: str) -> tuple[str, str, str]:
    name, _, rest = entry.partition("=")
    place = rest.rfind("@http")
    model, url = rest[:place], rest[place + 1 :]
    if place < 1 or not name or not url.startswith(("http://", "https://")):
        raise ConfigError(f"--judge {entry!r}: must be name=model@http://host:port/v1")
    return name, model, url.rstrip("/")
