"""Incremental training: load the weights of an earlier model, if its configuration fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from object2vec import artifact
from object2vec.archive import extracted, find_model
from object2vec.errors import ArtifactError
from object2vec.hyperparameters import Hyperparameters, Parsed, typed

if TYPE_CHECKING:
    from object2vec.model.network import Network


def check_model(path: Path, configuration: Parsed) -> None:
    """Check that training can start from the model at `path`, without torch; an archive is only looked for.

    Raises:
        ArtifactError: see `load_initial_weights` and `channel_error`.
    """
    try:
        model = find_model(path)
        if model.is_dir():
            _check_differences(artifact.check_model(model), configuration.hyperparameters)
    except ArtifactError as error:
        raise channel_error(error, configuration) from error


def channel_error(error: ArtifactError, configuration: Parsed) -> ArtifactError:
    """Return an error as one of the channel `model`; it counts encoders as the user does."""
    return ArtifactError(f"channel model: {typed(str(error), configuration.given)}")


def load_initial_weights(path: Path, network: Network, hyperparameters: Hyperparameters) -> int:
    """Load the weights of the model at `path` into a network; rows of new tokens keep their values.

    Returns the number of epochs for which they were trained.

    Raises:
        ArtifactError: there is no model, or its hyperparameters do not fit; the message lists all of them.
    """
    import torch

    bytes_ = sum(4 * parameter.numel() for parameter in network.parameters())
    with extracted(path, bytes_) as directory:
        theirs, model = artifact.load(directory)
        _check_differences(theirs, hyperparameters)
        weights = dict(model.named_parameters())
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter[: len(weights[name])] = weights[name]
        return artifact.read_epochs(directory)


def _check_differences(theirs: Hyperparameters, ours: Hyperparameters) -> None:
    if faults := incompatible_settings(theirs, ours):
        wanted = "wanted the same, or a vocabulary that grows"
        raise ArtifactError(f"the model to go on from does not fit: {'; '.join(faults)}, {wanted}")


def incompatible_settings(theirs: Hyperparameters, ours: Hyperparameters) -> list[str]:
    """Return the hyperparameters of a model that do not fit a configuration, one sentence each.

    A vocabulary may grow. Hyperparameters of the training, such as the optimizer, may differ.
    """
    pairs: dict[str, tuple[object, object]] = {}
    for side, (one, other) in enumerate(zip(theirs.encoders, ours.encoders, strict=True)):
        names = ["network", "token_embedding_dim", "layers"]
        names += ["cnn_filter_width"] if one.network == other.network == "hcnn" else []
        pairs |= {f"enc{side}_{name}": (getattr(one, name), getattr(other, name)) for name in names}
    names = ["comparator_list", "tied_token_embedding_weight", "tied_encoder_weight", "mlp_layers", "output_layer"]
    names.append("mark_common_tokens")
    pooled = any(e.network == "pooled_embedding" for e in (*theirs.encoders, *ours.encoders))
    names += ["token_pooling", "pooled_projection"] if pooled else []
    names += ["enc_dim"] if any(h.has_enc_dim(side) for h in (theirs, ours) for side in (0, 1)) else []
    names += ["mlp_dim", "mlp_activation"] if theirs.mlp_layers or ours.mlp_layers else []
    names += [] if theirs.regression and ours.regression else ["num_classes"]
    pairs |= {name: (getattr(theirs, name), getattr(ours, name)) for name in names}
    faults = [
        f"{name} is {_text(there)} there and {_text(here)} here"
        for name, (there, here) in pairs.items()
        if there != here
    ]
    for side, (one, other) in enumerate(zip(theirs.encoders, ours.encoders, strict=True)):
        if one.vocab_size > other.vocab_size:
            faults.append(f"enc{side}_vocab_size is {one.vocab_size} there and less here, {other.vocab_size}")
        elif ours.mark_common_tokens and one.vocab_size < other.vocab_size:
            fault = f"enc{side}_vocab_size is {one.vocab_size} there and {other.vocab_size} here"
            faults.append(f"{fault}, and cannot grow with mark_common_tokens")
    return faults


def _text(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
