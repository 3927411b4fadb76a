"""The whole build: nothing lost, nothing unexplained, the same with one process or many, whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatwright.data import lm
from chatwright.data.corpus_build import build as build_module
from chatwright.data.corpus_build import sources, spool
from chatwright.data.corpus_build.config import BuildConfig, DedupeConfig, QualityConfig, SplitConfig
from chatwright.data.shards import MANIFEST, TOKENIZER, Shards, read_manifest
from chatwright.errors import ConfigError, DataError, RunChangedError, UsageError
from chatwright.text.tokenizer import Tokenizer
from corpus_texts import article, texts_of, write_rows

Build = Callable[..., Path]
NO_SPLIT = SplitConfig(share=0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30), min_size=1, max_size=20),
    shard_tokens=st.integers(1, 40),
)
def test_raw_text_comes_back_from_the_shards(
    texts: list[str], shard_tokens: int, build_corpus: Build, tmp_path: Path
) -> None:
    number = len(list(tmp_path.iterdir()))
    folder = build_corpus(texts, f"raw-{number}", raw=True, split=NO_SPLIT, shard_tokens=shard_tokens)
    assert texts_of(folder, "train") == texts
    train = read_manifest(folder)["splits"]["train"]
    assert train["characters"] == sum(map(len, texts)) and train["bytes"] == sum(len(text.encode()) for text in texts)


def test_every_document_is_kept_or_counted_with_its_reason(build_corpus: Build) -> None:
    good = [article(n) for n in range(40)] + [article(n, chinese=True) for n in range(40)]
    rows: list[Any] = [
        *good,
        good[3],
        good[50],
        "too short",
        7,
        None,
        "x" * 100,
        "= # | " * 40 + "five words are in here",
        "",
    ]
    folder = build_corpus(rows, split=SplitConfig(share=0.2))
    manifest = read_manifest(folder)
    read, splits = manifest["read"], manifest["splits"]
    kept = splits["train"]["documents"] + splits["held_out"]["documents"]
    dropped = {reason: about["documents"] for reason, about in read["dropped"].items()}
    assert dropped == {
        "exact duplicate": 2,
        "too short": 1,
        "unreadable row": 2,
        "too few words": 1,
        "too few letters": 1,
        "empty": 1,
    }
    assert read["documents"] == len(rows) == kept + sum(dropped.values())
    assert sorted(texts_of(folder, "train") + texts_of(folder, "held_out")) == sorted(good)
    assert 5 <= splits["held_out"]["documents"] <= 30
    card = (folder / "README.md").read_text()
    assert all(reason in card for reason in dropped)
    assert {(one["language"], one["script"]) for one in manifest["languages"]} >= {("zh", "Han"), ("en", "Latin")}
    assert sum(one["tokens"] for one in manifest["languages"]) == sum(split["tokens"] for split in splits.values())


def test_documents_are_framed_by_bos_and_eos(build_corpus: Build) -> None:
    for bos in (True, False):
        folder = build_corpus([article(n) for n in range(4)], f"bos-{bos}", bos=bos)
        shards = Shards.open(folder)
        assert (shards.bos_id, shards.eos_id) == (1 if bos else None, 2)
        tokenizer = Tokenizer.from_folder(folder / TOKENIZER)
        for span in shards.documents():
            ids = shards.tokens(*span).tolist()
            assert ids[-1] == 2 and (ids[0] == 1) == bos and not set(ids[1:-1]) & set(tokenizer.special_ids.values())


def test_processes_change_nothing_but_the_time(build_corpus: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "UNIT_BYTES", 3000)
    texts = [article(n % 90, chinese=n % 3 == 0) for n in range(120)]
    one, two = (build_corpus(texts, f"workers-{n}", workers=n) for n in (1, 2))
    left, right = (read_manifest(folder) for folder in (one, two))
    assert left["splits"] == right["splits"] and left["read"] == right["read"]
    assert (
        len(list(one.glob("*.bin"))) == 2
        and (one / "train-00000.bin").read_bytes() == (two / "train-00000.bin").read_bytes()
    )


def test_the_split_does_not_depend_on_the_order(build_corpus: Build) -> None:
    texts = [article(n) for n in range(60)]
    one = build_corpus(texts, "forward", split=SplitConfig(share=0.2))
    two = build_corpus(texts[::-1], "backward", split=SplitConfig(share=0.2))
    three = build_corpus(texts, "seed", split=SplitConfig(share=0.2, seed=1))
    assert set(texts_of(one, "held_out")) == set(texts_of(two, "held_out")) != set(texts_of(three, "held_out"))


def test_small_corpora_have_both_sides(build_corpus: Build) -> None:
    texts = [article(1), article(2)]
    for share in (0.001, 0.999):
        folder = build_corpus(texts, f"small-{share}", split=SplitConfig(share=share))
        assert len(texts_of(folder, "train")) == len(texts_of(folder, "held_out")) == 1


def test_the_end_of_each_document_is_held_out(build_corpus: Build, tmp_path: Path) -> None:
    """As nanoGPT splits tinyshakespeare: at int(0.9 n)."""
    text = article(1, words=101)
    (tmp_path / "play.txt").write_text(text)
    folder = build_corpus([tmp_path / "play.txt"], raw=True, split=SplitConfig(by="end", share=0.1))
    cut = int(0.9 * len(text))
    assert texts_of(folder, "train") == [text[:cut]] and texts_of(folder, "held_out") == [text[cut:]]


def test_the_real_nanogpt_split(build_corpus: Build, shared_data: Path) -> None:
    file = shared_data / "text" / "tinyshakespeare.txt"
    folder = build_corpus([file], raw=True, split=SplitConfig(by="end", share=0.1))
    splits = read_manifest(folder)["splits"]
    assert (splits["train"]["characters"], splits["held_out"]["characters"]) == (1_003_854, 111_540)


def test_near_duplicates_go_and_others_stay(build_corpus: Build) -> None:
    texts = [article(n, words=120) for n in range(30)]
    changed = [text.replace(" ", " and ", 1) for text in texts[:10]]
    halves = [texts[n][:300] + article(1000 + n, words=60) for n in range(10, 20)]
    both = build_corpus([*texts, *changed, *halves], "near", split=NO_SPLIT)
    dropped = read_manifest(both)["read"]["dropped"]
    assert dropped["near duplicate"]["documents"] == 10
    assert texts_of(both, "train") == [*texts, *halves]  # the first one stays
    off = build_corpus([*texts, *changed], "off", split=NO_SPLIT, dedupe=DedupeConfig(near=False))
    assert len(texts_of(off, "train")) == 40


def test_filters_can_be_turned_off(build_corpus: Build) -> None:
    dirty = "Mail jane.doe@example.org today. " + article(1) + " what the fuck, you shit, fuck off"
    texts = [dirty, "short"]
    off = build_corpus(texts, "off", pii=False, profanity=False, quality=QualityConfig(enabled=False), split=NO_SPLIT)
    assert texts_of(off, "train") == texts
    on = build_corpus([*texts, article(2), article(3)], "on", split=NO_SPLIT)
    assert set(read_manifest(on)["read"]["dropped"]) == {"profanity", "too short"}
    scrubbed = build_corpus([dirty, article(2)], "scrubbed", profanity=False, split=NO_SPLIT)
    assert "[EMAIL]" in texts_of(scrubbed, "train")[0] and read_manifest(scrubbed)["read"]["scrubbed"] == {"EMAIL": 1}


def test_languages_and_evaluation_sets(build_corpus: Build, tmp_path: Path) -> None:
    texts = [article(n) for n in range(6)] + [article(n, chinese=True) for n in range(6)]
    question = " ".join(texts[2].split()[5:30])
    evaluation = write_rows(tmp_path / "evaluation.jsonl", [f"Question: {question}?"], field="question")
    folder = build_corpus(texts, languages=("en",), decontaminate=(str(evaluation),), split=NO_SPLIT)
    assert texts_of(folder, "train") == [text for n, text in enumerate(texts[:6]) if n != 2]
    manifest = read_manifest(folder)
    assert {r: about["documents"] for r, about in manifest["read"]["dropped"].items()} == {
        "other language": 6,
        "contaminated": 1,
    }
    assert manifest["build"]["evaluation_rows"] == {"looked_for": 1, "too_short": 0}


def test_standard_input(tokenizer_folder: Path, tmp_path: Path) -> None:
    texts = [article(n) for n in range(5)]
    command = [sys.executable, "-m", "chatwright", "corpus", "build", "-", "--tokenizer", str(tokenizer_folder),
               "--split.share", "0", "--workers", "1", "--out"]  # fmt: skip
    for name, data in (("j", "".join(json.dumps({"text": text}) + "\n" for text in texts)), ("t", "\n\n".join(texts))):
        more = ["--documents", "paragraph"] if name == "t" else []
        subprocess.run([*command, str(tmp_path / name), *more], input=data.encode(), check=True, timeout=100)
        assert [text.strip() for text in texts_of(tmp_path / name, "train")] == texts


# ---- whole or not there ------------------------------------------------------------------------------------


def test_nothing_appears_when_it_fails_and_the_next_build_works(
    build_corpus: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [article(n) for n in range(8)]

    def full(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(build_module, "_write", full)
        with pytest.raises(DataError, match="No space left"):
            build_corpus(texts)
    folder = build_corpus(texts)
    assert (folder / MANIFEST).is_file() and not list(folder.parent.glob(".corpus.building"))


def test_a_folder_that_is_no_corpus_is_never_changed(tmp_path: Path, build_corpus: Build) -> None:
    build_corpus([article(1), article(2)])
    (tmp_path / "mine").mkdir()
    for fresh in (False, True):
        with pytest.raises(DataError, match="exists already and is no corpus"):
            build_corpus([article(1), article(2)], "mine", fresh=fresh)


def test_a_complete_corpus_is_not_built_again(tmp_path: Path, build_corpus: Build, capsys: Any) -> None:
    texts = [write_rows(tmp_path / "texts.jsonl", [article(n) for n in range(4)])]
    folder = build_corpus(texts)
    before, said = (folder / MANIFEST).stat().st_mtime_ns, capsys.readouterr().out
    assert build_corpus(texts) == folder
    assert (folder / MANIFEST).stat().st_mtime_ns == before and capsys.readouterr().out == said
    os.utime(texts[0], ns=(before + 10**9, before + 10**9))
    assert build_corpus(texts) == folder, "another date is no other text"
    with pytest.raises(RunChangedError, match=r"settings \(--pii\)"):
        build_corpus(texts, pii=False)


def test_a_corpus_of_other_content_is_refused_or_built_anew(tmp_path: Path, build_corpus: Build) -> None:
    """The same name, size and date with one other letter is another text; the same text under another name is not."""
    texts = [write_rows(tmp_path / "texts.jsonl", [article(n) for n in range(4)])]
    folder = build_corpus(texts)
    before, about = (folder / MANIFEST).read_bytes(), texts[0].stat()
    moved = tmp_path / "moved.jsonl"
    shutil.copyfile(texts[0], moved)
    assert build_corpus([moved]) == folder and (folder / MANIFEST).read_bytes() == before
    content = texts[0].read_text(encoding="utf-8")
    texts[0].write_text(content.replace(article(0)[:12], article(0)[:11] + "q", 1), encoding="utf-8")
    os.utime(texts[0], ns=(about.st_atime_ns, about.st_mtime_ns))
    assert texts[0].stat().st_size == about.st_size
    with pytest.raises(RunChangedError, match=r"inputs \(.*texts.jsonl\)\. --fresh"):
        build_corpus(texts)
    assert (folder / MANIFEST).read_bytes() == before
    assert build_corpus(texts, fresh=True) == folder and (folder / MANIFEST).read_bytes() != before
    assert build_corpus(texts) == folder and not list(folder.parent.glob(".corpus.building"))


def test_what_is_done_is_not_done_again(build_corpus: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "UNIT_BYTES", 2000)
    texts = [write_rows(tmp_path / "texts.jsonl", [article(n) for n in range(40)])]
    whole = build_corpus(texts, "whole")
    cleaned: list[int] = []
    write = spool.write_part

    def counted(folder: Path, number: int, *args: Any) -> None:
        cleaned.append(number)
        if len(cleaned) == 4:
            raise KeyboardInterrupt
        write(folder, number, *args)

    monkeypatch.setattr(spool, "write_part", counted)
    with pytest.raises(KeyboardInterrupt):
        build_corpus(texts, "cut")
    first = list(cleaned)
    cut = build_corpus(texts, "cut")
    assert first == [0, 1, 2, 3] and cleaned[4:] == list(range(3, max(cleaned) + 1))
    assert (cut / "train-00000.bin").read_bytes() == (whole / "train-00000.bin").read_bytes()
    assert read_manifest(cut)["read"] == read_manifest(whole)["read"]


def test_other_settings_begin_anew(build_corpus: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["Mail jane.doe@example.org today. " + article(n) for n in range(4)]
    with monkeypatch.context() as patch:
        patch.setattr(build_module, "_choose", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build_corpus(texts, pii=False)
    assert all("[EMAIL]" in text for text in texts_of(build_corpus(texts, split=NO_SPLIT), "train"))


@pytest.mark.parametrize(
    "delays_s", [(1.2,), pytest.param(tuple(0.3 * n for n in range(1, 21)), marks=pytest.mark.slow)], ids=["1", "20"]
)
def test_killed_builds_end_in_the_same_corpus(delays_s: tuple[float, ...], tokenizer_folder: Path, tmp_path: Path) -> None:
    """kill -9 at several moments; then once more to the end. Worker processes go with their parent."""
    texts = write_rows(
        tmp_path / "texts.jsonl", [article(n, words=400, chinese=n % 2 == 0) for n in range(400 + 60 * len(delays_s))]
    )
    command = [
        sys.executable,
        "-m",
        "chatwright",
        "corpus",
        "build",
        str(texts),
        "--tokenizer",
        str(tokenizer_folder),
        "--out",
    ]
    environment = {**os.environ, "CHATWRIGHT_TEST_MARK": str(tmp_path)}
    subprocess.run([*command, str(tmp_path / "whole"), "--workers", "1"], check=True, timeout=110, capture_output=True)
    for delay_s in delays_s:
        process = subprocess.Popen(
            [*command, str(tmp_path / "killed"), "--workers", "2"],
            env=environment,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
    if not (tmp_path / "killed").exists():
        subprocess.run([*command, str(tmp_path / "killed"), "--workers", "2"], check=True, timeout=110, capture_output=True)
    assert read_manifest(tmp_path / "killed")["splits"] == read_manifest(tmp_path / "whole")["splits"]
    Shards.open(tmp_path / "killed").verify()
    limit = time.monotonic() + 30
    while _alive(str(tmp_path)) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not _alive(str(tmp_path))


def _alive(mark: str) -> list[str]:
    """Processes that carry the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"CHATWRIGHT_TEST_MARK={mark}".encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found


def test_two_builds_of_one_folder(build_corpus: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = build_module._choose

    def meanwhile(*args: Any) -> Any:
        monkeypatch.setattr(build_module, "_choose", choose)
        with pytest.raises(DataError, match="being built by another"):
            build_corpus([article(1), article(2)])
        return choose(*args)

    monkeypatch.setattr(build_module, "_choose", meanwhile)
    assert len(texts_of(build_corpus([article(1), article(2)], split=NO_SPLIT), "train")) == 2


# ---- errors and readers ------------------------------------------------------------------------------------


def test_what_cannot_be_built_says_so(build_corpus: Build) -> None:
    with pytest.raises(UsageError, match="no file given"):
        build_module.build(BuildConfig(files=(), tokenizer="x", out="y"))
    with pytest.raises(DataError, match="one document cannot be split"):
        build_corpus([article(1)], "one")
    with pytest.raises(DataError, match=r"2 x too short.*--raw"):
        build_corpus(["a", "b"], "short")
    with pytest.raises(DataError, match="there is no such file"):
        build_corpus([Path("/nowhere/x.txt")], "absent")
    with pytest.raises(ConfigError, match="--raw"):
        build_corpus([article(1)], "raw", raw=True, languages=("en",))
    with pytest.raises(ConfigError, match=r"--split\.share"):
        build_corpus([article(1)], "share", split=SplitConfig(share=1.0))


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    spool.write_part(tmp_path, 0, ["a", "b"], np.zeros(2, spool.RECORD), {})
    assert list(spool.read_texts(tmp_path, 0)) == ["a", "b"]
    for name in ("000000.zst", "000000.npy"):
        content = bytearray((tmp_path / name).read_bytes())
        content[len(content) // 2] ^= 255
        (tmp_path / name).write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"000000\.zst: is damaged"):
        list(spool.read_texts(tmp_path, 0))
    with pytest.raises(DataError, match=r"000000\.npy: is damaged"):
        spool.read_records(tmp_path, 0)


def test_ptx_reads_the_built_corpus(build_corpus: Build, make_tokenizer: Any) -> None:
    folder = build_corpus([article(n) for n in range(20)])
    tokenizer = Tokenizer.from_folder(folder / TOKENIZER)
    blocks = lm.load_blocks([folder], tokenizer, 16)
    shards = Shards.open(folder)
    flat = [i for n in range(len(blocks)) for i in blocks.batch([n]).tokens_BT[0].tolist()]
    assert flat == shards.tokens(0, len(flat)).tolist() and shards.num_tokens - len(flat) <= 1
    with pytest.raises(DataError, match="another tokenizer"):
        lm.load_blocks([folder], make_tokenizer(), 16)
    with pytest.raises(DataError, match="give it alone"):
        lm.load_blocks([folder, folder], tokenizer, 16)


def test_help_and_progress_are_shown_on_stderr(build_corpus: Build, capsys: pytest.CaptureFixture[str]) -> None:
    build_corpus([article(n) for n in range(5)])
    shown = capsys.readouterr()
    assert "MB/s" in shown.err and "taken" in shown.err
    assert "documents read" in shown.out and "held_out" in shown.out
