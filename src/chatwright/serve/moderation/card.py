"""The card of a classifier: what it was trained on, how it did, what it does not know; as JSON and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chatwright.serve.moderation.classifier import Classifier
from chatwright.serve.moderation.fit import calibration_error, macro_f1
from chatwright.serve.moderation.sources import Labelled

CATEGORIES = {
    "offensive": "Chinese: what COLDataset's annotators called offensive (attacks on people for race, sex or region; its "
    "topics are no categories here). English: insults, profanity and hatred of groups.",
    "harmful_request": "English only: asks for help with violence, crime, weapons, drugs, self-harm and the like.",
}
WEAKNESSES = (
    "It counts n-grams and does not read: who quotes, reports or condemns an insult is often flagged with who uses it.",
    "Negation changes little: 'you are not an idiot' looks like 'you are an idiot'.",
    "Slurs that a group uses for itself are flagged; irony and insults without a telling word are missed.",
    "The English labels are weak: words chose them, people did not. They are no probabilities of a verdict.",
    "Chinese harmful requests have no head of their own; other languages score 0 in everything.",
    "COLDataset's train and dev labels were partly made by a model and corrected; its test labels are people's.",
    "Spelling tricks beyond normalise.py (pinyin, split characters, emoji, most traditional characters) get through.",
)


def evaluate_labelled(classifier: Classifier, rows: Sequence[Labelled], category: str = "offensive") -> dict[str, Any]:
    """Figures on texts that people labelled, whole and by topic."""
    judged = [classifier.judge(row.text) for row in rows]
    target = np.array([row.label for row in rows])
    flagged = np.array([float(one.flagged[category]) for one in judged])
    scores = np.array([one.scores[category] for one in judged])
    found: dict[str, Any] = {"category": category, **_figures(target, flagged, scores)}
    topics = sorted({row.topic for row in rows if row.topic})
    for topic in topics:
        picked = np.array([row.topic == topic for row in rows])
        found.setdefault("topics", {})[topic] = _figures(target[picked], flagged[picked], scores[picked])
    return found


def _figures(target: Any, flagged: Any, scores: Any) -> dict[str, float]:
    hits = float((flagged * target).sum())
    return {
        "texts": len(target),
        "positive": int(target.sum()),
        "macro_f1": round(macro_f1(target, flagged), 4),
        "accuracy": round(float((flagged == target).mean()), 4),
        "precision": round(hits / max(float(flagged.sum()), 1.0), 4),
        "recall": round(hits / max(float(target.sum()), 1.0), 4),
        "calibration_error": round(calibration_error(scores, target), 4),
    }


def flagged_share(classifier: Classifier, texts: Sequence[str]) -> dict[str, Any]:
    """How many texts are flagged, in all and per category."""
    judged = [classifier.judge(text) for text in texts]
    share = {c: round(float(np.mean([one.flagged[c] for one in judged])), 4) for c in CATEGORIES}
    anything = round(float(np.mean([bool(one.worst) for one in judged])), 4)
    return {"texts": len(texts), "flagged": anything, "by_category": share}


def markdown(card: Mapping[str, Any]) -> str:
    """The card for people."""
    lines = [f"# {card['name']}", "", "A linear classifier of character and word n-grams for English and Chinese.", ""]
    lines += ["## Categories", "", *(f"* `{name}`: {text}" for name, text in card["categories"].items()), ""]
    lines += ["## Trained on", "", "| file | sha256 |", "|---|---|"]
    lines += [f"| {row['file']} | `{row['sha256'][:16]}` |" for row in card["data"]]
    lines += ["", "## On folds it did not see", ""]
    lines += ["The English rows repeat weak labels: they say how well the words are met, not people's judgement.", ""]
    lines += ["| head | texts | macro-F1 | recall | false positives | ECE | threshold |", "|---|---|---|---|---|---|---|"]
    for head in card["heads"]:
        f = head["figures"]
        lines.append(
            f"| {head['category']} ({head['language']}) | {f['texts']:.0f} | {f['macro_f1']:.3f} | {f['recall']:.3f} | "
            f"{f['false_positives']:.3f} | {f['calibration_error']:.3f} | {head['threshold']:.2f} |"
        )
    for title, rows in card.get("evaluation", {}).items():
        lines += ["", f"## Evaluated: {title}", "", *(_line(name, row) for name, row in rows.items())]
    lines += ["", "## Known weaknesses", "", *(f"* {text}" for text in card["weaknesses"])]
    return "\n".join(lines) + "\n"


def _line(name: str, row: Mapping[str, Any]) -> str:
    if "macro_f1" not in row:
        shares = ", ".join(f"{category} {share:.1%}" for category, share in row["by_category"].items())
        return f"* {name}: {row['flagged']:.1%} of {row['texts']} flagged ({shares})"
    text = f"* {name}: macro-F1 {row['macro_f1']:.4f}, precision {row['precision']:.3f}, recall {row['recall']:.3f}, "
    text += f"ECE {row['calibration_error']:.3f}, {row['texts']} texts"
    topics = [f"{topic} {figures['macro_f1']:.3f}" for topic, figures in row.get("topics", {}).items()]
    return text + (f"; macro-F1 by topic: {', '.join(topics)}" if topics else "")

