"""Read the channels of a training job as batches of pairs."""

from __future__ import annotations

import logging

import numpy as np

from object2vec.data.batches import Batches
from object2vec.data.jsonlines import read_channel
from object2vec.data.media_types import JSON_LINES, canonical, media_type
from object2vec.data.sequences import Pairs
from object2vec.errors import DataError
from object2vec.hyperparameters.table import RANKING_METRICS
from object2vec.training.checkpoints import Checkpoints
from object2vec.training.checks import Job
from object2vec.training.distributed import Group
from object2vec.training.evaluation import scoring_batches
from object2vec.training.ranking_metrics import RankingMetrics
from object2vec.training.trainer import training_batches

logger = logging.getLogger(__name__)


def read_channels(
    job: Job, group: Group, checkpoints: Checkpoints | None
) -> tuple[Batches, Batches | None, Batches | None, RankingMetrics | None]:
    """Return the batches of the train, validation and test channels; None for a channel that is not given.

    The last value measures the ranking metric of early stopping, if it is one.
    """
    ranking = None
    pairs = _read_pairs(job, "train", group, checkpoints)
    share = group.shard(sharded="train" in job.sharded)
    train = training_batches(pairs, job.hyperparameters, share, processes=group.ranks_per_host)
    rate = job.hyperparameters.negative_sampling_rate
    if not rate and not job.hyperparameters.ranks and not job.hyperparameters.sigmoid:
        _warn_of_equal_labels(pairs, group)
    logger.info(f"Negative sampling enabled with sampling rate {rate}" if rate else "Negative sampling not used")

    def read_scored(name: str) -> Batches | None:
        if name not in job.channels:
            return None
        given = _read_pairs(job, name, group, checkpoints)
        if name == "validation" and job.hyperparameters.early_stopping_metric in RANKING_METRICS:
            nonlocal ranking
            of_ranks = group.shard(sharded=name in job.sharded)
            ranking = RankingMetrics(pairs, given, seed=job.hyperparameters.seed, share=of_ranks)
        known = pairs if rate and _needs_negatives(job, name, given, group) else None
        return scoring_batches(given, job.hyperparameters, group.shard(sharded=name in job.sharded), train=known)

    return train, read_scored("validation"), read_scored("test"), ranking


def _warn_of_equal_labels(train: Pairs, group: Group) -> None:
    """Warn if all pairs of training have the same label, from which a model learns nothing."""
    ends = group.all_gather([float(train.labels.min(initial=np.inf)), float(train.labels.max(initial=-np.inf))])
    low, high = min(ends)[0], max(high for _, high in ends)
    if low == high and group.is_main:
        logger.warning(f"Channel train: all pairs have the label {low:g}, wanted at least two different labels")


def _needs_negatives(job: Job, name: str, pairs: Pairs, group: Group) -> bool:
    """Return whether negatives are drawn for a validation or test channel; log what its metrics cover."""
    rows, positives = group.sum([len(pairs), int(np.count_nonzero(pairs.labels >= 1))])
    if positives < rows:
        return False
    what, rate = f"Channel {name} holds positives only", job.hyperparameters.negative_sampling_rate
    if job.hyperparameters.validation_negative_sampling == "auto":
        logger.info(f"{what}: {rate} negatives are drawn for each positive, the same ones in every epoch")
        return True
    if group.is_main:
        advice = "set validation_negative_sampling=auto to draw negatives for it too"
        logger.warning(f"{what}, so its metrics say nothing about negatives: {advice}")
    return False


def _read_pairs(job: Job, name: str, group: Group, checkpoints: Checkpoints | None) -> Pairs:
    content_type = job.content_types.get(name, JSON_LINES)
    if canonical(media_type(content_type)) != JSON_LINES:
        sentence = f"No iterator has been registered for ContentType ('{content_type}', '1.0')"
        raise DataError(f"{sentence}: channel {name} wants {JSON_LINES}, or no ContentType")
    logger.info(f"Creating data iterator for {job.channels[name]}")
    hosts = group.size // group.ranks_per_host
    parted = hosts > 1 and name in job.sharded
    pairs = read_channel(name, job.channels[name], job.hyperparameters, empty=parted)
    own_weight = len(pairs) if pairs.weights is None else pairs.weights.sum(dtype=np.float64)
    records, weight = group.sum([len(pairs), own_weight])
    records = int(records) // group.ranks_per_host
    if parted and not records:
        raise DataError(f"channel {name}: not able to find any data/records on any of the {hosts} hosts")
    if not parted and records != len(pairs) * hosts:
        what = f"channel {name} has {len(pairs)} of the {records} records that the {hosts} hosts have together"
        raise DataError(f"{what}, wanted the same on each, or S3DistributionType ShardedByS3Key")
    if job.hyperparameters.ranks:
        _check_negatives(name, pairs)
    logger.info(f"Source words: {len(pairs.in0.values)}")
    logger.info(f"Target words: {len(pairs.in1.values)}")
    logger.info(f"Total: {len(pairs)} samples")
    for side, sequences in enumerate(pairs.sides):
        pooled = job.hyperparameters.encoders[side].network == "pooled_embedding"
        if pooled and (count := sequences.without_tokens):
            logger.warning(f"{count} in{side} of channel {name} hold no token but 0: they are encoded as zeros")
    if pairs.weights is not None:
        logger.info(f"Records of channel {name} have weights: its metrics are weighted means")
    if records and not weight:
        raise DataError(f"channel {name}: all records have the weight 0, wanted one that is greater")
    if checkpoints and name != "test":
        of_ranks = group.all_gather([len(pairs), pairs.checksum])
        what = ", ".join(f"{count:.0f} pairs of checksum {int(sum_):08x}" for count, sum_ in of_ranks)
        checkpoints.check_fingerprint({f"channel {name}": what})
    return pairs


def _check_negatives(name: str, pairs: Pairs) -> None:
    """Check that each pair of a label below 1 has the in0 of the pair before it, so that it is a negative of that.

    Raises:
        DataError: one has not.
    """
    rows = np.flatnonzero(pairs.labels < 1)
    _, number = pairs.in0.take(np.concatenate([rows, np.maximum(rows - 1, 0)])).unique()
    differs = (number[: len(rows)] != number[len(rows) :]) | (rows == 0)
    if differs.any():
        row = int(rows[differs][0])
        got = f"pair {row + 1} has the label {pairs.labels[row]:g}"
        wanted = "wanted 1 with a ranking loss, or the in0 of the pair before it, whose negative it then is"
        raise DataError(f"channel {name}: {got}, {wanted}")
