"""The page of a model at `GET /`: a form to try it, its columns and its hyperparameters."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

import numpy as np

from object2vec.data.records import SIDES, Side
from object2vec.hyperparameters import Hyperparameters
from object2vec.schema.columns import List, written_column
from object2vec.schema.schema import Schema

PAGE: Final = Path(__file__).with_name("page.html")
#: Values of a column that the form proposes, the most frequent ones.
PROPOSALS: Final = 20
#: What to enter for each kind of column; a list without a separator of its own has commas here.
HINTS: Final = {"token": "one value", "list": "values, separated by {}", "text": "text"}


def to_html(hyperparameters: Hyperparameters, schema: Schema | None, indexes: Mapping[Side, bool]) -> str:
    """Return the page of a model. `indexes` has the sides with an index, and whether it gives recommendations."""
    regression = hyperparameters.regression
    classes = [] if regression else list(map(str, range(hyperparameters.num_classes)))
    if schema and schema.label and len(schema.label.classes) == len(classes):
        classes = list(schema.label.classes)
    values = {name: str(value) for name, value in hyperparameters.to_dict().items() if value != ""}
    return Template(PAGE.read_text("utf-8")).substitute(
        summary=f"Scores pairs: {'a number' if regression else f'probabilities of {len(classes)} classes'}.",
        classes=escape(json.dumps(classes)),
        buttons=_buttons(schema, indexes),
        fields="\n".join(_fieldset(side, schema) for side in SIDES if schema is None or schema[side].columns),
        request=escape(json.dumps({"instances": [example_instance(schema)]}, indent=1, ensure_ascii=False)),
        inputs=_table(_inputs(hyperparameters, schema)),
        hyperparameters=_table(values),
    )


def _buttons(schema: Schema | None, indexes: Mapping[Side, bool]) -> str:
    """Return a button for each question that an index answers."""
    found = []
    for side, recommends in indexes.items():
        other: Side = "in1" if side == "in0" else "in0"
        name = ", ".join(schema[side].names) if schema else side
        if recommends and (schema is None or schema[other].columns):
            found.append((other, "recommendations", f"Recommend {name}"))
        found.append((side, "neighbors", f"Similar {name}"))
    return "".join(f'<button data-side="{side}" name="{key}">{escape(text)}</button>' for side, key, text in found)


def security_policy() -> str:
    """Return the Content-Security-Policy: the page's own style and script, and requests to its own server."""
    page = PAGE.read_text("utf-8")
    parts = {name: re.findall(f"<{name}>(.*?)</{name}>", page, re.DOTALL)[0] for name in ("style", "script")}
    hashes = {name: b64encode(hashlib.sha256(text.encode()).digest()).decode() for name, text in parts.items()}
    own = "; ".join(f"{name}-src 'sha256-{value}'" for name, value in hashes.items())
    return f"default-src 'none'; {own}; connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"


def example_instance(schema: Schema | None) -> dict[str, Any]:
    """Return a request with the most frequent value of each column, or with token ids."""
    if schema is None:
        return {side: [1] for side in SIDES}
    return {side: _example(schema, side) for side in SIDES if schema[side].columns}


def _example(schema: Schema, side: Side) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, column in enumerate(schema[side].columns):
        value = next(iter(_frequent_values(schema, side, number)), "")
        found[column.name] = [value] if isinstance(column, List) else value
    return found


def _frequent_values(schema: Schema, side: Side, number: int) -> Sequence[str]:
    """Return the first known values of a column, which are the most frequent."""
    vocabulary = schema[side].vocabulary
    return [vocabulary.values[row] for row in np.flatnonzero(vocabulary.column_of == number)[:PROPOSALS]]


def _fieldset(side: Side, schema: Schema | None) -> str:
    """Return the fields of a side: one per column, or one for token ids."""
    if schema is None:
        fields = _field(
            f"{side}-0", "token ids", "separated by commas", ["1"], {"side": side, "kind": "ids", "separator": ","}
        )
        return f"<fieldset><legend>{side}</legend>{fields}</fieldset>"
    fields = ""
    for number, column in enumerate(schema[side].columns):
        separator = (isinstance(column, List) and column.separator) or ","
        data = {"side": side, "column": column.name, "kind": column.kind, "separator": separator}
        hint = HINTS[column.kind].format("commas" if separator == "," else separator)
        fields += _field(f"{side}-{number}", column.name, hint, _frequent_values(schema, side, number), data)
    return f"<fieldset><legend>{side}</legend>{fields}</fieldset>"


def _field(key: str, name: str, hint: str, values: Sequence[str], data: Mapping[str, str]) -> str:
    """Return a labelled field, which proposes values and starts with the first one."""
    given = "".join(f' data-{field}="{escape(value)}"' for field, value in data.items())
    options = "".join(f'<option value="{escape(value)}">' for value in values)
    value = f' value="{escape(values[0])}"' if values else ""
    return (
        f'<label for="{key}">{escape(name)} <small>{escape(hint)}</small></label>'
        f'<input id="{key}" list="{key}-values" aria-describedby="{key}-note" autocomplete="off"{value}{given}>'
        f'<datalist id="{key}-values">{options}</datalist><small class="note" id="{key}-note"></small>'
    )


def _inputs(hyperparameters: Hyperparameters, schema: Schema | None) -> dict[str, str]:
    described: dict[str, str] = {}
    for side, encoder in zip(SIDES, hyperparameters.encoders, strict=True):
        ids = f"token ids below {encoder.vocab_size}, at most {encoder.max_seq_len}"
        columns = ", ".join(map(written_column, schema[side].columns)) if schema else ""
        described[side] = f"{columns}; or {ids}" if columns else ids
    if schema and schema.label and schema.label.classes:
        described["classes"] = ", ".join(schema.label.classes)
    return described


def _table(rows: Mapping[str, str]) -> str:
    cells = (f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows.items())
    return f"<table>{''.join(cells)}</table>"
