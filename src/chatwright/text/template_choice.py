"""`--template`: another chat template for a model, or settings of its own one."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from chatwright.errors import ConfigError
from chatwright.text.chat_template import TEMPLATE_FIELD, TemplateName, jinja, layout_named
from chatwright.text.tokenizer import Tokenizer
from chatwright.text.tokenizer_folder import MAX_TEMPLATE_BYTES, named_templates, read_text

_LAYOUTS: tuple[TemplateName, ...] = ("chatml", "llama3", "gemma", "mistral", "plain")
HELP = "a Jinja file, chatml, llama3, gemma, mistral, plain, or the name of one of the checkpoint's templates"


def with_template(tokenizer: Tokenizer, choice: str) -> Tokenizer:
    """The tokenizer with the template and settings of `choice`: "[NAME or FILE][,thinking=on|off][,date=YYYY-MM-DD|today]".

    Raises ConfigError for a choice that cannot be read, TemplateError and ModelError for a template that does not fit.
    """
    if not choice.strip():
        return tokenizer
    parts = [part.strip() for part in choice.split(",")]
    if "=" not in parts[0]:
        tokenizer = _with_source(tokenizer, parts.pop(0))
    settings: dict[str, Any] = {}
    for part in parts:
        name, _, value = part.partition("=")
        if name == "thinking" and value in ("on", "off"):
            settings["thinking"] = value
        elif name == "date":
            settings["date"] = _day(value)
        else:
            raise ConfigError(f"--template: {part!r} is not a setting; there are thinking=on, thinking=off, date=YYYY-MM-DD")
    if not settings:
        return tokenizer
    if tokenizer.template.name != "native":
        raise ConfigError(
            f"--template {choice}: the chat template of this model ({tokenizer.template.name}) has no thoughts and no dates"
        )
    return tokenizer.with_settings(replace(tokenizer.template, **settings))


def _day(value: str) -> str:
    if value == "today":
        return date.today().isoformat()
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise ConfigError(f"--template: date={value} is not a day; write it as 2026-01-31, or today") from None


def _with_source(tokenizer: Tokenizer, name: str) -> Tokenizer:
    bare = {key: value for key, value in tokenizer.config.items() if key != TEMPLATE_FIELD}
    for layout in _LAYOUTS:
        if name == layout:
            bos, eos = (tokenizer.piece(i) if i is not None else "" for i in (tokenizer.bos_id, tokenizer.eos_id))
            template = layout_named(layout, bos=bos, eos=eos)
            return tokenizer.with_settings(template, jinja(template))
    named = named_templates(bare)
    if name in named:
        return tokenizer.with_config(bare | {"chat_template": named[name]})
    file = Path(name).expanduser()
    if not file.is_file():
        known = f" (this checkpoint has {', '.join(sorted(named))})" if len(named) > 1 else ""
        raise ConfigError(f"--template {name}: there is no such file or template; give {HELP}{known}")
    if file.stat().st_size > MAX_TEMPLATE_BYTES:
        raise ConfigError(f"--template {file}: is larger than {MAX_TEMPLATE_BYTES:,} bytes; this is no chat template")
    chosen = tokenizer.with_config(bare | {"chat_template": read_text(file)})
    if chosen.template_problem:
        raise ConfigError(f"--template {file}: {chosen.template_problem}")
    return chosen
