"""Each kernel against its torch or numpy form, which other tests compare with the reference."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from object2vec.data.sequences import Sequences
from object2vec.hyperparameters.table import NETWORKS
from object2vec.model.network import Network
from object2vec.ops import build as build_kernels
from object2vec.ops import dropout as dropout_ops
from object2vec.ops import embedding as embedding_ops
from object2vec.ops import jsonl as jsonl_ops
from object2vec.ops import library
from object2vec.ops import recurrent as recurrent_ops
from object2vec.ops import scoring as scoring_ops
from object2vec.ops import sequences as sequences_ops
from object2vec.ops.text import TextTable, write_lines
from small import configured, gradients_of, network_of, tokens_of

OBJECTS = [[3], [1, 2, 3, 4, 5, 6], [], [0], [8, 0, 8], [2, 5, 0, 0], [7, 7, 7, 7], [1]]


def test_kernels_are_available() -> None:
    """The kernels are compiled: a machine that runs these tests has a compiler."""
    assert library.available()


def outcome(network: Network) -> tuple[torch.Tensor, dict[str, torch.Tensor | None]]:
    index = torch.arange(len(OBJECTS)), torch.arange(len(OBJECTS)).flip(0)
    output = network((tokens_of(*OBJECTS), tokens_of(*OBJECTS[::-1])), index)
    output.pow(3).sum().backward()
    return output.detach(), gradients_of(network)


@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_equal_those_of_torch(
    network: str, layers: int, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output and the gradient of every weight are those of the plain form, for each encoder."""
    hyperparameters = configured(network=network, enc0_layers=layers, token_embedding_storage_type=storage)
    output, gradients = outcome(network_of(hyperparameters))
    monkeypatch.setattr(library, "available", lambda: False)
    plain_output, plain_gradients = outcome(network_of(hyperparameters))
    torch.testing.assert_close(output, plain_output, atol=1e-5, rtol=1e-5)
    for name, gradient in plain_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-4, rtol=1e-4, msg=name)


def test_dropout_drops_share_p_and_keeps_mean() -> None:
    """A million ones at p = 0.3: 30 % become 0 and the others 1 / 0.7, within five standard deviations."""
    dropped = dropout_ops.dropout_of_seed(torch.ones(1_000_000), 0.3, 12345)
    assert dropped.unique().tolist() == [0, pytest.approx(1 / 0.7)]
    assert abs((dropped == 0).double().mean().item() - 0.3) < 5 * (0.3 * 0.7 / 1e6) ** 0.5


def test_dropout_depends_on_seed_alone() -> None:
    """One seed drops the same units each time, for any values; other seeds, near or far, drop others."""
    ones = torch.ones(4096)
    first = dropout_ops.dropout_of_seed(ones, 0.5, 1)
    assert torch.equal(first, dropout_ops.dropout_of_seed(ones * 3, 0.5, 1) / 3)
    for seed in (2, 1 + 2**32, 2**61):
        agreement = ((first == 0) == (dropout_ops.dropout_of_seed(ones, 0.5, seed) == 0)).double().mean().item()
        assert abs(agreement - 0.5) < 0.05


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropout_with_p_0_and_1(p: float) -> None:
    """p = 0 leaves all as it is, p = 1 leaves nothing but zeros."""
    x = torch.arange(1.0, 100.0)
    assert torch.equal(dropout_ops.dropout_of_seed(x, p, 7), x * (1 - p))


lists = st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=40)


@given(lists, st.booleans())
def test_distinct_finds_the_different_sequences(given_lists: list[list[int]], kernels: bool) -> None:
    """Every sequence belongs to the first one that is equal to it; each object is counted once, in order."""
    sequences = Sequences.from_lists(given_lists)
    which, first = np.empty(len(sequences), np.int32), np.empty(len(sequences), np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "available", lambda: kernels)
        found = sequences_ops.unique_sequences(sequences.values, sequences.offsets, which, first)
    seen = list(dict.fromkeys(map(tuple, given_lists)))
    assert [tuple(given_lists[i]) for i in first[:found]] == seen
    assert [seen[object_] for object_ in which] == list(map(tuple, given_lists))


@pytest.mark.parametrize("kernels", [True, False])
def test_sequences_are_taken_in_any_order(kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With repetitions and empty sequences."""
    monkeypatch.setattr(library, "available", lambda: kernels)
    lists = [list(range(n % 37)) for n in range(300)]
    index = [n * 7 % 300 for n in range(400)]
    taken = Sequences.from_lists(lists).take(np.array(index))
    wanted = Sequences.from_lists([lists[n] for n in index])
    assert taken.values.tolist() == wanted.values.tolist()
    assert taken.offsets.tolist() == wanted.offsets.tolist()


def test_distinct_finds_more_objects_than_it_has_room_for_at_first() -> None:
    """The table of objects grows, and those that were found before are found again."""
    tokens = np.random.default_rng(0).permutation(np.arange(20_000, dtype=np.int32) % 9_000)
    which, first = np.empty(len(tokens), np.int32), np.empty(len(tokens), np.int32)
    found = sequences_ops.unique_sequences(tokens, np.arange(len(tokens) + 1), which, first)
    assert found == 9_000
    first = first[:found]
    assert np.array_equal(tokens[first][which], tokens)
    assert np.array_equal(np.sort(first), first)


@given(st.lists(st.integers(0, 20), max_size=200))
def test_group_sorts_origins_by_id(ids: list[int]) -> None:
    """Each id has all that it comes from, in order, and the scratch is as it was."""
    lut = torch.full((21,), -1, dtype=torch.int32)
    origin = torch.arange(len(ids)) * 10
    rows, starts, origins = embedding_ops.group_by_id(torch.tensor(ids, dtype=torch.int64), origin, lut)
    found = {row: origins[a:b].tolist() for row, a, b in zip(rows.tolist(), starts[:-1], starts[1:], strict=True)}
    assert found == {i: [10 * p for p, other in enumerate(ids) if other == i] for i in ids}
    assert bool((lut == -1).all())


number = st.integers(0, 999_999_999)
label = st.one_of(st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6).map(lambda x: round(x, 4)))
record = st.fixed_dictionaries(
    {"in0": st.lists(number, max_size=9), "in1": st.lists(number, max_size=9), "label": label}
)


@given(st.lists(record, max_size=20), st.integers(1, 6), st.sampled_from(["", " ", "\t "]), st.randoms())
def test_plain_lines_are_read(records: list[dict], most: int, space: str, random: object) -> None:
    """Keys in any order, spaces anywhere, blank lines between: what is written is read, cut and counted."""
    text = ""
    for each in records:
        keys = sorted(each, key=lambda _: random.random())  # type: ignore[attr-defined]
        fields = (f'{space}"{key}"{space}:{space}{each[key]!r}{space}' for key in keys)
        text += f"{space}{{{','.join(fields)}}}{space}\n{space}\n"
    lines = jsonl_ops.read_lines(text.encode(), (most, 100))
    assert (len(lines.labels), lines.consumed, lines.lines) == (len(records), len(text), 2 * len(records))
    assert lines.labels.tolist() == [each["label"] for each in records]
    assert lines.values[0].tolist() == [token for each in records for token in each["in0"][:most]]
    assert lines.lengths[1].tolist() == [len(each["in1"]) for each in records]
    assert lines.cut.tolist() == [sum(len(each["in0"]) > most for each in records), 0]


@pytest.mark.parametrize(
    "line",
    [
        '{"in0":[1],"in1":[2],"label":1,"more":2}',
        '{"in0":[1],"in1":[2]}',
        '{"in0":[1],"in0":[1],"in1":[2],"label":1}',
        '{"in0":[1],"in1":[2],"label":1}{',
        '{"in0":[1],"in1":[2],"label":1} x',
        '{"in0":[1],"in1":[2],"label":1,}',
        '{"in0":[1,],"in1":[2],"label":1}',
        '{"in0":[1 2],"in1":[2],"label":1}',
        '{"in0":[01],"in1":[2],"label":1}',
        '{"in0":[-1],"in1":[2],"label":1}',
        '{"in0":[1.0],"in1":[2],"label":1}',
        '{"in0":[1e1],"in1":[2],"label":1}',
        '{"in0":[1234567890],"in1":[2],"label":1}',
        '{"in0":["1"],"in1":[2],"label":1}',
        '{"in0":[true],"in1":[2],"label":1}',
        '{"in0":1,"in1":[2],"label":1}',
        '{"in0":[1],"in1":[2],"label":true}',
        '{"in0":[1],"in1":[2],"label":1e5}',
        '{"in0":[1],"in1":[2],"label":1.}',
        '{"in0":[1],"in1":[2],"label":.5}',
        '{"in0":[1],"in1":[2],"label":01}',
        '{"in0":[1],"in1":[2],"label":-}',
        '{"in0":[1],"in1":[2],"label":- 1}',
        '{"in0":[1],"in1":[2],"label":1234567890123456}',
        '{"in0":[1],"in1":[2],"label":NaN}',
        '{"in0":[1],"in1":[2],"label"',
        '{"in0":[1',
        "[1]",
        "nothing",
    ],
)
def test_reading_stops_at_a_line_that_is_not_plain(line: str) -> None:
    """Reading stops before a line that is not plain, right or wrong, and what went before it is kept."""
    good = '{"in0":[1],"in1":[2, 3],"label":-0.5}\n'
    lines = jsonl_ops.read_lines((good + line + "\n" + good).encode(), (9, 9))
    assert (len(lines.labels), lines.consumed, lines.lines) == (1, len(good), 1)
    np.testing.assert_array_equal(lines.values[1], [2, 3])


def test_tanh_equals_numpy() -> None:
    """Over all of its range, where it is 1, and of what is no number: a head that gives tanh(u) for the tokens of u."""
    x = torch.cat([torch.linspace(-12, 12, 10_001), torch.tensor([1e-30, -1e-6, 1e30, math.inf, -math.inf, math.nan])])
    tables = [x[:, None].contiguous(), torch.zeros(1, 1)]
    layers = [(torch.tensor([[1.0, 0.0]]), torch.zeros(1)), (torch.ones(1, 1), torch.zeros(1))]
    head = scoring_ops.token_head(tables, ["concat"], layers, "tanh", softmax=False, max_bytes=12)
    assert head is not None
    tokens = np.arange(len(x), dtype=np.int32)
    found = scoring_ops.score_tokens(head, (tokens, np.zeros_like(tokens)))[1:, 0]
    np.testing.assert_allclose(found, np.tanh(x[1:].numpy()), atol=3e-7)


def test_halves_are_read_as_torch_reads_them() -> None:
    """Each finite number of half precision, those next to 0 too; and means of several are of floats, not of halves."""
    table = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.float16)[:, None].contiguous()
    finite = torch.nonzero(table[:, 0].isfinite()).squeeze(1)
    rows, _ = embedding_ops.mean_pool_kernel(table, finite, torch.arange(len(finite) + 1))
    wanted = table[finite].float()
    assert torch.equal(rows[finite != 0], wanted[finite != 0])  # a token 0 is none
    values, offsets = torch.tensor([5, 0, 9, 2000, 40_000, 40_001, 7]), torch.tensor([0, 3, 6, 6, 7])
    means, scale = embedding_ops.mean_pool_kernel(table, values, offsets)
    floats, floats_scale = embedding_ops.mean_pool_kernel(table.float(), values, offsets)
    assert torch.equal(means, floats)
    assert torch.equal(scale, floats_scale)


def test_signatures_are_those_of_the_sources() -> None:
    """The compiler compares sources with api.h; here every kernel is declared there, with the same parameter names."""
    sources = "\n".join(path.read_text() for path in build_kernels.FOLDER.glob("*.c"))
    found = re.findall(r"^KERNEL\(\w+, (\w+)\)\(([^)]*)\)\s*{", sources, re.MULTILINE)
    names = {kernel: tuple(re.findall(r"(\w+)(?:,|$)", parameters)) for kernel, parameters in found}
    assert names == {kernel: tuple(signature.parameters) for kernel, signature in library.signatures().items()}


def test_signatures_are_read_from_the_header() -> None:
    """An array has its dtype and marks; structs, arrays of addresses and numbers are no arrays."""
    signature = library.signatures()["draw_negatives"]
    assert signature.parameters["sources"] == ("draw_negatives", "sources", "int64", False, True)
    assert signature.parameters["out"] == ("draw_negatives", "out", "int64", True, False)
    assert signature.types[3:5] == [ctypes.c_int64, ctypes.c_uint64]
    signature = library.signatures()["hcnn_forward"]
    arrays = [parameter.name for parameter in signature.parameters.values() if parameter.dtype]
    assert arrays == ["values", "offsets", "widths", "line", "next", "encodings"]
    assert signature.result is None


def test_structs_are_read_from_the_header() -> None:
    """Fields keep their order; a declaration may have several, and a field may be an array."""
    structs = library.structs()
    assert [name for name, _ in structs["Table"]._fields_] == ["rows", "dim", "is_half"]
    fields = dict(structs["ScoringHead"]._fields_)
    assert fields["tables"] is structs["Table"] * 2
    assert fields["cache_rows"] is ctypes.c_int64 * 2
    assert (fields["biases"], fields["layers"]) == (ctypes.c_void_p, ctypes.c_int64)
    assert dict(structs["ParameterState"]._fields_)["state2"] is ctypes.c_void_p
    assert dict(structs["StepConfig"]._fields_)["weight_decay"] is ctypes.c_float


TABLE, IDS, OFFSETS = torch.randn(8, 4), torch.tensor([1, 2, 7]), torch.tensor([0, 2, 3])
LEFT, RIGHT = torch.tensor([0, 1]), torch.tensor([1, 1])
LAYER = scoring_ops.LinearHead(torch.randn(2, 4), torch.zeros(2), torch.tensor([0, -1, -1, -1]))
GROUPS = embedding_ops.Groups(torch.tensor([1, 2]), torch.tensor([0, 1, 2]), torch.tensor([0, 1]))
SCALE, BY_ROWS = torch.ones(2), embedding_ops.RowGradient.from_rows(LEFT, torch.randn(2, 4))
LUT = torch.full((8,), -1, dtype=torch.int32)
STEP = torch.randn(2, 16), torch.randn(1, 4), torch.randn(2, 4), torch.randn(2, 4)
TOKENS, STARTS = np.array([1, 2, 3], np.int32), np.array([0, 2, 3])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: embedding_ops.mean_pool_kernel(TABLE, IDS.int(), OFFSETS), "mean_pool: values is int32, wanted int64"),
        (lambda: embedding_ops.mean_pool_kernel(TABLE.double(), IDS, OFFSETS), "table is float64, wanted float32"),
        (
            lambda: embedding_ops.mean_pool_kernel(TABLE, IDS, OFFSETS.int()),
            "mean_pool: offsets is int32, wanted int64",
        ),
        (
            lambda: embedding_ops.mean_pool_kernel(TABLE, [1, 2, 7], OFFSETS),
            "mean_pool: values is a list, wanted an array or tensor of int64",
        ),
        (lambda: embedding_ops.group_by_id(IDS, IDS, LUT.long()), "group_by_id: lut is int64, wanted int32"),
        (lambda: embedding_ops.add_rows(TABLE, GROUPS, BY_ROWS._replace(scale=SCALE.double())), "scale is float64"),
        (lambda: dropout_ops.dropout_of_seed(TABLE.half(), 0.5, 1), "dropout: x is float16"),
        (
            lambda: recurrent_ops.lstm_step("lstm_forward", STEP[0].double(), STEP[1], cell=STEP[2], hidden=STEP[3]),
            "lstm_forward: gates is float64",
        ),
        (lambda: scoring_ops.score_pairs(TABLE, TABLE, LEFT.int(), RIGHT, LAYER), "left is int32"),
        (lambda: jsonl_ops.read_lines("text", (1, 1)), "read_lines: bytes is a str"),
    ],
)
def test_wrong_dtype_is_an_error(call: Callable[[], object], message: str) -> None:
    """A TypeError says what was given and what is wanted."""
    with pytest.raises(TypeError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: embedding_ops.mean_pool_kernel(torch.randn(8, 8)[:, ::2], IDS, OFFSETS),
            "strides (8, 2), wanted a contiguous one",
        ),
        (lambda: embedding_ops.mean_pool_kernel(torch.randn(4, 8).t(), IDS, OFFSETS), "wanted a contiguous one"),
        (
            lambda: embedding_ops.mean_pool_kernel(TABLE, torch.arange(6)[::2], OFFSETS),
            "mean_pool: values has shape (3,) and strides (2,)",
        ),
        (lambda: embedding_ops.mean_pool_kernel(TABLE[0], IDS, OFFSETS), "table has shape (4,), wanted (V, E)"),
        (lambda: embedding_ops.mean_pool_kernel(torch.randn(2, 1001), LEFT, OFFSETS), "E up to 1000"),
        (
            lambda: embedding_ops.mean_pool_kernel(TABLE, torch.tensor([1, 8, 2]), OFFSETS),
            "values[1] is 8, wanted an integer from 0 to 7",
        ),
        (lambda: embedding_ops.mean_pool_kernel(TABLE, torch.tensor([1, 2, -1]), OFFSETS), "values[2] is -1"),
        (
            lambda: embedding_ops.mean_pool_kernel(TABLE, IDS, torch.tensor([0, 3, 2])),
            "offsets[2] is 2, wanted ascending numbers",
        ),
        (
            lambda: embedding_ops.mean_pool_kernel(TABLE, IDS, torch.tensor([0, 4])),
            "offsets[1] is 4, wanted ascending numbers from 0 to 3",
        ),
        (lambda: embedding_ops.mean_pool_kernel(TABLE, IDS, OFFSETS[:0]), "offsets has shape (0,), wanted (n + 1,)"),
        (lambda: embedding_ops.group_by_id(torch.tensor([8]), LEFT[:1], LUT), "group_by_id: values[0] is 8"),
        (lambda: embedding_ops.group_by_id(IDS, LEFT, LUT), "origin has shape (2,), wanted (3,)"),
        (
            lambda: embedding_ops.add_rows(TABLE, GROUPS._replace(rows=torch.tensor([1, 8])), BY_ROWS),
            "rows[1] is 8",
        ),
        (
            lambda: embedding_ops.add_rows(TABLE, GROUPS, BY_ROWS._replace(grad=torch.randn(2, 3))),
            "grad has shape (2, 3)",
        ),
        (
            lambda: embedding_ops.add_rows(TABLE.t(), GROUPS, BY_ROWS._replace(grad=torch.randn(2, 8))),
            "table has shape (4, 8) and strides",
        ),
        (lambda: dropout_ops.dropout_of_seed(TABLE, 1.5, 1), "p is 1.5, wanted a number from 0 to 1"),
        (
            lambda: recurrent_ops.lstm_step("lstm_forward", STEP[0], torch.randn(3, 4), cell=STEP[2]),
            "before has shape (3, 4)",
        ),
        (
            lambda: recurrent_ops.lstm_step("lstm_backward", *STEP[:2], d_cell=torch.randn(2, 5)),
            "d_cell has shape (2, 5)",
        ),
        (
            lambda: recurrent_ops.lstm_layer(recurrent_ops.Steps([0, 9], IDS, IDS, IDS), STEP[0], torch.randn(16, 4)),
            "starts[1] is 9",
        ),
        (lambda: scoring_ops.score_pairs(TABLE, TABLE[:1], LEFT, RIGHT, LAYER), "right[0] is 1"),
        (lambda: scoring_ops.score_pairs(TABLE, TABLE, LEFT, RIGHT[:1], LAYER), "right has shape (1,), wanted (2,)"),
        (lambda: scoring_ops.score_pairs_backward(TABLE, TABLE, LEFT, RIGHT, LAYER, SCALE), "grad has shape (2,)"),
        (lambda: sequences_ops.unique_sequences(TOKENS, np.array([0, 4]), TOKENS[:1], TOKENS[1:2]), "offsets[1] is 4"),
        (lambda: sequences_ops.unique_rows((STARTS, STARTS), (TOKENS, TOKENS), (TOKENS, TOKENS)), "rows0[2] is 3"),
        (lambda: Sequences(TOKENS, np.array([0, 2000])).take(np.zeros(1, np.int64)), "stops[0] is 2000"),
        (lambda: write_lines((TOKENS, TOKENS), (STARTS, STARTS), TOKENS[:1], ["1"]), "offsets0 has shape (3,)"),
        (lambda: write_lines((TOKENS, TOKENS), (STARTS, STARTS), TOKENS[:2], ["1"]), "label_codes[0] is 1"),
        (lambda: TextTable().number(np.zeros(2, np.uint8), STARTS), "offsets[2] is 3"),
    ],
)
def test_wrong_layout_shape_or_range_is_an_error(call: Callable[[], object], message: str) -> None:
    """A ValueError says what was given and what is wanted; nothing beyond an array is read or written."""
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_read_only_output_is_an_error() -> None:
    """Outputs that are mapped read-only would end the process."""
    which = np.zeros(2, np.int32)
    which.flags.writeable = False
    with pytest.raises(ValueError, match="inverse is read-only, wanted one that can be written"):
        sequences_ops.unique_sequences(TOKENS, STARTS, which, np.zeros(2, np.int32))


def test_tokens_that_a_head_does_not_know_are_refused() -> None:
    """`score_tokens` keeps the interpreter's lock and its own buffers, and checks ids of both sides."""
    layers = [(torch.ones(1, 4), torch.zeros(1))]
    tables = [TABLE, TABLE[:2].contiguous()]
    head = scoring_ops.token_head(tables, ["hadamard"], layers, "tanh", softmax=False, max_bytes=16)
    assert head is not None
    one, two = np.array([1], np.int32), np.array([2], np.int32)
    assert scoring_ops.score_tokens(head, (two, one)).shape == (1, 1)
    with pytest.raises(ValueError, match=re.escape("tokens1[0] is 2")):
        scoring_ops.score_tokens(head, (one, two))
    with pytest.raises(TypeError, match="tokens0 is int64, wanted int32"):
        scoring_ops.score_tokens(head, (one.astype(np.int64), one))
