"""The command reports a wrong argument, configuration or first line before it imports torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from object2vec import artifact
from object2vec.cli import main
from small import configured, network_of, write_pairs

SMALL = ["enc0_network=pooled_embedding", "enc0_max_seq_len=4", "enc0_vocab_size=9", "enc0_token_embedding_dim=4"]
#: Runs one command for each line of its input, in a forked process, so that Python starts once.
PROGRAM = """
import json, os, sys, traceback
import object2vec.serving.offline, object2vec.training.checks
from object2vec.cli import main

def run(argv, environment, *files):
    for number, (file, mode) in enumerate(zip(files, "rww")):
        with open(file, mode) as stream:
            os.dup2(stream.fileno(), number)
    os.environ.update(environment)
    try:
        status = main(argv)
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    print("torch" in sys.modules)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

for request in open(os.dup(0)):
    child = os.fork()
    if not child:
        run(*json.loads(request))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
Run = Callable[..., tuple[int, str, bool]]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run the command in a process: its status, the last line of its errors, whether it imported torch."""
    files = [tmp_path_factory.mktemp("streams") / name for name in ("input", "output", "errors")]
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout

        def run(*argv: object, text: bytes = b"", **environment: str) -> tuple[int, str, bool]:
            files[0].write_bytes(text)
            process.stdin.write(json.dumps([list(map(str, argv)), environment, *map(str, files)]) + "\n")
            process.stdin.flush()
            status = int(process.stdout.readline())
            errors = files[2].read_text().splitlines()
            return status, errors[-1] if errors else "", files[1].read_text().split()[-1] == "True"

        yield run
        process.stdin.close()


@pytest.fixture(scope="module")
def refused(run: Run) -> Refused:
    """Run a command that refuses its input before torch is imported, and return its sentence."""

    def refused(*argv: object, text: bytes = b"", **environment: str) -> str:
        status, sentence, imported = run(*argv, text=text, **environment)
        assert (status, imported) == (2, False), sentence
        return sentence.partition("error: ")[2]

    return refused


# train.


def train(tmp_path: Path, *argv: object, hyperparameters: tuple[str, ...] = ()) -> list[object]:
    """The arguments of a training that works, and more."""
    data = write_pairs(tmp_path / "train.jsonl", [([n % 9], [n // 9 % 9], n % 2) for n in range(40)])
    given = ["--hyperparameters", *SMALL, "epochs=1", *hyperparameters]
    return ["train", "--train", data, "--out", tmp_path / "model", *argv, *given]


@pytest.mark.slow
def test_training_that_works_imports_torch(run: Run, tmp_path: Path) -> None:
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
def test_bad_hyperparameter(refused: Refused, tmp_path: Path, value: str, sentence: str) -> None:
    assert sentence in refused(*train(tmp_path, hyperparameters=(value,)))


@pytest.mark.parametrize(
    ("name", "line", "sentence"),
    [
        ("train", '{"in0": [1], "in1": [2]}', "no label"),
        ("validation", '{"in0": [9], "in1": [2], "label": 1}', "Inconsistent vocab for in0 found"),
        ("test", '{"in0": [1], "in1": [2], "label": 7}', "label is 7"),
        ("train", "user,film,stars", "not JSON"),
    ],
)
def test_bad_first_line_of_a_channel(refused: Refused, tmp_path: Path, name: str, line: str, sentence: str) -> None:
    """The file and the line are named, lines without text are counted."""
    path = tmp_path / "data" / "part-0000"
    path.parent.mkdir()
    path.write_text(f"\n\n{line}\n")
    found = refused(*train(tmp_path, f"--{name}", path.parent))
    assert found.startswith(f"{path}, line 3: ")
    assert sentence in found


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_missing_path_of_a_channel(refused: Refused, tmp_path: Path, name: str) -> None:
    assert "nothing-here" in refused(*train(tmp_path, f"--{name}", tmp_path / "nothing-here"))


def test_missing_auxiliary_file(refused: Refused, tmp_path: Path) -> None:
    names = ("enc0_vocab_file=vocab.json", "enc0_pretrained_embedding_file=vectors.txt")
    (tmp_path / "auxiliary").mkdir()
    argv = train(tmp_path, "--auxiliary", tmp_path / "auxiliary", hyperparameters=names)
    assert "no such file; the auxiliary channel has nothing" in refused(*argv)


def test_pretrained_embeddings_require_a_vocabulary(refused: Refused, tmp_path: Path) -> None:
    """Without a vocabulary or a schema, the words have no ids. A table also needs the words of its rows."""
    (tmp_path / "auxiliary").mkdir()
    (tmp_path / "auxiliary" / "g.npy").touch()
    (tmp_path / "auxiliary" / "ids.json").touch()
    argv = partial(train, tmp_path, "--auxiliary", tmp_path / "auxiliary")
    name = "enc0_pretrained_embedding_file=g.npy"
    assert refused(*argv(hyperparameters=[name])) == (
        "enc0_pretrained_embedding_file: got 'g.npy' and no enc0_vocab_file, wanted both: "
        "the vocabulary says which word has which token id"
    )
    assert refused(*argv(hyperparameters=[name, "enc0_vocab_file=ids.json"])) == (
        f"{tmp_path}/auxiliary/g.npy: no file in its folder has its words, "
        "wanted one of g.txt, g.json, vocab.txt, vocab.json, tokenizer.json"
    )


def test_model_directory_that_cannot_be_written(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sentence = refused(*train(tmp_path, "--out", tmp_path / "file" / "model"))
    assert sentence == f"{tmp_path}/file/model: Not a directory, wanted a folder that a model can be written to"


def test_wrong_argument(refused: Refused, tmp_path: Path) -> None:
    assert refused(*train(tmp_path, "--resum3")) == "unrecognized arguments: --resum3"


#: Names in the folder `models`, and the sentence about each.
UNUSABLE_MODELS = [
    ("missing", "No such file or directory"),
    ("empty", "no model"),
    ("no-weights", "model.safetensors: truncated, damaged or missing"),
    ("truncated", "model.safetensors: truncated, damaged or missing"),
]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        *UNUSABLE_MODELS,
        ("other", "does not fit: enc0_token_embedding_dim is 5 there and 4 here; enc1_token_embedding_dim is 5 there"),
    ],
)
def test_model_to_start_from(refused: Refused, tmp_path: Path, models: Path, model: str, sentence: str) -> None:
    found = refused(*train(tmp_path, "--model", models / model))
    assert found.startswith("channel model: ")
    assert sentence in found


# predict and serve.


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: one is `good`, the others cannot be used, or not for all."""
    folder = tmp_path_factory.mktemp("models")
    for name, dim in (("good", 4), ("other", 5), ("no-weights", 4), ("truncated", 4)):
        hyperparameters = configured(enc0_token_embedding_dim=dim)
        artifact.save(folder / name, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    (folder / "no-weights" / artifact.WEIGHTS).unlink()
    weights = folder / "truncated" / artifact.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-8])
    (folder / "empty").mkdir()
    (folder / "damaged.tar.gz").write_bytes(b"\x1f\x8bnot gzip")
    (folder / "text.jsonl").write_text('{"in0": [1]}\n')
    return folder


@pytest.mark.slow
def test_answering_imports_torch(run: Run, models: Path) -> None:
    assert run("predict", "--model", models / "good", text=b'{"in0": [1]}') == (0, "", True)


@pytest.mark.parametrize("verb", ["predict", "serve"])
@pytest.mark.parametrize(("model", "sentence"), UNUSABLE_MODELS)
def test_model_that_cannot_be_used(refused: Refused, models: Path, verb: str, model: str, sentence: str) -> None:
    assert sentence in refused(verb, "--model", models / model, text=b'{"in0": [1]}')


@pytest.mark.parametrize("name", ["damaged.tar.gz", "text.jsonl"])
def test_file_that_is_no_archive_of_a_model(refused: Refused, models: Path, name: str) -> None:
    assert "cannot be unpacked" in refused("predict", "--model", models / name, text=b'{"in0": [1]}')


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"in0,in1\n1,2\n", "line 1: "),
        (b'\n\n{"in0": [1}\n', "line 3: "),
        (b'{"in0": [1.5]}\n', "line 1: in0[0] is 1.5"),
        (b'{"label": 1}\n{"in0": [1]}', "line 1 has neither in0 nor in1"),
        (b'{"in0": [1, 9]}', 'line 1: Inconsistent vocab for in0 found. Vocab id "9" is not less than vocab_size=9'),
        (b'{"in1": [-1]}', "line 1: in1 has the token -1"),
        (b'\xef\xbb\xbf{"in1": [99]}', 'line 1: Inconsistent vocab for in1 found. Vocab id "99"'),
    ],
)
def test_bad_first_line_of_the_input(
    refused: Refused, models: Path, tmp_path: Path, text: bytes, sentence: str
) -> None:
    """The line is named, and no output is left."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(text)
    argv = ("--model", models / "good", "--input", path, "--output", tmp_path / "out")
    assert refused("predict", *argv).startswith(sentence)
    assert list(tmp_path.iterdir()) == [path]


def test_bad_first_line_of_standard_input(refused: Refused, models: Path) -> None:
    assert refused("predict", "--model", models / "good", text=b'{"in0": [9]}').startswith("line 1: Inconsistent vocab")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b'{"instances": [{"in0": [1]}, {"in0": [9]}]}', "instances[1]: Inconsistent vocab for in0 found"),
        (b'{"instances": [{"in0": [1]}', "unable to evaluate payload provided"),
        (b'{"instances": {"in0": [1]}}', "unable to evaluate payload provided"),
    ],
)
def test_bad_document(refused: Refused, models: Path, text: bytes, sentence: str) -> None:
    """A short document is read as a whole."""
    argv = ("predict", "--model", models / "good", "--content-type", "application/json")
    assert refused(*argv, text=text).startswith(sentence)


def test_answers_that_make_no_array(refused: Refused, models: Path) -> None:
    argv = ("predict", "--model", models / "good", "--mode", "embedding", "--accept", "application/x-npy")
    assert refused(*argv, text=b'{"in0": [1], "in1": [1]}').startswith("application/x-npy is one array")


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--input", "/no/such/file"), "--input /no/such/file: No such file or directory"),
        (("--output", "/dev/null/file"), "--output /dev/null/file: Not a directory"),
        (("--content-type", "text/csv"), "Content-Type 'text/csv' is not supported"),
        (("--accept", "text/csv"), "Accept 'text/csv' allows no reply that can be sent"),
        (("--mode", "fast"), "argument --mode: invalid choice: 'fast'"),
    ],
)
def test_wrong_option_of_predict(refused: Refused, models: Path, option: tuple[str, str], sentence: str) -> None:
    assert refused("predict", "--model", models / "good", *option, text=b'{"in0": [1]}').startswith(sentence)


def test_wrong_variable_of_serve(refused: Refused, models: Path) -> None:
    found = refused("serve", "--model", models / "good", SAGEMAKER_MODEL_SERVER_WORKERS="many")
    assert found.startswith("SAGEMAKER_MODEL_SERVER_WORKERS is 'many'")


def test_describe_imports_no_torch(run: Run) -> None:
    assert run("describe", "ranges")[2] is False


# Paths.


ADDRESSES = ["gs://bucket/train", "GS://bucket/train", "https://host/train"]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("argument", ["--train", "--validation", "--test", "--auxiliary", "--model"])
def test_an_address_for_a_channel(tmp_path: Path, argument: str, address: str, capsys: pytest.CaptureFixture) -> None:
    """An address is shown whole, and the sentence says what to do."""
    with pytest.raises(SystemExit) as raised:
        main([str(each) for each in train(tmp_path, argument, address)])
    assert raised.value.code == 2
    scheme = address.partition(":")[0]
    sentence = f"argument {argument}: {address}: {scheme}:// is not read yet; copy it to a folder first"
    assert capsys.readouterr().err.splitlines()[-1] == f"object2vec train: error: {sentence}"


@pytest.mark.parametrize("argument", ["--out", "--resume"])
def test_an_address_to_write_to(tmp_path: Path, argument: str, capsys: pytest.CaptureFixture) -> None:
    """The sentence says to copy the result."""
    with pytest.raises(SystemExit):
        main([str(each) for each in train(tmp_path, argument, "gs://bucket/x")])
    sentence = "gs://bucket/x: gs:// is not written yet; write to a folder and copy it from there"
    assert capsys.readouterr().err.splitlines()[-1] == f"object2vec train: error: argument {argument}: {sentence}"


def test_an_address_of_hyperparameters(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A file of hyperparameters is not read from an address of another service than S3."""
    arguments = [str(each) for each in train(tmp_path, hyperparameters=("gs://bucket/a=b.json",))]
    assert main(arguments) == 2
    sentence = "gs://bucket/a=b.json: gs:// is not read yet; copy it to a folder first"
    assert capsys.readouterr().err == f"object2vec: error: {sentence}\n"


@pytest.mark.parametrize("verb", ["predict", "serve"])
def test_an_address_of_a_model(verb: str, capsys: pytest.CaptureFixture) -> None:
    """No verb reads a model from an address of another service than S3."""
    with pytest.raises(SystemExit):
        main([verb, "--model", "gs://bucket/model.tar.gz"])
    sentence = "gs://bucket/model.tar.gz: gs:// is not read yet; copy it to a folder first"
    assert capsys.readouterr().err.splitlines()[-1] == f"object2vec {verb}: error: argument --model: {sentence}"


def test_a_missing_channel(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A path that is missing is not an empty folder."""
    assert main([str(each) for each in train(tmp_path, "--validation", "/nope/validation")]) == 2
    sentence = "channel validation: /nope/validation: No such file or directory"
    assert capsys.readouterr().err == f"object2vec: error: {sentence}\n"
