"""The optimizers: row-sparse ones against torch's dense ones, laziness, decay, and what each of them moves."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from object2vec.hyperparameters.table import NETWORKS, OPTIMIZERS, ROW_SPARSE_OPTIMIZERS
from object2vec.model.network import Network
from object2vec.model.tokens import TokenEmbedding
from object2vec.ops import library
from object2vec.ops.embedding import RowGradient, accumulate_row_grad, row_grad
from object2vec.training.optimizers import RowOptimizer, make_optimizers
from small import configured, gradients_of, network_of, tokens_of

DENSE = {
    "sgd": lambda p, decay: torch.optim.SGD(p, lr=0.1, weight_decay=decay),
    "adagrad": lambda p, decay: torch.optim.Adagrad(p, lr=0.1, weight_decay=decay, eps=1e-7),
    "adam": lambda p, decay: torch.optim.Adam(p, lr=0.1, weight_decay=decay),
}
ROWS, WIDTH = 6, 3


@pytest.fixture(params=[True, False], ids=["kernels", "plain"])
def kernels_or_not(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test with the kernels, and as on a machine without them."""
    if request.param:
        assert library.available()
    else:
        monkeypatch.setattr(library, "available", lambda: False)


def table(seed: int = 0) -> TokenEmbedding:
    made = TokenEmbedding(ROWS, WIDTH, row_sparse=True, frozen=False)
    made.weight.data = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(seed))
    return made


def lazy_optimizer(of: TokenEmbedding, kind: str, decay: float) -> RowOptimizer:
    return RowOptimizer([of], configured(optimizer=kind, learning_rate=0.1, weight_decay=decay))


def touch(of: TokenEmbedding, rows: list[int], seed: int) -> Tensor:
    """Leave a random gradient for each of `rows`, by two look-ups; a row named twice has the sum, which is returned."""
    generator = torch.Generator().manual_seed(seed)
    half = len(rows) // 2
    for part in (rows[:half], rows[half:]):
        gradient = torch.randn(len(part), WIDTH, generator=generator)
        scale = torch.rand(len(part), generator=generator)
        ids = torch.tensor(part, dtype=torch.int64)
        accumulate_row_grad(of.weight, RowGradient(ids, torch.arange(len(part)), scale, gradient))
    grad = row_grad(of.weight)
    assert grad is not None
    return grad.to_dense(of.weight)


@pytest.mark.usefixtures("kernels_or_not")
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("kind", DENSE)
def test_touched_rows_move_as_in_the_dense_optimizer(kind: str, decay: float) -> None:
    """Rows that every batch touches go where torch's own optimizer takes them, weight decay included; a row that is
    named twice in a gradient moves by the sum.
    """
    lazy, dense = table(), nn.Parameter(table().weight.detach().clone())
    before = dense.detach().clone()
    row_optimizer, dense_optimizer = lazy_optimizer(lazy, kind, decay), DENSE[kind]([dense], decay)
    for step in range(5):
        dense.grad = touch(lazy, [4, 1, 4, 0], step)
        row_optimizer.step()
        dense_optimizer.step()
    touched = [0, 1, 4]
    torch.testing.assert_close(lazy.weight[touched], dense[touched])
    assert not torch.isclose(lazy.weight[touched], before[touched]).any()


@pytest.mark.usefixtures("kernels_or_not")
@pytest.mark.parametrize("kind", DENSE)
def test_untouched_rows_stand_still_with_their_state(kind: str) -> None:
    """A row that a batch does not touch keeps its numbers and its state, momentum and decay notwithstanding."""
    lazy = table()
    optimizer = lazy_optimizer(lazy, kind, 0.3)
    touch(lazy, [0, 1, 2], 0)
    optimizer.step()
    numbers = lazy.weight.detach().clone()
    state = {name: optimizer.state[lazy.weight][name].clone() for name in RowOptimizer.STATE[kind]}
    touch(lazy, [1, 5], 1)
    optimizer.step()
    still = [0, 2, 3, 4]
    assert torch.equal(lazy.weight[still], numbers[still])
    assert not torch.isclose(lazy.weight[[1, 5]], numbers[[1, 5]]).any()
    for name, column in state.items():
        assert torch.equal(optimizer.state[lazy.weight][name][still], column[still])
        assert not torch.equal(optimizer.state[lazy.weight][name][[1, 5]], column[[1, 5]])


@pytest.mark.usefixtures("kernels_or_not")
def test_lazy_adam_by_hand() -> None:
    """A row touched in steps 1 and 3: its moments take in only those two gradients, the correction counts all steps.

    With gradients g1 and g3: m = .1 g1, then .9 m + .1 g3; v = .001 g1², then .999 v + .001 g3²; each step moves by
    .1 · m / (1 - .9^t) / (sqrt(v / (1 - .999^t)) + 1e-8) with t = 1 and t = 3.
    """
    lazy = table()
    optimizer = lazy_optimizer(lazy, "adam", 0.0)
    expected = lazy.weight[2].detach().numpy().astype(np.float64)
    mean = square = np.zeros(WIDTH)
    for t, rows in [(1, [2]), (2, [3]), (3, [2, 3])]:
        slope = touch(lazy, rows, t)[2].numpy().astype(np.float64)
        optimizer.step()
        if 2 in rows:
            mean = 0.9 * mean + 0.1 * slope
            square = 0.999 * square + 0.001 * slope**2
            expected = expected - 0.1 * mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(lazy.weight[2].detach().numpy(), expected, rtol=1e-5)


@pytest.mark.usefixtures("kernels_or_not")
@pytest.mark.parametrize("kind", DENSE)
def test_a_batch_without_tokens_moves_nothing(kind: str) -> None:
    """A gradient without rows, or none at all, leaves the table as it is."""
    lazy = table()
    before = lazy.weight.detach().clone()
    optimizer = lazy_optimizer(lazy, kind, 0.3)
    optimizer.step()
    touch(lazy, [], 0)
    optimizer.step()
    assert torch.equal(lazy.weight, before)


@pytest.mark.parametrize("kind", DENSE)
def test_a_gradient_is_used_once(kind: str) -> None:
    """What look-ups left is gone after a step, and after zero_grad."""
    lazy = table()
    optimizer = lazy_optimizer(lazy, kind, 0.0)
    touch(lazy, [1], 0)
    optimizer.zero_grad()
    before = lazy.weight.detach().clone()
    optimizer.step()
    assert torch.equal(lazy.weight, before)
    touch(lazy, [1], 0)
    optimizer.step()
    assert row_grad(lazy.weight) is None


class Moved(NamedTuple):
    """Every parameter before and after steps, and its gradient."""

    before: dict[str, Tensor]
    after: dict[str, Tensor]
    gradients: dict[str, Tensor | None]


def moved(network: Network, steps: int = 1, **changes: object) -> Moved:
    """So many steps on the same loss; the gradients are those of the last."""
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizers = make_optimizers(network, configured(**changes))
    for _ in range(steps):
        network.zero_grad()
        output = network(
            (tokens_of([1, 2], [3]), tokens_of([4], [2, 5])), (torch.tensor([0, 1, 1]), torch.tensor([1, 1, 0]))
        )
        output.pow(2).sum().backward()
        gradients = gradients_of(network)
        for optimizer in optimizers:
            optimizer.step()
    after = {name: p.detach() for name, p in network.named_parameters()}
    return Moved(before, after, gradients)


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("tied", [False, True], ids=["loose", "tied"])
@pytest.mark.parametrize(
    ("optimizer", "storage"),
    [*((name, "dense") for name in OPTIMIZERS), *((name, "row_sparse") for name in ROW_SPARSE_OPTIMIZERS)],
)
def test_every_parameter_moves_downhill(optimizer: str, storage: str, tied: bool, layers: int) -> None:
    """Each optimizer moves each parameter, against its gradient."""
    changes = {
        "mlp_layers": layers,
        "optimizer": optimizer,
        "token_embedding_storage_type": storage,
        "tied_token_embedding_weight": tied,
        "learning_rate": 0.01,
    }
    network = network_of(configured(**changes))
    before, after, gradients = moved(network, **changes)
    for name in before:
        step = after[name] - before[name]
        assert step.any(), name
        assert (step * gradients[name] <= 0).all(), name


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("optimizer", ROW_SPARSE_OPTIMIZERS)
def test_storage_makes_no_difference_to_rows_that_every_step_touches(optimizer: str, layers: int) -> None:
    """Steps from the same weights end in the same place, dense or row-sparse, also where the rows' optimizer moves an
    output layer, which is all else that there is.
    """
    ends = []
    for storage in ("dense", "row_sparse"):
        changes = {"token_embedding_storage_type": storage, "mlp_layers": layers, "optimizer": optimizer}
        ends.append(moved(network_of(configured(**changes)), 3, learning_rate=0.01, **changes).after)
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, msg=name)


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
def test_weight_decay_is_on_weights_alone(storage: str, layers: int) -> None:
    """With plain gradient descent, decay takes rate · decay · weight off more: of weights, not biases; and in a
    row-sparse table off the rows that were touched.
    """
    ends = []
    for decay in (0.0, 0.5):
        changes = {
            "mlp_layers": layers,
            "optimizer": "sgd",
            "weight_decay": decay,
            "learning_rate": 0.1,
            "token_embedding_storage_type": storage,
        }
        before, after, _ = moved(network_of(configured(**changes)), **changes)
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
    before, after, _ = moved(network_of(configured(**changes)), **changes)
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor) is ("embedding" in name), name


@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "sgd", "rmsprop"])
def test_factor_of_pretrained_embeddings(optimizer: str, storage: str) -> None:
    """A factor gives a trained pretrained table the steps of another learning rate; other weights move as without."""
    if storage == "row_sparse" and optimizer == "rmsprop":
        pytest.skip("row_sparse has no rmsprop")
    file = {"enc0_pretrained_embedding_file": "g.txt", "enc0_freeze_pretrained_embedding": "False"}
    settings = {**file, "token_embedding_storage_type": storage, "optimizer": optimizer}
    changes = ({}, {"pretrained_learning_rate_factor": 0.25}, {"learning_rate": 0.025})
    plain, scaled, slow = (
        moved(network_of(configured(**settings)), **{**settings, "learning_rate": 0.1, **change}).after
        for change in changes
    )
    for name, weight in scaled.items():
        torch.testing.assert_close(weight, slow[name] if "embedding" in name else plain[name], msg=name)
    assert not torch.equal(plain["enc0.embedding.weight"], slow["enc0.embedding.weight"])


def test_adadelta_has_no_learning_rate() -> None:
    """Where the learning rate is without effect, as documented, two of them end in the same place."""
    ends = [
        moved(network_of(configured()), optimizer="adadelta", learning_rate=rate).after["head.output.weight"]
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
                    self.numbers = max(self.numbers, tensor.numel())
        return made


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("optimizer", ROW_SPARSE_OPTIMIZERS)
def test_the_cost_of_a_step_is_in_the_rows(optimizer: str, network: str) -> None:
    """With row-sparse storage no operation of a step, from the gradients to the weights, makes a tensor anywhere near
    as large as the table; with dense storage and an optimizer of torch's some do, which shows that the watch sees it.
    """
    rows = 10_000
    for storage, kind in (("row_sparse", optimizer), ("dense", "rmsprop")):
        hyperparameters = configured(
            network=network, enc0_vocab_size=rows, token_embedding_storage_type=storage, optimizer=kind
        )
        made = network_of(hyperparameters)
        optimizers = make_optimizers(made, hyperparameters)
        largest = Largest()
        for step in range(2):
            # The first step makes the state, once.
            with largest if step else nullcontext():
                made.zero_grad()
                made((tokens_of([1, 2], [3]),) * 2, (torch.tensor([0, 1]),) * 2).sum().backward()
                for each in optimizers:
                    each.step()
        assert (largest.numbers < rows / 10) is (storage == "row_sparse")


@pytest.mark.slow
def test_rows_are_stepped_without_the_compiler_of_torch() -> None:
    """Its import takes more than a second, and jobs with a linear head do not need it."""
    program = """
import sys
from object2vec.training.optimizers import make_optimizers
from small import configured, network_of

values = configured(mlp_layers=0, token_embedding_storage_type="row_sparse")
[optimizer] = make_optimizers(network_of(values), values)
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
