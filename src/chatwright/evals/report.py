"""report.html (and, re-exported, the terminal's table), from plain dictionaries.

`write_html(data, path)` takes the `ReportData` below; every key but "report" may be absent, and its part is then left
out. The page is one file: inline SVG and CSS, both languages, light and dark, no script and nothing from outside.

ReportData
    report      the whole of report.json: {"seconds", "peak_rss_bytes", "models": {name: figures},
                "win_rates": {"ppo_vs_base": {"rate", "low", "high", "n"}, ...},
                "judge", "judge_kind" (simulated, held_out, learned): the judge of the score and, where there is no
                "preference_judge" ({"judge", "judge_kind", "replies", "unreadable"}), of the win rates,
                "reward_model": {"accuracy", "length_baseline", "ece", "tie_nll", ...},
                "suites": {name: `suites.table.suite_figures`}}
                figures: `harness.figures` + "kl_nats_per_token" and "path"; models in the order to be shown
    greedy      {name: figures} of greedy decoding
    language    "en" or "zh": language of questions and answers; also the page's first language
    title       page title, (English, Chinese)
    run         {"model", "seed", "folder", "command", "chat_command", "created", "machine", "chatwright"}: shown as they are
    labels      `labellers.simulated.summary(...).to_dict()` of all rankings; {} or absent when people ranked
    card        `report_card.report_card(...)`
    curves      {"sft": rows, "reward": rows, "ppo": rows} of the stages' metrics.jsonl ("step", "loss", "eval_loss",
                "accuracy", "eval_accuracy"; ppo: "reward", "kl_per_token", "kl_per_answer", "answer_tokens", "gold",
                "ended_share", "entropy"), also "pretrain" and "ppo_without_ptx", a second PPO run; what a row
                lacks is not drawn
    frontier    [{"name", "kl_nats", "gold"?, "reward"?}]: points of the KL-reward plot besides the PPO iterations
    targets     [{"name": (en, zh) or str, "value", "goal": text, "met": bool}]
    ptx         {"source": "replay" | "corpus", "loss_before", "loss_after"}
    stages      `stage_table.rows`: what every stage began with and what it left
    samples     `stage_table.samples`: what the base model wrote while it was pre-trained
    answers     [{"question", "models": {name: {"text", "ended", "gold", "parts"}}}]
    notes       further remarks, each (English, Chinese) or one string for both
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from chatwright.evals.charts import Bar, Series, Text, both, interval_chart, line_chart
from chatwright.evals.report_card import card_text
from chatwright.evals.report_style import CSS
from chatwright.evals.report_words import (
    COLUMNS,
    MODEL_NAMES,
    PART_NAMES,
    WORDS,
    column_name,
    duration,
    figure_text,
    filled,
    gate_text,
    judge_notes,
    memory,
    preference_judge,
    score_judge,
    score_name,
    text_of,
)
from chatwright.evals.suites.table import html_tables
from chatwright.evals.terminal import print_table

__all__ = ["ReportData", "html", "print_table", "write_html"]

ReportData = Mapping[str, Any]
TONES = ("a", "b", "c", "d")
SHOWN_ANSWERS = 6


def write_html(data: ReportData, path: str | Path) -> Path:
    """Write the report; the file appears whole or not at all."""
    path = Path(path)
    aside = path.with_name(path.name + ".part")
    aside.write_text(html(data), encoding="utf-8")
    os.replace(aside, path)
    return path


def html(data: ReportData) -> str:
    """The whole page."""
    chinese = str(data.get("language", "en")).startswith("zh")
    title = text_of(data.get("title", WORDS["title"]))
    sections = [
        _notices(data),
        _tiles(data),
        _stages(data),
        _figures(data),
        html_tables(data["report"].get("suites", {})),
        _targets(data),
        _win_rates(data),
        _answers(data),
        _samples(data),
        _curves(data),
        _frontier(data),
        _card(data),
        _run(data),
    ]
    return f"""<!doctype html>
<html lang="{"zh-CN" if chinese else "en"}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title[1 if chinese else 0])}</title><style>{CSS}</style></head>
<body>
<header>
<div class="switch" role="group" aria-label="Language / 语言">
<label><input type="radio" name="lang" id="lang-en"{"" if chinese else " checked"}> English</label>
<label><input type="radio" name="lang" id="lang-zh"{" checked" if chinese else ""}> 简体中文</label>
</div>
<h1>{both(title)}</h1>
{_lead(data)}
</header>
<main>
{"".join(sections)}
</main>
<footer>{both(WORDS["footer"])}</footer>
</body></html>
"""


# ---- parts of the page -----------------------------------------------------------------------------------------------


def _lead(data: ReportData) -> str:
    rates = data["report"].get("win_rates", {})
    said = []
    for name, rate in rates.items():
        first, second = _versus(name)
        figure = f"{rate['rate']:.0%} [{rate['low']:.0%}, {rate['high']:.0%}]"
        said.append(
            (
                f"{first[0]} against {second[0]}: preferred in {figure} of comparisons.",
                f"{first[1]}对{second[1]}的胜率为 {figure}。",
            )
        )
    if not said:
        return ""
    said += judge_notes(data["report"])
    whole = (" ".join(text for text, _ in said), "".join(text for _, text in said))
    return f'<p class="lead">{both(whole)}</p>'


def _notices(data: ReportData) -> str:
    """What a reader must know before the figures: simulated labels, a gate passed by force, replayed text, further notes."""
    notes: list[Text] = []
    labels = data.get("labels") or {}
    if labels:
        notes.append(
            (
                WORDS["simulated"][0].format(**_percents(labels)),
                WORDS["simulated"][1].format(**_percents(labels)),
            )
        )
    card = data.get("card") or {}
    if card.get("gate") is not None and data.get("curves", {}).get("ppo"):
        accuracy = card["accuracy"]
        said = {
            "accuracy": f"{accuracy['value']:.2f} [{accuracy['low']:.2f}, {accuracy['high']:.2f}]",
            "length": f"{card['length_baseline']:.2f}",
        }
        notes.append((WORDS["gate_overridden"][0].format(**said), WORDS["gate_overridden"][1].format(**said)))
    ptx = data.get("ptx") or {}
    if ptx:
        loss = f"{ptx['loss_before']:.3f} → {ptx['loss_after']:.3f}" if ptx.get("loss_before") is not None else ""
        words = WORDS["ptx_replay" if ptx.get("source") == "replay" else "ptx_corpus"]
        notes.append((words[0].format(loss=loss), words[1].format(loss=loss)))
    notes += [text_of(note) for note in data.get("notes", ())]
    items = "".join(f"<li>{both(note)}</li>" for note in notes)
    return f'<div class="note" role="note"><ul>{items}</ul></div>' if items else ""


def _percents(labels: Mapping[str, Any]) -> dict[str, str]:
    return {
        "rankings": f"{labels['rankings']:,}",
        "pairs": f"{labels['pairs']:,}",
        "ties": f"{labels['tie_share']:.1%}",
        "flips": f"{labels['flip_share']:.1%}",
        "ceiling": f"{labels['accuracy_ceiling']:.1%}",
    }


def _tiles(data: ReportData) -> str:
    report = data["report"]
    tiles: list[tuple[Text, Text, Text]] = []
    for name, rate in report.get("win_rates", {}).items():
        first, second = _versus(name)
        title = (f"{first[0]} preferred to {second[0]}", f"{first[1]}胜{second[1]}")
        interval, judge = f"[{rate['low']:.1%}, {rate['high']:.1%}]", preference_judge(report)
        small = tuple(f"{interval}  {_number_of(rate)[n]}, {('judge: ', '评判者：')[n]}{judge[n]}" for n in (0, 1))
        tiles.append((title, text_of(f"{rate['rate']:.0%}"), text_of(small)))
    reward = report.get("reward_model") or {}
    if reward:
        accuracy = reward["accuracy"]
        value = accuracy["value"] if isinstance(accuracy, Mapping) else accuracy
        length = f"{reward['length_baseline']:.1%}"
        beside = (f"{WORDS['length'][0]} {length}", f"{WORDS['length'][1]} {length}")
        tiles.append((WORDS["rm_accuracy"], text_of(f"{value:.1%}"), beside))
    if report.get("seconds") is not None:
        tiles.append((WORDS["time"], duration(report["seconds"]), text_of(memory(report.get("peak_rss_bytes")))))
    cards = "".join(
        f'<div class="tile">{both(name)}<b>{both(value)}</b><small>{both(small)}</small></div>'
        for name, value, small in tiles
    )
    return f'<div class="tiles">{cards}</div>'


def _number_of(rate: Mapping[str, Any]) -> Text:
    """Comparisons and the questions that they belong to."""
    if "questions" not in rate:
        return text_of(f"n={rate['n']:,}")
    return f"n={rate['n']:,} of {rate['questions']:,} questions", f"{rate['questions']:,} 个问题，n={rate['n']:,}"


def _stages(data: ReportData) -> str:
    rows, last = [], None
    for row in data.get("stages", ()):
        stage = text_of(row["stage"])
        cells = "".join(f"<td>{escape(row[name])}</td>" for name in ("before", "after"))
        title = "" if stage == last else both(stage)
        rows.append(f'<tr><td>{title}</td><td class="text">{both(text_of(row["measure"]))}</td>{cells}</tr>')
        last = stage
    if not rows:
        return ""
    head = "".join(f"<th>{both(WORDS[name])}</th>" for name in ("before", "after"))
    table = f"<table><thead><tr><th></th><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<h2>{both(WORDS["stages"])}</h2><div class="scroll">{table}</div>'


def _samples(data: ReportData) -> str:
    rows = "".join(
        f'<tr><td>{row["step"]}</td><td class="text"><b>{escape(row["prompt"])}</b>{escape(row["text"])}</td></tr>'
        for row in data.get("samples", ())
    )
    if not rows:
        return ""
    head = f"<th>{both(WORDS['step'])}</th><th></th>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<h2>{both(WORDS["samples"])}</h2><div class="scroll">{table}</div>'


def _figures(data: ReportData) -> str:
    tables = [(WORDS["at_temperature"], data["report"].get("models", {})), (WORDS["greedy"], data.get("greedy", {}))]
    report = data["report"]
    help_text = filled("figures_help", judge=score_judge(report))
    parts = [f"<h2>{both(WORDS['figures'])}</h2><p class='soft'>{both(help_text)}</p>"]
    for title, models in tables:
        if models:
            parts.append(f"<h3>{both(title)}</h3>{_figure_table(models, report)}")
    return "".join(parts) if len(parts) > 1 else ""


def _figure_table(models: Mapping[str, Mapping[str, Any]], report: Mapping[str, Any]) -> str:
    used = [column for column in COLUMNS if any(row.get(column) is not None for row in models.values())]
    head = "".join(f"<th>{both(column_name(column, report))}</th>" for column in used)
    rows = []
    for name, row in models.items():
        cells = "".join(f"<td>{_cell(column, row)}</td>" for column in used)
        rows.append(f"<tr><td>{both(_model_name(name))}</td>{cells}</tr>")
    body = "".join(rows)
    return f'<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(column: str, row: Mapping[str, Any]) -> str:
    shown = figure_text(column, row.get(column))
    if column == "gold_mean" and row.get("gold_low") is not None:
        shown += f" <small>[{row['gold_low']:.3f}, {row['gold_high']:.3f}]</small>"
    return shown


def _targets(data: ReportData) -> str:
    rows = "".join(
        f"<tr><td>{both(text_of(row['name']))}</td><td>{escape(str(row['value']))}</td>"
        f"<td>{escape(str(row['goal']))}</td>"
        f'<td class="{"met" if row["met"] else "missed"}">{both(WORDS["met" if row["met"] else "missed"])}</td></tr>'
        for row in data.get("targets", ())
    )
    if not rows:
        return ""
    head = "".join(f"<th>{both(WORDS[name])}</th>" for name in ("value", "goal", "verdict"))
    table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<h2>{both(WORDS["targets"])}</h2><div class="scroll">{table}</div>'


def _win_rates(data: ReportData) -> str:
    rates = data["report"].get("win_rates", {})
    if not rates:
        return ""
    bars = []
    for n, (name, rate) in enumerate(rates.items()):
        first, second = _versus(name)
        label = (f"{first[0]} : {second[0]}", f"{first[1]} : {second[1]}")
        bars.append(Bar(name=label, value=rate["rate"], low=rate["low"], high=rate["high"], tone=TONES[(n + 1) % 4]))
    chart = interval_chart(bars, title=WORDS["win_rate"], marks=[(WORDS["even"], 0.5, "a")])
    notes = judge_notes(data["report"])
    judged = both((" ".join(english for english, _ in notes), "".join(chinese for _, chinese in notes)))
    return f'<h2>{both(WORDS["preferred"])}</h2><p class="soft">{judged}</p><div class="charts">{chart}</div>'


def _answers(data: ReportData) -> str:
    rows = list(data.get("answers", ()))
    if not rows:
        return ""
    shown = "".join(_question(row) for row in rows[:SHOWN_ANSWERS])
    rest = "".join(_question(row) for row in rows[SHOWN_ANSWERS:])
    more = (f"{len(rows) - SHOWN_ANSWERS} more questions", f"另外 {len(rows) - SHOWN_ANSWERS} 个问题")
    folded = f"<details><summary>{both(more)}</summary>{rest}</details>" if rest else ""
    scored = any("gold" in answer for row in rows for answer in row["models"].values())
    help_text = f"<p class='soft'>{both(WORDS['answers_help' if scored else 'answers_plain'])}</p>"
    return f"<h2>{both(WORDS['answers'])}</h2>{help_text}{shown}{folded}"


def _question(row: Mapping[str, Any]) -> str:
    cards = "".join(_answer(name, answer, TONES[n % 4]) for n, (name, answer) in enumerate(row["models"].items()))
    return f'<div class="question"><h3>{escape(row["question"])}</h3><div class="answers">{cards}</div></div>'


def _answer(name: str, answer: Mapping[str, Any], tone: str) -> str:
    parts = answer.get("parts") or {}
    chips = "".join(
        f'<li class="{"full" if value >= 0.999 else "none" if value <= 0.001 else ""}">'
        f"{both(PART_NAMES.get(part, (part, part)))}{'' if value in (0, 1) else f' {value:.2f}'}</li>"
        for part, value in parts.items()
    )
    gold = f"<span>{answer['gold']:.2f}</span>" if answer.get("gold") is not None else ""
    cut = "" if answer.get("ended", True) else f'<span class="cut"> … {both(WORDS["cut"])}</span>'
    return (
        f'<article class="answer {tone}"><header><span>{both(_model_name(name))}</span>{gold}</header>'
        f"<p>{escape(answer['text'].strip())}{cut}</p><ul class='parts'>{chips}</ul></article>"
    )


def _curves(data: ReportData) -> str:
    curves = data.get("curves", {})
    pretrain, sft, reward, ppo, other = (
        list(curves.get(stage, ())) for stage in ("pretrain", "sft", "reward", "ppo", "ppo_without_ptx")
    )
    lines = {
        "pretrain_loss": [(WORDS["train"], pretrain, "loss", "b"), (WORDS["held_out"], pretrain, "held_out_loss", "c")],
        "sft_loss": [(WORDS["train"], sft, "loss", "b"), (WORDS["held_out"], sft, "eval_loss", "c")],
        "rm_loss": [(WORDS["train"], reward, "loss", "b"), (WORDS["held_out"], reward, "eval_loss", "c")],
        "rm_accuracy_curve": [
            (WORDS["train"], reward, "accuracy", "b"),
            (WORDS["held_out"], reward, "eval_accuracy", "c"),
        ],
        "ppo_reward": [(WORDS["rm_score"], ppo, "reward", "c"), (WORDS["without_ptx"], other, "reward", "a")],
        "ppo_gold": [(WORDS["gold"], ppo, "gold", "d")],
        "ppo_kl": [(WORDS["kl_token"], ppo, "kl_per_token", "b"), (WORDS["without_ptx"], other, "kl_per_token", "a")],
        "ppo_length": [(WORDS["tokens"], ppo, "answer_tokens", "a")],
        "ppo_entropy": [(WORDS["entropy"], ppo, "entropy", "a")],
        "ppo_ptx": [(WORDS["ptx_loss"], ppo, "ptx_loss", "a")],
    }
    drawn = []
    for title, found in lines.items():
        if title == "ppo_ptx" and not any(row.get("ptx_loss") for row in ppo):
            continue  # trained without ptx
        series = [_series(name, rows, field, tone) for name, rows, field, tone in found if _has(rows, field)]
        if series:
            x = WORDS["iteration"] if title.startswith("ppo") else WORDS["step"]
            drawn.append(line_chart(series, x=x, y=WORDS[title], percent=title == "rm_accuracy_curve"))
    charts = "".join(drawn)
    return f'<h2>{both(WORDS["curves"])}</h2><div class="charts">{charts}</div>' if charts else ""


def _has(rows: Sequence[Mapping[str, Any]], field: str) -> bool:
    return any(row.get(field) is not None for row in rows)


def _series(name: Text, rows: Sequence[Mapping[str, Any]], y: str, tone: str, x: str = "step") -> Series:
    kept = [row for row in rows if row.get(y) is not None and row.get(x) is not None]
    return Series(name=name, xs=[float(row[x]) for row in kept], ys=[float(row[y]) for row in kept], tone=tone)


def _frontier(data: ReportData) -> str:
    """KL-reward plot: learned reward and gold, each against nats per answer."""
    ppo = list(data.get("curves", {}).get("ppo", ()))
    named = list(data.get("frontier", ()))
    drawn = []
    for field, title in (("reward", WORDS["frontier_reward"]), ("gold", score_name(data["report"]))):
        series = []
        if _has(ppo, field) and _has(ppo, "kl_per_answer"):
            path = _series(WORDS["iterations"], ppo, field, "c", "kl_per_answer")
            series.append(Series(name=path.name, xs=path.xs, ys=path.ys, tone="c", points=True))
        for n, point in enumerate(point for point in named if point.get(field) is not None):
            xs, ys = [float(point["kl_nats"])], [float(point[field])]
            name = _model_name(point["name"])
            series.append(Series(name=name, xs=xs, ys=ys, tone=("b", "d", "a")[n % 3], points=True))
        if series:
            drawn.append(line_chart(series, x=WORDS["kl_answer"], y=title))
    help_text = f"<p class='soft'>{both(WORDS['frontier_help'])}</p>"
    charts = "".join(drawn)
    return f'<h2>{both(WORDS["frontier"])}</h2>{help_text}<div class="charts">{charts}</div>' if charts else ""


def _card(data: ReportData) -> str:
    card = data.get("card")
    if not card:
        return ""
    accuracy = card["accuracy"]
    bars = [Bar(name=WORDS["all_pairs"], tone="b", note=f"n={accuracy['n']}", **_interval(accuracy))]
    for distance, figure in card["by_rank_distance"].items():
        name = (f"{distance} level{'s' if distance != '1' else ''} apart", f"相差 {distance} 级")
        bars.append(Bar(name=name, tone="b", note=f"n={figure['n']}", **_interval(figure)))
    marks: list[tuple[Text, float, str]] = [(WORDS["length_baseline"], card["length_baseline"], "c")]
    if card.get("accuracy_ceiling") is not None:
        marks.append((WORDS["ceiling"], card["accuracy_ceiling"], "d"))
    charts = [
        interval_chart(bars, title=WORDS["rm_accuracy"], marks=marks),
        _reliability(WORDS["calibration"], card["calibration"], "confidence", "accuracy", (0.5, 1.0)),
        _reliability(WORDS["tie_calibration"], card["tie_calibration"]["bins"], "predicted", "observed", None),
    ]
    verdict, state = gate_text(card), "met" if card.get("gate") is None else "missed"
    return (
        f'<h2>{both(WORDS["card"])}</h2><p class="{state}">{both(verdict)}</p>'
        f'<div class="charts">{"".join(charts)}</div>'
        f"<details><summary>{both(WORDS['card_all'])}</summary><pre>{escape(card_text(card))}</pre></details>"
    )


def _interval(figure: Mapping[str, Any]) -> dict[str, float]:
    return {name: figure[name] for name in ("value", "low", "high")}


def _reliability(
    title: Text, bins: Sequence[Mapping[str, Any]], x: str, y: str, span: tuple[float, float] | None
) -> str:
    ordered = sorted(bins, key=lambda one: float(one[x]))
    xs, ys = [float(one[x]) for one in ordered], [float(one[y]) for one in ordered]
    low, high = span or (0.0, max([*xs, *ys, 0.1]) * 1.1)
    series = [
        Series(name=WORDS["perfect"], xs=[low, high], ys=[low, high], tone="a", dashed=True),
        Series(name=WORDS["this_model"], xs=xs, ys=ys, tone="b", points=True),
    ]
    bounds = (min(low, *ys), max(high, *ys)) if ys else (low, high)
    return line_chart(series, x=WORDS["predicted"], y=title, y_range=bounds)


def _run(data: ReportData) -> str:
    run = data.get("run") or {}
    if not run:
        return ""
    rows = "".join(
        f"<tr><td>{both(WORDS.get('run_' + name, (name, name)))}</td>"
        f'<td style="text-align:left;white-space:normal"><code>{escape(str(value))}</code></td></tr>'
        for name, value in run.items()
    )
    return f'<h2>{both(WORDS["run"])}</h2><div class="scroll"><table>{rows}</table></div>'


def _versus(name: str) -> tuple[Text, Text]:
    first, _, second = name.partition("_vs_")
    return _model_name(first), _model_name(second)


def _model_name(name: str) -> Text:
    return MODEL_NAMES.get(name, (name, name))
