"""Small configurations and networks for tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from object2vec.data.sequences import Pairs, Sequences
from object2vec.hyperparameters import Hyperparameters, parse
from object2vec.model.network import Network
from object2vec.model.tokens import TokenEmbedding, Tokens
from object2vec.ops.embedding import row_grad
from object2vec.training.graceful_shutdown import Stop

#: Small in all dimensions; tests override single values.
SMALL = {
    "enc0_network": "pooled_embedding",
    "enc0_max_seq_len": 6,
    "enc0_vocab_size": 9,
    "enc0_token_embedding_dim": 4,
    "enc_dim": 7,
    "mlp_dim": 5,
}


def configured(**changes: object) -> Hyperparameters:
    """Return `SMALL` with changes; `network` sets the network of both encoders."""
    if "network" in changes:
        changes["enc0_network"] = changes.pop("network")
    return parse(SMALL | changes).hyperparameters


def network_of(hyperparameters: Hyperparameters, *, seed: int = 1) -> Network:
    """Return a network for scoring, with weights so large that an error in any of them is visible."""
    torch.default_generator.manual_seed(seed)  # the CPU generator only: for others, torch records a stack trace
    network = Network(hyperparameters).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.5)
    return network


def weights_of(network: Network) -> dict[str, np.ndarray]:
    """Return the tensors of a network by their names in a model directory."""
    return {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}


def pairs_of(rows: Iterable[tuple[list[int], list[int], float]]) -> Pairs:
    """Return pairs from rows (in0, in1, label)."""
    in0, in1, labels = zip(*rows, strict=True)
    return Pairs(Sequences.from_lists(in0), Sequences.from_lists(in1), np.array(labels, np.float32))


def write_pairs(path: Path, rows: Iterable[tuple[list[int], list[int], float]]) -> Path:
    """Write pairs as a JSON Lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"in0": in0, "in1": in1, "label": label}) for in0, in1, label in rows)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def tokens_of(*lists: list[int]) -> Tokens:
    return Tokens.of(Sequences.from_lists(lists))


def gradients_of(network: Network) -> dict[str, torch.Tensor | None]:
    """The gradient of each parameter; those of tables dense."""
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    for name, module in network.named_modules():
        if isinstance(module, TokenEmbedding) and (grad := row_grad(module.weight)):
            gradients[f"{name}.weight"] = grad.to_dense(module.weight)
    return gradients


class StopAfter(Stop):
    """A stop request after a number of batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.left = batches

    def __call__(self) -> bool:
        if not self.left:
            self.request()
        self.left -= 1
        return super().__call__()
