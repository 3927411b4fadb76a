"""The classifier: linear models on hashed n-grams, a few per category and language, their logits averaged and calibrated.

Scores are probabilities of the label that a category was trained on (the card says which), nothing more.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chatwright.errors import ModelError
from chatwright.serve.moderation.features import Doubles, Floats, NGrams, Rows, counts
from chatwright.serve.moderation.normalise import languages, normalise

FORMAT = 1
MODEL_FILE, CARD_FILE = "moderation.npz", "card.json"
MAX_MODEL_BYTES = 64 * 2**20
CATEGORIES = ("offensive", "harmful_request")


@dataclass(frozen=True, kw_only=True)
class View:
    """One linear model."""

    grams: NGrams
    scale: Floats
    """Factor of each bucket before rows are brought to length 1 [F]; 0 for buckets never trained."""
    weights: Floats
    """[F]"""
    bias: float

    def logits(self, rows: Rows) -> Doubles:
        """Of texts [N] as counts of `grams`."""
        return scaled(rows, self.scale).dot(self.weights) + self.bias


@dataclass(frozen=True, kw_only=True)
class Head:
    """A category in a language."""

    category: str
    language: str
    views: tuple[View, ...]
    slope: float
    offset: float
    """probability = sigmoid(slope * mean logit + offset), fitted on answers to held-out folds."""
    threshold: float
    """A probability from here on is flagged."""

    def probability(self, text: str, known: dict[NGrams, Rows]) -> float:
        """Of a normalised text; `known` keeps its counts, which heads share."""
        total = 0.0
        for view in self.views:
            if view.grams not in known:
                known[view.grams] = counts([text], view.grams)
            total += float(view.logits(known[view.grams])[0])
        return float(sigmoid(np.array(self.slope * total / len(self.views) + self.offset)))


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the classifier says of a text."""

    scores: Mapping[str, float]
    """Highest probability of each category over the languages of the text; 0 where no head reads its language."""
    flagged: Mapping[str, bool]
    """Per category: some head's probability reached that head's threshold."""

    @property
    def worst(self) -> str:
        """The flagged category with the highest score; "" when none is flagged."""
        hits = [category for category, hit in self.flagged.items() if hit]
        return max(hits, key=lambda category: self.scores[category], default="")


class Classifier:
    """Judges texts in English and Chinese. Thread-safe: nothing changes after loading."""

    def __init__(self, heads: Sequence[Head], name: str = "chatwright-moderation") -> None:
        self.heads, self.name = tuple(heads), name

    def judge(self, text: str) -> Judgement:
        """Scores of one text."""
        plain = normalise(text)
        scores, flagged = dict.fromkeys(CATEGORIES, 0.0), dict.fromkeys(CATEGORIES, False)
        spoken, known = languages(plain), dict[NGrams, Rows]()
        for head in self.heads:
            if head.language in spoken:
                score = head.probability(plain, known)
                scores[head.category] = max(scores[head.category], score)
                flagged[head.category] |= score >= head.threshold
        return Judgement(scores=scores, flagged=flagged)

    def save(self, folder: str | Path, card: Mapping[str, Any]) -> None:
        """Write the model and its card. Weights are kept in half precision."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {}
        described = []
        for h, head in enumerate(self.heads):
            views = []
            for v, view in enumerate(head.views):
                used = np.flatnonzero(view.scale)
                arrays[f"{h}_{v}_used"] = used.astype(np.uint32)
                arrays[f"{h}_{v}_scale"] = view.scale[used].astype(np.float16)
                arrays[f"{h}_{v}_weights"] = view.weights[used].astype(np.float16)
                views.append({"grams": asdict(view.grams), "bias": view.bias})
            described.append({
                "category": head.category, "language": head.language, "views": views,
                "slope": head.slope, "offset": head.offset, "threshold": head.threshold,
            })  # fmt: skip
        header = json.dumps({"format": FORMAT, "name": self.name, "heads": described})
        arrays["header"] = np.frombuffer(header.encode(), dtype=np.uint8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        part = folder / f"{MODEL_FILE}.part"
        part.write_bytes(buffer.getvalue())
        part.replace(folder / MODEL_FILE)
        (folder / CARD_FILE).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Classifier:
        """Read what `save` wrote. ModelError names the file that is missing or damaged."""
        path = Path(folder) / MODEL_FILE
        if not path.is_file():
            raise ModelError(f"{path}: no such file; train a classifier with: chatwright moderation train --out {folder}")
        try:
            with zipfile.ZipFile(path) as packed:
                if sum(entry.file_size for entry in packed.infolist()) > MAX_MODEL_BYTES:
                    raise ModelError(f"{path}: is larger than {MAX_MODEL_BYTES >> 20} MiB unpacked; not a file of ours")
            with np.load(path, allow_pickle=False) as arrays:
                header = json.loads(arrays["header"].tobytes())
                if header["format"] != FORMAT:
                    raise ModelError(f"{path}: format {header['format']}, this version reads {FORMAT}; train it again")
                heads = [_head(described, arrays, h) for h, described in enumerate(header["heads"])]
        except (OSError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"{path}: damaged ({error}); train it again") from error
        return cls(heads, str(header["name"]))


def _head(described: Mapping[str, Any], arrays: Mapping[str, Any], h: int) -> Head:
    views = []
    for v, view in enumerate(described["views"]):
        grams = NGrams(**view["grams"])
        if not 8 <= grams.bits <= 24:
            raise ValueError(f"bits {grams.bits}")
        used = arrays[f"{h}_{v}_used"]
        scale, weights = np.zeros(2**grams.bits, np.float32), np.zeros(2**grams.bits, np.float32)
        scale[used], weights[used] = arrays[f"{h}_{v}_scale"], arrays[f"{h}_{v}_weights"]
        if not (np.isfinite(scale).all() and np.isfinite(weights).all()):
            raise ValueError("weights are not finite")
        views.append(View(grams=grams, scale=scale, weights=weights, bias=float(view["bias"])))
    figures = {name: float(described[name]) for name in ("slope", "offset", "threshold")}
    return Head(category=str(described["category"]), language=str(described["language"]), views=tuple(views), **figures)


def scaled(rows: Rows, scale: Floats) -> Rows:
    """Entries times the scale of their bucket, each row brought to length 1."""
    values = rows.values * scale[rows.columns]
    squares = np.bincount(rows.row_of, weights=values * values, minlength=len(rows))
    lengths = np.sqrt(np.maximum(squares, 1e-12))
    return Rows(rows.starts, rows.columns, (values / lengths[rows.row_of]).astype(np.float32))


def sigmoid(x: Doubles) -> Doubles:
    """Logistic function without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(x, dtype=np.float64)))
