"""Config dataclasses from plain data and back: strict keys, strict types, sections, hashes."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from chatwright.errors import ChatwrightError, ConfigError

T = TypeVar("T")

_TYPE_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    Path: "a path in quotes",
}


def field_types(cls: type) -> dict[str, Any]:
    """Name -> type of each field, in order, annotations resolved and `Annotated` markers removed."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def leaves(cls: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, type) of every setting below `cls`, sections unfolded: `("train.steps", int)`."""
    for name, kind in field_types(cls).items():
        section = section_of(kind)
        if section is not None:
            yield from leaves(section, f"{prefix}{name}.")
        else:
            yield prefix + key_of(name), kind


def key_of(name: str) -> str:
    """How a field is called outside of Python: `from_` (a word that Python keeps for itself) is `from`."""
    return name.rstrip("_")


def section_of(kind: Any) -> type | None:
    """The config class of a field that is a section (`Train` or `Train | None`), else None."""
    for option in get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,):
        if dataclasses.is_dataclass(option):
            return cast(type, option)
    return None


def nearest(word: str, known: Sequence[str], dashes: str = "") -> str:
    """`; did you mean X?`, or all known names when nothing is near. The last part of a dotted key may match alone."""
    last = {key.rpartition(".")[2]: key for key in reversed(known)}
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    if not close:
        ends = difflib.get_close_matches(word.rpartition(".")[2], list(last), n=1, cutoff=0.7)
        close = [last[end] for end in ends]
    if close:
        return f"; did you mean {dashes}{close[0]}?"
    return f"; known: {', '.join(dashes + key for key in known)}"


def from_dict(cls: type[T], data: Mapping[str, Any], *, where: str = "config") -> T:
    """A `cls` from nested plain data; unknown or missing keys and wrong types are ConfigErrors naming `where`."""
    return cast(T, read(cls, data, where, None, _construct))


def read(
    cls: type,
    data: Mapping[str, Any],
    where: str,
    base: Any,
    build: Callable[..., Any],
    flags: Collection[str] = (),
) -> Any:
    """`build(cls, values, where)` with the values of `data` over those of `base` (None: over the defaults).

    A section inherits from the instance that the outer class names as its default: `train: Train = Train(steps=9)`
    keeps 9 when a file sets only `train.lr`. What has neither value nor default is dataclasses.MISSING. A section that
    is None by default comes to life when `data` has it or one of `flags` (dotted keys below `cls`) lies in it.
    """
    given = _checked_keys(cls, data, where)
    values: dict[str, Any] = {}
    for field, kind in zip(dataclasses.fields(cls), field_types(cls).values(), strict=True):
        name = field.name
        default = getattr(base, name) if base is not None else default_of(field)
        section = section_of(kind)
        if section is not None:
            below = {flag.removeprefix(f"{name}.") for flag in flags if flag.startswith(f"{name}.")}
            inner = None if default is dataclasses.MISSING else default
            table: Any = given.get(name, {} if default is not None else None)
            if _is_none(kind, table):
                table = {} if below else None
            if table is None:
                values[name] = None
            else:
                values[name] = read(section, table, f"{where}: {name}", inner, build, below)
        else:
            values[name] = _convert(kind, given[name], f"{where}: {name}") if name in given else default
    return build(cls, values, where)


def _is_none(kind: Any, value: Any) -> bool:
    return (value is None or value == "None") and type(None) in get_args(kind)


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The value of a field that nobody sets; dataclasses.MISSING when it is required."""
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _construct(cls: type, values: dict[str, Any], where: str) -> Any:
    """`cls(**values)`; a value still missing, or refused by the class's own check, is a ConfigError."""
    missing = [name for name, value in values.items() if value is dataclasses.MISSING]
    if missing:
        key = key_of(missing[0])
        raise ConfigError(f"{where}: {key} is missing; add `{key} = ...`")
    try:
        return cls(**values)
    except ChatwrightError as error:
        raise ConfigError(f"{where}: {error}") from error


def _checked_keys(cls: type, data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`data` by field names; each key, with `-` for `_` if the user likes, names a field of `cls`."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected a table of settings, got {data!r}")
    names = {key_of(name): name for name in field_types(cls)}
    given: dict[str, Any] = {}
    for key, value in data.items():
        name = key_of(str(key).replace("-", "_"))
        if name not in names:
            hint = nearest(name, [k for k, _ in leaves(cls)] + list(names))
            raise ConfigError(f"{where}: unknown setting {key!r}{hint}")
        if names[name] in given:
            raise ConfigError(f"{where}: {name} is set twice; keep one of the two spellings")
        given[names[name]] = value
    return given


def _convert(kind: Any, value: Any, where: str) -> Any:
    """`value` as type `kind`, or a ConfigError that says what was expected at `where`."""
    origin, args = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return from_dict(cast(type, kind), value, where=where)
    if _is_none(kind, value):
        return None
    if origin in (Union, types.UnionType):
        return _convert_union(args, value, where)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{where}: {value!r} is not one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        return _convert_tuple(args, value, where)
    if origin in (dict, Mapping) or kind is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a table, got {value!r}")
        return {str(k): _convert(args[1] if args else Any, v, f"{where}.{k}") for k, v in value.items()}
    return _convert_scalar(kind, value, where)


def _convert_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    errors = []
    for arg in args:
        if arg is not type(None):
            try:
                return _convert(arg, value, where)
            except ConfigError as error:
                errors.append(error)
    raise errors[0]


def _convert_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: expected a list, got {value!r}")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(args) != len(value):
        raise ConfigError(f"{where}: expected {len(args)} values, got {len(value)}")
    pairs = zip(args, value, strict=True)
    return tuple(_convert(arg, item, f"{where}[{i}]") for i, (arg, item) in enumerate(pairs))


def check_size(value: float, where: str) -> None:
    """ConfigError for NaN, infinity, and a whole number of more than 64 bits, which tensors cannot hold."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError(f"{where}: {value} is not a finite number")
    elif not -(2**63) <= value < 2**63:
        raise ConfigError(f"{where}: the number has {value.bit_length()} bits; at most 63 and a sign are taken")


def _convert_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if kind is float and type(value) in (int, float):
        check_size(value, where)
        return float(value)
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind in (bool, int, str) and type(value) is kind:
        if kind is int:
            check_size(value, where)
        return value
    raise ConfigError(f"{where}: expected {_TYPE_WORDS.get(kind, kind)}, got {value!r}")


def to_dict(cfg: Any) -> dict[str, Any]:
    """Nested plain data (JSON types; None kept) that `from_dict` turns back into an equal config."""
    return {key_of(f.name): to_plain(getattr(cfg, f.name)) for f in dataclasses.fields(cfg)}


def to_plain(value: Any) -> Any:
    """`value` in JSON types: paths as text, tuples as lists, sections as tables."""
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    return value


def config_hash(cfg: Any) -> str:
    """16 hex digits of the sha256 over the settings; equal configs have equal hashes on every machine."""
    text = json.dumps(to_dict(cfg), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
