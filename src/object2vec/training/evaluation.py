"""Score a network on labelled pairs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

import torch

from object2vec.data.batches import Batches
from object2vec.data.sequences import Pairs
from object2vec.hyperparameters import Hyperparameters
from object2vec.model.network import Network
from object2vec.training.distributed import SINGLE_PROCESS, Group
from object2vec.training.objective import Metrics, Objective, forward_batch

#: Pairs, tokens and scores that a scoring batch has at most. The metrics do not depend on them. A job with long
#: sequences has memory for small batches only.
MAX_SCORING_PAIRS = 512
MAX_SCORING_TOKENS = 32_768
MAX_SCORES = 2**22


def never() -> bool:
    return False


@torch.inference_mode()
def evaluate(
    network: Network,
    pairs: Batches,
    objective: Objective,
    group: Group = SINGLE_PROCESS,
    stop: Callable[[], bool] = never,
) -> Metrics:
    """Return the metrics of the network on the pairs of all ranks, each counted once; on `stop`, on a part of them."""
    network.eval()
    metrics = Metrics(objective)
    # A file's order may put the positives of an in0 together, so that a batch has few candidates for it.
    batches = pairs.epoch(0) if objective.ranking else pairs.in_order()
    for batch in takewhile(lambda _: not stop(), batches):
        loss, correct = objective.measure(network, batch)
        metrics.add(loss.item(), len(batch), correct, batch.weight)
    return metrics.of_all(group)


@torch.inference_mode()
def largest_output(network: Network, pairs: Batches) -> float:
    """Return the largest |output| of a network for this rank's pairs; NaN if there is one."""
    ends = [torch.aminmax(forward_batch(network, batch)[0]) for batch in pairs.in_order() if len(batch)]
    return float(torch.tensor([[-low, high] for low, high in ends]).max()) if ends else 0.0


def scoring_batches(
    pairs: Pairs, hyperparameters: Hyperparameters, share: tuple[int, int] = (0, 1), *, train: Pairs | None = None
) -> Batches:
    """Return batches of pairs for scoring; with `train`, each positive gets negatives that `train` does not have."""
    longest = max(1, *(side.max_length for side in pairs.sides))
    most = min(MAX_SCORING_PAIRS, MAX_SCORING_TOKENS // longest, MAX_SCORES // hyperparameters.scores)
    size = max(most, hyperparameters.mini_batch_size)
    if hyperparameters.ranks:  # the loss depends on the number of candidates
        size = hyperparameters.mini_batch_size
    return Batches(
        pairs,
        size=size,
        negatives=hyperparameters.negative_sampling_rate if train is not None else 0,
        uniform_negatives=hyperparameters.negative_sampling_distribution == "uniform",
        seed=hyperparameters.seed,
        share=share,
        known=train,
        sampled_candidates=hyperparameters.sampled_candidates if hyperparameters.ranks else None,
    )
