"""The hyperparameters: one table, from which parsing, the command's help, the README and tuning ranges all follow.

Values arrive as text in any client's encoding and leave as one frozen `Hyperparameters`; every fault of a
configuration is reported at once, each under the name that the user typed. No file and no data is read here.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, TypeVar

from object2vec.errors import HyperparameterError

# ----------------------------------------------------------------------------------------------------------------------
# Kinds of value. `parse` turns text into a value or raises ValueError; `wanted` completes "wanted …" and the docs.
# ----------------------------------------------------------------------------------------------------------------------


#: How many layers of JSON quotes are taken off a value.
MAX_QUOTES: Final = 4
#: A decimal number. float() and Decimal() alone would also take nan, inf and 1_0.
NUMBER: Final = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


@dataclass(frozen=True, slots=True)
class Integer:
    low: int
    high: int

    @property
    def wanted(self) -> str:
        return f"an integer from {self.low} to {self.high}"

    def parse(self, text: str) -> int:
        """Read any number whose value is whole: some clients write 3 as 3.0, and R writes 100000 as 1e+05."""
        if not re.fullmatch(NUMBER, text):
            raise ValueError(text)
        try:
            number = Decimal(text)
        except InvalidOperation:  # the exponent has too many digits
            raise ValueError(text) from None
        # The size is checked first: an integer of 1e999999999 would take all memory.
        if number and (number.adjusted() > 18 or number != number.to_integral_value()):
            raise ValueError(text)
        return _within(self, int(number) if number else 0)


@dataclass(frozen=True, slots=True)
class Real:
    low: float
    high: float

    @property
    def wanted(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    def parse(self, text: str) -> float:
        if not re.fullmatch(NUMBER, text):
            raise ValueError(text)
        return _within(self, float(text))


@dataclass(frozen=True, slots=True)
class Choice:
    choices: tuple[str, ...]

    @property
    def wanted(self) -> str:
        return "one of " + ", ".join(self.choices)

    def parse(self, text: str) -> str:
        if text not in self.choices:
            raise ValueError(text)
        return text


@dataclass(frozen=True, slots=True)
class Several:
    """A list of choices, each at most once; its order is kept.

    Clients write it comma-separated, as a JSON list, or as Python prints a list or a tuple.
    """

    choices: tuple[str, ...]

    @property
    def wanted(self) -> str:
        return f"one or more of {', '.join(self.choices)}, comma-separated, each once"

    def parse(self, text: str) -> tuple[str, ...]:
        if (text[:1], text[-1:]) in (("[", "]"), ("(", ")")):
            text = text[1:-1].strip().removesuffix(",")
        items = [re.fullmatch(r"""\s*(["']?)([^"']*)\1\s*""", part) for part in text.split(",")]
        chosen = tuple(item[2].strip() if item else "" for item in items)
        if len(set(chosen)) != len(chosen) or not set(chosen) <= set(self.choices):
            raise ValueError(text)
        return chosen


@dataclass(frozen=True, slots=True)
class Flag:
    wanted: str = "True or False"

    def parse(self, text: str) -> bool:
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.lower() not in known:
            raise ValueError(text)
        return known[text.lower()]


@dataclass(frozen=True, slots=True)
class AutoInteger:
    """`auto`, or an integer."""

    low: int
    high: int

    @property
    def wanted(self) -> str:
        return f"auto, or an integer from {self.low} to {self.high}"

    def parse(self, text: str) -> int | Literal["auto"]:
        return "auto" if text == "auto" else Integer(self.low, self.high).parse(text)


@dataclass(frozen=True, slots=True)
class FileName:
    """The name of a file inside the `auxiliary` channel; empty for none."""

    wanted: str = "the name of a file in the auxiliary channel (letters, digits, '.', '_' and '-')"

    def parse(self, text: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._-]*", text) or text in (".", ".."):
            raise ValueError(text)
        return text


@dataclass(frozen=True, slots=True)
class Anything:
    """Taken so that the built-in's configurations stay valid, and without effect."""

    wanted: str = "anything"

    def parse(self, text: str) -> str:
        return text


Kind = Integer | Real | Choice | Several | Flag | AutoInteger | FileName | Anything
_Number = TypeVar("_Number", int, float)


def _within(kind: Integer | Real, value: _Number) -> _Number:
    if not kind.low <= value <= kind.high:
        raise ValueError(value)
    return value


# ----------------------------------------------------------------------------------------------------------------------
# The table.
# ----------------------------------------------------------------------------------------------------------------------

#: Files of our own that a model directory has beside the vocabularies.
MODEL_FILES: Final = ("config.json", "model.safetensors")
#: Stands where a value must be given.
REQUIRED: Final = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameter:
    """One row of the table.

    `default` is text, as a client would write it; None where the row has no default and can be left out.
    `tunable` is the range that a tuning job should search, if any. `ours` marks what the built-in does not have.
    """

    name: str
    kind: Kind
    default: str | None
    help: str
    tunable: Integer | Real | Choice | None = None
    ours: bool = False


NETWORKS: Final = ("hcnn", "bilstm", "pooled_embedding")
COMPARATORS: Final = ("hadamard", "concat", "abs_diff")
OPTIMIZERS: Final = ("adagrad", "adam", "rmsprop", "sgd", "adadelta")
ROW_SPARSE_OPTIMIZERS: Final = ("adam", "adagrad", "sgd")
ACTIVATIONS: Final = ("tanh", "relu", "linear")
LAYERS_WHEN_AUTO: Final = {"hcnn": 4, "bilstm": 1, "pooled_embedding": 1}


def _encoder_rows(side: int) -> Iterator[Hyperparameter]:
    """The rows of one encoder: `enc0_*` reads `in0`, `enc1_*` reads `in1`."""

    def row(name: str, kind: Kind, default: str | None, text: str, tunable: Integer | None = None) -> Hyperparameter:
        return Hyperparameter(name=f"enc{side}_{name}", kind=kind, default=default, help=text, tunable=tunable)

    needed = REQUIRED if side == 0 else None
    if side == 0:
        yield row("network", Choice(NETWORKS), "hcnn", "The encoder of `in0`.")
    else:
        text = "The encoder of `in1`; `enc0` takes every value of `enc0_*` (weights are not shared)."
        yield row("network", Choice(("enc0", *NETWORKS)), "enc0", text)
    yield row("max_seq_len", Integer(1, 5000), needed, "Tokens of an input that are read; the rest is cut off.")
    yield row("vocab_size", Integer(2, 3_000_000), needed, "How many token ids there are: ids are below it.")
    text = "Length of a token's embedding."
    yield row("token_embedding_dim", Integer(2, 1000), "300", text, Integer(5, 300))
    text = "Layers of the encoder; `auto` is 4 for hcnn, 1 for bilstm. No effect on pooled_embedding."
    yield row("layers", AutoInteger(1, 4), "auto", text, Integer(1, 4))
    yield row("cnn_filter_width", Integer(1, 9), "3", "Filter width of hcnn, in tokens.", Integer(1, 5))
    text = "Pretrained token embeddings: a text file with `word v1 … vD` a line."
    yield row("pretrained_embedding_file", FileName(), "", text)
    text = "Keep pretrained embeddings as they are. No effect without a file."
    yield row("freeze_pretrained_embedding", Flag(), "True", text)
    yield row(
        "vocab_file", FileName(), "", "A JSON object from word to token id; needed to read pretrained embeddings."
    )


def _rows() -> Iterator[Hyperparameter]:
    row = Hyperparameter
    yield from _encoder_rows(0)
    yield from _encoder_rows(1)
    text = "Length of an encoding; pooled_embedding has `token_embedding_dim` instead."
    yield row(name="enc_dim", kind=Integer(4, 10_000), default="4096", help=text, tunable=Integer(4, 4096))
    text = "How the two encodings are put together for the feed-forward network, in this order."
    yield row(name="comparator_list", kind=Several(COMPARATORS), default="hadamard, concat, abs_diff", help=text)
    text = "One token embedding table for both encoders."
    yield row(name="tied_token_embedding_weight", kind=Flag(), default="False", help=text)
    text = "`row_sparse` updates only the rows that a batch touches."
    yield row(name="token_embedding_storage_type", kind=Choice(("dense", "row_sparse")), default="dense", help=text)
    text = "Negative pairs made for each positive one in training."
    yield row(name="negative_sampling_rate", kind=Integer(0, 100), default="0", help=text)
    text = "Layers of the feed-forward network."
    yield row(name="mlp_layers", kind=Integer(0, 10), default="2", help=text, tunable=Integer(1, 4))
    text = "Width of its layers."
    yield row(name="mlp_dim", kind=Integer(2, 10_000), default="512", help=text, tunable=Integer(16, 1024))
    kind = Choice(ACTIVATIONS)
    yield row(name="mlp_activation", kind=kind, default="linear", help="Its activation function.", tunable=kind)
    text = "Share of units dropped in training, on encodings and between layers."
    yield row(name="dropout", kind=Real(0, 1), default="0.0", help=text, tunable=Real(0, 1))
    text = "`softmax` for classes, `mean_squared_error` for real numbers."
    yield row(name="output_layer", kind=Choice(("softmax", "mean_squared_error")), default="softmax", help=text)
    text = "How many classes `softmax` has."
    yield row(name="num_classes", kind=Integer(2, 30), default="2", help=text)
    kind = Choice(OPTIMIZERS)
    yield row(name="optimizer", kind=kind, default="adam", help="The optimizer.", tunable=kind)
    text = "Its step size. adadelta has none."
    yield row(name="learning_rate", kind=Real(1e-6, 1), default="0.0004", help=text, tunable=Real(1e-6, 1))
    text = "L2 penalty on weights."
    yield row(name="weight_decay", kind=Real(0, 10_000), default="0", help=text, tunable=Real(0, 1))
    text = "Pairs in a batch, negatives included."
    yield row(name="mini_batch_size", kind=Integer(1, 10_000), default="32", help=text, tunable=Integer(1, 8192))
    yield row(name="epochs", kind=Integer(1, 100), default="30", help="Passes over the data.", tunable=Integer(4, 20))
    text = "Puts inputs of like length in a batch: lengths differ by less than this; 0 for any."
    yield row(name="bucket_width", kind=Integer(0, 100), default="0", help=text)
    text = "An epoch counts as good only if its loss falls by as much as this."
    tunable = Real(1e-3, 0.1)
    yield row(name="early_stopping_tolerance", kind=Real(1e-6, 0.1), default="0.01", help=text, tunable=tunable)
    text = "Bad epochs in a row that are put up with."
    yield row(name="early_stopping_patience", kind=Integer(1, 5), default="3", help=text, tunable=Integer(1, 5))
    text = "GPUs of each host to train on; `auto`, or more than there are, is all of them."
    yield row(name="_num_gpus", kind=AutoInteger(0, 16), default="auto", help=text)
    for name in ("_kvstore", "_num_kv_servers", "_tuning_objective_metric"):
        yield row(name=name, kind=Anything(), default="", help="Internal to the built-in: taken, without effect.")
    text = "What negatives take for `in1`: one of any row (`frequency`), or any different one alike (`uniform`)."
    kind = Choice(("frequency", "uniform"))
    yield row(name="negative_sampling_distribution", kind=kind, default="frequency", help=text, ours=True)
    text = "`auto` draws fixed negatives for a validation or test channel that holds positives only; `off` draws none."
    kind = Choice(("off", "auto"))
    yield row(name="validation_negative_sampling", kind=kind, default="off", help=text, ours=True)
    text = "Keeps a moving average of the weights, to validate and save: its share that stays at each step; 0 for none."
    yield row(name="ema_decay", kind=Real(0, 0.9999), default="0", help=text, ours=True)
    text = "What a model holds token embeddings in: `float16` halves it, and rounds them once they are trained."
    kind = Choice(("float32", "float16"))
    yield row(name="token_embedding_dtype", kind=kind, default="float32", help=text, ours=True)
    text = "Where random numbers start: the same seed, data and threads give the same losses."
    yield row(name="seed", kind=Integer(0, 2**31 - 1), default="0", help=text, ours=True)


TABLE: Final[Mapping[str, Hyperparameter]] = {row.name: row for row in _rows()}


def to_markdown(*, ours: bool) -> str:
    """The README's table of the built-in's hyperparameters, or of ours."""
    lines = ["| name | valid | default | tuning range | |", "|---|---|---|---|---|"]
    for row in TABLE.values():
        if row.ours is ours:
            default = "" if row.default is None else f"`{row.default}`" if row.default else "none"
            default = "**required**" if row.default == REQUIRED else default
            tunable = row.tunable.wanted if row.tunable else ""
            lines.append(f"| `{row.name}` | {row.kind.wanted} | {default} | {tunable} | {row.help} |")
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------------------------
# What a configuration becomes.
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderHyperparameters:
    """One encoder, with `enc1_network=enc0` and `layers=auto` already resolved."""

    network: str
    max_seq_len: int
    vocab_size: int
    token_embedding_dim: int
    layers: int
    cnn_filter_width: int
    pretrained_embedding_file: str
    freeze_pretrained_embedding: bool
    vocab_file: str

    @property
    def frozen(self) -> bool:
        """Whether the token embeddings are left as the pretrained file has them."""
        return bool(self.pretrained_embedding_file) and self.freeze_pretrained_embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """A complete and consistent configuration. Every field but `encoders` is a row of `TABLE`."""

    encoders: tuple[EncoderHyperparameters, EncoderHyperparameters]
    enc_dim: int
    comparator_list: tuple[str, ...]
    tied_token_embedding_weight: bool
    token_embedding_storage_type: str
    negative_sampling_rate: int
    mlp_layers: int
    mlp_dim: int
    mlp_activation: str
    dropout: float
    output_layer: str
    num_classes: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    mini_batch_size: int
    epochs: int
    bucket_width: int
    early_stopping_tolerance: float
    early_stopping_patience: int
    negative_sampling_distribution: str
    validation_negative_sampling: str
    ema_decay: float
    token_embedding_dtype: str
    seed: int

    def encoding_dim(self, side: int) -> int:
        """Length of the vectors that the encoder of `side` (0 or 1) gives."""
        encoder = self.encoders[side]
        return encoder.token_embedding_dim if encoder.network == "pooled_embedding" else self.enc_dim

    @property
    def regression(self) -> bool:
        return self.output_layer == "mean_squared_error"

    @property
    def scores(self) -> int:
        """How many numbers a pair's score has: one a class, or the one of a regression."""
        return 1 if self.regression else self.num_classes

    @property
    def row_sparse(self) -> bool:
        return self.token_embedding_storage_type == "row_sparse"

    def to_dict(self) -> dict[str, str | int | float | bool]:
        """Flat, under the built-in's names; `parse` of it gives this configuration again."""
        flat = {f"enc{side}_{f.name}": getattr(self.encoders[side], f.name) for side in (0, 1) for f in _ENCODER_FIELDS}
        flat |= {f.name: getattr(self, f.name) for f in fields(self) if f.name != "encoders"}
        return flat | {"comparator_list": ", ".join(self.comparator_list)}


_ENCODER_FIELDS: Final = fields(EncoderHyperparameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A configuration, and what its owner should know of how it was read."""

    hyperparameters: Hyperparameters
    notices: tuple[str, ...]
    num_gpus: int | Literal["auto"]  # no part of what is learnt, and so not of a model's configuration


# ----------------------------------------------------------------------------------------------------------------------
# Parsing.
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Naming:
    """Whether the encoders are called enc0 and enc1 (`first` is 0, as in the built-in) or enc1 and enc2."""

    first: int

    @classmethod
    def of(cls, values: Mapping[str, object]) -> _Naming:
        counted = {int(key[3]) for key, value in values.items() if re.match(r"enc[012]_", key) and _is_given(value)}
        return cls(0 if 0 in counted or not counted else 1)

    def typed(self, text: str) -> str:
        """A built-in's name, or a sentence of such names, in the user's way of counting."""
        return re.sub(r"enc([01])(?![0-9])", lambda m: f"enc{int(m[1]) + self.first}", text)

    def builtin(self, text: str) -> str:
        """The reverse of `typed`, for one name; what is no encoder's stays."""
        match = re.fullmatch(r"enc(\d)((?:_.*)?)", text)
        return f"enc{int(match[1]) - self.first}{match[2]}" if match else text


def parse(values: Mapping[str, object]) -> Parsed:
    """Read a configuration: names to values in any client's encoding (text, quoted text, or plain JSON values).

    An empty value, `None` or `null` means "not given".

    Raises:
        HyperparameterError: with every fault: unknown names, values out of range, required ones that are missing,
            and rules between them that are broken.
    """
    naming = _Naming.of(values)
    reading = _Reading(naming)
    for key, value in values.items():
        if _is_given(value) or re.sub(r"^enc[012]_", "enc0_", key) not in TABLE:
            reading.take(key, _text(value))
    return reading.finish()


def typed(text: str, values: Mapping[str, object]) -> str:
    """A sentence with hyperparameters in the built-in's names, in the way of counting encoders of a configuration."""
    return _Naming.of(values).typed(text)


def _is_given(value: object) -> bool:
    """Whether a value is more than a client's way to write "not given", which web forms and null columns leave."""
    return _text(value).lower() not in ("", "none", "null")


def _text(value: object) -> str:
    """Return one value as plain text, whichever client wrote it: `0.1`, `"0.1"`, `"\\"abc\\""`, true, ["a", "b"]."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        for _ in range(MAX_QUOTES):
            text = text.strip()
            if len(text) < 2 or not text[0] == text[-1] == '"':
                break
            text = str(json.loads(text))
    except (ValueError, RecursionError):  # not JSON after all, or an integer of thousands of digits
        return text if isinstance(value, str) else f"<{type(value).__name__}>"
    return text.strip()


class _Reading:
    """Values read so far, under the built-in's names, and the faults found."""

    def __init__(self, naming: _Naming) -> None:
        self.naming = naming
        self.values: dict[str, Any] = {}
        self.given: set[str] = set()
        self.faults: list[str] = []
        self.notices: list[str] = []

    def fault(self, sentence: str) -> None:
        self.faults.append(self.naming.typed(sentence))

    def take(self, key: str, text: str) -> None:
        """Read one value."""
        name = self.naming.builtin(key)
        if name not in TABLE:
            if not key.startswith(("sagemaker_", "_tuning_")):
                self.faults.append(self._unknown(key))
            return
        self.given.add(name)
        kind = TABLE[name].kind
        try:
            self.values[name] = kind.parse(self.naming.builtin(text) if isinstance(kind, Choice) else text)
        except ValueError:
            self.faults.append(f"{key}: got '{_shortened(text)}', wanted {self.naming.typed(kind.wanted)}")
            self.values[name] = None

    def _unknown(self, key: str) -> str:
        first = self.naming.first
        counted = re.match(r"enc([0-9])_", key)
        if counted and int(counted[1]) not in (first, first + 1):
            names = f"enc{first}_* and enc{first + 1}_*"
            return f"{_shortened(key)}: the encoders of this configuration are counted from {first}, wanted {names}"
        known = [self.naming.typed(name) for name in TABLE]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
        return f"{_shortened(key)}: no such hyperparameter, the nearest is {near[0]}"

    def finish(self) -> Parsed:
        """Fill in defaults, check what holds between values."""
        # Where enc1_network itself could not be read, nothing more is asked of the second encoder.
        same = self.values.get("enc1_network") in ("enc0", None)
        for row in TABLE.values():
            if row.name not in self.values:
                self.values[row.name] = self._default(row, same=same)
        if same:
            self._copy_first_encoder()
        hyperparameters = self._build()
        unread = [name for name, value in self.values.items() if value is None]
        for sentence in _conflicts(hyperparameters):
            if not any(name in sentence for name in unread):
                self.fault(sentence)
        if self.faults:
            raise HyperparameterError(self.faults)
        if self.naming.first == 1:
            self.notices.append("The encoders are counted from 1: enc1 reads in0, enc2 reads in1")
        return Parsed(
            hyperparameters=self._without_buckets(hyperparameters),
            notices=tuple(self.notices),
            num_gpus=self.values["_num_gpus"],
        )

    def _default(self, row: Hyperparameter, *, same: bool) -> Any:
        if row.default == REQUIRED:
            what = f"No value(s) were specified for '{row.name}' which are required hyperparameter(s)"
            self.fault(f"{what}, wanted {row.kind.wanted}")
        elif row.default is not None:
            return row.kind.parse(row.default)
        elif not same:
            what = f"No value was specified for '{row.name}', which enc1_network other than enc0 requires"
            self.fault(f"{what}, wanted {row.kind.wanted}")
        return None

    def _copy_first_encoder(self) -> None:
        """`enc1_network=enc0` takes every value of enc0, as in the built-in, which does not say so; we do."""
        for encoder_field in _ENCODER_FIELDS:
            first, second = f"enc0_{encoder_field.name}", f"enc1_{encoder_field.name}"
            given, taken = self.values[second], self.values[first]
            if second in self.given and second != "enc1_network" and given not in (None, taken):
                notice = f"{second}={given} has no effect: enc1_network=enc0 takes {first}={taken}"
                self.notices.append(self.naming.typed(notice))
            self.values[second] = taken

    def _build(self) -> Hyperparameters:
        """The configuration; where there are faults, with None for what could not be read."""
        encoders = self._encoder(0), self._encoder(1)
        rest = {f.name: self.values[f.name] for f in fields(Hyperparameters) if f.name != "encoders"}
        return Hyperparameters(encoders=encoders, **rest)

    def _encoder(self, side: int) -> EncoderHyperparameters:
        given = {f.name: self.values[f"enc{side}_{f.name}"] for f in _ENCODER_FIELDS}
        if given["layers"] == "auto" or given["network"] == "pooled_embedding":
            given["layers"] = LAYERS_WHEN_AUTO.get(given["network"])
        return EncoderHyperparameters(**given)

    def _without_buckets(self, hyperparameters: Hyperparameters) -> Hyperparameters:
        """`row_sparse` switches buckets off, as in the built-in."""
        if not (hyperparameters.row_sparse and hyperparameters.bucket_width):
            return hyperparameters
        width = hyperparameters.bucket_width
        self.notices.append(f"bucket_width={width} has no effect: token_embedding_storage_type=row_sparse sets it to 0")
        return replace(hyperparameters, bucket_width=0)


def _conflicts(hyperparameters: Hyperparameters) -> Iterator[str]:
    """The rules between hyperparameters that this configuration breaks, in the built-in's names.

    A sentence holds the name of each hyperparameter that it hangs on: it is dropped where one of them was not read.
    """
    if hyperparameters.row_sparse and hyperparameters.optimizer not in ROW_SPARSE_OPTIMIZERS:
        yield (
            f"optimizer: got '{hyperparameters.optimizer}', wanted one of {', '.join(ROW_SPARSE_OPTIMIZERS)} "
            "with token_embedding_storage_type=row_sparse"
        )
    if hyperparameters.row_sparse and hyperparameters.ema_decay:
        yield (
            f"ema_decay: got '{hyperparameters.ema_decay}', wanted 0 with token_embedding_storage_type=row_sparse: "
            "an average of all rows at each step would cost what row_sparse saves"
        )
    dims = [hyperparameters.encoding_dim(side) for side in (0, 1)]
    if dims[0] != dims[1]:
        length = [
            f"enc{side}_network={e.network} gives {dims[side]} numbers by "
            + (f"enc{side}_token_embedding_dim" if e.network == "pooled_embedding" else "enc_dim")
            for side, e in enumerate(hyperparameters.encoders)
        ]
        yield f"{length[0]} and {length[1]}: both encodings must have the same length, change one of the two"
    for side, encoder in enumerate(dict.fromkeys(hyperparameters.encoders)):  # the second only where it is unlike
        if encoder.pretrained_embedding_file and not encoder.vocab_file:
            yield (
                f"enc{side}_pretrained_embedding_file: got '{encoder.pretrained_embedding_file}' and no "
                f"enc{side}_vocab_file, wanted both: the vocabulary says which word has which token id"
            )
        if encoder.vocab_file in MODEL_FILES:
            yield (
                f"enc{side}_vocab_file: got '{encoder.vocab_file}', wanted another name: "
                "the model directory, where the vocabulary goes too, has a file of its own of that name"
            )
    if hyperparameters.tied_token_embedding_weight:
        yield from _ties(*hyperparameters.encoders)


def _ties(first: EncoderHyperparameters, second: EncoderHyperparameters) -> Iterator[str]:
    """What two encoders that share one table must have in common."""
    shared = ("vocab_size", "token_embedding_dim", "pretrained_embedding_file", "vocab_file")
    for name in shared:
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            yield f"enc0_{name}={one} and enc1_{name}={other}: tied_token_embedding_weight needs them equal"
    if first.frozen != second.frozen:
        name = "freeze_pretrained_embedding"
        yield f"enc0_{name} and enc1_{name} differ: tied_token_embedding_weight needs them equal"


def _shortened(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
