"""Ranks that train together, as real processes over gloo, take the steps of one process; none waits forever."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from object2vec.data.batches import Batch
from object2vec.errors import AlgorithmError
from object2vec.training.console import ConsoleReport
from object2vec.training.distributed import SINGLE_PROCESS, Group, RankConfig, connect_ranks
from object2vec.training.gradient_sync import NO_PAIRS, GradientSync
from object2vec.training.objective import Metrics, Objective
from object2vec.training.step import backward
from object2vec.training.trainer import Trainer, training_batches
from ranks import (
    SHARDS,
    STOPPING,
    TRAININGS,
    Ranks,
    fail,
    free_port,
    lose_rank_0,
    lose_rank_1,
    on_one_process,
    save_slowly,
    settings,
    shard,
    stop_by_metric,
    stop_by_metrics,
    train_all,
)
from small import configured, gradients_of, network_of


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return a function of the number of ranks: the folder with the results of all their trainings."""

    @cache
    def train(size: int) -> Path:
        folder = tmp_path_factory.mktemp("ranks")
        with Ranks(train_all, folder, size=size) as ranks:
            for rank in range(size):
                assert ranks.ends(rank) == (0, "")
        return folder

    return train


def slow_with(size: int) -> list[pytest.MarkDecorator]:
    """Mark a test as slow if it has more than two ranks."""
    return [pytest.mark.slow] * (size > 2)


@pytest.mark.parametrize(
    ("name", "shards"),
    [
        pytest.param(name, shards, marks=slow_with(len(SHARDS[shards])), id=f"{name}-{shards}")
        for name, shards in TRAININGS
    ],
)
def test_ranks_take_the_steps_of_one_process(results: Callable[[int], Path], name: str, shards: str) -> None:
    """After two epochs, weights and losses are those of one process with the ranks' batches together.

    This holds for any division of the data. All ranks have the same bits, though they began with different weights.
    """
    wanted, size = on_one_process(name, shards), len(SHARDS[shards])
    first, *others = [np.load(results(size) / f"{name}-{shards}-{rank}.npz") for rank in range(size)]
    for key, value in wanted.items():
        assert np.abs(first[key] - value).max() < 1e-5, key
        assert all(np.array_equal(first[key], other[key]) for other in others), key


@pytest.mark.parametrize("size", [pytest.param(size, marks=slow_with(size)) for size in (2, 3)])
def test_stop_request_of_one_rank_stops_all_in_the_same_step(results: Callable[[int], Path], size: int) -> None:
    """The second rank requests a stop at its fifth check: all end with that step, and check once more."""
    assert [(results(size) / f"stopped-{rank}").read_text() for rank in range(size)] == ["6"] * size


@pytest.fixture(scope="module")
def stopping(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return for each of two ranks when training stops by each metric."""
    folder = tmp_path_factory.mktemp("stopping")
    with Ranks(stop_by_metrics, folder) as ranks:
        assert [ranks.ends(rank) for rank in range(2)] == [(0, "")] * 2
    return [json.loads((folder / f"stopping-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("metric", STOPPING)
def test_metric_of_early_stopping_is_that_of_one_process_on_all_ranks(
    stopping: list[dict[str, Any]], metric: str
) -> None:
    """Ranks that validate a share each have the same values, last epoch and best epoch."""
    first, second = (found[metric] for found in stopping)
    wanted = stop_by_metric(metric)
    assert first == second
    assert first["values"] == pytest.approx(wanted["values"])
    assert (first["epochs"], first["best"]) == (wanted["epochs"], wanted["best"])
    assert wanted["epochs"] < 8, "training did not stop early"
    assert len(set(wanted["values"])) > 1


@pytest.mark.slow
@pytest.mark.parametrize(("work", "silent"), [(lose_rank_1, 1), (lose_rank_0, 0)], ids=["1", "0"])
def test_silent_rank_ends_the_others_after_the_limit(
    tmp_path: Path, work: Callable[[Group, Path], None], silent: int
) -> None:
    """After the limit, the error names the silent rank, even if it is rank 0, through which ranks connect."""
    with Ranks(work, tmp_path, limit=10) as ranks:
        code, said = ranks.ends(1 - silent, timeout=120)
    assert code == 3, said
    sentence = said.splitlines()[-1]  # torch may warn before
    assert sentence.startswith(f"algo-{silent + 1} has ended, or did not answer within 10 s: the job ends (")


def test_other_ranks_report_the_error_of_a_failed_rank(tmp_path: Path) -> None:
    """The other ranks end with its message at once, without waiting for the limit."""
    with Ranks(fail, tmp_path, size=3, limit=600) as ranks:
        ended = [ranks.ends(rank) for rank in range(3)]
    heard = (3, "algo-2 failed with AlgorithmError: the sky fell")
    assert ended == [heard, (3, "the sky fell"), heard]


def test_no_rank_ends_before_the_model_is_written(tmp_path: Path) -> None:
    """The second rank waits for the model, because the platform may stop all hosts when the first one ends."""
    with Ranks(save_slowly, tmp_path) as ranks:
        assert [ranks.ends(rank)[0] for rank in (0, 1)] == [0, 0], ranks.ends(1)
    assert [(tmp_path / f"saved-{rank}").read_text() for rank in (0, 1)] == ["True", "True"]


#: A process that has not yet imported what torch needs for an optimizer; the ranks of other tests have.
LEAVE = """
import sys
from datetime import timedelta
from pathlib import Path
import torch
from object2vec.training.distributed import RankConfig, connect_ranks

place = RankConfig(names=["algo-1"], rank=0, address="127.0.0.1", port=int(sys.argv[1]), limit=timedelta(seconds=30))
def threads():
    return [name for path in Path("/proc/self/task").glob("*/comm") if "gloo" in (name := path.read_text())]
with connect_ranks(place) as group:
    torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])
    group.barrier()
    print(bool(threads()))
print(bool(threads()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for a process's threads")
def test_group_leaves_no_thread() -> None:
    """A thread of torch that is left when Python ends can abort the process after a successful job."""
    output = subprocess.check_output([sys.executable, "-c", LEAVE, str(free_port())], text=True)
    assert output.split() == ["True", "False"]


def test_missing_rank_is_an_error_after_the_limit(tmp_path: Path) -> None:
    """The error names the missing rank and the address where all ranks connect."""
    place = RankConfig(
        names=("here", "gone"), rank=0, address="127.0.0.1", port=free_port(), limit=timedelta(seconds=1)
    )
    sentence = f"here, gone did not all come to 127.0.0.1:{place.port} within 1 s (gone did not)"
    with pytest.raises(AlgorithmError, match=re.escape(sentence)), connect_ranks(place):
        pass


def test_group_of_one_process_changes_nothing() -> None:
    """Each method returns its argument, and each batch is followed by a check for a stop."""
    group = SINGLE_PROCESS
    assert (group.rank, group.size, group.is_main, group.shard()) == (
        0,
        1,
        True,
        (0, 1),
    )
    assert group.sum([1.5, 2]) == [1.5, 2]
    assert group.any_rank(True)
    assert not group.any_rank(False)
    tensor = torch.ones(2)
    group.all_reduce(tensor)
    group.all_gather_into([tensor])
    assert torch.equal(tensor, torch.ones(2))
    assert group.all_gather([1.5, 2]) == [[1.5, 2]]
    assert group.broadcast_text("word") == "word"
    network = network_of(configured())
    before, state = network.head.output.weight.clone(), torch.get_rng_state()
    group.broadcast_weights(network)
    assert torch.equal(network.head.output.weight, before)
    assert torch.equal(torch.get_rng_state(), state)
    hyperparameters = settings("pooled", size=8)
    own = list(training_batches(shard("pooled", 0, "all"), hyperparameters).epoch(0))
    report = ConsoleReport(epochs=1, model_dir=Path(), quiet=True)
    made = Trainer(network_of(hyperparameters), hyperparameters, report)
    assert len(list(made._steps(0, iter(own), lambda: False))) == len(own) == 8
    assert not list(made._steps(0, iter(own), lambda: True))


def test_ranks_agree_on_the_next_step() -> None:
    """Losses, pairs and weights are added, one rank's wish is enough, and row counts are those of each rank."""
    group = Group()
    group.all_gather = lambda numbers: [list(numbers), [0.5, 3.0, 1.5, 1.0, 0.0, 7.0, 9.0]]  # type: ignore[method-assign]
    sync = GradientSync(group, network_of(configured()))
    agreed = sync.agree(pairs=4, weight=2.0, stop=False, checkpoint=True, loss=0.25, row_counts=[5, 6])
    assert agreed == (0.75, 7, 3.5, True, True, [[5, 6], [7, 9]])


@pytest.mark.parametrize("network", ["pooled_embedding", "hcnn", "bilstm"])
@pytest.mark.parametrize("width", [1, 3, 9])
def test_batch_without_pairs_has_zero_loss_and_gradients(network: str, width: int) -> None:
    """Every encoder takes a batch without pairs; metrics do not change."""
    made = network_of(configured(network=network, enc0_cnn_filter_width=width)).train()
    objective = Objective(regression=False)
    loss, correct = backward(made, objective, NO_PAIRS)
    assert loss.item() == 0
    assert all(grad is not None and not grad.any() for grad in gradients_of(made).values())
    metrics = Metrics(objective)
    metrics.add(loss.item(), len(NO_PAIRS), correct)
    assert (metrics.rows, metrics.batches) == (0, 0)


@pytest.mark.parametrize("changes", [{}, {"bucket_width": 2}, {"negative_sampling_rate": 3}])
def test_shares_of_ranks_partition_the_batches(changes: dict[str, object]) -> None:
    """Each batch of one process is in the share of exactly one of three ranks."""
    hyperparameters = configured(mini_batch_size=8, **changes)
    pairs = shard("pooled", 0, "all")
    whole = [contents(batch) for batch in training_batches(pairs, hyperparameters).epoch(1)]
    parts = [
        [contents(batch) for batch in training_batches(pairs, hyperparameters, (rank, 3)).epoch(1)] for rank in range(3)
    ]
    assert [parts[number % 3][number // 3] for number in range(len(whole))] == whole
    assert sum(map(len, parts)) == len(whole)


def contents(batch: Batch) -> tuple[list[int], list[float]]:
    return batch.objects[0].values.tolist(), batch.labels.tolist()
