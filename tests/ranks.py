"""Ranks of a group as real processes on the loopback, and trainings for tests of them."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from itertools import zip_longest
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch

from object2vec.data.batches import Batch, Batches
from object2vec.data.sequences import Pairs, Sequences
from object2vec.errors import AlgorithmError
from object2vec.hyperparameters import Hyperparameters, parse
from object2vec.sagemaker import training
from object2vec.sagemaker.environment import Directories, TrainingEnvironment
from object2vec.serving.predictor import Predictor
from object2vec.training import checkpoints
from object2vec.training.console import ConsoleReport
from object2vec.training.distributed import SINGLE_PROCESS, Group, RankConfig, connect_ranks
from object2vec.training.evaluation import scoring_batches
from object2vec.training.job import Job, run
from object2vec.training.ranking_metrics import RANKING_METRICS, RankingMetrics
from object2vec.training.report import log_as
from object2vec.training.trainer import Trainer, training_batches
from servers import free_port
from small import SMALL, configured, network_of, pairs_of, weights_of, write_pairs

#: Networks and storage types, which determine how gradients are exchanged.
CONFIGURATIONS: Final[dict[str, dict[str, object]]] = {
    "pooled": {},
    "regression": {"output_layer": "mean_squared_error", "optimizer": "adagrad"},
    "pooled sparse": {"token_embedding_storage_type": "row_sparse", "tied_token_embedding_weight": True},
    "sparse sgd": {"token_embedding_storage_type": "row_sparse", "optimizer": "sgd", "weight_decay": 0.01},
    "hcnn": {"network": "hcnn"},
    "tied encoder": {"network": "bilstm", "tied_encoder_weight": True, "optimizer": "sgd"},
    "projection": {"pooled_projection": "tanh", "token_pooling": "sum", "comparator_list": "cosine", "mlp_layers": 0},
    "common tokens": {"tied_encoder_weight": True, "mark_common_tokens": True},
    "prefixes": {"matryoshka_dims": "2", "token_embedding_storage_type": "row_sparse", "mlp_layers": 0},
    "bilstm sparse": {"network": "bilstm", "token_embedding_storage_type": "row_sparse"},
    "weighted": {},
    "weighted sparse": {"token_embedding_storage_type": "row_sparse", "negative_sampling_rate": 1},
    "sigmoid": {"output_layer": "sigmoid", "num_classes": 5},
    "one side": {"enc1_network": "none", "token_embedding_storage_type": "row_sparse"},
    "negatives": {"negative_sampling_rate": 2, "token_embedding_storage_type": "row_sparse"},
    "ranking": {
        **{"ranking_loss": "in_batch_softmax", "output_layer": "mean_squared_error", "comparator_list": "hadamard"},
        **{"mlp_layers": 0, "token_embedding_storage_type": "row_sparse", "sampled_candidates": 2},
    },
    "scheduled": {"learning_rate_schedule": "linear", "learning_rate_warmup": 0.3},
    "clipped": {"gradient_clip_norm": 0.1},
    "clipped sparse": {"gradient_clip_norm": 0.1, "token_embedding_storage_type": "row_sparse"},
    "frozen": {
        "enc0_pretrained_embedding_file": "rows.txt",
        "enc0_vocab_file": "words.json",
        "tied_token_embedding_weight": True,
    },
    "pretrained sparse": {
        **{"enc0_pretrained_embedding_file": "rows.npy", "enc0_freeze_pretrained_embedding": False},
        **{"pretrained_learning_rate_factor": 0.3, "token_embedding_storage_type": "row_sparse"},
    },
}
#: The rows of each rank; with all rows, the ranks share them.
ALL: Final = slice(None)
SHARDS: Final[dict[str, tuple[slice, ...]]] = {
    "all": (ALL, ALL),
    "all of three": (ALL, ALL, ALL),
    "the same twice": (ALL, ALL),
    "halves": (slice(30), slice(30, 60)),
    "unequal": (slice(49), slice(49, 60)),
    "first": (slice(60), slice(0)),
    "second": (slice(0), slice(60)),
    "three": (slice(31), slice(0), slice(31, 60)),
}
#: Each configuration, and those with different exchanges also with the shards that differ most.
TRAININGS: Final = [
    *((name, "all") for name in CONFIGURATIONS if name != "ranking"),
    ("ranking", "the same twice"),  # the candidates of a rank are those of its own batch
    *(("pooled sparse", shards) for shards in SHARDS if shards != "all"),
    *((name, shards) for name in ("pooled", "bilstm sparse", "weighted") for shards in ("unequal", "three")),
]


def rows_of(count: int) -> list[tuple[list[int], list[int], float]]:
    """Return rows of up to five tokens a side, some of them empty."""
    draw = np.random.default_rng(0)
    sides = [[draw.integers(0, 9, size=draw.integers(0, 6)).tolist() for _ in range(count)] for _ in range(2)]
    return [(in0, in1, float(draw.integers(2))) for in0, in1 in zip(*sides, strict=True)]


def shard(name: str, rank: int, shards: str) -> Pairs:
    """Return the rows of a rank; in a weighted configuration with weights, and for sigmoid with 0 to 4 classes."""
    own = SHARDS[shards][rank]
    rows = rows_of(60)[own]
    weights = np.arange(60, dtype=np.float32)[own] % 4 if name.startswith("weighted") else None
    pairs = (
        pairs_of(rows) if rows else Pairs(Sequences.from_lists([]), Sequences.from_lists([]), np.empty(0, np.float32))
    )
    classes = None
    if name == "sigmoid":
        classes = Sequences.from_lists([list(range(row % 3, row % 5)) for row in range(60)[own]])
    return replace(pairs, weights=weights, classes=classes)


def settings(name: str, *, size: int) -> Hyperparameters:
    return configured(**CONFIGURATIONS[name], mini_batch_size=size, epochs=2, learning_rate=0.01)


def trained(
    name: str, train: Batches | CombinedBatches, validation: Batches, group: Group = SINGLE_PROCESS, *, seed: int = 1
) -> dict[str, np.ndarray]:
    """Train a network for two epochs; return its weights and the losses."""
    hyperparameters = settings(name, size=train.size)
    network = network_of(hyperparameters, seed=seed)
    group.broadcast_weights(network)
    trainer = Trainer(network, hyperparameters, ConsoleReport(epochs=2, model_dir=Path(), quiet=True), group)
    trainer.fit(train, validation, lambda: False)  # type: ignore[arg-type]
    return weights_of(network) | {"losses": np.array(trainer.early_stopping.losses)}


def on_a_rank(name: str, shards: str, group: Group, *, size: int = 8) -> dict[str, np.ndarray]:
    """Train as one rank; ranks other than 0 start with different weights, which must not be used."""
    hyperparameters, pairs = settings(name, size=size), shard(name, group.rank, shards)
    share = group.shard() if shards.startswith("all") else (0, 1)
    train = training_batches(pairs, hyperparameters, share)
    return trained(name, train, scoring_batches(pairs, hyperparameters, share), group, seed=1 + group.rank)


def on_one_process(name: str, shards: str, *, size: int = 8) -> dict[str, np.ndarray]:
    """Run the same training in one process, with the batches of all ranks combined."""
    everything, ranks = shard(name, 0, "all"), range(len(SHARDS[shards]))
    if shards.startswith("all"):
        hyperparameters = settings(name, size=len(ranks) * size)
        train: Batches | CombinedBatches = training_batches(everything, hyperparameters)
    elif name == "ranking":
        hyperparameters = settings(name, size=size)
        train = training_batches(everything, hyperparameters)
    else:
        hyperparameters = settings(name, size=size)
        train = CombinedBatches([training_batches(shard(name, rank, shards), hyperparameters) for rank in ranks])
    return trained(name, train, scoring_batches(everything, hyperparameters))


class CombinedBatches:
    """Batches of several ranks, combined."""

    def __init__(self, ranks: list[Batches]) -> None:
        self.ranks = ranks
        self.size = ranks[0].size
        self.examples = sum(rank.examples for rank in ranks)
        self.labels = np.concatenate([rank.labels for rank in ranks])
        weights = [rank.weights for rank in ranks if rank.weights is not None]
        self.weights = np.concatenate(weights) if weights else None
        classes = [rank.classes for rank in ranks if rank.classes is not None]
        self.classes = Sequences.concatenate(classes) if classes else None
        self.sampler, self.stride = None, 1

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        for batches in zip_longest(*(rank.epoch(number, skip) for rank in self.ranks)):
            given = [batch for batch in batches if batch]
            objects, index = [], []
            for side in (0, 1):
                starts = np.cumsum([0, *(len(batch.objects[side]) for batch in given)])
                objects.append(
                    Sequences.from_lists([tokens for batch in given for tokens in lists(batch.objects[side])])
                )
                index.append(np.concatenate([b.index[side] + start for b, start in zip(given, starts, strict=False)]))
            labels = np.concatenate([batch.labels for batch in given])
            weights = classes = None
            if given[0].weights is not None:
                weights = np.concatenate([batch.weights for batch in given])
            if given[0].classes is not None:
                classes = Sequences.concatenate([batch.classes for batch in given])
            yield Batch((objects[0], objects[1]), (index[0], index[1]), labels, weights=weights, classes=classes)


def lists(sequences: Sequences) -> list[list[int]]:
    bounds = zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    return [sequences.values[start:end].tolist() for start, end in bounds]


# ----------------------------------------------------------------------------------------------------------------------
# Work of a rank.
# ----------------------------------------------------------------------------------------------------------------------


def train_all(group: Group, folder: Path) -> None:
    """Run all `TRAININGS` with this number of ranks."""
    for name, shards in TRAININGS:
        if len(SHARDS[shards]) == group.size:
            np.savez(folder / f"{name}-{shards}-{group.rank}.npz", **on_a_rank(name, shards, group))
    (folder / f"stopped-{group.rank}").write_text(str(count_stop_checks(group)))


def count_stop_checks(group: Group) -> int:
    """Return how often a rank checks for a stop, if rank 1 requests it at its fifth check."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return group.rank == 1 and asked >= 5

    hyperparameters = settings("pooled", size=4)
    trainer = Trainer(
        network_of(hyperparameters), hyperparameters, ConsoleReport(epochs=2, model_dir=Path(), quiet=True), group
    )
    trainer.fit(training_batches(shard("pooled", 0, "all"), hyperparameters, group.shard()), None, stop)
    return asked


def stop_by_metrics(group: Group, folder: Path) -> None:
    """Write when trainings stop by each of `STOPPING`, with a share of the pairs for each rank."""
    found = {metric: stop_by_metric(metric, group) for metric in STOPPING}
    (folder / f"stopping-{group.rank}.json").write_text(json.dumps(found))


#: Metrics of early stopping.
STOPPING: Final = ("accuracy", "ndcg@10", "mrr")


def stop_by_metric(metric: str, group: Group = SINGLE_PROCESS) -> dict[str, object]:
    """Return the metric by epoch, the number of epochs and the best one; ranks share the pairs and the batches."""
    hyperparameters = configured(
        early_stopping_metric=metric,
        early_stopping_patience=1,
        epochs=8,
        learning_rate=0.1,
        mini_batch_size=8 // group.size,
    )
    pairs = [pairs_of(([n % 7 + 1], [n * k % 8 + 1], float(n % 3 > 0)) for n in range(24)) for k in (1, 3)]
    share = group.shard()
    trainer = Trainer(
        network_of(hyperparameters),
        hyperparameters,
        ConsoleReport(epochs=8, model_dir=Path(), quiet=True),
        group,
        ranking=RankingMetrics(*pairs, seed=0, share=share) if metric in RANKING_METRICS else None,
    )
    batches = training_batches(pairs[0], hyperparameters, share), scoring_batches(pairs[1], hyperparameters, share)
    trainer.fit(*batches, lambda: False)
    values = [-value for value in trainer.early_stopping.losses]
    return {"values": values, "epochs": trainer.epoch, "best": trainer.best.epoch}


def save_slowly(group: Group, folder: Path) -> None:
    """Run a job whose rank 0 takes a second to write the model; each rank reports whether it exists at the end."""
    if group.is_main:
        logger = logging.getLogger("object2vec")
        logger.setLevel(logging.INFO)
        logger.addHandler(SlowToSave())
    model = folder / "model"
    channels = {"train": write_pairs(folder / f"train-{group.rank}", rows_of(20))}
    run(Job(configuration=parse(SMALL), channels=channels, model_dir=model), group=group)
    (folder / f"saved-{group.rank}").write_text(str((model / "model.safetensors").exists()))


class SlowToSave(logging.Handler):
    """Delay a job at the log line before its model is written."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("Serializing"):
            time.sleep(1)


def lose_rank_0(group: Group, folder: Path) -> None:
    """Suspend rank 0 with its connections open, while rank 1 waits for it."""
    _stand_still(group, 0)


def lose_rank_1(group: Group, folder: Path) -> None:
    """Suspend rank 1, while rank 0 waits for it."""
    _stand_still(group, 1)


def _stand_still(group: Group, rank: int) -> None:
    group.barrier()
    if group.rank == rank:
        os.kill(os.getpid(), signal.SIGSTOP)
    group.barrier()


def fail(group: Group, folder: Path) -> None:
    """Raise an error on rank 1."""
    if group.rank == 1:
        raise AlgorithmError("the sky fell")
    group.barrier()


def run_out_of_memory_on_rank_0(group: Group, folder: Path) -> None:
    """Run a job in which rank 0 has no memory left in the third epoch."""
    _run_out_of_memory(group, folder, 0)


def run_out_of_memory_on_rank_1(group: Group, folder: Path) -> None:
    """Run a job in which rank 1 has no memory left in the third epoch."""
    _run_out_of_memory(group, folder, 1)


def _run_out_of_memory(group: Group, folder: Path, rank: int) -> None:
    if group.rank == rank:

        def fail(trainer: Trainer, epoch: int, batch: int) -> None:
            if epoch == 2:
                raise MemoryError("no room")

        Trainer._seed = fail  # type: ignore[method-assign]  # called before each step
    channels = {"train": write_pairs(folder / f"train-{group.rank}", rows_of(20))}
    run(Job(configuration=parse(SMALL | {"epochs": 5}), channels=channels, model_dir=folder / "model"), group=group)


def diverge_by_a_label_of_rank_1(group: Group, folder: Path) -> None:
    """Run a job on shards; rank 1 has a label whose square exceeds float32."""
    rows = [([n % 8 + 1], [1], 1e25 if group.rank else 1.0) for n in range(20)]
    channels = {"train": write_pairs(folder / f"train-{group.rank}", rows)}
    values = {"output_layer": "mean_squared_error", "mini_batch_size": 32}
    job = Job(configuration=parse(SMALL | values), channels=channels, model_dir=folder / "model", sharded=["train"])
    run(job, group=group)


#: Test channels: the labels of each of two ranks, or the same labels on both.
TEST_SHARES: Final[dict[str, tuple[list[float], list[float]] | list[float]]] = {
    "replicated": [1.0] * 12,
    "sharded": ([1.0] * 8, [1.0] * 4),
    "empty share": ([1.0] * 12, []),
    "empty first share": ([], [1.0] * 12),
    "one negative": ([1.0] * 8, [1.0, 0.0, 1.0, 1.0]),
}


def score_positives(group: Group, folder: Path) -> None:
    """Run a job with negatives for each share of a test channel; the log has the number of scored pairs."""
    log_as("sagemaker")
    train = [([n % 7 + 13], [n % 3 + 1], 1.0) for n in range(24)]
    for share, labels in TEST_SHARES.items():
        own = labels[group.rank] if isinstance(labels, tuple) else labels
        channels = {
            "train": write_pairs(folder / f"train-{group.rank}", train),
            "test": folder / f"{share}-{group.rank}",
        }
        channels["test"].mkdir()
        if own:
            write_pairs(channels["test"] / "part", [([n + 1], [n % 4 + 1], label) for n, label in enumerate(own)])
        values = {
            "epochs": 1,
            "enc0_vocab_size": 20,
            "negative_sampling_rate": 2,
            "validation_negative_sampling": "auto",
        }
        sharded = ["test"] if isinstance(labels, tuple) else []
        run(
            Job(configuration=parse(SMALL | values), channels=channels, model_dir=folder / share, sharded=sharded),
            group=group,
        )


def be_rank(work: Callable[[Group, Path], None], place: RankConfig, folder: Path) -> None:
    try:
        with connect_ranks(place) as group:
            work(group, folder)
    except AlgorithmError as error:
        sys.stderr.write(str(error))
        sys.exit(3)


def write_scores(model: Predictor, pairs: list[tuple[list[int], list[int]]], path: Path) -> None:
    np.save(path, model.score(pairs))


# ----------------------------------------------------------------------------------------------------------------------
# Processes.
# ----------------------------------------------------------------------------------------------------------------------


@cache
def _server() -> ForkServerContext:
    """Return the process that ranks are forked from; it has imported everything they need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ranks", "torch._dynamo"])  # torch imports the latter to create an optimizer
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(entry for entry in sys.path if entry))
        forkserver.ensure_running()
    return context


def start(work: Callable[..., None], *arguments: object, log: Path) -> BaseProcess:
    """Start a process that calls `work(*arguments)` and writes its output to `log`."""
    process = _server().Process(target=_in_a_process, args=(work, arguments, log), daemon=False)
    process.start()
    return process


def _in_a_process(work: Callable[..., None], arguments: tuple[object, ...], log: Path) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    work(*arguments)


def start_host(base: Path, port: int, work: Callable[[], None]) -> BaseProcess:
    """Start a process that does `work` as the host with the tree `base`; its log is there."""
    return start(_as_host, base, port, work, log=base / "log")


def _as_host(base: Path, port: int, work: Callable[[], None]) -> None:
    os.environ |= {
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_TRAINING_MODULE": "object2vec.sagemaker.training:main",
        "MASTER_PORT": str(port),
    }
    os.chdir(base)
    work()


def train_with_many_checkpoints() -> None:
    """Run the image's `train` with the shortest checkpoint interval."""
    checkpoints.INTERVAL_SECONDS, checkpoints.MAX_TIME_SHARE = 0.1, 0.2  # type: ignore[misc]
    training.train()


def train_on_two_devices() -> None:
    """Run the image's `train` with two devices, both the CPU."""
    log_as("sagemaker")
    environment = TrainingEnvironment.read(Directories.from_environment())
    training.run_on(["cpu", "cpu"], environment, parse(environment.hyperparameters))


def train_with_a_device_that_fails() -> None:
    """Run the same, with an error in the second process before it connects."""
    log_as("sagemaker")
    environment = TrainingEnvironment.read(Directories.from_environment())
    training.run_on(["cpu", "nowhere"], environment, parse(environment.hyperparameters))


#: Both are this machine; the first name in order is the first host.
HOSTS = ("127.0.0.1", "localhost")
REPLICATED, SHARDED = "FullyReplicated", "ShardedByS3Key"


class Host:
    """A host: its tree and its process."""

    def __init__(self, base: Path, host: str) -> None:
        self.base, self.name = base, host
        self.config = base / "input" / "config"
        self.config.mkdir(parents=True)
        self.channels: dict[str, dict[str, str]] = {}
        self.process: BaseProcess | None = None

    def channel(self, name: str, rows: list, distribution: str = REPLICATED) -> Host:
        """Add a channel to the host; without rows, it has no file."""
        folder = self.base / "input" / "data" / name
        folder.mkdir(parents=True)
        if rows:
            write_pairs(folder / "part-0.jsonl", rows)
        self.channels[name] = {"TrainingInputMode": "File", "S3DistributionType": distribution}
        return self

    def start(
        self,
        port: int,
        hyperparameters: Mapping[str, object],
        names: Sequence[str] = HOSTS,
        work: Callable[[], None] = training.train,
    ) -> Host:
        self.configure(hyperparameters, names)
        (self.base / "log").write_text("")
        self.process = start_host(self.base, port, work)
        return self

    def configure(self, hyperparameters: Mapping[str, object], names: Sequence[str]) -> None:
        """Write the files of the platform."""
        for name, document in {
            "hyperparameters": hyperparameters,
            "inputdataconfig": self.channels,
            "resourceconfig": {"current_host": self.name, "hosts": names[::-1], "network_interface_name": "no-such"},
        }.items():
            (self.config / f"{name}.json").write_text(json.dumps(document))

    def ends(self, timeout: float = 300) -> int | None:
        """The exit status, once it has ended; none where it has not."""
        self.process.join(timeout)
        return self.process.exitcode

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.join()

    @property
    def output(self) -> str:
        return (self.base / "log").read_text()

    @property
    def failure(self) -> str:
        path = self.base / "output" / "failure"
        return path.read_text() if path.exists() else ""

    @property
    def files(self) -> list[str]:
        """Return the names of the files of its model."""
        return sorted(path.name for path in (self.base / "model").glob("*"))

    def until(self, words: str, timeout: float = 300) -> None:
        end = time.monotonic() + timeout
        while words not in self.output:
            assert time.monotonic() < end, self.output
            assert self.process.is_alive(), self.output
            time.sleep(0.05)


@dataclass(slots=True)
class Ranks:
    """Ranks that do the same work, with `limit` seconds as their time limit."""

    work: Callable[[Group, Path], None]
    folder: Path
    size: int = 2
    limit: float = 30
    processes: list[BaseProcess] = field(default_factory=list)

    def __enter__(self) -> Ranks:
        names, port, limit = [f"algo-{n + 1}" for n in range(self.size)], free_port(), timedelta(seconds=self.limit)
        for rank in range(self.size):
            place = RankConfig(names=names, rank=rank, address="127.0.0.1", port=port, limit=limit)
            self.processes.append(start(be_rank, self.work, place, self.folder, log=self._log(rank)))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    def _log(self, rank: int) -> Path:
        return self.folder / f"log-{self.size}-{rank}"

    def ends(self, rank: int, timeout: float = 300) -> tuple[int | None, str]:
        """A rank's exit status and what it has printed, once it has ended; no status where it has not."""
        self.processes[rank].join(timeout)
        return self.processes[rank].exitcode, self._log(rank).read_text()
