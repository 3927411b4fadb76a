"""`chatwright data pairs`: pairs of texts from what is at hand. No torch.

* CLDR's names of emoji and symbols: short names across languages, the sign and its name, keywords and the name.
* Questions and answers: the best answer of every ranking, the answer of every demonstration.
* Titles and texts: JSON lines with a title beside a text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from chatwright.data import cldr
from chatwright.data.importing import read_file
from chatwright.data.pairs import Pair, distinct
from chatwright.errors import ConfigError
from chatwright.jsonl import Where, check_writable, read_jsonl, write_jsonl
from chatwright.records import Conversation, Ranking, bad_rows_error

MIN_ANSWER = 20  # characters: "Yes." answers many questions
_NUMBER = re.compile(r"[\s\d一二三四五六七八九十百其首]+$|[\s(（].*$")


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Collect pairs for `chatwright embed-train`."""

    answers: tuple[str, ...] = ()
    """Rankings and demonstrations, in any format `data import` reads: questions with their (best) answers."""
    titled: tuple[str, ...] = ()
    """JSON lines (plain or gzip) of texts with a title."""
    title_field: str = "title"
    """Field of the title."""
    text_field: str = "paragraphs"
    """Field of the text; a list of texts is joined."""
    locales: tuple[str, ...] = ()
    """Languages whose CLDR names are paired, such as en zh es (`chatwright cldr fetch` brings them once)."""
    cldr_file: str = ""
    """The CLDR package; empty: the one in the cache."""
    out: str
    """File to write: JSON lines."""


def build(cfg: PairsConfig) -> dict[str, int]:
    """Write the pairs, without duplicates, and print how many came from where."""
    if not (cfg.answers or cfg.titled or cfg.locales):
        raise ConfigError("data pairs: nothing to pair; give --answers, --titled or --locales")
    if cfg.cldr_file and not cfg.locales:
        raise ConfigError("--cldr-file has no effect without --locales")
    check_writable(cfg.out)
    pairs: list[Pair] = []
    for path in cfg.answers:
        pairs += answer_pairs(path)
    for path in cfg.titled:
        pairs += title_pairs(path, title_field=cfg.title_field, text_field=cfg.text_field)
    if cfg.locales:
        pairs += cldr_pairs(cldr.load(cfg.locales, file=cfg.cldr_file or None))
    kept = distinct(pairs)
    write_jsonl(cfg.out, (pair.to_dict() for pair in kept))
    counts = Counter(pair.source for pair in kept)
    for source, num in sorted(counts.items()):
        print(f"{source}: {num} pairs")
    print(f"wrote {len(kept)} pairs to {cfg.out} ({len(pairs) - len(kept)} duplicates left out)")
    return dict(counts)


def cldr_pairs(names: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterator[Pair]:
    """Of every code point: its short names in each two languages, the sign with its name, its keywords with its name."""
    for point, by_locale in names.items():
        for one, other in combinations(by_locale, 2):
            yield Pair(query=by_locale[one][0], passage=by_locale[other][0], source=f"cldr {one}-{other}", group=point)
        for locale, (name, *keywords) in by_locale.items():
            yield Pair(query=point, passage=name, source=f"cldr sign-{locale}", group=point)
            if len(keywords) > 1:
                yield Pair(query=", ".join(keywords), passage=name, source=f"cldr keywords-{locale}", group=point)


def answer_pairs(path: str | Path) -> Iterator[Pair]:
    """Of every ranking the last question and the best answer (of equals, the first), of rankings with passages the question
    and each passage; of every demonstration the question and its answer. DataError for bad rows."""
    found = read_file(path)
    if found.bad:
        raise bad_rows_error(found.bad, used=found.num_records)
    source = Path(path).name.split(".")[0]
    for ranking in found.rankings:
        group, question = _document(ranking.messages), ranking.messages[-1].content
        yield from _answer(question, _best(ranking), f"answers {source}", group)
        for passage in ranking.context:
            text = passage if isinstance(passage, str) else str(passage.get("text", ""))
            yield from _answer(question, text, f"passages {source}", group)
    for demonstration in found.demonstrations:
        question = demonstration.messages[-2].content
        yield from _answer(question, demonstration.answer, f"answers {source}", _document(demonstration.messages))


def _answer(question: str, answer: str, source: str, group: str) -> Iterator[Pair]:
    if question.strip() and len(answer.strip()) >= MIN_ANSWER:
        yield Pair(query=question, passage=answer, source=source, group=group)


def _best(ranking: Ranking) -> str:
    ranks = ranking.order.ranks
    return ranking.completions[min((rank, place) for place, rank in enumerate(ranks) if rank is not None)[1]]


def _document(messages: Conversation) -> str:
    """What a conversation begins with: its turns are of one document."""
    return next(message.content for message in messages if message.role != "system")


def title_pairs(path: str | Path, *, title_field: str = "title", text_field: str = "paragraphs") -> Iterator[Pair]:
    """Title and text of every row that has both. A group is the title without number: the parts of a series share it."""
    source = f"titles {Path(path).name.split('.')[0]}"
    for line, row in read_jsonl(path):
        where = Where(path, line)
        title, text = where.text(row.get(title_field), title_field).strip(), _text(row, text_field, where).strip()
        if title and text:
            yield Pair(query=title, passage=text, source=source, group=_NUMBER.sub("", title) or title)


def _text(row: Mapping[str, Any], name: str, where: Where) -> str:
    value = row.get(name)
    if isinstance(value, list):
        return "".join(where.text(part, f"{name}[{n}]") for n, part in enumerate(value))
    return where.text(value, name)
