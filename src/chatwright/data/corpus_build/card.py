"""What a built corpus is, in words: the data card (README.md in its folder) and the summary on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_FILTERS = {
    "normalise": "Unicode form", "languages": "languages kept", "pii": "personal data replaced",
    "profanity": "profanity filter", "profanity_words": "list of profanity", "decontaminate": "evaluation sets kept out",
    "text_field": "field of the text", "documents": "documents of text files",
}  # fmt: skip


def text(manifest: dict[str, Any]) -> str:
    """The data card, Markdown."""
    settings = manifest["build"]["settings"]
    lines = ["# A training corpus, built by `chatwright corpus build`", ""]
    lines += [f"Source and licence: {settings['licence'] or 'not stated (give --licence)'}", ""]
    lines += ["| split | documents | tokens | bytes | characters | bytes per token |", "|---|---|---|---|---|---|"]
    for name, split in manifest["splits"].items():
        ratio = split["bytes"] / split["tokens"] if split["tokens"] else 0.0
        counts = " | ".join(f"{split[what]:,}" for what in ("documents", "tokens", "bytes", "characters"))
        lines.append(f"| {name} | {counts} | {ratio:.2f} |")
    lines += ["", "## Languages", "", "| language | script | documents | bytes | tokens |", "|---|---|---|---|---|"]
    for one in manifest["languages"]:
        counts = " | ".join(f"{one[what]:,}" for what in ("documents", "bytes", "tokens"))
        lines.append(f"| {one['language']} | {one['script'] or '-'} | {counts} |")
    lines += ["", "Languages are guesses (fastText lid.176; by script where that decides).", ""]
    lines += _dropped(manifest["read"])
    if manifest["read"]["scrubbed"]:
        lines += ["## Personal data that was replaced", ""]
        lines += ["Patterns find forms, not people: what is left is not proven clean.", ""]
        lines += [f"* {kind}: {num:,}" for kind, num in sorted(manifest["read"]["scrubbed"].items())] + [""]
    lines += ["## How it was made", "", *_settings(settings), "", "Inputs:", ""]
    inputs = manifest["build"]["inputs"]
    lines += [f"* `{Path(one['path']).name}`, {one['bytes']:,} bytes" for one in inputs[:50]]
    lines += [f"* and {len(inputs) - 50:,} more (see manifest.json)"] if len(inputs) > 50 else []
    return "\n".join(lines) + "\n"


def _dropped(read: dict[str, Any]) -> list[str]:
    lines = ["## What was dropped", "", f"{read['documents']:,} documents were read, {read['bytes']:,} bytes.", ""]
    if not read["dropped"]:
        return [*lines, "Nothing.", ""]
    lines += ["| reason | documents | bytes |", "|---|---|---|"]
    for reason, about in sorted(read["dropped"].items(), key=lambda item: -item[1]["documents"]):
        lines.append(f"| {reason} | {about['documents']:,} | {about['bytes']:,} |")
    return [*lines, ""]


def _settings(settings: dict[str, Any]) -> list[str]:
    if settings["raw"]:
        lines = ["* raw: no normalisation, no filters, no deduplication"]
    else:
        lines = [f"* {label}: {settings[name] or 'none'}" for name, label in _FILTERS.items()]
        dedupe = settings["dedupe"]
        near = f"near (similarity of {dedupe['ngram']}-grams {dedupe['similarity']:g} and more)"
        kinds = [label for label, on in (("exact", dedupe["exact"]), (near, dedupe["near"])) if on]
        lines.append(f"* duplicates dropped: {' and '.join(kinds) or 'none'}")
        lines.append(f"* quality heuristics: {'on' if settings['quality']['enabled'] else 'off'}")
    split = settings["split"]
    return [*lines, f"* held out: {split['share']:g} by {split['by']}, seed {split['seed']}"]


def summary(manifest: dict[str, Any], out: Path) -> str:
    """What came of it, for the terminal."""
    read = manifest["read"]
    lines = [f"{out}: {read['documents']:,} documents read, {read['bytes'] / 1e6:,.1f} MB"]
    for name, split in manifest["splits"].items():
        sizes = f"{split['tokens']:,} tokens, {split['bytes'] / 1e6:,.1f} MB"
        lines.append(f"  {name}: {split['documents']:,} documents, {sizes}")
    for reason, about in sorted(read["dropped"].items(), key=lambda item: -item[1]["documents"]):
        lines.append(f"  dropped: {about['documents']:,} x {reason} ({about['bytes'] / 1e6:,.1f} MB)")
    if read["scrubbed"]:
        lines.append("  personal data replaced: " + ", ".join(f"{n:,} x {kind}" for kind, n in read["scrubbed"].items()))
    return "\n".join(lines)
