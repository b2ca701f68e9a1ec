"""The in-batch softmax: its value by a slow reference, its gradients, its candidates and its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import object2vec
from object2vec.data.batches import Batch, Batches
from object2vec.data.sequences import Sequences
from object2vec.errors import DataError, HyperparameterError
from object2vec.hyperparameters import parse
from object2vec.model.network import Network
from object2vec.ops import in_batch_softmax as op
from object2vec.ops.in_batch_softmax import in_batch_softmax
from object2vec.training.gradient_sync import NO_PAIRS
from object2vec.training.job import Job, run
from object2vec.training.objective import objective_of, to_device
from object2vec.training.optimizers import make_optimizers
from object2vec.training.step import AutogradStep, backward, make_step
from object2vec.training.thread_tuner import ThreadTuner
from reference import in_batch_cross_entropy, output
from small import SMALL, configured, gradients_of, network_of, pairs_of, weights_of, write_pairs

RANKING = {"ranking_loss": "in_batch_softmax", "output_layer": "mean_squared_error", "mlp_layers": 0}
#: in0 2 has two positives, in1 5 is one of two in0, and a pair is there twice.
ROWS = [([1], [5, 2], 1.0), ([2], [6], 1.0), ([2], [7], 1.0), ([3, 4], [6], 1.0), ([8], [3], 1.0), ([8], [3], 1.0)]


def batch_of(rows: Sequence[tuple[list[int], list[int], float]]) -> Batch:
    return next(Batches(pairs_of(rows), size=len(rows), sampled_candidates=0).in_order())


@pytest.mark.parametrize("comparators", ["hadamard", "hadamard, concat", "cosine", "concat, cosine"])
@pytest.mark.parametrize("correction", [0, 0.3, 1])
@pytest.mark.parametrize("block", [1, 8, 2**19])
def test_loss_equals_the_slow_reference(
    comparators: str, correction: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(op, "BLOCK_SCORES", block)
    hyperparameters = configured(
        **RANKING, comparator_list=comparators, temperature=0.4, log_q_correction=correction, enc0_vocab_size=10
    )
    network, batch = network_of(hyperparameters), batch_of(ROWS)
    losses, best = in_batch_cross_entropy(hyperparameters, weights_of(network), [row[:2] for row in ROWS])
    with torch.no_grad():
        loss, correct = objective_of(hyperparameters).measure(network, batch)
    assert loss.item() == pytest.approx(np.mean(losses), abs=1e-5)
    assert correct == sum(best)
    trained, correct = backward(network.train(), objective_of(hyperparameters), batch)
    assert trained.item() == pytest.approx(loss.item(), abs=1e-6)
    assert correct == sum(best)


@pytest.mark.parametrize("block", [1, 2, 7, 2**19])
def test_gradients_equal_finite_differences(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "BLOCK_SCORES", block)
    generator = torch.Generator().manual_seed(0)
    index = torch.tensor([3, 0, 0, 1, 3, 3]), torch.tensor([0, 4, 2, 2, 1, 1])
    given = [
        torch.randn(size, dtype=torch.float64, generator=generator, requires_grad=True) for size in ((4, 3), (5, 3), 5)
    ]
    weight = torch.rand(6, dtype=torch.float64, generator=generator)

    def loss(left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return in_batch_softmax((left, right), bias, index, weight)[0]

    assert torch.autograd.gradcheck(loss, given)


def test_weights_and_share_scale_the_gradients() -> None:
    hyperparameters = configured(**RANKING, comparator_list="hadamard, concat", enc0_vocab_size=10)
    found = []
    for share in (1.0, 0.25):
        network = network_of(hyperparameters).train()
        loss, _ = backward(network, objective_of(hyperparameters), batch_of(ROWS), share)
        found.append((loss, gradients_of(network)))
    torch.testing.assert_close(found[1][0], found[0][0] / 4)
    for name, grad in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], None if grad is None else grad / 4)


def test_only_candidate_is_certain() -> None:
    """A batch with one in1 has no negatives: the loss is 0, and its gradients are 0."""
    network = network_of(configured(**RANKING, comparator_list="hadamard", enc0_vocab_size=10)).train()
    objective = objective_of(configured(**RANKING, comparator_list="hadamard"))
    loss, correct = backward(network, objective, batch_of([([1], [5], 1.0), ([2], [5], 1.0)]))
    assert (loss.item(), correct) == (0, 2)
    assert not any(grad.any() for grad in gradients_of(network).values() if grad is not None)


def test_batch_without_pairs_has_zero_loss_and_gradients() -> None:
    hyperparameters = configured(**RANKING, comparator_list="hadamard, concat")
    network = network_of(hyperparameters).train()
    loss, correct = backward(network, objective_of(hyperparameters), NO_PAIRS)
    assert (loss.item(), correct) == (0, 0)
    assert network.enc0.embedding.weight.row_grad is not None


def test_large_and_invalid_scores() -> None:
    """Scores of any size give a finite loss; a score that is NaN gives a loss that is NaN."""
    factors, index = torch.tensor([[1e30], [-1e30]]), (torch.arange(2), torch.arange(2))
    bias, weight = torch.zeros(2), torch.ones(2)
    loss, is_best = in_batch_softmax((factors, torch.tensor([[1.0], [-1.0]])), bias, index, weight)
    assert (loss.item(), is_best.tolist()) == (0, [True, True])
    loss, _ = in_batch_softmax((factors, torch.tensor([[1.0], [torch.nan]])), bias, index, weight)
    assert loss.isnan()


def test_log_q_is_the_probability_that_a_batch_has_the_object() -> None:
    """Of 4 rows, 3 have object 0: two rows drawn independently have it with probability 1 - (1/4)²."""
    pairs = pairs_of([([1], [3], 1.0), ([2], [3], 1.0), ([3], [3], 1.0), ([4], [8, 8], 1.0)])
    for batch in Batches(pairs, size=2, sampled_candidates=0).epoch(0):
        by_length = {1: np.log(15 / 16), 2: np.log(7 / 16)}
        np.testing.assert_allclose(
            batch.candidates.log_q, [by_length[n] for n in batch.objects[1].lengths.tolist()], rtol=1e-6
        )


@pytest.mark.parametrize("comparators", ["concat", "hadamard, abs_diff"])
def test_scores_must_be_products_of_both_encodings(comparators: str) -> None:
    wanted = "wanted hadamard or cosine, and perhaps concat, with ranking_loss=in_batch_softmax"
    with pytest.raises(HyperparameterError, match=f"comparator_list: got '{comparators}', {wanted}"):
        configured(**RANKING, comparator_list=comparators)


def test_fused_step_declines_a_ranking_loss() -> None:
    settings = {"comparator_list": "hadamard", "token_embedding_storage_type": "row_sparse"}
    for ranking in (True, False):
        hyperparameters = configured(**(RANKING if ranking else {"mlp_layers": 0}), **settings)
        network: Network = network_of(hyperparameters)
        optimizers, tuner = make_optimizers(network, hyperparameters), ThreadTuner(1)
        step = AutogradStep(network, objective_of(hyperparameters), optimizers, tuner)
        assert (make_step(network, optimizers, step, tuner) is step) == ranking


@pytest.mark.parametrize("single", [True, False])
def test_sampled_candidates_are_negatives_of_all_pairs(single: bool) -> None:
    """Batches get objects that they lack, never twice; `log_q` and the loss take them into account."""
    rows = [([n % 3 + 1], [n % 8 + 1] * (1 if single else 2), 1.0) for n in range(24)]
    batches = Batches(pairs_of(rows), size=2, sampled_candidates=5)
    hyperparameters = configured(**RANKING, comparator_list="hadamard", log_q_correction=1)
    network = network_of(hyperparameters)
    counts = []
    for batch in [*batches.epoch(0), *batches.in_order()]:
        objects = [tuple(tokens) for tokens in lists_of(batch.objects[1])]
        assert len(set(objects)) == len(objects)
        assert batch.index[1].max() < 2
        counts.append(len(objects))
        np.testing.assert_allclose(batch.candidates.log_q, np.log(1 - (7 / 8) ** 2 * (7 / 8) ** 5), rtol=1e-5)
        left, right, _ = network.score_factors(network.encode_sides(to_device(batch, network.device)[0]))
        scores = (left @ right.T)[batch.index[0]].detach().numpy()
        own = scores[range(2), batch.index[1]]
        if batch.index[0][0] == batch.index[0][1]:
            continue  # one is no negative of the other
        expected = np.mean(np.log(np.exp(scores).sum(1)) - own)
        with torch.no_grad():
            assert objective_of(hyperparameters).measure(network, batch)[0].item() == pytest.approx(expected, abs=1e-5)
    assert max(counts) > 4
    assert [b.candidates.log_q.tolist() for b in batches.epoch(0, skip=3)] == [
        b.candidates.log_q.tolist() for b in batches.epoch(0)
    ][3:]


def lists_of(sequences: Sequences) -> list[list[int]]:
    return [sequences.slice(at, at + 1).values.tolist() for at in range(len(sequences))]


def test_scores_start_as_products() -> None:
    """Training with weight decay would take scores with weights of random signs to 0."""
    torch.manual_seed(0)
    network = Network(configured(**RANKING, comparator_list="concat, hadamard, cosine"))
    assert network.head.output.weight.tolist() == [[0.0] * 8 + [1.0] * 5]
    assert network.head.output.bias.item() == 0


def test_training_keeps_the_weights_of_a_product() -> None:
    """Only the embeddings are trained, by rows; next to other comparators, all weights are."""
    for comparators, is_kept in (("hadamard", True), ("concat, hadamard", False)):
        hyperparameters = configured(**RANKING, comparator_list=comparators, weight_decay=0.1, optimizer="adam")
        network, batch = Network(hyperparameters), batch_of(ROWS)
        before, rows = network.head.output.weight.clone(), network.enc0.embedding.weight[:4].clone()
        (optimizer,) = make_optimizers(network, hyperparameters)
        backward(network, objective_of(hyperparameters), batch)
        optimizer.step()
        assert torch.equal(network.head.output.weight, before) == is_kept
        assert not torch.equal(network.enc0.embedding.weight[:4], rows)


#: A positive and its given negatives: one that no pair has as a positive, one of another pair, one there twice.
WITH_GIVEN = [
    ([1], [5, 2], 1.0),
    ([1], [9], 0.0),
    ([1], [6], 0.0),
    ([1], [9], 0.0),
    ([2], [6], 1.0),
    ([3, 4], [7], 1.0),
    ([3, 4], [9], 0.0),
    ([3, 4], [2, 2], 0.0),
]


@pytest.mark.parametrize("block", [1, 8, 2**19])
@pytest.mark.parametrize("correction", [0, 1])
def test_given_negatives_are_candidates_of_their_in0(
    correction: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They follow their positive, are in no batch themselves, and have no correction."""
    monkeypatch.setattr(op, "BLOCK_SCORES", block)
    hyperparameters = configured(
        **RANKING, comparator_list="hadamard, concat", log_q_correction=correction, enc0_vocab_size=10
    )
    network, objective = network_of(hyperparameters), objective_of(hyperparameters)
    pairs, given = [row[:2] for row in WITH_GIVEN if row[2]], [row[:2] for row in WITH_GIVEN if not row[2]]
    losses, best = in_batch_cross_entropy(hyperparameters, weights_of(network), pairs, given)
    batches = Batches(pairs_of(WITH_GIVEN), size=3, sampled_candidates=0)
    assert batches.examples == 3
    for batch in [*batches.epoch(0), *batches.in_order()]:
        with torch.no_grad():
            loss, correct = objective.measure(network, batch)
        assert loss.item() == pytest.approx(np.mean(losses), abs=1e-5)
        assert correct == sum(best)
        assert len(batch) == 3
        assert len(batch.objects[1]) == 5
        assert backward(network, objective, batch)[0].item() == pytest.approx(loss.item(), abs=1e-6)


@pytest.mark.parametrize("block", [1, 9, 2**19])
def test_gradients_with_given_negatives_equal_finite_differences(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "BLOCK_SCORES", block)
    generator = torch.Generator().manual_seed(0)
    index = torch.tensor([3, 0, 0, 1]), torch.tensor([0, 2, 1, 1])
    negatives = op.GivenNegatives(torch.tensor([0, 1, 1, 3]), torch.tensor([3, 3, 4, 4]), 2)
    given = [
        torch.randn(size, dtype=torch.float64, generator=generator, requires_grad=True) for size in ((4, 3), (5, 3), 5)
    ]

    def loss(left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return in_batch_softmax((left, right), bias, index, torch.ones(4, dtype=torch.float64), negatives)[0]

    assert torch.autograd.gradcheck(loss, given)


def test_batches_hold_the_given_negatives_of_their_own_positives() -> None:
    """Of several batches too, and in single tokens; the same ones in every epoch."""
    rows = [([n], [n, n][: 1 + n % 2], float(n % 3 == 0)) for n in range(30)]
    rows = [([n - n % 3], in1, label) for ([n], in1, label) in rows]
    for epoch in range(2):
        found = {}
        for batch in Batches(pairs_of(rows), size=4, sampled_candidates=0).epoch(epoch):
            objects = [lists_of(side) for side in batch.objects]
            for left, right in zip(*batch.candidates.negatives, strict=True):
                found.setdefault(objects[0][left][0], []).append(objects[1][right][0])
        assert found == {n: [n + 1, n + 2] for n in range(0, 30, 3)}


def test_channel_rejects_a_negative_without_its_positive(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", [([1], [2], 1.0), ([1], [3], 0.0), ([2], [3], 0.0)])
    job = Job(
        configuration=parse(SMALL | RANKING | {"comparator_list": "hadamard"}),
        channels={"train": tmp_path / "train"},
        model_dir=tmp_path / "model",
    )
    with pytest.raises(
        DataError, match="channel train: pair 3 has the label 0, wanted 1 with a ranking loss, or the in0"
    ):
        run(job)


def test_served_score_is_the_product_that_was_trained(tmp_path: Path) -> None:
    """Temperature and correction are of the loss only: a served score is the plain product of the encodings."""
    rows = [([user], [1 + (user + n) % 8], 1.0) for user in range(1, 9) for n in range(2)]
    values = RANKING | {"comparator_list": "hadamard", "temperature": 0.5, "log_q_correction": 1, "epochs": 3}
    channels = {name: write_pairs(tmp_path / name, rows) for name in ("train", "validation", "test")}
    run(Job(configuration=parse(SMALL | values), channels=channels, model_dir=tmp_path / "model"))
    model = object2vec.load(tmp_path / "model")
    weights = weights_of(model.network)
    expected = [output(model.hyperparameters, weights, [3], [item])[0] for item in range(1, 9)]
    found = model.score([([3], [item]) for item in range(1, 9)])
    np.testing.assert_allclose(np.asarray(found).ravel(), expected, rtol=1e-5)
    product = weights["enc0.embedding.weight"][3] @ weights["enc1.embedding.weight"][1:].T
    np.testing.assert_allclose(expected, product, rtol=1e-5)
