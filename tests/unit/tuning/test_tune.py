"""The verb `tune`, through `main(argv)`: its trials, its files, and what it refuses."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import object2vec
from object2vec.atomic_files import checksum
from object2vec.cli import main
from object2vec.errors import AlgorithmError
from object2vec.tuning import search
from small import write_pairs

SETTINGS = {
    "enc0_network": "pooled_embedding",
    "enc0_max_seq_len": "2",
    "enc0_vocab_size": "9",
    "enc0_token_embedding_dim": "4",
    "mlp_layers": "0",
    "learning_rate": "0.01",
    "epochs": "3",
    "early_stopping_patience": "5",
}
RECORDED = ("number", "state", "value", "drawn", "epochs", "error")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data set: pairs that a model can learn, and test pairs that cannot be read."""
    folder = tmp_path / "data"
    for name, first in (("train", 0), ("validation", 100)):
        rows = [([n % 8 + 1], [n // 8 % 8 + 1], int((n + n // 8) % 8 > 3)) for n in range(first, first + 100)]
        write_pairs(folder / f"{name}.jsonl", rows)
    (folder / "test.jsonl").write_text("not JSON")
    (folder / "hyperparameters.json").write_text(json.dumps(SETTINGS))
    return folder


def tune(data: Path, out: str, *more: str, trials: int = 3) -> int:
    return main(["tune", "--data", str(data), "--out", str(data.parent / out), "--trials", str(trials), *more])


def trials_of(data: Path, out: str) -> list[dict[str, Any]]:
    """Return the recorded trials without their times."""
    document = json.loads((data.parent / out / "trials.json").read_text())
    return [{name: trial[name] for name in RECORDED} for trial in document["trials"]]


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    line = capsys.readouterr().err
    assert line.startswith("object2vec: error: ")
    assert line.count("\n") == 1
    return line.removeprefix("object2vec: error: ").rstrip("\n")


def test_the_best_model_is_kept_and_its_line_trains_it_again(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first trial has the given settings; the printed command gives the same weights."""
    assert tune(data, "out", "--hyperparameters", "epochs=2", trials=4) == 0
    trials = trials_of(data, "out")
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3]
    assert trials[0]["drawn"] == {"learning_rate": 0.01, "mini_batch_size": 32, "dropout": 0.0}
    assert all(len(trial["epochs"]) == 2 for trial in trials)
    best = min(trials, key=lambda trial: trial["value"])
    assert object2vec.load(data.parent / "out").hyperparameters.learning_rate == best["drawn"]["learning_rate"]
    table, command = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert f"best: trial {best['number']}, validation:cross_entropy {best['value']:#.4g}; its model is in" in table
    (data / "test.jsonl").unlink()  # training reads it
    words = shlex.split(command)
    assert words[0] == "object2vec"
    assert main([*words[1:-1], str(data.parent / "again"), "--log", "quiet"]) == 0
    weights = [checksum(data.parent / name / "model.safetensors") for name in ("out", "again")]
    assert weights[0] == weights[1]


def test_table_marks_each_best_so_far(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(data, "out", trials=5) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if re.match(r" +\d+  ", line)]
    values = [float(row[1]) for row in rows]
    assert [row[-1] == "*" for row in rows] == [value == min(values[: n + 1]) for n, value in enumerate(values)]


def test_same_seed_gives_the_same_trials_also_if_resumed(data: Path) -> None:
    """A search in two parts equals one in one part; another seed draws other values."""
    assert tune(data, "a", "--seed", "1", trials=13) == 0  # ten are drawn before the others guide the search
    assert tune(data, "b", "--seed", "2", trials=3) == 0
    for trials in (4, 13):
        assert tune(data, "c", "--seed", "1", "--resume", trials=trials) == 0
        assert len(trials_of(data, "c")) == trials
    assert trials_of(data, "a") == trials_of(data, "c")
    assert trials_of(data, "a")[1:3] != trials_of(data, "b")[1:]
    files = ["model.safetensors", "config.json"]
    assert [checksum(data.parent / "a" / f) for f in files] == [checksum(data.parent / "c" / f) for f in files]


def test_without_resume_the_search_starts_again(data: Path) -> None:
    assert tune(data, "out", trials=3) == 0
    assert tune(data, "out", trials=1) == 0
    assert len(trials_of(data, "out")) == 1


@pytest.mark.parametrize(
    ("more", "name"),
    [
        (["--seed", "1"], "seed"),
        (["--hyperparameters", "epochs=2"], "hyperparameters"),
        (["--objective", "auc"], "objective"),
        (["--candidates", "2"], "candidates"),
    ],
)
def test_another_search_is_not_resumed(
    data: Path, more: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(data, "out", trials=1) == 0
    capsys.readouterr()
    assert tune(data, "out", *more, "--resume") == 2
    sentence = (
        f"{data.parent}/out/trials.json is of another search: {name} is not the same; wanted the same, or another"
    )
    assert error_of(capsys).startswith(sentence)


def test_other_data_is_not_resumed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(data, "out", trials=1) == 0
    write_pairs(data / "validation.jsonl", [([1], [2], 1), ([2], [1], 0)])
    capsys.readouterr()
    assert tune(data, "out", "--resume") == 2
    assert "is of another search: data is not the same" in error_of(capsys)


@pytest.mark.parametrize("text", ["{", '{"trials": 3}'])
def test_damaged_trials_are_named(data: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(data, "out", trials=1) == 0
    path = data.parent / "out/trials.json"
    path.write_text(text if text == "{" else json.dumps(json.loads(path.read_text()) | json.loads(text)))
    capsys.readouterr()
    assert tune(data, "out", "--resume") == 2
    assert error_of(capsys).startswith(f"{path}: ")


def test_ranking_metric_of_the_validation_pairs(data: Path) -> None:
    """The value is that of `evaluate` on the validation pairs, with the training pairs as known."""
    assert tune(data, "out", "--objective", "recall@1", "--candidates", "3", trials=2) == 0
    best = max(trials_of(data, "out"), key=lambda trial: trial["value"])
    model = object2vec.load(data.parent / "out")
    found = model.evaluate(data / "validation.jsonl", data / "train.jsonl", candidates=3)
    assert best["value"] == found.rankings["model"].recall[1]
    assert all(max(trial["epochs"]) < 0 for trial in trials_of(data, "out"))  # minus the loss, which is to be low


def test_bad_trials_are_pruned(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that is worse than the median after some epochs ends there, and its model is not kept."""
    monkeypatch.setattr(search, "TRIALS_BEFORE_PRUNING", 1)
    assert tune(data, "out", "--hyperparameters", "epochs=8", "learning_rate=0.05", trials=8) == 0
    trials = trials_of(data, "out")
    pruned = [trial for trial in trials if trial["state"] == "pruned"]
    assert pruned
    assert all(2 < len(trial["epochs"]) < 8 and trial["value"] is None for trial in pruned)
    assert {len(trial["epochs"]) for trial in trials if trial not in pruned} == {8}


def ranges(data: Path, **kinds: list[dict[str, Any]]) -> list[str]:
    """Return the argument with a file of ranges."""
    path = data.parent / "ranges.json"
    path.write_text(json.dumps({f"{kind}ParameterRanges": entries for kind, entries in kinds.items()}))
    return ["--ranges", str(path)]


OPTIMIZERS = {"Name": "optimizer", "Values": ["adam", "rmsprop"]}


def test_failed_trials_are_recorded(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A combination that is not possible fails alone, and its reason is recorded."""
    sparse = ["--hyperparameters", "token_embedding_storage_type=row_sparse"]
    assert tune(data, "out", *ranges(data, Categorical=[OPTIMIZERS]), *sparse, trials=6) == 0
    failed = [trial for trial in trials_of(data, "out") if trial["state"] == "failed"]
    assert failed
    assert {trial["drawn"]["optimizer"] for trial in failed} == {"rmsprop"}
    assert {trial["error"] for trial in failed} == {
        "optimizer: got 'rmsprop', wanted one of adam, adagrad, sgd with token_embedding_storage_type=row_sparse"
    }
    assert " failed " in capsys.readouterr().out


def test_search_without_a_value_fails(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AlgorithmError("the loss is nan")

    monkeypatch.setattr(search, "run", fail)
    assert tune(data, "out", trials=2) == 1
    assert error_of(capsys) == "no trial had a value; trial 1 failed: the loss is nan"
    assert [trial["state"] for trial in trials_of(data, "out")] == ["failed", "failed"]


def test_negative_sampling_can_be_searched_by_a_ranking_metric(data: Path) -> None:
    """Its losses are not compared, so no trial is pruned."""
    rate = {"Name": "negative_sampling_rate", "MinValue": "1", "MaxValue": "3"}
    assert tune(data, "out", *ranges(data, Integer=[rate]), "--objective", "ndcg@5", trials=8) == 0
    trials = trials_of(data, "out")
    assert {trial["state"] for trial in trials} == {"complete"}
    assert {trial["drawn"]["negative_sampling_rate"] for trial in trials} == {1, 2, 3}


@pytest.mark.parametrize("step", [1.0, 1e4])
def test_end_of_time_keeps_the_best_model(data: Path, step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The running trial is dropped, but never the first one. The time moves on by a step each time it is read."""
    now = itertools.count(0.0, step)
    monkeypatch.setattr(search.time, "monotonic", lambda: next(now))
    assert tune(data, "out", "--minutes", "1", trials=50) == 0
    assert (len(trials_of(data, "out")) == 1) is (step > 1)
    assert len(trials_of(data, "out")) < 50
    assert object2vec.load(data.parent / "out").network


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "tune needs --data and --out, or --print-sagemaker"),
        (["--data", "none", "--out", "o"], "none: no such folder, wanted one that `object2vec prepare` wrote"),
        (["--print-sagemaker", "--seed", "-1"], "--seed is -1, wanted a number from 0 to 2147483647"),
        (["--print-sagemaker", "--objective", "auc"], "--objective is auc, wanted for a tuning job a metric of epochs"),
        (["--print-sagemaker", "--ranges", "none"], "none: No such file or directory, wanted ranges as"),
    ],
)
def test_bad_arguments(argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *argv]) == 2
    assert error_of(capsys).startswith(sentence)


@pytest.mark.parametrize(
    ("labels", "more", "sentence"),
    [
        ((1, 4.5), [], "a label is 4.5, wanted 0 and 1, or --relevant LABEL, to rank by ndcg@10"),
        (
            (1, 4.5),
            ["--relevant", "5"],
            "no validation pair has the label of a positive, wanted one to rank by ndcg@10",
        ),
        ((0, 0), [], "no validation pair has the label of a positive, wanted one to rank by ndcg@10"),
    ],
)
def test_pairs_that_cannot_be_ranked(
    data: Path, labels: tuple[float, float], more: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The search ends before a model is trained."""
    write_pairs(data / "validation.jsonl", [([1], [2], labels[0]), ([2], [1], labels[1])])
    stars = ["--hyperparameters", "output_layer=mean_squared_error", "--objective", "ndcg@10"]
    assert tune(data, "out", *stars, *more) == 2
    assert error_of(capsys) == sentence
    assert not (data.parent / "out").exists()


def test_stars_are_ranked_with_a_label(data: Path) -> None:
    write_pairs(data / "validation.jsonl", [([1], [2], 4.5), ([2], [1], 3), ([2], [3], 5)])
    stars = ["--hyperparameters", "output_layer=mean_squared_error", "--objective", "ndcg@10", "--relevant", "4"]
    assert tune(data, "out", *stars, trials=1) == 0
    assert trials_of(data, "out")[0]["value"] > 0


def test_bad_data(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the first trial, such as a line that is no pair, ends the search and leaves no folder."""
    (data / "train.jsonl").write_text("{}")
    assert tune(data, "out") == 2
    assert error_of(capsys).startswith(f"{data}/train.jsonl, line 1: ")
    (data / "validation.jsonl").unlink()
    assert tune(data, "out") == 2
    assert error_of(capsys) == f"{data} has no validation pairs, wanted some: they choose the best model"
    assert not (data.parent / "out").exists()


def test_missing_package_is_named(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert tune(data, "out") == 2
    assert error_of(capsys) == "tune needs optuna, which is not installed: pip install 'object2vec[tune]'"
