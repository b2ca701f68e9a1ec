"""What instances ask of an index: `top_k`, and the keys that go with it.

    {"in0": {"userId": 42}, "top_k": 10}                        objects of in1 with the best scores for this one
    {"in1": {"movieId": 31}, "top_k": 10, "neighbors": true}    objects of in1 that are most similar to this one
    {…, "exclude": [31, {"movieId": 32}, [7]]}                  raw values or token ids that are not wanted back
    {…, "filter": "year > 1990"}                                a condition on the columns of the objects

Pure functions over values. Nothing here knows HTTP, a model or an index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from object2vec.errors import RequestError
from object2vec.schema.values import describe

KEYS: Final = frozenset({"top_k", "neighbors", "exclude", "filter"})
MAX_TOP_K: Final = 1000
MAX_FILTER_CHARACTERS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """What one instance asks for: the best `k` objects, or fewer if there are not as many."""

    k: int
    #: Objects of the instance's own side, instead of objects of the other side.
    neighbors: bool
    #: Raw values or token ids of objects that must not be in the answer.
    exclude: list[Any]
    #: The condition that objects in the answer meet; empty for none.
    condition: str


def read_top_k(
    given: Mapping[str, Any], name: str, *, default: int | None, neighbors: bool, strict: bool = True
) -> TopK | None:
    """Return what an instance asks for. None if neither it nor `default` says how many objects.

    `given` has those of the instance's keys that are in `KEYS`; null counts as absent. `name` names the instance.
    `default` and `neighbors` are for instances without these keys. Without `top_k`, the other keys are ignored unless
    `strict` is set.

    Raises:
        RequestError: a key has a value that it does not take, or needs `top_k`.
    """
    values = {key: value for key, value in given.items() if value is not None}
    k = values.get("top_k", default)
    if k is None:
        if strict and values:
            raise RequestError(f"{name} has {min(values)} and no top_k, wanted the number of objects to find")
        return None
    exclude, condition = values.get("exclude", []), values.get("filter", "")
    neighbors = values.get("neighbors", neighbors)
    checks = (
        ("top_k", k, _is_count(k), f"an integer from 1 to {MAX_TOP_K:,}"),
        ("neighbors", neighbors, isinstance(neighbors, bool), "true or false"),
        ("exclude", exclude, isinstance(exclude, list), "a list of raw values or lists of token ids"),
        ("filter", condition, isinstance(condition, str), 'a condition such as "year > 1990"'),
    )
    for key, value, valid, wanted in checks:
        if not valid:
            raise RequestError(f"{name}: {key} is {describe(value)}, wanted {wanted}")
    if len(condition) > MAX_FILTER_CHARACTERS:
        raise RequestError(f"{name}: filter has {len(condition)} characters, wanted at most {MAX_FILTER_CHARACTERS}")
    return TopK(k=int(k), neighbors=neighbors, exclude=exclude, condition=condition.strip())


def _is_count(value: Any) -> bool:
    return type(value) in (int, float) and 1 <= value <= MAX_TOP_K and value == int(value)
