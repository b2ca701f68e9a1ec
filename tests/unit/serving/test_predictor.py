"""A model that answers: each instance by what it has, in order, in few passes, within bounds."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import object2vec
import reference
from object2vec import artifact
from object2vec.data.sequences import Sequences
from object2vec.errors import ArtifactError, RequestError, UserError
from object2vec.model.network import Network
from object2vec.ops.convolution import to_taps
from object2vec.serving import pair_scorer
from object2vec.serving.forward import MAX_BATCH_ROWS
from object2vec.serving.instances import Column, Instances
from object2vec.serving.predictor import Predictor
from ranks import start, write_scores
from small import configured, network_of, tokens_of, weights_of

NETWORKS = ("pooled_embedding", "hcnn", "bilstm")
Side = list[int] | None


def instances(*pairs: tuple[Side, Side]) -> Instances:
    left, right = (Column.from_lists([pair[side] for pair in pairs]) for side in (0, 1))
    return Instances(columns=(left, right), label="instances[{}]", numbers=range(len(pairs)))


def answered(predictor: Predictor, *pairs: tuple[Side, Side], **settings: Any) -> list[Any]:
    """Return the answer to each instance."""
    return [answer for part in predictor.prepare(instances(*pairs), **settings).answers() for answer in part]


def test_common_tokens_are_marked_in_every_way_to_score() -> None:
    """Pairs of a request and of many objects have the reference's scores; a side alone is not marked."""
    hyperparameters = configured(tied_token_embedding_weight=True, mark_common_tokens=True)
    network = network_of(hyperparameters)
    predictor = Predictor(network, hyperparameters, directory=Path())
    pairs = [([1, 2], [2, 3]), ([4], [4]), ([5], [6]), ([], [1])] * 20  # more than one block of the head
    weights = weights_of(network)
    wanted = [reference.score(hyperparameters, weights, *pair) for pair in pairs]
    np.testing.assert_allclose(predictor.score(pairs), wanted, atol=1e-6)
    np.testing.assert_allclose(predictor.score(np.array([[4, 4], [5, 6]])), wanted[1:3], atol=1e-6)
    mixed = answered(predictor, ([4], None), *pairs[:2])
    np.testing.assert_allclose(mixed[0]["embeddings"], reference.encode(hyperparameters, weights, 0, [4]), atol=1e-6)
    np.testing.assert_allclose(mixed[1]["scores"], wanted[0], atol=1e-6)


sides = st.lists(st.integers(0, 8).filter(lambda token: token != 3) | st.just(0), max_size=9)


@pytest.mark.parametrize("kind", NETWORKS)
@given(st.lists(st.tuples(st.none() | sides, st.none() | sides), max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors])
def test_each_instance_has_the_warnings_of_its_own_tokens(kind: str, pairs: list[tuple[Side, Side]]) -> None:
    """Only tokens within max_seq_len count."""
    found = {
        (row, warning.side, warning.kind)
        for warning in of_kind(kind).prepare(instances(*pairs)).warnings
        for row in warning.rows.tolist()
    }
    wanted = set()
    for row, pair in enumerate(pairs):
        for side, tokens in zip(("in0", "in1"), pair, strict=True):
            if tokens is not None and len(tokens) > 6:
                wanted.add((row, side, "truncated"))
            if tokens is not None and not (any(tokens[:6]) if kind == "pooled_embedding" else tokens):
                wanted.add((row, side, "no_tokens"))
    assert found == wanted


@cache
def of_kind(network: str) -> Predictor:
    hyperparameters = configured(network=network)
    return Predictor(network_of(hyperparameters), hyperparameters, directory=Path("nowhere"))


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return Predictor.load(saved(tmp_path))


def saved(directory: Path, **changes: object) -> Path:
    hyperparameters = configured(**changes)
    artifact.save(directory, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    return directory


def counted(predictor: Predictor) -> list[int]:
    """Return a list to which each later pass through an encoder appends its number of objects."""
    passes: list[int] = []
    for encoder in (predictor.network.enc0, predictor.network.enc1):
        encoder.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0].lengths)))
    return passes


# What is answered.


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("output", ["softmax", "mean_squared_error"])
def test_mixed_instances_are_answered_in_order(tmp_path: Path, kind: str, output: str) -> None:
    """Pairs get the scores of the network, single sides their encodings."""
    predictor = Predictor.load(saved(tmp_path, network=kind, output_layer=output))
    network = predictor.network
    answers = answered(predictor, ([1, 2], [3]), (None, [3]), ([5, 4, 3], None), ([], [1]), ([1, 2], [8, 7]))
    with torch.inference_mode():
        u = network.encode(0, tokens_of([1, 2], [5, 4, 3], [], [1, 2]))
        v = network.encode(1, tokens_of([3], [3], [1], [8, 7]))
        scores = network.scores(network.score_encodings(u[[0, 2, 3]], v[[0, 2, 3]]))
    assert [list(answer) for answer in answers] == [["scores"], ["embeddings"], ["embeddings"], ["scores"], ["scores"]]
    wanted = [scores[0], v[1], u[1], scores[1], scores[2]]
    for answer, vector in zip(answers, wanted, strict=True):
        np.testing.assert_allclose(next(iter(answer.values())), vector, atol=1e-6)


def test_embedding_mode_returns_both_embeddings_of_a_pair(tmp_path: Path) -> None:
    """A single side is answered as in every mode."""
    predictor = Predictor.load(saved(tmp_path), mode="embedding")
    pair, alone = answered(predictor, ([1, 2], [3]), (None, [3]))
    np.testing.assert_array_equal(pair["embeddings"]["in0"], predictor.encode([[1, 2]], "in0")[0])
    np.testing.assert_array_equal(pair["embeddings"]["in1"], predictor.encode([[3]], "in1")[0])
    np.testing.assert_array_equal(alone["embeddings"], pair["embeddings"]["in1"])


def test_embedding_mode_loads_the_head_for_scores(tmp_path: Path) -> None:
    """The head is not loaded at first; scores equal those of the other modes."""
    scores = Predictor.load(saved(tmp_path)).score([([1, 2], [3])])
    predictor = Predictor.load(tmp_path, mode="embedding")
    answered(predictor, ([1], [2]))
    assert predictor.network.head is None
    np.testing.assert_array_equal(predictor.score([([1, 2], [3])]), scores)
    assert predictor.network.head is not None
    assert not predictor.network.head.training


@pytest.mark.parametrize("mode", ["classification", "regression"])
def test_request_overrides_the_mode(tmp_path: Path, mode: str) -> None:
    """A request for scores or for embeddings overrides the mode of the predictor."""
    predictor = Predictor.load(saved(tmp_path))
    assert list(answered(predictor, ([1], [2]), mode=mode)[0]) == ["scores"]
    assert list(answered(predictor, ([1], [2]), mode="embedding")[0]["embeddings"]) == ["in0", "in1"]


@pytest.mark.parametrize("kind", NETWORKS)
def test_input_is_truncated_to_max_seq_len_or_the_request_s_length(tmp_path: Path, kind: str) -> None:
    """The first max_seq_len (6) tokens are used, or as many as the request says for each side."""
    predictor = Predictor.load(saved(tmp_path, network=kind))
    is_long = [1, 2, 3, 4, 5, 6, 7, 8]
    cut = answered(predictor, (is_long, None), (is_long[:6], None))
    np.testing.assert_allclose(cut[0]["embeddings"], cut[1]["embeddings"], atol=1e-6)
    longer = answered(predictor, (is_long, None), (None, is_long), (None, is_long[:2]), max_seq_lens=(8, 2))
    assert np.abs(longer[0]["embeddings"] - cut[0]["embeddings"]).max() > 1e-3
    np.testing.assert_allclose(longer[1]["embeddings"], longer[2]["embeddings"], atol=1e-6)


def test_dropout_is_off_in_serving(tmp_path: Path) -> None:
    """Repeated calls give the same scores."""
    predictor = Predictor.load(saved(tmp_path, dropout=0.5))
    np.testing.assert_array_equal(predictor.score([([1], [2])]), predictor.score([([1], [2])]))


# What is refused.


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (9, 'Inconsistent vocab for in1 found. Vocab id "9" is not less than vocab_size=9'),
        (2**63, f'Inconsistent vocab for in1 found. Vocab id "{2**63}" is not less than vocab_size=9'),
        (-1, "in1 has the token -1, wanted an integer token id from 0"),
    ],
)
def test_unknown_ids_are_refused(predictor: Predictor, token: int, sentence: str) -> None:
    """The error names instance, side, id and vocab_size."""
    with pytest.raises(RequestError) as raised:
        answered(predictor, ([1], None), (None, [3, token]), ([1], [2]))
    assert str(raised.value) == f"instances[1]: {sentence}"


def test_ids_are_named_in_later_chunks_too(predictor: Predictor) -> None:
    pairs = [([1], [2])] * (MAX_BATCH_ROWS + 1) + [([1], [99])]
    with pytest.raises(RequestError, match=rf"^instances\[{MAX_BATCH_ROWS + 1}\]: "):
        answered(predictor, *pairs)


def test_ids_beyond_max_seq_len_are_not_checked(predictor: Predictor) -> None:
    """As in training, truncated tokens have no effect."""
    assert predictor.encode([[1, 2, 3, 4, 5, 6, 99]], "in0").shape == (1, 4)


# In how many passes.


def test_each_unique_object_is_encoded_once(predictor: Predictor) -> None:
    """A user with hundreds of items, and each item alone, take one pass per side."""
    passes = counted(predictor)
    answered(predictor, *[([1, 2], [item % 5]) for item in range(500)], *[(None, [item]) for item in range(5)])
    assert passes == [1, 5]


def test_many_instances_are_processed_in_chunks(predictor: Predictor) -> None:
    """Each pass has a bounded number of rows; answers and their order do not change."""
    pairs = [([n % 9, n // 9 % 9], [n // 81 % 9, n % 7]) for n in range(2 * MAX_BATCH_ROWS + 10)]
    passes = counted(predictor)
    scores = predictor.score(pairs)
    assert len(passes) == 6
    assert max(passes) <= MAX_BATCH_ROWS
    np.testing.assert_allclose(scores[-20:], predictor.score(pairs[-20:]), atol=1e-6)


@pytest.mark.parametrize("kind", ["hcnn", "bilstm"])
def test_long_sequences_take_several_passes(tmp_path: Path, kind: str) -> None:
    """Each pass has a bounded number of padded tokens: 32 rows of 1,000 fit."""
    predictor = Predictor.load(saved(tmp_path, network=kind, enc0_max_seq_len=5000, enc0_layers=1))
    rng = np.random.default_rng(0)
    objects = [rng.integers(1, 9, length).tolist() for length in [1000] * 40 + [3, 2]]
    passes = counted(predictor)
    encodings = predictor.encode(objects, "in0")
    assert passes == [32, 10]
    np.testing.assert_allclose(encodings[[0, -1]], predictor.encode([objects[0], objects[-1]], "in0"), atol=1e-6)


def test_filters_have_the_layout_of_the_convolution() -> None:
    """Converting the layout in each pass would take a fifth of its time."""
    hyperparameters = configured(network="hcnn")
    network = network_of(hyperparameters)
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    Predictor(network, hyperparameters, directory=Path("nowhere"))
    filters = [module.weight for module in network.modules() if isinstance(module, nn.Conv1d)]
    assert len(filters) == 8
    assert all(to_taps(weight).data_ptr() == weight.data_ptr() for weight in filters)
    assert all(torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())


def test_concurrent_calls_give_the_scores_of_a_single_call(tmp_path: Path) -> None:
    """This includes the first scores of a predictor in embedding mode."""
    pairs = [([n % 9], [n // 9]) for n in range(80)]
    wanted = Predictor.load(saved(tmp_path, network="bilstm")).score(pairs)
    predictor = Predictor.load(tmp_path, mode="embedding")
    with ThreadPoolExecutor(8) as pool:
        for scores in pool.map(predictor.score, [pairs] * 32):
            np.testing.assert_array_equal(scores, wanted)


def test_the_head_is_there_at_each_moment_while_it_is_added() -> None:
    """Another thread may read it at any moment, so the attribute must not be removed first."""
    network = Network(configured(), with_head=False)
    whole = network_of(configured())
    names: list[str] = []
    sys.setprofile(lambda *_: names.append(str(hasattr(network, "head"))))
    try:
        network.head = whole.head
    finally:
        sys.setprofile(None)
    assert set(names) == {"True"}
    assert network.head is whole.head


# As a library.


def test_package_load_returns_a_model(tmp_path: Path) -> None:
    """`object2vec.load` takes a path or a string."""
    assert isinstance(object2vec.load(str(saved(tmp_path))), object2vec.Model)
    with pytest.raises(ArtifactError):
        object2vec.load(tmp_path / "nothing")


def test_results_are_float32_matrices(predictor: Predictor) -> None:
    """There is a row for each object or pair, also for none; integers of numpy and tuples are accepted."""
    tokens = np.array([[1, 2], [3, 4]])
    assert predictor.encode(tokens, "in1").shape == (2, 4)
    assert predictor.encode([], "in0").shape == (0, 4)
    assert predictor.score([((1,), (2, 3))]).shape == (1, 2)
    assert predictor.score([]).shape == (0, 2)
    assert predictor.score(iter([([1], [2])])).dtype == predictor.encode(tokens, "in0").dtype == np.float32


def test_errors_name_the_arguments_of_the_call(predictor: Predictor) -> None:
    """Messages use the words of the Python call."""
    with pytest.raises(RequestError, match=r"^tokens\[1\]: Inconsistent vocab for in1"):
        predictor.encode([[1], [9]], "in1")
    with pytest.raises(RequestError, match=r"^pairs\[0\]: Inconsistent vocab for in0"):
        predictor.score([([9], [1])])


def test_directory_of_another_program_is_refused(tmp_path: Path) -> None:
    """A config.json without our keys is no model."""
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="format_version"):
        Predictor.load(tmp_path)


IDS = "wanted a list of integer token ids"


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ("abc", "tokens is 'abc', wanted a list of them"),
        (7, "tokens is 7, wanted a list of them"),
        (None, "tokens is None, wanted a list of them"),
        ({1: 2}, "tokens is {1: 2}, wanted a list of them"),
        (np.array(3), "tokens is array(3), wanted a list of them"),
        ([1, 2], f"tokens[0] is 1, {IDS}"),
        (["12"], f"tokens[0] is '12', {IDS}"),
        ([[1], None], f"tokens[1] is None, {IDS}"),
        ([b"1"], f"tokens[0] is b'1', {IDS}"),
        ([[1], [2, 1.5]], "tokens[1][1] is 1.5, wanted an integer token id"),
        ([[1.0]], "tokens[0][0] is 1.0, wanted an integer token id"),
        ([["1"]], "tokens[0][0] is '1', wanted an integer token id"),
        ([[[1]]], "tokens[0][0] is [1], wanted an integer token id"),
        ([[1, None]], "tokens[0][1] is None, wanted an integer token id"),
        ([[-1]], "tokens[0]: in0 has the token -1, wanted an integer token id from 0"),
        ([[2**70]], f'tokens[0]: Inconsistent vocab for in0 found. Vocab id "{2**70}" is not less than vocab_size=9'),
    ],
)
def test_invalid_tokens_give_one_sentence(predictor: Predictor, tokens: Any, sentence: str) -> None:
    """The sentence says where, what was given and what was wanted."""
    with pytest.raises(RequestError) as caught:
        predictor.encode(tokens, "in0")
    assert str(caught.value) == sentence


@pytest.mark.parametrize("tokens", [np.array([1, 2]), np.array([[1.0]]), np.zeros((1, 1, 1), int), torch.ones(1, 1)])
def test_invalid_arrays_give_one_sentence(predictor: Predictor, tokens: Any) -> None:
    """Arrays of one or three dimensions, or of floats, are refused."""
    with pytest.raises(RequestError, match=r"^tokens\[0\].* is .*, wanted an? .*integer token id"):
        predictor.encode(tokens, "in0")


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ("ab", "pairs is 'ab', wanted a list of them"),
        ([1], "pairs[0] is 1, wanted a list of them"),
        ([([1], [2]), ([1],)], "pairs[1] has 1 parts, wanted 2: the token ids of in0, and those of in1"),
        ([([1], [2], 1)], "pairs[0] has 3 parts, wanted 2: the token ids of in0, and those of in1"),
        ([(1, 2)], f"pairs[0][0] is 1, {IDS}"),
        ([([1], "2")], f"pairs[0][1] is '2', {IDS}"),
        ([([1.0], [2])], "pairs[0][0][0] is 1.0, wanted an integer token id"),
        ([{"in0": [1], "in1": [2]}], "pairs[0] is {'in0': [1], 'in1': [2]}, wanted a list of them"),
    ],
)
def test_invalid_pairs_give_one_sentence(predictor: Predictor, pairs: Any, sentence: str) -> None:
    """The sentence says where, what was given and what was wanted."""
    with pytest.raises(RequestError) as caught:
        predictor.score(pairs)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("side", ["in2", "IN0", "", 0, None, ["in0"]])
def test_invalid_side_gives_one_sentence(predictor: Predictor, side: Any) -> None:
    """The side is checked even without objects."""
    for tokens in ([[1]], []):
        with pytest.raises(RequestError) as caught:
            predictor.encode(tokens, side)
        assert str(caught.value) == f"side is {side!r}, wanted in0 or in1"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"directory": None}, "directory is None, wanted the path of a model"),
        ({"directory": ""}, "directory is '', wanted the path of a model"),
        ({"directory": 3}, "directory is 3, wanted the path of a model"),
        ({"directory": "s3://bucket/model.tar.gz"}, "s3://bucket/model.tar.gz: s3:// is not read yet"),
        ({"mode": "scores"}, "mode"),
        ({"device": "gpu"}, "device is 'gpu', wanted cpu or cuda"),
    ],
)
def test_invalid_arguments_of_load_give_one_sentence(tmp_path: Path, arguments: dict[str, Any], sentence: str) -> None:
    """They are checked before any file is read."""
    with pytest.raises(UserError) as caught:
        Predictor.load(**({"directory": saved(tmp_path)} | arguments))
    assert str(caught.value).startswith(sentence)


PICKLED = [pickle.dumps, lambda model: pickle.dumps(model, protocol=2)]


@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, *(lambda m, d=d: pickle.loads(d(m)) for d in PICKLED)])
@pytest.mark.parametrize("mode", ["classification", "embedding"])
def test_pickle_and_copy_reload_the_model_by_its_path(
    tmp_path: Path, again: Any, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy has the same mode and answers, even if the working directory has changed."""
    saved(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    predictor = Predictor.load("m", mode=mode)  # type: ignore[arg-type]
    monkeypatch.chdir("/")
    other = again(predictor)
    assert other is not predictor
    assert other.mode == mode
    np.testing.assert_array_equal(other.encode([[1, 2]], "in1"), predictor.encode([[1, 2]], "in1"))
    np.testing.assert_array_equal(other.score([([1], [2])]), predictor.score([([1], [2])]))


def test_unpickling_a_deleted_model_names_its_path(tmp_path: Path) -> None:
    """A pickle contains only the path."""
    pickled = pickle.dumps(Predictor.load(saved(tmp_path / "m")))
    shutil.rmtree(tmp_path / "m")
    with pytest.raises(ArtifactError, match=r"m: No such file or directory, wanted a directory with config\.json"):
        pickle.loads(pickled)


def test_pickled_model_loads_in_another_process(tmp_path: Path) -> None:
    """joblib, Spark and spawned workers do this."""
    predictor = Predictor.load(saved(tmp_path / "m"))
    pairs = [([1], [2])]
    process = start(write_scores, predictor, pairs, tmp_path / "scores.npy", log=tmp_path / "log")
    process.join()
    assert process.exitcode == 0, (tmp_path / "log").read_text()
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), predictor.score(pairs), atol=1e-6)


FORK = """
import os, signal, sys, threading
import numpy as np, torch, object2vec

torch.set_num_threads(2)
models = [object2vec.load(path) for path in sys.argv[1:]]
pairs = [([n % 9, 1, 2, 3, 4, 5], [n // 9 % 9, 3, 4]) for n in range(100)]
found = []

def score():
    found.append([model.score(pairs) for model in models])

def fork():
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        return
    signal.alarm(250)  # ends a child that waits for threads of its parent
    score()
    thread = threading.Thread(target=score)
    thread.start()
    thread.join()
    assert all(np.allclose(a, b, atol=1e-3) for other in found for a, b in zip(found[0], other, strict=True))
    os._exit(0)

fork()
score()
fork()
print("fine")
"""


def test_forked_child_computes_the_scores_of_its_parent(tmp_path: Path) -> None:
    """The fork is before or after the first call of the parent; the child may use a new thread.

    The filters and the head are so large that loading them could start threads.
    """
    sizes = {"enc_dim": 1024, "mlp_dim": 512, "enc0_token_embedding_dim": 1000, "enc0_max_seq_len": 6}
    models = [saved(tmp_path / kind, network=kind, **sizes) for kind in NETWORKS]
    command = [sys.executable, "-c", FORK, *map(str, models)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout == "fine\n", done.stderr


def test_an_array_of_ids_is_scored_as_lists_are(predictor: Predictor) -> None:
    generator = np.random.default_rng(0)
    pairs = generator.integers(0, 9, (300, 2))
    np.testing.assert_allclose(
        predictor.score(pairs), predictor.score([([a], [b]) for a, b in pairs.tolist()]), rtol=1e-5, atol=1e-6
    )
    assert predictor.score(np.empty((0, 2), np.int64)).shape == predictor.score([]).shape


@pytest.mark.parametrize("token", [9, -1])
def test_an_id_out_of_range_in_an_array_is_named(predictor: Predictor, token: int) -> None:
    with pytest.raises(RequestError, match=rf"pairs\[1\]: .*in1.*{token}"):
        predictor.score(np.array([[1, 2], [3, token]]))


@pytest.mark.parametrize(("mlp_layers", "mlp_activation"), [(0, "linear"), (1, "linear"), (2, "linear"), (2, "tanh")])
@pytest.mark.parametrize("comparators", ["hadamard, concat, abs_diff", "cosine, concat"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_pairs_of_given_objects_have_their_scores(
    kind: str, comparators: str, mlp_layers: int, mlp_activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However pairs are cut into blocks, and also if the layers are folded into one."""
    monkeypatch.setattr(pair_scorer, "HEAD_PAIRS", 3)
    monkeypatch.setattr(pair_scorer, "LINEAR_HEAD_PAIRS", 3)
    settings = {"comparator_list": comparators, "mlp_layers": mlp_layers, "mlp_activation": mlp_activation}
    hyperparameters = configured(network=kind, **settings)
    model = Predictor(network_of(hyperparameters), hyperparameters, directory=Path("model"))
    objects: tuple[list[list[int]], list[list[int]]] = [[1], [2, 3], []], [[4, 5, 6], [7]]
    scores = model.pair_scorer((Sequences.from_lists(objects[0]), Sequences.from_lists(objects[1])))
    left, right = np.array([0, 1, 2, 2]), np.array([1, 0, 1, 0])
    expected = model.score([(objects[0][a], objects[1][b]) for a, b in zip(left, right, strict=True)])
    np.testing.assert_allclose(scores(left, right), expected, rtol=1e-5, atol=1e-6)
    assert scores(left[:0], right[:0]).shape == (0, 2)
