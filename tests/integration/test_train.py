"""Whole jobs on small data: from files to a model directory, and every line on the way."""

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
from object2vec.hyperparameters import NETWORKS, parse
from object2vec.training.job import Job, run
from object2vec.training.report import log_to_stdout
from small import StopAfter, network_of, write_pairs

Row = tuple[list[int], list[int], float]

#: A small job; a test's own values go over these.
SMALL = {
    **{"enc0_network": "pooled_embedding", "enc0_max_seq_len": "6", "enc0_vocab_size": "20", "enc_dim": "8"},
    **{"enc0_token_embedding_dim": "8", "mlp_dim": "8", "epochs": "3", "mini_batch_size": "16"},
    **{"learning_rate": "0.01", "mlp_activation": "relu"},
}


def sequences(count: int, *, seed: int, regression: bool = False) -> list[Row]:
    """Pairs of sequences over ids 1 … 19 that go together if their first tokens have one parity."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        first, second = (draw.choices(range(1, 20), k=draw.randint(1, 8)) for _ in range(2))
        together = first[0] % 2 == second[0] % 2
        rows.append((first, second, 1.0 + 3.0 * together + draw.random() if regression else float(together)))
    return rows


@pytest.fixture
def channels(tmp_path: Path) -> dict[str, Path]:
    """Train, validation and test channels, each a folder."""
    found = {}
    for seed, (name, count) in enumerate({"train": 96, "validation": 40, "test": 30}.items()):
        found[name] = write_pairs(tmp_path / name / "a.jsonl", sequences(count, seed=seed)).parent
    return found


def job(tmp_path: Path, channels: Mapping[str, Path], /, **values: object) -> Job:
    return Job(hyperparameters=SMALL | values, channels=channels, model_dir=tmp_path / "model")


def losses(text: str) -> list[str]:
    """The lines with a loss or a score, which a seed must repeat."""
    return [line for line in text.splitlines() if "#quality_metric" in line or "Best model" in line]


# ----------------------------------------------------------------------------------------------------------------------
# The log.
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output_layer", ["softmax", "mean_squared_error"])
def test_every_pattern_of_the_platform_matches_the_log(
    tmp_path: Path, output_layer: str, capsys: pytest.CaptureFixture[str], package_logger: logging.Logger
) -> None:
    """The log of a job with all channels has, as printed, each metric of its kind in each epoch, and no other kind."""
    regression = output_layer == "mean_squared_error"
    channels = {
        name: write_pairs(tmp_path / name / "a.jsonl", sequences(50, seed=seed, regression=regression))
        for seed, name in enumerate(("train", "validation", "test"))
    }
    log_to_stdout()
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


def test_the_log_in_order(tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    """What people and programs look for stands in the built-in's order."""
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


def test_the_log_says_how_the_configuration_was_read(
    tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Notices are warnings: how the encoders are counted, what has no effect, what is cut, what holds no token."""
    values = {f"enc1{key[4:]}" if key.startswith("enc0") else key: value for key, value in SMALL.items()}
    write_pairs(channels["train"] / "b.jsonl", [([0], [], 1.0)])
    values |= {"epochs": "1", "enc2_vocab_size": "7"}
    run(Job(hyperparameters=values, channels=channels, model_dir=tmp_path / "model"))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "The encoders are counted from 1: enc1 reads in0, enc2 reads in1" in warnings
    assert "enc2_vocab_size=7 has no effect: enc2_network=enc1 takes enc1_vocab_size=20" in warnings
    assert "1 in0 of channel train hold no token but 0: they are encoded as zeros" in warnings
    assert "1 in1 of channel train hold no token but 0: they are encoded as zeros" in warnings
    cut = [line for line in warnings if line.startswith("One or more sequences have been truncated")]
    assert len(cut) == 3


# ----------------------------------------------------------------------------------------------------------------------
# What comes out.
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
def test_a_job_ends_in_a_model_that_scores_as_was_printed(
    tmp_path: Path, channels: dict[str, Path], values: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """Each kind of job writes a model; opened by `object2vec.load`, its scores on the test channel have exactly the
    loss that the job printed for it, and config.json names the best epoch.
    """
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
    """The same seed twice prints the same losses to the last digit and saves the same weights; another does not."""
    printed, weights = [], []
    for number, seed in enumerate(("5", "5", "6")):
        caplog.clear()
        run(job(tmp_path / str(number), channels, **KINDS[kind] | {"seed": seed, "epochs": "2"}))
        printed.append(losses(caplog.text.replace(f"/{number}/", "/")))
        weights.append((tmp_path / str(number) / "model" / "model.safetensors").read_bytes())
    assert [line.partition("#")[2] for line in printed[0]] == [line.partition("#")[2] for line in printed[1]]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_training_learns_what_is_in_the_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """From positives alone, with negatives drawn, a model learns whose items a user likes: at least nine of ten pairs
    of the validation channel are told apart.
    """
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


def test_a_channel_may_be_folders_and_compressed(
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
def test_a_model_in_half_precision_is_tested_as_it_is_served(
    tmp_path: Path, channels: dict[str, Path], network: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is printed of the test channel is what the model that was written gives for it; training is as ever."""
    large = parse(SMALL | {"enc0_network": network}).hyperparameters  # new embeddings are so small that nothing shows
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


def test_a_job_without_validation_and_test(
    tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """With the train channel alone, the training loss is watched, and nothing is said of other channels."""
    run(job(tmp_path, {"train": channels["train"]}))
    text = "\n".join(caplog.messages)
    watched = [float(number) for number in re.findall(PATTERNS["train:cross_entropy"], text)]
    assert f"Best model based on epoch {watched.index(min(watched))}." in text
    assert not re.search(r"Validation metrics|, validation |Test Metric|, test ", text)


def test_a_job_that_is_stopped_saves_its_best_epoch(
    tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Asked to stop, a job ends well, with the best epoch so far saved; there is no time to score the test channel."""
    run(job(tmp_path, channels, epochs="100"), stop=StopAfter(10))
    assert len(re.findall(PATTERNS["train:cross_entropy"], caplog.text)) == 1
    assert len(re.findall(PATTERNS["test:cross_entropy"], caplog.text)) == 0
    assert artifact.load(tmp_path / "model")


def test_a_job_that_is_stopped_at_once_saves_a_model(
    tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Stopped before its first epoch ended, a job saves the weights that it has, and config.json is strict JSON."""
    run(job(tmp_path, channels), stop=StopAfter(0))
    assert "Stopped before the first epoch ended" in caplog.text

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    config = json.loads((tmp_path / "model" / "config.json").read_text(), parse_constant=refuse)
    assert config["training"] == {"best_epoch": None, "watched": "cross_entropy", "best_loss": None, "epochs": 0}
    assert artifact.load(tmp_path / "model")


# ----------------------------------------------------------------------------------------------------------------------
# The official notebooks, on small data of the same shape: some dozens to hundreds of rows, where the notebooks have up
# to half a million. The quick form of each has fewer `epochs`, and a smaller `enc_dim` for the pretrained sentence
# encoder; the slow form, with fewer rows still, has nothing changed.
# ----------------------------------------------------------------------------------------------------------------------


def words(draw: random.Random, vocabulary: int, low: int, high: int) -> list[int]:
    return draw.choices(range(4, vocabulary), k=draw.randint(low, high))


def notebook_rows(name: str, count: int, seed: int) -> list[Row]:
    """Rows of the shape that a notebook has: lengths, ids and labels."""
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


#: Rows of training data, epochs, and what is changed of the hyperparameters beside.
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
def test_the_official_notebooks_train_unchanged(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every hyperparameter is as the notebook has it; the job ends as it may, and gives a model that scores."""
    hyperparameters = NOTEBOOKS[name]
    channels = {
        channel: write_pairs(tmp_path / channel / "x.jsonl", notebook_rows(name, 8, seed)).parent
        for seed, channel in enumerate(("train", "validation", "test"))
    }
    if "enc0_vocab_file" in hyperparameters:
        channels["auxiliary"] = auxiliary(tmp_path / "auxiliary", hyperparameters)
    run(Job(hyperparameters=hyperparameters, channels=channels, model_dir=tmp_path / "model"))
    metric = "mean_squared_error" if name == "movies, ratings" else "cross_entropy"
    ended = re.findall(PATTERNS["train:progress"], caplog.text)
    assert float(ended[-1]) == 100
    assert len(re.findall(PATTERNS[f"test:{metric}"], caplog.text)) == 1
    assert np.isfinite(object2vec.load(tmp_path / "model").score([([5], [7]), ([9, 9], [3])])).all()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("genres", "documents"))) for name in SIZES]
)
def test_the_official_notebooks_train(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The hyperparameters of each official notebook train on data of its shape, print their metrics, and give a model
    that scores.
    """
    count, epochs, changes = SIZES[name]
    hyperparameters = NOTEBOOKS[name] | {"epochs": str(epochs)} | changes
    channels = {
        channel: write_pairs(tmp_path / channel / "x.jsonl", notebook_rows(name, rows, seed)).parent
        for seed, (channel, rows) in enumerate({"train": count, "validation": count // 2, "test": 10}.items())
    }
    if vocabulary := hyperparameters.get("enc0_vocab_file"):
        channels["auxiliary"] = auxiliary(tmp_path / "auxiliary", hyperparameters)
    run(Job(hyperparameters=hyperparameters, channels=channels, model_dir=tmp_path / "model"))
    metrics = ["mean_squared_error"] if name == "movies, ratings" else ["cross_entropy", "accuracy"]
    for metric in metrics:
        for channel in ("train", "validation", "test"):
            found = re.findall(PATTERNS[f"{channel}:{metric}"], caplog.text)
            again = "Best model based on epoch 0" in caplog.text and epochs == 2  # printed once more, as the last
            assert len(found) == (1 if channel == "test" else epochs + again)
            assert all(math.isfinite(float(number)) for number in found)
    predictor = object2vec.load(tmp_path / "model")
    assert np.isfinite(predictor.score([([5], [7]), ([9, 9], [3])])).all()
    if vocabulary:
        assert (tmp_path / "model" / vocabulary).is_file()
        assert "enc0: 50 of 100 words have a vector" in caplog.text


def auxiliary(folder: Path, hyperparameters: Mapping[str, str]) -> Path:
    """A vocabulary of 100 words, every second of which has a vector."""
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
    """The channels, with vectors for the words of the ids 1 to 10; the vocabulary has 15."""
    folder = tmp_path / "auxiliary"
    folder.mkdir()
    (folder / "v.json").write_text(json.dumps({f"w{n}": n for n in range(1, 16)}))
    (folder / "g.txt").write_text("".join(f"w{n} {' '.join([str(n)] * 8)}\n" for n in range(1, 11)))
    return channels | {"auxiliary": folder}


FILES = {"enc0_pretrained_embedding_file": "g.txt", "enc0_vocab_file": "v.json"}


@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
@pytest.mark.parametrize("tied", ["True", "False"])
@pytest.mark.parametrize("frozen", ["True", "False"])
def test_pretrained_embeddings_are_frozen_or_not(
    tmp_path: Path,
    pretrained: dict[str, Path],
    frozen: str,
    tied: str,
    storage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Frozen, the file's vectors are in the model to the last bit, and the rest of the table is as it began; not
    frozen, training moves them. How many words were found is printed.
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
def test_auxiliary_files_that_do_not_fit(
    tmp_path: Path, pretrained: dict[str, Path], change: dict[str, object], sentence: str
) -> None:
    """An auxiliary file that is missing or does not fit the hyperparameters is refused before training."""
    rows = [(in0[:1], in1[:1], label) for in0, in1, label in sequences(20, seed=1) if max(in0[0], in1[0]) < 15]
    pretrained["train"] = write_pairs(tmp_path / "short.jsonl", rows)
    with pytest.raises(DataError, match=sentence):
        run(job(tmp_path, {name: pretrained[name] for name in ("train", "auxiliary")}, **FILES | change))
    assert not (tmp_path / "model").exists()


def test_a_vocabulary_that_is_missing_is_known_before_training(
    tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A vocabulary that only goes along with the model is looked for before data is read, not after training."""
    with pytest.raises(DataError, match=r"There is no auxiliary channel, wanted one with the file v\.json"):
        run(job(tmp_path, channels, enc0_vocab_file="v.json"))
    assert not any("Creating data iterator" in line for line in caplog.messages)


# ----------------------------------------------------------------------------------------------------------------------
# Jobs that cannot be done.
# ----------------------------------------------------------------------------------------------------------------------


def test_bad_hyperparameters_are_known_before_data_is_read(
    tmp_path: Path, channels: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """All faults of the configuration are raised together, no file is opened, and no model is written."""
    with pytest.raises(HyperparameterError) as caught:
        run(job(tmp_path, channels, epochs="0", optimizer="rmsprop", token_embedding_storage_type="row_sparse"))
    assert len(caught.value.faults) == 2
    assert not any("Creating data iterator" in line for line in caplog.messages)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("channel", ["train", "validation", "test"])
def test_a_bad_line_of_any_channel_is_known_before_training(
    tmp_path: Path, channels: dict[str, Path], channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A line that is no pair ends the job before it trains, whichever channel has it."""
    write_pairs(channels[channel] / "b.jsonl", [([1], [2], 1.0), ([1], [20], 1.0)])
    with pytest.raises(DataError) as caught:
        run(job(tmp_path, channels))
    file = channels[channel] / "b.jsonl"
    what = 'Inconsistent vocab for in1 found. Vocab id "20" is not less than vocab_size=20'
    assert str(caught.value) == f"{file}, line 2: {what}"
    assert not any("Completed Epoch" in line for line in caplog.messages)


def test_a_job_needs_a_train_channel(tmp_path: Path, channels: dict[str, Path]) -> None:
    """Without a train channel, the channels that there are are named."""
    del channels["train"]
    with pytest.raises(DataError, match="There is no train channel, wanted one; the channels are: validation, test"):
        run(job(tmp_path, channels))
    with pytest.raises(DataError, match="the channels are: none"):
        run(job(tmp_path, {}))


def test_an_empty_channel_is_named(tmp_path: Path, channels: dict[str, Path]) -> None:
    """A channel without a record is refused by name."""
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
def test_content_types(tmp_path: Path, channels: dict[str, Path], content_type: str, taken: bool) -> None:
    """JSON Lines is taken, with parameters and in any case; another type is refused in the built-in's words."""
    made = Job(
        hyperparameters=SMALL | {"epochs": "1"},
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
