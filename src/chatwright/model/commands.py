"""`chatwright models list|pull`: the models that have a name, and bringing one onto this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from chatwright import hub
from chatwright.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PullConfig:
    """Which model to fetch."""

    name: Positional[str] = hub.DEFAULT
    """A name from `chatwright models list`, or owner/name[@revision] on the Hugging Face hub (asked again for changes)."""


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Lists names, sizes, languages, licences, and what is in the cache."""


def pull(cfg: PullConfig) -> None:
    """Fetch a model, check its hashes, convert it if it is a GGUF file, and print its folder on stdout."""
    if not hub.is_name(cfg.name):
        known = ", ".join(hub.NAMED)
        raise ConfigError(f"name: {cfg.name!r} is no name to fetch; names are {known}, or owner/name on a hub")
    file = hub.resolve(cfg.name, refresh=True)
    from chatwright.model.formats.convert import ensure_hf_folder  # brings torch, which a wrong name can do without

    print(ensure_hf_folder(file))


def list_(cfg: ListConfig) -> None:
    """Print the table of models."""
    for model in hub.NAMED.values():
        title = f"{model.name}{'  (the default)' if model.name == hub.DEFAULT else '  (opt-in)'}"
        state = "cached" if hub.is_cached(model.name) else f"not cached: a download of {model.size / 1e6:.0f} MB"
        print(f"{title}\n  {model.parameters} parameters, {state}")
        print(f"  languages: {model.languages}\n  licence:   {model.licence}\n  note:      {model.notice}")
    for snapshot in hub.cached_snapshots():
        print(f"{snapshot.source}  (from a hub)\n  cached, {snapshot.num_bytes / 1e6:.0f} MB at {snapshot.folder}")
    print(f"\nAlso: owner/name on the Hugging Face hub (HF_ENDPOINT, HF_TOKEN), a folder, or a .gguf file.\n{_cache_line()}")


def _cache_line() -> str:
    folder = hub.cache_folder()
    used = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    return f"Cache: {_short(folder)}, {used / 1e6:.0f} MB; removing it is safe, models are fetched again."


def _short(folder: Path) -> str:
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)
