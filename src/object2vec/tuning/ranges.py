"""The ranges that a search draws values from, and their form in SageMaker's tuning jobs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from object2vec.data.files import read_object
from object2vec.errors import UserError, shortened
from object2vec.hyperparameters import TABLE, Hyperparameters, parse, typed, with_recipe
from object2vec.hyperparameters.kinds import AutoInteger, Choice, Integer, Real
from object2vec.ops.codes import ACTIVATIONS
from object2vec.sagemaker.specification import RANGE_TYPES, ParameterRanges, parameter_ranges

#: A range whose ends have a larger ratio is drawn from by orders of magnitude, unless its ScalingType decides.
LOG_RATIO: Final = 100
DIM: Final = "enc0_token_embedding_dim"
SECOND_DIM: Final = "enc1_token_embedding_dim"
#: Default ranges: how many times lower and higher than the configured value they reach.
AROUND: Final = {
    "learning_rate": (10, 10),
    "weight_decay": (10, 10),
    "mini_batch_size": (4, 4),
    DIM: (4, 2),
    "enc_dim": (4, 2),
    "mlp_dim": (4, 2),
}
MAX_DROPOUT: Final = 0.8
EXPECTED_RANGES: Final = "wanted ranges as `object2vec describe ranges` prints them"

Value = float | int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The values of a hyperparameter to draw from; `log` draws numbers by orders of magnitude.

    `name` is as in the configuration, and `row` as in the table, which may count the encoders in another way.
    """

    name: str
    row: str
    kind: Integer | Real | Choice
    log: bool = False


def default_ranges(values: Mapping[str, object]) -> list[Range]:
    """Return ranges around the values of a configuration, for the hyperparameters that matter for its network."""
    hyperparameters = parse(values).hyperparameters
    found: list[tuple[str, Integer | Real | Choice, bool]]
    found = [(row, kind, True) for row, kind in _numbers_around(hyperparameters)]
    if hyperparameters.dropout <= MAX_DROPOUT:
        found.append(("dropout", Real(0, MAX_DROPOUT), False))
    if 1 <= hyperparameters.mlp_layers <= 4:
        found += [("mlp_layers", Integer(1, 4), False), ("mlp_activation", Choice(ACTIVATIONS), False)]
    return [Range(name=typed(row, values), row=row, kind=kind, log=log) for row, kind, log in found]


def _numbers_around(hyperparameters: Hyperparameters) -> Iterator[tuple[str, Integer | Real | Choice]]:
    """Yield ranges around configured numbers, inside the ranges of the table; leave out those without effect."""
    networks = {encoder.network for encoder in hyperparameters.encoders}
    unused = set() if any(map(hyperparameters.has_enc_dim, (0, 1))) else {"enc_dim"}
    if len(networks) == 2 or any(encoder.pretrained_embedding_file for encoder in hyperparameters.encoders):
        unused |= {DIM, "enc_dim"}
    if not hyperparameters.mlp_layers:
        unused |= {"mlp_dim"}
    if hyperparameters.ranks:  # more candidates, more loss: trials could not be compared
        unused |= {"mini_batch_size"}
    configured = hyperparameters.to_dict()
    for row in (row for row in AROUND if row not in unused):
        value, limits = float(configured[row]), TABLE[row].tunable
        if not isinstance(limits, Integer | Real) or not limits.low <= value <= limits.high or not value:
            continue
        below, above = AROUND[row]
        low, high = max(limits.low, value / below), min(limits.high, value * above)
        yield row, Integer(int(low), int(high)) if isinstance(limits, Integer) else Real(low, high)


def read_ranges(path: Path, values: Mapping[str, object]) -> list[Range]:
    """Read ranges for a configuration: JSON of ParameterRanges, or of a tuning job that has them.

    Raises:
        UserError: the file cannot be read, or a range does not fit its hyperparameter.
    """
    document = read_object(path, EXPECTED_RANGES)
    document = document.get("ParameterRanges", document)
    rows = {typed(name, values): name for name in TABLE}
    ranges: dict[str, Range] = {}
    for type_ in RANGE_TYPES:
        entries = document.get(f"{type_}ParameterRanges", []) if isinstance(document, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UserError(f"{path}: {type_}ParameterRanges is no list of objects, {EXPECTED_RANGES}")
        for entry in entries:
            name = str(entry.get("Name"))
            if name not in rows:
                (nearest,) = difflib.get_close_matches(name, rows, n=1, cutoff=0.0)
                raise UserError(
                    f"{path}: {shortened(name)} is no hyperparameter, the nearest is {nearest}; {EXPECTED_RANGES}"
                )
            if name in ranges:
                raise UserError(f"{path}: there are two ranges of {name}, wanted one")
            try:
                kind, log = _parse(entry, rows[name], type_)
            except (KeyError, TypeError, ValueError) as error:
                ends = "Values" if type_ == "Categorical" else "MinValue and MaxValue"
                wanted = f"wanted for {type_}ParameterRanges {ends}, each {TABLE[rows[name]].kind.wanted}"
                raise UserError(f"{path}: the range of {name} is not valid, {wanted}") from error
            ranges[name] = Range(name=name, row=rows[name], kind=kind, log=log)
    if not ranges:
        raise UserError(f"{path}: no ranges, {EXPECTED_RANGES}")
    if _equal_dims(values) and {DIM, SECOND_DIM} <= {each.row for each in ranges.values()}:
        del ranges[typed(SECOND_DIM, values)]  # it follows the first one
    return list(ranges.values())


def _parse(entry: Mapping[str, Any], row: str, type_: str) -> tuple[Integer | Real | Choice, bool]:
    """Return the values of a range, and whether to draw them by orders of magnitude.

    Raises:
        KeyError, TypeError, ValueError: a value is missing, or not one of this hyperparameter.
    """
    kind = TABLE[row].kind
    if type_ == "Categorical":
        names = tuple(map(str, entry["Values"]))
        for name in names:
            kind.parse(name)
        if not names:
            raise ValueError("no values")
        return Choice(names), False
    if not isinstance(kind, Real if type_ == "Continuous" else Integer | AutoInteger):
        raise TypeError("of another type")
    low, high = (float(kind.parse(str(entry[name]))) for name in ("MinValue", "MaxValue"))
    scaling = str(entry.get("ScalingType", "Auto"))
    log = scaling == "Logarithmic" or (scaling == "Auto" and 0 < low <= high / LOG_RATIO)
    if low > high or (log and not low):
        raise ValueError("not in order")
    return (Real(low, high) if type_ == "Continuous" else Integer(int(low), int(high))), log


def _equal_dims(values: Mapping[str, object]) -> bool:
    """Return whether both encoders have token embeddings of one dimension, so that they should keep that."""
    first, second = parse(values).hyperparameters.encoders
    return first.token_embedding_dim == second.token_embedding_dim


def paired(drawn: Mapping[str, Value], ranges: Sequence[Range], values: Mapping[str, object]) -> dict[str, Value]:
    """Return drawn values, with the dimension of the second token embeddings where it is that of the first."""
    names = {each.row: each.name for each in ranges}
    if DIM in names and SECOND_DIM not in names and _equal_dims(values):
        return {**drawn, typed(SECOND_DIM, values): drawn[names[DIM]]}
    return dict(drawn)


def to_sagemaker(ranges: Sequence[Range], values: Mapping[str, object]) -> ParameterRanges:
    """Return ranges for a tuning job. It cannot keep two dimensions equal, so these are left out where they must be."""
    copies = with_recipe(values).get(typed("enc1_network", values), "enc0") == "enc0"
    tuned = [each for each in ranges if copies or each.row not in (DIM, SECOND_DIM)]
    return parameter_ranges((each.name, TABLE[each.row], each.kind, each.log) for each in tuned)
