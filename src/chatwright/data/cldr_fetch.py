"""`chatwright cldr fetch`: CLDR's annotations from the user's own npm registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chatwright.hub import npm

PACKAGE = npm.NpmPackage(
    spec="cldr-annotations-full@48.2.0",
    file="cldr-annotations-full-48.2.0.tgz",
    size=6_537_823,
    sha256="28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1",
    licence="Unicode-3.0",
    content="CLDR's annotations",
    command="chatwright cldr fetch",
)


@dataclass(frozen=True, kw_only=True)
class FetchConfig:
    """Fetch CLDR's names of emoji and symbols (npm package cldr-annotations-full 48.2.0, 6.5 MB, licence Unicode-3.0)."""

    file: str = ""
    """The package's .tgz, fetched by other means; empty: fetch it with npm, from the registry that npm is set to."""


def main(cfg: FetchConfig) -> None:
    """Fetch, check, and print where it lies."""
    print(npm.fetch(PACKAGE, cfg.file))


def cached() -> Path:
    """The package in the cache; HubError that names the command when it is not there."""
    return npm.cached(PACKAGE)
