"""The table of hyperparameters. Parsing, help, documentation and tuning ranges derive from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from object2vec.hyperparameters.kinds import (
    AutoInteger,
    Bool,
    Choice,
    ChoiceList,
    FileName,
    Ignored,
    Integer,
    Kind,
    Real,
)

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
    yield row("freeze_pretrained_embedding", Bool(), "True", text)
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
    yield row(name="comparator_list", kind=ChoiceList(COMPARATORS), default="hadamard, concat, abs_diff", help=text)
    text = "One token embedding table for both encoders."
    yield row(name="tied_token_embedding_weight", kind=Bool(), default="False", help=text)
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
        yield row(name=name, kind=Ignored(), default="", help="Internal to the built-in: taken, without effect.")
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
