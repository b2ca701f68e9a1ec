"""The command, through `main(argv)`: what it prints, writes and ends with."""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import object2vec
from object2vec import artifact
from object2vec.cli import main
from object2vec.retrieval.command import VERBS
from object2vec.serving.offline import CHUNK_LINES
from object2vec.serving.predictor import Predictor
from object2vec.training.graceful_shutdown import Stop, handle_termination_signals
from small import configured, network_of

PAIRS = [([1, 2], [3]), ([4], [5, 6]), ([7], [8])]
SMALL = ["enc0_network=pooled_embedding", "enc0_max_seq_len=4", "enc0_vocab_size=9", "enc0_token_embedding_dim=4"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    hyperparameters = configured()
    artifact.save(directory, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    return directory


@pytest.fixture
def train_file(tmp_path: Path) -> Path:
    lines = [json.dumps({"in0": [n % 9], "in1": [n // 9 % 9], "label": n % 2}) for n in range(40)]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(lines))
    return path


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the single line on standard error, without the name of the command."""
    line = capsys.readouterr().err
    assert line.startswith("object2vec: error: ")
    assert line.count("\n") == 1
    return line.removeprefix("object2vec: error: ").rstrip("\n")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


# Help.


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["tune", "--help"],
        ["mine", "--help"],
        ["serve", "--help"],
        ["predict", "--help"],
        ["describe", "--help"],
        ["prepare", "--help"],
        *([verb, "--help"] for verb in (*VERBS, "explore")),
    ],
)
def test_help_is_quick(argv: list[str]) -> None:
    """Help and version import no slow library."""
    slow = "{'torch', 'numpy', 'flask', 'tqdm', 'safetensors', 'gunicorn', 'optuna'}"
    code = f"import sys, object2vec.cli as cli\ntry: cli.main({argv})\nfinally: assert not {slow} & set(sys.modules)"
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: " if "--help" in argv else f"object2vec {object2vec.__version__} (kernels: ")


def test_no_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([])
    assert raised.value.code == 2
    assert "VERB" in capsys.readouterr().err


# train.


def test_train_writes_a_model(train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The directory can be loaded; standard output has the platform's lines and no bar."""
    out = tmp_path / "model"
    channels = ["--train", str(train_file), "--validation", str(train_file), "--test", str(train_file)]
    assert main(["train", *channels, "--hyperparameters", *SMALL, "epochs=2", "--out", str(out)]) == 0
    assert object2vec.load(out).score([([1], [2])]).shape == (1, 2)
    printed = capsys.readouterr()
    assert "#quality_metric: host=algo-1, epoch=1, validation accuracy <score>=" in printed.out
    assert "#quality_metric: host=algo-1, test accuracy <score>=" in printed.out
    assert "\r" not in printed.out + printed.err


def test_train_resumes_from_checkpoints(train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--resume` keeps checkpoints next to the model or in a folder, and resumes from the newest."""
    argv = ["train", "--train", str(train_file), "--out", str(tmp_path / "m"), "--hyperparameters", *SMALL]
    for resume, folder in ((["--resume"], "m.checkpoints"), (["--resume", str(tmp_path / "c")], "c")):
        assert main([*argv, "epochs=2", *resume]) == 0
        assert "Going on" not in capsys.readouterr().out
        assert main([*argv, "epochs=3", *resume]) == 0
        printed = capsys.readouterr().out
        assert f"Going on from checkpoint-002-000000000 in {tmp_path / folder}: epoch 2, batch 0" in printed
        assert printed.count("Completed Epoch") == 1
    assert main([*argv, "mlp_dim=7", "--resume"]) == 2
    assert "is a checkpoint of another job: mlp_dim is 512 there and 7 here; wanted the same" in error_of(capsys)


def test_train_starts_from_a_model(train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--model` gives the initial weights; errors use the encoder numbering of the user."""
    argv = ["train", "--train", str(train_file), "--hyperparameters"]
    assert main([*argv, *SMALL, "epochs=2", "--out", str(tmp_path / "a")]) == 0
    model = ["--model", str(tmp_path / "a"), "--out", str(tmp_path / "b")]
    assert main([*argv, *SMALL, "epochs=1", "enc0_vocab_size=10", *model]) == 0
    trained = [json.loads((tmp_path / name / "config.json").read_text())["training"]["epochs"] for name in ("a", "b")]
    assert trained[1] == trained[0] + 1
    capsys.readouterr()
    counted = [word.replace("enc0", "enc1") for word in SMALL]
    assert main([*argv, *counted, "enc1_token_embedding_dim=5", *model]) == 2
    what = "channel model: the model to go on from does not fit: enc1_token_embedding_dim is 4 there and 5 here; enc2_"
    assert error_of(capsys).startswith(what)


def test_hyperparameters_come_from_files_and_arguments(train_file: Path, tmp_path: Path) -> None:
    """Files have plain values or strings; later values override earlier ones."""
    small = dict(word.split("=") for word in SMALL)
    first, second = tmp_path / "first.json", tmp_path / "mlp_dim=8.json"
    first.write_text(json.dumps(small | {"epochs": 1, "mlp_dim": 7, "learning_rate": 0.5, "mlp_layers": "1"}))
    second.write_text(json.dumps({"mlp_dim": 8}))
    out = tmp_path / "model"
    given = [str(first), "learning_rate=0.25", str(second)]
    assert main(["train", "--train", str(train_file), "--hyperparameters", *given, "--out", str(out)]) == 0
    read = artifact.read_config(out)
    assert (read.epochs, read.mlp_dim, read.learning_rate, read.mlp_layers) == (1, 8, 0.25, 1)


def test_hyperparameters_as_other_tools_write_them(train_file: Path, tmp_path: Path) -> None:
    """Empty values, exponents and lists are read in a file and as NAME=VALUE; an empty value resets."""
    document = {
        **{"enc0_network": "pooled_embedding", "enc0_max_seq_len": "4.0", "enc0_vocab_size": "1e+05", "epochs": 1e0},
        **{"enc0_token_embedding_dim": 4, "comparator_list": ["hadamard", "concat"], "mlp_dim": '"8"', "seed": None},
        **{"enc1_network": "enc0", "enc1_max_seq_len": "", "enc1_vocab_size": "None", "enc1_vocab_file": "null"},
    }
    (tmp_path / "hp.json").write_text(json.dumps(document | {"optimizer": "sgd"}))
    given = [str(tmp_path / "hp.json"), "enc1_layers=", "optimizer=", "mini_batch_size=1.6e1", "dropout= 0 "]
    out = tmp_path / "m"
    assert main(["train", "--train", str(train_file), "--hyperparameters", *given, "--out", str(out)]) == 0
    hyperparameters = object2vec.load(out).hyperparameters
    assert hyperparameters.encoders[1].vocab_size == 100_000
    assert hyperparameters.comparator_list == ("hadamard", "concat")
    assert (hyperparameters.optimizer, hyperparameters.mini_batch_size) == ("adam", 16)


EMBEDDINGS = "the 0 1 2 3\ncat .1 1 2 3\n5 .2 1 2 3\nhouse .3 1 2 3\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (EMBEDDINGS.replace(" ", "\t").encode(), None),
        (gzip.compress(EMBEDDINGS.encode(), mtime=0), None),
        (b"4 4\n" + EMBEDDINGS.encode(), None),
        (EMBEDDINGS.replace(" ", ",").encode(), "e.txt, line 1: values separated by commas, not by spaces or tabs, "),
        (EMBEDDINGS.encode("utf-16"), "e.txt: UTF-16 text; save it as UTF-8"),
        (EMBEDDINGS.upper().replace("5 ", "6 ").encode(), "none of the 6 words of the vocabulary is in it; 3 of them"),
        (b"4 300\n" + EMBEDDINGS.encode(), "e.txt, line 1: a word2vec header for vectors of 300 numbers, wanted"),
    ],
)
def test_pretrained_embeddings_are_read_or_refused(
    content: bytes, sentence: str | None, train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Either words of the file are found, or training does not start."""
    auxiliary = tmp_path / "aux"
    auxiliary.mkdir()
    (auxiliary / "e.txt").write_bytes(content)
    (auxiliary / "v.json").write_text('{"<pad>": 0, "<unk>": 1, "the": 2, "cat": 3, "5": 4, "house": 5}')
    files = ["enc0_vocab_file=v.json", "enc0_pretrained_embedding_file=e.txt", "epochs=1"]
    argv = ["train", "--train", str(train_file), "--auxiliary", str(auxiliary), "--out", str(tmp_path / "m")]
    status = main([*argv, "--hyperparameters", *SMALL, *files])
    if sentence:
        assert status == 2
        assert sentence in error_of(capsys)
    else:
        assert status == 0
        table = object2vec.load(tmp_path / "m").network.enc0.embedding.weight
        assert table[5].tolist() == pytest.approx([0.3, 1, 2, 3])


@pytest.mark.parametrize("length", [250, 255, 256, 5000, 100_000])
def test_value_longer_than_a_file_name_is_read(length: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NAME=VALUE may be longer than the name of a file."""
    given = ["--hyperparameters", *SMALL, f"optimizer={'x' * length}", "--out", str(tmp_path / "m")]
    assert main(["train", "--train", "x", *given]) == 2
    assert error_of(capsys).startswith("optimizer: got 'xxx")


@pytest.mark.parametrize("name", ["no/such/lr=0.1/hp.json", "y" * 300, "z" * 10_000, "=" * 300, "a" * 5000 + "/=1"])
def test_argument_that_is_neither_file_nor_value_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error is one sentence, even for a long argument."""
    assert main(["train", "--train", "x", "--hyperparameters", *SMALL, name, "--out", str(tmp_path / "m")]) == 2
    assert len(error_of(capsys)) < 500


def test_invalid_hyperparameters_are_reported_together(
    train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is one line for each, and the status of a user error."""
    given = [*SMALL, "epochs=0", "optimiser=adam"]
    assert main(["train", "--train", str(train_file), "--hyperparameters", *given, "--out", str(tmp_path / "m")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("object2vec: error: ") for line in lines)
    assert "epochs" in lines[0] + lines[1]
    assert "optimiser" in lines[0] + lines[1]
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "No such file or directory, "),
        ("{", "not JSON (Expecting property name"),
        ("[" * 10**6, "not JSON (maximum recursion depth"),
        ("[1]", "not an object, "),
    ],
)
def test_bad_hyperparameter_files(
    text: str | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "h.json"
    if text is not None:
        path.write_text(text)
    assert main(["train", "--train", "x", "--hyperparameters", str(path), "--out", str(tmp_path / "m")]) == 2
    error = error_of(capsys)
    assert error.startswith(f"{path}: {sentence}")
    assert error.endswith('wanted for --hyperparameters a JSON file like {"epochs": "10"}, or NAME=VALUE')


def test_invalid_line_of_a_channel_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error has the file and the line."""
    path = tmp_path / "train.jsonl"
    path.write_text('{"in0": [1], "in1": [2], "label": 1}\n{"in0": ["1"], "in1": [2], "label": 1}\n')
    assert main(["train", "--train", str(path), "--hyperparameters", *SMALL, "--out", str(tmp_path / "m")]) == 2
    assert error_of(capsys).startswith(f"{path}, line 2: in0[0] is the string")


class Interrupting(logging.Handler):
    """A log handler that sends a signal in the first epoch of 100."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number: int | None = number

    def emit(self, record: logging.LogRecord) -> None:
        if self.number is not None and "Epoch: 0" in record.getMessage():
            os.kill(os.getpid(), self.number)
            self.number = None


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signal_ends_training_with_a_model(
    train_file: Path,
    tmp_path: Path,
    number: int,
    status: int,
    package_logger: logging.Logger,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The batch is finished and the model saved; earlier handlers are restored."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    handler = Interrupting(number)
    package_logger.addHandler(handler)
    hyperparameters = [
        *SMALL,
        "epochs=100",
        "early_stopping_patience=5",
        "early_stopping_tolerance=1e-6",
        "mini_batch_size=1",
    ]
    argv = ["train", "--train", str(train_file), "--hyperparameters", *hyperparameters, "--out", str(tmp_path / "m")]
    assert main(argv) == status
    assert handler.number is None
    output = capsys.readouterr()
    assert "Completed Epoch: 99" not in output.out
    assert output.err.endswith("object2vec: interrupted\n") is (number == signal.SIGINT)
    assert object2vec.load(tmp_path / "m")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_second_interrupt_ends_at_once() -> None:
    """The first Ctrl-C requests a stop, the second one forces it."""
    stop = Stop()
    stop.training = True
    with handle_termination_signals(stop, signal.SIGTERM, signal.SIGINT):
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_interrupt_before_training_writes_nothing(
    train_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("object2vec.training.job.read_channels", interrupt)
    argv = ["train", "--train", str(train_file), "--hyperparameters", *SMALL, "--out", str(tmp_path / "m")]
    assert main([*argv, "--log", "quiet"]) == 130
    assert capsys.readouterr().err == "object2vec: interrupted\n"
    assert not (tmp_path / "m").exists()


def test_interrupt_without_a_model_has_status_130(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no traceback."""

    class Interrupted(io.BytesIO):
        def readinto(self, _: object) -> int:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(Interrupted())))
    assert main(["predict", "--model", str(model)]) == 130
    assert capsys.readouterr().err == "object2vec: interrupted\n"


# serve: that it starts is an integration test.


def test_serve_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--model", str(tmp_path)]) == 2
    assert error_of(capsys).startswith(f"{tmp_path}: no model, wanted a directory with config.json and model.safet")


@pytest.mark.parametrize("option", [["--port", "0"], ["--port", "x"], ["--workers", "-1"], ["--mode", "fast"]])
def test_serve_refuses_what_it_cannot_mean(option: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["serve", "--model", str(tmp_path), *option])
    assert raised.value.code == 2


# predict.


def lines_of(pairs: list[tuple[list[int], list[int]]]) -> str:
    return "".join(json.dumps({"in0": in0, "in1": in1}) + "\n" for in0, in1 in pairs)


def test_predict_json_lines(model: Path, tmp_path: Path) -> None:
    """Each line gets a line with the scores of the library, bit for bit."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(lines_of(PAIRS))
    assert main(["predict", "--model", str(model), "--input", str(source), "--output", str(target)]) == 0
    scores = [json.loads(line)["scores"] for line in target.read_text().splitlines()]
    np.testing.assert_array_equal(np.array(scores, np.float32), Predictor.load(model).score(PAIRS))
    assert target.read_bytes().endswith(b"}\n")
    assert sorted(tmp_path.iterdir()) == [source, target]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_predict_recognizes_the_input(model: Path, tmp_path: Path, start: bytes, packed: bool) -> None:
    """Gzip and a byte order mark are read; the name of the file does not matter."""
    source, target = tmp_path / "pairs", tmp_path / "scores"
    content = start + lines_of([([1], [2]), ([3], [4])]).encode()
    source.write_bytes(gzip.compress(content) if packed else content)
    assert main(["predict", "--model", str(model), "--input", str(source), "--output", str(target)]) == 0
    assert len(target.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{}\n".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        (b"PAR1\x15\x04", "a Parquet file; save it as JSON Lines"),
        (
            gzip.compress(b"{}\n")[:-9],
            "damaged gzip data (Compressed file ended before the end-of-stream marker was reached)",
        ),
    ],
    ids=["utf-16", "parquet", "half of gzip"],
)
def test_predict_names_the_format_of_its_input(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, sentence: str
) -> None:
    """An unsupported format is named, and no output is written."""
    source, target = tmp_path / "pairs", tmp_path / "scores"
    source.write_bytes(content)
    assert main(["predict", "--model", str(model), "--input", str(source), "--output", str(target)]) == 2
    assert error_of(capsys) == f"--input {source}: {sentence}"
    assert not target.exists()


@pytest.mark.parametrize("argument", ["--input", "--output"])
def test_predict_refuses_addresses(model: Path, capsys: pytest.CaptureFixture[str], argument: str) -> None:
    """No file is read from an address of another service than S3, or written to one."""
    assert main(["predict", "--model", str(model), argument, "gs://bucket/x"]) == 2
    assert error_of(capsys).startswith(f"gs://bucket/x: gs:// is not {'read' if argument == '--input' else 'written'} ")


def test_predict_json(model: Path, tmp_path: Path) -> None:
    """JSON is read and written; --accept selects another reply."""
    source, target = tmp_path / "in.json", tmp_path / "out"
    source.write_text('{"instances": [{"in0": [1]}, {"in0": [1], "in1": [2]}]}')
    argv = ["predict", "--model", str(model), "--input", str(source), "--output", str(target)]
    assert main([*argv, "--content-type", "application/json", "--mode", "embedding"]) == 0
    first, second = json.loads(target.read_text())["predictions"]
    assert first["embeddings"] == pytest.approx(second["embeddings"]["in0"])
    assert main([*argv, "--content-type", "application/json", "--accept", "application/jsonlines"]) == 0
    assert [list(json.loads(line)) for line in target.read_text().splitlines()] == [["embeddings"], ["scores"]]


def test_predict_refuses_an_array_of_pairs_in_embedding_mode(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answers would be two arrays; the error comes before the model runs and says what to do."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.npy"
    argv = ["predict", "--model", str(model), "--input", str(source), "--output", str(target)]
    argv += ["--mode", "embedding", "--accept", "application/x-npy"]
    source.write_text(lines_of(PAIRS))
    assert main(argv) == 2
    assert "wanted in0 and in1 in requests of their own, or another Accept" in capsys.readouterr().err
    source.write_text('{"in0": [1]}\n{"in1": [1]}\n')
    assert main(argv) == 2
    assert "wanted instances that are all pairs or all of the same side" in capsys.readouterr().err
    assert not target.exists()
    source.write_text('{"in0": [1]}\n{"in0": [2], "in1": null}\n')
    assert main(argv) == 0
    np.testing.assert_array_equal(np.load(target), Predictor.load(model).encode([[1], [2]], "in0"))


@pytest.mark.parametrize("content_type", ["application/jsonlines", "application/json"])
def test_predict_warns_of_doubtful_inputs(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content_type: str
) -> None:
    """Each kind gives one warning with a count; answers do not change."""
    source, target = tmp_path / "in", tmp_path / "out"
    argv = ["predict", "--model", str(model), "--input", str(source), "--output", str(target)]

    def predict(*lines: str) -> str:
        whole = f'{{"instances": [{",".join(lines)}]}}' if content_type.endswith("json") else "\n".join(lines)
        source.write_text(whole)
        assert main([*argv, "--content-type", content_type]) == 0
        return capsys.readouterr().err

    assert predict('{"in0": [1], "in1": [2]}', '{"in0": [1, 0]}') == ""
    assert predict('{"in0": [0], "in1": []}', '{"in0": [1, 2, 3, 4, 5, 6, 7, 8, 1, 2]}', '{"in0": [0, 0]}') == (
        "object2vec: warning: 3 sides have no tokens: they are empty, or for pooled_embedding hold only id 0\n"
        "object2vec: warning: 1 sides are longer than max_seq_len: the tokens after it are not read\n"
    )


def test_predict_accepts_aliases_of_types(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The aliases are those of requests; a generic type is refused, because there is a default."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"\xef\xbb\xbf" + lines_of(PAIRS).encode())
    argv = ["predict", "--model", str(model), "--input", str(source), "--output", str(target)]
    assert main(argv) == 0
    wanted = target.read_bytes()
    assert main([*argv, "--content-type", "application/x-ndjson", "--accept", "application/jsonl"]) == 0
    assert target.read_bytes() == wanted
    assert main([*argv, "--content-type", "application/octet-stream"]) == 2
    assert "Content-Type 'application/octet-stream' is not supported, wanted" in capsys.readouterr().err


@pytest.mark.parametrize("compressed", [False, True])
def test_predict_through_standard_streams(
    compressed: bool, model: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    text = b'\n{"in0": [1]}\n\n{"in1": [2]}'
    text = gzip.compress(text) if compressed else text
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(text))))
    assert main(["predict", "--model", str(model)]) == 0
    printed = capsysbinary.readouterr().out
    assert printed.endswith(b"}\n")
    assert [list(json.loads(line)) for line in printed.splitlines()] == [["embeddings"], ["embeddings"]]


def test_predict_reads_a_long_file_in_chunks(model: Path, tmp_path: Path) -> None:
    """All lines are answered in order, and line numbers continue."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    pairs = [([n % 9], [n // 9 % 9]) for n in range(CHUNK_LINES + 100)]
    source.write_text(lines_of(pairs))
    argv = ["predict", "--model", str(model), "--input", str(source), "--output", str(target)]
    assert main(argv) == 0
    scores = [json.loads(line)["scores"] for line in target.read_text().splitlines()]
    np.testing.assert_allclose(scores, Predictor.load(model).score(pairs), atol=1e-6)


def test_failed_predict_keeps_the_previous_output(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A late invalid line is named by its number; the earlier output file does not change."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"in0": [1]}\n' * (CHUNK_LINES + 5) + '{"in0": [9]}\n')
    target.write_text("before")
    assert main(["predict", "--model", str(model), "--input", str(source), "--output", str(target)]) == 2
    assert error_of(capsys).startswith(f"line {CHUNK_LINES + 6}: Inconsistent vocab for in0 found")
    assert target.read_text() == "before"
    assert sorted(tmp_path.iterdir()) == [source, target]


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (["--input", "/no/such/file"], "--input /no/such/file: No such file or directory"),
        (["--output", "/dev/null/file"], "--output /dev/null/file: Not a directory"),
        (["--content-type", "text/csv"], "Content-Type 'text/csv' is not supported"),
        (["--accept", "text/csv"], "Accept 'text/csv' allows no reply that can be sent"),
        (
            ["--model", "/no/such/model"],
            "/no/such/model: No such file or directory, wanted a directory",
        ),
    ],
)
def test_predict_refuses(
    model: Path,
    option: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO())))
    assert main(["predict", "--model", str(model), *option]) == 2
    assert error_of(capsys).startswith(sentence)


@pytest.mark.parametrize(
    ("stream", "name"), [("stdin", "--input -: standard input"), ("stdout", "--output -: standard output")]
)
def test_predict_refuses_a_closed_stream(
    stream: str, name: str, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO())))
    monkeypatch.setattr(sys, stream, None)
    assert main(["predict", "--model", str(model)]) == 2
    assert error_of(capsys) == f"{name} is closed"


def test_predict_writes_into_a_pipe_and_through_a_link(model: Path, tmp_path: Path) -> None:
    source, pipe, file, link = (tmp_path / name for name in ("in.jsonl", "pipe", "file", "link"))
    source.write_text('{"in0": [1]}\n')
    os.mkfifo(pipe)
    link.symlink_to(file)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for output in (pipe, link):
        assert main(["predict", "--model", str(model), "--input", str(source), "--output", str(output)]) == 0
    assert os.read(reader, 1000) == file.read_bytes()
    os.close(reader)
    assert pipe.is_fifo()
    assert link.is_symlink()


def test_predict_says_that_a_device_is_full(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"in0": [1]}\n')
    assert main(["predict", "--model", str(model), "--input", str(source), "--output", "/dev/full"]) == 2
    assert error_of(capsys) == "--output /dev/full: No space left on device"
    assert Path("/dev/full").is_char_device()


def test_predict_does_not_replace_a_folder(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder is not replaced after all is written, and no other files are left."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_text('{"in0": [1]}')
    target.mkdir()
    assert main(["predict", "--model", str(model), "--input", str(source), "--output", str(target)]) == 2
    assert error_of(capsys) == f"--output {target}: Is a directory"
    assert sorted(tmp_path.iterdir()) == [source, target]


@pytest.mark.slow
def test_closed_pipe_is_not_an_error(model: Path, tmp_path: Path) -> None:
    """`object2vec predict … | head -1` gives the usual status of the shell, without a message."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"in0": [1]}\n' * 20_000)
    argv = ["predict", "--model", str(model), "--input", str(source)]
    code = f"import sys; from object2vec.cli import main; sys.exit(main({argv}))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(b'{"embeddings":')
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), errors) == (141, b"")
