"""`chatwright moderation train` and `chatwright moderation check`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatwright.engine.record import INPUTS, Record, files, open_output
from chatwright.errors import ConfigError, ModelError
from chatwright.hub.store import sha256
from chatwright.jsonl import check_writable
from chatwright.progress import ProgressBar, console
from chatwright.serve.moderation.card import CATEGORIES, WEAKNESSES, evaluate_labelled, flagged_share, markdown
from chatwright.serve.moderation.classifier import CARD_FILE, MODEL_FILE, Classifier
from chatwright.serve.moderation.normalise import normalise
from chatwright.serve.moderation.sources import held_out, read_labelled, read_texts, read_turns
from chatwright.serve.moderation.train import EN_VIEWS, ZH_VIEWS, Trained, chinese_examples, english_examples, train_head


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train the moderation classifier on your copies of the data sets."""

    out: str
    """Folder for the model and its card."""
    chinese: tuple[str, ...] = ()
    """CSV files with the columns TEXT and label, such as COLDataset's train part; gzip is fine."""
    dialogues: tuple[str, ...] = ()
    """HH-RLHF files, such as its harmless part: their human turns are labelled weakly, by words."""
    harmful: tuple[str, ...] = ()
    """Files of English requests that are harmful, such as HarmBench's."""
    safe: tuple[str, ...] = ()
    """Files of harmless requests in either language: .txt, .jsonl, .json, .csv."""
    held_out: float = 0.3
    """Share of dialogues and harmful requests that is left for `moderation check`."""
    fresh: bool = False
    """Replace the classifier in `out`; without it, one of other data or settings is refused."""
    seed: int = 0
    """Fixes the folds."""

    def __post_init__(self) -> None:
        if self.harmful and not self.dialogues:
            raise ConfigError("--harmful has no effect without --dialogues")
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"held_out {self.held_out}: must be from 0 up to, not with, 1")


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Judge a text, or measure a classifier and add the figures to its card."""

    model: str
    """Folder that `chatwright moderation train` wrote."""
    text: str = ""
    """A text to judge."""
    labelled: tuple[str, ...] = ()
    """CSV files with TEXT and label, such as COLDataset's dev part."""
    safe: tuple[str, ...] = ()
    """Files of harmless texts: what share is flagged?"""
    harmful: tuple[str, ...] = ()
    """Files of harmful requests: what share of those held out of training is flagged?"""


def train(cfg: TrainConfig) -> dict[str, Any]:
    """Write the model and its card; returns the card. A classifier of other data or settings is refused, or with --fresh
    replaced; one of the same is complete."""
    if not cfg.chinese and not (cfg.dialogues and cfg.safe):
        raise ConfigError("--chinese FILES, or --dialogues FILES with --safe FILES, are needed: nothing to train on")
    out = Path(cfg.out)
    check_writable(out / MODEL_FILE)
    given = {"chinese": cfg.chinese, "dialogues": cfg.dialogues, "harmful": cfg.harmful, "safe": cfg.safe}
    record = Record.of("moderation train", cfg, {name: files(paths) for name, paths in given.items()})
    if open_output(record, cfg, out, out / INPUTS, [out / name for name in (MODEL_FILE, CARD_FILE, "card.md")]):
        console().print(f"moderation train: {out} is complete (--fresh, or another --out, trains again)")
        return _card(out)
    card = _train(cfg)
    record.write(out / INPUTS)
    return card


def _train(cfg: TrainConfig) -> dict[str, Any]:
    started = time.monotonic()
    safe = [normalise(text) for path in cfg.safe for text in read_texts(path)]
    plans: list[tuple[str, str]] = [("offensive", "zh")] if cfg.chinese else []
    plans += [("offensive", "en"), ("harmful_request", "en")] if cfg.dialogues else []
    trained: list[Trained] = []
    with ProgressBar("moderation train", len(plans), unit="head") as bar:
        for category, language in plans:
            trained.append(_train_one(cfg, category, language, safe))
            bar.advance(note=f"{category} {language}: macro-F1 {trained[-1].figures['macro_f1']:.3f}")
    card = {
        "name": "chatwright-moderation",
        "categories": CATEGORIES,
        "data": [{"file": Path(p).name, "sha256": sha256(Path(p))} for p in _files(cfg)],
        "held_out": cfg.held_out,
        "heads": [
            {"category": t.head.category, "language": t.head.language, "threshold": t.head.threshold, "figures": t.figures}
            for t in trained
        ],
        "weaknesses": list(WEAKNESSES),
        "evaluation": {},
        "seconds": round(time.monotonic() - started, 1),
    }
    _write(Path(cfg.out), Classifier([t.head for t in trained]), card)
    size = (Path(cfg.out) / MODEL_FILE).stat().st_size
    console().print(f"moderation train: {len(trained)} heads, {size / 1e6:.1f} MB, {card['seconds']} s -> {cfg.out}")
    return card


def _train_one(cfg: TrainConfig, category: str, language: str, safe: Sequence[str]) -> Trained:
    if language == "zh":
        examples = chinese_examples([row for path in cfg.chinese for row in read_labelled(path)], safe)
        return train_head(category, language, examples, ZH_VIEWS, limit_false=False, seed=cfg.seed)
    dialogues = [turns for path in cfg.dialogues for turns in read_turns(path)]
    requests = [normalise(text) for path in cfg.harmful for text in read_texts(path)]
    examples = english_examples(category, dialogues, requests, safe, cfg.held_out)
    return train_head(category, language, examples, EN_VIEWS, limit_false=True, seed=cfg.seed)


def check(cfg: CheckConfig) -> dict[str, Any]:
    """Print and return the judgement of a text, or the figures of files; figures are added to the card."""
    if not (cfg.text or cfg.labelled or cfg.safe or cfg.harmful):
        raise ConfigError("give --text, or files by --labelled, --safe or --harmful: nothing to check")
    folder = Path(cfg.model)
    classifier = Classifier.load(folder)
    result: dict[str, Any] = {}
    if cfg.text:
        judged = classifier.judge(cfg.text)
        result["text"] = {"flagged": dict(judged.flagged), "scores": dict(judged.scores)}
        for category, score in judged.scores.items():
            print(f"{category:<16} {score:.3f}  {'FLAGGED' if judged.flagged[category] else 'not flagged'}")
    figures = _evaluate(cfg, classifier)
    if figures:
        card = _card(folder)
        for title, rows in figures.items():
            card["evaluation"][title] = {**card["evaluation"].get(title, {}), **rows}
        _write_card(folder, card)
        print(json.dumps(figures, indent=1, ensure_ascii=False))
    return {**result, **figures}


def _evaluate(cfg: CheckConfig, classifier: Classifier) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in cfg.labelled:
        found.setdefault("labelled by people", {})[Path(path).name] = evaluate_labelled(classifier, read_labelled(path))
    for path in cfg.safe:
        found.setdefault("harmless", {})[Path(path).name] = flagged_share(classifier, read_texts(path))
    if cfg.harmful:
        share = float(_card(Path(cfg.model))["held_out"])
        for path in cfg.harmful:
            texts = [text for text in read_texts(path) if held_out(normalise(text), share)]
            if not texts:
                raise ConfigError(f"--harmful {path}: none of its requests was held out (held_out {share}); train with more")
            found.setdefault("harmful, held out", {})[Path(path).name] = flagged_share(classifier, texts)
    return found


def _card(folder: Path) -> dict[str, Any]:
    path = folder / CARD_FILE
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); train the classifier again") from error
    return dict(card)


def _write(folder: Path, classifier: Classifier, card: dict[str, Any]) -> None:
    classifier.save(folder, card)
    _write_card(folder, card)


def _write_card(folder: Path, card: dict[str, Any]) -> None:
    (folder / CARD_FILE).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "card.md").write_text(markdown(card), encoding="utf-8")


def _files(cfg: TrainConfig) -> tuple[str, ...]:
    return (*cfg.chinese, *cfg.dialogues, *cfg.harmful, *cfg.safe)
