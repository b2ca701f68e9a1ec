"""Ctrl-C at random moments of the command's verbs: one line, a status that is not 0, and nothing half-written."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import object2vec
from servers import COMMAND

pytestmark = pytest.mark.slow
TRIES = 5
OUTPUTS = {
    "prepare": {"hyperparameters.json", "report.json", "schema", "test.jsonl", "train.jsonl", "validation.jsonl"},
    "train": {"config.json", "model.safetensors", "schema.json", "in0.vocabulary.tsv", "in1.vocabulary.tsv"},
    "tune": {
        "config.json",
        "model.safetensors",
        "schema.json",
        "in0.vocabulary.tsv",
        "in1.vocabulary.tsv",
        "trials.json",
    },
    "mine": {"hyperparameters.json", "schema", "test.jsonl", "train.jsonl", "validation.jsonl"},
    "predict": {"scores.jsonl"},
    "evaluate": {"e.json", "e.html"},
    "index": {"config.json", "model.safetensors", "schema.json", "in0.vocabulary.tsv", "in1.vocabulary.tsv"},
    "recommend": {"answers.jsonl"},
    "embed": {"e.npy"},
}
#: Verbs whose files are in a folder that exists before.
IN_FOLDERS = ("predict", "evaluate", "recommend", "embed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a table, prepared data and a model."""
    folder = tmp_path_factory.mktemp("made")
    draw = random.Random(0)
    rows = (f"{draw.randrange(900)},{draw.randrange(700)},w{draw.randrange(99)} x,{n % 2}" for n in range(100_000))
    (folder / "t.csv").write_text("u,i,t,y\n" + "\n".join(rows))
    assert run(folder, "prepare", folder / "data") == 0
    assert run(folder, "train", folder / "model", "epochs=1") == 0
    assert run(folder, "index", folder / "model") == 0
    return folder


def words(folder: Path, verb: str, out: Path) -> list[str]:
    table = ["--in0", "u", "--in1", "i", "t:text", "--label", "y"]
    data, model = str(folder / "data"), str(folder / "model")
    return {
        "prepare": ["prepare", str(folder / "t.csv"), *table, "--out", str(out)],
        "train": ["train", "--data", data, "--out", str(out), "--log", "quiet", "--hyperparameters"],
        "tune": ["tune", "--data", data, "--out", str(out), "--trials", "99", "--hyperparameters", "epochs=1"],
        "mine": ["mine", "--model", model, "--data", data, "--out", str(out)],
        "index": ["index", "--model", str(out), "--objects", str(folder / "t.csv")],
        "recommend": [
            *("recommend", "--model", model, "--input", str(folder / "t.csv")),
            *("--exclude", str(folder / "t.csv"), "--output", f"{out}/answers.jsonl"),
        ],
        "embed": ["embed", "--model", model, "--side", "in0", "--output", f"{out}/e.npy"],
        "predict": ["predict", "--model", model, "--input", f"{data}/train.jsonl", "--output", f"{out}/scores.jsonl"],
        "evaluate": [
            "evaluate",
            "--model",
            model,
            "--data",
            data,
            "--json",
            f"{out}/e.json",
            "--html",
            f"{out}/e.html",
        ],
    }[verb]


def run(folder: Path, verb: str, out: Path, *more: str) -> int:
    return subprocess.run(
        [COMMAND, *words(folder, verb, out), *more], stdout=subprocess.DEVNULL, check=False
    ).returncode


@pytest.mark.parametrize("verb", OUTPUTS)
def test_interrupted_at_random_moments(folder: Path, tmp_path: Path, verb: str) -> None:
    (tmp_path / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    draw = random.Random(verb)
    for number in range(TRIES):
        out = tmp_path / str(number)
        if verb in IN_FOLDERS:
            out.mkdir()
        if verb == "index":
            shutil.copytree(folder / "model", out)
        more = ["epochs=100", "early_stopping_patience=5"] if verb == "train" else []
        with subprocess.Popen(
            [COMMAND, *words(folder, verb, out), *more],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            while process.poll() is None and "numpy" not in Path(f"/proc/{process.pid}/maps").read_text():
                time.sleep(0.01)  # the command has begun when it imports numpy
            time.sleep(draw.uniform(0, 4))
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=120)
        names = {path.name for path in out.iterdir()} if out.exists() else set()
        if verb == "index":
            names = {name for name in names if not name.startswith("index-")}
            assert names == OUTPUTS[verb]
            assert object2vec.load(out).neighbors(1, side="in0")
        if process.returncode in (0, -signal.SIGINT):  # it had ended, or Python was about to
            assert names == OUTPUTS[verb]
            continue
        *before, last = errors.splitlines()
        assert (process.returncode, last) == (130, "object2vec: interrupted"), errors
        if verb in ("train", "tune") and names:
            assert names == OUTPUTS[verb]
            assert object2vec.load(out).network
        elif verb != "index":
            assert names <= ({"e.json"} if verb == "evaluate" else set())
        assert [line for line in before if not line.startswith("object2vec: warning: Stopped before")] == []
        assert [path.name for path in (tmp_path / "tmp").iterdir() if path.name.startswith("object2vec")] == []
