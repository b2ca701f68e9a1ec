"""The Python API: `fit` and `load` give a `Model`. The command calls the same."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from object2vec.data.channels import PAIR_CHANNELS
from object2vec.data.files import local_path
from object2vec.errors import UserError, shortened
from object2vec.hyperparameters import parse
from object2vec.hyperparameters.recipes import RECIPES
from object2vec.prepare.command import RANGES
from object2vec.prepare.dataset import Dataset, Plan
from object2vec.prepare.files import PREPARED_FILES, read_prepared
from object2vec.prepare.inputs import read_pairs, write_token_ids
from object2vec.prepare.source import Limits, open_files
from object2vec.prepare.splits import parse_split
from object2vec.prepare.write import write_dataset, write_pairs
from object2vec.schema.columns import Column, is_text, parse_columns
from object2vec.schema.label import parse_label
from object2vec.schema.schema import require_column
from object2vec.schema.tables import to_columns
from object2vec.threads import repeatable_products
from object2vec.trained_model import Model, local_copy
from object2vec.training.checks import Job
from object2vec.training.graceful_shutdown import Stop, stop_on_interrupt
from object2vec.training.job import run
from object2vec.training.report import Style

__all__ = ["Model", "fit", "load"]

Callback = Callable[[Mapping[str, Any]], object]
Columns = str | Column | Sequence[str | Column]


def fit(  # noqa: D417 -- a line describes several arguments
    data: Any,
    in0: Columns | None = None,
    in1: Columns = (),
    label: str | None = None,
    *,
    weight: str | None = None,
    recipe: str = "",
    split: str | None = None,
    tied: bool | None = None,
    max_tokens: int = 512,
    unknown_rate: float = 0.01,
    validation: Any = None,
    test: Any = None,
    callbacks: Sequence[Callback] = (),
    model_dir: str | Path | None = None,
    log: Style | None = None,
    seed: int = 0,
    **hyperparameters: object,
) -> Model:
    """Train a model on a table, and return it.

    The same data, hyperparameters and seed give the model of the commands `prepare` and `train`. Ctrl-C keeps the best
    epoch. Without `in0`, the columns in0, in1, label and weight hold token ids, or `data` is the path of a channel.

    Args:
        data: a DataFrame, Arrow table, duckdb relation, mapping of columns, rows as dicts, or the path of a table.
        in0, in1: the columns of each side: names, written as `genres:list(|)`, or `Token`, `List` and `Text`.
        label, weight: the columns of labels, and of weights from 0; without a label, all pairs are positives.
        recipe: defaults for a kind of data; by default the columns and the label decide.
        split: which rows are for validation and testing, as for `prepare`: `random` if neither is given.
        tied: one vocabulary for both sides; by default if both are one text.
        max_tokens, unknown_rate: tokens of an object that are kept, and share of values that become unknown.
        validation, test: pairs that decide which epoch is best, and pairs that it is measured on.
        callbacks: called with the metrics of each epoch; one that returns a true value ends training.
        model_dir: folder for the model, which may be in S3; by default it is temporary until `Model.save`.
        log: `bar`, `plain`, `quiet` or `sagemaker`.
        seed: seed of the split and of training.
        hyperparameters: by their names.

    Raises:
        UserError: an argument, the data or a hyperparameter cannot be used.
        AlgorithmError: training failed.
    """
    _check_choices(recipe, log)
    given = {"seed": seed} | ({"recipe": recipe} if recipe else {}) | hyperparameters
    parts = {name: part for name, part in zip(PAIR_CHANNELS, (data, validation, test), strict=True) if part is not None}
    plan = _plan(in0, in1, label, split or ("random" if len(parts) == 1 else "none"), tied, seed, weight)
    plan = plan and _limited(plan, max_tokens=max_tokens, unknown_rate=unknown_rate)
    return _fit(parts, plan, given, recipe=recipe, model_dir=model_dir, callbacks=callbacks, log=log)


def _limited(plan: Plan, **limits: Any) -> Plan:
    for name, number in limits.items():
        low, high = RANGES[name]
        if not low <= number <= high:
            raise UserError(f"{name} is {number}, wanted a number from {low} to {high}")
    return replace(plan, **limits)


def _fit(
    parts: Mapping[str, Any], plan: Plan | None, given: Mapping[str, object], *, recipe: str, **options: Any
) -> Model:
    with tempfile.TemporaryDirectory(prefix="object2vec-") as folder:
        channels, suggested = _write_channels(Path(folder), parts, plan, recipe)
        return _train(channels, {**suggested, **given}, **options)


def _check_choices(recipe: str, log: str | None) -> None:
    for name, value, choices in (("recipe", recipe, ("", *RECIPES)), ("log", log, (None, *get_args(Style)))):
        if value not in choices:
            wanted = ", ".join(map(str, filter(None, choices)))
            raise UserError(f"{name} is {shortened(repr(value))}, wanted one of {wanted}")


def _plan(
    in0: Columns | None, in1: Columns, label: str | None, split: str, tied: bool | None, seed: int, weight: str | None
) -> Plan | None:
    """Return what to make of a table; None for a table of token ids."""
    if in0 is None:
        if weight is None:
            return None
        raise UserError(f"weight is {shortened(repr(weight))}, wanted in0 with it; with token ids, the column weight")
    first, second = parse_columns(in0), parse_columns(in1)
    return Plan(
        in0=first,
        in1=second,
        label=parse_label(label) if label else None,
        tied=is_text(first) and is_text(second) if tied is None else tied,
        split=parse_split(split),
        seed=seed,
        weight=weight,
    )


def _write_channels(
    folder: Path, parts: Mapping[str, Any], plan: Plan | None, recipe: str
) -> tuple[dict[str, Path], dict[str, object]]:
    """Return channels of the data, and hyperparameters that fit; without a plan, the data holds token ids."""
    if plan is None:
        return {name: _to_channel(name, part, folder) for name, part in parts.items()}, {}
    limits = Limits.of_machine()
    with closing(Dataset.read(_batches(parts["train"], plan, limits), plan, limits.threads)) as dataset:
        write_dataset(dataset, folder, recipe=recipe)
        channels, suggested = read_prepared(folder)
        parsed = parse(suggested).hyperparameters
        for name in parts.keys() - {"train"}:
            pairs = read_pairs(parts[name], parsed, dataset.schema)
            channels[name] = write_pairs(pairs, folder / PREPARED_FILES[name], one_sided=parsed.one_sided)
    return channels, suggested


def _batches(data: Any, plan: Plan, limits: Limits) -> Iterable[Any]:
    """Return the rows of a table as batches with the columns of the plan."""
    if isinstance(data, str | Path):
        return open_files([str(data)], limits).batches(plan.column_names)
    columns = to_columns(data)
    return [{name: require_column(columns, name) for name in plan.column_names}]


def _to_channel(name: str, data: Any, folder: Path) -> Path:
    return (
        local_path(data, streamed=True)
        if isinstance(data, str | Path)
        else write_token_ids(to_columns(data), folder, name)
    )


def load(path: str | Path, *, device: str | None = None) -> Model:
    """Load a model: its directory, a folder that contains it, or a .tar.gz of it. It may be in S3.

    Raises:
        UserError: `path` is not a path, or nothing is there.
        ArtifactError: there is no model, a damaged one, or one of a newer format.
    """
    return Model.load(path, device=device)


def _train(
    channels: Mapping[str, Path],
    hyperparameters: Mapping[str, object],
    *,
    model_dir: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    log: Style | None = None,
) -> Model:
    """Train as the command does, and load the model. Without `model_dir`, its temporary folder lives as long as it."""
    stop = Stop()

    def on_epoch(record: Mapping[str, Any]) -> None:
        for callback in callbacks:
            if callback(record):
                stop.request()

    with ExitStack() as temporary:
        folder = temporary.enter_context(tempfile.TemporaryDirectory(prefix="object2vec-"))
        with local_copy(folder if model_dir is None else model_dir, output=True) as local:
            job = Job(configuration=parse(hyperparameters), channels=channels, model_dir=local, on_epoch=on_epoch)
            with repeatable_products(), stop_on_interrupt(stop):
                run(job, stop=stop, style=log or ("bar" if sys.stderr.isatty() else "plain"))
        return Model._open(local, temporary=temporary) if model_dir is None else Model.load(model_dir)
