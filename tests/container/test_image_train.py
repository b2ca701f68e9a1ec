"""`train` in a container: the model and log of a successful job, and the files of a failed one."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from containers import HYPERPARAMETERS, VOCABULARY, OptMl, Start, Trained, pairs

pytestmark = pytest.mark.docker


def test_job_succeeds(trained: Trained) -> None:
    assert trained.exit_code == 0, trained.log
    assert trained.opt_ml.failure == ""
    assert "Traceback" not in trained.log


def test_model_has_documented_files(trained: Trained) -> None:
    names = {path.name for path in trained.opt_ml.model.iterdir()}
    assert {"config.json", "model.safetensors"} <= names
    assert not [name for name in names if name.endswith((".pt", ".pth", ".pkl", ".pickle"))]
    json.loads((trained.opt_ml.model / "config.json").read_text())


@pytest.mark.parametrize(
    "line",
    [
        r"#quality_metric: host=\S+, epoch=\S+, train cross_entropy <loss>=(\S+)",
        r"#quality_metric: host=\S+, epoch=\S+, train accuracy <score>=(\S+)",
        r"#quality_metric: host=\S+, epoch=\S+, validation cross_entropy <loss>=(\S+)",
        r"#quality_metric: host=\S+, epoch=\S+, validation accuracy <score>=(\S+)",
        r"#quality_metric: host=\S+, test cross_entropy <loss>=(\S+)",
        r"#quality_metric: host=\S+, test accuracy <score>=(\S+)",
        r"#progress_metric: host=\S+, completed (\S+) %",
        r"#throughput_metric: host=\S+, train throughput=(\S+) records/second",
    ],
)
def test_log_has_the_platform_metric_line(trained: Trained, line: str) -> None:
    found = re.findall(line, trained.log)
    assert found, trained.log
    assert all(float(number) >= 0 for number in found)
    assert "\r" not in trained.log


def test_no_argument_means_train(start: Start, opt_ml: OptMl) -> None:
    container = start("--network", "none", "--volume", opt_ml.mount)
    assert container.wait() == 0, container.log()
    assert (opt_ml.model / "model.safetensors").exists()


def test_regression_needs_only_the_train_channel(start: Start, tmp_path: Path) -> None:
    hyperparameters = HYPERPARAMETERS | {"output_layer": "mean_squared_error", "epochs": "1"}
    opt_ml = OptMl(tmp_path / "ml", hyperparameters, {"train": pairs(100, 0)})
    container = start("--network", "none", "--volume", opt_ml.mount, command=("train",))
    assert container.wait() == 0, container.log()
    assert re.search(
        r"#quality_metric: host=algo-1, epoch=0, train mean_squared_error <loss>=[\d.e-]+", container.log()
    )


def test_a_channel_of_two_gigabytes_trains_in_one(start: Start, tmp_path: Path) -> None:
    """A channel of 2 GB trains in half as much memory, at a good rate."""
    draw = random.Random(0)
    documents = [[draw.randrange(1, VOCABULARY) for _ in range(100)] for _ in range(2_000)]
    text = "".join(f'{{"in0": {tokens[:50]}, "in1": {tokens[50:]}, "label": 1}}\n' for tokens in documents).encode()
    settings = {"enc0_max_seq_len": "50", "epochs": "1", "mini_batch_size": "4096", "mlp_layers": "0"}
    opt_ml = OptMl(tmp_path / "ml", HYPERPARAMETERS | settings, {"train": []})
    with (opt_ml.root / "input/data/train/part-0.jsonl").open("wb") as file:
        while file.tell() < 2 * 10**9:
            file.write(text)
    limits = ("--memory", "1g", "--memory-swap", "1g")
    container = start("--network", "none", *limits, "--volume", opt_ml.mount, command=("train",))
    assert container.wait(600) == 0, container.log()
    assert (opt_ml.model / "model.safetensors").exists()


def test_stopped_job_keeps_its_model(start: Start, tmp_path: Path) -> None:
    endless = {"epochs": "100", "early_stopping_patience": "5", "early_stopping_tolerance": "0.000001"}
    opt_ml = OptMl(tmp_path / "ml", HYPERPARAMETERS | endless, {"train": pairs(10_000, 0)})
    container = start("--network", "none", "--volume", opt_ml.mount, command=("train",))
    container.until(lambda: "epoch=0, train" in container.log())
    code, seconds = container.stop()
    assert code == 0, container.log()
    assert seconds < 30  # Docker sends SIGKILL after that
    assert "epoch=99" not in container.log()
    assert (opt_ml.model / "model.safetensors").exists()
    assert opt_ml.failure == ""


def test_job_killed_for_memory_fails(start: Start, opt_ml: OptMl) -> None:
    memory = "128m"  # torch alone needs more
    container = start(
        *("--network", "none", "--memory", memory, "--memory-swap", memory, "--volume", opt_ml.mount),
        command=("train",),
    )
    assert container.wait() == 137, container.log()
    assert container.state()["OOMKilled"]
    assert list(opt_ml.model.iterdir()) == []


def no_channel(opt_ml: OptMl) -> None:
    opt_ml.config("inputdataconfig", {})


def empty_channel(opt_ml: OptMl) -> None:
    next((opt_ml.root / "input/data/train").iterdir()).unlink()


def line_of_train(number: int, line: str) -> Callable[[OptMl], None]:
    def spoil(opt_ml: OptMl) -> None:
        path = next((opt_ml.root / "input/data/train").iterdir())
        lines = path.read_text().splitlines()
        lines[number - 1] = line
        path.write_text("\n".join(lines))

    return spoil


def hyperparameters(**values: str) -> Callable[[OptMl], None]:
    return lambda opt_ml: opt_ml.config("hyperparameters", HYPERPARAMETERS | values)


def broken(name: str) -> Callable[[OptMl], None]:
    def spoil(opt_ml: OptMl) -> None:
        opt_ml.config_file(name).write_text('{"epochs": "3"')

    return spoil


def missing(name: str) -> Callable[[OptMl], None]:
    return lambda opt_ml: opt_ml.config_file(name).unlink()


@pytest.mark.parametrize(
    "spoil, said",
    [
        pytest.param(no_channel, ["train"], id="no channel"),
        pytest.param(empty_channel, ["train"], id="empty channel"),
        pytest.param(hyperparameters(epochs="many"), ["epochs", "many"], id="bad hyperparameter"),
        pytest.param(
            hyperparameters(epochs="0", optimiser="adam"), ["epochs", "0", "optimiser", "optimizer"], id="two of them"
        ),
        pytest.param(line_of_train(3, "in0: 1"), ["part-0.jsonl", "line 3"], id="line that is not JSON"),
        pytest.param(
            line_of_train(5, '{"label": 1, "in1": [1]}'), ["part-0.jsonl", "line 5", "in0"], id="line without in0"
        ),
        pytest.param(
            line_of_train(7, json.dumps({"label": 1, "in0": [1], "in1": [VOCABULARY]})),
            [
                f'Inconsistent vocab for in1 found. Vocab id "{VOCABULARY}" is not less than vocab_size={VOCABULARY}',
                "line 7",
            ],
            id="token outside the vocabulary",
        ),
        pytest.param(broken("hyperparameters"), ["hyperparameters.json"], id="broken hyperparameters.json"),
        pytest.param(missing("hyperparameters"), ["hyperparameters.json"], id="no hyperparameters.json"),
        pytest.param(broken("inputdataconfig"), ["inputdataconfig.json"], id="broken inputdataconfig.json"),
        pytest.param(broken("resourceconfig"), ["resourceconfig.json"], id="broken resourceconfig.json"),
    ],
)
def test_first_line_of_failure_file_is_the_error(
    start: Start, opt_ml: OptMl, spoil: Callable[[OptMl], None], said: list[str]
) -> None:
    spoil(opt_ml)
    container = start("--network", "none", "--volume", opt_ml.mount, command=("train",))
    assert container.wait() != 0
    assert opt_ml.failure.startswith("ClientError: "), f"{opt_ml.failure!r}\n{container.log()}"
    shown = opt_ml.failure[:1024]
    assert [words for words in said if words not in shown] == []
    assert "Traceback" not in opt_ml.failure
    assert not (opt_ml.model / "model.safetensors").exists()


@pytest.mark.parametrize("names", [["resourceconfig"], ["resourceconfig", "inputdataconfig"]], ids="-".join)
def test_job_without_platform_files_warns(start: Start, opt_ml: OptMl, names: list[str]) -> None:
    """Without these files, a job trains on one host, on the folders below input/data, and logs a warning."""
    for name in names:
        missing(name)(opt_ml)
    container = start("--network", "none", "--volume", opt_ml.mount, command=("train",))
    assert container.wait() == 0, container.log()
    log = container.log()
    assert all(f"{name}.json" in log for name in names)
    assert "WARNING" in log
    assert (opt_ml.model / "model.safetensors").exists()


#: Options of `docker run` for little memory and no swap.
LITTLE = ("--memory", "640m", "--memory-swap", "640m")


@pytest.mark.parametrize(
    "options, values, said",
    [
        pytest.param(
            LITTLE,
            {"enc0_vocab_size": "3000000", "enc0_token_embedding_dim": "300"},
            ["Out of memory (training takes at least 21.6 GB): of 0.671 GB the weights take 7.2 GB", "enc0_vocab_size"],
            id="weights beyond memory",
        ),
        pytest.param(
            LITTLE,
            {"mini_batch_size": "10000", "mlp_dim": "10000", "negative_sampling_rate": "50"},
            [
                "Training was killed by SIGKILL, as the system does where memory runs out: of 0.671 GB",
                "mini_batch_size",
            ],
            id="a batch beyond memory",
        ),
        pytest.param(
            ("--tmpfs", "/opt/ml/model:size=64k"),
            {"enc0_vocab_size": "5000"},
            ["/opt/ml/model: the model of ", "No space left on device"],
            id="a full disk",
        ),
        pytest.param(
            ("--tmpfs", "/opt/ml/model:ro"),
            {},
            ["/opt/ml/model: Read-only file system, wanted a folder that a model can be written to"],
            id="a model directory that is read-only",
        ),
    ],
)
def test_machine_failure_is_reported(
    start: Start, tmp_path: Path, options: tuple[str, ...], values: dict[str, str], said: list[str]
) -> None:
    opt_ml = OptMl(tmp_path / "ml", HYPERPARAMETERS | values, {"train": pairs(2000, 0)})
    container = start("--network", "none", "--volume", opt_ml.mount, *options, command=("train",))
    assert container.wait() != 0
    assert [words for words in said if words not in opt_ml.failure[:1024]] == [], container.log()
    assert "Traceback" not in opt_ml.failure
    assert not list(opt_ml.model.iterdir())
