"""A complete and valid configuration, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderHyperparameters:
    """The configuration of one encoder; `enc1_network=enc0` and `layers=auto` are resolved."""

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
        """Whether the token embeddings are pretrained and not trained further."""
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
    recipe: str
    matryoshka_dims: tuple[int, ...]
    tied_encoder_weight: bool
    mark_common_tokens: bool
    token_pooling: str
    pooled_projection: str
    negative_sampling_distribution: str
    validation_negative_sampling: str
    token_dropout: float
    ema_decay: float
    pretrained_learning_rate_factor: float
    learning_rate_schedule: str
    learning_rate_warmup: float
    gradient_clip_norm: float
    early_stopping_metric: str
    token_embedding_dtype: str
    ranking_loss: str
    temperature: float
    log_q_correction: float
    sampled_candidates: int
    in0_balance: float
    seed: int

    def encoding_dim(self, side: int) -> int:
        """Return the dimension of the encodings of `side` (0 or 1)."""
        side = 0 if self.one_sided else side
        return self.enc_dim if self.has_enc_dim(side) else self.encoders[side].token_embedding_dim

    def has_enc_dim(self, side: int) -> bool:
        """Return whether the encodings of `side` have `enc_dim` numbers; else they have `token_embedding_dim`."""
        return self.encoders[side].network != "pooled_embedding" or self.pooled_projection != "none"

    @property
    def regression(self) -> bool:
        return self.output_layer == "mean_squared_error"

    @property
    def one_sided(self) -> bool:
        """Whether there is only in0: its encoding alone is the head's input."""
        return self.encoders[1].network == "none"

    @property
    def sigmoid(self) -> bool:
        """Whether a pair can have several classes, each with a probability of its own."""
        return self.output_layer == "sigmoid"

    @property
    def tables(self) -> int:
        """How many tables of token embeddings there are."""
        return 1 if self.tied_token_embedding_weight or self.one_sided else 2

    @property
    def rows_per_token(self) -> int:
        """How many embeddings a token has."""
        return 2 if self.mark_common_tokens else 1

    @property
    def scores(self) -> int:
        """How many scores a pair has: one per class, or one for regression."""
        return 1 if self.regression else self.num_classes

    @property
    def ranks(self) -> bool:
        """Whether training ranks candidates; a pair still has one score, which is served as for regression."""
        return self.ranking_loss != "none"

    @property
    def squared_error(self) -> bool:
        """Whether the loss is the mean squared error; if not, it is a cross-entropy."""
        return self.regression and not self.ranks

    @property
    def row_sparse(self) -> bool:
        return self.token_embedding_storage_type == "row_sparse"

    def to_dict(self) -> dict[str, str | int | float | bool]:
        """Return a flat mapping from the built-in's names to values. `parse` reads it back."""
        flat = {f"enc{side}_{f.name}": getattr(self.encoders[side], f.name) for side in (0, 1) for f in ENCODER_FIELDS}
        flat |= {f.name: getattr(self, f.name) for f in fields(self) if f.name != "encoders"}
        lists = {"comparator_list": self.comparator_list, "matryoshka_dims": self.matryoshka_dims}
        return flat | {name: ", ".join(map(str, values)) for name, values in lists.items()}


ENCODER_FIELDS: Final = fields(EncoderHyperparameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A configuration, and warnings for its author.

    `given` are the values as the user wrote them. `num_gpus` and `tuning_objective` do not change the model.
    """

    hyperparameters: Hyperparameters
    warnings: tuple[str, ...]
    num_gpus: int | Literal["auto"]
    tuning_objective: str
    given: Mapping[str, object] = field(compare=False)
