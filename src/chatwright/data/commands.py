"""`chatwright data check`, `data import` and `show-mask`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from chatwright.data.importing import Format, Imported, read_file
from chatwright.data.statistics import demonstration_lines, prompt_lines, ranking_lines
from chatwright.errors import DataError, TemplateError, UsageError
from chatwright.records import SHOWN_BAD_ROWS, Conversation, Ranking, bad_rows_error, write_jsonl

Files = tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE...")]]


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Validate data files: kinds, counts, lengths, ties, duplicates, and every bad row with its place and reason."""

    files: Files
    """Data files: JSON lines of ours, or any format that `data import` reads."""
    from_: Annotated[Format, tyro.conf.arg(name="from")] = "auto"
    """Format of the files; auto looks at the first row."""
    show: int = 20
    """Bad rows to print per file."""


def check(cfg: CheckConfig) -> None:
    """Print the state of each file. DataError when rows are bad."""
    errors: list[DataError] = []
    used = 0
    for path in _given(cfg.files):
        found = read_file(path, cfg.from_)
        errors += found.bad
        used += found.num_records + found.num_documents
        print(f"{path}: format {found.format}, {_rows(found)}")
        _print_indented(_kind_lines(found))
        if found.format not in ("chatwright", "corpus"):
            print("  to train on it: chatwright data import " + path + " --out FOLDER")
        for error in found.bad[: cfg.show]:
            print(f"  bad: {error}")
        if len(found.bad) > cfg.show:
            print(f"  ... and {len(found.bad) - cfg.show} more bad rows (--show {len(found.bad)} prints them)")
    if errors:
        raise DataError(f"{len(errors)} bad rows, {used} good; mend or remove the bad ones (listed above)")


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Convert files of other projects into demonstrations.jsonl, rankings.jsonl and prompts.jsonl."""

    files: Files
    """Files to read: JSON lines, JSON arrays, CSV, TSV, XLSX, text; also as .gz."""
    from_: Annotated[Format, tyro.conf.arg(name="from")] = "auto"
    """Format of the files; auto looks at the first row."""
    out: str
    """Folder to write to."""


def import_(cfg: ImportConfig) -> None:
    """Convert and print what was used and what was left out, by reason. DataError when nothing is usable."""
    files: list[Imported] = []
    for path in _given(cfg.files):
        found = read_file(path, cfg.from_)
        files.append(found)
        print(f"{path}: format {found.format}, {_rows(found)}")
        for error in found.bad[:SHOWN_BAD_ROWS]:
            print(f"  bad: {error}")
    errors = [error for found in files for error in found.bad]
    if not any(found.num_records for found in files):
        raise bad_rows_error(errors, used=0) if errors else DataError(f"{', '.join(cfg.files)}: {_nothing(files)}")
    folder = Path(cfg.out)
    lists: dict[str, Iterable[Any]] = {
        "demonstrations": (item for found in files for item in found.demonstrations),
        "rankings": (item for found in files for item in found.rankings),
        "prompts": (item for found in files for item in found.prompts),
    }
    for name, items in lists.items():
        rows = [item.to_dict() for item in items]
        if rows:
            print(f"wrote {write_jsonl(folder / f'{name}.jsonl', rows)} {name} to {folder / f'{name}.jsonl'}")
    left_out = sum((found.left_out for found in files), Counter[str]())
    left_out["damaged row"] += len(errors)
    for reason, num in left_out.most_common():
        if num:
            print(f"left out: {num} x {reason}")


def _nothing(files: Sequence[Imported]) -> str:
    if any(found.num_documents for found in files):
        return "holds raw text, which needs no import: give it as it is where pre-training text is asked for"
    reasons = ", ".join(sorted({reason for found in files for reason in found.left_out}))
    return f"no row is of use ({reasons})"


def _given(files: Sequence[str]) -> Sequence[str]:
    if not files:
        raise UsageError("no file given; name one or more data files")
    return files


def _rows(found: Imported) -> str:
    left = sum(found.left_out.values())
    parts = [f"{found.num_rows} rows", f"{found.num_records + found.num_documents} records", f"{len(found.bad)} bad"]
    return ", ".join(parts + ([f"{left} left out"] if left else []))


def _kind_lines(found: Imported) -> list[str]:
    lines = [f"raw text: {found.num_documents} documents"] if found.num_documents else []
    lines += ranking_lines(found.rankings) if found.rankings else []
    lines += demonstration_lines(found.demonstrations) if found.demonstrations else []
    lines += prompt_lines(found.prompts) if found.prompts else []
    return lines + [f"left out: {num} x {reason}" for reason, num in found.left_out.most_common()]


def _print_indented(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"  {line}")


# ---- show-mask ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ShowMaskConfig:
    """Show which tokens of a data file are trained on."""

    file: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="FILE")]]
    """A file of demonstrations or rankings."""
    model: str = "smollm2-135m-instruct"
    """Named model or folder whose tokenizer and chat template are used."""
    rows: int = 3
    """How many records to show."""
    tokens: bool = False
    """Print one line per token (id, text, role, trained) instead of running text."""


def show_mask(cfg: ShowMaskConfig) -> None:
    """Print conversations with the trained part marked: [[ ... ]] around it, and in green on a terminal."""
    from chatwright import hub
    from chatwright.model.formats.convert import ensure_hf_folder
    from chatwright.text.tokenizer import Tokenizer

    found = read_file(cfg.file)
    if found.bad:
        raise bad_rows_error(found.bad, used=found.num_records)
    conversations = [d.messages for d in found.demonstrations] + [c for r in found.rankings for c in _answered(r)]
    if not conversations:
        raise DataError(f"{cfg.file}: holds no demonstrations or rankings; nothing in it is trained on")
    tokenizer = Tokenizer.from_folder(ensure_hf_folder(hub.resolve(cfg.model)))
    print(
        f"{cfg.file}: {len(conversations)} conversations, chat template {tokenizer.template.name}; trained: [[ ... ]]"
    )
    for number, messages in enumerate(conversations[: cfg.rows], start=1):
        _show(messages, tokenizer, f"--- {number}", cfg.tokens)


def _answered(ranking: Ranking) -> list[Conversation]:
    from chatwright.records import Message

    return [(*ranking.messages, Message(role="assistant", content=text)) for text in ranking.completions]


def _show(messages: Conversation, tokenizer: Any, title: str, per_token: bool) -> None:
    from chatwright.text.chat import training_rows

    try:
        rows = training_rows(messages, tokenizer)
    except TemplateError as error:
        print(f"{title}: cannot be rendered: {error}")
        return
    for number, rendered in enumerate(rows, start=1):
        _show_row(rendered, tokenizer, title if len(rows) == 1 else f"{title}, row {number} of {len(rows)}", per_token)


def _show_row(rendered: Any, tokenizer: Any, title: str, per_token: bool) -> None:
    print(f"{title}: {len(rendered)} tokens, {sum(rendered.loss_mask)} trained")
    if per_token:
        for token_id, trained, role in zip(rendered.ids, rendered.loss_mask, rendered.roles, strict=True):
            text = repr(tokenizer.decode([token_id], skip_special=False))
            print(f"{token_id:>8}  {'trained' if trained else '-':<8} {role:<9} {text}")
        return
    colour = sys.stdout.isatty()
    start, end = ("\x1b[32m[[", "]]\x1b[0m") if colour else ("[[", "]]")
    text, index = "", 0
    while index < len(rendered):
        stop = index
        while stop < len(rendered) and rendered.loss_mask[stop] == rendered.loss_mask[index]:
            stop += 1
        part = tokenizer.decode(rendered.ids[index:stop], skip_special=False)
        text += f"{start}{part}{end}" if rendered.loss_mask[index] else part
        index = stop
    print(text.rstrip("\n"))
