"""How an explanation is shown: a table for the terminal, and a page of its own with a heat map.

The page is one file without scripts; everything a model or a person wrote is escaped.
"""

from __future__ import annotations

import math
import unicodedata
from html import escape
from typing import Literal

from chatwright.generation.explain import NATS_TO_BITS, Alternative, Explanation, TokenView

Language = Literal["en", "zh"]
_STEPS = 8  # shades; the last one from 14 bits of surprise on
_BITS_PER_STEP = 2.0
_LABELS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "What the model expected", "prompt": "Prompt", "surprise": "surprise", "entropy": "entropy",
        "rank": "rank", "probability": "probability", "bits": "bits", "per_token": "per token", "perplexity": "perplexity",
        "likeliest": "likeliest here", "expected": "expected", "unexpected": "unexpected", "token": "token",
        "first": "first token: nothing stands before it",
        "hint": "The darker, the less the model expected the token. Point at a token, or reach it with the Tab key, to see "
        "what the model thought likely in its place.",
    },
    "zh": {
        "title": "模型的预期", "prompt": "提示", "surprise": "惊奇度", "entropy": "熵", "rank": "名次",
        "probability": "概率", "bits": "比特", "per_token": "每词元", "perplexity": "困惑度", "likeliest": "此处最可能",
        "expected": "意料之中", "unexpected": "意料之外", "token": "词元", "first": "第一个词元：前面没有内容",
        "hint": "颜色越深，模型越没有料到这个词元。把鼠标移到词元上，或用 Tab 键选中它，可以看到模型认为此处可能出现什么。",
    },
}  # fmt: skip
_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1c1b1a; --quiet: #605c58; --line: #d8d4cf; --heat: #c2410c; }
@media (prefers-color-scheme: dark) {
  :root { --page: #181716; --ink: #efece8; --quiet: #a8a29c; --line: #45413d; --heat: #ea7a3c; } }
body { margin: 2rem auto; max-width: 52rem; padding: 0 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, "Noto Sans SC", sans-serif; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; } dl { display: flex; flex-wrap: wrap; gap: .3rem 2rem; }
dt { color: var(--quiet); }
dd { margin: 0; font-variant-numeric: tabular-nums; } .quiet { color: var(--quiet); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid var(--line); padding-left: .8rem; }
.text { line-height: 2.2; white-space: pre-wrap; overflow-wrap: anywhere; }
.t { position: relative; border-radius: .2rem; padding: .15rem 0; cursor: help; }
.t + .t { border-left: 1px solid var(--page); } .mark { color: var(--quiet); font-size: .75em; }
.t:focus { outline: 2px solid var(--heat); }
.card { display: none; position: absolute; left: 0; top: 1.9em; z-index: 1; width: max-content; max-width: 18rem;
  padding: .5rem .8rem; background: var(--page); border: 1px solid var(--line); border-radius: .4rem; line-height: 1.4;
  font-size: .85rem; box-shadow: 0 4px 16px #0003; }
.t:hover .card, .t:focus .card { display: block; }

.key { display: flex; align-items: center; gap: .2rem; } .key i { width: 1.6rem; height: 1rem; border-radius: .2rem; }
"""


def as_text(explanation: Explanation) -> str:
    """A table: token, probability, surprise and entropy in bits, rank, likeliest tokens with their probabilities."""
    head = ("token", "p", "surprise", "entropy", "rank", "likeliest")
    rows = [head, *(_row(token) for token in explanation.tokens)]
    widths = [max(_width(row[n]) for row in rows) for n in range(len(head) - 1)]
    lines = [
        "  ".join(_padded(cell, width, right=n > 0) for n, (cell, width) in enumerate(zip(row, widths, strict=False)))
        + f"  {row[-1]}"
        for row in rows
    ]
    if not math.isnan(explanation.surprise):
        lines.append(
            f"{len(explanation.tokens)} tokens: surprise {explanation.surprise * NATS_TO_BITS:.2f} bits per token, entropy "
            f"{explanation.entropy * NATS_TO_BITS:.2f} bits, perplexity {explanation.perplexity:.4g}"
        )
    return "\n".join(line.rstrip() for line in lines)


def _row(token: TokenView) -> tuple[str, ...]:
    likeliest = "  ".join(f"{shown(one.text)} {_share(one.logprob)}" for one in token.top)
    if token.logprob is None or token.surprise_bits is None or token.entropy_bits is None:
        return (shown(token.text), "-", "-", "-", "-", likeliest)
    figures = (_share(token.logprob), f"{token.surprise_bits:.2f}", f"{token.entropy_bits:.2f}", str(token.rank))
    return (shown(token.text), *figures, likeliest)


def shown(text: str) -> str:
    """A token on one line: blanks as `·`, line ends as `⏎`, what has no shape as an escape."""
    named = {" ": "·", "\n": "⏎", "\t": "⇥"}
    return "".join(named.get(c) or (c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in text)


def _share(logprob: float) -> str:
    percent = 100 * math.exp(logprob)
    return f"{percent:.1f}%" if percent >= 0.1 else f"{percent:.1g}%"


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _padded(text: str, width: int, *, right: bool) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if right else text + blanks


# ---- the page --------------------------------------------------------------------------------------------


def as_html(explanation: Explanation, language: Language = "en") -> str:
    """The page."""
    say = _LABELS[language]
    shades = "".join(
        f".s{n} {{ background: color-mix(in srgb, var(--heat) {n * 9}%, transparent); }}\n" for n in range(_STEPS)
    )
    means = ""
    if not math.isnan(explanation.surprise):
        figures = (
            (f"{say['surprise']} ({say['bits']} {say['per_token']})", f"{explanation.surprise * NATS_TO_BITS:.2f}"),
            (f"{say['entropy']} ({say['bits']} {say['per_token']})", f"{explanation.entropy * NATS_TO_BITS:.2f}"),
            (say["perplexity"], f"{explanation.perplexity:.4g}"),
        )
        means = "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures) + "</dl>"
    prompt = f"<h2>{say['prompt']}</h2><pre>{escape(explanation.prompt)}</pre>" if explanation.prompt else ""
    key = "".join(f'<i class="s{n}"></i>' for n in range(_STEPS))
    return (
        f'<!doctype html>\n<html lang="{"zh-CN" if language == "zh" else "en"}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{say["title"]}</title>\n'
        f"<style>{_STYLE}{shades}</style>\n</head>\n<body>\n<h1>{say['title']}</h1>\n{prompt}\n{means}\n"
        f'<p class="key quiet">{say["expected"]} {key} {say["unexpected"]}</p>\n<p class="quiet">{say["hint"]}</p>\n'
        f'<div class="text">{"".join(_span(token, say) for token in explanation.tokens)}</div>\n</body>\n</html>\n'
    )


def _span(token: TokenView, say: dict[str, str]) -> str:
    bits = token.surprise_bits
    shade = 0 if bits is None else min(int(bits / _BITS_PER_STEP), _STEPS - 1)
    text = escape("".join(c if c.isprintable() or c == "\n" else shown(c) for c in token.text))
    text = text.replace("\n", '<span class="mark">⏎</span>\n')
    return f'<span class="t s{shade}" tabindex="0">{text}{_card(token, say)}</span>'


def _card(token: TokenView, say: dict[str, str]) -> str:
    name = escape(shown(token.text))
    if token.logprob is None or token.entropy_bits is None:
        return f'<span class="card">{name}<br>{say["first"]}</span>'
    figures = (
        (say["probability"], _share(token.logprob)),
        (say["surprise"], f"{token.surprise_bits:.2f} {say['bits']}"),
        (say["entropy"], f"{token.entropy_bits:.2f} {say['bits']}"),
        (say["rank"], str(token.rank)),
    )
    lines = "".join(f"<br>{label}: {value}" for label, value in figures)
    likeliest = "".join(_line(one, own=one.id == token.id) for one in token.top)
    table = f"<br><br>{say['likeliest']}:{likeliest}" if likeliest else ""
    return f'<span class="card"><b>{name}</b>{lines}{table}</span>'


def _line(one: Alternative, *, own: bool) -> str:
    line = f"{escape(shown(one.text))} {_share(one.logprob)}"
    return f"<br><b>{line}</b>" if own else f"<br>{line}"
