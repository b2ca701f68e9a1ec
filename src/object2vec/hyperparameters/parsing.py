"""Read a configuration: text in any client's encoding becomes one frozen `Hyperparameters`.

All errors of a configuration are reported together, each under the name that the user wrote. No file is read here.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from object2vec.errors import HyperparameterError, shortened
from object2vec.hyperparameters.config import ENCODER_FIELDS, EncoderHyperparameters, Hyperparameters, Parsed
from object2vec.hyperparameters.kinds import Choice
from object2vec.hyperparameters.recipes import RECIPES
from object2vec.hyperparameters.table import (
    LAYERS_WHEN_AUTO,
    MIN_ENC_DIM,
    MODEL_FILES,
    OF_RANKING_LOSS,
    RANKING_METRICS,
    REQUIRED,
    ROW_SPARSE_OPTIMIZERS,
    SCHEMA_FILES,
    TABLE,
    Row,
)

#: Values of an encoder that is not there. A side without values is the token 1.
NO_ENCODER: Final[dict[str, Any]] = {
    **{"max_seq_len": 1, "vocab_size": 2, "layers": 1, "cnn_filter_width": 3},
    **{"pretrained_embedding_file": "", "freeze_pretrained_embedding": True, "vocab_file": ""},
}
#: Characters of a name or value that an error quotes.
MAX_QUOTED_CHARACTERS: Final = 79
#: Layers of JSON quotes that are removed from a value.
MAX_QUOTES: Final = 4


@dataclass(frozen=True, slots=True)
class _Naming:
    """Whether the encoders are called enc0 and enc1 (`first` is 0, as in the built-in) or enc1 and enc2."""

    first: int

    @classmethod
    def from_values(cls, values: Mapping[str, object]) -> _Naming:
        counted = {int(key[3]) for key, value in values.items() if re.match(r"enc[012]_", key) and _is_given(value)}
        return cls(0 if 0 in counted or not counted else 1)

    def typed(self, text: str) -> str:
        """Replace the built-in's encoder names in a text by the user's."""
        return re.sub(r"enc([01])(?![0-9])", lambda m: f"enc{int(m[1]) + self.first}", text)

    def builtin(self, text: str) -> str:
        """Return the built-in's name for a name that the user wrote."""
        match = re.fullmatch(r"enc(\d)((?:_.*)?)", text)
        return f"enc{int(match[1]) - self.first}{match[2]}" if match else text


def parse(values: Mapping[str, object]) -> Parsed:
    """Parse a configuration: a mapping from names to text, quoted text or JSON values.

    An empty value, `None` or `null` means "not given".

    Raises:
        HyperparameterError: with all errors: unknown names, invalid or missing values, and values in conflict.
    """
    naming = _Naming.from_values(values)
    parser = _Parser(naming)
    for key, value in with_recipe(values).items():
        if _has_value(naming, key, value) or re.sub(r"^enc[012]_", "enc0_", key) not in TABLE:
            parser.add(key, _text(value))
    return parser.finish(values)


def with_recipe(values: Mapping[str, object]) -> dict[str, object]:
    """Return a configuration with the values of its recipe; given values take precedence."""
    recipe = RECIPES.get(_text(values.get("recipe", "")))
    naming = _Naming.from_values(values)
    given = {
        key: value
        for key, value in values.items()
        if _has_value(naming, key, value)
        or key not in TABLE
        or _text(value) == TABLE[key].default  # none may be a choice
    }
    return {naming.typed(name): value for name, value in (recipe.values if recipe else {}).items()} | given


def typed(text: str, values: Mapping[str, object]) -> str:
    """Replace the built-in's encoder names in a text by those that a configuration uses."""
    return _Naming.from_values(values).typed(text)


def _is_given(value: object) -> bool:
    """Return whether a value is given; web forms and null columns write "not given" in several ways."""
    return _text(value).lower() not in ("", "none", "null")


def _has_value(naming: _Naming, key: str, value: object) -> bool:
    """Return whether a value is given; `none` is one for the network of the second encoder."""
    return _is_given(value) or (naming.builtin(key) == "enc1_network" and _text(value) == "none")


def _text(value: object) -> str:
    """Return a value as plain text, without the JSON quotes that some clients add."""
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


class _Parser:
    """Parse values one at a time; collect them under the built-in's names, with errors and warnings."""

    def __init__(self, naming: _Naming) -> None:
        self.naming = naming
        self.values: dict[str, Any] = {}
        self.given: set[str] = set()
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def add(self, key: str, text: str) -> None:
        """Parse one value."""
        name = self.naming.builtin(key)
        if name not in TABLE:
            if not key.startswith(("sagemaker_", "_tuning_")):
                self.errors.append(self._unknown(key))
            return
        self.given.add(name)
        kind = TABLE[name].kind
        try:
            self.values[name] = kind.parse(self.naming.builtin(text) if isinstance(kind, Choice) else text)
        except ValueError:
            got = shortened(text, MAX_QUOTED_CHARACTERS)
            self.errors.append(f"{key}: got '{got}', wanted {self.naming.typed(kind.wanted)}")
            self.values[name] = None

    def _unknown(self, key: str) -> str:
        first, name = self.naming.first, shortened(key, MAX_QUOTED_CHARACTERS)
        counted = re.match(r"enc([0-9])_", key)
        if counted and int(counted[1]) not in (first, first + 1):
            names = f"enc{first}_* and enc{first + 1}_*"
            return f"{name}: the encoders of this configuration are counted from {first}, wanted {names}"
        known = [self.naming.typed(row) for row in TABLE]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
        return f"{name}: no such hyperparameter, the nearest is {near[0]}"

    def finish(self, given: Mapping[str, object]) -> Parsed:
        """Fill in defaults, check rules between values, and return the configuration."""
        # If enc1_network is invalid, missing values of the second encoder are not reported.
        network = self.values.get("enc1_network")
        for row in TABLE.values():
            if row.name not in self.values:
                self.values[row.name] = self._default(row, same=network in ("enc0", "none", None))
        if network in ("enc0", None):
            self._copy_first_encoder()
        elif network == "none":
            self._leave_out_second_encoder(given)
        if self.values["tied_encoder_weight"]:
            self._tie_tables()
        self._size_projection()
        hyperparameters = self._build()
        unread = [name for name, value in self.values.items() if value is None]
        for sentence in _conflicts(hyperparameters):
            if not any(name in sentence for name in unread):
                self.errors.append(self.naming.typed(sentence))
        if self.errors:
            raise HyperparameterError(self.errors)
        for name, why in _without_effect(hyperparameters):
            if (default := self._default(TABLE[name], same=True)) != self.values[name]:
                if name in given:
                    self.warnings.append(f"{name}={self.values[name]} has no effect: {why}")
                hyperparameters = replace(hyperparameters, **{name: default})
        if self.naming.first == 1:
            self.warnings.append("The encoders are counted from 1: enc1 reads in0, enc2 reads in1")
        if hyperparameters.row_sparse and (width := hyperparameters.bucket_width):  # as in the built-in
            why = "token_embedding_storage_type=row_sparse sets it to 0"
            self.warnings.append(f"bucket_width={width} has no effect: {why}")
            hyperparameters = replace(hyperparameters, bucket_width=0)
        return Parsed(
            hyperparameters=hyperparameters,
            warnings=tuple(self.warnings),
            num_gpus=self.values["_num_gpus"],
            tuning_objective=self.values["_tuning_objective_metric"],
            given=given,
        )

    def _default(self, row: Row, *, same: bool) -> Any:
        """Return the default of a value that is not given, or None with an error if it has none."""
        if row.default not in (None, REQUIRED):
            return row.kind.parse(row.default)
        what = f"No value(s) were specified for '{row.name}' which are required hyperparameter(s)"
        if row.default is None:
            what = f"No value was specified for '{row.name}', which enc1_network other than enc0 requires"
        if row.default == REQUIRED or not same:
            self.errors.append(self.naming.typed(f"{what}, wanted {row.kind.wanted}"))
        return None

    def _copy_first_encoder(self) -> None:
        """Copy all values of enc0 for `enc1_network=enc0`, and warn where the user gave another value."""
        for encoder_field in ENCODER_FIELDS:
            first, second = f"enc0_{encoder_field.name}", f"enc1_{encoder_field.name}"
            given, taken = self.values[second], self.values[first]
            if second in self.given and second != "enc1_network" and given not in (None, taken):
                warning = f"{second}={given} has no effect: enc1_network=enc0 takes {first}={taken}"
                self.warnings.append(self.naming.typed(warning))
            self.values[second] = taken

    def _tie_tables(self) -> None:
        """Share the token embeddings too for `tied_encoder_weight`, and warn if the user wanted them apart."""
        name = "tied_token_embedding_weight"
        if name in self.given and self.values[name] is False:
            self.warnings.append(f"{name}=False has no effect: tied_encoder_weight=True shares the tables too")
        if self.values[name] is not None:  # it is valid
            self.values[name] = True

    def _size_projection(self) -> None:
        """Give `pooled_projection` as many units as a token embedding has numbers, unless `enc_dim` is given."""
        networks = {self.values[f"enc{side}_network"] for side in (0, 1)} - {"none"}
        projected = self.values["pooled_projection"] not in ("none", None)
        if projected and networks == {"pooled_embedding"} and "enc_dim" not in self.given:
            self.values["enc_dim"] = max(MIN_ENC_DIM, self.values["enc0_token_embedding_dim"] or 0)

    def _leave_out_second_encoder(self, given: Mapping[str, object]) -> None:
        """Set values for `enc1_network=none`, and warn where the user gave another value."""
        absent = NO_ENCODER | {"token_embedding_dim": self.values["enc0_token_embedding_dim"]}
        for name, value in absent.items():
            typed_name = self.naming.typed(f"enc1_{name}")
            if typed_name in given and self.values[f"enc1_{name}"] not in (None, value):
                why = self.naming.typed("enc1_network=none")
                self.warnings.append(f"{typed_name}={self.values[f'enc1_{name}']} has no effect with {why}")
            self.values[f"enc1_{name}"] = value

    def _build(self) -> Hyperparameters:
        """Build the configuration, with None for invalid values."""
        encoders = []
        for side in (0, 1):
            given = {f.name: self.values[f"enc{side}_{f.name}"] for f in ENCODER_FIELDS}
            if given["layers"] == "auto" or given["network"] == "pooled_embedding":
                given["layers"] = LAYERS_WHEN_AUTO.get(given["network"])
            encoders.append(EncoderHyperparameters(**given))
        rest = {f.name: self.values[f.name] for f in fields(Hyperparameters) if f.name != "encoders"}
        return Hyperparameters(encoders=(encoders[0], encoders[1]), **rest)


def _without_effect(hyperparameters: Hyperparameters) -> Iterator[tuple[str, str]]:
    """Yield each hyperparameter that does nothing because of another one, and why."""
    if not hyperparameters.ranks:
        yield from ((name, "ranking_loss is none") for name in OF_RANKING_LOSS)
    if all(encoder.network != "pooled_embedding" for encoder in hyperparameters.encoders):
        yield from ((name, "no encoder is pooled_embedding") for name in ("token_pooling", "pooled_projection"))
    if not any(encoder.pretrained_embedding_file and not encoder.frozen for encoder in hyperparameters.encoders):
        yield "pretrained_learning_rate_factor", "no pretrained embeddings are trained"


def _stopping(hyperparameters: Hyperparameters) -> Iterator[str]:
    """Yield a sentence for each rule about `early_stopping_metric` that is broken."""
    metric, output = hyperparameters.early_stopping_metric, hyperparameters.output_layer
    if metric == "accuracy" and hyperparameters.squared_error:
        yield f"early_stopping_metric: got 'accuracy', wanted another metric with output_layer={output}"
    if metric in RANKING_METRICS and (hyperparameters.scores > 2 or hyperparameters.sigmoid):
        got = f"output_layer={output} and num_classes={hyperparameters.num_classes}"
        yield f"early_stopping_metric: got '{metric}', wanted loss or accuracy with {got}"
    if metric in RANKING_METRICS and hyperparameters.one_sided:
        yield f"early_stopping_metric: got '{metric}', wanted loss or accuracy with enc1_network=none"


def _conflicts(hyperparameters: Hyperparameters) -> Iterator[str]:
    """Yield a sentence for each rule between values that is broken, in the built-in's names.

    The sentence names all values of the rule. The caller drops it if one of them is invalid.
    """
    optimizer, ema_decay = hyperparameters.optimizer, hyperparameters.ema_decay
    sparse = "with token_embedding_storage_type=row_sparse"
    if hyperparameters.row_sparse and optimizer not in ROW_SPARSE_OPTIMIZERS:
        yield f"optimizer: got '{optimizer}', wanted one of {', '.join(ROW_SPARSE_OPTIMIZERS)} {sparse}"
    if hyperparameters.row_sparse and ema_decay:
        why = "an average of all rows at each step would cost what row_sparse saves"
        yield f"ema_decay: got '{ema_decay}', wanted 0 {sparse}: {why}"
    yield from _stopping(hyperparameters)
    if hyperparameters.ranks:
        yield from _ranking(hyperparameters)
    if hyperparameters.mark_common_tokens:
        yield from _marks(hyperparameters)
    if hyperparameters.sigmoid and (rate := hyperparameters.negative_sampling_rate):
        yield f"negative_sampling_rate: got '{rate}', wanted 0 with output_layer=sigmoid"
    if hyperparameters.one_sided:
        for name in ("negative_sampling_rate", "tied_token_embedding_weight", "tied_encoder_weight"):
            if value := getattr(hyperparameters, name):
                yield f"{name}: got '{value}', wanted {False if value is True else 0} with enc1_network=none"
    dims = [hyperparameters.encoding_dim(side) for side in (0, 1)]
    if dims[0] != dims[1]:
        given = []
        for side, e in enumerate(hyperparameters.encoders):
            name = "enc_dim" if hyperparameters.has_enc_dim(side) else f"enc{side}_token_embedding_dim"
            given.append(f"enc{side}_network={e.network} gives {dims[side]} numbers by {name}")
        yield f"{' and '.join(given)}: both encodings must have the same length, change one of the two"
    elif dims[0] and max(hyperparameters.matryoshka_dims or [0]) > dims[0]:
        got = ", ".join(map(str, hyperparameters.matryoshka_dims))
        name = "enc_dim" if hyperparameters.has_enc_dim(0) else "enc0_token_embedding_dim"
        yield f"matryoshka_dims: got '{got}', wanted at most the {dims[0]} numbers of an encoding by {name}"
    for side, encoder in enumerate(dict.fromkeys(hyperparameters.encoders)):  # equal encoders are checked once
        if encoder.vocab_file in (*MODEL_FILES, *SCHEMA_FILES):
            why = "the model directory, where the vocabulary goes too, has a file of its own of that name"
            yield f"enc{side}_vocab_file: got '{encoder.vocab_file}', wanted another name: {why}"
    if hyperparameters.tied_encoder_weight or hyperparameters.tied_token_embedding_weight:
        yield from _ties(*hyperparameters.encoders, encoders=bool(hyperparameters.tied_encoder_weight))


def _ranking(hyperparameters: Hyperparameters) -> Iterator[str]:
    """Yield a sentence for each value that a ranking loss cannot have: the scores of a batch are one matrix product."""
    with_loss = f"with ranking_loss={hyperparameters.ranking_loss}"
    for name, wanted in (("output_layer", "mean_squared_error"), ("mlp_layers", 0), ("negative_sampling_rate", 0)):
        if (got := getattr(hyperparameters, name)) != wanted:
            yield f"{name}: got '{got}', wanted {wanted} {with_loss}"
    if hyperparameters.one_sided:
        yield f"enc1_network: got 'none', wanted an encoder {with_loss}"
    comparators = set(hyperparameters.comparator_list)
    if "abs_diff" in comparators or comparators == {"concat"}:
        got = ", ".join(hyperparameters.comparator_list)
        yield f"comparator_list: got '{got}', wanted hadamard or cosine, and perhaps concat, {with_loss}"


def _marks(hyperparameters: Hyperparameters) -> Iterator[str]:
    """Yield a sentence for each value that `mark_common_tokens` cannot have."""
    with_marks = "with mark_common_tokens=True"
    metric, loss = hyperparameters.early_stopping_metric, hyperparameters.ranking_loss
    if not (hyperparameters.tied_token_embedding_weight or hyperparameters.tied_encoder_weight):
        yield f"tied_token_embedding_weight: got 'False', wanted True {with_marks}"
    if hyperparameters.ranks:
        yield f"ranking_loss: got '{loss}', wanted none {with_marks}"
    if metric in RANKING_METRICS:
        yield f"early_stopping_metric: got '{metric}', wanted loss or accuracy {with_marks}"
    if file := hyperparameters.encoders[0].pretrained_embedding_file:
        yield f"enc0_pretrained_embedding_file: got '{file}', wanted none {with_marks}"


def _ties(first: EncoderHyperparameters, second: EncoderHyperparameters, *, encoders: bool) -> Iterator[str]:
    """Yield a sentence for each difference between sides that share one table, or with `encoders` all weights."""
    why = f"{'tied_encoder_weight' if encoders else 'tied_token_embedding_weight'} needs them equal"
    shared = ["vocab_size", "token_embedding_dim", "pretrained_embedding_file", "vocab_file"]
    if encoders:
        shared += ["network", "layers"] + ["cnn_filter_width"] * (first.network == second.network == "hcnn")
    for name in shared:
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            yield f"enc0_{name}={one} and enc1_{name}={other}: {why}"
    if first.frozen != second.frozen:
        name = "freeze_pretrained_embedding"
        yield f"enc0_{name} and enc1_{name} differ: {why}"
