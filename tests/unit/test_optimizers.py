"""The optimizers: row-sparse ones against torch's dense ones, laziness, decay, and what each of them moves."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from object2vec.hyperparameters import NETWORKS, OPTIMIZERS, ROW_SPARSE_OPTIMIZERS
from object2vec.model.network import Network
from object2vec.training.optimizers import RowAdagrad, RowAdam, RowOptimizer, RowSGD, make_optimizers
from small import configured, network_of, tokens_of

DENSE = {
    RowSGD: lambda p, decay: torch.optim.SGD(p, lr=0.1, weight_decay=decay),
    RowAdagrad: lambda p, decay: torch.optim.Adagrad(p, lr=0.1, weight_decay=decay, eps=1e-7),
    RowAdam: lambda p, decay: torch.optim.Adam(p, lr=0.1, weight_decay=decay),
}
ROWS, WIDTH = 6, 3


def table(seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(seed)))


def gradient(rows: list[int], seed: int) -> Tensor:
    """A sparse gradient with a random row for each of `rows`; a row named twice has the sum."""
    values = torch.randn(len(rows), WIDTH, generator=torch.Generator().manual_seed(seed))
    return torch.sparse_coo_tensor(
        torch.tensor([rows], dtype=torch.int64), values, (ROWS, WIDTH), check_invariants=True
    )


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("kind", DENSE)
def test_touched_rows_move_as_in_the_dense_optimizer(kind: type[RowOptimizer], decay: float) -> None:
    """Rows that every batch touches go where torch's own optimizer takes them, weight decay included; a row that is
    named twice in a gradient moves by the sum.
    """
    lazy, dense = table(), table()
    before = dense.detach().clone()
    row_optimizer, dense_optimizer = kind([lazy], 0.1, decay), DENSE[kind]([dense], decay)
    for step in range(5):
        lazy.grad = gradient([4, 1, 4, 0], step)
        dense.grad = lazy.grad.to_dense()
        row_optimizer.step()
        dense_optimizer.step()
    touched = [0, 1, 4]
    torch.testing.assert_close(lazy[touched], dense[touched])
    assert not torch.isclose(lazy[touched], before[touched]).any()


@pytest.mark.parametrize("kind", DENSE)
def test_untouched_rows_stand_still_with_their_state(kind: type[RowOptimizer]) -> None:
    """A row that a batch does not touch keeps its numbers and its state, momentum and decay notwithstanding."""
    lazy = table()
    optimizer = kind([lazy], 0.1, 0.3)
    lazy.grad = gradient([0, 1, 2], 0)
    optimizer.step()
    numbers = lazy.detach().clone()
    state = {name: optimizer.state[lazy][name].clone() for name in kind.columns}
    lazy.grad = gradient([1, 5], 1)
    optimizer.step()
    still = [0, 2, 3, 4]
    assert torch.equal(lazy[still], numbers[still])
    assert not torch.isclose(lazy[[1, 5]], numbers[[1, 5]]).any()
    for name, column in state.items():
        assert torch.equal(optimizer.state[lazy][name][still], column[still])
        assert not torch.equal(optimizer.state[lazy][name][[1, 5]], column[[1, 5]])


def test_lazy_adam_by_hand() -> None:
    """A row touched in steps 1 and 3: its moments take in only those two gradients, the correction counts all steps.

    With gradients g1 and g3: m = .1 g1, then .9 m + .1 g3; v = .001 g1², then .999 v + .001 g3²; each step moves by
    .1 · m / (1 - .9^t) / (sqrt(v / (1 - .999^t)) + 1e-8) with t = 1 and t = 3.
    """
    lazy = table()
    optimizer = RowAdam([lazy], 0.1, 0.0)
    expected = lazy[2].detach().numpy().astype(np.float64)
    mean = square = np.zeros(WIDTH)
    for t, rows in [(1, [2]), (2, [3]), (3, [2, 3])]:
        lazy.grad = gradient(rows, t)
        optimizer.step()
        if 2 in rows:
            slope = lazy.grad.to_dense()[2].numpy().astype(np.float64)
            mean = 0.9 * mean + 0.1 * slope
            square = 0.999 * square + 0.001 * slope**2
            expected = expected - 0.1 * mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(lazy[2].detach().numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", DENSE)
def test_a_batch_without_tokens_moves_nothing(kind: type[RowOptimizer]) -> None:
    """A gradient without rows, or none at all, leaves the table as it is."""
    lazy = table()
    before = lazy.detach().clone()
    optimizer = kind([lazy], 0.1, 0.3)
    optimizer.step()
    lazy.grad = gradient([], 0)
    optimizer.step()
    assert torch.equal(lazy, before)


def moved(network: Network, **changes: object) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every parameter before and after one step on the same loss."""
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    output = network(
        (tokens_of([1, 2], [3]), tokens_of([4], [2, 5])), (torch.tensor([0, 1, 1]), torch.tensor([1, 1, 0]))
    )
    output.pow(2).sum().backward()
    for optimizer in make_optimizers(network, configured(**changes)):
        optimizer.step()
    return before, {name: p.detach() for name, p in network.named_parameters()}


@pytest.mark.parametrize("tied", [False, True], ids=["loose", "tied"])
@pytest.mark.parametrize(
    ("optimizer", "storage"),
    [*((name, "dense") for name in OPTIMIZERS), *((name, "row_sparse") for name in ROW_SPARSE_OPTIMIZERS)],
)
def test_every_parameter_moves_downhill(optimizer: str, storage: str, tied: bool) -> None:
    """Each optimizer moves each parameter, against its gradient."""
    changes = {
        "optimizer": optimizer,
        "token_embedding_storage_type": storage,
        "tied_token_embedding_weight": tied,
        "learning_rate": 0.01,
    }
    network = network_of(configured(**changes))
    before, after = moved(network, **changes)
    for name, parameter in network.named_parameters():
        step = after[name] - before[name]
        assert step.any(), name
        assert (step * parameter.grad.to_dense() <= 0).all(), name


@pytest.mark.parametrize("optimizer", ROW_SPARSE_OPTIMIZERS)
def test_storage_makes_no_difference_to_the_first_step(optimizer: str) -> None:
    """The first step from the same weights ends in the same place, dense or row-sparse."""
    ends = []
    for storage in ("dense", "row_sparse"):
        changes = {"optimizer": optimizer, "token_embedding_storage_type": storage, "learning_rate": 0.01}
        ends.append(moved(network_of(configured(**changes)), **changes)[1])
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, msg=name)


@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
def test_weight_decay_is_on_weights_alone(storage: str) -> None:
    """With plain gradient descent, decay takes rate · decay · weight off more: of weights, not biases; and in a
    row-sparse table off the rows that were touched.
    """
    ends = []
    for decay in (0.0, 0.5):
        changes = {
            "optimizer": "sgd",
            "weight_decay": decay,
            "learning_rate": 0.1,
            "token_embedding_storage_type": storage,
        }
        before, after = moved(network_of(configured(**changes)), **changes)
        ends.append(after)
    for name, weight in before.items():
        expected = 0.1 * 0.5 * weight if "bias" not in name else torch.zeros_like(weight)
        if storage == "row_sparse" and "embedding" in name:
            untouched = [row for row in range(len(weight)) if row not in ({1, 2, 3} if "enc0" in name else {2, 4, 5})]
            expected[untouched] = 0
        torch.testing.assert_close(ends[0][name] - ends[1][name], expected, msg=name, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
def test_a_frozen_table_is_left_alone(storage: str) -> None:
    """No optimizer holds a frozen table, and decay does not reach it."""
    changes = {
        "enc0_pretrained_embedding_file": "g.txt",
        "enc0_vocab_file": "v.json",
        "token_embedding_storage_type": storage,
        "weight_decay": 0.5,
    }
    before, after = moved(network_of(configured(**changes)), **changes)
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor) is ("embedding" in name), name


def test_adadelta_has_no_learning_rate() -> None:
    """Where the learning rate is without effect, as documented, two of them end in the same place."""
    ends = [
        moved(network_of(configured()), optimizer="adadelta", learning_rate=rate)[1]["head.output.weight"]
        for rate in (1e-6, 1.0)
    ]
    assert torch.equal(*ends)


class Largest(TorchDispatchMode):
    """Watches operations, and knows how many numbers the largest tensor has that one of them made."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not any(result.alias_info for result in func._schema.returns):  # else a view, or in place
            for tensor in tree_leaves(made):
                if isinstance(tensor, Tensor):
                    self.numbers = max(self.numbers, (tensor._values() if tensor.is_sparse else tensor).numel())
        return made


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("optimizer", ROW_SPARSE_OPTIMIZERS)
def test_the_cost_of_a_step_is_in_the_rows(optimizer: str, network: str) -> None:
    """With row-sparse storage no operation of a step, from the gradients to the weights, makes a tensor anywhere near
    as large as the table; with dense storage some do, which shows that the watch sees it.
    """
    rows = 10_000
    for storage in ("row_sparse", "dense"):
        hyperparameters = configured(
            network=network, enc0_vocab_size=rows, token_embedding_storage_type=storage, optimizer=optimizer
        )
        made = network_of(hyperparameters)
        optimizers = make_optimizers(made, hyperparameters)
        largest = Largest()
        for step in range(2):
            # The first step makes the state, once.
            with largest if step else nullcontext():
                for each in optimizers:
                    each.zero_grad()
                made((tokens_of([1, 2], [3]),) * 2, (torch.tensor([0, 1]),) * 2).sum().backward()
                for each in optimizers:
                    each.step()
        assert (largest.numbers < rows / 10) is (storage == "row_sparse")
