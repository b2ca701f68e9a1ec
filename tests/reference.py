"""An independent, slow forward pass in numpy, one sequence and one time step at a time.

It follows the specification of the encoders, not the code of the package. `weights` are the named tensors of a model
directory. All computation is in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from object2vec.hyperparameters import EncoderHyperparameters, Hyperparameters

Array = np.ndarray[Any, np.dtype[np.float64]]
Weights = Mapping[str, np.ndarray[Any, Any]]


def score(hyperparameters: Hyperparameters, weights: Weights, tokens0: Sequence[int], tokens1: Sequence[int]) -> Array:
    """Return the served result of one pair: class probabilities, or one number."""
    result = output(hyperparameters, weights, tokens0, tokens1)
    if hyperparameters.output_layer == "mean_squared_error":
        return result
    if hyperparameters.output_layer == "sigmoid":
        return 1 / (1 + np.exp(-result))
    powers = np.exp(result - result.max())
    return powers / powers.sum()


def output(hyperparameters: Hyperparameters, weights: Weights, tokens0: Sequence[int], tokens1: Sequence[int]) -> Array:
    """Return the output layer's numbers for one pair."""
    if hyperparameters.mark_common_tokens:
        size, given = hyperparameters.encoders[0].vocab_size, (tokens0, tokens1)
        tokens0, tokens1 = (
            [token + size if token and token in given[0] and token in given[1] else token for token in tokens]
            for tokens in given
        )
    u = encode(hyperparameters, weights, 0, tokens0)
    if hyperparameters.encoders[1].network == "none":
        return _head(hyperparameters, weights, u)
    v = encode(hyperparameters, weights, 1, tokens1)
    parts = []
    for comparator in hyperparameters.comparator_list:
        if comparator == "hadamard":
            parts += [u[d] * v[d] for d in range(len(u))]
        elif comparator == "concat":
            parts += [*u, *v]
        elif comparator == "abs_diff":
            parts += [abs(u[d] - v[d]) for d in range(len(u))]
        elif comparator == "cosine":
            lengths = np.sqrt(u @ u) * np.sqrt(v @ v)
            parts += [u @ v / lengths if lengths else 0.0]
    return _head(hyperparameters, weights, np.array(parts))


def _head(hyperparameters: Hyperparameters, weights: Weights, hidden: Array) -> Array:
    for layer in range(hyperparameters.mlp_layers):
        hidden = _affine(weights, f"head.layers.{layer}", hidden)
        if hyperparameters.mlp_activation == "tanh":
            hidden = np.tanh(hidden)
        elif hyperparameters.mlp_activation == "relu":
            hidden = np.maximum(hidden, 0)
    return _affine(weights, "head.output", hidden)


def encode(hyperparameters: Hyperparameters, weights: Weights, side: int, tokens: Sequence[int]) -> Array:
    """Return the encoding of one sequence of a side."""
    encoder = hyperparameters.encoders[side]
    side = 0 if hyperparameters.tied_encoder_weight else side  # shared weights are saved once
    # A shared table is saved once, under the name of the first side.
    tied = hyperparameters.tied_token_embedding_weight
    table = weights["enc0.embedding.weight" if tied else f"enc{side}.embedding.weight"].astype(np.float64)
    if encoder.network == "pooled_embedding":
        pooled = _pool(table, tokens, hyperparameters.token_pooling)
        if hyperparameters.pooled_projection == "none":
            return pooled
        pooled = weights[f"enc{side}.projection.weight"].astype(np.float64) @ pooled
        return {"linear": pooled, "tanh": np.tanh(pooled), "relu": np.maximum(pooled, 0)}[
            hyperparameters.pooled_projection
        ]
    if encoder.network == "hcnn":
        return _convolve(weights, side, encoder, table, tokens, hyperparameters.enc_dim)
    return _recur(weights, side, encoder, table, tokens, hyperparameters.enc_dim)


def _pool(table: Array, tokens: Sequence[int], pooling: str) -> Array:
    """Return the mean embedding, the sum, or the sum by the root of the count, without id 0; zeros of no other id."""
    counted = [token for token in tokens if token != 0]
    total = np.zeros(table.shape[1])
    for token in counted:
        total += table[token]
    divisor = {"mean": len(counted), "sqrtn": np.sqrt(len(counted)), "sum": 1}[pooling]
    return total / divisor if counted else total


def _convolve(
    weights: Weights, side: int, encoder: EncoderHyperparameters, table: Array, tokens: Sequence[int], dim: int
) -> Array:
    """Return the maximum over time of each level of convolution and ReLU, concatenated."""
    if not len(tokens):
        return np.zeros(dim)
    width = encoder.cnn_filter_width
    hidden = [table[token] for token in tokens]
    pooled = []
    for level in range(encoder.layers):
        kernel = weights[f"enc{side}.levels.{level}.weight"].astype(np.float64)  # (out, in, width)
        bias = weights[f"enc{side}.levels.{level}.bias"].astype(np.float64)
        convolved = []
        for t in range(len(hidden)):
            total = bias.copy()
            for k in range(width):
                source = t + k - (width - 1) // 2
                if 0 <= source < len(hidden):
                    total += kernel[:, :, k] @ hidden[source]
            convolved.append(np.maximum(total, 0))
        hidden = convolved
        pooled.append(np.max(hidden, axis=0))
    return np.concatenate(pooled)


def _recur(
    weights: Weights, side: int, encoder: EncoderHyperparameters, table: Array, tokens: Sequence[int], dim: int
) -> Array:
    """Return the maximum over time of the last layer of a forward and backward LSTM."""
    if not len(tokens):
        return np.zeros(dim)
    hidden = [table[token] for token in tokens]
    for layer in range(encoder.layers):
        ahead = _lstm(weights, f"enc{side}.forwards.{layer}", dim - dim // 2, hidden)
        behind = _lstm(weights, f"enc{side}.backwards.{layer}", dim // 2, hidden[::-1])[::-1]
        hidden = [np.concatenate(both) for both in zip(ahead, behind, strict=True)]
    return np.max(hidden, axis=0)


def _lstm(weights: Weights, name: str, units: int, inputs: Sequence[Array]) -> list[Array]:
    """Return the states of one LSTM with zero initial state. The order of gates is input, forget, cell, output."""
    w, r = (weights[f"{name}.weight_{kind}_l0"].astype(np.float64) for kind in ("ih", "hh"))
    b = weights[f"{name}.bias_ih_l0"].astype(np.float64) + weights[f"{name}.bias_hh_l0"].astype(np.float64)
    hidden = np.zeros(units)
    cell = np.zeros(units)
    outputs = []
    for x in inputs:
        gates = w @ x + r @ hidden + b
        i, f, g, o = (gates[part * units : (part + 1) * units] for part in range(4))
        cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
        hidden = _sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
    return outputs


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _affine(weights: Weights, name: str, x: Array) -> Array:
    return weights[f"{name}.weight"].astype(np.float64) @ x + weights[f"{name}.bias"].astype(np.float64)


def in_batch_cross_entropy(
    hyperparameters: Hyperparameters,
    weights: Weights,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    negatives: Sequence[tuple[Sequence[int], Sequence[int]]] = (),
) -> tuple[list[float], list[bool]]:
    """Return the cross-entropy of each positive pair of a batch, and whether it has the best logit.

    The probability of an object is that of the rows of the batch, drawn with repetition. `negatives` are given ones.
    """
    size, objects = len(pairs), [tuple(right) for _, right in pairs]

    def logit(left: Sequence[int], right: tuple[int, ...]) -> float:
        inclusion = 1 - (1 - objects.count(right) / size) ** size if right in objects else 1
        score = output(hyperparameters, weights, left, right)[0]
        return float(score / hyperparameters.temperature - hyperparameters.log_q_correction * np.log(inclusion))

    losses, best = [], []
    for left, right in pairs:
        positives = {tuple(own) for other, own in pairs if list(other) == list(left)}
        given = {tuple(own) for other, own in negatives if list(other) == list(left)}
        others = [logit(left, candidate) for candidate in (set(objects) | given) - positives]
        own = logit(left, tuple(right))
        losses.append(float(np.log(np.sum(np.exp([own, *others]))) - own))
        best.append(own > max(others, default=-np.inf))
    return losses, best
