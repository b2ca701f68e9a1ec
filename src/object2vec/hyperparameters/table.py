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
from object2vec.ops.codes import ACTIVATIONS, COMPARATORS

#: Files of a model directory, in addition to the vocabularies.
MODEL_FILES: Final = ("config.json", "model.safetensors")
#: The default of a hyperparameter that must be given.
REQUIRED: Final = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameter:
    """One row of the table.

    `default` is text, as a client would write it. It is None if the value is optional and has no default.
    `tunable` is the range that a tuning job should search, if any. `ours` marks extensions of the built-in.
    """

    name: str
    kind: Kind
    default: str | None
    help: str
    tunable: Integer | Real | Choice | None = None
    ours: bool = False


NETWORKS: Final = ("hcnn", "bilstm", "pooled_embedding")
OPTIMIZERS: Final = ("adagrad", "adam", "rmsprop", "sgd", "adadelta")
ROW_SPARSE_OPTIMIZERS: Final = ("adam", "adagrad", "sgd")
LAYERS_WHEN_AUTO: Final = {"hcnn": 4, "bilstm": 1, "pooled_embedding": 1}


def _encoder_rows(side: int) -> Iterator[Hyperparameter]:
    """Yield the rows of one encoder: `enc0_*` encodes `in0`, `enc1_*` encodes `in1`."""

    def row(name: str, kind: Kind, default: str | None, text: str, tunable: Integer | None = None) -> Hyperparameter:
        return Hyperparameter(name=f"enc{side}_{name}", kind=kind, default=default, help=text, tunable=tunable)

    needed = REQUIRED if side == 0 else None
    if side == 0:
        yield row("network", Choice(NETWORKS), "hcnn", "The encoder of `in0`.")
    else:
        text = "The encoder of `in1`. `enc0` copies all values of `enc0_*`; weights are not shared."
        yield row("network", Choice(("enc0", *NETWORKS)), "enc0", text)
    yield row(
        "max_seq_len", Integer(1, 5000), needed, "Maximum number of tokens of an input. Longer inputs are truncated."
    )
    yield row("vocab_size", Integer(2, 3_000_000), needed, "Number of token ids. Each id must be smaller.")
    text = "Dimension of the token embeddings."
    yield row("token_embedding_dim", Integer(2, 1000), "300", text, Integer(5, 300))
    text = "Number of layers. `auto` is 4 for hcnn and 1 for bilstm. No effect on pooled_embedding."
    yield row("layers", AutoInteger(1, 4), "auto", text, Integer(1, 4))
    yield row("cnn_filter_width", Integer(1, 9), "3", "Width of the hcnn filters, in tokens.", Integer(1, 5))
    text = "Pretrained token embeddings: a text file with one line `word v1 … vD` per word."
    yield row("pretrained_embedding_file", FileName(), "", text)
    text = "Do not train pretrained embeddings. No effect without a file."
    yield row("freeze_pretrained_embedding", Bool(), "True", text)
    yield row(
        "vocab_file", FileName(), "", "A JSON object that maps words to token ids. Required with pretrained embeddings."
    )


def _rows() -> Iterator[Hyperparameter]:
    row = Hyperparameter
    yield from _encoder_rows(0)
    yield from _encoder_rows(1)
    text = "Dimension of an encoding. pooled_embedding uses `token_embedding_dim` instead."
    yield row(name="enc_dim", kind=Integer(4, 10_000), default="4096", help=text, tunable=Integer(4, 4096))
    text = "How the two encodings are combined. The results are concatenated in this order."
    yield row(name="comparator_list", kind=ChoiceList(COMPARATORS), default="hadamard, concat, abs_diff", help=text)
    text = "Share one token embedding table between both encoders."
    yield row(name="tied_token_embedding_weight", kind=Bool(), default="False", help=text)
    text = "`row_sparse` updates only the rows of tokens in the batch."
    yield row(name="token_embedding_storage_type", kind=Choice(("dense", "row_sparse")), default="dense", help=text)
    text = "Negative pairs sampled for each positive pair in training."
    yield row(name="negative_sampling_rate", kind=Integer(0, 100), default="0", help=text)
    text = "Number of layers of the feed-forward network."
    yield row(name="mlp_layers", kind=Integer(0, 10), default="2", help=text, tunable=Integer(1, 4))
    text = "Width of the layers of the feed-forward network."
    yield row(name="mlp_dim", kind=Integer(2, 10_000), default="512", help=text, tunable=Integer(16, 1024))
    kind = Choice(ACTIVATIONS)
    yield row(
        name="mlp_activation", kind=kind, default="linear", help="Activation of the feed-forward network.", tunable=kind
    )
    text = "Dropout probability in training, on encodings and between layers."
    yield row(name="dropout", kind=Real(0, 1), default="0.0", help=text, tunable=Real(0, 1))
    text = "`softmax` for classification, `mean_squared_error` for regression."
    yield row(name="output_layer", kind=Choice(("softmax", "mean_squared_error")), default="softmax", help=text)
    text = "Number of classes of `softmax`."
    yield row(name="num_classes", kind=Integer(2, 30), default="2", help=text)
    kind = Choice(OPTIMIZERS)
    yield row(name="optimizer", kind=kind, default="adam", help="The optimizer.", tunable=kind)
    text = "Learning rate of the optimizer. No effect on adadelta."
    yield row(name="learning_rate", kind=Real(1e-6, 1), default="0.0004", help=text, tunable=Real(1e-6, 1))
    text = "Coefficient of the L2 penalty on weights."
    yield row(name="weight_decay", kind=Real(0, 10_000), default="0", help=text, tunable=Real(0, 1))
    text = "Number of pairs in a batch, negatives included."
    yield row(name="mini_batch_size", kind=Integer(1, 10_000), default="32", help=text, tunable=Integer(1, 8192))
    yield row(
        name="epochs",
        kind=Integer(1, 100),
        default="30",
        help="Maximum number of passes over the training data.",
        tunable=Integer(4, 20),
    )
    text = "Batch inputs of similar length: lengths differ by less than this. 0 switches it off."
    yield row(name="bucket_width", kind=Integer(0, 100), default="0", help=text)
    text = "The loss must fall by at least this much for an epoch to count as an improvement."
    tunable = Real(1e-3, 0.1)
    yield row(name="early_stopping_tolerance", kind=Real(1e-6, 0.1), default="0.01", help=text, tunable=tunable)
    text = "Consecutive epochs without improvement before training stops."
    yield row(name="early_stopping_patience", kind=Integer(1, 5), default="3", help=text, tunable=Integer(1, 5))
    text = "Number of GPUs per host. `auto`, or more than available, uses all."
    yield row(name="_num_gpus", kind=AutoInteger(0, 16), default="auto", help=text)
    for name in ("_kvstore", "_num_kv_servers", "_tuning_objective_metric"):
        yield row(name=name, kind=Ignored(), default="", help="Internal to the built-in. Accepted, without effect.")
    text = "How `in1` of a negative is sampled: by its frequency in the data, or uniformly over unique inputs."
    kind = Choice(("frequency", "uniform"))
    yield row(name="negative_sampling_distribution", kind=kind, default="frequency", help=text, ours=True)
    text = "`auto` samples fixed negatives for validation and test channels that have only positives."
    kind = Choice(("off", "auto"))
    yield row(name="validation_negative_sampling", kind=kind, default="off", help=text, ours=True)
    text = "Decay of a moving average of the weights, which is validated and saved. 0 switches it off."
    yield row(name="ema_decay", kind=Real(0, 0.9999), default="0", help=text, ours=True)
    text = "Type of the saved token embeddings. `float16` halves the file; embeddings are rounded after training."
    kind = Choice(("float32", "float16"))
    yield row(name="token_embedding_dtype", kind=kind, default="float32", help=text, ours=True)
    text = "Random seed. The same seed, data and thread count give the same losses."
    yield row(name="seed", kind=Integer(0, 2**31 - 1), default="0", help=text, ours=True)


TABLE: Final[Mapping[str, Hyperparameter]] = {row.name: row for row in _rows()}


def to_markdown(*, ours: bool) -> str:
    """Return a Markdown table of the built-in's hyperparameters, or of ours."""
    lines = ["| name | valid | default | tuning range | |", "|---|---|---|---|---|"]
    for row in TABLE.values():
        if row.ours is ours:
            default = "" if row.default is None else f"`{row.default}`" if row.default else "none"
            default = "**required**" if row.default == REQUIRED else default
            tunable = row.tunable.wanted if row.tunable else ""
            lines.append(f"| `{row.name}` | {row.kind.wanted} | {default} | {tunable} | {row.help} |")
    return "\n".join(lines)
