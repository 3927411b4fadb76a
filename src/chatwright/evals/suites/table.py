"""From rows to figures: means with intervals, paired differences, and the table for terminal and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

import numpy as np

from chatwright.evals.charts import Text, both
from chatwright.evals.report_words import MODEL_NAMES, text_of
from chatwright.evals.suites.items import Item, Row, Suite, ToxicityJudge
from chatwright.statistics.bootstrap import mean_interval

_ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}
_TITLE = ("Helpful, honest, harmless, and the tax", "有用、诚实、无害，以及对齐的代价")
_HELP = (
    "Mean over items with 95 % intervals (bootstrap over items); ↑ higher is better, ↓ lower is better. A difference is "
    "paired: the same items, minus the first model.",
    "各题的均值与 95% 区间（按题自助抽样）；↑ 越高越好，↓ 越低越好。差值按题配对，减去第一个模型。",
)
_WORDS: dict[str, Text] = {
    "judge": ("judge", "评判者"),
    "items": ("items", "题数"),
    "minus": ("minus", "减"),
}


def suite_figures(
    suite: Suite, items: Sequence[Item], rows: Mapping[str, Sequence[Row]], judge: ToxicityJudge | None, seed: int = 0
) -> dict[str, Any]:
    """{"about", "judge", "items", "metrics", "models": {model: {metric: {"value", "low", "high"}}}, "paired"}.

    Args:
        rows: by model, in the order of `items`; the first model is what the others are compared with.
    """
    values = {name: _values(suite, items, found, judge) for name, found in rows.items()}
    first = next(iter(values))
    return {
        "about": suite.about,
        "judge": judge.name if suite.needs_moderation and judge is not None else suite.judge,
        "items": len(items),
        "metrics": {name: {"about": metric.about, "better": metric.better} for name, metric in suite.metrics.items()},
        "models": {name: _intervals(found, seed) for name, found in values.items()},
        "paired": {
            f"{name}_minus_{first}": _intervals(_differences(found, values[first]), seed)
            for name, found in values.items()
            if name != first
        },
    }


def _values(
    suite: Suite, items: Sequence[Item], rows: Sequence[Row], judge: ToxicityJudge | None
) -> dict[str, list[float]]:
    """By metric, the value of every item."""
    scored = [suite.score(item, row, judge) for item, row in zip(items, rows, strict=True)]
    return {name: [one[name] for one in scored] for name in suite.metrics}


def _differences(found: Mapping[str, list[float]], first: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {name: [a - b for a, b in zip(values, first[name], strict=True)] for name, values in found.items()}


def _intervals(values: Mapping[str, list[float]], seed: int) -> dict[str, Any]:
    return {name: asdict(mean_interval(np.array(one), seed=seed)) for name, one in values.items()}


def text_table(suites: Mapping[str, Any]) -> str:
    """For the terminal: a line per suite and metric, a column per model."""
    lines = []
    for name, suite in suites.items():
        lines.append(f"{name} ({suite['items']} items; judge: {suite['judge']})")
        for metric, facts in suite["metrics"].items():
            cells = [f"{model} {_shown(found[metric])}" for model, found in suite["models"].items()]
            lines.append(f"  {facts['about'][0]}{_ARROWS[facts['better']]}: {', '.join(cells)}")
            for pair, found in suite["paired"].items():
                later, _, earlier = pair.partition("_minus_")
                lines.append(f"    {later} minus {earlier}: {_shown(found[metric], sign=True)}")
    return "\n".join(lines)


def _shown(figure: Mapping[str, float], sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    return f"{figure['value']:{form}} [{figure['low']:{form}}, {figure['high']:{form}}]"


def html_tables(suites: Mapping[str, Any]) -> str:
    """The part of the report page; empty without suites."""
    if not suites:
        return ""
    tables = "".join(_html_table(name, suite) for name, suite in suites.items())
    return f"<h2>{both(_TITLE)}</h2><p class='soft'>{both(_HELP)}</p>{tables}"


def _html_table(name: str, suite: Mapping[str, Any]) -> str:
    models, paired = suite["models"], suite["paired"]
    columns = [_model_name(model) for model in models] + [_difference_name(pair) for pair in paired]
    head = "".join(f"<th>{both(column)}</th>" for column in columns)
    rows = []
    for metric, facts in suite["metrics"].items():
        cells = [_html_cell(found[metric], False) for found in models.values()]
        cells += [_html_cell(found[metric], True) for found in paired.values()]
        arrow = _ARROWS[facts["better"]]
        rows.append(f"<tr><td>{both(text_of(facts['about']))}{arrow}</td>{''.join(cells)}</tr>")
    about, judge = both(text_of(suite["about"])), both(_WORDS["judge"])
    note = f"{about}; {suite['items']} {both(_WORDS['items'])}; {judge}: {escape(suite['judge'])}"
    table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<h3>{escape(name)}</h3><p class='soft'>{note}</p><div class='scroll'>{table}</div>"


def _html_cell(figure: Mapping[str, float], sign: bool) -> str:
    value, interval = _shown(figure, sign).split(" ", 1)
    return f"<td>{value} <small>{interval}</small></td>"


def _model_name(name: str) -> Text:
    return MODEL_NAMES.get(name, (name, name))


def _difference_name(pair: str) -> Text:
    later, _, earlier = pair.partition("_minus_")
    names, minus = (_model_name(later), _model_name(earlier)), _WORDS["minus"]
    return f"{names[0][0]} {minus[0]} {names[1][0]}", f"{names[0][1]}{minus[1]}{names[1][1]}"
