"""`chatwright translate WORD --to zh|en|es|emoji`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from chatwright.errors import ConfigError
from chatwright.generation.commands import DeviceName, Precision, open_model


@dataclass(frozen=True, kw_only=True)
class TranslateConfig:
    """Translate a word or an emoji; the answer stays in the script of the language asked for."""

    text: Positional[str]
    """A word, a phrase, or one emoji; `-` reads it from standard input."""
    to: Literal["en", "zh", "es", "emoji"]
    """Language of the answer."""
    from_: Annotated[Literal["auto", "en", "zh", "es", "emoji"], tyro.conf.arg(name="from")] = "auto"
    """Language of the text; auto: by its script, English or Spanish as the model finds likelier."""
    model: str = ""
    """Model folder that `chatwright run recipes/translate.toml` made."""
    guess: bool = False
    """Answer for a word that the model has not learned as well; without it such a word is an error."""
    top: int = 5
    """Translations shown."""
    json: bool = False
    """Print one JSON list: [{"text", "probability"}, ...], best first."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "fp32"
    """Compute format; auto: bf16 where the hardware multiplies it."""


def main(cfg: TranslateConfig) -> None:
    """Print the translations, a line each with its probability, or JSON."""
    if not cfg.model:
        raise ConfigError(
            "translate: --model is missing: name a model that was trained to translate words. To make one: "
            "chatwright run recipes/translate.toml"
        )
    if cfg.top < 1:
        raise ConfigError(f"--top {cfg.top}: must be at least 1")
    text = sys.stdin.read() if cfg.text == "-" else cfg.text
    from chatwright.generation.translate import Translator

    translator = Translator.open(open_model(cfg.model, cfg.device, cfg.precision), cfg.model)
    found = translator.translate(text, cfg.to, source=cfg.from_, top=cfg.top, guess=cfg.guess)
    if cfg.json:
        print(json.dumps([{"text": f.text, "probability": f.probability} for f in found], ensure_ascii=False))
        return
    for one in found:
        print(f"{one.probability:8.4f}  {one.text}")
