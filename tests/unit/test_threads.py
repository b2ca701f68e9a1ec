"""How OpenMP's threads are set before torch is loaded, and how training chooses their number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from object2vec import threads
from object2vec.training import trainer
from object2vec.training.evaluation import never
from object2vec.training.report import SageMakerReport
from object2vec.training.thread_tuner import BLOCK_SECONDS, BLOCKS, INTERVAL_SECONDS, ThreadTuner
from object2vec.training.trainer import training_batches
from small import configured, network_of, pairs_of


def test_waiting_threads_sleep_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cpus", lambda: 3)
    environment = {"GOMP_SPINCOUNT": "", "OMP_NUM_THREADS": ""}  # empty is not set
    threads.set_thread_defaults(environment)
    assert environment == {"GOMP_SPINCOUNT": threads.SPIN_COUNT, "OMP_NUM_THREADS": "3"}


def test_training_asks_for_products_that_do_not_depend_on_threads() -> None:
    environment: dict[str, str] = {}
    threads.set_thread_defaults(environment, repeatable=True)
    assert environment["MKL_CBWR"] == "AUTO,STRICT"


@pytest.mark.parametrize(
    ("name", "value", "absent"),
    [
        ("OMP_WAIT_POLICY", "ACTIVE", "GOMP_SPINCOUNT"),
        ("KMP_BLOCKTIME", "0", "GOMP_SPINCOUNT"),
        ("GOMP_SPINCOUNT", "7", "OMP_WAIT_POLICY"),
        ("OMP_NUM_THREADS", "5", "MKL_NUM_THREADS"),
        ("MKL_NUM_THREADS", "5", "OMP_NUM_THREADS"),
        ("MKL_CBWR", "AVX2", "MKL_NUM_THREADS"),
    ],
)
def test_variables_of_the_user_are_kept(name: str, value: str, absent: str) -> None:
    """It keeps its value, and no other variable overrides it."""
    environment = {name: value}
    threads.set_thread_defaults(environment, repeatable=True)
    assert environment[name] == value
    assert absent not in environment


def settings_while_importing_torch(call: str, **given: str) -> list[str]:
    """Return GOMP_SPINCOUNT when `call` first imports torch, which fails, and after the call."""
    code = f"""
import os, sys
import builtins
real, seen = builtins.__import__, []
def spy(name, *rest):
    if name == "torch":
        seen.append(os.environ.get("GOMP_SPINCOUNT", "none"))
        raise ImportError
    return real(name, *rest)
builtins.__import__ = spy
try:
    {call}
except ImportError:
    pass
print(seen[0], os.environ.get("GOMP_SPINCOUNT", "none"))
"""
    plain = {name: value for name, value in os.environ.items() if name not in threads.SPIN_VARIABLES}
    done = subprocess.run([sys.executable, "-c", code], env=plain | given, capture_output=True, text=True, check=True)
    return done.stdout.split()[-2:]


def test_load_bounds_spinning_and_leaves_the_environment_as_it_was() -> None:
    call = "import object2vec; object2vec.load('missing')"
    assert settings_while_importing_torch(call) == [threads.SPIN_COUNT, "none"]
    assert settings_while_importing_torch(call, GOMP_SPINCOUNT="7") == ["7", "7"]


@pytest.mark.parametrize(
    "call",
    [
        "from object2vec.sagemaker.training import train; train()",
        "from object2vec.cli import main; "
        "main('train --train no --out x --hyperparameters enc0_max_seq_len=1 enc0_vocab_size=9'.split())",
    ],
    ids=["image", "command"],
)
def test_spinning_is_bounded_before_torch_is_imported(call: str, tmp_path: Path) -> None:
    """A job that fails at its first check has imported no torch, and has set the variables."""
    code = f"""
import os, sys
try:
    {call}
finally:
    print("torch" in sys.modules, os.environ["GOMP_SPINCOUNT"], os.environ["MKL_CBWR"])
"""
    plain = {name: value for name, value in os.environ.items() if name not in (*threads.SPIN_VARIABLES, "MKL_CBWR")}
    environment = plain | {"SAGEMAKER_BASE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == f"False {threads.SPIN_COUNT} {threads.STRICT}"


class Machine:
    """A simulated clock and number of threads; a step takes `seconds[threads]`."""

    def __init__(self, one: float, two: float) -> None:
        self.now, self.threads = 0.0, 2
        self.seconds = {1: one, 2: two}
        self.spent = {1: 0.0, 2: 0.0}
        self.tuner = ThreadTuner(2, clock=lambda: self.now, set_threads=self.use)

    def use(self, threads: int) -> None:
        self.threads = threads

    def run(self, seconds: float) -> dict[int, float]:
        """Take steps for this time; return how long each number of threads was in use."""
        self.spent = {1: 0.0, 2: 0.0}
        end = self.now + seconds
        while self.now < end:
            self.tuner.start()
            self.now += self.seconds[self.threads]
            self.spent[self.threads] += self.seconds[self.threads]
            self.tuner.stop()
            self.tuner.finish_step(100)
        return self.spent


@pytest.mark.parametrize("seconds", [0.0005, 0.004, 0.3], ids=["short steps", "steps", "long steps"])
@pytest.mark.parametrize(("gain", "wanted"), [(1.8, 2), (1.1, 2), (1.0, 1), (0.1, 1)])
def test_tuner_uses_the_faster_number_of_threads(gain: float, wanted: int, seconds: float) -> None:
    """It does so for nine tenths of the time."""
    machine = Machine(seconds, seconds / gain)
    machine.run(20)  # until the first trial has ended
    spent = machine.run(300)
    assert spent[wanted] > 0.89 * sum(spent.values())


def test_tuner_changes_to_one_thread_under_load_and_back() -> None:
    machine = Machine(0.004, 0.0025)
    machine.run(5)
    assert machine.threads == 2
    machine.seconds = {1: 0.006, 2: 0.03}  # other processes use the cores
    trial = 2 * BLOCKS * (BLOCK_SECONDS + 0.03)
    machine.run(INTERVAL_SECONDS + 12 * trial)
    assert machine.run(1)[1] > 0.5
    machine.seconds = {1: 0.004, 2: 0.0025}
    machine.run(10)
    assert machine.run(10)[2] > 9


def test_single_slow_step_does_not_change_the_threads() -> None:
    machine = Machine(0.004, 0.0025)
    machine.run(INTERVAL_SECONDS - 0.05)
    machine.now += 0.05
    for late in range(2):
        machine.tuner.start()
        machine.now += 0.5 * (late + 1)  # the next trial begins, and its first block has this step
        machine.tuner.stop()
        machine.tuner.finish_step(100)
    machine.run(0.5)
    assert machine.threads == 2


def test_tuner_never_changes_a_single_thread() -> None:
    used: list[int] = []
    tuner = ThreadTuner(1, set_threads=used.append)
    for _ in range(10):
        tuner.start()
        tuner.stop()
        tuner.finish_step(1)
    tuner.restore()
    assert used == []


class Alternating(ThreadTuner):
    """A tuner that alternates between one thread and all."""

    def finish_step(self, work: int) -> None:
        self._use(1 if self.threads > 1 else self.most)


@pytest.mark.parametrize("tokens", [1, 2], ids=["one kernel", "several kernels"])
def test_changing_threads_while_training_changes_no_weight(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights after training are the same bits with and without changes of the number of threads."""
    rows = np.random.default_rng(0).integers(1, 9, (3000, 2)).tolist()
    pairs = pairs_of([([a, b][:tokens], [b, a][:tokens], float((a + b) % 2)) for a, b in rows])
    monkeypatch.setattr("object2vec.training.step.PRODUCTS_PER_THREAD", 1)
    monkeypatch.setattr("object2vec.training.step.MAX_BATCHES", 1)
    settings = {"mlp_layers": 0, "token_embedding_storage_type": "row_sparse"}
    weights: list[dict[str, Tensor]] = []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for tuner in (lambda _: ThreadTuner(1), Alternating):
            monkeypatch.setattr(trainer, "ThreadTuner", tuner)
            hyperparameters = configured(epochs=2, mini_batch_size=700, **settings)
            torch.manual_seed(0)
            report = SageMakerReport(host="algo-1", epochs=2)
            made = trainer.Trainer(network_of(hyperparameters), hyperparameters, report)
            made.fit(training_batches(pairs, hyperparameters), None, never)
            weights.append({name: weight.clone() for name, weight in made.network.trainable_weights.items()})
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


PRODUCTS = """
import torch
for rows, between, columns in ((1, 256, 10), (1, 1024, 256), (64, 3000, 10), (300, 300, 512)):
    a, b = torch.randn(rows, between), torch.randn(between, columns)
    products = []
    for count in (1, 2):
        torch.set_num_threads(count)
        products.append(a @ b)
    assert torch.equal(*products), (rows, between, columns)
"""


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="torch has no MKL")
def test_products_of_matrices_do_not_depend_on_the_number_of_threads() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    threads.set_thread_defaults(environment, repeatable=True)
    subprocess.run([sys.executable, "-c", PRODUCTS], env=environment, check=True)
