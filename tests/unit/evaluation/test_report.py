"""The evaluation as text and as an HTML page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from object2vec.evaluation.evaluation import Evaluation, FrequencyGroup
from object2vec.evaluation.metrics import Calibration
from object2vec.evaluation.ranking import Ranking
from object2vec.evaluation.report import to_html, to_text

BY_K = {1: 0.25, 10: 0.5, 100: 1.0}
RANKING = Ranking(queries=943, hits=BY_K, recall=BY_K, ndcg=BY_K, mrr=0.3, mean_rank=123.4, auc=0.9)
EVALUATION = Evaluation(
    pairs=9430,
    regression=False,
    metrics={"model": {"accuracy": 0.875, "auc": float("nan")}, "class <frequencies>": {"accuracy": 0.5, "auc": 0.5}},
    confusion=np.array([[3, 1], [0, 4]]),
    calibration=Calibration(predicted=np.array([0.1, 0.9]), observed=np.array([0.2, 0.8]), counts=np.array([4, 4])),
    by_frequency={"in0": [FrequencyGroup(low=0, high=0, pairs=3, error=1.5)]},
    rankings={"model": RANKING, "popularity": RANKING},
    candidates=1682,
    class_names=["no & never", "yes"],
)


def test_text_has_a_row_per_metric_and_a_column_per_system() -> None:
    lines = to_text(EVALUATION).splitlines()
    assert lines[0] == "9,430 pairs, classification, 2 classes"
    assert lines[1].split("  ")[-1].strip() == "class <frequencies>"
    assert re.split(r"\s{2,}", lines[2]) == ["accuracy", "0.8750", "0.5000"]
    assert re.split(r"\s{2,}", lines[3]) == ["auc", "-", "0.5000"]
    assert "ranking of 1,682 in1 for each of 943 in0" in lines
    assert any(re.fullmatch(r"mean_rank +123.4 +123.4", line) for line in lines)


class Page(HTMLParser):
    """Collects the tags, and checks that all are closed."""

    VOID = ("meta",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_has_all_tables_and_plots_and_needs_nothing_else() -> None:
    text = to_html(EVALUATION, title="model <a>")
    page = Page(text)
    assert page.open == []
    assert (page.tags.count("table"), page.tags.count("svg")) == (2, 4)
    assert not {"script", "link", "img"} & set(page.tags)
    assert not re.search(r'(src|href)=|url\(|https?://(?!www\.w3\.org/2000/svg")', text)


@pytest.mark.parametrize("name", ["class <frequencies>", "no & never", "model <a>"])
def test_names_are_escaped(name: str) -> None:
    assert name not in to_html(EVALUATION, title="model <a>")


def test_many_classes_show_the_most_frequent_ones() -> None:
    names = [f"class{number}" for number in range(40)]
    evaluation = Evaluation(
        pairs=40,
        regression=False,
        metrics={"model": {"accuracy": 1.0}},
        confusion=np.diag(np.arange(40)),
        class_names=names,
    )
    text = to_html(evaluation, title="model")
    assert "class39<" in text
    assert "class3<" not in text
