"""Negatives that a record gives: `in1` is a list of lists, and the first is the positive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from object2vec.data.jsonlines import read_channel
from object2vec.data.sequences import Pairs
from object2vec.errors import DataError
from object2vec.hyperparameters import parse
from small import SMALL

PLAIN = '{"in0": [1], "in1": [2], "label": 1}'


def read(folder: Path, *lines: str, **settings: object) -> Pairs:
    path = folder / "train"
    path.write_text("\n".join(lines) + "\n")
    return read_channel("train", path, parse(SMALL | settings).hyperparameters)


def test_negatives_are_pairs_of_label_0_after_their_positive(tmp_path: Path) -> None:
    given = '{"in0": [3, 4], "in1": [ [5], [6, 7], [] ], "label": 1, "weight": 2}'
    pairs = read(tmp_path, PLAIN, given, PLAIN)
    rows = [[side.slice(at, at + 1).values.tolist() for side in pairs.sides] for at in range(len(pairs))]
    assert rows == [[[1], [2]], [[3, 4], [5]], [[3, 4], [6, 7]], [[3, 4], []], [[1], [2]]]
    assert pairs.labels.tolist() == [1, 1, 0, 0, 1]
    assert pairs.weights.tolist() == [1, 2, 2, 2, 1]


def test_single_list_in_a_list_has_no_negatives(tmp_path: Path) -> None:
    assert read(tmp_path, PLAIN.replace("[2]", "[[2]]")).checksum == read(tmp_path, PLAIN).checksum


@pytest.mark.parametrize(
    ("in1", "label", "settings", "sentence"),
    [
        ("[[2], [3, true]]", 1, {}, "in1[1][1] is the boolean true, wanted an integer token id"),
        ("[[2], 3]", 1, {}, "in1[1] is the number 3, wanted a list of integer token ids"),
        ("[2, [3]]", 1, {}, "in1[1] is the list [3], wanted an integer token id"),
        ("[[2], [3], [9]]", 1, {}, 'Inconsistent vocab for in1 found. Vocab id "9" is not less than vocab_size=9'),
        ("[[2], [3]]", 0, {}, "in1 is a list of lists, and label is the number 0, wanted a label from 1 and no"),
        ("[[2], [3]]", 1, {"output_layer": "sigmoid"}, "wanted a label from 1 and no output_layer=sigmoid: all lists"),
        ("[[2], [3]]", 2, {}, "label is 2, wanted a class from 0 to 1"),
        ("[[2], [3]]", '"1"', {}, "in1 is a list of lists, and label is the string"),
    ],
)
def test_error_names_the_line(
    tmp_path: Path, in1: str, label: object, settings: dict[str, object], sentence: str
) -> None:
    """Pairs before the line are more than lines."""
    before = json.dumps({"in0": [1], "in1": [[2], [3], [4]], "label": 1})
    allowed = PLAIN if settings else before
    with pytest.raises(DataError) as raised:
        read(tmp_path, PLAIN, allowed, PLAIN, f'{{"in0": [1], "in1": {in1}, "label": {label}}}', PLAIN, **settings)
    assert str(raised.value).startswith(f"{tmp_path}/train, line 4: ")
    assert sentence in str(raised.value)


def test_list_of_lists_of_in0_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1: in0\[0\] is the list \[1\], wanted an integer token id"):
        read(tmp_path, '{"in0": [[1]], "in1": [2], "label": 1}')
