"""Whole training jobs on small data: from files to a model directory, and all log lines."""

from __future__ import annotations

import gzip
import json
import logging
import math
import random
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

import object2vec
from builtin import NOTEBOOKS, PATTERNS
from object2vec import artifact
from object2vec.errors import DataError, HyperparameterError
from object2vec.hyperparameters import parse
from object2vec.hyperparameters.table import NETWORKS
from object2vec.training.job import Job, run
from object2vec.training.report import log_as
from small import StopAfter, network_of, write_pairs

Row = tuple[list[int], list[int], float]

#: A small job; tests override single values.
SMALL = {
    **{"enc0_network": "pooled_embedding", "enc0_max_seq_len": "6", "enc0_vocab_size": "20", "enc_dim": "8"},
    **{"enc0_token_embedding_dim": "8", "mlp_dim": "8", "epochs": "3", "mini_batch_size": "16"},
    **{"learning_rate": "0.01", "mlp_activation": "relu"},
}


def sequences(count: int, *, seed: int, regression: bool = False) -> list[Row]:
    """Return pairs of sequences over ids 1 to 19, positive if the parities of their first tokens are equal."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        first, second = (draw.choices(range(1, 20), k=draw.randint(1, 8)) for _ in range(2))
        together = first[0] % 2 == second[0] % 2
        rows.append((first, second, 1.0 + 3.0 * together + draw.random() if regression else float(together)))
    return rows


@pytest.fixture
def channels(tmp_path: Path) -> dict[str, Path]:
    """Write train, validation and test channels, each a folder."""
    found = {}
    for seed, (name, count) in enumerate({"train": 96, "validation": 40, "test": 30}.items()):
        found[name] = write_pairs(tmp_path / name / "a.jsonl", sequences(count, seed=seed)).parent
    return found


def job(tmp_path: Path, channels: Mapping[str, Path], /, **values: object) -> Job:
    return Job(configuration=parse(SMALL | values), channels=channels, model_dir=tmp_path / "model")


def losses(text: str) -> list[str]:
    """Return the lines with a loss or a score, which must repeat for a seed."""
    return [line for line in text.splitlines() if "#quality_metric" in line or "Best model" in line]


# ----------------------------------------------------------------------------------------------------------------------
# The log.
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output_layer", ["softmax", "mean_squared_error"])
def test_platform_metric_patterns_match_the_log(
    tmp_path: Path, output_layer: str, capsys: pytest.CaptureFixture[str], package_logger: logging.Logger
) -> None:
    """The log has each metric of its kind once per epoch in the printed form, and no other metrics."""
    regression = output_layer == "mean_squared_error"
    channels = {
        name: write_pairs(tmp_path / name / "a.jsonl", sequences(50, seed=seed, regression=regression))
        for seed, name in enumerate(("train", "validation", "test"))
    }
    log_as("sagemaker")
    run(job(tmp_path, channels, output_layer=output_layer))
    out, err = capsys.readouterr()
    assert err == ""
    assert "\r" not in out
    for name, pattern in PATTERNS.items():
        numbers = re.findall(pattern, out)
        if ("squared" in name) == regression or name in ("train:progress", "train:throughput"):
            again = "Best model based on epoch 2" not in out and name not in ("train:progress", "train:throughput")
            assert len(numbers) == (1 if name.startswith("test") else 3 + again), name
            assert all(math.isfinite(float(number)) for number in numbers)
        else:
            assert numbers == [], name
    assert re.findall(PATTERNS["train:progress"], out)[-1] == "100.0"


def test_log_lines_are_in_the_order_of_the_builtin(
    tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Lines that users and programs search for are in the built-in's order."""
    run(job(tmp_path, channels, epochs="1"))
    wanted = [
        r"Final configuration: \{.*\}",
        rf"Creating data iterator for {channels['train']}",
        r"Source words: \d+",
        r"Target words: \d+",
        r"Total: 96 samples",
        r"Negative sampling not used",
        r"Number of GPUs being used: \d",
        r"\*{14}",
        r"Completed Epoch: 0, time taken: \S+",
        r"Epoch 0 Training metrics:   perplexity: \S+ cross_entropy: \S+ accuracy: \S+ ",
        r"#quality_metric: host=algo-1, epoch=0, train cross_entropy <loss>=\S+",
        r"#quality_metric: host=algo-1, epoch=0, train accuracy <score>=\S+",
        r"Epoch 0 Validation metrics: perplexity: \S+ cross_entropy: \S+ accuracy: \S+ ",
        r"#quality_metric: host=algo-1, epoch=0, validation cross_entropy <loss>=\S+",
        r"#quality_metric: host=algo-1, epoch=0, validation accuracy <score>=\S+",
        r"\*{14}",
        r"#metrics \{.*\}\n",
        r"#progress_metric: host=algo-1, completed 100\.0 % of epochs",
        r"#metrics \{.*\}\n",
        r"#throughput_metric: host=algo-1, train throughput=\S+ records/second",
        r"Best model based on epoch 0\. Best loss: \d\.\d{3}",
        rf"Serializing model to {tmp_path / 'model'}",
        r"Finished scoring on 30 examples from 1 batches, each of size 512\.",
        r"Test Metrics:perplexity: \S+ cross_entropy: \S+ accuracy: \S+ ",
        r"Test Metric names:\['perplexity', 'cross_entropy', 'accuracy'\]",
        r"#quality_metric: host=algo-1, test cross_entropy <loss>=\S+",
        r"#quality_metric: host=algo-1, test accuracy <score>=\S+",
        r"#metrics \{.*\}\n",
    ]
    messages = iter(caplog.messages)
    for pattern in wanted:
        assert any(re.fullmatch(pattern, message) for message in messages), pattern
    last = json.loads(caplog.messages[-1].removeprefix("#metrics "))
    assert {"setuptime", "model.serialize.time", "model.score.time", "totaltime"} <= set(last["Metrics"])


def test_log_warns_about_ignored_and_truncated_input(
    tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Warnings report the numbering of encoders, ignored values, truncation, and sides without tokens."""
    values = {f"enc1{key[4:]}" if key.startswith("enc0") else key: value for key, value in SMALL.items()}
    write_pairs(channels["train"] / "b.jsonl", [([0], [], 1.0)])
    values |= {"epochs": "1", "enc2_vocab_size": "7"}
    run(Job(configuration=parse(values), channels=channels, model_dir=tmp_path / "model"))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "The encoders are counted from 1: enc1 reads in0, enc2 reads in1" in warnings
    assert "enc2_vocab_size=7 has no effect: enc2_network=enc1 takes enc1_vocab_size=20" in warnings
    assert "1 in0 of channel train hold no token but 0: they are encoded as zeros" in warnings
    assert "1 in1 of channel train hold no token but 0: they are encoded as zeros" in warnings
    cut = [line for line in warnings if line.startswith("One or more sequences have been truncated")]
    assert len(cut) == 3


# ----------------------------------------------------------------------------------------------------------------------
# The model.
# ----------------------------------------------------------------------------------------------------------------------

KINDS: dict[str, dict[str, object]] = {
    **{network: {"enc0_network": network} for network in NETWORKS},
    "two networks": {
        **{"enc0_network": "hcnn", "enc0_layers": "2", "enc0_cnn_filter_width": "2", "enc1_network": "bilstm"},
        **{"enc1_max_seq_len": "4", "enc1_vocab_size": "20", "enc1_layers": "2", "enc_dim": "9"},
    },
    "regression": {"output_layer": "mean_squared_error", "mlp_layers": "0"},
    "negatives": {"negative_sampling_rate": "3", "comparator_list": "hadamard"},
    "buckets": {"enc0_network": "bilstm", "bucket_width": "2"},
    "row sparse, tied": {
        "token_embedding_storage_type": "row_sparse",
        "tied_token_embedding_weight": "True",
        "optimizer": "adagrad",
    },
    "decay and dropout": {"weight_decay": "0.01", "dropout": "0.4", "optimizer": "rmsprop"},
}


@pytest.mark.parametrize("values", KINDS.values(), ids=list(KINDS))
def test_saved_model_reproduces_the_printed_test_loss(
    tmp_path: Path, channels: dict[str, Path], values: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """The model's scores on the test channel give exactly the printed loss. config.json names the best epoch."""
    run(job(tmp_path, channels, **values))
    predictor = object2vec.load(tmp_path / "model")
    rows = [json.loads(line) for line in (channels["test"] / "a.jsonl").read_text().splitlines()]
    scores = predictor.score([(row["in0"], row["in1"]) for row in rows]).astype(np.float64)
    labels = np.array([row["label"] for row in rows])
    if "output_layer" in values:
        loss = np.mean((scores[:, 0] - labels) ** 2)
    else:
        loss = -np.mean(np.log(scores[np.arange(len(rows)), labels.astype(int)]))
    printed = [line for line in caplog.messages if ", test " in line and "<loss>=" in line]
    assert float(printed[0].rpartition("=")[2]) == pytest.approx(loss, abs=1e-6)
    training = json.loads((tmp_path / "model" / "config.json").read_text())["training"]
    assert f"Best model based on epoch {training['best_epoch']}." in "\n".join(caplog.messages)


@pytest.mark.parametrize("kind", ["two networks", "negatives", "buckets", "row sparse, tied", "decay and dropout"])
def test_a_seed_repeats_a_job(
    tmp_path: Path, channels: dict[str, Path], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The same seed repeats all losses and weights exactly; another seed does not."""
    printed, weights = [], []
    for number, seed in enumerate(("5", "5", "6")):
        caplog.clear()
        run(job(tmp_path / str(number), channels, **KINDS[kind] | {"seed": seed, "epochs": "2"}))
        printed.append(losses(caplog.text.replace(f"/{number}/", "/")))
        weights.append((tmp_path / str(number) / "model" / "model.safetensors").read_bytes())
    assert [line.partition("#")[2] for line in printed[0]] == [line.partition("#")[2] for line in printed[1]]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_training_with_negatives_ranks_validation_pairs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Trained on positives with sampled negatives, a model ranks at least nine of ten validation pairs correctly."""
    pairs = [([user], [item], float(user // 10 == item // 10)) for user in range(40) for item in range(40)]
    random.Random(1).shuffle(pairs)
    likes = [pair for pair in pairs[:1200] if pair[2] == 1]
    channels = {
        "train": write_pairs(tmp_path / "train.jsonl", likes),
        "validation": write_pairs(tmp_path / "validation.jsonl", pairs[1200:]),
    }
    values = {
        **{"enc0_max_seq_len": "1", "enc0_vocab_size": "40", "negative_sampling_rate": "3", "epochs": "30"},
        **{"comparator_list": "hadamard", "learning_rate": "0.02", "mini_batch_size": "32"},
    }
    run(job(tmp_path, channels, **values))
    best = [line for line in caplog.messages if "validation accuracy" in line]
    assert max(float(line.rpartition("=")[2]) for line in best) > 0.9


def test_nested_and_compressed_files_give_the_same_model(
    tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """The same rows in one file, or in nested folders and compressed, give the same model."""
    lines = (channels["train"] / "a.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "parts" / "0").mkdir(parents=True)
    (tmp_path / "parts" / "0" / "x.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[:40])))
    (tmp_path / "parts" / "1.jsonl").write_bytes(b"".join(lines[40:]))
    run(job(tmp_path / "one", channels, epochs="1"))
    run(job(tmp_path / "many", channels | {"train": tmp_path / "parts"}, epochs="1"))
    one, many = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("one", "many"))
    assert one == many


@pytest.mark.parametrize("network", NETWORKS)
def test_float16_model_is_evaluated_as_served(
    tmp_path: Path, channels: dict[str, Path], network: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The printed test metrics are those of the saved float16 model; training does not change."""
    # new embeddings are too small for a visible difference
    large = parse(SMALL | {"enc0_network": network}).hyperparameters
    artifact.save(tmp_path / "large", network_of(large), large, training={}, vocabularies={})
    losses = {}
    for dtype in ("float32", "float16"):
        caplog.clear()
        values = {"enc0_network": network, "epochs": "1", "token_embedding_dtype": dtype}
        run(job(tmp_path / dtype, channels | {"model": tmp_path / "large"}, **values))
        losses[dtype] = [re.findall(PATTERNS[f"{part}:cross_entropy"], caplog.text) for part in ("train", "test")]
    assert losses["float16"][0] == losses["float32"][0]
    assert losses["float16"][1] != losses["float32"][1]
    predictor = object2vec.load(tmp_path / "float16" / "model")
    rows = [json.loads(line) for line in (channels["test"] / "a.jsonl").read_text().splitlines()]
    scores = predictor.score([(row["in0"], row["in1"]) for row in rows])
    loss = -np.log([score[int(row["label"])] for score, row in zip(scores, rows, strict=True)]).mean()
    assert float(losses["float16"][1][0]) == pytest.approx(loss, rel=1e-6)


def test_train_channel_alone_monitors_training_loss(
    tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """With only a train channel, early stopping monitors the training loss, and no other channel is logged."""
    run(job(tmp_path, {"train": channels["train"]}))
    text = "\n".join(caplog.messages)
    watched = [float(number) for number in re.findall(PATTERNS["train:cross_entropy"], text)]
    assert f"Best model based on epoch {watched.index(min(watched))}." in text
    assert not re.search(r"Validation metrics|, validation |Test Metric|, test ", text)


def test_stopped_job_saves_its_best_epoch(
    tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A stopped job succeeds and saves the best epoch so far; it does not score the test channel."""
    run(job(tmp_path, channels, epochs="100"), stop=StopAfter(10))
    assert len(re.findall(PATTERNS["train:cross_entropy"], caplog.text)) == 1
    assert len(re.findall(PATTERNS["test:cross_entropy"], caplog.text)) == 0
    assert artifact.load(tmp_path / "model")


def test_job_stopped_in_first_epoch_saves_current_weights(
    tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A job that is stopped in its first epoch saves its current weights; config.json is strict JSON."""
    run(job(tmp_path, channels), stop=StopAfter(0))
    sentence = "Stopped before the first epoch ended: the model has the weights of that moment"
    assert sentence in [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    config = json.loads((tmp_path / "model" / "config.json").read_text(), parse_constant=refuse)
    wanted = {"best_epoch": None, "watched": "cross_entropy", "best_loss": None, "epochs": 0, "history": []}
    assert config["training"] == wanted
    assert artifact.load(tmp_path / "model")


# ----------------------------------------------------------------------------------------------------------------------
# The official notebooks, on small data of the same shape: dozens to hundreds of rows, where the notebooks have up
# to half a million. The quick form of each has fewer `epochs`, and a smaller `enc_dim` for the pretrained sentence
# encoder; the slow form, with fewer rows still, has nothing changed.
# ----------------------------------------------------------------------------------------------------------------------


def words(draw: random.Random, vocabulary: int, low: int, high: int) -> list[int]:
    return draw.choices(range(4, vocabulary), k=draw.randint(low, high))


def notebook_rows(name: str, count: int, seed: int) -> list[Row]:
    """Return rows in the shape of a notebook's data: lengths, ids and labels."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        user, movie = [draw.randint(1, 943)], [draw.randint(1, 1682)]
        match name:
            case "movies, ratings":
                rows.append((user, movie, float(draw.randint(1, 5))))
            case "movies, recommendation":
                rows.append((user, movie, draw.randint(0, 1)))
            case "sentences, quick" | "sentences, full" | "sentences, pretrained":
                rows.append((words(draw, 43533, 2, 30), words(draw, 43533, 2, 20), draw.randint(0, 2)))
            case "genres":
                rows.append((words(draw, 60000, 5, 60), [draw.randrange(28)], draw.randint(0, 1)))
            case _:
                document = words(draw, 267522, 20, 80)
                label = 1 if seed == 0 else draw.randint(0, 1)
                rows.append(([*words(draw, 267522, 5, 30), 0], document, label))
    return rows


#: Rows of training data, epochs, and changed hyperparameters.
SIZES: dict[str, tuple[int, int, dict[str, str]]] = {
    "movies, ratings": (500, 2, {}),
    "movies, recommendation": (500, 2, {}),
    "sentences, quick": (32, 2, {}),
    "sentences, pretrained": (8, 1, {"enc_dim": "512"}),
    "genres": (8, 1, {}),
    "documents": (60, 1, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_train_with_all_hyperparameters_unchanged(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With all hyperparameters of a notebook unchanged, the job succeeds and its model scores."""
    hyperparameters = NOTEBOOKS[name]
    channels = {
        channel: write_pairs(tmp_path / channel / "x.jsonl", notebook_rows(name, 8, seed)).parent
        for seed, channel in enumerate(("train", "validation", "test"))
    }
    if "enc0_vocab_file" in hyperparameters:
        channels["auxiliary"] = auxiliary(tmp_path / "auxiliary", hyperparameters)
    run(Job(configuration=parse(hyperparameters), channels=channels, model_dir=tmp_path / "model"))
    metric = "mean_squared_error" if name == "movies, ratings" else "cross_entropy"
    ended = re.findall(PATTERNS["train:progress"], caplog.text)
    assert float(ended[-1]) == 100
    assert len(re.findall(PATTERNS[f"test:{metric}"], caplog.text)) == 1
    assert np.isfinite(object2vec.load(tmp_path / "model").score([([5], [7]), ([9, 9], [3])])).all()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in ("genres", "documents", "sentences, quick")))
        for name in SIZES
    ],
)
def test_notebooks_train_in_their_quick_form(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """With a notebook's hyperparameters and data of its shape, the job prints its metrics and its model scores."""
    count, epochs, changes = SIZES[name]
    hyperparameters = NOTEBOOKS[name] | {"epochs": str(epochs)} | changes
    channels = {
        channel: write_pairs(tmp_path / channel / "x.jsonl", notebook_rows(name, rows, seed)).parent
        for seed, (channel, rows) in enumerate({"train": count, "validation": count // 2, "test": 10}.items())
    }
    if vocabulary := hyperparameters.get("enc0_vocab_file"):
        channels["auxiliary"] = auxiliary(tmp_path / "auxiliary", hyperparameters)
    run(Job(configuration=parse(hyperparameters), channels=channels, model_dir=tmp_path / "model"))
    metrics = ["mean_squared_error"] if name == "movies, ratings" else ["cross_entropy", "accuracy"]
    for metric in metrics:
        for channel in ("train", "validation", "test"):
            found = re.findall(PATTERNS[f"{channel}:{metric}"], caplog.text)
            # the best epoch is printed again, unless it is the last
            again = "Best model based on epoch 0" in caplog.text and epochs == 2
            assert len(found) == (1 if channel == "test" else epochs + again)
            assert all(math.isfinite(float(number)) for number in found)
    predictor = object2vec.load(tmp_path / "model")
    assert np.isfinite(predictor.score([([5], [7]), ([9, 9], [3])])).all()
    if vocabulary:
        assert (tmp_path / "model" / vocabulary).is_file()
        assert "enc0: 50 of 100 words have a vector" in caplog.text


def auxiliary(folder: Path, hyperparameters: Mapping[str, str]) -> Path:
    """Write a vocabulary of 100 words, half of them with a pretrained vector."""
    folder.mkdir()
    (folder / hyperparameters["enc0_vocab_file"]).write_text(json.dumps({f"word{n}": n for n in range(100)}))
    lines = (f"word{n} {' '.join(f'{(n + d) % 7 / 10 - 0.3:.5f}' for d in range(300))}\n" for n in range(0, 100, 2))
    (folder / hyperparameters["enc0_pretrained_embedding_file"]).write_text("".join(lines))
    return folder


# ----------------------------------------------------------------------------------------------------------------------
# Pretrained embeddings.
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pretrained(tmp_path: Path, channels: dict[str, Path]) -> dict[str, Path]:
    """Add vectors for the words of ids 1 to 10 to the channels; the vocabulary has 15 words."""
    folder = tmp_path / "auxiliary"
    folder.mkdir()
    (folder / "v.json").write_text(json.dumps({f"w{n}": n for n in range(1, 16)}))
    (folder / "g.txt").write_text("".join(f"w{n} {' '.join([str(n)] * 8)}\n" for n in range(1, 11)))
    return channels | {"auxiliary": folder}


FILES = {"enc0_pretrained_embedding_file": "g.txt", "enc0_vocab_file": "v.json"}


@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
@pytest.mark.parametrize("tied", ["True", "False"])
@pytest.mark.parametrize("frozen", ["True", "False"])
def test_frozen_pretrained_embeddings_do_not_change(
    tmp_path: Path,
    pretrained: dict[str, Path],
    frozen: str,
    tied: str,
    storage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Frozen vectors are in the model exactly, and all other rows keep their initial values.

    Without freezing, training updates them. The number of words found is printed.
    """
    values = FILES | {
        "enc0_freeze_pretrained_embedding": frozen,
        "tied_token_embedding_weight": tied,
        "token_embedding_storage_type": storage,
    }
    run(job(tmp_path, pretrained, **values))
    _, network = artifact.load(tmp_path / "model")
    for side in (0, 1):
        table = network.encoder(side).embedding.weight.detach()
        vectors = torch.arange(1.0, 11.0)[:, None].expand(10, 8)
        assert torch.equal(table[1:11], vectors) is (frozen == "True")
        torch.testing.assert_close(table[1:11], vectors, atol=0.5, rtol=0)
        assert table[0].abs().max() < 0.1
    found = [line for line in caplog.messages if "10 of 15 words have a vector in g.txt" in line]
    assert len(found) == (1 if tied == "True" else 2)
    assert (tmp_path / "model" / "v.json").read_bytes() == (pretrained["auxiliary"] / "v.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"enc0_vocab_file": "none.json"}, r"none\.json: no such file; the auxiliary channel has g\.txt, v\.json"),
        (
            {"enc0_pretrained_embedding_file": "x.txt"},
            r"x\.txt: no such file; the auxiliary channel has g\.txt, v\.json",
        ),
        ({"enc0_token_embedding_dim": "5"}, r"g\.txt, line 1: a word and 8 numbers, wanted a word and 5 numbers"),
        ({"enc0_vocab_size": "15"}, r"v\.json: the word 'w15' has the id 15, wanted an integer from 0 to 14"),
    ],
)
def test_invalid_auxiliary_file_is_rejected_before_training(
    tmp_path: Path, pretrained: dict[str, Path], change: dict[str, object], sentence: str
) -> None:
    """A missing auxiliary file, or one that does not match the hyperparameters, is an error before training."""
    rows = [(in0[:1], in1[:1], label) for in0, in1, label in sequences(20, seed=1) if max(in0[0], in1[0]) < 15]
    pretrained["train"] = write_pairs(tmp_path / "short.jsonl", rows)
    with pytest.raises(DataError, match=sentence):
        run(job(tmp_path, {name: pretrained[name] for name in ("train", "auxiliary")}, **FILES | change))
    assert not (tmp_path / "model").exists()


def test_missing_vocabulary_is_rejected_before_data_is_read(
    tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A vocabulary that is only saved with the model is checked before data is read."""
    with pytest.raises(DataError, match=r"There is no auxiliary channel, wanted one with the file v\.json"):
        run(job(tmp_path, channels, enc0_vocab_file="v.json"))
    assert not any("Creating data iterator" in line for line in caplog.messages)


# ----------------------------------------------------------------------------------------------------------------------
# Invalid jobs.
# ----------------------------------------------------------------------------------------------------------------------


def test_invalid_hyperparameters_are_rejected_before_data_is_read(
    tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """All configuration errors are raised together; no file is opened and no model is written."""
    with pytest.raises(HyperparameterError) as caught:
        run(job(tmp_path, channels, epochs="0", optimizer="rmsprop", token_embedding_storage_type="row_sparse"))
    assert len(caught.value.errors) == 2
    assert not any("Creating data iterator" in line for line in caplog.messages)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("channel", ["train", "validation", "test"])
def test_invalid_line_in_any_channel_fails_before_training(
    tmp_path: Path, channels: dict[str, Path], channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid line in any channel ends the job before training."""
    write_pairs(channels[channel] / "b.jsonl", [([1], [2], 1.0), ([1], [20], 1.0)])
    with pytest.raises(DataError) as caught:
        run(job(tmp_path, channels))
    file = channels[channel] / "b.jsonl"
    what = 'Inconsistent vocab for in1 found. Vocab id "20" is not less than vocab_size=20'
    assert str(caught.value) == f"{file}, line 2: {what}"
    assert not any("Completed Epoch" in line for line in caplog.messages)


def test_missing_train_channel_names_the_given_channels(tmp_path: Path, channels: dict[str, Path]) -> None:
    """Without a train channel, the error names the given channels."""
    del channels["train"]
    with pytest.raises(DataError, match="There is no train channel, wanted one; the channels are: validation, test"):
        run(job(tmp_path, channels))
    with pytest.raises(DataError, match="the channels are: none"):
        run(job(tmp_path, {}))


def test_empty_channel_is_rejected_by_name(tmp_path: Path, channels: dict[str, Path]) -> None:
    """A channel without records is an error that names it."""
    (channels["validation"] / "a.jsonl").unlink()
    with pytest.raises(DataError, match=r"channel validation: not able to find any data/records in 0 file\(s\)"):
        run(job(tmp_path, channels))


@pytest.mark.parametrize(
    ("content_type", "taken"),
    [
        ("application/jsonlines", True),
        ("application/jsonlines; charset=utf-8", True),
        ("Application/JSONLines", True),
        ("application/x-ndjson", True),
        ("application/JSONL; charset=utf-8", True),
        ("application/x-jsonlines", True),
        ("text/csv", False),
        ("application/x-recordio-protobuf", False),
    ],
)
def test_content_type_must_be_json_lines(
    tmp_path: Path, channels: dict[str, Path], content_type: str, taken: bool
) -> None:
    """JSON Lines is accepted with parameters and in any case; other types are rejected in the built-in's words."""
    made = Job(
        configuration=parse(SMALL | {"epochs": "1"}),
        channels={"train": channels["train"], "auxiliary": tmp_path},
        content_types={"train": content_type, "auxiliary": "application/json"},
        model_dir=tmp_path / "model",
    )
    if taken:
        run(made)
        assert (tmp_path / "model" / "config.json").is_file()
    else:
        with pytest.raises(DataError, match=f"No iterator has been registered for ContentType .'{content_type}'"):
            run(made)
