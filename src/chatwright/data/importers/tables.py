"""Tables: rows with named columns (CSV, XLSX, flat JSON) -> records."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from chatwright.data.importers.base import (
    EQUAL,
    EQUAL_APART,
    Found,
    LeftOut,
    Turns,
    conversation_record,
    other_fields,
    pair_record,
    ranked_record,
    samples_record,
    turn,
)
from chatwright.data.importers.chats import prompt_turns
from chatwright.data.importers.columns import Columns, choice_of, columns_of, is_suffix
from chatwright.data.importers.rows import with_input
from chatwright.jsonl import Where
from chatwright.records import LETTERS, MIN_K, Ranking, letter_index

_NO_NUMBER = ("", "nan", "none", "null", "n/a", "-")


def table_row(row: Mapping[str, Any], where: Where) -> Found:
    """A row with named columns: prompt with completion, chosen and rejected, or two and more answers with ranks, scores, a
    ranking like `B>A=C`, or the name of the better one."""
    columns = columns_of(list(row))
    meanings = columns.by_meaning
    row, turns = _question(row, columns, where)
    if isinstance(turns, LeftOut):
        return [turns]
    rest = other_fields(row, *(column for name, column in meanings.items() if name != "ranking"))
    better = meanings.get("chosen", meanings.get("completion"))
    if "rejected" in meanings and better is not None:
        chosen, rejected = where.text(row[better], better), where.text(row[meanings["rejected"]], meanings["rejected"])
        return pair_record(turns, chosen, rejected, rest, "table", where)
    ranking = row.get(meanings.get("ranking", ""))
    if "ranking" in meanings and not _can_choose(columns, ranking):
        return _letter_ranking(row, columns, turns, where)
    present = {suffix: column for suffix, column in columns.answers.items() if row.get(column) is not None}
    if len(present) >= MIN_K and "completion" not in meanings:
        return _wide(row, columns, present, turns, where)
    if "completion" in meanings:
        turns.append(turn("assistant", where.text(row[meanings["completion"]], meanings["completion"])))
    return conversation_record(turns, rest, "table", where)


def is_wide(row: Mapping[str, Any]) -> bool:
    """True when a row has a prompt and at least two columns of answers, or a pair of them."""
    columns = columns_of(list(row))
    if not {"prompt"} & set(columns.by_meaning) and not isinstance(row.get("context"), list):
        return False
    texts = [row[column] for column in columns.answers.values()]
    named = columns.marked or not any(is_suffix(column.strip().casefold()) for column in columns.answers.values())
    return (
        len(texts) >= MIN_K
        and named
        and "completion" not in columns.by_meaning
        and any(isinstance(t, str | list) for t in texts)
    )


def _question(row: Mapping[str, Any], columns: Columns, where: Where) -> tuple[Mapping[str, Any], Turns | LeftOut]:
    """The row, with lists of one text each (arena exports) as texts, and the prompt of it."""
    meanings = columns.by_meaning
    if "prompt" not in meanings and isinstance(row.get("context"), list):  # HelpSteer 3
        meanings["prompt"] = "context"
    if "prompt" not in meanings:
        raise where.error(
            "prompt", f"is missing or empty; name its column prompt, question or instruction (found: {', '.join(row)})"
        )
    unpacked = _unpacked(row, [meanings["prompt"], *columns.answers.values()]) if columns.answers else row
    if isinstance(unpacked, LeftOut):
        return row, unpacked
    row = unpacked
    asked = row[meanings["prompt"]]
    extra = str(row.get(meanings.get("input", "")) or "")
    if isinstance(asked, str) and extra:
        asked = with_input(asked, extra)
    turns = prompt_turns(asked, meanings["prompt"], where)
    if not isinstance(turns, LeftOut) and "system" in meanings:
        turns.insert(0, turn("system", where.text(row[meanings["system"]], meanings["system"])))
    return row, turns


def _unpacked(row: Mapping[str, Any], names: list[str]) -> Mapping[str, Any] | LeftOut:
    """Texts that are JSON lists of one text each, as LMSYS's arena files have them, become those texts."""
    lists = {name: _as_list(row[name]) for name in names if row.get(name) is not None}
    if not all(isinstance(value, list) and all(isinstance(text, str | None) for text in value) for value in lists.values()):
        return row
    lengths = {len(value) for value in lists.values() if value is not None}
    if lengths != {1}:
        return LeftOut("the two conversations differ before the last answer")
    return {**row, **{name: value[0] or "" for name, value in lists.items() if value is not None}}


def _as_list(value: Any) -> list[Any] | None:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def _can_choose(columns: Columns, ranking: Any) -> bool:
    """True when a `preference` column names one of the answers, and no order of letters."""
    is_order = isinstance(ranking, str) and (">" in ranking or "=" in ranking)
    return (ranking is None and columns.marked) or (len(columns.answers) >= MIN_K and not is_order)


def _wide(row: Mapping[str, Any], columns: Columns, answers: Mapping[str, str], turns: Turns, where: Where) -> Found:
    """A ranking of answers in columns, by whatever marks them; without a mark they wait for a ranking."""
    texts = [where.text(row[column], column) for column in answers.values()]
    ranks, used = _ranks(row, columns, answers, where)
    rest = other_fields(
        row, *answers.values(), *used, *(n for m, n in columns.by_meaning.items() if m != "ranking" or n in used)
    )
    if ranks is None:
        return samples_record(turns, texts, rest, "table", where)
    if len(answers) == MIN_K or not used or set(ranks) != {1.0, 2.0} or used[0] not in _choices(columns):
        return ranked_record(turns, texts, ranks, rest, "table", where)
    best = ranks.index(1.0)  # one answer beats the others, and nothing is said of the others among themselves
    others = [text for n, text in enumerate(texts) if n != best]
    return [item for text in others for item in pair_record(turns, texts[best], text, rest, "table", where)]


def _choices(columns: Columns) -> list[str]:
    named = columns.by_meaning.get("ranking")
    return ([named] if named is not None else []) + columns.choices


def _ranks(
    row: Mapping[str, Any], columns: Columns, answers: Mapping[str, str], where: Where
) -> tuple[list[float | None] | None, list[str]]:
    """(rank of each answer, lower is better; the columns it follows from); None without a mark in this row."""
    for name in _choices(columns):
        if row.get(name) is not None and str(row[name]).strip().lower() not in _NO_NUMBER:
            said = _shp(row, name, answers) or choice_of(row[name], row, answers, name, where)
            return [1.0 if said in ("tie", suffix) else 2.0 for suffix in answers], [name]
    won = {suffix: name for suffix, name in columns.one_hot.items() if _number(row.get(name), name, where) == 1}
    if won:
        if len(won) > 1:
            raise where.error(", ".join(won.values()), "are both 1; one answer wins")
        (said,) = won
        return [1.0 if said in ("tie", "bothbad", suffix) else 2.0 for suffix in answers], list(columns.one_hot.values())
    if (
        columns.signed
        and len(answers) == MIN_K
        and (side := _number(row.get(columns.signed), columns.signed, where)) is not None
    ):
        return [float(side > 0), float(side < 0)], [columns.signed]
    for marks, sign in ((columns.ranks, 1), (columns.scores, -1)):
        values = [_number(row.get(marks[suffix]), marks[suffix], where) if suffix in marks else None for suffix in answers]
        if sum(value is not None for value in values) >= MIN_K:
            return [None if value is None else sign * value for value in values], list(marks.values())
    return None, []


def _shp(row: Mapping[str, Any], name: str, answers: Mapping[str, str]) -> str | None:
    """Stanford's SHP: `labels` is 1 when `human_ref_A` is preferred, 0 when `human_ref_B` is."""
    if name != "labels" or set(answers.values()) != {"human_ref_A", "human_ref_B"} or row[name] not in (0, 1):
        return None
    return "a" if row[name] == 1 else "b"


def _number(value: Any, name: str, where: Where) -> float | None:
    """The number in a cell; None for a blank one."""
    if value is None or (isinstance(value, str) and value.strip().lower() in _NO_NUMBER):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise where.error(name, f"is {value!r}; a rank or a score is a number") from None
    if not math.isfinite(number):
        raise where.error(name, f"is {value!r}; a rank or a score is a finite number")
    return number


def _letter_ranking(row: Mapping[str, Any], columns: Columns, turns: Turns, where: Where) -> Found:
    """A ranking like `B>A=C` whose letters are the answers in the order of their columns."""
    suffixes = list(columns.answers)
    letters = [LETTERS[int(s) - (0 if "0" in suffixes else 1)] if s.isdigit() else s.upper() for s in suffixes]
    if len(letters) < MIN_K or [letter_index(letter) for letter in letters] != list(range(len(letters))):
        raise where.error("ranking", "needs the answers in columns A, B, ... (or answer_1, answer_2, ...) without a gap")
    name = columns.by_meaning["ranking"]
    texts = [where.text(row[column], column) for column in columns.answers.values()]
    order = _as_letters(where.text(row[name], name), suffixes, letters)
    used = [name, *columns.answers.values(), *(column for m, column in columns.by_meaning.items() if m != "ranking")]
    ranking = Ranking.from_dict({
        "messages": turns, "completions": texts, "ranking": order, "source": "table", **other_fields(row, *used),
    }, where)  # fmt: skip
    return [LeftOut(EQUAL if len(texts) == MIN_K else EQUAL_APART)] if ranking.equal_apart else [ranking]


def _as_letters(text: str, suffixes: list[str], letters: list[str]) -> str:
    """`2>1` with the suffixes 1, 2 as `B>A`."""
    if not any(sign.isdigit() for sign in text):
        return text
    letter_of = dict(zip(suffixes, letters, strict=True))
    return "".join(letter_of.get(sign, sign) for sign in text)
