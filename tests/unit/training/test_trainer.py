"""The training loop: what is measured, which epoch is kept, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from object2vec.data.batches import Batch
from object2vec.data.prefetch import prefetch_items
from object2vec.data.sequences import Pairs
from object2vec.errors import AlgorithmError
from object2vec.hyperparameters import Hyperparameters
from object2vec.training.best_model import BestModel
from object2vec.training.checkpoints import Checkpoints
from object2vec.training.distributed import SINGLE_PROCESS
from object2vec.training.evaluation import evaluate, never, scoring_batches
from object2vec.training.initial_bias import start_at_labels
from object2vec.training.objective import Objective
from object2vec.training.report import SageMakerReport, Style, make_report
from object2vec.training.step import PRODUCTS_PER_THREAD
from object2vec.training.trainer import Trainer, training_batches
from small import configured, network_of, pairs_of, weights_of

CLASSES = Objective(regression=False)
#: Users 1 … 8 who like the items of their own parity.
ROWS = [([user], [item], float(user % 2 == item % 2)) for user in range(1, 9) for item in range(1, 9)]
#: The same, the labels of every third turned round, so that learning the others too well makes it worse.
OTHER_ROWS = [(a, b, 1 - label if n % 3 == 0 else label) for n, (a, b, label) in enumerate(ROWS)]


def trainer(hyperparameters: Hyperparameters, *, seed: int = 1) -> Trainer:
    report = SageMakerReport(host="algo-1", epochs=hyperparameters.epochs)
    return Trainer(network_of(hyperparameters, seed=seed), hyperparameters, report)


def fitted(
    hyperparameters: Hyperparameters, train: Pairs | None = None, validation: Pairs | None = None
) -> tuple[Trainer, BestModel]:
    made = trainer(hyperparameters)
    scored = scoring_batches(validation, hyperparameters) if validation else None
    best = made.fit(training_batches(train or pairs_of(ROWS), hyperparameters), scored, never)
    return made, best


def losses(caplog: pytest.LogCaptureFixture, channel: str) -> list[float]:
    """The losses of a channel, epoch by epoch, as printed."""
    loss = f"{channel} cross_entropy <loss>="
    return [float(line.rpartition("=")[2]) for line in caplog.messages if loss in line]


def test_evaluation_counts_each_row_once() -> None:
    """However pairs are cut, the metrics are those of all rows alike, and the rows are counted without fill-up."""
    network = network_of(configured())
    pairs = pairs_of(ROWS)
    found = []
    for size in (1, 7, 512, 10_000):
        batches = scoring_batches(pairs, configured(mini_batch_size=size))
        batches.size = size
        metrics = evaluate(network, batches, CLASSES)
        assert (metrics.rows, metrics.batches) == (len(ROWS), math.ceil(len(ROWS) / size))
        found.append(metrics.values())
    for values in found[1:]:
        assert values == pytest.approx(found[0], abs=1e-6)


@pytest.mark.parametrize(
    ("length", "mini_batch_size", "size"), [(1, 32, 512), (64, 32, 512), (1000, 8, 32), (5000, 8, 8), (1, 2048, 2048)]
)
def test_scoring_needs_no_more_room_than_training(length: int, mini_batch_size: int, size: int) -> None:
    """Pairs are scored 512 at a time, fewer where sequences are long, never fewer than in a batch of training."""
    pairs = pairs_of([([1], [2] * length, 1.0), ([], [], 0.0)])
    assert scoring_batches(pairs, configured(mini_batch_size=mini_batch_size)).size == size


@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
@pytest.mark.parametrize("mlp_layers", [0, 2])
def test_training_with_weights_is_training_with_copies(storage: str, mlp_layers: int) -> None:
    """In batches of all pairs, a weight of n trains and validates as n copies of the pair, also by the fused step."""
    changes = {"mlp_layers": mlp_layers, "token_embedding_storage_type": storage, "learning_rate": 0.05}
    hyperparameters = configured(mini_batch_size=1000, epochs=3, enc0_max_seq_len=1, **changes)
    copies = np.arange(len(ROWS)) % 3
    weighted = replace(pairs_of(ROWS), weights=copies.astype(np.float32))
    copied = pairs_of(ROWS).take(np.repeat(np.arange(len(ROWS)), copies))
    (one, _), (other, _) = (fitted(hyperparameters, pairs, pairs) for pairs in (weighted, copied))
    for channel in ("train", "validation"):
        for ours, theirs in zip(one.history, other.history, strict=True):
            assert ours[channel] == pytest.approx(theirs[channel], abs=1e-5)
    for name, weight in weights_of(other.network).items():
        np.testing.assert_allclose(weights_of(one.network)[name], weight, atol=1e-4, err_msg=name)


def test_evaluation_drops_nothing() -> None:
    """Dropout is off while pairs are scored, also right after a training step."""
    hyperparameters = configured(dropout=0.9)
    network = network_of(hyperparameters).train()
    batches = scoring_batches(pairs_of(ROWS), hyperparameters)
    first, second = (evaluate(network, batches, CLASSES).values() for _ in range(2))
    assert first == second


def test_training_drops_also_after_an_evaluation() -> None:
    """With everything dropped no gradient reaches an embedding, in the epochs after a validation too."""
    hyperparameters = configured(dropout=1.0, epochs=3)
    made = trainer(hyperparameters)
    made.epochs_before = 1  # the output bias does not start at its best value
    scored = scoring_batches(pairs_of(OTHER_ROWS), hyperparameters)
    assert made.fit(training_batches(pairs_of(ROWS), hyperparameters), scored, never).epoch == 2
    assert torch.equal(made.network.enc0.embedding.weight, network_of(hyperparameters).enc0.embedding.weight)
    assert made.network.head.output.bias.grad.any()


@pytest.mark.parametrize("validated", [False, True])
def test_the_network_is_left_with_the_best_epoch(validated: bool, caplog: pytest.LogCaptureFixture) -> None:
    """After training the network is that of the epoch with the least validation loss, not the last one; without a
    validation channel the training loss is watched.
    """
    hyperparameters = configured(learning_rate=0.1, epochs=12, mini_batch_size=16, early_stopping_patience=5)
    validation = pairs_of(OTHER_ROWS) if validated else None
    made, best = fitted(hyperparameters, validation=validation)
    watched = losses(caplog, "validation" if validated else "train")
    assert best.loss == min(watched)
    assert best.epoch == watched.index(min(watched))
    if validation:
        assert best.epoch < len(watched) - 1
        again = evaluate(made.network, scoring_batches(validation, hyperparameters), CLASSES)
        assert again.loss == best.loss


def test_the_average_is_validated_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    """With a decay near 1, one epoch leaves the network with the mean of the weights after each of its steps, and the
    validation loss is that of this mean.
    """
    hyperparameters = configured(ema_decay=0.9999, epochs=1, mini_batch_size=16, learning_rate=0.1)
    validation = pairs_of(OTHER_ROWS)
    made, best = fitted(hyperparameters, validation=validation)
    plain = trainer(configured(epochs=1, mini_batch_size=16, learning_rate=0.1))
    start_at_labels(
        plain.network.output_bias, training_batches(pairs_of(ROWS), hyperparameters), CLASSES, SINGLE_PROCESS
    )
    steps = plain._steps(0, training_batches(pairs_of(ROWS), hyperparameters).epoch(0), never)
    after = [plain.network.head.output.weight.detach().clone() for _ in steps]
    torch.testing.assert_close(made.network.head.output.weight.detach(), torch.stack(after).mean(0))
    assert not torch.allclose(made.network.head.output.weight, after[-1])
    assert losses(caplog, "validation") == [best.loss]
    assert evaluate(made.network, scoring_batches(validation, hyperparameters), CLASSES).loss == best.loss


@pytest.mark.parametrize("optimizer", ["adadelta", "adagrad", "adam", "rmsprop", "sgd"])
def test_training_learns(optimizer: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each optimizer brings the loss of a learnable task down."""
    rows = [(user, item, float(item[0] > 4)) for user, item, _ in ROWS]
    fitted(configured(optimizer=optimizer, learning_rate=0.05, epochs=20, mini_batch_size=8), pairs_of(rows))
    watched = losses(caplog, "train")
    assert watched[-1] < 0.7 * watched[0]


@pytest.mark.parametrize("style", ["sagemaker", "plain"])
def test_a_checkpoint_has_the_totals_of_all_epochs(style: Style, tmp_path: Path) -> None:
    """A resumed job continues the totals and knows the latest reported epoch, in whichever style it prints."""
    hyperparameters = configured(epochs=2, mini_batch_size=8)
    report = make_report(style, host="algo-1", epochs=2, model_dir=tmp_path)
    checkpoints = Checkpoints(tmp_path, SINGLE_PROCESS)
    made = Trainer(network_of(hyperparameters), hyperparameters, report, checkpoints=checkpoints)
    made.fit(training_batches(pairs_of(ROWS), hyperparameters), None, never)
    again = trainer(hyperparameters)
    found = checkpoints.find()
    assert found
    again.load_state_dict(found)
    assert (again.totals, again.reported) == (made.totals, made.reported) == ((2 * len(ROWS), 16), 1)


def test_training_stops_early(caplog: pytest.LogCaptureFixture) -> None:
    """With steps too small to fall by the tolerance, patience 1 lets epoch 1 pass and ends training with epoch 2."""
    hyperparameters = configured(learning_rate=1e-6, early_stopping_tolerance=0.1, early_stopping_patience=1, epochs=10)
    _, best = fitted(hyperparameters, validation=pairs_of(OTHER_ROWS))
    assert len(losses(caplog, "validation")) == 3
    assert best.epoch in (0, 1, 2)
    stopped = caplog.messages.index("Early stopping criterion met! Stopping training at epoch: 2")
    assert caplog.messages[stopped + 2] == "#progress_metric: host=algo-1, completed 100 % epochs"
    assert not any("completed 100.0 %" in line for line in caplog.messages)


def test_training_ends_with_its_last_epoch(caplog: pytest.LogCaptureFixture) -> None:
    """An epoch that improves enough is followed by the next until there is none."""
    fitted(configured(epochs=2))
    progress = [line for line in caplog.messages if "#progress_metric" in line]
    assert progress == [f"#progress_metric: host=algo-1, completed {done} % of epochs" for done in (50.0, 100.0)]


def test_training_stops_when_asked(caplog: pytest.LogCaptureFixture) -> None:
    """Asked to stop within the third epoch, training ends within a batch, with the best whole epoch's weights."""
    hyperparameters = configured(epochs=10, mini_batch_size=8)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 20  # eight batches an epoch, and one question after each epoch

    made = trainer(hyperparameters)
    best = made.fit(training_batches(pairs_of(ROWS), hyperparameters), None, stop)
    assert len(losses(caplog, "train")) == 2
    assert best.epoch == 1
    assert asked == 22


def test_training_that_is_stopped_at_once_keeps_its_weights() -> None:
    """Asked to stop before the first epoch ends, there is no best epoch, and only the output bias has changed."""
    hyperparameters = configured()
    made = trainer(hyperparameters)
    before = {name: tensor.clone() for name, tensor in made.network.state_dict().items()}
    best = made.fit(training_batches(pairs_of(ROWS), hyperparameters), None, lambda: True)
    assert (best.epoch, best.loss) == (None, math.inf)
    assert all(
        torch.equal(tensor, before[name])
        for name, tensor in made.network.state_dict().items()
        if name != "head.output.bias"
    )


def test_a_loss_that_is_not_finite_ends_training() -> None:
    """A loss past all bounds is an error of the algorithm that says where it was and what to try."""
    hyperparameters = configured(output_layer="mean_squared_error", optimizer="sgd", learning_rate=1.0)
    rows = [(a, b, 5 * label) for a, b, label in ROWS]
    what = r"^The loss is (inf|nan) in epoch 0, batch [1-9]\d*: try a learning_rate below 1\.0$"
    with pytest.raises(AlgorithmError, match=what):
        fitted(hyperparameters, pairs_of(rows * 9))


def test_what_the_last_step_does_to_the_weights_is_noticed() -> None:
    """A step whose loss was finite may leave weights that are not: without validation nobody else would see it, and
    the best epoch of before stays.
    """
    hyperparameters = configured(mini_batch_size=8, epochs=3)
    made = trainer(hyperparameters)
    update = made.autograd_step.update

    def overflowing(batch: Batch, factor: float) -> None:
        update(batch, factor)
        if (made.epoch, made.batch) == (1, 7):
            with torch.no_grad():
                made.network.enc0.embedding.weight[0, 0] = math.inf  # of id 0, which no pair has

    made.autograd_step.update = overflowing
    what = r"enc0\.embedding\.weight is no longer finite after epoch 1, batch 7: try a learning_rate below 0\.0004"
    with pytest.raises(AlgorithmError, match=what):
        made.fit(training_batches(pairs_of(ROWS), hyperparameters), None, never)
    assert made.best.epoch == 0
    assert all(weight.isfinite().all() for weight in made.best.weights.values())


def test_warming_up_moves_no_weight() -> None:
    """All that it changes is what the optimizers remember, for which the weights of epochs before count."""
    for values in ({"optimizer": "adagrad"}, {"optimizer": "adam", "token_embedding_storage_type": "row_sparse"}):
        hyperparameters = configured(mini_batch_size=8, dropout=0.2, weight_decay=0.1, **values)
        made = trainer(hyperparameters)
        made.epochs_before = 5
        before = {name: tensor.clone() for name, tensor in made.network.state_dict().items()}
        made.warm_up(training_batches(pairs_of(ROWS), hyperparameters), never)
        assert all(torch.equal(tensor, before[name]) for name, tensor in made.network.state_dict().items())
        states = [state for optimizer in made.optimizers for state in optimizer.state.values()]
        assert all(float(state["step"]) == 8 for state in states)
        assert all(group["initial_lr"] == 0.0004 for optimizer in made.optimizers for group in optimizer.param_groups)
        again = trainer(hyperparameters)
        again.epochs_before = 10
        again.warm_up(training_batches(pairs_of(ROWS), hyperparameters), never)
        twice = [state for optimizer in again.optimizers for state in optimizer.state.values()]
        sums = [torch.equal(2 * one["sum"], two["sum"]) for one, two in zip(states, twice, strict=True) if "sum" in one]
        assert all(sums)
        assert bool(sums) == (values["optimizer"] == "adagrad")


@pytest.mark.parametrize("values", [{}, {"mlp_layers": 0, "token_embedding_storage_type": "row_sparse"}])
def test_an_error_while_warming_up_leaves_the_learning_rate(values: dict[str, object]) -> None:
    """The optimizers have the configured rate afterwards, also after an interrupt."""
    hyperparameters = configured(mini_batch_size=8, **values)
    made = trainer(hyperparameters)
    asked = 0

    def interrupt() -> bool:
        nonlocal asked
        asked += 1
        if asked > 3:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        made.warm_up(training_batches(pairs_of(ROWS), hyperparameters), interrupt)
    assert all(group["initial_lr"] == 0.0004 for optimizer in made.optimizers for group in optimizer.param_groups)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout": 0.5, "negative_sampling_rate": 2, "bucket_width": 2},
        {"token_embedding_storage_type": "row_sparse", "tied_token_embedding_weight": True},
        {"network": "hcnn"},
        {"network": "bilstm", "enc0_layers": 2},
    ],
    ids=["plain", "random", "sparse", "hcnn", "bilstm"],
)
def test_a_seed_repeats_a_run(changes: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    """The same seed gives the same losses to the last digit, and another gives others."""
    runs = []
    for seed in (3, 3, 4):
        caplog.clear()
        hyperparameters = configured(**changes, seed=seed, epochs=2, mini_batch_size=8)
        torch.manual_seed(seed)
        made = trainer(hyperparameters, seed=seed)
        made.fit(training_batches(pairs_of(ROWS), hyperparameters), None, never)
        runs.append(losses(caplog, "train"))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize(("work", "wanted"), [(PRODUCTS_PER_THREAD, 1), (1, 0)], ids=["idle", "busy"])
def test_batches_are_made_ahead_where_a_thread_is_idle(work: int, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All epochs' by one thread, where a step leaves a thread idle; what is trained is the same, bit for bit."""
    threads, makers = torch.get_num_threads(), []

    def watched(batches: Iterator[Batch | None]) -> Iterator[Batch | None]:
        makers.append(batches)
        return prefetch_items(batches)

    settings = {"mlp_layers": 0, "token_embedding_storage_type": "row_sparse", "negative_sampling_rate": 2}
    monkeypatch.setattr("object2vec.training.step.PRODUCTS_PER_THREAD", work)
    weights = []
    for ahead in (watched, iter):
        monkeypatch.setattr("object2vec.data.prefetch.prefetch_items", ahead)
        torch.set_num_threads(2)
        made, _ = fitted(configured(epochs=3, mini_batch_size=10, **settings))
        torch.set_num_threads(threads)
        weights.append(weights_of(made.network))
    assert len(makers) == wanted
    for name, weight in weights[0].items():
        assert np.array_equal(weight, weights[1][name]), name


def test_a_checkpoint_has_the_weights_after_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where several batches are stepped through at once: it is due at once, and waits for the last of them."""

    class RecordedCheckpoints:
        due = True

        def __init__(self, made: Trainer) -> None:
            self.made, self.weights = made, {}

        def save(self, state: dict) -> None:
            self.weights[state["epoch"], state["batch"]] = weights_of(self.made.network)

    hyperparameters = configured(epochs=2, mini_batch_size=3, mlp_layers=0, token_embedding_storage_type="row_sparse")
    kept = []
    for at_once in (8, 1):
        monkeypatch.setattr("object2vec.training.step.MAX_BATCHES", at_once)
        made = trainer(hyperparameters)
        made.checkpoints = RecordedCheckpoints(made)
        made.fit(training_batches(pairs_of(ROWS), hyperparameters), None, never)
        kept.append(made.checkpoints.weights)
    count = math.ceil(len(ROWS) / 3)
    ends = [*range(8, count, 8), count]
    assert sorted(kept[0]) == [*((0, at) for at in ends), (1, 0), *((1, at) for at in ends), (2, 0)]
    assert len(kept[1]) == 2 * count + 2
    for place, weights in kept[0].items():
        for name, weight in weights.items():
            assert np.array_equal(weight, kept[1][place][name]), (place, name)


def test_the_best_of_equal_epochs_is_the_first() -> None:
    """An epoch that is only as good as the best is not taken for better, and a frozen table is not copied."""
    network = network_of(configured(enc0_pretrained_embedding_file="g.txt", enc0_vocab_file="v.json"))
    best = BestModel()
    for epoch, loss in enumerate([0.5, 0.4, 0.4, 0.6]):
        best.update_if_better(epoch, loss, network, {})
    assert (best.epoch, best.loss) == (1, 0.4)
    assert best.weights is not None
    assert not any("embedding" in name for name in best.weights)


def test_negatives_make_an_epoch_longer(caplog: pytest.LogCaptureFixture) -> None:
    """With a rate of 2, an epoch has two negatives for each positive, and the loss is that of all of them."""
    likes = [row for row in ROWS if row[2] == 1]
    hyperparameters = configured(negative_sampling_rate=2, epochs=1, mini_batch_size=8)
    fitted(hyperparameters, pairs_of(likes))
    (seen,) = [line for line in caplog.messages if "training_data_iter" in line]
    assert f'"Total Records Seen": {{"sum": {3.0 * len(likes)}' in seen
    assert f'"Total Batches Seen": {{"sum": {3.0 * len(likes) / 8}' in seen


def test_history_has_the_metrics_of_each_epoch() -> None:
    """The callback gets the same records, each when its epoch has ended."""
    records: list[dict[str, object]] = []
    hyperparameters = configured(epochs=3)
    report = SageMakerReport(host="algo-1", epochs=3)
    made = Trainer(network_of(hyperparameters), hyperparameters, report, on_epoch=records.append)
    made.fit(training_batches(pairs_of(ROWS), hyperparameters), scoring_batches(pairs_of(ROWS), hyperparameters), never)
    assert [record["epoch"] for record in made.history] == [0, 1, 2]
    assert records == made.history
    assert made.best.metrics == {name: made.history[made.best.epoch or 0][name] for name in ("train", "validation")}
