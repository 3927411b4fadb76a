"""Every format gives the same documents; whatever a file holds, readers end with an error of ours or with rows."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatwright import jsonl
from chatwright.data.corpus_build import sources
from chatwright.errors import DataError

TEXTS = ["one\nline", "锄禾日当午", "x" * 5000, "last"]
FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def read(*names: Any, documents: sources.Documents = "file", field: str = "text") -> list[str | DataError]:
    found = []
    for batch in sources.batches(sources.inputs([str(name) for name in names]), documents):
        for unit in batch:
            found += [one if isinstance(one, DataError) else one.text for one in sources.documents(unit, field)]
    return found


def as_jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def parquet(file: Path, texts: list[Any], **options: Any) -> Path:
    pyarrow.parquet.write_table(pa.table({"text": texts, "n": list(range(len(texts)))}), file, **options)
    return file


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("packing", PACKED)
def test_formats_give_the_same_documents(packing: str, tmp_path: Path) -> None:
    (tmp_path / f"a.jsonl{packing}").write_bytes(PACKED[packing](as_jsonl(TEXTS)))
    assert read(tmp_path / f"a.jsonl{packing}") == TEXTS
    (tmp_path / f"b.txt{packing}").write_bytes(PACKED[packing](b"\xef\xbb\xbf" + TEXTS[0].encode() + b"\r\n\r\n  \nnext\n"))
    assert read(tmp_path / f"b.txt{packing}") == ["one\nline\r\n\r\n  \nnext\n"]
    assert read(tmp_path / f"b.txt{packing}", documents="paragraph") == ["one\nline\r\n", "next\n"]
    assert read(tmp_path / f"b.txt{packing}", documents="line") == ["one\n", "line\r\n", "next\n"]
    # The content decides where the name says nothing.
    (tmp_path / f"a.jsonl{packing}").rename(tmp_path / "noname")
    assert read(tmp_path / "noname") == TEXTS


def test_frames_of_zstandard_one_after_another(tmp_path: Path) -> None:
    pack = zstandard.ZstdCompressor().compress
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(pack(as_jsonl([text])) for text in TEXTS))
    assert read(tmp_path / "a.jsonl.zst") == TEXTS


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_PARQUET_ROWS", 3)
    rows: list[Any] = [f"text {n}" for n in range(10)]
    assert read(parquet(tmp_path / "a.parquet", rows, row_group_size=4)) == rows
    (found,) = read(parquet(tmp_path / "null.parquet", [None]))
    assert "null.parquet:1: text: is missing" in str(found)
    assert read(parquet(tmp_path / "lists.parquet", [["a", "b"]])) == ["a\nb"]
    with pytest.raises(DataError, match="no column 'body'.*text"):
        read(tmp_path / "a.parquet", field="body")


def test_folders_globs_and_many_small_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for n in range(5):
        (tmp_path / "sub" / f"{n}.txt").write_text(f"file {n}")
    (tmp_path / "sub" / "picture.png").write_bytes(b"\x89PNG")
    expected = [f"file {n}" for n in range(5)]
    assert read(tmp_path) == read(tmp_path / "*" / "?.txt") == read(tmp_path, tmp_path / "sub" / "1.txt") == expected
    assert len(list(sources.batches(sources.inputs([str(tmp_path)]), "file"))) == 1
    with pytest.raises(DataError, match=r"holds no \.txt"):
        (tmp_path / "empty").mkdir()
        read(tmp_path / "empty")


def test_rows_that_are_of_no_use_are_named(tmp_path: Path) -> None:
    lines = [b'{"text": "good"}', b"{", b'{"body": "x"}', b"\xff", b"[1]", b'{"text": 7}', b"", b'{"text": ["a", "b"]}',
             b'{"text": "\\ud800"}', b'{"text": NaN}', b"[" * 5000]  # fmt: skip
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    found = read(tmp_path / "a.jsonl")
    assert [one for one in found if isinstance(one, str)] == ["good", "a\nb"]
    reasons = [str(one) for one in found if isinstance(one, DataError)]
    assert [reason.split(":")[1] for reason in reasons] == ["2", "3", "4", "5", "6", "9", "10", "11"]
    assert "--text-field" in reasons[1] and "UTF-8" in reasons[2]


def test_long_documents_are_cut_between_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LONGEST_DOCUMENT_BYTES", 100)
    for text in ("午é" * 300, "a line of text\n" * 40, "x" * 99 + "\n" + "午" * 200):
        (tmp_path / "a.txt").write_text(text)
        found = read(tmp_path / "a.txt")
        assert "".join(map(str, found)) == text and len(found) > 4
        assert all(len(str(one).encode()) <= 100 for one in found)


def test_bombs_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "FREE_UNPACKED_BYTES", 2**20)
    monkeypatch.setattr(sources, "LONGEST_DOCUMENT_BYTES", 2**16)
    (tmp_path / "a.txt.zst").write_bytes(zstandard.ZstdCompressor(level=19).compress(b"a b\n" * 2**22))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a b\n" * 2**22))
    for name in ("a.txt.zst", "a.txt.gz"):
        with pytest.raises(DataError, match="unpacks to"):
            read(tmp_path / name)


def test_progress_never_goes_beyond_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "UNIT_BYTES", 1000)
    for packing in PACKED:
        file = tmp_path / f"a.jsonl{packing}"
        file.write_bytes(PACKED[packing](as_jsonl([f"{n} " * 100 for n in range(100)])))
        (source,) = sources.inputs([str(file)])
        taken = [unit.read_bytes for unit in sources.units(source, "file")]
        assert len(taken) > 10 and sum(taken) == file.stat().st_size


@FUZZ
@given(data=st.binary(max_size=300), name=st.sampled_from(["a.jsonl", "a.txt", "a.parquet", "a.zst", "a.gz", "x"]))
def test_anything_is_read_or_refused(data: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    for documents in ("file", "line", "paragraph"):
        try:
            read(tmp_path / name, documents=documents)  # type: ignore[arg-type]
        except DataError as error:
            assert str(tmp_path / name) in str(error)


@FUZZ
@given(
    place=st.floats(0, 1), change=st.integers(1, 255), cut=st.booleans(), kind=st.sampled_from([".parquet", ".zst", ".gz"])
)
def test_damaged_files_are_read_or_refused(place: float, change: int, cut: bool, kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.jsonl{kind}"
    if kind == ".parquet":
        file = parquet(tmp_path / "a.parquet", TEXTS * 5, row_group_size=4)
    else:
        file.write_bytes(PACKED[kind](as_jsonl(TEXTS)))
    content = bytearray(file.read_bytes())
    where = min(int(place * len(content)), len(content) - 1)
    content[where] ^= change
    file.write_bytes(content[:where] if cut else content)
    try:
        found = read(file)
    except DataError as error:
        assert str(file) in str(error)
    else:
        assert all(isinstance(one, str | DataError) for one in found)


def test_what_is_cut_off_is_never_taken_for_whole(tmp_path: Path) -> None:
    for packing in (".gz", ".zst"):
        whole = PACKED[packing](as_jsonl([str(n) * 50 for n in range(200)]))
        (tmp_path / f"a.jsonl{packing}").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="cut off|damaged"):
            read(tmp_path / f"a.jsonl{packing}")
