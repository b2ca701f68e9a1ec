"""An evaluation as text for a terminal, and as an HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Final

from object2vec.evaluation.plots import bar_plot, line_plot, matrix_plot

if TYPE_CHECKING:
    from object2vec.evaluation.evaluation import Evaluation

#: The k of `recall@k` and others that tables show; the plot has all.
SHOWN_K: Final = (1, 10, 100)
STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } th, td { padding: .2em 1em .2em 0; text-align: right }
th:first-child, td:first-child { text-align: left } tr { border-bottom: 1px solid #ddd }
figure { display: inline-block; margin: 0 1.5em 1.5em 0; vertical-align: top } figcaption { font-weight: 600 }
"""


def to_text(evaluation: Evaluation) -> str:
    """Return the metrics as tables for a terminal."""
    return "\n\n".join(f"{title}\n{_text_table(table)}" for title, table in _tables(evaluation))


def to_html(evaluation: Evaluation, *, title: str) -> str:
    """Return the metrics and plots as an HTML page."""
    tables = [f"<h2>{escape(name)}</h2>\n{_html_table(table)}" for name, table in _tables(evaluation)]
    figures = [
        f"<figure><figcaption>{escape(caption)}</figcaption>{plot}</figure>" for caption, plot in _plots(evaluation)
    ]
    head = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    body = "\n".join([f"<h1>{escape(title)}</h1>", *tables, *figures])
    return f"{head}<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"


#: Metrics by system.
Table = Mapping[str, Mapping[str, float]]


def _tables(evaluation: Evaluation) -> Iterator[tuple[str, Table]]:
    """Yield each table with its title."""
    task = "regression" if evaluation.regression else f"classification, {len(evaluation.class_names)} classes"
    yield f"{evaluation.pairs:,} pairs, {task}", evaluation.metrics
    if labels := evaluation.labels:
        yield f"labels of {labels.objects:,} in0, predicted from {labels.threshold:.2f} on", labels.metrics
    if evaluation.rankings:
        found = evaluation.rankings
        what = f"{evaluation.candidates:,} in1 for each of {next(iter(found.values())).queries:,} in0"
        yield f"ranking of {what}", {system: _shown(ranking.metrics()) for system, ranking in found.items()}


def _shown(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """Return the metrics without those of most k."""
    return {
        name: value for name, value in metrics.items() if "@" not in name or int(name.rpartition("@")[2]) in SHOWN_K
    }


def _text_table(table: Table) -> str:
    widths = {system: max(len(system), 8) + 3 for system in table}
    lines = [" " * 18 + "".join(f"{system:>{width}}" for system, width in widths.items())]
    for metric in next(iter(table.values())):
        cells = (f"{_number(table[system][metric]):>{width}}" for system, width in widths.items())
        lines.append(f"{metric:<18}{''.join(cells)}")
    return "\n".join(lines)


def _html_table(table: Table) -> str:
    names = "".join(f"<th>{escape(system)}</th>" for system in table)
    rows = [
        f"<tr><td>{metric}</td>{''.join(f'<td>{_number(values[metric])}</td>' for values in table.values())}</tr>"
        for metric in next(iter(table.values()))
    ]
    return f"<table><tr><th></th>{names}</tr>\n" + "\n".join(rows) + "</table>"


def _number(value: float) -> str:
    return "-" if value != value else f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4f}"


def _plots(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Yield each plot with its caption."""
    if evaluation.confusion is not None:
        yield (
            "Confusion: true classes by predicted ones",
            matrix_plot(evaluation.confusion.tolist(), evaluation.class_names),
        )
    if found := evaluation.calibration:
        points = list(zip(found.predicted.tolist(), found.observed.tolist(), strict=True))
        yield (
            "Calibration",
            line_plot({"model": points}, x_label="predicted probability", y_label="observed frequency", diagonal=True),
        )
    for side, groups in evaluation.by_frequency.items():
        bars = [(group.name, group.error, f"{group.pairs:,} pairs") for group in groups]
        yield (
            f"Error by frequency of {side}",
            bar_plot(bars, x_label=f"training pairs with the {side}", y_label=evaluation.error_name),
        )
    if evaluation.rankings:
        lines = {system: list(ranking.recall.items()) for system, ranking in evaluation.rankings.items()}
        yield "Recall by k", line_plot(lines, x_label="k", y_label="recall@k", log_x=True)
