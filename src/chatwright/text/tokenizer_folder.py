"""The files beside a tokenizer.json: configuration, chat templates, and the tokens that end an answer, in and out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatwright.errors import ModelError

STOPS_FIELD = "chatwright.stop_token_ids"
_EXTRA_TEMPLATES = "additional_chat_templates"
MAX_TEMPLATE_BYTES = 2**20
# What transformers writes into generation_config.json about itself, and what this package writes by itself.
_NOT_KEPT = ("transformers_version", "_from_model_config", "bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class FolderConfig:
    """Settings of a tokenizer in its folder."""

    config: dict[str, Any]
    """tokenizer_config.json over special_tokens_map.json, with `chat_template` from wherever it is stored."""
    stop_ids: tuple[int, ...]
    """eos ids of generation_config.json and config.json."""
    generation: dict[str, Any]
    """The other settings of generation_config.json."""


def read_folder(folder: Path) -> FolderConfig:
    """Read the files beside tokenizer.json. Raises ModelError when one of them is damaged."""
    config = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")
    templates = _template_files(folder)
    if templates:
        stored = config.get("chat_template")
        if isinstance(stored, list):
            named = named_templates(config) | templates
        else:
            named = ({"default": stored} if isinstance(stored, str) else {}) | templates
        config["chat_template"] = (
            named["default"] if list(named) == ["default"] else [{"name": n, "template": t} for n, t in named.items()]
        )
    generation = read_json(folder / "generation_config.json")
    model = read_json(folder / "config.json")
    text_part = model.get("text_config")
    sources = [generation, model, text_part if isinstance(text_part, dict) else {}]
    stop_ids = dict.fromkeys(i for source in sources for i in _ids(source.get("eos_token_id")))
    if not stop_ids:
        stop_ids = dict.fromkeys(_ids(config.get(STOPS_FIELD)))
    return FolderConfig(config, tuple(stop_ids), {k: v for k, v in generation.items() if k not in _NOT_KEPT})


def _template_files(folder: Path) -> dict[str, str]:
    """Chat templates that stand in files of their own, by name."""
    files = {"default": folder / "chat_template.jinja"}
    files |= {file.stem: file for file in sorted((folder / _EXTRA_TEMPLATES).glob("*.jinja"))}
    found = {}
    for name, file in files.items():
        if file.is_file():
            if file.stat().st_size > MAX_TEMPLATE_BYTES:
                raise ModelError(f"{file}: is larger than {MAX_TEMPLATE_BYTES:,} bytes; this is no chat template")
            found[name] = read_text(file)
    # Older processors keep it in a file of JSON.
    if "default" not in found and isinstance(text := read_json(folder / "chat_template.json").get("chat_template"), str):
        found["default"] = text
    return found


def _ids(value: Any) -> Iterable[int]:
    values = value if isinstance(value, list) else [value]
    return [i for i in values if isinstance(i, int) and not isinstance(i, bool) and i >= 0]


def named_templates(config: Mapping[str, Any]) -> dict[str, str]:
    """The chat templates of a configuration, by name; a single one is "default"."""
    stored = config.get("chat_template")
    if isinstance(stored, str) and stored:
        return {"default": stored}
    rows = stored if isinstance(stored, list) else []
    return {
        row["name"]: row["template"]
        for row in rows
        if isinstance(row, dict) and isinstance(row.get("name"), str) and isinstance(row.get("template"), str)
    }


def saved_config(
    config: Mapping[str, Any], special: Mapping[str, str], templates: str | list[dict[str, str]], fields: Mapping[str, Any]
) -> dict[str, Any]:
    """tokenizer_config.json: what came in, the special tokens that it did not name, our fields."""
    kept = {name: value for name, value in config.items() if _is_json(value)}
    own_code = kept.pop("auto_map", None) is not None
    if own_code or not isinstance(kept.get("tokenizer_class"), str):
        kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    kept.setdefault("clean_up_tokenization_spaces", False)
    return dict(special) | kept | {"chat_template": templates} | dict(fields)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def write_folder(folder: Path, tokenizer_json: str, config: Mapping[str, Any], special: Mapping[str, Any]) -> None:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json. Templates that lie in files are removed:
    they would go before the one in tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (folder / "chat_template.jinja", folder / "chat_template.json"):
        stale.unlink(missing_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    for name, value in (("tokenizer_config.json", config), ("special_tokens_map.json", special)):
        (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def read_text(file: Path) -> str:
    """A text file in UTF-8. ModelError when it cannot be read."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from None


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file, {} where there is no file. ModelError when it is damaged."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{file}: is not JSON") from None
    if not isinstance(value, dict):
        raise ModelError(f"{file}: must hold a JSON object")
    return value

