"""What a request asks about, as values: no HTTP, no JSON text, no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from object2vec.arrays import Float32
from object2vec.errors import RequestError, UserError

Side = Literal["in0", "in1"]
#: What a pair is answered with. The built-in has one word for each output layer, and both mean scores.
Mode = Literal["classification", "regression", "embedding"]
#: {"scores": (C,)}, {"embeddings": (D,)}, or for a pair in embedding mode {"embeddings": {"in0": (D,), "in1": (D,)}}.
Prediction = Mapping[str, Float32 | Mapping[str, Float32]]

SIDES: Final[tuple[Side, ...]] = get_args(Side)
MODES: Final[tuple[Mode, ...]] = get_args(Mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instances:
    """N instances as two columns of token lists; None where an instance has no such side.

    Row i is what the author of the request calls `label` with `numbers[i]` in its braces.
    """

    in0: Sequence[list[int] | None]
    in1: Sequence[list[int] | None]
    label: str
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, row: int) -> str:
        """The words that a message has for a row: `instances[3]`, `line 4`."""
        return self.label.format(self.numbers[row])

    def part(self, start: int, stop: int) -> Instances:
        """The rows from `start` up to `stop`, under the same names."""
        rows = slice(start, stop)
        return Instances(in0=self.in0[rows], in1=self.in1[rows], label=self.label, numbers=self.numbers[rows])


def to_mode(text: str, source: str, error: type[UserError] = RequestError) -> Mode:
    """The mode that `text` names; `source` is where its author wrote it.

    Raises:
        UserError: there is no such mode; of the class `error`.
    """
    for mode in MODES:
        if text == mode:
            return mode
    raise error(f"{source} is {text!r}, wanted one of {', '.join(MODES)}")
