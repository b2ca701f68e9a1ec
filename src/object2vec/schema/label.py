"""The label of a pair: a class name that becomes a class id, or a number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

import numpy as np

from object2vec.array_types import Float32
from object2vec.data.records import MAX_NUMBER, MAX_WEIGHT
from object2vec.errors import RawValueError, UserError, shortened
from object2vec.hyperparameters.table import MAX_CLASSES
from object2vec.schema.arrays import Codes, column_codes
from object2vec.schema.columns import Column, List, Token
from object2vec.schema.values import describe

LabelKind = Literal["class", "classes", "number"]
#: Kinds whose labels are names.
CLASS_KINDS: Final = ("class", "classes")
#: More values are not classes, unless the kind of the label says so: they may be ids.
MAX_GUESSED_CLASSES: Final = 30
EXPECTED_FORMS: Final = (
    "wanted NAME, NAME:class, NAME:number, NAME:class(SEPARATOR) for a pair of each class, or NAME:classes(SEPARATOR)"
)
#: Labels of these texts alone are classes.
BINARY: Final = {"0", "1"}
_WRITTEN: Final = re.compile(r"(.+?)(?::(class|classes|number)(?:\((.+)\))?)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Label:
    """The column of the label. `classes[i]` is the name of class i.

    A column whose `kind` is None is numbers if all values are, and not all of them are 0 or 1. With a `separator`, a
    row has several labels: it becomes a pair for each.
    """

    name: str
    kind: LabelKind | None = None
    classes: tuple[str, ...] = ()
    separator: str | None = None

    @property
    def column(self) -> Column:
        """Return the column that holds the labels: one, or a list of them."""
        return Token(self.name) if self.exclusive else List(self.name, self.separator)

    @property
    def exclusive(self) -> bool:
        """Whether a row has one label only."""
        return self.separator is None and not self.is_set

    @property
    def is_set(self) -> bool:
        """Whether a pair has all labels of its row; else a row becomes a pair for each."""
        return self.kind == "classes"

    def codes(self, values: Any) -> Codes:
        """Return the labels of a column, see `column_codes`. The text NaN is a missing label, unless it is a class.

        Raises:
            RawValueError: a value is no label.
        """
        found = column_codes(self.column, values)
        may_be_class = self.separator is not None or self.kind in CLASS_KINDS
        names = self.classes or ["NaN"] if may_be_class else []
        given = np.array([text.lower() != "nan" or text in names for text in found.texts.to_pylist()], np.bool_)
        if given.all():
            return found
        kept = given[found.codes]
        rows = np.repeat(np.arange(len(found.lengths)), found.lengths)[kept]
        codes = (np.cumsum(given) - 1)[found.codes[kept]].astype(np.int32)
        return Codes(np.bincount(rows, minlength=len(found.lengths)), codes, found.texts.filter(given))

    def learned(self, texts: Iterable[str]) -> Label:
        """Return the label with its kind and classes, which are learned from the values that occur.

        Raises:
            UserError: there are too many classes, or a value is not a number.
        """
        if self.classes:  # those of a model
            return self
        texts = set(texts)
        numbers = all(_number(text) is not None for text in texts)
        kind = self.kind or ("number" if numbers and self.separator is None and not texts <= BINARY else "class")
        if kind == "number":
            wrong = sorted(text for text in texts if _number(text) is None)
            if wrong:
                raise UserError(f"{self.name} is {shortened(repr(wrong[0]))}, wanted a number")
            return replace(self, kind=kind)
        most = MAX_GUESSED_CLASSES if self.kind is None else MAX_CLASSES
        if len(texts) > most:
            what = f"{self.name} has {len(texts)} different values, wanted at most {most} classes"
            how = f"as numbers with {self.name}:number" + (f", or {self.name}:class" if self.kind is None else "")
            raise UserError(f"{what}; use it as --in1 with --positives, or {how}")
        return replace(self, kind=kind, classes=_class_names(texts))

    def numbers(self, texts: Iterable[str]) -> list[float]:
        """Return the class ids or the numbers of labels.

        Raises:
            RawValueError: a label is not a known class, or not a number.
        """
        known: Mapping[str, float] = {name: number for number, name in enumerate(self.classes)}
        is_class, numbers = self.kind in CLASS_KINDS, []
        for text in texts:
            number = known.get(text) if is_class else _number(text)
            if number is None:
                names = ", ".join(self.classes[:MAX_GUESSED_CLASSES]) + ", …" * (len(known) > MAX_GUESSED_CLASSES)
                raise RawValueError(f"{self.name} is {text!r}, wanted {f'one of {names}' if is_class else 'a number'}")
            numbers.append(number)
        return numbers


def weight_values(name: str, column: Any) -> Float32:
    """Return the weights in a column of a table, (N,); NaN where one is missing.

    Raises:
        RawValueError: a weight is not a number from 0 to `MAX_WEIGHT`.
    """
    found = column_codes(Token(name), column)
    numbers = [_number(text) for text in found.texts.to_pylist()]
    for text, number in zip(found.texts.to_pylist(), numbers, strict=True):
        if number is None or not 0 <= number <= MAX_WEIGHT:
            raise RawValueError(f"{name} is {shortened(repr(text))}, wanted a number from 0 to {MAX_WEIGHT:g}")
    weights = np.full(len(found.lengths), np.nan, np.float32)
    weights[found.lengths > 0] = np.array(numbers, np.float32)[found.codes]
    return weights


def parse_label(text: str) -> Label:
    """Parse a written label, see `EXPECTED_FORMS`.

    Raises:
        UserError: the text is not a label.
    """
    match = _WRITTEN.fullmatch(text)
    if not match or (match[2] == "number" and match[3]):
        raise UserError(f"label {text!r}: {EXPECTED_FORMS}")
    kinds: dict[str | None, LabelKind] = {kind: kind for kind in get_args(LabelKind)}
    return Label(match[1], kinds.get(match[2]), separator=match[3])


def _class_names(texts: set[str]) -> tuple[str, ...]:
    """Return class names in order. Names that are numbers from 0 keep these numbers as class ids."""
    numbers = {text: int(text) for text in texts if text.isascii() and text.isdecimal() and str(int(text)) == text}
    if len(numbers) == len(texts) and max(numbers.values(), default=0) < MAX_CLASSES:
        return tuple(map(str, range(max(2, max(numbers.values(), default=0) + 1))))
    return tuple(sorted(texts))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) <= MAX_NUMBER else None  # NaN is not


def label_from_json(value: Any) -> Label:
    """Return a label from its JSON form, see `label_to_json`.

    Raises:
        ValueError: the value is not a label; the message says what is wanted.
    """
    wanted = '"label" must be null or an object with "column", "kind" and "classes"'
    if (
        not isinstance(value, dict)
        or not isinstance(value.get("column"), str)
        or value.get("kind") not in get_args(LabelKind)
    ):
        raise ValueError(f"{wanted}, got {describe(value)}")
    classes, separator = value.get("classes", []), value.get("separator")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f'"classes" must be a list of names, got {describe(classes)}')
    if len(set(classes)) != len(classes) or len(classes) > MAX_CLASSES:
        raise ValueError(f'"classes" must be at most {MAX_CLASSES} different names, got {describe(classes)}')
    if separator is not None and not (isinstance(separator, str) and separator):
        raise ValueError(f'"separator" must be null or text, got {describe(separator)}')
    return Label(value["column"], value["kind"], tuple(classes), separator)


def label_to_json(label: Label) -> dict[str, Any]:
    """Return the JSON form of a label."""
    form: dict[str, Any] = {"column": label.name, "kind": label.kind}
    if label.kind in CLASS_KINDS:
        form["classes"] = list(label.classes)
    return form | ({"separator": label.separator} if label.separator is not None else {})
