"""`chatwright data check`, `data import` and `show-mask`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from chatwright import jsonl
from chatwright.data.accounts import KIND_WORDS, account_lines, summary
from chatwright.data.importers.streams import is_stream
from chatwright.data.importing import KINDS, Format, Imported, read_file
from chatwright.data.statistics import demonstration_lines, labelled_lines, prompt_lines, ranking_lines
from chatwright.errors import DataError, TemplateError, UsageError
from chatwright.records import SHOWN_BAD_ROWS, Conversation, Ranking, bad_rows_error, write_jsonl

Files = tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE...")]]


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Validate data files: kinds, counts, lengths, ties, duplicates, and every bad row with its place and reason."""

    files: Files
    """Data files: JSON lines of ours, or any format that `data import` reads."""
    from_: Annotated[Format, tyro.conf.arg(name="from")] = "auto"
    """Format of the files; auto looks at every row."""
    encoding: str = ""
    """Encoding of text that is not UTF-8: cp1252, gb18030, big5, shift_jis, ...; empty: UTF-8, or what is beyond doubt."""
    show: int = 20
    """Bad rows to print per file."""


def check(cfg: CheckConfig) -> None:
    """Print the state of each file. DataError when rows are bad."""
    errors: list[DataError] = []
    used = 0
    for path in _given(cfg.files):
        found = read_file(path, cfg.from_, cfg.encoding)
        errors += found.bad
        used += sum(found.used.values())
        print(f"{path}: {summary(found)}")
        _print_indented(_kind_lines(found))
        if not is_stream(path) and not _is_ours(path, found):
            print("  to train on it: chatwright data import " + path + " --out FOLDER")
        for error in found.bad[: cfg.show]:
            print(f"  bad: {error}")
        if len(found.bad) > cfg.show:
            print(f"  ... and {len(found.bad) - cfg.show} more bad rows (--show {len(found.bad)} prints them)")
    if errors:
        raise DataError(f"{len(errors)} bad rows, {used} good; mend or remove the bad ones (listed above)")


def _is_ours(path: str, found: Imported) -> bool:
    """True when training reads the file without an import."""
    if found.format == "corpus":
        return True
    return (
        found.format == "chatwright"
        and found.encoding == "utf-8"
        and not isinstance(next(jsonl.read_lines(path))[1], DataError)
    )


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Convert files of other projects into demonstrations.jsonl, rankings.jsonl, labelled.jsonl (answers marked good
    or bad),
    samples.jsonl (answers without a ranking) and prompts.jsonl. Every row is accounted for."""

    files: Files
    """Files to read: JSON lines, JSON arrays and objects, CSV, TSV, XLSX, text; also as .gz. `-`: standard input."""
    from_: Annotated[Format, tyro.conf.arg(name="from")] = "auto"
    """Format of the files; auto looks at every row."""
    encoding: str = ""
    """Encoding of text that is not UTF-8: cp1252, gb18030, big5, shift_jis, ...; empty: UTF-8, or what is beyond doubt."""
    out: str
    """Folder to write to. One that holds files of these names needs --append or --replace."""
    append: bool = False
    """Add to the files that are there."""
    replace: bool = False
    """Delete the files of these names first."""


def import_(cfg: ImportConfig) -> None:
    """Convert and print what was used and what was left out, by reason. DataError when nothing is usable."""
    if cfg.append and cfg.replace:
        raise UsageError("--append and --replace exclude each other; give one of them")
    folder = Path(cfg.out)
    earlier = [folder / f"{kind}.jsonl" for kind in KINDS if (folder / f"{kind}.jsonl").exists()]
    if earlier and not (cfg.append or cfg.replace):
        names = ", ".join(path.name for path in earlier)
        raise UsageError(f"{folder}: holds {names}; --append adds to them, --replace deletes them; or use another --out")
    files: list[Imported] = []
    written = {(folder / f"{kind}.jsonl").resolve() for kind in KINDS}
    if own := [path for path in _given(cfg.files) if Path(path).resolve() in written]:
        raise UsageError(f"--out {folder}: would overwrite {own[0]}, which is read; use another --out")
    for path in _given(cfg.files):
        found = read_file(path, cfg.from_, cfg.encoding)
        files.append(found)
        print(f"{path}: {summary(found)}")
        _print_indented(account_lines(found))
        for error in found.bad[:SHOWN_BAD_ROWS]:
            print(f"  damaged: {error}")
        if len(found.bad) > SHOWN_BAD_ROWS:
            print(f"  ... and {len(found.bad) - SHOWN_BAD_ROWS} more; chatwright data check {path} prints them")
    errors = [error for found in files for error in found.bad]
    if not any(found.num_records for found in files):
        raise bad_rows_error(errors, used=0) if errors else DataError(f"{', '.join(cfg.files)}: {_nothing(files)}")
    _write(files, folder, cfg)


def _write(files: Sequence[Imported], folder: Path, cfg: ImportConfig) -> None:
    for kind in KINDS:
        path = folder / f"{kind}.jsonl"
        rows = [record.to_dict() for found in files for record in found.of_kind(kind)]
        before = [row for _, row in jsonl.read_jsonl(path)] if rows and cfg.append and path.exists() else []
        if rows:
            write_jsonl(path, [*before, *rows])
            to = f"{path} (after {len(before)} that were there)" if before else str(path)
            print(f"wrote {len(rows)} {KIND_WORDS[kind]} to {to}")
        elif cfg.replace and path.exists():
            path.unlink()
            print(f"removed {path}, which was there before")


def _nothing(files: Sequence[Imported]) -> str:
    if any(found.num_documents for found in files):
        return "holds raw text, which needs no import: give it as it is where pre-training text is asked for"
    reasons = ", ".join(sorted({reason for found in files for reason in found.left_out}))
    return f"no row is of use ({reasons})"


def _given(files: Sequence[str]) -> Sequence[str]:
    if not files:
        raise UsageError("no file given; name one or more data files")
    return files


def _kind_lines(found: Imported) -> list[str]:
    lines = ranking_lines(found.rankings) if found.rankings else []
    lines += demonstration_lines(found.demonstrations) if found.demonstrations else []
    lines += labelled_lines(found.labelled) if found.labelled else []
    lines += prompt_lines(found.prompts) if found.prompts else []
    return lines + account_lines(found)


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
    template: str = ""
    """Chat template instead of the model's own: a Jinja file, a layout (chatml, llama3, gemma, mistral, plain), or settings
    of it: thinking=on, thinking=off, date=YYYY-MM-DD. Several are joined by commas."""
    rows: int = 3
    """How many records to show."""
    tokens: bool = False
    """Print one line per token (id, text, role, trained) instead of running text."""


def show_mask(cfg: ShowMaskConfig) -> None:
    """Print conversations with the trained part marked: [[ ... ]] around it, and in green on a terminal."""
    from chatwright import hub
    from chatwright.model.formats.convert import ensure_hf_folder
    from chatwright.text.template_choice import with_template
    from chatwright.text.tokenizer import Tokenizer

    found = read_file(cfg.file)
    if found.bad:
        raise bad_rows_error(found.bad, used=found.num_records)
    conversations = [(*d.prompt.full_messages, d.messages[-1]) for d in found.demonstrations]
    conversations += [c for r in found.rankings for c in _answered(r)]
    if not conversations:
        raise DataError(f"{cfg.file}: holds no demonstrations or rankings; nothing in it is trained on")
    tokenizer = with_template(Tokenizer.from_folder(ensure_hf_folder(hub.resolve(cfg.model))), cfg.template)
    print(f"{cfg.file}: {len(conversations)} conversations, chat template {tokenizer.template.name}; trained: [[ ... ]]")
    for number, messages in enumerate(conversations[: cfg.rows], start=1):
        _show(messages, tokenizer, f"--- {number}", cfg.tokens)


def _answered(ranking: Ranking) -> list[Conversation]:
    from chatwright.records import Message

    return [(*ranking.prompt.full_messages, Message(role="assistant", content=text)) for text in ranking.completions]


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
