"""`house.toml`: settings of a house that its sheet has no column for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chatwright.config.toml import read_toml
from chatwright.config.values import from_dict
from chatwright.errors import ConfigError

SETTINGS_FILE = "house.toml"
MAX_SENTENCE = 300
DEFAULT_SENTENCES = {
    "en": {
        "unknown": "I'm sorry, I do not know that. Please ask our team, they can tell you more.",
        "unsafe": "I'm sorry, I can't help with that. Please ask our team if you need anything else.",
    },
    "zh": {
        "unknown": "不好意思，这个我不知道。请您问一下我们的工作人员。",
        "unsafe": "不好意思，这个我不能帮忙。请您问一下我们的工作人员。",
    },
}
"""Answers to unknown and unsafe questions where neither the sheet nor house.toml has one."""


@dataclass(frozen=True, kw_only=True)
class HouseSettings:
    """Settings of one house."""

    name: str = ""
    """The house's name, as visitors know it; empty: the folder's name."""
    language: Literal["en", "zh"] = "en"
    """Language of questions and answers; it chooses the judge's lists of forms."""
    voice: str = ""
    """Character of the answers in one sentence, for people and models that draft them. Nothing is computed from it."""
    unknown: str = ""
    """Answer to what the house does not know: it says so and names who would know. Empty: a sentence of the language."""
    unsafe: str = ""
    """Answer to what the house declines. Empty: a sentence of the language."""
    add_bundled: bool = True
    """Add the bundled unknown and unsafe questions of the language for each of the two kinds that the sheet lacks."""
    encoding: str = ""
    """Encoding of a sheet that is not UTF-8: cp1252, gb18030, ...; empty: UTF-8, or another one that is beyond doubt."""

    def __post_init__(self) -> None:
        for name in ("name", "voice", "unknown", "unsafe"):
            text = getattr(self, name)
            if len(text) > MAX_SENTENCE or "\n" in text.strip():
                raise ConfigError(f"{name} must be one line of at most {MAX_SENTENCE} characters")

    def sentence(self, kind: Literal["unknown", "unsafe"]) -> str:
        """The house's answer to questions of a kind."""
        return str(getattr(self, kind)).strip() or DEFAULT_SENTENCES[self.language][kind]


def read_settings(folder: Path) -> HouseSettings:
    """Settings of `folder/house.toml`; the defaults where there is no such file. ConfigError names the file and the key."""
    path = folder / SETTINGS_FILE
    return from_dict(HouseSettings, read_toml(path), where=str(path)) if path.is_file() else HouseSettings()
