"""How fast training and serving are on a machine with other work, compared with an idle one.

Busy processes are started here and ended by their id. In each round every policy is measured idle, with one busy
process, and with one for each core, one after the other, so that the machine's other work affects all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Final

from serving import CASES, bodies_of, drive, serving, write_model
from workloads import movielens, workloads

COMMAND: Final = str(Path(sys.executable).with_name("object2vec"))
#: Variables that a policy sets; all others of these are removed.
POLICIES: Final[Mapping[str, Mapping[str, str]]] = {
    "default": {},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "GOMP_SPINCOUNT=300000 (OpenMP's own)": {"GOMP_SPINCOUNT": "300000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
VARIABLES: Final = {name for policy in POLICIES.values() for name in policy}
#: Stars that a user gives to a film.
SETTINGS: Final = {
    "enc0_network": "pooled_embedding",
    "enc0_max_seq_len": 1,
    "enc0_token_embedding_dim": 10,
    "enc1_network": "pooled_embedding",
    "enc1_max_seq_len": 1,
    "enc1_token_embedding_dim": 10,
    "output_layer": "mean_squared_error",
    "comparator_list": "hadamard,concat",
    "mlp_layers": 1,
    "mlp_dim": 64,
    "optimizer": "adagrad",
    "learning_rate": 0.07,
    "weight_decay": 0.0007,
    "mini_batch_size": 512,
}
WORKLOADS: Final = ("W1-64", "W3", "W4")
CLIENTS: Final = 16


def main() -> None:
    arguments = parse_arguments()
    cores = len(os.sched_getaffinity(0))
    loads = sorted({0, 1, cores})
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        if "train" in arguments.only:
            found["train"] = measure_training(Path(folder), loads, arguments)
        if "serve" in arguments.only:
            found["serve"] = measure_serving(Path(folder), loads, arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found | {"cores": cores, "load": os.getloadavg()[0]}, indent=1) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4, help="of a training")
    parser.add_argument("--seconds", type=float, default=2, help="of requests to a server in one round")
    parser.add_argument("--only", nargs="*", choices=["train", "serve"], default=["train", "serve"])
    parser.add_argument("--policies", nargs="*", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--command", default=COMMAND, help="the object2vec to train with (default: the installed one)")
    parser.add_argument("--out", type=Path, default=Path("build/bench/busy.json"))
    return parser.parse_args()


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep a number of other processes busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.2 if others else 0)  # until they run
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def print_header(first: Sequence[str], loads: Sequence[int]) -> None:
    columns = [f"{load} busy process{'es' * (load != 1)}" if load else "idle" for load in loads]
    print("|", " | ".join([*first, *columns]), "|")
    print("|", " | ".join(["---"] * len(first) + ["---:"] * len(loads)), "|")


def print_row(first: Sequence[str], rates: Mapping[int, Sequence[float]]) -> None:
    """Print medians, and ratios to the idle machine: medians over rounds."""
    cells = list(first)
    for load, measured in rates.items():
        ratio = statistics.median(rate / idle for rate, idle in zip(measured, rates[0], strict=True))
        cells.append(f"{statistics.median(measured):,.0f}" + (f" ({ratio:.0%})" if load else ""))
    print("|", " | ".join(cells), "|", flush=True)


# ----------------------------------------------------------------------------------------------------------------------
# Training
# ----------------------------------------------------------------------------------------------------------------------


def measure_training(folder: Path, loads: Sequence[int], arguments: argparse.Namespace) -> dict[str, object]:
    """Print a row for each policy: records a second in `object2vec train` on film ratings."""
    channel = folder / "train.jsonl"
    write_ratings(channel)
    print_header(["train, film ratings, records/s"], loads)
    rates: dict[str, dict[int, list[float]]] = {name: {load: [] for load in loads} for name in arguments.policies}
    for _, name, load in product(range(arguments.rounds), rates, loads):
        with busy_processes(load):
            rates[name][load].append(train(channel, folder / "model", name, arguments))
    for name, measured in rates.items():
        print_row([name], measured)
    return dict(rates)


def write_ratings(path: Path) -> None:
    with path.open("w") as file:
        for user, film, stars in zip(*(column.tolist() for column in movielens()), strict=True):
            file.write(f'{{"in0": [{user}], "in1": [{film}], "label": {stars}}}\n')


def train(channel: Path, out: Path, policy: str, arguments: argparse.Namespace) -> float:
    """Records a second over all epochs, by the job's own lines."""
    users, films = (int(tokens.max()) + 1 for tokens in movielens()[:2])
    sizes = {"enc0_vocab_size": users, "enc1_vocab_size": films, "epochs": arguments.epochs}
    values = [f"{name}={value}" for name, value in (SETTINGS | sizes).items()]
    words = ["train", "--train", str(channel), "--out", str(out), "--hyperparameters", *values]
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | dict(POLICIES[policy])
    done = subprocess.run([arguments.command, *words], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    rates = [float(rate) for rate in re.findall(r"#throughput_metric: .*?train throughput=(\S+)", done.stdout)]
    return len(rates) / sum(1 / rate for rate in rates)


# ----------------------------------------------------------------------------------------------------------------------
# Serving
# ----------------------------------------------------------------------------------------------------------------------


def measure_serving(folder: Path, loads: Sequence[int], arguments: argparse.Namespace) -> dict[str, object]:
    """Print a row for each model: requests of one pair a second in `object2vec serve`, by 16 clients."""
    print_header([f"serve, {CLIENTS} clients, requests/s"], loads)
    found: dict[str, object] = {}
    for workload in workloads():
        if workload.name not in WORKLOADS:
            continue
        model, bodies = folder / workload.name, bodies_of(workload.make(), 1)
        write_model(model, workload)
        case = next(each for each in CASES if each.clients == CLIENTS and each.workload == workload.name)
        rates: dict[int, list[float]] = {load: [] for load in loads}
        with serving("object2vec", model) as port:
            drive(port, case, arguments.seconds, bodies)  # warm up
            for _, load in product(range(arguments.rounds), loads):
                with busy_processes(load):
                    rates[load].append(drive(port, case, arguments.seconds, bodies).rate)
        print_row([workload.description], rates)
        found[workload.name] = rates
    return found


if __name__ == "__main__":
    main()
