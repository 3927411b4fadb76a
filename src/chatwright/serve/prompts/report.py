"""The result of a prompt test: a table for the terminal, and one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from chatwright.serve.prompts.testing import Scored

WORDS = {
    "en": {
        "title": "Prompt test", "variant": "wording", "score": "score", "passed": "all passed", "winner": "Best wording",
        "clear": "clearly ahead of every other", "unclear": "not clearly ahead: add cases or samples",
        "over": "preferred to",
        "case": "case", "answer": "answer", "failed": "failed", "note": "Intervals: 95 %, bootstrap over cases.",
        "unreadable": "samples without a readable verdict of the judge (half a point for each wording)",
    },
    "zh": {
        "title": "提示词测试", "variant": "措辞", "score": "得分", "passed": "全部通过", "winner": "最佳措辞",
        "clear": "明显优于其他各项", "unclear": "优势不明显：请增加用例或采样", "over": "优于",
        "case": "用例", "answer": "回答", "failed": "未通过", "note": "区间：95%，按用例自助抽样。",
        "unreadable": "个采样没有可读的评委判定（各措辞各得半分）",
    },
}  # fmt: skip
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;"
    "width:100%;margin:1rem 0}td,th{border:1px solid #8886;padding:.4rem .6rem;text-align:left;vertical-align:top}"
    "pre{white-space:pre-wrap;margin:0;font:inherit}.no{color:#b00}@media(prefers-color-scheme:dark){body{background:#111;"
    "color:#eee}.no{color:#f88}}"
)


def table(summary: Mapping[str, Any]) -> str:
    """Lines for the terminal."""
    lines = []
    for model, found in summary.items():
        width = max(len(name) for name in found["variants"]) + 2
        lines += [model, f"  {'wording':<{width}} score  95 % interval   all passed"]
        for name, row in sorted(found["variants"].items(), key=lambda one: -one[1]["score"]):
            lines.append(f"  {name:<{width}} {row['score']:.3f}  [{row['low']:.3f}, {row['high']:.3f}]  {row['passed']:.0%}")
        for name, rate in found["win_rates"].items():
            interval = f"[{rate['low']:.3f}, {rate['high']:.3f}]"
            lines.append(f"  {found['best']} preferred to {name}: {rate['rate']:.3f} {interval}")
        lines.append(f"  {found['best']}: {WORDS['en']['clear' if found['clear'] else 'unclear']}")
        if found.get("unreadable"):
            lines.append(f"  {found['unreadable']} {WORDS['en']['unreadable']}")
    return "\n".join(lines)


def page(name: str, summary: Mapping[str, Any], scored: Sequence[Scored], language: str) -> str:
    """The report as HTML; every text of users and models is escaped."""
    words = WORDS[language]
    title = f"{words['title']}: {escape(name)}"
    parts = [
        f'<!doctype html><html lang="{"zh-CN" if language == "zh" else "en"}"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>'
    ]
    for model, found in summary.items():
        parts.append(f"<h2>{escape(model)}</h2>{_scores(found, words)}{_answers(model, scored, words)}")
    return "".join([*parts, f"<p>{words['note']}</p></html>\n"])


def _scores(found: Mapping[str, Any], words: Mapping[str, str]) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{row['score']:.3f} [{row['low']:.3f}, {row['high']:.3f}]</td>"
        f"<td>{row['passed']:.0%}</td></tr>"
        for name, row in sorted(found["variants"].items(), key=lambda one: -one[1]["score"])
    )
    rates = "".join(
        f"<li>{escape(found['best'])} {words['over']} {escape(name)}: {rate['rate']:.3f} "
        f"[{rate['low']:.3f}, {rate['high']:.3f}]</li>"
        for name, rate in found["win_rates"].items()
    )
    head = f"<tr><th>{words['variant']}</th><th>{words['score']}</th><th>{words['passed']}</th></tr>"
    verdict = words["clear" if found["clear"] else "unclear"]
    unreadable = f"<p>{found['unreadable']} {words['unreadable']}</p>" if found.get("unreadable") else ""
    winner = f"<p>{words['winner']}: <b>{escape(found['best'])}</b> ({verdict})</p>"
    return f"<table>{head}{rows}</table>{winner}<ul>{rates}</ul>{unreadable}"


def _answers(model: str, scored: Sequence[Scored], words: Mapping[str, str]) -> str:
    rows = []
    for one in scored:
        if one.model != model:
            continue
        for answer, parts, score in zip(one.answers, one.verdicts, one.scores, strict=True):
            missed = ", ".join(name for name, value in parts.items() if value < 0.5)
            failed = f'<br><span class="no">{words["failed"]}: {escape(missed)}</span>' if missed else ""
            rows.append(
                f"<tr><td>{escape(one.case)}</td><td>{escape(one.variant)}</td><td>{score:.2f}{failed}</td>"
                f"<td><pre>{escape(answer.text)}</pre></td></tr>"
            )
    head = f"<tr><th>{words['case']}</th><th>{words['variant']}</th><th>{words['score']}</th><th>{words['answer']}</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"
