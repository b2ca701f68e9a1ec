"""The command reports a wrong argument, configuration or first line before it imports torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from small import write_pairs

SMALL = ["enc0_network=pooled_embedding", "enc0_max_seq_len=4", "enc0_vocab_size=9", "enc0_token_embedding_dim=4"]
#: Runs the command; its last line of standard output says whether torch was imported.
PROGRAM = """
import sys
from object2vec.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as end:
    status = end.code
print("torch" in sys.modules)
sys.exit(status)
"""


def run(*argv: object, text: bytes = b"") -> tuple[int, str, bool]:
    """Run the command in a process: its status, the last line of its errors, whether it imported torch."""
    command = [sys.executable, "-c", PROGRAM, *map(str, argv)]
    done = subprocess.run(command, input=text, capture_output=True, check=False)
    errors = done.stderr.decode().splitlines()
    return done.returncode, errors[-1] if errors else "", done.stdout.split()[-1] == b"True"


def refused(*argv: object, text: bytes = b"") -> str:
    """Run a command that refuses its input before torch is imported, and return its sentence."""
    status, sentence, imported = run(*argv, text=text)
    assert (status, imported) == (2, False), sentence
    return sentence.partition("error: ")[2]


# train.


def train(tmp_path: Path, *argv: object, hyperparameters: tuple[str, ...] = ()) -> list[object]:
    """The arguments of a training that works, and more."""
    data = write_pairs(tmp_path / "train.jsonl", [([n % 9], [n // 9 % 9], n % 2) for n in range(40)])
    given = ["--hyperparameters", *SMALL, "epochs=1", *hyperparameters]
    return ["train", "--train", data, "--out", tmp_path / "model", *argv, *given]


def test_training_that_works_imports_torch(tmp_path: Path) -> None:
    """The program above sees torch where it is imported."""
    assert run(*train(tmp_path)) == (0, "", True)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("epochs=0", "epochs"),
        ("mini_batch_size=many", "mini_batch_size"),
        ("optimiser=adam", "optimiser"),
        ("enc1_network=pooled_embeding", "enc1_network"),
    ],
)
def test_bad_hyperparameter(tmp_path: Path, value: str, sentence: str) -> None:
    assert sentence in refused(*train(tmp_path, hyperparameters=(value,)))


@pytest.mark.parametrize("name", ["train", "validation", "test"])
@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"in0": [1], "in1": [2]}', "no label"),
        ('{"in0": [9], "in1": [2], "label": 1}', "Inconsistent vocab for in0 found"),
        ('{"in0": [1], "in1": [2], "label": 7}', "label is 7"),
        ("user,film,stars", "not JSON"),
    ],
)
def test_bad_first_line_of_a_channel(tmp_path: Path, name: str, line: str, sentence: str) -> None:
    """The file and the line are named, lines without text are counted."""
    path = tmp_path / "data" / "part-0000"
    path.parent.mkdir()
    path.write_text(f"\n\n{line}\n")
    found = refused(*train(tmp_path, f"--{name}", path.parent))
    assert found.startswith(f"{path}, line 3: ")
    assert sentence in found


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_missing_path_of_a_channel(tmp_path: Path, name: str) -> None:
    assert "nothing-here" in refused(*train(tmp_path, f"--{name}", tmp_path / "nothing-here"))


def test_missing_auxiliary_file(tmp_path: Path) -> None:
    names = ("enc0_vocab_file=vocab.json", "enc0_pretrained_embedding_file=vectors.txt")
    (tmp_path / "auxiliary").mkdir()
    argv = train(tmp_path, "--auxiliary", tmp_path / "auxiliary", hyperparameters=names)
    assert "no such file; the auxiliary channel has nothing" in refused(*argv)


def test_model_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sentence = refused(*train(tmp_path, "--out", tmp_path / "file" / "model"))
    assert sentence == f"{tmp_path}/file/model: Not a directory, wanted a folder that a model can be written to"


def test_wrong_argument(tmp_path: Path) -> None:
    assert refused(*train(tmp_path, "--resum3")) == "unrecognized arguments: --resum3"
