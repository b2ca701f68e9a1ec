"""Reading a configuration: every client's encoding, both ways of counting, and every fault with its sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builtin import NOTEBOOKS
from object2vec.data.files import read_object
from object2vec.errors import HyperparameterError, UserError
from object2vec.hyperparameters import (
    COMPARATORS,
    MODEL_FILES,
    REQUIRED,
    ROW_SPARSE_OPTIMIZERS,
    TABLE,
    AutoInteger,
    Bool,
    Choice,
    ChoiceList,
    FileName,
    Hyperparameter,
    Hyperparameters,
    Ignored,
    Integer,
    Real,
    parse,
    to_markdown,
    typed,
)

NEEDED = {"enc0_max_seq_len": "5", "enc0_vocab_size": "10"}
NEEDED_FROM_ONE = {"enc1_max_seq_len": "5", "enc1_vocab_size": "10"}


def read(**values: object) -> Hyperparameters:
    return parse(NEEDED | values).hyperparameters


def faults(values: Mapping[str, object]) -> tuple[str, ...]:
    with pytest.raises(HyperparameterError) as caught:
        parse(values)
    assert str(caught.value) == "\n".join(caught.value.faults)
    return caught.value.faults


def sentences(values: Mapping[str, object]) -> tuple[str, ...]:
    """The faults of a configuration; none if it has none, and no other error."""
    try:
        parse(values)
    except HyperparameterError as error:
        return error.faults
    return ()


def fault(**values: object) -> str:
    """The one fault of a configuration that has what is needed."""
    (only,) = faults(NEEDED | values)
    return only


# ----------------------------------------------------------------------------------------------------------------------
# Defaults, and the encodings of clients.
# ----------------------------------------------------------------------------------------------------------------------


#: The hyperparameters that the built-in does not have, at their defaults.
OURS = {
    "negative_sampling_distribution": "frequency",
    "validation_negative_sampling": "off",
    "ema_decay": 0.0,
    "token_embedding_dtype": "float32",
    "seed": 0,
}


def test_defaults_are_those_of_the_built_in() -> None:
    """With nothing but what must be given, every value is the built-in's own default."""
    theirs = {
        **{"enc_dim": 4096, "mlp_dim": 512, "mlp_activation": "linear", "mlp_layers": 2, "output_layer": "softmax"},
        **{"optimizer": "adam", "learning_rate": 0.0004, "mini_batch_size": 32, "epochs": 30, "bucket_width": 0},
        **{"early_stopping_tolerance": 0.01, "early_stopping_patience": 3, "dropout": 0.0, "weight_decay": 0.0},
        **{"negative_sampling_rate": 0, "comparator_list": "hadamard, concat, abs_diff", "num_classes": 2},
        **{"tied_token_embedding_weight": False, "token_embedding_storage_type": "dense"},
    }
    for side in (0, 1):
        values = {"network": "hcnn", "token_embedding_dim": 300, "layers": 4, "cnn_filter_width": 3}
        files = {"pretrained_embedding_file": "", "freeze_pretrained_embedding": True, "vocab_file": ""}
        sizes = {"max_seq_len": 5, "vocab_size": 10}
        theirs |= {f"enc{side}_{name}": value for name, value in (values | files | sizes).items()}
    assert read().to_dict() == theirs | OURS


@pytest.mark.parametrize("text", ["0.1", " 0.1 ", '"0.1"', "1e-1", ".1", "+0.1", "0.10", 0.1])
def test_a_number_in_any_encoding(text: object) -> None:
    """A real number is read from plain text, quoted text, with an exponent, or as a JSON number."""
    assert read(learning_rate=text).learning_rate == 0.1


WHOLE = ["3", " 3\n", '"3"', "3.0", "3.", "3.00", "+3", "03", "3e0", "0.3E1", "3E+00", "300e-2", '"\\"3\\""', 3, 3.0]


@pytest.mark.parametrize("text", [*WHOLE, np.int64(3), np.float32(3), Decimal(3)])
def test_an_integer_in_any_encoding(text: object) -> None:
    """An integer is any number whose value is whole, however a client writes it."""
    epochs = read(epochs=text).epochs
    assert epochs == 3
    assert type(epochs) is int


@pytest.mark.parametrize("text", ["1e+05", "1E5", "100000.00", " 1e5 ", "+1.0e+5", '"1e+05"', 1e5])
def test_a_large_integer_with_an_exponent(text: object) -> None:
    """R writes 100000 as 1e+05."""
    assert read(enc0_vocab_size=text).encoders[0].vocab_size == 100_000
    assert read(enc1_vocab_size=text, enc0_vocab_size=text).encoders[1].vocab_size == 100_000


def test_zero_with_any_exponent_is_zero() -> None:
    """The size of the exponent does not matter where the number is 0."""
    assert read(seed="0e999999999").seed == read(seed="-0.0").seed == read(seed="0e-99").seed == 0


@pytest.mark.parametrize("text", ["1e999999999", "1e-999999999", "1e9999999999999999999999", "9" * 100_000, "1e400"])
@pytest.mark.parametrize("name", ["epochs", "enc0_vocab_size", "dropout", "enc0_layers"])
def test_an_extreme_number_takes_no_time(name: str, text: str) -> None:
    """A number of any size is answered without making the integer that it stands for."""
    if not (name == "dropout" and text.startswith("1e-")):
        assert fault(**{name: text}).startswith(f"{name}: got '{text[:79]}")


@pytest.mark.parametrize("value", [True, False])
def test_a_flag_in_any_encoding(value: bool) -> None:
    """A flag is read whatever its case, quoted or not, as 1 or 0, yes or no, or as a JSON boolean."""
    texts = ["True", "true", "TRUE", '"true"', '"True"', "1", "yes"] if value else ["False", "false", '"false"', "0"]
    for text in [*texts, value]:
        assert read(tied_token_embedding_weight=text).tied_token_embedding_weight is value


@pytest.mark.parametrize("text", ["bilstm", '"bilstm"', ' "bilstm" ', '" bilstm"'])
def test_a_choice_in_any_encoding(text: str) -> None:
    """A choice is read plain and JSON-encoded."""
    assert read(enc0_network=text).encoders[0].network == "bilstm"


@pytest.mark.parametrize(
    "value",
    [
        "concat, hadamard",
        "concat,hadamard",
        '"concat,hadamard"',
        " concat ,hadamard ",
        ["concat", "hadamard"],
        ("concat", "hadamard"),
        '["concat", "hadamard"]',
        '[ "concat","hadamard" ]',
        "['concat', 'hadamard']",
        "('concat', 'hadamard')",
        "[concat, hadamard]",
        '"concat", "hadamard"',
        json.dumps(json.dumps(["concat", "hadamard"])),
        json.dumps(json.dumps("concat, hadamard")),
    ],
)
def test_comparators_in_any_encoding(value: object) -> None:
    """Comparators stay in the order given: comma-separated, or a list of JSON or of Python."""
    assert read(comparator_list=value).comparator_list == ("concat", "hadamard")


@pytest.mark.parametrize("value", [["concat"], '["concat"]', "('concat',)", '"\\"concat\\""', "concat"])
def test_one_comparator_in_any_encoding(value: object) -> None:
    """A list of one choice is that choice."""
    assert read(comparator_list=value).comparator_list == ("concat",)


@pytest.mark.parametrize(
    "value",
    [
        *([], "[]", "[", ["concat", "concat"], '["concat", "cosine"]', '["concat", ["hadamard"]]', "concat,"),
        *('["concat",, "hadamard"]', '["concat" "hadamard"]', '["concat"', "concat]", "['concat\"]", "'concat"),
        *([None], [1], {"concat": 1}),
    ],
)
def test_what_is_no_list_of_comparators_is_refused(value: object) -> None:
    """An empty or broken list, or one with something else in it, is quoted as it is."""
    text = value if isinstance(value, str) else json.dumps(value)
    assert fault(comparator_list=value).startswith(f"comparator_list: got '{text}', wanted one or more of hadamard, ")


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_values_are_unquoted_however_often_they_were_encoded(layers: int) -> None:
    """Each client in a chain may encode a value as JSON once more."""
    text: object = "bilstm"
    for _ in range(layers):
        text = json.dumps(text)
    assert read(enc0_network=text).encoders[0].network == "bilstm"


# ----------------------------------------------------------------------------------------------------------------------
# Values that mean "not given".
# ----------------------------------------------------------------------------------------------------------------------

NOT_GIVEN = [
    "",
    "  ",
    "\n",
    "None",
    "none",
    "null",
    "NULL",
    " None ",
    '""',
    '"None"',
    '"null"',
    '"\\"\\""',
    '" "',
    None,
]


@pytest.mark.parametrize("value", NOT_GIVEN)
def test_an_empty_value_is_not_given(value: object) -> None:
    """Every hyperparameter that may be left out is at its default, whatever a client writes for "nothing"."""
    optional = {name: value for name in TABLE if name not in NEEDED}
    assert read(**optional) == read()
    assert parse(NEEDED | optional).warnings == ()
    assert parse(NEEDED | optional).num_gpus == "auto"


@pytest.mark.parametrize("value", NOT_GIVEN)
def test_a_required_value_that_is_empty_is_missing(value: object) -> None:
    """The sentence is that of a value which was left out, for required ones and those that a second network needs."""
    assert fault(enc0_vocab_size=value) == (
        "No value(s) were specified for 'enc0_vocab_size' which are required hyperparameter(s), "
        "wanted an integer from 2 to 3000000"
    )
    second = {"enc1_network": "hcnn", "enc1_max_seq_len": "5", "enc1_vocab_size": value}
    assert fault(**second).startswith("No value was specified for 'enc1_vocab_size', which enc1_network other than")


@pytest.mark.parametrize("value", NOT_GIVEN)
def test_an_empty_value_does_not_decide_how_encoders_are_counted(value: object) -> None:
    """Counted from one, empty enc0_* are left out; counted from zero, empty enc2_*."""
    from_one = {f"enc{side}_{name}": value for side in (0, 2) for name in ("network", "layers", "vocab_file")}
    parsed = parse(NEEDED_FROM_ONE | from_one)
    assert parsed == parse(NEEDED_FROM_ONE)
    assert typed("enc0_layers", NEEDED_FROM_ONE | from_one) == "enc1_layers"
    from_zero = {f"enc{side}_{name}": value for side in (1, 2) for name in ("network", "layers", "max_seq_len")}
    assert parse(NEEDED | from_zero) == parse(NEEDED)


@pytest.mark.parametrize("key", ["enc0_vocabsize", "enc3_layers", "learnin_rate"])
def test_an_unknown_name_is_refused_without_a_value_too(key: str) -> None:
    """A misspelled name is a fault even if nothing was given for it."""
    assert fault(**{key: ""}).startswith(f"{key}: ")


def test_what_a_web_form_sends_is_accepted() -> None:
    """All fields of the second encoder are empty, and it takes the first one's values."""
    names = ("max_seq_len", "vocab_size", "cnn_filter_width", "layers", "token_embedding_dim", "vocab_file")
    form = {"enc1_network": "enc0", **{f"enc1_{name}": "" for name in (*names, "pretrained_embedding_file")}}
    assert parse(NEEDED | form) == parse(NEEDED)


@pytest.mark.parametrize(("network", "layers"), [("hcnn", 4), ("bilstm", 1), ("pooled_embedding", 1)])
def test_auto_layers(network: str, layers: int) -> None:
    """`auto` is 4 layers of hcnn and 1 of bilstm; pooled_embedding has no use for a number."""
    assert read(enc0_network=network).encoders[0].layers == layers
    assert read(enc0_network=network, enc0_layers="auto").encoders[0].layers == layers
    given_two = read(enc0_network=network, enc0_layers="2").encoders[0].layers
    assert given_two == (1 if network == "pooled_embedding" else 2)


def test_the_names_of_the_platform_are_taken() -> None:
    """The built-in's internals, and what training toolkits and tuning jobs add, change nothing."""
    extra = {
        **{"_kvstore": "device", "_num_gpus": "auto", "_num_kv_servers": "auto"},
        **{"_tuning_objective_metric": "validation:accuracy", "sagemaker_program": "x.py", "sagemaker_region": '"eu"'},
        **{"sagemaker_container_log_level": "20", "sagemaker_mpi_enabled": True, "sagemaker_job_name": None},
    }
    assert read(**extra) == read()


@pytest.mark.parametrize("given, wanted", [({}, "auto"), ({"_num_gpus": "auto"}, "auto"), ({"_num_gpus": "2"}, 2)])
def test_number_of_gpus(given: dict[str, str], wanted: int | str) -> None:
    """How many are wanted is read, and changes nothing that is learnt."""
    parsed = parse(NEEDED | given)
    assert parsed.num_gpus == wanted
    assert parsed.hyperparameters == read()


# ----------------------------------------------------------------------------------------------------------------------
# The official notebooks.
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_official_notebooks_are_accepted(name: str) -> None:
    """Each official notebook's hyperparameters are read unchanged, and nothing about them calls for a warning."""
    parsed = parse(NOTEBOOKS[name])
    assert parsed.warnings == ()
    values = parsed.hyperparameters.to_dict()
    for key, text in NOTEBOOKS[name].items():
        if not key.startswith("_") and text not in ("auto", "enc0"):
            assert values[key] == TABLE[key].kind.parse(text) or key == "comparator_list"


# ----------------------------------------------------------------------------------------------------------------------
# Faults.
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("3.7", "1.5e0", "35e-1", "nan", "NaN", "inf", "-inf", "Infinity", "1e3", "0x3", "three", "1_0", "٣"),
        *('"a"b"', "3e", "e3", ".", "3 0", "3,0", "+-3", "1e1.0", "--3"),
    ],
)
def test_what_is_no_integer_is_refused(text: str) -> None:
    """Text that is no integer is named with its key, itself and the range."""
    assert fault(epochs=text) == f"epochs: got '{text}', wanted an integer from 1 to 100"


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-inf", "Infinity", "1e999", "a", "1,5", "1_0", "0x1"])
def test_what_is_no_number_is_refused(text: str) -> None:
    """Text that is no finite number is named with its key, itself and the range."""
    assert fault(dropout=text) == f"dropout: got '{text}', wanted a number from 0 to 1"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1], {"a": 1}, True])
def test_json_values_that_are_no_number_are_refused(value: object) -> None:
    """A JSON value of another kind is refused, and quoted as JSON writes it."""
    assert fault(dropout=value) == f"dropout: got '{json.dumps(value)}', wanted a number from 0 to 1"


@pytest.mark.parametrize(
    ("key", "text", "wanted"),
    [
        ("enc0_network", "lstm", "one of hcnn, bilstm, pooled_embedding"),
        ("enc0_network", "enc0", "one of hcnn, bilstm, pooled_embedding"),
        ("enc1_network", "enc1", "one of enc0, hcnn, bilstm, pooled_embedding"),
        ("enc0_layers", "5", "auto, or an integer from 1 to 4"),
        ("enc0_layers", "Auto", "auto, or an integer from 1 to 4"),
        (
            "comparator_list",
            "hadamard, cosine",
            "one or more of hadamard, concat, abs_diff, comma-separated, each once",
        ),
        ("comparator_list", "concat, concat", "one or more of hadamard, concat, abs_diff, comma-separated, each once"),
        ("tied_token_embedding_weight", "maybe", "True or False"),
        (
            "enc0_vocab_file",
            "../v.json",
            "the name of a file in the auxiliary channel (letters, digits, '.', '_' and '-')",
        ),
        ("enc0_vocab_file", "..", "the name of a file in the auxiliary channel (letters, digits, '.', '_' and '-')"),
        ("optimizer", "adamw", "one of adagrad, adam, rmsprop, sgd, adadelta"),
        ("seed", "-1", "an integer from 0 to 2147483647"),
        ("learning_rate", "0", "a number from 1e-06 to 1"),
    ],
)
def test_each_kind_of_value_says_what_it_wants(key: str, text: str, wanted: str) -> None:
    """A value that cannot be used is named with its key, itself and what is valid."""
    assert fault(**{key: text}) == f"{key}: got '{text}', wanted {wanted}"


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if isinstance(row.kind, Integer | Real)])
def test_ranges_hold_their_ends_and_no_more(name: str) -> None:
    """Both ends of each range are taken, and the next number past either is not."""
    kind = TABLE[name].kind
    assert isinstance(kind, Integer | Real)
    step = 1 if isinstance(kind, Integer) else kind.high * 1e-9
    for end in (kind.low, kind.high):
        assert kind.parse(repr(end)) == end
    for past in (kind.low - step, kind.high + step):
        with pytest.raises(ValueError, match=r".*"):
            kind.parse(repr(past))


def test_all_faults_are_reported_together() -> None:
    """Unreadable values, unknown and missing names and broken rules come in one error, each with its sentence."""
    values = {
        "enc0_vocab_size": "1",
        "epochs": "many",
        "learnin_rate": "0.1",
        "optimizer": "rmsprop",
        "token_embedding_storage_type": "row_sparse",
    }
    assert set(faults(values)) == {
        "No value(s) were specified for 'enc0_max_seq_len' which are required hyperparameter(s), "
        "wanted an integer from 1 to 5000",
        "enc0_vocab_size: got '1', wanted an integer from 2 to 3000000",
        "epochs: got 'many', wanted an integer from 1 to 100",
        "learnin_rate: no such hyperparameter, the nearest is learning_rate",
        "optimizer: got 'rmsprop', wanted one of adam, adagrad, sgd with token_embedding_storage_type=row_sparse",
    }


def test_a_rule_is_not_judged_by_a_value_that_was_not_read() -> None:
    """What hangs on an unreadable value is left for when it can be read: one mistake is one sentence."""
    assert fault(optimizer="rms", token_embedding_storage_type="row_sparse").startswith("optimizer: got 'rms'")
    assert fault(enc1_network="hcn", enc0_token_embedding_dim="7").startswith("enc1_network: got 'hcn'")
    unlike = {"enc1_network": "pooled_embedding", "enc1_max_seq_len": "1", "enc1_vocab_size": "10"}
    assert fault(**unlike, enc_dim="x").startswith("enc_dim: got 'x'")
    assert fault(**unlike, enc0_network="x").startswith("enc0_network: got 'x'")
    files = {"enc0_pretrained_embedding_file": "g.txt", "enc0_vocab_file": "a/b"}
    assert fault(**files).startswith("enc0_vocab_file: got 'a/b'")


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("enc0_vocabsize", "enc0_vocab_size"),
        ("learning-rate", "learning_rate"),
        ("epoch", "epochs"),
        ("batch_size", "mini_batch_size"),
        ("enc1_max_len", "enc1_max_seq_len"),
        ("feature_dim", "enc_dim"),
    ],
)
def test_an_unknown_name_gets_the_nearest_one(typed: str, near: str) -> None:
    """A name that does not exist is answered with the nearest one that does."""
    assert fault(**{typed: "1"}) == f"{typed}: no such hyperparameter, the nearest is {near}"


def test_long_values_are_shortened() -> None:
    """A fault quotes the first 79 characters of what it got."""
    assert fault(optimizer="x" * 500) == f"optimizer: got '{'x' * 79}…', wanted one of adagrad, adam, rmsprop, " + (
        "sgd, adadelta"
    )


def illegal(row: Hyperparameter) -> list[object]:
    """Values that a row must refuse."""
    texts: list[object] = ["x", "1;2", "\0", "1\n2", "1e999", "nan", "-inf", "0x10", "1 2", [1], {"a": 1}]
    match row.kind:
        case Integer(low, high) | AutoInteger(low, high):
            return [
                *texts,
                low - 1,
                high + 1,
                -(2**63),
                2**31 + high,
                2**63,
                1e30,
                low + 0.5,
                True,
                f'"{high + 1}"',
            ]
        case Real(low, high):
            return [*texts, low - 1e-9 - 1, high * 1.001, -1e30, 1e30, float("nan"), float("inf"), True]
        case Choice(choices) | ChoiceList(choices):
            return [*texts, choices[0].upper(), choices[0] + "x", ",".join([choices[0], choices[0]]), 0, True]
        case Bool():
            return [*texts, "maybe", 2, -1, "TrueFalse"]
        case FileName():
            return ["/etc/passwd", "../x", "a/b", "..", ".", "a b", "a\0b", "a\nb", ["a"], {"a": "b"}, "a\\b", "é"]
        case Ignored():
            return []


ILLEGAL = [(row.name, value) for row in TABLE.values() for value in illegal(row)]


def test_every_illegal_value_gets_a_sentence_that_names_its_key() -> None:
    """Hundreds of configurations with an illegal value each: one line that names its key, in both ways to count."""
    assert len(ILLEGAL) > 200
    for name, value in ILLEGAL:
        for needed, key in ((NEEDED, name), (NEEDED_FROM_ONE, counted_from_one(name))):
            found = faults(needed | {key: value})
            assert len(found) == 1, (key, value, found)
            assert found[0].startswith(f"{key}: got '"), (key, value, found)
            assert "wanted " in found[0]
            assert found[0].isprintable()
            assert len(found[0]) < 400


def sentences_of(path: Path) -> list[str]:
    try:
        parse(read_object(path, "wanted an object"))
    except UserError as error:
        return str(error).splitlines()
    return []


def counted_from_one(name: str) -> str:
    return f"enc{int(name[3]) + 1}{name[4:]}" if name.startswith(("enc0", "enc1")) else name


@given(
    st.binary(max_size=60) | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_no_file_of_hyperparameters_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Whatever a file of hyperparameters holds, it is read as one, or refused in one line that can be printed."""
    path = tmp_path_factory.mktemp("hyperparameters") / "x.json"
    for text in (content, b'{"epochs": ' + content + b"}", b'{"enc0_vocab_size": ' + content + b', "epochs": 3}'):
        path.write_bytes(text)
        assert all(line.isprintable() for line in sentences_of(path))


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=30), st.text(max_size=30), max_size=5))
def test_no_configuration_raises_anything_else(values: dict[str, str]) -> None:
    """Whatever names and texts come in, the answer is a configuration or a HyperparameterError."""
    sentences(NEEDED | values)


@given(st.sampled_from(sorted(TABLE)), st.text(max_size=30) | st.floats() | st.integers() | st.none() | st.booleans())
def test_no_value_raises_anything_else(name: str, value: object) -> None:
    """Whatever value a known name has, the answer is a configuration, or a HyperparameterError that names it."""
    assert all(name in sentence for sentence in sentences(NEEDED | {name: value}))


# ----------------------------------------------------------------------------------------------------------------------
# Rules between values.
# ----------------------------------------------------------------------------------------------------------------------

SECOND = {"enc1_network": "hcnn", "enc1_max_seq_len": "5", "enc1_vocab_size": "10"}


def test_a_second_network_of_its_own_needs_its_sizes() -> None:
    """`enc1_network` other than enc0 needs `enc1_max_seq_len` and `enc1_vocab_size`; enc0's are not taken."""
    rest = "which enc1_network other than enc0 requires, wanted an integer from"
    assert faults(NEEDED | {"enc1_network": "bilstm"}) == (
        f"No value was specified for 'enc1_max_seq_len', {rest} 1 to 5000",
        f"No value was specified for 'enc1_vocab_size', {rest} 2 to 3000000",
    )
    assert fault(**SECOND | {"enc1_vocab_size": "1"}) == (
        "enc1_vocab_size: got '1', wanted an integer from 2 to 3000000"
    )


@pytest.mark.parametrize("optimizer", ["adadelta", "rmsprop"])
def test_row_sparse_takes_three_optimizers(optimizer: str) -> None:
    """row_sparse refuses the optimizers that cannot move single rows, and takes the others."""
    assert fault(optimizer=optimizer, token_embedding_storage_type="row_sparse") == (
        f"optimizer: got '{optimizer}', wanted one of adam, adagrad, sgd with token_embedding_storage_type=row_sparse"
    )
    for other in ROW_SPARSE_OPTIMIZERS:
        assert read(optimizer=other, token_embedding_storage_type="row_sparse").row_sparse


def test_row_sparse_takes_no_average() -> None:
    """An average over the whole table at each step is refused with row_sparse, and taken without it."""
    assert fault(ema_decay="0.9", token_embedding_storage_type="row_sparse") == (
        "ema_decay: got '0.9', wanted 0 with token_embedding_storage_type=row_sparse: "
        "an average of all rows at each step would cost what row_sparse saves"
    )
    assert read(ema_decay="0.9").ema_decay == 0.9


def test_row_sparse_switches_buckets_off() -> None:
    """row_sparse sets bucket_width to 0, as the built-in does, and says so."""
    parsed = parse(NEEDED | {"token_embedding_storage_type": "row_sparse", "bucket_width": "5"})
    assert parsed.hyperparameters.bucket_width == 0
    assert parsed.warnings == ("bucket_width=5 has no effect: token_embedding_storage_type=row_sparse sets it to 0",)


def test_both_encodings_must_be_of_one_length() -> None:
    """Unequal lengths are refused with both numbers and the names that set them."""
    second = {"enc1_network": "pooled_embedding", "enc1_max_seq_len": "1", "enc1_vocab_size": "10"}
    assert fault(**second, enc_dim="64") == (
        "enc0_network=hcnn gives 64 numbers by enc_dim and enc1_network=pooled_embedding gives 300 numbers by "
        "enc1_token_embedding_dim: both encodings must have the same length, change one of the two"
    )
    assert fault(**second, enc0_network="pooled_embedding", enc0_token_embedding_dim="8") == (
        "enc0_network=pooled_embedding gives 8 numbers by enc0_token_embedding_dim and enc1_network=pooled_embedding "
        "gives 300 numbers by enc1_token_embedding_dim: both encodings must have the same length, change one of the two"
    )
    assert read(**second, enc_dim="300").encoding_dim(1) == 300
    assert read(**SECOND | {"enc1_network": "bilstm"}).encoding_dim(1) == 4096


def test_tied_tables_must_be_alike() -> None:
    """Tied tables of other sizes, files or freezing are refused, each difference with both values."""
    second = SECOND | {"enc1_vocab_size": "11", "enc1_token_embedding_dim": "8", "enc1_vocab_file": "v.json"}
    second |= {"enc1_pretrained_embedding_file": "g.txt", "tied_token_embedding_weight": "True"}
    needs = "tied_token_embedding_weight needs them equal"
    assert faults(NEEDED | second) == (
        f"enc0_vocab_size=10 and enc1_vocab_size=11: {needs}",
        f"enc0_token_embedding_dim=300 and enc1_token_embedding_dim=8: {needs}",
        f"enc0_pretrained_embedding_file= and enc1_pretrained_embedding_file=g.txt: {needs}",
        f"enc0_vocab_file= and enc1_vocab_file=v.json: {needs}",
        f"enc0_freeze_pretrained_embedding and enc1_freeze_pretrained_embedding differ: {needs}",
    )
    assert read(tied_token_embedding_weight="True").tied_token_embedding_weight
    assert read(**SECOND, tied_token_embedding_weight="True").tied_token_embedding_weight


def test_pretrained_embeddings_need_a_vocabulary() -> None:
    """A pretrained file without the vocabulary that says which word is which id is refused."""
    assert fault(enc0_pretrained_embedding_file="g.txt").startswith("enc0_pretrained_embedding_file: got 'g.txt'")
    assert "enc0_vocab_file, wanted both" in faults(NEEDED | {"enc0_pretrained_embedding_file": "g.txt"})[0]


def test_a_table_is_frozen_only_with_a_file() -> None:
    """`freeze_pretrained_embedding`, true by default, is of no effect without a pretrained file."""
    files = {"enc0_pretrained_embedding_file": "g.txt", "enc0_vocab_file": "v.json"}
    assert not read().encoders[0].frozen
    assert read(**files).encoders[0].frozen
    assert not read(**files, enc0_freeze_pretrained_embedding="false").encoders[0].frozen


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_vocabulary_has_a_name_of_its_own(name: str) -> None:
    """A vocabulary goes into the model directory, and cannot be called as another file there."""
    assert fault(enc0_vocab_file=name).startswith(f"enc0_vocab_file: got '{name}', wanted another name: the model")


# ----------------------------------------------------------------------------------------------------------------------
# The second encoder, and how encoders are counted.
# ----------------------------------------------------------------------------------------------------------------------


def test_the_second_encoder_is_like_the_first() -> None:
    """`enc1_network=enc0`, given or by default, takes every value of enc0, and says nothing where nothing differs."""
    first = {"enc0_network": "bilstm", "enc0_layers": "3", "enc0_cnn_filter_width": "5"}
    for extra in ({}, {"enc1_network": "enc0"}, {"enc1_network": "enc0", "enc1_layers": "3"}):
        parsed = parse(NEEDED | first | extra)
        assert parsed.hyperparameters.encoders[0] == parsed.hyperparameters.encoders[1]
        assert parsed.warnings == ()


def test_values_of_a_second_encoder_that_have_no_effect_are_named() -> None:
    """With `enc1_network=enc0`, each `enc1_*` that differs is ignored as in the built-in, and a warning names it."""
    parsed = parse(NEEDED | {"enc1_vocab_size": "3", "enc1_layers": "2", "enc1_max_seq_len": "5"})
    assert parsed.hyperparameters.encoders[0] == parsed.hyperparameters.encoders[1]
    assert set(parsed.warnings) == {
        "enc1_vocab_size=3 has no effect: enc1_network=enc0 takes enc0_vocab_size=10",
        "enc1_layers=2 has no effect: enc1_network=enc0 takes enc0_layers=auto",
    }


def test_counting_from_one_reads_the_same() -> None:
    """enc1_* and enc2_* without any enc0_* are the built-in's enc0_* and enc1_*, and a warning says so."""
    from_zero = {
        **{"enc0_network": "bilstm", "enc0_max_seq_len": "5", "enc0_vocab_size": "10", "enc0_layers": "2"},
        **{"enc1_network": "hcnn", "enc1_max_seq_len": "7", "enc1_vocab_size": "20", "enc1_layers": "3"},
    }
    from_one = {f"enc{int(key[3]) + 1}{key[4:]}": value for key, value in from_zero.items()}
    parsed = parse(from_one)
    assert parsed.hyperparameters == parse(from_zero).hyperparameters
    assert parsed.warnings == ("The encoders are counted from 1: enc1 reads in0, enc2 reads in1",)


def test_counting_from_one_the_second_is_like_the_first() -> None:
    """Counted from one, `enc2_network` is enc1 by default or by word, and what has no effect is named as typed."""
    expected = parse(NEEDED).hyperparameters
    assert parse(NEEDED_FROM_ONE).hyperparameters == expected
    parsed = parse(NEEDED_FROM_ONE | {"enc2_network": "enc1", "enc2_vocab_size": "3"})
    assert parsed.hyperparameters == expected
    assert "enc2_vocab_size=3 has no effect: enc2_network=enc1 takes enc1_vocab_size=10" in parsed.warnings


def test_counting_from_one_faults_are_as_typed() -> None:
    """Counted from one, every fault names the keys and choices in that way of counting."""
    assert faults(NEEDED_FROM_ONE | {"enc2_network": "enc0"}) == (
        "enc2_network: got 'enc0', wanted one of enc1, hcnn, bilstm, pooled_embedding",
    )
    assert faults(NEEDED_FROM_ONE | {"enc1_vocabsize": "3"}) == (
        "enc1_vocabsize: no such hyperparameter, the nearest is enc1_vocab_size",
    )
    assert faults({"enc2_vocab_size": "3"}) == (
        "No value(s) were specified for 'enc1_max_seq_len' which are required hyperparameter(s), "
        "wanted an integer from 1 to 5000",
        "No value(s) were specified for 'enc1_vocab_size' which are required hyperparameter(s), "
        "wanted an integer from 2 to 3000000",
    )
    unlike = {"enc2_network": "pooled_embedding", "enc2_max_seq_len": "1", "enc2_vocab_size": "9"}
    assert faults(NEEDED_FROM_ONE | unlike)[0].startswith(
        "enc1_network=hcnn gives 4096 numbers by enc_dim and enc2_network=pooled_embedding gives 300 numbers by "
        "enc2_token_embedding_dim"
    )


def test_ways_of_counting_do_not_mix() -> None:
    """An enc2_* beside an enc0_* is refused, as is an enc3_* beside neither."""
    assert fault(enc2_network="hcnn") == (
        "enc2_network: the encoders of this configuration are counted from 0, wanted enc0_* and enc1_*"
    )
    assert faults(NEEDED_FROM_ONE | {"enc3_layers": "1"}) == (
        "enc3_layers: the encoders of this configuration are counted from 1, wanted enc1_* and enc2_*",
    )


# ----------------------------------------------------------------------------------------------------------------------
# Round trips.
# ----------------------------------------------------------------------------------------------------------------------


def values_of(name: str) -> st.SearchStrategy[Any]:
    """Legal values of a row, as plain values or as text; the default too."""
    match TABLE[name].kind:
        case Integer(low, high):
            legal: st.SearchStrategy[Any] = st.integers(low, high)
        case Real(low, high):
            legal = st.floats(low, high)
        case Choice(choices):
            legal = st.sampled_from(choices)
        case Bool():
            legal = st.booleans()
        case AutoInteger(low, high):
            legal = st.integers(low, high) | st.just("auto")
        case FileName():
            legal = st.sampled_from(["", "a.txt", "b-c_d.json.gz"])
        case ChoiceList(choices):
            subsets = st.lists(st.sampled_from(choices), min_size=1, unique=True)
            legal = subsets.map(", ".join)
        case Ignored():
            legal = st.text()
    return legal.flatmap(lambda value: st.sampled_from([value, value if isinstance(value, str) else str(value)]))


CONFIGURATIONS = st.fixed_dictionaries(
    {name: values_of(name) for name in NEEDED}, optional={name: values_of(name) for name in TABLE if name not in NEEDED}
)


@given(CONFIGURATIONS)
def test_a_configuration_survives_its_round_trip(values: dict[str, object]) -> None:
    """Any legal configuration, written flat and read again (through JSON, and as text), is the same and calls for no
    warning; a configuration that breaks a rule is refused with sentences.
    """
    broken = sentences(values)
    assert all(": " in sentence or "requires" in sentence for sentence in broken)
    if broken:
        return
    hyperparameters = parse(values).hyperparameters
    flat = hyperparameters.to_dict()
    again = parse(json.loads(json.dumps(flat)))
    assert again.hyperparameters == hyperparameters
    assert again.warnings == ()
    assert parse({name: str(value) for name, value in flat.items()}).hyperparameters == hyperparameters
    assert set(flat) == {name for name in TABLE if not name.startswith("_")}


def test_what_is_derived() -> None:
    """Scores are one number for a regression and one a class otherwise; a pooled encoding is as long as its tokens'."""
    assert read(num_classes="7").scores == 7
    regression = read(num_classes="7", output_layer="mean_squared_error")
    assert (regression.regression, regression.scores) == (True, 1)
    pooled = read(enc0_network="pooled_embedding", enc0_token_embedding_dim="8", enc_dim="64")
    assert [pooled.encoding_dim(side) for side in (0, 1)] == [8, 8]


@pytest.mark.parametrize("row", TABLE.values(), ids=list(TABLE))
def test_the_table_is_sound(row: Any) -> None:
    """Every default can be read, every tuning range lies inside what is valid, and every row says what it is."""
    if row.default not in (None, REQUIRED):
        row.kind.parse(row.default)
    if isinstance(row.tunable, Integer | Real):
        inside = row.kind if isinstance(row.kind, Integer | Real) else Integer(row.kind.low, row.kind.high)
        assert inside.low <= row.tunable.low < row.tunable.high <= inside.high
    if isinstance(row.tunable, Choice):
        assert set(row.tunable.choices) <= set(row.kind.choices)
    assert row.help.endswith(".")
    assert row.ours is (row.name in OURS)


def test_the_tuning_ranges_are_those_of_the_built_in() -> None:
    """The ranges that a tuning job should search are the documented ones."""
    assert {name: row.tunable for name, row in TABLE.items() if row.tunable} == {
        **{"dropout": Real(0, 1), "early_stopping_patience": Integer(1, 5), "epochs": Integer(4, 20)},
        **{"early_stopping_tolerance": Real(0.001, 0.1), "enc_dim": Integer(4, 4096), "mlp_dim": Integer(16, 1024)},
        **{f"enc{side}_cnn_filter_width": Integer(1, 5) for side in (0, 1)},
        **{f"enc{side}_layers": Integer(1, 4) for side in (0, 1)},
        **{f"enc{side}_token_embedding_dim": Integer(5, 300) for side in (0, 1)},
        **{"learning_rate": Real(1e-6, 1), "mini_batch_size": Integer(1, 8192), "mlp_layers": Integer(1, 4)},
        **{"mlp_activation": Choice(("tanh", "relu", "linear")), "weight_decay": Real(0, 1)},
        "optimizer": Choice(("adagrad", "adam", "rmsprop", "sgd", "adadelta")),
    }


def test_the_markdown_tables_hold_every_row_once() -> None:
    """The two tables of the README share out the rows, and each line has as many cells as the head."""
    lines = to_markdown(ours=False).splitlines()[2:] + to_markdown(ours=True).splitlines()[2:]
    assert sorted(line.split("`")[1] for line in lines) == sorted(TABLE)
    assert {line.count("|") for line in lines} == {6}
    assert COMPARATORS == ("hadamard", "concat", "abs_diff")
