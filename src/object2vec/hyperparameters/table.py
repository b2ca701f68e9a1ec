"""The table of hyperparameters. Parsing, help, documentation and tuning ranges derive from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from object2vec.hyperparameters.kinds import (
    AutoInteger,
    Bool,
    Choice,
    ChoiceList,
    FileName,
    Ignored,
    Integer,
    IntegerList,
    Kind,
    Real,
)
from object2vec.hyperparameters.recipes import RECIPES
from object2vec.ops.codes import ACTIVATIONS, COMPARATORS

#: Files of a model directory, in addition to the vocabularies.
MODEL_FILES: Final = ("config.json", "model.safetensors")
#: Files of a model directory whose training data has a schema.
SCHEMA_FILES: Final = ("schema.json", "in0.vocabulary.tsv", "in1.vocabulary.tsv")
#: The pattern of the names of files of an index in a model directory. They belong to its weights.
INDEX_FILES: Final = "index-in[01].*"
#: The largest `num_classes`.
MAX_CLASSES: Final = 100_000
#: The smallest `enc_dim`.
MIN_ENC_DIM: Final = 4
#: The default of a hyperparameter that must be given.
REQUIRED: Final = "required"
NETWORKS: Final = ("hcnn", "bilstm", "pooled_embedding")
#: How token embeddings are pooled: the power of the number of tokens that their mean is multiplied with.
POOLINGS: Final = {"mean": 0.0, "sqrtn": 0.5, "sum": 1.0}
OPTIMIZERS: Final = ("adagrad", "adam", "rmsprop", "sgd", "adadelta")
#: Metrics of rankings by which training can stop.
RANKING_METRICS: Final = ("ndcg@10", "hit_rate@10", "mrr")
STOPPING_METRICS: Final = ("loss", "accuracy", *RANKING_METRICS)
#: Hyperparameters that only a ranking loss uses.
OF_RANKING_LOSS: Final = ("temperature", "log_q_correction", "sampled_candidates")
SCHEDULES: Final = ("constant", "linear", "cosine")
ROW_SPARSE_OPTIMIZERS: Final = ("adam", "adagrad", "sgd")
LAYERS_WHEN_AUTO: Final = {"hcnn": 4, "bilstm": 1, "pooled_embedding": 1}


@dataclass(frozen=True, slots=True)
class Row:
    """One hyperparameter.

    `default` is text, as a client would write it. It is None if the value is optional and has no default.
    `tunable` is the range that a tuning job should search, if any.
    """

    name: str
    kind: Kind
    default: str | None
    help: str
    tunable: Integer | Real | Choice | None = None


#: Descriptions that are too long for the tables below.
HELP: Final = {
    "max_seq_len": "Maximum number of tokens of an input. Longer inputs are truncated.",
    "layers": "Number of layers. `auto` is 4 for hcnn and 1 for bilstm. No effect on pooled_embedding.",
    "pretrained_embedding_file": "Pretrained embeddings: text with `word v1 … vD` per line, `.npy`, `.safetensors`.",
    "freeze_pretrained_embedding": "Do not train pretrained embeddings. No effect without a file.",
    "vocab_file": "A JSON object that maps words to token ids. Pretrained embeddings need it or a schema.",
    "enc1_network": "The encoder of `in1`. `enc0` copies all values of `enc0_*`, not the weights. `none`: no `in1`.",
    "enc_dim": "Dimension of an encoding. pooled_embedding without a projection uses `token_embedding_dim` instead.",
    "comparator_list": "How the two encodings are combined, concatenated in this order. `cosine` is an extension.",
    "token_embedding_storage_type": "`row_sparse` updates only the rows of tokens in the batch.",
    "output_layer": "`softmax` for classification, `mean_squared_error` for regression, `sigmoid` for several labels.",
    "bucket_width": "Batch inputs of similar length: lengths differ by less than this. 0 switches it off.",
    "early_stopping_tolerance": "The loss must fall by at least this much for an epoch to count as an improvement.",
    "early_stopping_patience": "Consecutive epochs without improvement before training stops.",
    "validation_negative_sampling": "`auto` samples fixed negatives for validation and test channels of positives.",
    "recipe": "Defaults for a kind of data. `object2vec describe recipes` lists them.",
    "matryoshka_dims": "Lengths of prefixes of embeddings. Training also scores these, so that embeddings can be cut.",
    "tied_encoder_weight": "Use one encoder for both sides. It shares all weights, those of the token embeddings too.",
    "mark_common_tokens": "Give tokens that both sides of a pair have other embeddings. Needs tied token embeddings.",
    "token_pooling": "How pooled_embedding combines tokens. `sqrtn` is the sum divided by the root of their number.",
    "pooled_projection": "A layer with this activation after the mean. Its units: `enc_dim`, or `token_embedding_dim`.",
    "token_dropout": "Share of the tokens of an object that a step of training leaves out. An only token stays.",
    "ema_decay": "Decay of a moving average of the weights, which is validated and saved. 0 switches it off.",
    "ranking_loss": "`in_batch_softmax`: pairs are positives, and the other `in1` of a batch are their negatives.",
    "temperature": "`in_batch_softmax` divides scores by this.",
    "log_q_correction": "How much of the popularity of `in1` its score learns: 0 none of it, 1 all of it.",
    "sampled_candidates": "How many `in1` are drawn uniformly for each batch, as further negatives of all its pairs.",
    "pretrained_learning_rate_factor": "Factor of the learning rate of pretrained embeddings that are not frozen.",
    "learning_rate_schedule": "How the learning rate falls from its value to 0 over the steps of `epochs` epochs.",
    "learning_rate_warmup": "Share of all steps in which the learning rate rises from 0 to its value.",
    "in0_balance": "How much `in0` with few pairs weigh in training: 0 all pairs weigh alike, 1 all `in0` weigh alike.",
    "early_stopping_metric": "Metric of the validation channel for early stopping and the choice of the best epoch.",
    "gradient_clip_norm": "Largest norm of the gradient of all weights; larger ones are scaled down. 0: no limit.",
    "token_embedding_dtype": "Type of the saved token embeddings. `float16` halves the file and rounds after training.",
}


def _encoder_rows(side: int, needed: str | None) -> tuple[Row, ...]:
    """Return the rows of one encoder: `enc0_*` encodes `in0`, `enc1_*` encodes `in1`."""
    rows = (
        Row("max_seq_len", Integer(1, 5000), needed, HELP["max_seq_len"]),
        Row("vocab_size", Integer(2, 3_000_000), needed, "Number of token ids. Each id must be smaller."),
        Row("token_embedding_dim", Integer(2, 1000), "300", "Dimension of the token embeddings.", Integer(5, 300)),
        Row("layers", AutoInteger(1, 4), "auto", HELP["layers"], Integer(1, 4)),
        Row("cnn_filter_width", Integer(1, 9), "3", "Width of the hcnn filters, in tokens.", Integer(1, 5)),
        Row("pretrained_embedding_file", FileName(), "", HELP["pretrained_embedding_file"]),
        Row("freeze_pretrained_embedding", Bool(), "True", HELP["freeze_pretrained_embedding"]),
        Row("vocab_file", FileName(), "", HELP["vocab_file"]),
    )
    return tuple(replace(row, name=f"enc{side}_{row.name}") for row in rows)


ENCODERS: Final = (
    Row("enc0_network", Choice(NETWORKS), "hcnn", "The encoder of `in0`."),
    *_encoder_rows(0, REQUIRED),
    Row("enc1_network", Choice(("enc0", *NETWORKS, "none")), "enc0", HELP["enc1_network"]),
    *_encoder_rows(1, None),
    Row("enc_dim", Integer(MIN_ENC_DIM, 10_000), "4096", HELP["enc_dim"], Integer(MIN_ENC_DIM, 4096)),
)
NETWORK: Final = (
    Row("comparator_list", ChoiceList(COMPARATORS), "hadamard, concat, abs_diff", HELP["comparator_list"]),
    Row("tied_token_embedding_weight", Bool(), "False", "Share one token embedding table between both encoders."),
    Row("token_embedding_storage_type", Choice(("dense", "row_sparse")), "dense", HELP["token_embedding_storage_type"]),
    Row("negative_sampling_rate", Integer(0, 100), "0", "Negative pairs sampled for each positive pair in training."),
    Row("mlp_layers", Integer(0, 10), "2", "Number of layers of the feed-forward network.", Integer(1, 4)),
    Row("mlp_dim", Integer(2, 10_000), "512", "Width of the layers of the feed-forward network.", Integer(16, 1024)),
    Row("mlp_activation", Choice(ACTIVATIONS), "linear", "Activation of these layers.", Choice(ACTIVATIONS)),
    Row("dropout", Real(0, 1), "0.0", "Dropout probability in training, on encodings and between layers.", Real(0, 1)),
    Row("output_layer", Choice(("softmax", "mean_squared_error", "sigmoid")), "softmax", HELP["output_layer"]),
    Row(
        "num_classes",
        Integer(2, MAX_CLASSES),
        "2",
        "Number of classes of `softmax` and `sigmoid`; the built-in takes up to 30.",
    ),
)
TRAINING: Final = (
    Row("optimizer", Choice(OPTIMIZERS), "adam", "The optimizer.", Choice(OPTIMIZERS)),
    Row("learning_rate", Real(1e-6, 1), "0.0004", "Learning rate. No effect on adadelta.", Real(1e-6, 1)),
    Row("weight_decay", Real(0, 10_000), "0", "Coefficient of the L2 penalty on weights.", Real(0, 1)),
    Row("mini_batch_size", Integer(1, 10_000), "32", "Pairs in a batch, negatives included.", Integer(1, 8192)),
    Row("epochs", Integer(1, 100), "30", "Maximum number of passes over the training data.", Integer(4, 20)),
    Row("bucket_width", Integer(0, 100), "0", HELP["bucket_width"]),
    Row("early_stopping_tolerance", Real(1e-6, 0.1), "0.01", HELP["early_stopping_tolerance"], Real(1e-3, 0.1)),
    Row("early_stopping_patience", Integer(1, 5), "3", HELP["early_stopping_patience"], Integer(1, 5)),
)
PLATFORM: Final = (
    Row("_num_gpus", AutoInteger(0, 16), "auto", "Number of GPUs per host. `auto`, or more than available, uses all."),
    Row("_kvstore", Ignored(), "", "Internal to the built-in. Accepted, without effect."),
    Row("_num_kv_servers", Ignored(), "", "Internal to the built-in. Accepted, without effect."),
    Row("_tuning_objective_metric", Ignored(), "", "Internal to the built-in. Accepted, without effect."),
)
#: Extensions. Their defaults give the built-in's behavior.
OURS: Final = (
    Row("recipe", Choice((*RECIPES, "none")), "none", HELP["recipe"]),
    Row("matryoshka_dims", IntegerList(1, 10_000), "", HELP["matryoshka_dims"]),
    Row("tied_encoder_weight", Bool(), "False", HELP["tied_encoder_weight"]),
    Row("mark_common_tokens", Bool(), "False", HELP["mark_common_tokens"]),
    Row("token_pooling", Choice(tuple(POOLINGS)), "mean", HELP["token_pooling"], Choice(tuple(POOLINGS))),
    Row(
        "pooled_projection",
        Choice((*ACTIVATIONS, "none")),
        "none",
        HELP["pooled_projection"],
        Choice((*ACTIVATIONS, "none")),
    ),
    Row(
        "negative_sampling_distribution",
        Choice(("frequency", "uniform")),
        "frequency",
        "How `in1` of a negative is sampled: by its frequency in the data, or uniformly over unique inputs.",
    ),
    Row("validation_negative_sampling", Choice(("off", "auto")), "off", HELP["validation_negative_sampling"]),
    Row("token_dropout", Real(0, 0.9), "0", HELP["token_dropout"]),
    Row("ema_decay", Real(0, 0.9999), "0", HELP["ema_decay"]),
    Row("token_embedding_dtype", Choice(("float32", "float16")), "float32", HELP["token_embedding_dtype"]),
    Row("pretrained_learning_rate_factor", Real(0.0001, 100), "1", HELP["pretrained_learning_rate_factor"]),
    Row("learning_rate_schedule", Choice(SCHEDULES), "constant", HELP["learning_rate_schedule"]),
    Row("learning_rate_warmup", Real(0, 1), "0", HELP["learning_rate_warmup"]),
    Row("early_stopping_metric", Choice(STOPPING_METRICS), "loss", HELP["early_stopping_metric"]),
    Row("gradient_clip_norm", Real(0, 1e6), "0", HELP["gradient_clip_norm"]),
    Row("ranking_loss", Choice(("in_batch_softmax", "none")), "none", HELP["ranking_loss"]),
    Row("temperature", Real(0.001, 100), "1", HELP["temperature"]),
    Row("log_q_correction", Real(0, 1), "0", HELP["log_q_correction"]),
    Row("sampled_candidates", Integer(0, 100_000), "0", HELP["sampled_candidates"]),
    Row("in0_balance", Real(0, 1), "0", HELP["in0_balance"]),
    Row("seed", Integer(0, 2**31 - 1), "0", "Random seed. The same seed, data and thread count give the same losses."),
)
BUILT_IN: Final = (*ENCODERS, *NETWORK, *TRAINING, *PLATFORM)
TABLE: Final[Mapping[str, Row]] = {row.name: row for row in (*BUILT_IN, *OURS)}
