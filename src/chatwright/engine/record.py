"""The record of a run: its settings, and the content of everything it read. No torch.

The record stands in `inputs.json` of a run folder, or beside a file as `FILE.inputs.json`. The same command run again
compares: equal content under another path is the same input, other content under the same path is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from chatwright import hub
from chatwright.config import leaves, read_toml, to_dict
from chatwright.config.values import default_of, to_plain
from chatwright.errors import ChatwrightError, CheckpointError, ConfigError, DataError, RunChangedError
from chatwright.jsonl import write_jsonl
from chatwright.progress import console

INPUTS = "inputs.json"
ANEW = "--fresh starts anew (in a chain: this stage and those after it); another --out keeps what is there"
_MANIFESTS = ("MANIFEST.json", "manifest.json")  # of runs and cached models; of built corpora
# Settings that change no result: where it goes, how often it is saved on the way, at which address a model answers.
_WITHOUT_EFFECT = {"out", "fresh", "ignore_gate"}
_ON_THE_WAY = {"save_every_steps", "save_every_minutes", "keep_checkpoints", "sinks", "base_url"}
_SHOWN_CHANGES = 6
Kind = Literal["data", "language", "reward"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Something that a setting names."""

    place: str
    """File, folder, model name, address, or python:module:function."""
    kind: Kind = "data"
    """data, or which model of a run folder is meant."""
    prefix: str = ""
    """The part before the path that is a setting: `0.5*`, `NAME=`."""


Sources = Mapping[str, Sequence[Source]]
"""By setting: `data`, `mix.data`, `model`."""


def files(places: Sequence[str | Path]) -> list[Source]:
    """Files and folders of data."""
    return [Source(place=str(place)) for place in places]


def model_source(name: str) -> list[Source]:
    """A model; none for an empty name."""
    return [Source(place=name, kind="language")] if name else []


@dataclass(frozen=True, kw_only=True)
class Input:
    """A source as it was when the run began."""

    source: str
    """As it was named."""
    prefix: str = ""
    """See Source."""
    sha256: str = ""
    """Hash of its content; empty: it was not at hand, so that nothing can be compared."""
    num_bytes: int | None = None
    """Size of a file."""
    num_lines: int | None = None
    """Lines of a text file."""

    def words(self) -> str:
        """For messages."""
        size = f"{self.num_lines} lines" if self.num_lines is not None else f"{self.num_bytes} bytes"
        facts = ([size] if self.num_bytes is not None else []) + [f"sha256 {self.sha256[:12]}"]
        return f"{self.prefix}{self.source} ({', '.join(facts)})"

    def differs_from(self, other: Input) -> bool:
        """True when the content is known to be another."""
        return self.prefix != other.prefix or bool(self.sha256 and other.sha256 and self.sha256 != other.sha256)


@dataclass(frozen=True, kw_only=True)
class Record:
    """Settings and inputs of a run."""

    kind: str
    """Command: sft, reward, sample, ..."""
    settings: Mapping[str, Any]
    """By dotted key, without those that name inputs or change no result."""
    inputs: Mapping[str, Sequence[Input]]
    """By setting."""

    @classmethod
    def of(cls, kind: str, config: Any, sources: Sources, *, complete: bool = False) -> Record:
        """Read and hash everything that `sources` names. `complete`: the run reads nothing any more, so an input that is
        gone has no hash. DataError for a file that is not there."""
        inputs = {name: tuple(_read(source, complete) for source in found) for name, found in sources.items()}
        return cls(kind=kind, settings=_settings(config, set(sources)), inputs=inputs)

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """The record in a file, None where there is none. CheckpointError for a damaged one."""
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            inputs = {name: tuple(Input(**one) for one in found) for name, found in row["inputs"].items()}
            return cls(kind=row["kind"], settings=row["settings"], inputs=inputs)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error!r}). {ANEW}") from None

    def write(self, path: Path) -> None:
        """Write the record, all or nothing."""
        inputs = {name: [asdict(one) for one in found] for name, found in self.inputs.items()}
        write_jsonl(path, [{"kind": self.kind, "settings": dict(self.settings), "inputs": inputs}])

    def hashes(self, *names: str) -> dict[str, str]:
        """sha256 by path, of the inputs of these settings: for result.json. Where a file belongs to a frozen folder (an
        export), the hash of that folder's manifest, which is the export's id, stands beside it."""
        found = {one.source: one.sha256 for name in names for one in self.inputs.get(name, ()) if one.sha256}
        folders = [folder for path in found if Path(path).is_file() for folder in Path(path).absolute().parents[:2]]
        manifests = [folder / _MANIFESTS[0] for folder in dict.fromkeys(folders)]
        return found | {str(path): file_hash(path)[0] for path in manifests if path.is_file()}

    def changed_inputs(self, old: Record) -> list[str]:
        """In words, which inputs have another content than those of `old`."""
        out = []
        for name in dict.fromkeys([*old.inputs, *self.inputs]):
            was, now, flag = old.inputs.get(name, ()), self.inputs.get(name, ()), _flag(name)
            if len(was) != len(now):
                out.append(f"{flag} {_words(now)}, was {_words(was)}")
            else:
                pairs = zip(was, now, strict=True)
                out += [f"{flag} {new.words()}, was {one.words()}" for one, new in pairs if new.differs_from(one)]
        return out


def _words(inputs: Sequence[Input]) -> str:
    return " ".join(one.words() for one in inputs) or "nothing"


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


# ---- settings --------------------------------------------------------------------------------------------------------


def _settings(config: Any, inputs: set[str]) -> dict[str, Any]:
    return {key: value for key, value in flatten(to_dict(config)) if _counts(key) and key not in inputs}


def _counts(key: str) -> bool:
    last = key.rpartition(".")[2]
    return key not in _WITHOUT_EFFECT and last not in _ON_THE_WAY and not last.endswith("api_key")


def flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every setting in nested tables."""
    for name, item in table.items():
        if isinstance(item, Mapping):
            yield from flatten(item, f"{prefix}{name}.")
        else:
            yield prefix + name, item


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any], config: Any) -> list[str]:
    """In words, which settings differ. One that `old` lacks, since an earlier version did not know it, had its default; one
    that this version does not know is left out."""
    defaults = dict(_defaults(config))
    known = {key for key, _ in leaves(type(config))} | set(new)
    out = []
    for key in dict.fromkeys([*new, *(key for key in old if key in known and _counts(key))]):
        was, now = (_plain(found.get(key, defaults.get(key))) for found in (old, new))
        if was != now:
            out.append(f"{_flag(key)} {_shown(now)}, was {_shown(was)}")
    return out


def _plain(value: Any) -> Any:
    return None if value == "None" else value  # TOML has no null


def _shown(value: Any) -> str:
    return "unset" if value is None else value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _defaults(config: Any, base: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, default) of the settings of `config`; sections that are off by default have none."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        default = getattr(base, field.name) if base is not None else default_of(field)
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            yield from _defaults(value if value is not None else default, default, f"{prefix}{field.name}.")
        elif default is not dataclasses.MISSING and default is not None and not dataclasses.is_dataclass(value):
            yield f"{prefix}{field.name}", to_plain(default)


# ---- content ---------------------------------------------------------------------------------------------------------


def _read(source: Source, complete: bool) -> Input:
    place = source.place
    named = Input(source=place, prefix=source.prefix, sha256=_text_hash(place))
    if place.startswith(("http://", "https://")):
        return named
    if place.startswith("python:"):
        code = _module_file(place.removeprefix("python:").partition(":")[0])
        return dataclasses.replace(named, sha256=_text_hash(place, file_hash(code)[0])) if code else named
    if source.kind != "data" and place in hub.NAMED:
        return dataclasses.replace(named, sha256=hub.NAMED[place].sha256)
    path = _find(source, complete)
    if path is None:
        return dataclasses.replace(named, sha256="")
    if path.is_dir():
        return dataclasses.replace(named, sha256=folder_hash(path))
    digest, num_bytes, num_lines = file_hash(path)
    return dataclasses.replace(named, sha256=digest, num_bytes=num_bytes, num_lines=num_lines)


def _find(source: Source, complete: bool) -> Path | None:
    """The file or folder; None for a complete run that has outlived it."""
    path = Path(source.place).expanduser()
    if not path.exists():
        if complete:
            cached = [s.folder for s in hub.cached_snapshots() if s.source.partition("@")[0] == source.place]
            return cached[0] if cached and source.kind != "data" else None
        if source.kind == "data":
            raise DataError(f"{source.place}: No such file or directory")
        return hub.resolve(source.place)
    if source.kind == "data":
        return path
    try:
        return hub.model_folder(path, source.kind)
    except ChatwrightError:
        if complete:
            return None
        raise


def _module_file(module: str) -> Path | None:
    """The source of a Python module, looked for in the working folder first."""
    beside = Path(*module.split(".")).with_suffix(".py")
    if beside.is_file():
        return beside
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin and Path(spec.origin).is_file() else None


def _text_hash(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def file_hash(path: Path) -> tuple[str, int, int | None]:
    """(sha256, bytes, lines or None for a file that is not text) of a file, read in blocks."""
    digest, num_bytes, num_lines, text, last = hashlib.sha256(), 0, 0, True, b"\n"
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: is a pipe or a device, which can be read only once; save it to a file first")
        with open(path, "rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
                num_bytes += len(block)
                num_lines += block.count(b"\n")
                text = text and b"\0" not in block
                last = block[-1:]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return digest.hexdigest(), num_bytes, num_lines + (last != b"\n") if text else None


def folder_hash(folder: Path) -> str:
    """Hash of the files of a folder: of their hashes in its manifest where it has one (loading compares those with the
    files), else of the files themselves. An adapter counts with its base model."""
    for name in _MANIFESTS:
        if (folder / name).is_file() and (listed := _listed(folder / name)) is not None:
            return _text_hash(json.dumps(listed, sort_keys=True), _base_hash(folder))
    names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    shown = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    return _text_hash(*(f"{name.as_posix()} {file_hash(folder / name)[0]}" for name in shown), _base_hash(folder))


def _listed(manifest: Path) -> Any:
    """Content hashes in a manifest; None when it is of no known kind."""
    try:
        row = json.loads(manifest.read_text(encoding="utf-8"))
        if "splits" in row:
            return [row[name] for name in ("dtype", "document", "tokenizer", "splits")]
        return {name: facts["sha256"] for name, facts in row["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _base_hash(folder: Path) -> str:
    config = folder / "adapter_config.json"
    if not config.is_file() or (folder / "config.json").is_file():
        return ""
    try:
        base = json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]
        return _read(Source(place=str(base), kind="language"), complete=True).sha256
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""  # loading says what is wrong with it


# ---- comparing -------------------------------------------------------------------------------------------------------


def refuse_inputs_in(record: Record, place: str | Path, owned: Sequence[Path]) -> None:
    """ConfigError when an input lies in what the run writes and, with --fresh, deletes."""
    targets = {path.resolve() for path in owned}
    for name, found in record.inputs.items():
        for one in found:
            path = Path(one.source).expanduser().resolve()
            if targets & {path, *path.parents}:
                raise ConfigError(f"--out {place}: would overwrite {_flag(name)} {one.source}; use another --out")


def check_run_folder(record: Record, folder: Path, names: Sequence[str]) -> None:
    """ConfigError when a run, whose files have these `names`, would write over a model or over an input of its own."""
    if any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise ConfigError(f"--out {folder}: holds a model and no run; use another --out")
    refuse_inputs_in(record, folder, [folder / name for name in names])
    sources = (one.source for found in record.inputs.values() for one in found)
    if folder.is_dir() and folder.resolve() in [Path(source).expanduser().resolve() for source in sources]:
        raise ConfigError(f"--out {folder}: is also an input of the run; use another --out")


def compare(record: Record, old: Record, config: Any, place: str | Path) -> None:
    """RunChangedError when `old`, the record of what lies at `place`, is of another run."""
    if old.kind != record.kind:
        raise RunChangedError(f"{place}: holds a {old.kind} run, not {record.kind}; use another --out")
    refuse(place, record.kind, record.changed_inputs(old), changed_settings(old.settings, record.settings, config))
    gone = [one.source for found in record.inputs.values() for one in found if not one.sha256]
    if gone:
        console().print(f"{record.kind}: no longer at hand, so not compared with the inputs of {place}: {', '.join(gone)}")


def refuse(place: str | Path, kind: str, inputs: Sequence[str], settings: Sequence[str]) -> None:
    """RunChangedError that names what differs; nothing when nothing does."""
    parts = [f"{what} ({_first(found)})" for what, found in (("inputs", inputs), ("settings", settings)) if found]
    if parts:
        raise RunChangedError(f"{place}: holds a {kind} run with other {' and other '.join(parts)}. {ANEW}")


def _first(changes: Sequence[str]) -> str:
    more = f"; and {len(changes) - _SHOWN_CHANGES} more" if len(changes) > _SHOWN_CHANGES else ""
    return "; ".join(changes[:_SHOWN_CHANGES]) + more


def settings_of_toml(path: Path) -> dict[str, Any]:
    """The settings in the config.toml of a run of an earlier version, which kept no record."""
    return dict(flatten(read_toml(path)))


def record_of_file(out: str | Path) -> Path:
    """Path of the record of a file."""
    return Path(f"{out}.{INPUTS}")


def open_output(record: Record, config: Any, place: Path, at: Path, owned: Sequence[Path]) -> bool:
    """Begin or continue an output that is no training run; whether something of it is there, made from the same.

    `at`: its record; `owned`: the files that it consists of, which `config.fresh` removes. RunChangedError where they were
    made from something else, ConfigError where one of them is an input. Files without a record, of an earlier version, get
    none here: the caller writes it once it has replaced or checked them.
    """
    refuse_inputs_in(record, place, owned)
    if config.fresh:
        remove([*owned, at])
    begun = any(path.exists() for path in owned)
    old = Record.read(at) if begun else None
    if old is not None:
        compare(record, old, config, place)
    if not begun or (old is not None and old != record):
        record.write(at)
    return old is not None


def remove(paths: Sequence[Path]) -> None:
    """Delete files and folders that may be there."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
