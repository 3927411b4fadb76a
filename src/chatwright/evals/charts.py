"""Small SVG charts for reports: lines, points and intervals; text in two languages; colours from CSS variables.

Every label is a `Text`, both languages are in the file and a style rule shows one. Nothing is loaded from outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

Text = tuple[str, str]
"""(English, Chinese)."""
Scale = Callable[[float], float]
WIDTH, HEIGHT = 340, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 42
MAX_POINTS = 300


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line or set of points."""

    name: Text
    xs: Sequence[float]
    ys: Sequence[float]
    tone: str = "a"
    """Colour: a, b, c or d (CSS classes)."""
    points: bool = False
    """Points joined by a thin line instead of a plain line."""
    dashed: bool = False
    """For references."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A figure with its interval, one row of an interval chart."""

    name: Text
    value: float
    low: float
    high: float
    tone: str = "a"
    note: str = ""
    """Printed after the figure, as number of pairs."""


def both(text: Text) -> str:
    """A label in both languages, for HTML."""
    english, chinese = (escape(part) for part in text)
    if english == chinese:
        return english
    return f'<span class="en" lang="en">{english}</span><span class="zh" lang="zh-CN">{chinese}</span>'


def line_chart(
    series: Sequence[Series], *, x: Text, y: Text, percent: bool = False, y_range: tuple[float, float] | None = None
) -> str:
    """An SVG with axes, gridlines and a legend (when there is more than one series); "" without finite points."""
    drawn = [_finite(one) for one in series]
    drawn = [one for one in drawn if len(one.xs)]
    if not drawn:
        return ""
    x_low, x_high = _span([value for one in drawn for value in one.xs])
    y_low, y_high = y_range or _padded(*_span([value for one in drawn for value in one.ys]))
    across = _scale(x_low, x_high, LEFT, WIDTH - RIGHT)
    up = _scale(y_low, y_high, HEIGHT - BOTTOM, TOP)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y[0])} / {escape(y[1])}">']
    for tick in ticks(y_low, y_high):
        height = up(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(_text(LEFT - 6, height + 4, number(tick, percent), "end"))
    whole = all(float(value).is_integer() for one in drawn for value in one.xs)
    for tick in ticks(x_low, x_high, whole=whole):
        parts.append(_text(across(tick), HEIGHT - BOTTOM + 16, number(tick), "middle"))
    parts.append(_text_both((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x))
    parts += [_draw(one, across, up, percent) for one in drawn]
    parts.append("</svg>")
    legend = _legend(drawn) if len(drawn) > 1 else ""
    return f"<figure><figcaption>{both(y)}</figcaption>{''.join(parts)}{legend}</figure>"


def interval_chart(
    bars: Sequence[Bar],
    *,
    title: Text,
    low: float = 0.0,
    high: float = 1.0,
    marks: Sequence[tuple[Text, float, str]] = (),
) -> str:
    """Rows of points with their intervals on one scale; `marks` are named vertical lines (name, value, tone)."""
    row = 30
    height = TOP + row * len(bars) + 26
    across = _scale(low, high, 8, WIDTH - 8)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title[0])} / {escape(title[1])}">']
    for tick in ticks(low, high):
        place = across(tick)
        parts.append(f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{height - 22}"/>')
        parts.append(_text(place, height - 6, number(tick), "middle"))
    for _, value, tone in marks:
        place = across(value)
        parts.append(f'<line class="mark {tone}" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP - 4}" y2="{height - 22}"/>')
    for n, bar in enumerate(bars):
        y = TOP + row * n + 20
        parts.append(_text_both(8, y - 8, bar.name, "start", f" {bar.value:.3f} {bar.note}"))
        ends = f'x1="{across(bar.low):.1f}" x2="{across(bar.high):.1f}" y1="{y}" y2="{y}"'
        tip = f"<title>{bar.value:.3f} [{bar.low:.3f}, {bar.high:.3f}]</title>"
        parts.append(f'<g class="{bar.tone}"><line class="whisker" {ends}/>')
        parts.append(f'<circle cx="{across(bar.value):.1f}" cy="{y}" r="4.5">{tip}</circle></g>')
    parts.append("</svg>")
    keys = "".join(f'<li><i class="{tone} dash"></i>{both(name)} {value:.3f}</li>' for name, value, tone in marks)
    legend = f'<ul class="legend">{keys}</ul>' if keys else ""
    return f"<figure><figcaption>{both(title)}</figcaption>{''.join(parts)}{legend}</figure>"


def ticks(low: float, high: float, target: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers inside [low, high], about `target` of them; with `whole` no fractions (for steps)."""
    raw = (high - low) / target
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    step = max(1.0, math.ceil(step)) if whole else step
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first
    return [round((first + n) * step, 12) for n in range(count + 1)]


def number(value: float, percent: bool = False) -> str:
    """A short number for an axis."""
    if percent:
        return f"{value * 100:.4g}%"
    if abs(value) >= 10_000:
        return f"{value / 1000:.4g}k"
    return f"{value:.4g}"


def smoothed(ys: Sequence[float], window: int) -> list[float]:
    """Centred moving average; shorter at the ends."""
    half = window // 2
    return [sum(ys[max(0, i - half) : i + half + 1]) / len(ys[max(0, i - half) : i + half + 1]) for i in range(len(ys))]


def _draw(one: Series, across: Scale, up: Scale, percent: bool) -> str:
    """A noisy long line is drawn faintly with its moving average on top."""
    kind = "line dashed" if one.dashed else "line thin" if one.points else "line"
    lines = []
    if len(one.ys) > 40 and not (one.points or one.dashed):
        lines.append(_path(one.xs, one.ys, across, up, "line faint"))
        lines.append(_path(one.xs, smoothed(one.ys, max(5, len(one.ys) // 15)), across, up, kind))
    elif len(one.xs) > 1:
        lines.append(_path(one.xs, one.ys, across, up, kind))
    if (one.points or len(one.xs) <= 40) and not one.dashed:
        radius = 3.5 if one.points else 2.2
        for x, y in zip(one.xs, one.ys, strict=True):
            tip = f"<title>{number(x)}: {number(y, percent)}</title>"
            lines.append(f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="{radius}">{tip}</circle>')
    return f'<g class="{one.tone}">{"".join(lines)}</g>'


def _path(xs: Sequence[float], ys: Sequence[float], across: Scale, up: Scale, kind: str) -> str:
    stride = max(1, math.ceil(len(xs) / MAX_POINTS))
    kept = sorted({*range(0, len(xs), stride), len(xs) - 1})
    places = " ".join(f"{across(xs[i]):.1f},{up(ys[i]):.1f}" for i in kept)
    return f'<polyline class="{kind}" points="{places}"/>'


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    """Values in [low, high] to places between start and end; values outside stay at the edge."""
    return lambda value: start + (min(max(value, low), high) - low) / (high - low) * (end - start)


def _finite(one: Series) -> Series:
    kept = [(x, y) for x, y in zip(one.xs, one.ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
    return Series(
        name=one.name,
        xs=[x for x, _ in kept],
        ys=[y for _, y in kept],
        tone=one.tone,
        points=one.points,
        dashed=one.dashed,
    )


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high - low > 1e-12 else (low - 0.5, high + 0.5)


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low)
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _legend(series: Sequence[Series]) -> str:
    keys = "".join(
        f'<li><i class="{one.tone}{" dash" if one.dashed else ""}"></i>{both(one.name)}</li>' for one in series
    )
    return f'<ul class="legend">{keys}</ul>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _text_both(x: float, y: float, text: Text, anchor: str = "middle", after: str = "") -> str:
    if text[0] == text[1]:
        return _text(x, y, text[0] + after, anchor)
    return "".join(
        f'<text class="{code}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(part + after)}</text>'
        for code, part in zip(("en", "zh"), text, strict=True)
    )
