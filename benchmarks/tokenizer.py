"""How short our tokenizer makes text, beside SmolLM2's and Qwen2.5's, for each language, on text none of ours learned from.

    python benchmarks/tokenizer.py --data ../shared/data --out benchmarks/results/tokenizer.json     # about 3 minutes

Ours learns from 90 % of the Tang poems (by a hash of the poem), Chinese instructions and English prose and questions; the
other 10 % are measured. It has 8,192 and 16,384 entries against 49,152 and 151,936, and knows the kind of text: so this says
what a tokenizer of one's own buys, not that it is better.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

from chatwright.data.corpus_build.compression import compression, table
from chatwright.data.corpus_build.sources import documents, inputs, units
from chatwright.data.splits import hash_of
from chatwright.errors import DataError
from chatwright.text.bpe import train_bpe

SIZES = (8_192, 16_384)


def texts(data: Path) -> list[str]:
    """Poems, prose in paragraphs, questions and answers."""
    found = []
    for name, field, kind in (("text/tang_poems.jsonl.gz", "paragraphs", "file"),
                              ("text/tinyshakespeare.txt", "text", "paragraph"),
                              ("demonstrations/self_instruct_seed_tasks.jsonl", "instruction", "file"),
                              ("eval_tax/gsm8k_test.jsonl", "question", "file")):  # fmt: skip
        for source in inputs([str(data / name)]):
            for unit in units(source, kind):  # type: ignore[arg-type]
                found += [one.text for one in documents(unit, field) if not isinstance(one, DataError)]
    rows = json.loads((data / "demonstrations" / "alpaca_zh_demo_not_human.json").read_text(encoding="utf-8"))
    return found + [f"{row['instruction']}\n{row['input']}\n{row['output']}" for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--work", default="/tmp/tokenizer-benchmark")
    parser.add_argument("--out", default="")
    args = parser.parse_args()
    distinct = list(dict.fromkeys(texts(Path(args.data))))
    held_out = [text for text in distinct if hash_of(text, seed=0) < 0.1 * 2**64]
    train = sorted(set(distinct) - set(held_out))
    names = []
    for size in SIZES:
        folder = Path(args.work, f"ours-{size}")
        train_bpe(train, size).save(folder)
        names.append(str(folder))
    rows: list[dict[str, Any]] = compression(held_out, [*names, "smollm2-135m-instruct", "qwen"])
    for row in rows:
        row["tokenizers"] = {Path(name).name: found for name, found in row["tokenizers"].items()}
    rows = [row for row in rows if row["bytes"] > 10_000]
    print(table(rows))
    if args.out:
        Path(args.out).write_text(json.dumps({"date": str(date.today()), "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
