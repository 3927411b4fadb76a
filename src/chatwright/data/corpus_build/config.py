"""Settings of `chatwright corpus build`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from chatwright.data.corpus_build.sources import Documents
from chatwright.errors import ConfigError, UsageError

Files = tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE...")]]


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """Heuristics on one document; the limits are Gopher's (arXiv 2112.11446, table A1) unless said. A limit of 0 (least)
    or 1 (most) turns a rule off."""

    enabled: bool = True
    """Apply these rules at all."""
    min_bytes: int = 64
    """Least length in UTF-8 bytes (20 Han characters, ten English words): shorter is a caption or a menu. Ours."""
    min_words: int = 5
    """Least number of words; each Han, Kana or Hangul letter counts as one. Ours (Gopher: 50, for web pages)."""
    max_words: int = 100_000
    """Most words."""
    max_mean_word: float = 12.0
    """Longest mean word in letters, of scripts with blanks (Gopher: 10, for English)."""
    min_letters: float = 0.5
    """Least share of letters and marks among the characters that are not blanks. Ours; tables and dumps fall below."""
    max_symbols: float = 0.25
    """Most symbols (neither letters, digits, marks, blanks nor common punctuation) per word (Gopher: 0.1 of # and ...)."""
    max_bullet_lines: float = 0.9
    """Largest share of lines that begin with a bullet."""
    max_ellipsis_lines: float = 0.3
    """Largest share of lines that end with an ellipsis."""
    max_repeated_lines: float = 0.3
    """Largest share of lines that stood in the document before."""
    max_repeated_line_characters: float = 0.2
    """Largest share of characters in such lines."""
    max_top_ngram: float = 0.2
    """Largest share of characters in the most frequent 2-gram of words (3-gram: 0.9 of it, 4-gram: 0.8, as Gopher's)."""
    max_repeated_ngrams: float = 0.15
    """Largest share of characters in 5-grams that come more than once (up to 10-grams: 0.01 less each, as Gopher's)."""
    repetition_words: int = 50
    """The two rules on n-grams apply from this many words on. Ours: in a poem everything repeats."""
    max_replaced: float = 0.001
    """Largest share of U+FFFD, what is left of text that was decoded wrongly. Ours."""


@dataclass(frozen=True, kw_only=True)
class DedupeConfig:
    """Documents that are there already; the first one stays."""

    exact: bool = True
    """Drop documents equal to an earlier one (after normalisation)."""
    near: bool = True
    """Drop documents nearly equal to an earlier one: MinHash of word 5-grams, candidates by locality-sensitive hashing."""
    similarity: float = 0.75
    """Least estimated Jaccard similarity of the 5-gram sets of near-duplicates."""
    ngram: int = 5
    """Words in an n-gram."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """What is kept aside for measuring."""

    by: Literal["document", "end"] = "document"
    """document: about `share` of the documents, chosen by a hash of their text; end: the last `share` of the characters
    of every document (one long text, as nanoGPT splits tinyshakespeare)."""
    share: float = 0.01
    """Share that is held out; 0 for nothing."""
    seed: int = 0
    """Another seed holds out other documents."""


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Turn raw text into a training corpus: cleaned, deduplicated, split, tokenised; every drop counted by its reason."""

    files: Files
    """Text, JSON lines, Parquet (also .gz, .zst); folders, globs, or - for standard input."""
    tokenizer: str
    """Folder of the tokenizer, or a named model whose tokenizer is meant."""
    out: str
    """Folder to write to; it appears when everything is done."""
    text_field: str = "text"
    """Field of JSON lines, or column of Parquet, that holds the text (a list of texts is joined by line ends)."""
    documents: Documents = "file"
    """What is a document in text files: the file, a paragraph (ended by a blank line), or a line."""
    raw: bool = False
    """Take the text as it is: no normalisation, no filters, no deduplication."""
    normalise: Literal["nfc", "nfkc", "none"] = "nfc"
    """Unicode normal form; also mends line ends, drops control characters and trailing blanks. none leaves all of it."""
    languages: tuple[str, ...] = ()
    """Keep only these languages (ISO 639 codes: en zh es ...); nothing keeps all."""
    quality: QualityConfig = QualityConfig()
    """Heuristics on one document."""
    dedupe: DedupeConfig = DedupeConfig()
    """Duplicates."""
    pii: bool = True
    """Replace e-mail addresses, telephone numbers, card and ID numbers and the like by placeholders."""
    profanity: bool = True
    """Drop documents with much profanity (see profanity_words)."""
    profanity_words: str = ""
    """A file of words or phrases, one a line, instead of the short built-in list for English and Chinese."""
    decontaminate: tuple[str, ...] = ()
    """Evaluation files: documents that share 13 words in a row with a row of them are dropped (as in arXiv 2005.14165)."""
    split: SplitConfig = SplitConfig()
    """The held-out part."""
    bos: bool = True
    """Begin every document with the tokenizer's bos token, when it has one that is no turn marker."""
    shard_tokens: int = 100_000_000
    """Tokens of a shard."""
    fresh: bool = False
    """Replace the corpus in `out` when it is of other text or settings; without it, that is refused."""
    workers: int = 0
    """Processes; 0 for one per core, 1 for none beside this one."""
    licence: str = ""
    """Licence and source of the text, for the data card."""

    def check(self) -> None:
        """UsageError or ConfigError for settings that cannot be."""
        if not self.files:
            raise UsageError("no file given; name the files to build the corpus from")
        if not 0.0 <= self.split.share < 1.0:
            raise ConfigError(f"--split.share {self.split.share}: must be at least 0 and below 1")
        if not 0.0 < self.dedupe.similarity <= 1.0 or self.dedupe.ngram < 1:
            raise ConfigError("--dedupe.similarity must lie above 0 and at most at 1, --dedupe.ngram be 1 or more")
        if self.shard_tokens < 1 or self.workers < 0:
            raise ConfigError("--shard-tokens must be 1 or more, --workers 0 or more")
        if self.raw and (self.languages or self.decontaminate or self.profanity_words):
            raise ConfigError("--raw takes the text as it is: leave out --languages, --decontaminate and --profanity-words")
