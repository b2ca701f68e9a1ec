"""The image's `train` on a real tree, with sagemaker-training's own command: results, statuses, failure files."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from sagemaker_training.errors import ClientError

import object2vec
from object2vec.sagemaker import training
from object2vec.training import job
from ranks import start_host
from servers import KILL_SECONDS, free_port

HYPERPARAMETERS = {
    "enc0_network": "pooled_embedding",
    "enc0_max_seq_len": "4",
    "enc0_vocab_size": "5",
    "enc0_token_embedding_dim": '"3"',
    "mlp_dim": "4",
    "epochs": "2",
    "_kvstore": "device",
    "sagemaker_job_name": "job-1",
}
GOOD = '{"in0": [1, 2], "in1": [3], "label": 1}\n{"in0": [4], "in1": [1], "label": 0}\n'
RESOURCES = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}


def tree(
    base: Path, *, hyperparameters: object = HYPERPARAMETERS, channels: Mapping[str, str] | None = None, **files: str
) -> Path:
    """Write the platform's folder with its three files, or those of `files`; each channel has one text file."""
    channels = {"train": GOOD} if channels is None else channels
    written = {
        "hyperparameters": json.dumps(hyperparameters),
        "inputdataconfig": json.dumps({name: {"TrainingInputMode": "File"} for name in channels}),
        "resourceconfig": json.dumps(RESOURCES),
    } | files
    config = base / "input" / "config"
    config.mkdir(parents=True)
    (base / "output").mkdir()
    for name, text in written.items():
        (config / f"{name}.json").write_text(text)
    for name, text in channels.items():
        (base / "input" / "data" / name).mkdir(parents=True)
        (base / "input" / "data" / name / "part-0.jsonl").write_text(text)
    return base


def run_by_the_toolkit(base: Path) -> tuple[int | None, str]:
    """Run the whole `train` command on a tree; return its status and its log."""
    process = start_host(base, free_port(), training.train)
    process.join()
    return process.exitcode, (base / "log").read_text()


def test_successful_job_writes_model_and_success_file(tmp_path: Path) -> None:
    """Status 0, a model that loads, the success file, no failure file. Files next to a channel are not data."""
    written = {"enc0_vocab_size": "5e+00", "comparator_list": '["hadamard", "concat"]', "enc1_layers": "", "seed": None}
    base = tree(tmp_path, hyperparameters=HYPERPARAMETERS | written | {"enc1_vocab_size": "null", "mlp_layers": "1.0"})
    (base / "input" / "data" / "train-manifest").write_text("not a channel")
    status, output = run_by_the_toolkit(base)
    assert status == 0, output
    assert object2vec.load(base / "model").score([([1], [3])]).shape == (1, 2)
    assert (base / "output" / "success").exists()
    assert not (base / "output" / "failure").exists()
    assert "#quality_metric: host=algo-1, epoch=1, train cross_entropy <loss>=" in output
    assert "\r" not in output


@pytest.mark.parametrize("form", ["folder", "file", "file that names a folder"])
def test_checkpoint_folder_is_that_of_the_platform(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Checkpoints go to the folder in checkpointconfig.json, or to the default one if the file or folder exists."""
    folder = tmp_path / ("elsewhere" if form.endswith("folder") and form != "folder" else "checkpoints")
    named = {"S3Uri": "s3://b/p"} | ({"LocalPath": str(folder)} if folder.name == "elsewhere" else {})
    tree(tmp_path, **({} if form == "folder" else {"checkpointconfig": json.dumps(named)}))
    if form == "folder":
        folder.mkdir()
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setattr("object2vec.sagemaker.training.log_as", lambda *_: None)
    training.main()
    assert sorted(path.name for path in folder.glob("*.json")) == [f"checkpoint-00{n}-000000000.json" for n in (1, 2)]
    caplog.clear()
    training.main()
    assert f"Going on from checkpoint-002-000000000 in {folder}: epoch 2, batch 0" in caplog.messages


def test_log_reports_missing_checkpoint_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log uses the built-in's words, and no folder is created."""
    tree(tmp_path)
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setattr("object2vec.sagemaker.training.log_as", lambda *_: None)
    training.main()
    assert "Checkpoint loading and saving are disabled." in caplog.messages
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_failed_job_has_nonzero_status(tmp_path: Path) -> None:
    """A channel without records gives status 1, where sagemaker-training alone may give 0."""
    base = tree(tmp_path, channels={"train": ""})
    status, output = run_by_the_toolkit(base)
    assert status == 1, output
    failure = (base / "output" / "failure").read_text()
    assert failure.startswith("ClientError: channel train: not able to find any data/records in 1 file(s) under ")
    assert "Traceback" not in failure
    assert "Customer Error: " in output


def start(base: Path) -> subprocess.Popen[str]:
    """Run container/train in a process."""
    environment = os.environ | {
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_TRAINING_MODULE": "object2vec.sagemaker.training:main",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-c", "from object2vec.sagemaker.training import train; train()"]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=base
    )


@pytest.mark.slow
def test_sigterm_leaves_a_model(tmp_path: Path) -> None:
    """Status 0 soon after SIGTERM, with the best model so far."""
    base = tree(tmp_path, hyperparameters=HYPERPARAMETERS | {"epochs": "100", "mini_batch_size": "1"})
    (base / "input" / "data" / "train" / "more.jsonl").write_text(GOOD * 100_000)
    with start(base) as job:
        assert job.stdout
        for line in job.stdout:
            if "batches: 100," in line:
                break
        job.send_signal(signal.SIGTERM)
        output, _ = job.communicate(timeout=KILL_SECONDS)
    assert job.returncode == 0, output
    assert "Completed Epoch: 99" not in output
    assert object2vec.load(base / "model").score([([1], [3])]).shape == (1, 2)


@pytest.fixture
def failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    return tmp_path / "output" / "failure"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"channels": {}}, "ClientError: There is no train channel, wanted one; the channels are: none"),
        ({"channels": {"validation": GOOD}}, "ClientError: There is no train channel, wanted one; the channels are: "),
        (
            {"channels": {"train": GOOD + "nonsense\n"}},
            "ClientError: {base}/input/data/train/part-0.jsonl, line 3: not ",
        ),
        (
            {"channels": {"train": '{"in0": [1], "in1": [5], "label": 1}\n'}},
            'Vocab id "5" is not less than vocab_size=5',
        ),
        (
            {
                "channels": {"train": GOOD, "val": GOOD},
                "hyperparameters": HYPERPARAMETERS | {"_tuning_objective_metric": "validation:accuracy"},
            },
            "ClientError: _tuning_objective_metric is validation:accuracy, wanted a validation channel; the channels "
            "are: train, val",
        ),
        ({"hyperparameters": HYPERPARAMETERS | {"epochs": "3.7"}}, "ClientError: epochs: got '3.7', wanted an integer"),
        (
            {"inputdataconfig": '{"train": {"ContentType": "text/csv"}}'},
            "ClientError: No iterator has been registered for ContentType ('text/csv', '1.0')",
        ),
    ],
    ids=["no channel", "no train channel", "bad line", "unknown id", "objective", "bad hyperparameter", "content type"],
)
def test_failure_file_has_only_the_error(failure: Path, tmp_path: Path, changes: dict, sentence: str) -> None:
    """The failure file has only the error message; sagemaker-training gets its ClientError."""
    base = tree(tmp_path, **changes)
    with pytest.raises(ClientError) as raised:
        training.main()
    assert failure.read_text() == str(raised.value)
    assert sentence.format(base=base) in str(raised.value)
    assert str(raised.value).startswith("ClientError: ")


@pytest.mark.parametrize("error", [OSError("text"), TimeoutError(), KeyboardInterrupt(), SystemExit(0), MemoryError()])
def test_unexpected_exceptions_fail_the_job(
    failure: Path, tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exceptions for which sagemaker-training would return 0 reach it as ClientError, named in the failure file."""
    tree(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(job, "run", fail)
    with pytest.raises(ClientError):
        training.main()
    assert failure.read_text() == f"AlgorithmError: {type(error).__name__}: {error}"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"hyperparameters": "{"}, "not JSON"),
        ({"hyperparameters": "[]"}, "wanted a JSON object"),
        ({"inputdataconfig": "nothing"}, "not JSON"),
        ({"resourceconfig": "{}"}, 'wanted {"current_host": "algo-1", "hosts": ["algo-1"]}'),
        ({"resourceconfig": '{"current_host": "algo-3", "hosts": ["algo-1"]}'}, "the first among the second"),
    ],
)
def test_invalid_platform_file_is_named(failure: Path, tmp_path: Path, changes: dict, what: str) -> None:
    """A file on which sagemaker-training fails with a traceback is reported first, by name."""
    tree(tmp_path)
    (name, text) = next(iter(changes.items()))
    (tmp_path / "input" / "config" / f"{name}.json").write_text(text)
    with pytest.raises(SystemExit) as raised:
        training.train()
    assert raised.value.code == 1
    assert failure.read_text().startswith(f"ClientError: {tmp_path}/input/config/{name}.json: ")
    assert what in failure.read_text()


def test_missing_hyperparameters_file_is_named(failure: Path, tmp_path: Path) -> None:
    """The error names the file."""
    tree(tmp_path)
    (tmp_path / "input" / "config" / "hyperparameters.json").unlink()
    with pytest.raises(SystemExit):
        training.train()
    assert failure.read_text().startswith(f"ClientError: {tmp_path}/input/config/hyperparameters.json: No such file")


@pytest.mark.parametrize("left", ["resourceConfig.json", "neither"])
def test_a_job_without_the_files_of_the_platform(tmp_path: Path, left: str) -> None:
    """Channels are the folders of the data, and there is one host: AWS's own local test ships one misspelt file."""
    base = tree(tmp_path, channels={"train": GOOD, "validation": GOOD})
    (base / "input" / "data" / ".cache").mkdir()
    (base / "input" / "data" / "train-manifest").write_text("not a channel")
    config = base / "input" / "config"
    (config / "inputdataconfig.json").unlink()
    (config / "resourceconfig.json").rename(config / "resourceConfig.json")
    if left == "neither":
        (config / "resourceConfig.json").unlink()
    status, output = run_by_the_toolkit(base)
    assert status == 0, output
    assert (base / "output" / "success").exists()
    folders = f"the channels are the folders in {base}/input/data: train, validation"
    assert output.count(f"{config}/inputdataconfig.json: No such file or directory; {folders}") == 1
    if left == "neither":
        assert output.count(f"{config}/resourceconfig.json: No such file or directory; one host is assumed") == 1
    else:
        assert output.count(f"{config}/resourceConfig.json is read in place of resourceconfig.json") == 1
    assert "#quality_metric: host=algo-1, epoch=1, validation cross_entropy <loss>=" in output


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_hyperparameters_may_be_utf16_or_have_a_bom(tmp_path: Path, encoding: str) -> None:
    """The whole command reads a byte order mark and UTF-16, as Windows tools write them."""
    base = tree(tmp_path)
    (base / "input" / "config" / "hyperparameters.json").write_text(json.dumps(HYPERPARAMETERS), encoding=encoding)
    status, output = run_by_the_toolkit(base)
    assert status == 0, output


def test_unknown_channel_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The job warns once and continues."""
    tree(tmp_path, channels={"train": GOOD, "val": GOOD})
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setattr("object2vec.sagemaker.training.log_as", lambda *_: None)
    training.main()
    known = "train, validation, test, auxiliary, schema, model"
    sentence = f"channel val: not known and not read, the nearest is validation; channels are {known}"
    assert caplog.messages.count(sentence) == 1


def test_spark_part_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Gzip without a suffix is read; empty parts are skipped with a warning."""
    tree(tmp_path, channels={"train": GOOD, "validation": GOOD})
    for name in ("train", "validation"):
        (tmp_path / "input" / "data" / name / "part-1").write_bytes(gzip.compress(GOOD.encode()))
        (tmp_path / "input" / "data" / name / "part-2.jsonl.gz").write_bytes(gzip.compress(b""))
        (tmp_path / "input" / "data" / name / "part-3.jsonl").write_bytes(b"")
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setattr("object2vec.sagemaker.training.log_as", lambda *_: None)
    training.main()
    assert caplog.messages.count("Total: 4 samples") == 2
    for name in ("train", "validation"):
        which = f"2 of 4 files, the first is {tmp_path}/input/data/{name}/part-2.jsonl.gz"
        assert f"channel {name}: files without records are skipped: {which}" in caplog.messages


def test_existing_failure_file_is_kept(failure: Path, tmp_path: Path) -> None:
    """A lower layer may have written a better message."""
    tree(tmp_path, channels={})
    failure.write_text("better")
    with pytest.raises(ClientError):
        training.main()
    assert failure.read_text() == "better"
