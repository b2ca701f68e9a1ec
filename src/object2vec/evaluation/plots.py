"""Plots as inline SVG, without scripts or files from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

WIDTH, HEIGHT, MARGIN = 420, 280, 44
COLORS: Final = ("#1f6fb2", "#d9822b", "#5a9e4b", "#8a5ea8")
#: The most classes that a confusion matrix shows.
MAX_CLASSES: Final = 25
Points = Sequence[tuple[float, float]]


def line_plot(
    lines: Mapping[str, Points], *, x_label: str, y_label: str, log_x: bool = False, diagonal: bool = False
) -> str:
    """Return a plot of named lines with y from 0 to 1; x is from 0 to 1, or logarithmic from 1."""
    end = max((x for points in lines.values() for x, _ in points), default=1.0)

    def place(x: float, y: float) -> tuple[float, float]:
        share = math.log(x) / math.log(max(end, 2)) if log_x else x
        return MARGIN + share * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - y * (HEIGHT - 2 * MARGIN)

    parts = [_frame(x_label, y_label)]
    ticks = sorted({x for points in lines.values() for x, _ in points}) if log_x else [0, 0.25, 0.5, 0.75, 1]
    parts += [_text(place(x, 0)[0], HEIGHT - MARGIN + 14, f"{x:g}") for x in ticks]
    parts += [_text(MARGIN - 6, place(1, y)[1] + 4, f"{y:g}", anchor="end") for y in (0, 0.25, 0.5, 0.75, 1)]
    if diagonal:
        (x1, y1), (x2, y2) = place(0, 0), place(1, 1)
        parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#999" stroke-dasharray="4 4"/>')
    for number, (name, points) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        places = [place(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places]
        parts.append(_text(WIDTH - MARGIN, 14 + 14 * number, name, anchor="end", color=color))
    return _svg(parts)


def bar_plot(bars: Sequence[tuple[str, float, str]], *, x_label: str, y_label: str) -> str:
    """Return a plot of bars: the name, the value and a note on each."""
    top = max((value for _, value, _ in bars), default=0.0) or 1.0
    width = (WIDTH - 2 * MARGIN) / max(len(bars), 1)
    parts = [_frame(x_label, y_label)]
    for number, (name, value, note) in enumerate(bars):
        x, height = MARGIN + number * width, value / top * (HEIGHT - 2 * MARGIN)
        y = HEIGHT - MARGIN - height
        bar = f'x="{x + width * 0.1:.1f}" y="{y:.1f}" width="{width * 0.8:.1f}" height="{height:.1f}"'
        parts.append(f'<rect {bar} fill="{COLORS[0]}"><title>{escape(f"{name}: {value:.4g}, {note}")}</title></rect>')
        parts.append(_text(x + width / 2, HEIGHT - MARGIN + 14, name, size=9))
        parts.append(_text(x + width / 2, y - 4, f"{value:.3g}"))
    return _svg(parts)


def matrix_plot(counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Return a confusion matrix: rows are true classes, columns predicted ones, colors shares of a row.

    Of many classes it shows the most frequent ones.
    """
    shown = sorted(sorted(range(len(counts)), key=lambda row: -sum(counts[row]))[:MAX_CLASSES])
    cell, left, top = 34 if len(shown) <= 8 else 24, 130, 130
    parts = []
    for i, row in enumerate(shown):
        total = max(sum(counts[row]), 1)
        y = top + i * cell
        parts.append(_text(left - 6, y + cell / 2 + 4, _short(names[row]), anchor="end"))
        x = left + i * cell + cell / 2
        label = escape(_short(names[row]))
        parts.append(f'<text transform="translate({x + 4},{top - 6}) rotate(-60)" font-size="11">{label}</text>')
        for j, column in enumerate(shown):
            share, count = counts[row][column] / total, counts[row][column]
            title = escape(f"true {names[row]}, predicted {names[column]}: {count:,} ({share:.1%})")
            square = f'x="{left + j * cell}" y="{y}" width="{cell - 1}" height="{cell - 1}"'
            fill = f'fill="{COLORS[0]}" fill-opacity="{0.06 + 0.94 * share:.3f}"'
            parts.append(f"<rect {square} {fill}><title>{title}</title></rect>")
            if len(shown) <= 8:
                color = "#fff" if share > 0.5 else "#222"
                parts.append(_text(left + (j + 0.5) * cell, y + cell / 2 + 4, f"{count}", color=color, size=9))
    size = cell * len(shown)
    return _svg(parts, width=left + size + 40, height=top + size + 10)


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"


def _frame(x_label: str, y_label: str) -> str:
    bottom, right = HEIGHT - MARGIN, WIDTH - MARGIN
    axes = f'<path d="M{MARGIN},{MARGIN} V{bottom} H{right}" fill="none" stroke="#555"/>'
    title = f'<text transform="translate(12,{HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    return axes + _text(WIDTH / 2, HEIGHT - 8, x_label) + title


def _text(x: float, y: float, text: str, *, anchor: str = "middle", color: str = "#222", size: int = 11) -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}"'
    return f"<text {where}>{escape(text)}</text>"


def _svg(parts: Sequence[str], *, width: float = WIDTH, height: float = HEIGHT) -> str:
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-size="11">{"".join(parts)}</svg>'
