"""Calibrate the probabilities of labels on the validation channel."""

from __future__ import annotations

from copy import copy
from itertools import islice
from typing import Final

import numpy as np
import torch

from object2vec.data.batches import Batches
from object2vec.model.network import Network
from object2vec.retrieval.label_probabilities import LabelProbabilities, group_labels, has_labels
from object2vec.schema.schema import Schema
from object2vec.training.checks import Job
from object2vec.training.objective import forward_batch

#: Pairs that are scored: many more than three numbers need.
MAX_PAIRS: Final = 20_000
#: Scores of these pairs: Newton's method takes several times their memory.
MAX_SCORES: Final = 10**7


@torch.inference_mode()
def calibrate(job: Job, network: Network, validation: Batches | None) -> LabelProbabilities | None:
    """Return the calibration of a network whose schema has a label of single objects, as for texts and their classes.

    Return None for another model, and without validation pairs.
    """
    if "schema" not in job.channels or not validation or job.hyperparameters.regression or validation.sampler:
        return None
    label = Schema.load(job.channels["schema"]).label_of_objects
    if not label:
        return None
    whole = copy(validation)
    whole.first_batch, whole.stride = 0, 1  # an object may have labels in batches of other ranks
    network.eval()
    most = min(MAX_PAIRS, max(1, MAX_SCORES // job.hyperparameters.scores))
    batches = islice(whole.in_order(), -(-most // whole.size))
    scores = torch.cat([network.scores(forward_batch(network, batch)[0]) for batch in batches]).cpu().numpy()
    if whole.classes is not None:
        return LabelProbabilities.fit(
            scores, has_labels(whole.classes.slice(0, len(scores)), scores.shape[1]), exclusive=False
        )
    objects, labels = whole.inverse[0][: len(scores)], whole.labels[: len(scores)].astype(np.int64)
    first, has_label = group_labels(objects.astype(np.int64), labels, scores.shape[1], exclusive=label.exclusive)
    return LabelProbabilities.fit(scores[first], has_label, exclusive=label.exclusive)
