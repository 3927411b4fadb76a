"""`chatwright corpus build`, start to end. Read `build` top to bottom; each step is a function below it.

Two passes over the text, both in worker processes, with the search for duplicates between them. Documents have numbers in
the order of the input, and every choice depends on texts and numbers only: the result is the same with one worker or many.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chatwright.config import to_dict
from chatwright.data import shards
from chatwright.data.corpus_build import card, dedupe, sources, spool
from chatwright.data.corpus_build.config import BuildConfig
from chatwright.data.corpus_build.decontaminate import contamination
from chatwright.data.corpus_build.names import open_tokenizer
from chatwright.data.corpus_build.pool import Pool, pool
from chatwright.data.corpus_build.progress import Megabytes
from chatwright.data.corpus_build.work import Counts, Task, frame
from chatwright.data.shard_writer import ShardWriter
from chatwright.data.shards import SPLITS
from chatwright.data.splits import hash_of
from chatwright.errors import DataError, RunChangedError
from chatwright.text.tokenizer import Tokenizer

DROPPED, TRAIN, HELD_OUT = -1, 0, 1


def build(cfg: BuildConfig) -> None:
    """Build the corpus, print what came of it. Raises UsageError, ConfigError, DataError, ModelError."""
    cfg.check()
    out = Path(cfg.out)
    tokenizer = open_tokenizer(cfg.tokenizer)
    found = sources.inputs(cfg.files)
    origin = _origin(cfg, found, tokenizer)
    if out.exists():
        changes = _changes(out, origin, found)
        if not changes:
            print(card.summary(shards.read_manifest(out), out))
            return
        if not cfg.fresh:
            raise RunChangedError(
                f"{out}: holds a corpus of other {'; '.join(changes)}. --fresh builds it anew; another --out keeps it"
            )
    resume = not any(one.is_stdin for one in found)
    with _work_folder(out, _digest(origin), resume=resume) as work:
        tokenizer.save(work / "out" / shards.TOKENIZER)
        evaluation = contamination(cfg.decontaminate) if cfg.decontaminate else None
        task = Task(cfg=cfg, parts=work / "parts", tokenizer=work / "out" / shards.TOKENIZER, contamination=evaluation)
        with pool(task, cfg.workers or os.cpu_count() or 1) as workers:
            counts, sizes = _clean(workers, task.parts, found, cfg)
            chosen = _choose(work, sizes, counts, cfg)
            splits, languages = _tokenise(workers, work, sizes, chosen, tokenizer, cfg)
        manifest = _manifest(tokenizer, cfg, counts, splits, languages, origin)
        if evaluation is not None:
            manifest["build"]["evaluation_rows"] = {"looked_for": evaluation.num_rows, "too_short": evaluation.num_short}
        _finish(work / "out", out, manifest)
    print(card.summary(manifest, out))


def _origin(cfg: BuildConfig, found: Sequence[sources.Input], tokenizer: Tokenizer) -> dict[str, Any]:
    """All that decides what is built: settings, inputs and lists by their content, tokenizer (manifest: build)."""
    lists = [str(one.path) for one in sources.inputs(cfg.decontaminate)] if cfg.decontaminate else []
    lists += [cfg.profanity_words] if cfg.profanity_words else []
    hashes = sources.hashes([one.path for one in found])
    inputs = [
        {"path": str(one.path), "bytes": one.size, "sha256": digest} for one, digest in zip(found, hashes, strict=True)
    ]
    whole = {
        "settings": {name: value for name, value in to_dict(cfg).items() if name not in ("workers", "out", "fresh")},
        "inputs": inputs,
        "lists": [{"path": name, "sha256": digest} for name, digest in zip(lists, sources.hashes(lists), strict=True)],
        "tokenizer": tokenizer.fingerprint,
    }
    return dict(json.loads(json.dumps(whole)))


_PATHS = ("files", "decontaminate", "profanity_words", "tokenizer")
"""Settings that name what is read: compared by content."""


def _changes(out: Path, origin: dict[str, Any], found: Sequence[sources.Input]) -> list[str]:
    """Inputs of `out` that differ from `origin`; empty: the same. DataError for a folder that is no corpus."""
    if not (out / shards.MANIFEST).is_file():
        raise DataError(f"{out}: exists already and is no corpus; remove it, or give another --out")
    old = shards.read_manifest(out).get("build", {})
    if any(one.is_stdin for one in found):
        return ["text, or the same: standard input cannot be compared"]
    if "lists" not in old:
        return ["inputs or the same: an earlier version built it and did not note their content"]
    settings = [name for name in origin["settings"] if name not in _PATHS]
    changed = [f"--{name.replace('_', '-')}" for name in settings if old["settings"].get(name) != origin["settings"][name]]
    parts = [f"settings ({', '.join(changed)})"] if changed else []
    for name, words in (("inputs", "inputs"), ("lists", "word or evaluation lists")):
        was, now = [one["sha256"] for one in old[name]], [one["sha256"] for one in origin[name]]
        if was != now:
            other = [one["path"] for one in origin[name] if one["sha256"] not in was]
            gone = [one["path"] for one in old[name] if one["sha256"] not in now]
            parts.append(f"{words} ({_first(other or gone) or 'in another order'})")
    if old["tokenizer"] != origin["tokenizer"]:
        parts.append("tokenizer")
    return parts


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# ---- where the work lies -----------------------------------------------------------------------------------


def _digest(origin: dict[str, Any]) -> str:
    """Hash of all that decides the parts of the spool: a build resumes only from parts of the same."""
    settings = {name: value for name, value in origin["settings"].items() if name not in ("files", "licence")}
    inputs = [{"path": str(Path(one["path"]).resolve()), "sha256": one["sha256"]} for one in origin["inputs"]]
    value = [shards.VERSION, {**origin, "settings": settings, "inputs": inputs}]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@contextmanager
def _work_folder(out: Path, identity: str, *, resume: bool) -> Iterator[Path]:
    """A hidden folder beside `out`, held by a lock; kept after an error, so that the next build goes on from it."""
    work = out.parent / f".{out.name}.building"
    with _disk(out.parent):
        work.mkdir(parents=True, exist_ok=True)
        lock = open(work / "lock", "a+b")  # noqa: SIM115 - held until the end
    with lock:
        _hold(lock.fileno(), out)
        mark = work / "identity"
        same = mark.is_file() and mark.read_text() == identity and resume
        for inside in work.iterdir():
            if inside.name not in ("lock", "identity", "parts") or (inside.name == "parts" and not same):
                shutil.rmtree(inside, ignore_errors=True)
        (work / "parts").mkdir(exist_ok=True)
        (work / "out").mkdir()
        (work / "sorted").mkdir()
        mark.write_text(identity)
        with _disk(work):
            yield work
    shutil.rmtree(work, ignore_errors=True)


def _hold(descriptor: int, out: Path) -> None:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        return
    except BlockingIOError:
        raise DataError(f"{out}: is being built by another process; wait for it or give another --out") from None


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except (PermissionError, NotADirectoryError, FileExistsError):
        raise  # `--out` cannot be written: said as for every command
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{folder}: {reason}; a build takes about the size of its text beside the result") from error


# ---- the passes --------------------------------------------------------------------------------------------


def _clean(
    workers: Pool, parts: Path, found: Sequence[sources.Input], cfg: BuildConfig
) -> tuple[Counts, list[int]]:
    """First pass: every batch of input becomes a part of the spool. Returns counts, and the documents of each part."""
    counts, sizes = Counts(), []
    resume = not any(one.is_stdin for one in found)
    done: dict[int, dict[str, Any]] = {}
    read: dict[int, int] = {}

    def fresh() -> Iterator[tuple[int, tuple[sources.Unit, ...]]]:
        for number, batch in enumerate(sources.batches(found, cfg.documents)):
            read[number] = sum(unit.read_bytes for unit in batch)
            known = spool.read_counts(parts, number) if resume else None
            if known is None:
                yield number, batch
            else:
                done[number] = known

    with Megabytes("reading and cleaning", sum(one.size for one in found)) as bar:
        results = workers.run("clean", fresh())
        number = 0
        for counted in results:
            while number in done:
                sizes.append(_count(counts, done.pop(number)))
                bar.add(read.pop(number))
                number += 1
            sizes.append(_count(counts, counted))
            bar.add(read.pop(number))
            number += 1
        for number in sorted(done):
            sizes.append(_count(counts, done[number]))
            bar.add(read.pop(number))
    if not sum(sizes):
        raise _nothing_left(counts)
    return counts, sizes


def _count(counts: Counts, counted: dict[str, Any]) -> int:
    counts.add(counted)
    return int(counted["texts"])


def _nothing_left(counts: Counts) -> DataError:
    if not counts.documents:
        return DataError("the files hold no text")
    reasons = ", ".join(f"{about['documents']} x {reason}" for reason, about in counts.dropped.items())
    first = next((about["examples"][0] for about in counts.dropped.values() if about["examples"]), "")
    split = "--documents paragraph splits text files at blank lines, " if "too many words" in counts.dropped else ""
    return DataError(f"no document is left: {reasons} (the first: {first}); {split}--raw takes text as it is")


def _choose(work: Path, sizes: Sequence[int], counts: Counts, cfg: BuildConfig) -> npt.NDArray[np.int8]:
    """[documents] DROPPED, TRAIN or HELD_OUT."""
    duplicates = dedupe.Duplicates(work / "sorted", work / "parts", sizes)
    if not cfg.raw:
        if cfg.dedupe.exact:
            duplicates.mark_exact()
        if cfg.dedupe.near:
            duplicates.mark_near(cfg.dedupe.similarity)
    chosen = np.where(duplicates.verdicts == dedupe.KEEP, TRAIN, DROPPED).astype(np.int8)
    hold_out = cfg.split.by == "document" and cfg.split.share > 0
    limit = int(cfg.split.share * 2**64)
    start = 0
    least, last = (2**64, -1), 0
    for number, size in enumerate(sizes):
        if not size:
            continue
        records = spool.read_records(work / "parts", number)
        for reason, verdict in (("exact duplicate", dedupe.EXACT), ("near duplicate", dedupe.NEAR)):
            same = duplicates.verdicts[start : start + size] == verdict
            if same.any():
                counts.duplicates(reason, int(same.sum()), int(records["bytes"][same].sum()))
        for n in np.flatnonzero(chosen[start : start + size] == TRAIN).tolist() if hold_out else ():
            place = hash_of(f"{int(records['key'][n, 0]):x}{int(records['key'][n, 1]):x}", cfg.split.seed)
            least = min(least, (place, start + n))
            last += 1
            if place < limit:
                chosen[start + n] = HELD_OUT
        start += size
    if hold_out:
        _both_sides(chosen, least[1], last)
    shutil.rmtree(work / "sorted")
    return chosen


def _both_sides(chosen: npt.NDArray[np.int8], first: int, num: int) -> None:
    """At least one document on either side: the one that is held out at the smallest share, or trained on at the largest."""
    if num < 2:
        raise DataError("one document cannot be split by document; give --split.by end, or --split.share 0")
    if not (chosen == HELD_OUT).any():
        chosen[first] = HELD_OUT
    elif not (chosen == TRAIN).any():
        chosen[first] = TRAIN


def _tokenise(
    workers: Pool, work: Path, sizes: Sequence[int], chosen: npt.NDArray[np.int8], tokenizer: Tokenizer, cfg: BuildConfig
) -> tuple[dict[str, Any], dict[str, dict[str, int]]]:
    """Second pass: the kept documents of each part become ids in shards. Returns the manifest's splits and the sizes of
    each language."""
    dtype = "uint16" if tokenizer.vocab_size <= 2**16 else "uint32"
    writers = {split: ShardWriter(work / "out", split, dtype=dtype, shard_tokens=cfg.shard_tokens) for split in SPLITS}
    languages: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_SIZES, 0))
    ends = np.cumsum(sizes)
    items = ((n, chosen[ends[n] - sizes[n] : ends[n]]) for n in range(len(sizes)) if sizes[n])
    packed = [(work / "parts" / f"{n:06d}.zst").stat().st_size for n in range(len(sizes)) if sizes[n]]
    try:
        with Megabytes("tokenising", sum(packed), counts="packed MB") as bar:
            for size, encoded in zip(packed, workers.run("tokenise", items), strict=True):
                for split, documents in encoded.items():
                    _write(writers[split], documents, languages)
                bar.add(size)
        return {split: writer.finish() for split, writer in writers.items()}, dict(languages)
    finally:
        for writer in writers.values():
            writer.abandon()


_SIZES = ("documents", "bytes", "characters", "tokens")


def _write(writer: ShardWriter, encoded: Any, languages: dict[str, dict[str, int]]) -> None:
    start = 0
    rows = zip(encoded.lengths.tolist(), encoded.num_bytes, encoded.num_characters, encoded.tags, strict=True)
    for length, num_bytes, num_characters, tags in rows:
        writer.add(encoded.ids[start : start + length], num_bytes=num_bytes, num_characters=num_characters)
        start += length
        sizes = languages[tags]
        for name, value in zip(_SIZES, (1, num_bytes, num_characters, length), strict=True):
            sizes[name] += value


# ---- the end -----------------------------------------------------------------------------------------------


def _manifest(
    tokenizer: Tokenizer, cfg: BuildConfig, counts: Counts, splits: dict[str, Any], languages: dict[str, dict[str, int]],
    origin: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    bos, eos = frame(tokenizer, cfg)
    by_language = [{"language": tags.partition(" ")[0], "script": tags.partition(" ")[2], **sizes}
                   for tags, sizes in sorted(languages.items(), key=lambda item: -item[1]["bytes"])]  # fmt: skip
    return {
        "format": shards.FORMAT,
        "version": shards.VERSION,
        "tokenizer": {"sha256": shards.vocabulary_sha256(tokenizer), "vocab_size": tokenizer.vocab_size},
        "dtype": "uint16" if tokenizer.vocab_size <= 2**16 else "uint32",
        "document": {"bos": bos, "eos": eos},
        "splits": splits,
        "languages": by_language,
        "read": counts.to_dict(),
        "build": origin,
    }


def _finish(stage: Path, out: Path, manifest: dict[str, Any]) -> None:
    """Data card and manifest, everything to disk, then the name: `out` is whole or not there."""
    (stage / "README.md").write_text(card.text(manifest), encoding="utf-8")
    (stage / shards.MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    for file in [*stage.rglob("*"), stage]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    old = stage.parent / "replaced"
    if out.exists():  # --fresh
        os.rename(out, old)
    os.rename(stage, out)
    descriptor = os.open(out.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
