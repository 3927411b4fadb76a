"""`chatwright corpus build` on a large synthetic corpus: speed, and memory that stays flat as the corpus grows.

    python benchmarks/corpus.py --mb 50 300                # some minutes; needs twice the size free in --work
    python benchmarks/corpus.py --mb 500 5000 --out benchmarks/results/corpus.json

The text is made, not collected: English and Chinese articles of 0.3 to 6 kB of words drawn by a Zipf law, written with
known numbers of exact duplicates (2 %), near-duplicates (3 %: one word in fifty changed), short rows (2 %), repetitive
pages (1 %) and e-mail addresses (5 %). So besides speed and memory it is measured how many of each were found.
Memory is the resident set of the build and its workers together (proportional set size, so that shared pages count once),
sampled twice a second; anonymous memory is shown by itself, as mapped files are the system's to take back.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from chatwright.data.shards import Shards, read_manifest

HAN = [chr(point) for point in range(0x4E00, 0x4E00 + 3000)]
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]


class Maker:
    """Draws articles; the same seed gives the same corpus."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        words = {"".join(self.random.choice(SYLLABLES, self.random.integers(1, 4))) for _ in range(60_000)}
        self.words = np.array(sorted(words), dtype=object)
        weights = 1.0 / np.arange(1, len(self.words) + 1)
        self.word_limits = np.cumsum(weights / weights.sum())
        weights = 1.0 / np.arange(1, len(HAN) + 1) ** 0.8
        self.han_limits = np.cumsum(weights / weights.sum())
        self.made: dict[str, int] = {}

    def article(self) -> str:
        if self.random.random() < 0.3:
            places = np.searchsorted(self.han_limits, self.random.random(self.random.integers(100, 1500)))
            text = "".join(HAN[place] for place in places)
            return "。".join(text[n : n + 24] for n in range(0, len(text), 24)) + "。"
        places = np.searchsorted(self.word_limits, self.random.random(self.random.integers(60, 1000)))
        words = self.words[places].tolist()
        return ". ".join(" ".join(words[n : n + 14]) for n in range(0, len(words), 14)) + "."

    def rows(self, num_bytes: int) -> Iterator[str]:
        """Articles and the flawed ones among them, up to a size."""
        size, earlier = 0, self.article()
        while size < num_bytes:
            kind = self.random.choice(6, p=[0.87, 0.02, 0.03, 0.02, 0.01, 0.05])
            text = self.flawed(int(kind), earlier)
            if kind == 0 and self.random.random() < 0.02:
                earlier = text
            size += len(text.encode())
            yield text

    def flawed(self, kind: int, earlier: str) -> str:
        name = ("good", "exact duplicate", "near duplicate", "short", "repetitive", "e-mail")[kind]
        self.made[name] = self.made.get(name, 0) + 1
        if kind == 1:
            return earlier
        if kind == 2:
            cut = self.random.integers(len(earlier) // 3, len(earlier) // 2)
            return earlier[:cut] + " x" + earlier[cut + 1 :]
        if kind == 3:
            return self.article()[:20]
        if kind == 4:
            return self.article()[:40] * 30
        return self.article() + (" Write to a.b@example.org." if kind == 5 else "")


def memory_mb(top: int) -> tuple[float, float]:
    """(proportional, anonymous) megabytes of a process and all below it."""
    processes, found = [top], [0.0, 0.0]
    while processes:
        process = processes.pop()
        try:
            for task in Path(f"/proc/{process}/task").iterdir():
                processes += map(int, (task / "children").read_text().split())
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                for n, name in enumerate(("Pss:", "Pss_Anon:")):
                    found[n] += int(line.split()[1]) / 1024 if line.startswith(name) else 0.0
        except OSError:
            continue
    return found[0], found[1]


def watched(command: list[str]) -> tuple[float, float, float]:
    """Run; (seconds, most memory, most anonymous memory)."""
    started = time.perf_counter()
    process = subprocess.Popen(command)
    peak, anonymous = 0.0, 0.0
    while process.poll() is None:
        now = memory_mb(process.pid)
        peak, anonymous = max(peak, now[0]), max(anonymous, now[1])
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return time.perf_counter() - started, peak, anonymous


def measure(megabytes: int, work: Path, tokenizer: Path, workers: int) -> dict[str, Any]:
    source, out = work / f"{megabytes}.jsonl", work / f"corpus-{megabytes}"
    maker = Maker(megabytes)
    with open(source, "w", encoding="utf-8") as file:
        for text in maker.rows(megabytes * 10**6):
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    command = [sys.executable, "-m", "chatwright", "corpus", "build", str(source), "--tokenizer", str(tokenizer),
               "--out", str(out), "--workers", str(workers)]  # fmt: skip
    seconds, peak, anonymous = watched(command)
    manifest = read_manifest(out)
    for split in ("train", "held_out"):
        Shards.open(out, split).verify()
    train = manifest["splits"]["train"]
    result = {
        "megabytes": megabytes, "seconds": round(seconds, 1), "mb_per_s": round(megabytes / seconds, 2),
        "peak_mb": round(peak), "peak_anonymous_mb": round(anonymous), "workers": workers,
        "documents": manifest["read"]["documents"], "tokens": train["tokens"], "made": maker.made,
        "dropped": {reason: about["documents"] for reason, about in manifest["read"]["dropped"].items()},
        "scrubbed": manifest["read"]["scrubbed"],
    }  # fmt: skip
    source.unlink()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, nargs="+", default=[50, 300])
    parser.add_argument("--work", default="/tmp/corpus-benchmark")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", default="")
    args = parser.parse_args()
    work = Path(args.work)
    work.mkdir(parents=True)
    sample, tokenizer = work / "sample.txt", work / "tokenizer"
    sample.write_text("\n".join(Maker(1).rows(4 * 10**6)), encoding="utf-8")
    command = ["tokenizer", "train", str(sample), "--documents", "line", "--vocab-size", "8192", "--out", str(tokenizer)]
    subprocess.run([sys.executable, "-m", "chatwright", *command], check=True)
    results = []
    for megabytes in args.mb:
        results.append(measure(megabytes, work, tokenizer, args.workers))
        print(json.dumps(results[-1], indent=1), flush=True)
    first, last = results[0], results[-1]
    growth = [last[name] / first[name] for name in ("peak_anonymous_mb", "peak_mb")]
    print(
        f"{last['megabytes'] / first['megabytes']:.1f} times the text, {growth[0]:.2f} times the memory "
        f"({growth[1]:.2f} with mapped files)"
    )
    if args.out:
        Path(args.out).write_text(
            json.dumps({"date": str(date.today()), "runs": results}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
