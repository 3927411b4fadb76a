"""Names of emoji and symbols in many languages: CLDR's annotations, as the npm package `cldr-annotations-full` holds them.

`chatwright cldr fetch` brings the package (`cldr_fetch.py`); here it is read. Nothing is unpacked on the disk: members of
the archive are read one by one, within limits, and whatever is wrong with one is a DataError.

CLDR's lists are not aligned between languages: of 🍎 English has "red apple" with the keywords apple, diet, food ...,
Spanish "manzana roja" with fruta, manzana ... What translates what is for the reader of the lists to find out.
"""

from __future__ import annotations

import json
import tarfile
import unicodedata
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from chatwright.errors import DataError
from chatwright.jsonl import open_bytes
from chatwright.text.letters import is_unicode

Names = dict[str, dict[str, tuple[str, ...]]]
"""{code point (or sequence, without U+FE0F): {locale: its names, CLDR's own short name first, then the keywords}}."""

LOCALES = ("en", "zh", "es")
MAX_MEMBER_BYTES = 8 * 2**20
MAX_NAME = 200  # characters
_MEMBER = "package/annotations/{locale}/annotations.json"


def load(locales: Iterable[str] = LOCALES, *, file: str | Path | None = None) -> Names:
    """Names of all code points that have them in every one of `locales`, from the fetched package or a `file` like it.

    Raises HubError when the package is not in the cache, DataError for a damaged file or an unknown locale.
    """
    from chatwright.data.cldr_fetch import cached

    wanted = tuple(dict.fromkeys(locales))
    path = Path(file) if file is not None else cached()
    read = {locale: parse(content, where=f"{path}: {locale}") for locale, content in _members(path, wanted).items()}
    common = set.intersection(*(set(names) for names in read.values())) if read else set()
    return {point: {locale: read[locale][point] for locale in wanted} for point in sorted(common)}


def _members(path: Path, locales: tuple[str, ...]) -> dict[str, bytes]:
    """The annotation files of `locales`."""
    paths = {_MEMBER.format(locale=locale): locale for locale in locales}
    found: dict[str, bytes] = {}
    try:
        with open_bytes(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if member.name in paths and member.isfile():
                    found[paths[member.name]] = _content(archive, member, path)
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: is no archive of CLDR annotations, or a damaged one: {error}") from None
    missing = [locale for locale in locales if locale not in found]
    if missing:
        raise DataError(f"{path}: has no annotations for {', '.join(missing)} (locales have CLDR's names: en, zh, es ...)")
    return {locale: found[locale] for locale in locales}


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bytes:
    if member.size > MAX_MEMBER_BYTES:
        raise DataError(f"{path}: {member.name} has {member.size:,} bytes; at most {MAX_MEMBER_BYTES:,} are read")
    source = archive.extractfile(member)
    if source is None:
        raise DataError(f"{path}: {member.name} cannot be read")
    return source.read(MAX_MEMBER_BYTES)


def parse(content: bytes, *, where: str) -> dict[str, tuple[str, ...]]:
    """{code point: names} of one annotations.json. DataError naming `where` and the entry that is wrong."""
    try:
        annotations = json.loads(content)["annotations"]["annotations"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{where}: is no JSON with annotations in it") from None
    if not isinstance(annotations, Mapping):
        raise DataError(f"{where}: annotations: must be an object")
    found = {}
    for point, entry in annotations.items():
        names = _names(entry, f"{where}: annotations: {point[:20]!r}")
        plain = plain_form(point)
        if plain and names:
            found[plain] = names
    return found


def _names(entry: Any, where: str) -> tuple[str, ...]:
    if not isinstance(entry, Mapping):
        raise DataError(f"{where}: must be an object")
    names: dict[str, None] = {}
    for field in ("tts", "default"):  # the short name, then the keywords
        values = entry.get(field, [])
        if not isinstance(values, list):
            raise DataError(f"{where}: {field}: must be a list")
        for value in values:
            if not isinstance(value, str) or len(value) > MAX_NAME or not is_unicode(value):
                raise DataError(f"{where}: {field}: must hold texts of at most {MAX_NAME} characters")
            names[" ".join(unicodedata.normalize("NFC", value).split())] = None
    return tuple(name for name in names if name)


def plain_form(emoji: str) -> str:
    """An emoji as CLDR's keys spell it: without U+FE0F, which only says that the picture is wanted and not the letter."""
    return emoji.replace("\ufe0f", "").strip()
