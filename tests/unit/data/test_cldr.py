"""Reading CLDR's annotations: whatever the file holds, names or a DataError."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright.data import cldr, cldr_fetch
from chatwright.data.cldr import load, parse
from chatwright.errors import DataError, HubError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries({}, optional={"tts": JSON | st.lists(st.text(max_size=5)), "default": JSON})


def annotations(points: Any) -> bytes:
    return json.dumps({"annotations": {"identity": {}, "annotations": points}}).encode()


def package(**locales: Any) -> bytes:
    """The archive as npm serves it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for locale, points in locales.items():
            content = points if isinstance(points, bytes) else annotations(points)
            member = tarfile.TarInfo(f"package/annotations/{locale}/annotations.json")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


APPLE = {"🍎": {"default": ["apple", "fruit", "red  apple"], "tts": ["red apple"]}, "❤\ufe0f": {"tts": ["red heart"]}}
MANZANA = {"🍎": {"default": ["manzana"], "tts": ["manzana roja"]}, "🍏": {"tts": ["manzana verde"]}}


def test_names_of_what_all_locales_have(tmp_path: Path) -> None:
    file = tmp_path / "p.tgz"
    file.write_bytes(package(en=APPLE, es=MANZANA))
    assert load(("en", "es"), file=file) == {
        "🍎": {"en": ("red apple", "apple", "fruit"), "es": ("manzana roja", "manzana")}
    }
    assert set(load(("en",), file=file)) == {"🍎", "❤"}
    with pytest.raises(DataError, match="no annotations for zh"):
        load(("en", "zh"), file=file)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_content_gives_names_or_a_data_error(content: bytes) -> None:
    try:
        found = parse(content, where="here")
    except DataError as error:
        assert str(error).startswith("here: ")
    else:
        assert all(names and all(names) for names in found.values())


@given(st.dictionaries(st.text(max_size=3), ENTRIES | JSON, max_size=3))
def test_any_entries_give_names_or_a_data_error(points: Any) -> None:
    try:
        found = parse(annotations(points), where="here")
    except DataError as error:
        assert str(error).startswith("here: annotations")
    else:
        for point, names in found.items():
            assert "\ufe0f" not in point and len(set(names)) == len(names)
            assert all(name == " ".join(name.split()) for name in names)


@given(st.binary(max_size=40), st.integers(0, 400), st.integers(0, 400))
def test_damaged_archives_are_told(tmp_path_factory: pytest.TempPathFactory, put: bytes, at: int, cut: int) -> None:
    good = package(en=APPLE)
    file = tmp_path_factory.mktemp("archive") / "p.tgz"
    plain = gzip.decompress(good)
    for damaged in (good[:at] + put + good[at + len(put) :], good[:cut], plain[:at] + put + plain[at + len(put) :], put):
        file.write_bytes(damaged)
        try:
            found = load(("en",), file=file)
        except DataError as error:
            assert str(file) in str(error)
        else:
            assert all(names["en"] for names in found.values())


def test_a_member_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cldr, "MAX_MEMBER_BYTES", 20)
    (tmp_path / "p.tgz").write_bytes(package(en=APPLE))
    with pytest.raises(DataError, match="at most 20 are read"):
        load(("en",), file=tmp_path / "p.tgz")


@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"annotations":' * 100_000])
def test_deep_nesting_is_no_crash(deep: bytes) -> None:
    with pytest.raises(DataError, match="no JSON"):
        parse(deep, where="here")


def test_without_the_package_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(HubError, match="chatwright cldr fetch"):
        load()
    with pytest.raises(DataError, match="cannot be read"):
        load(file=tmp_path / "missing.tgz")
    assert cldr_fetch.PACKAGE.size < 10_000_000
