"""The page of a model at `GET /`: its columns and hyperparameters, and a form to try it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any, Final

from object2vec.data.records import SIDES, Side
from object2vec.hyperparameters import Hyperparameters
from object2vec.schema.columns import List, written_column
from object2vec.schema.schema import Schema

STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 50em; padding: 0 1em; color: #222 }
td { padding: .1em 1.5em .1em 0; vertical-align: top } textarea { width: 100%; font: 13px monospace }
pre { background: #f4f4f4; padding: 1em; white-space: pre-wrap; overflow-wrap: anywhere }
"""
SCRIPT: Final = """
document.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const output = document.querySelector("output pre");
  try {
    const body = document.querySelector("textarea").value;
    const options = {method: "POST", headers: {"Content-Type": "application/json"}, body};
    output.textContent = await (await fetch("invocations", options)).text();
  } catch (error) { output.textContent = String(error); }
});
"""


def to_html(hyperparameters: Hyperparameters, schema: Schema | None) -> str:
    """Return the page of a model."""
    example = json.dumps({"instances": [example_instance(schema)]}, indent=1, ensure_ascii=False)
    parts = [
        "<h1>object2vec</h1>",
        "<h2>Input</h2>",
        _table(_inputs(hyperparameters, schema)),
        "<h2>Try it</h2>",
        f'<form><textarea rows="8" aria-label="request">{escape(example)}</textarea><button>Send</button></form>',
        "<output><pre></pre></output>",
        "<h2>Hyperparameters</h2>",
        _table({name: str(value) for name, value in hyperparameters.to_dict().items() if value != ""}),
        '<p><a href="openapi.json">openapi.json</a> describes all requests.</p>',
    ]
    head = '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>object2vec</title>'
    body = "\n".join(parts)
    return f"{head}<style>{STYLE}</style></head>\n<body>\n{body}\n<script>{SCRIPT}</script>\n</body></html>\n"


def example_instance(schema: Schema | None) -> dict[str, Any]:
    """Return a request with the most frequent value of each column, or with token ids."""
    if schema is None:
        return {side: [1] for side in SIDES}
    return {side: _example(schema, side) for side in SIDES if schema[side].columns}


def _example(schema: Schema, side: Side) -> dict[str, Any]:
    found: dict[str, Any] = {}
    vocabulary = schema[side].vocabulary
    for number, column in enumerate(schema[side].columns):
        value = next((v for v, c in zip(vocabulary.values, vocabulary.column_of, strict=True) if c == number), "")
        found[column.name] = [value] if isinstance(column, List) else value
    return found


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
    cells = (f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows.items())
    return f"<table>{''.join(cells)}</table>"
