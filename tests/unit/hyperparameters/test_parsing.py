"""Parsing of configurations: encodings of clients, both encoder numberings, and all errors."""

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
from object2vec.hyperparameters import MODEL_FILES, TABLE, Hyperparameters, parse, table, typed
from object2vec.hyperparameters.kinds import (
    AutoInteger,
    Bool,
    Choice,
    ChoiceList,
    FileName,
    Ignored,
    Integer,
    IntegerList,
    Real,
)
from object2vec.hyperparameters.table import REQUIRED, ROW_SPARSE_OPTIMIZERS, Row
from object2vec.ops.codes import COMPARATORS

NEEDED = {"enc0_max_seq_len": "5", "enc0_vocab_size": "10"}
NEEDED_FROM_ONE = {"enc1_max_seq_len": "5", "enc1_vocab_size": "10"}


def read(**values: object) -> Hyperparameters:
    return parse(NEEDED | values).hyperparameters


def errors_of(values: Mapping[str, object]) -> tuple[str, ...]:
    with pytest.raises(HyperparameterError) as caught:
        parse(values)
    assert str(caught.value) == "\n".join(caught.value.errors)
    return caught.value.errors


def sentences(values: Mapping[str, object]) -> tuple[str, ...]:
    """Return the errors of a configuration, if any; other exceptions propagate."""
    try:
        parse(values)
    except HyperparameterError as error:
        return error.errors
    return ()


def error_of(**values: object) -> str:
    """Return the only error of a configuration with all required values."""
    (only,) = errors_of(NEEDED | values)
    return only


# ----------------------------------------------------------------------------------------------------------------------
# Defaults, and the encodings of clients.
# ----------------------------------------------------------------------------------------------------------------------


#: The hyperparameters that the built-in does not have, at their defaults.
OURS = {
    "recipe": "none",
    "matryoshka_dims": "",
    "tied_encoder_weight": False,
    "mark_common_tokens": False,
    "token_pooling": "mean",
    "pooled_projection": "none",
    "negative_sampling_distribution": "frequency",
    "validation_negative_sampling": "off",
    "token_dropout": 0.0,
    "ema_decay": 0.0,
    "token_embedding_dtype": "float32",
    "pretrained_learning_rate_factor": 1.0,
    "learning_rate_schedule": "constant",
    "learning_rate_warmup": 0.0,
    "gradient_clip_norm": 0.0,
    "early_stopping_metric": "loss",
    "ranking_loss": "none",
    "temperature": 1.0,
    "log_q_correction": 0.0,
    "sampled_candidates": 0,
    "in0_balance": 0.0,
    "seed": 0,
}


def test_defaults_equal_the_built_in() -> None:
    """Every default is that of the built-in."""
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
def test_real_number_in_any_encoding(text: object) -> None:
    """A real number is read from plain text, quoted text, with an exponent, or as a JSON number."""
    assert read(learning_rate=text).learning_rate == 0.1


WHOLE = ["3", " 3\n", '"3"', "3.0", "3.", "3.00", "+3", "03", "3e0", "0.3E1", "3E+00", "300e-2", '"\\"3\\""', 3, 3.0]


@pytest.mark.parametrize("text", [*WHOLE, np.int64(3), np.float32(3), Decimal(3)])
def test_integer_in_any_encoding(text: object) -> None:
    """An integer is any number with an integral value, in any notation."""
    epochs = read(epochs=text).epochs
    assert epochs == 3
    assert type(epochs) is int


@pytest.mark.parametrize("text", ["1e+05", "1E5", "100000.00", " 1e5 ", "+1.0e+5", '"1e+05"', 1e5])
def test_large_integer_with_exponent(text: object) -> None:
    """R writes 100000 as 1e+05."""
    assert read(enc0_vocab_size=text).encoders[0].vocab_size == 100_000
    assert read(enc1_vocab_size=text, enc0_vocab_size=text).encoders[1].vocab_size == 100_000


def test_zero_with_any_exponent_is_zero() -> None:
    """Zero may have any exponent."""
    assert read(seed="0e999999999").seed == read(seed="-0.0").seed == read(seed="0e-99").seed == 0


@pytest.mark.parametrize("text", ["1e999999999", "1e-999999999", "1e9999999999999999999999", "9" * 100_000, "1e400"])
@pytest.mark.parametrize("name", ["epochs", "enc0_vocab_size", "dropout", "enc0_layers"])
def test_huge_exponent_is_refused_at_once(name: str, text: str) -> None:
    """A number with a huge exponent is refused without computing the integer."""
    if not (name == "dropout" and text.startswith("1e-")):
        assert error_of(**{name: text}).startswith(f"{name}: got '{text[:79]}")


@pytest.mark.parametrize("value", [True, False])
def test_bool_in_any_encoding(value: bool) -> None:
    """A bool is read in any case, quoted or not, as 1 or 0, yes or no, or as a JSON boolean."""
    texts = ["True", "true", "TRUE", '"true"', '"True"', "1", "yes"] if value else ["False", "false", '"false"', "0"]
    for text in [*texts, value]:
        assert read(tied_token_embedding_weight=text).tied_token_embedding_weight is value


@pytest.mark.parametrize("text", ["bilstm", '"bilstm"', ' "bilstm" ', '" bilstm"'])
def test_choice_in_any_encoding(text: str) -> None:
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
    """Comparators keep their order: comma-separated, or a list of JSON or Python."""
    assert read(comparator_list=value).comparator_list == ("concat", "hadamard")


@pytest.mark.parametrize("value", [["concat"], '["concat"]', "('concat',)", '"\\"concat\\""', "concat"])
def test_one_comparator_in_any_encoding(value: object) -> None:
    """A list of one choice is that choice."""
    assert read(comparator_list=value).comparator_list == ("concat",)


@pytest.mark.parametrize(
    "value",
    [
        *([], "[]", "[", ["concat", "concat"], '["concat", "euclidean"]', '["concat", ["hadamard"]]', "concat,"),
        *('["concat",, "hadamard"]', '["concat" "hadamard"]', '["concat"', "concat]", "['concat\"]", "'concat"),
        *([None], [1], {"concat": 1}),
    ],
)
def test_invalid_comparator_list_is_refused(value: object) -> None:
    """An empty or malformed list, or one with an unknown item, is quoted in the error."""
    text = value if isinstance(value, str) else json.dumps(value)
    sentence = f"comparator_list: got '{text}', wanted one or more of hadamard, "
    assert error_of(comparator_list=value).startswith(sentence)


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_nested_json_quotes_are_removed(layers: int) -> None:
    """Each client in a chain may encode a value as JSON again."""
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
def test_empty_value_means_default(value: object) -> None:
    """Every optional hyperparameter is at its default if a client writes an empty value for it.

    `none` is a value of the second encoder's network.
    """
    optional = {name: value for name in TABLE if name not in NEEDED and (name, value) != ("enc1_network", "none")}
    assert read(**optional) == read()
    assert parse(NEEDED | optional).warnings == ()
    assert parse(NEEDED | optional).num_gpus == "auto"


@pytest.mark.parametrize("value", NOT_GIVEN)
def test_empty_required_value_is_missing(value: object) -> None:
    """An empty required value gives the same error as a missing one."""
    assert error_of(enc0_vocab_size=value) == (
        "No value(s) were specified for 'enc0_vocab_size' which are required hyperparameter(s), "
        "wanted an integer from 2 to 3000000"
    )
    second = {"enc1_network": "hcnn", "enc1_max_seq_len": "5", "enc1_vocab_size": value}
    assert error_of(**second).startswith("No value was specified for 'enc1_vocab_size', which enc1_network other than")


@pytest.mark.parametrize("value", NOT_GIVEN)
def test_empty_values_do_not_decide_encoder_numbering(value: object) -> None:
    """Empty enc0_* are ignored if numbering starts at one, empty enc2_* if it starts at zero."""
    names = ("layers", "vocab_file") if value == "none" else ("network", "layers", "vocab_file")
    from_one = {f"enc{side}_{name}": value for side in (0, 2) for name in names}
    parsed = parse(NEEDED_FROM_ONE | from_one)
    assert parsed == parse(NEEDED_FROM_ONE)
    assert typed("enc0_layers", NEEDED_FROM_ONE | from_one) == "enc1_layers"
    from_zero = {f"enc{side}_{name}": value for side in (1, 2) for name in names}
    assert parse(NEEDED | from_zero) == parse(NEEDED)


@pytest.mark.parametrize("key", ["enc0_vocabsize", "enc3_layers", "learnin_rate"])
def test_unknown_name_with_empty_value_is_refused(key: str) -> None:
    """A misspelled name is an error even with an empty value."""
    assert error_of(**{key: ""}).startswith(f"{key}: ")


def test_web_form_with_empty_fields_is_accepted() -> None:
    """If all fields of the second encoder are empty, it copies the first."""
    names = ("max_seq_len", "vocab_size", "cnn_filter_width", "layers", "token_embedding_dim", "vocab_file")
    form = {"enc1_network": "enc0", **{f"enc1_{name}": "" for name in (*names, "pretrained_embedding_file")}}
    assert parse(NEEDED | form) == parse(NEEDED)


@pytest.mark.parametrize(("network", "layers"), [("hcnn", 4), ("bilstm", 1), ("pooled_embedding", 1)])
def test_auto_layers(network: str, layers: int) -> None:
    """`auto` is 4 layers of hcnn and 1 of bilstm; pooled_embedding ignores the number."""
    assert read(enc0_network=network).encoders[0].layers == layers
    assert read(enc0_network=network, enc0_layers="auto").encoders[0].layers == layers
    given_two = read(enc0_network=network, enc0_layers="2").encoders[0].layers
    assert given_two == (1 if network == "pooled_embedding" else 2)


def test_platform_names_are_accepted() -> None:
    """Internal names of the built-in, of training toolkits and of tuning jobs have no effect."""
    extra = {
        **{"_kvstore": "device", "_num_gpus": "auto", "_num_kv_servers": "auto"},
        **{"_tuning_objective_metric": "validation:accuracy", "sagemaker_program": "x.py", "sagemaker_region": '"eu"'},
        **{"sagemaker_container_log_level": "20", "sagemaker_mpi_enabled": True, "sagemaker_job_name": None},
    }
    assert read(**extra) == read()


@pytest.mark.parametrize("given, wanted", [({}, "auto"), ({"_num_gpus": "auto"}, "auto"), ({"_num_gpus": "2"}, 2)])
def test_number_of_gpus(given: dict[str, str], wanted: int | str) -> None:
    """The number of GPUs is parsed and does not change the configuration."""
    parsed = parse(NEEDED | given)
    assert parsed.num_gpus == wanted
    assert parsed.hyperparameters == read()


# ----------------------------------------------------------------------------------------------------------------------
# The official notebooks.
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_official_notebooks_are_accepted(name: str) -> None:
    """The hyperparameters of each official notebook are accepted without a warning."""
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
def test_invalid_integer_is_refused(text: str) -> None:
    """The error names the key, the text and the range."""
    assert error_of(epochs=text) == f"epochs: got '{text}', wanted an integer from 1 to 100"


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-inf", "Infinity", "1e999", "a", "1,5", "1_0", "0x1"])
def test_invalid_real_number_is_refused(text: str) -> None:
    """The error names the key, the text and the range."""
    assert error_of(dropout=text) == f"dropout: got '{text}', wanted a number from 0 to 1"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1], {"a": 1}, True])
def test_json_value_of_another_type_is_refused(value: object) -> None:
    """The error quotes a JSON value of another type as JSON."""
    assert error_of(dropout=value) == f"dropout: got '{json.dumps(value)}', wanted a number from 0 to 1"


@pytest.mark.parametrize(
    ("key", "text", "wanted"),
    [
        ("enc0_network", "lstm", "one of hcnn, bilstm, pooled_embedding"),
        ("enc0_network", "enc0", "one of hcnn, bilstm, pooled_embedding"),
        ("enc1_network", "enc1", "one of enc0, hcnn, bilstm, pooled_embedding, none"),
        ("enc0_layers", "5", "auto, or an integer from 1 to 4"),
        ("enc0_layers", "Auto", "auto, or an integer from 1 to 4"),
        (
            "comparator_list",
            "hadamard, euclidean",
            "one or more of hadamard, concat, abs_diff, cosine, comma-separated, each once",
        ),
        (
            "comparator_list",
            "concat, concat",
            "one or more of hadamard, concat, abs_diff, cosine, comma-separated, each once",
        ),
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
def test_error_of_each_kind_says_what_is_valid(key: str, text: str, wanted: str) -> None:
    """The error names the key, the value and the valid values."""
    assert error_of(**{key: text}) == f"{key}: got '{text}', wanted {wanted}"


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if isinstance(row.kind, Integer | Real)])
def test_ranges_include_their_ends_only(name: str) -> None:
    """Both ends of each range are accepted; the next numbers outside are refused."""
    kind = TABLE[name].kind
    assert isinstance(kind, Integer | Real)
    step = 1 if isinstance(kind, Integer) else kind.high * 1e-9
    for end in (kind.low, kind.high):
        assert kind.parse(repr(end)) == end
    for past in (kind.low - step, kind.high + step):
        with pytest.raises(ValueError, match=r".*"):
            kind.parse(repr(past))


def test_all_errors_are_reported_together() -> None:
    """Invalid values, unknown and missing names and conflicts are reported in one exception, one sentence each."""
    values = {
        "enc0_vocab_size": "1",
        "epochs": "many",
        "learnin_rate": "0.1",
        "optimizer": "rmsprop",
        "token_embedding_storage_type": "row_sparse",
    }
    assert set(errors_of(values)) == {
        "No value(s) were specified for 'enc0_max_seq_len' which are required hyperparameter(s), "
        "wanted an integer from 1 to 5000",
        "enc0_vocab_size: got '1', wanted an integer from 2 to 3000000",
        "epochs: got 'many', wanted an integer from 1 to 100",
        "learnin_rate: no such hyperparameter, the nearest is learning_rate",
        "optimizer: got 'rmsprop', wanted one of adam, adagrad, sgd with token_embedding_storage_type=row_sparse",
    }


def test_rules_with_invalid_values_are_not_checked() -> None:
    """A rule that depends on an invalid value is skipped, so that one mistake gives one sentence."""
    assert error_of(optimizer="rms", token_embedding_storage_type="row_sparse").startswith("optimizer: got 'rms'")
    assert error_of(enc1_network="hcn", enc0_token_embedding_dim="7").startswith("enc1_network: got 'hcn'")
    unlike = {"enc1_network": "pooled_embedding", "enc1_max_seq_len": "1", "enc1_vocab_size": "10"}
    assert error_of(**unlike, enc_dim="x").startswith("enc_dim: got 'x'")
    assert error_of(**unlike, enc0_network="x").startswith("enc0_network: got 'x'")
    files = {"enc0_pretrained_embedding_file": "g.txt", "enc0_vocab_file": "a/b"}
    assert error_of(**files).startswith("enc0_vocab_file: got 'a/b'")


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
def test_unknown_name_gets_nearest_known_name(typed: str, near: str) -> None:
    """The error for an unknown name suggests the nearest known one."""
    assert error_of(**{typed: "1"}) == f"{typed}: no such hyperparameter, the nearest is {near}"


def test_long_values_are_shortened() -> None:
    """An error quotes at most the first 79 characters of a value."""
    assert error_of(optimizer="x" * 500) == f"optimizer: got '{'x' * 79}…', wanted one of adagrad, adam, rmsprop, " + (
        "sgd, adadelta"
    )


def illegal(row: Row) -> list[object]:
    """Yield values that a row must refuse."""
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
        case IntegerList(low, high):
            return [*texts[:-2], low - 1, high + 1, "1,", "1,1", "1;2", "[1", "x,2", 1.5, [1, [2]]]
        case FileName():
            return ["/etc/passwd", "../x", "a/b", "..", ".", "a b", "a\0b", "a\nb", ["a"], {"a": "b"}, "a\\b", "é"]
        case Ignored():
            return []


ILLEGAL = [(row.name, value) for row in TABLE.values() for value in illegal(row)]


def test_each_invalid_value_gives_one_line_with_its_key() -> None:
    """Hundreds of invalid values, in both encoder numberings."""
    assert len(ILLEGAL) > 200
    for name, value in ILLEGAL:
        for needed, key in ((NEEDED, name), (NEEDED_FROM_ONE, counted_from_one(name))):
            found = errors_of(needed | {key: value})
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
def test_any_file_is_read_or_refused_in_one_printable_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Any content of a hyperparameter file is read, or refused in one printable line."""
    path = tmp_path_factory.mktemp("hyperparameters") / "x.json"
    for text in (content, b'{"epochs": ' + content + b"}", b'{"enc0_vocab_size": ' + content + b', "epochs": 3}'):
        path.write_bytes(text)
        assert all(line.isprintable() for line in sentences_of(path))


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=30), st.text(max_size=30), max_size=5))
def test_any_names_and_texts_parse_or_raise_hyperparameter_error(values: dict[str, str]) -> None:
    """Any names and texts give a configuration or a HyperparameterError."""
    sentences(NEEDED | values)


@given(st.sampled_from(sorted(TABLE)), st.text(max_size=30) | st.floats() | st.integers() | st.none() | st.booleans())
def test_any_value_parses_or_raises_error_with_its_name(name: str, value: object) -> None:
    """Any value of a known name gives a configuration, or an error that names it."""
    assert all(name in sentence for sentence in sentences(NEEDED | {name: value}))


# ----------------------------------------------------------------------------------------------------------------------
# Rules between values.
# ----------------------------------------------------------------------------------------------------------------------

SECOND = {"enc1_network": "hcnn", "enc1_max_seq_len": "5", "enc1_vocab_size": "10"}


def test_second_network_requires_its_sizes() -> None:
    """`enc1_network` other than enc0 requires `enc1_max_seq_len` and `enc1_vocab_size`."""
    rest = "which enc1_network other than enc0 requires, wanted an integer from"
    assert errors_of(NEEDED | {"enc1_network": "bilstm"}) == (
        f"No value was specified for 'enc1_max_seq_len', {rest} 1 to 5000",
        f"No value was specified for 'enc1_vocab_size', {rest} 2 to 3000000",
    )
    assert error_of(**SECOND | {"enc1_vocab_size": "1"}) == (
        "enc1_vocab_size: got '1', wanted an integer from 2 to 3000000"
    )


@pytest.mark.parametrize("optimizer", ["adadelta", "rmsprop"])
def test_row_sparse_accepts_three_optimizers(optimizer: str) -> None:
    """row_sparse refuses optimizers that cannot update single rows."""
    assert error_of(optimizer=optimizer, token_embedding_storage_type="row_sparse") == (
        f"optimizer: got '{optimizer}', wanted one of adam, adagrad, sgd with token_embedding_storage_type=row_sparse"
    )
    for other in ROW_SPARSE_OPTIMIZERS:
        assert read(optimizer=other, token_embedding_storage_type="row_sparse").row_sparse


def test_row_sparse_refuses_ema() -> None:
    """A moving average updates the whole table at each step, so row_sparse refuses it."""
    assert error_of(ema_decay="0.9", token_embedding_storage_type="row_sparse") == (
        "ema_decay: got '0.9', wanted 0 with token_embedding_storage_type=row_sparse: "
        "an average of all rows at each step would cost what row_sparse saves"
    )
    assert read(ema_decay="0.9").ema_decay == 0.9


def test_row_sparse_switches_buckets_off() -> None:
    """row_sparse sets bucket_width to 0 with a warning, as the built-in does."""
    parsed = parse(NEEDED | {"token_embedding_storage_type": "row_sparse", "bucket_width": "5"})
    assert parsed.hyperparameters.bucket_width == 0
    assert parsed.warnings == ("bucket_width=5 has no effect: token_embedding_storage_type=row_sparse sets it to 0",)


def test_unequal_encoding_dims_are_refused() -> None:
    """The error has both dimensions and the names that set them."""
    second = {"enc1_network": "pooled_embedding", "enc1_max_seq_len": "1", "enc1_vocab_size": "10"}
    assert error_of(**second, enc_dim="64") == (
        "enc0_network=hcnn gives 64 numbers by enc_dim and enc1_network=pooled_embedding gives 300 numbers by "
        "enc1_token_embedding_dim: both encodings must have the same length, change one of the two"
    )
    assert error_of(**second, enc0_network="pooled_embedding", enc0_token_embedding_dim="8") == (
        "enc0_network=pooled_embedding gives 8 numbers by enc0_token_embedding_dim and enc1_network=pooled_embedding "
        "gives 300 numbers by enc1_token_embedding_dim: both encodings must have the same length, change one of the two"
    )
    assert read(**second, enc_dim="300").encoding_dim(1) == 300
    assert read(**SECOND | {"enc1_network": "bilstm"}).encoding_dim(1) == 4096


def test_tied_tables_must_be_equal() -> None:
    """Each difference in size, files or freezing is refused with both values."""
    second = SECOND | {"enc1_vocab_size": "11", "enc1_token_embedding_dim": "8", "enc1_vocab_file": "v.json"}
    second |= {"enc1_pretrained_embedding_file": "g.txt", "tied_token_embedding_weight": "True"}
    needs = "tied_token_embedding_weight needs them equal"
    assert errors_of(NEEDED | second) == (
        f"enc0_vocab_size=10 and enc1_vocab_size=11: {needs}",
        f"enc0_token_embedding_dim=300 and enc1_token_embedding_dim=8: {needs}",
        f"enc0_pretrained_embedding_file= and enc1_pretrained_embedding_file=g.txt: {needs}",
        f"enc0_vocab_file= and enc1_vocab_file=v.json: {needs}",
        f"enc0_freeze_pretrained_embedding and enc1_freeze_pretrained_embedding differ: {needs}",
    )
    assert read(tied_token_embedding_weight="True").tied_token_embedding_weight
    assert read(**SECOND, tied_token_embedding_weight="True").tied_token_embedding_weight


@pytest.mark.parametrize("value", ["8, 2", "[2, 8]", "(8,2)", [8, 2], '["2", "8"]', "2,8"])
def test_prefixes_in_any_encoding(value: object) -> None:
    assert read(matryoshka_dims=value).matryoshka_dims == (2, 8)
    assert read(matryoshka_dims="[]" if value == "8, 2" else "").matryoshka_dims == ()


def test_prefixes_must_be_shorter_than_encodings() -> None:
    pooled = {"enc0_network": "pooled_embedding", "enc0_token_embedding_dim": "8"}
    assert read(**pooled, matryoshka_dims="8,4").matryoshka_dims == (4, 8)
    assert error_of(**pooled, matryoshka_dims="9, 2") == (
        "matryoshka_dims: got '2, 9', wanted at most the 8 numbers of an encoding by enc0_token_embedding_dim"
    )
    assert "wanted at most the 4096 numbers of an encoding by enc_dim" in error_of(matryoshka_dims="5000")


def test_tied_encoders_must_be_equal() -> None:
    """Their layers too; only the length at which inputs are cut may differ."""
    tied = {"tied_encoder_weight": "True"}
    needs = "tied_encoder_weight needs them equal"
    assert errors_of(NEEDED | SECOND | tied | {"enc1_layers": "2", "enc1_cnn_filter_width": "5"}) == (
        f"enc0_layers=4 and enc1_layers=2: {needs}",
        f"enc0_cnn_filter_width=3 and enc1_cnn_filter_width=5: {needs}",
    )
    bilstm = SECOND | tied | {"enc1_network": "bilstm", "enc1_vocab_size": "11"}
    assert errors_of(NEEDED | bilstm) == (
        f"enc0_vocab_size=10 and enc1_vocab_size=11: {needs}",
        f"enc0_network=hcnn and enc1_network=bilstm: {needs}",
        f"enc0_layers=4 and enc1_layers=1: {needs}",
    )
    assert read(**SECOND | tied | {"enc1_max_seq_len": "7"}).tied_encoder_weight


def test_tied_encoders_share_their_tables() -> None:
    """A warning says so where the user wanted two tables; an invalid value of either is one error."""
    assert read(tied_encoder_weight="True").tied_token_embedding_weight
    assert read(tied_encoder_weight="True", tied_token_embedding_weight="True").tied_encoder_weight
    apart = NEEDED | {"tied_encoder_weight": "True", "tied_token_embedding_weight": "False"}
    parsed = parse(apart)
    assert parsed.hyperparameters.tied_token_embedding_weight
    assert parsed.warnings == (
        "tied_token_embedding_weight=False has no effect: tied_encoder_weight=True shares the tables too",
    )
    assert error_of(tied_encoder_weight="True", tied_token_embedding_weight="x").startswith("tied_token_")
    assert error_of(tied_encoder_weight="x").startswith("tied_encoder_weight: got 'x'")


def test_factor_of_pretrained_embeddings_needs_trained_ones() -> None:
    """Without a file, or with frozen embeddings, the factor has no effect, and a warning says so."""
    files = {"enc0_pretrained_embedding_file": "g.npy"}
    given = NEEDED | {"pretrained_learning_rate_factor": "0.1"}
    parsed = parse(given | files | {"enc0_freeze_pretrained_embedding": "False"})
    assert parsed.hyperparameters.pretrained_learning_rate_factor == 0.1
    for values in ({}, files):
        parsed = parse(given | values)
        assert parsed.hyperparameters.pretrained_learning_rate_factor == 1
        assert parsed.warnings == (
            "pretrained_learning_rate_factor=0.1 has no effect: no pretrained embeddings are trained",
        )


def test_table_is_frozen_only_with_a_file() -> None:
    """`freeze_pretrained_embedding` has no effect without a pretrained file."""
    files = {"enc0_pretrained_embedding_file": "g.txt", "enc0_vocab_file": "v.json"}
    assert not read().encoders[0].frozen
    assert read(**files).encoders[0].frozen
    assert not read(**files, enc0_freeze_pretrained_embedding="false").encoders[0].frozen


@pytest.mark.parametrize("name", MODEL_FILES)
def test_vocabulary_named_like_a_model_file_is_refused(name: str) -> None:
    """A vocabulary is copied into the model directory and must not replace a file there."""
    assert error_of(enc0_vocab_file=name).startswith(f"enc0_vocab_file: got '{name}', wanted another name: the model")


# ----------------------------------------------------------------------------------------------------------------------
# The second encoder, and how encoders are counted.
# ----------------------------------------------------------------------------------------------------------------------


def test_second_encoder_copies_the_first() -> None:
    """`enc1_network=enc0` copies all values of enc0, without a warning if none differs."""
    first = {"enc0_network": "bilstm", "enc0_layers": "3", "enc0_cnn_filter_width": "5"}
    for extra in ({}, {"enc1_network": "enc0"}, {"enc1_network": "enc0", "enc1_layers": "3"}):
        parsed = parse(NEEDED | first | extra)
        assert parsed.hyperparameters.encoders[0] == parsed.hyperparameters.encoders[1]
        assert parsed.warnings == ()


def test_ignored_values_of_second_encoder_are_warned_of() -> None:
    """With `enc1_network=enc0`, a warning names each `enc1_*` that differs and is ignored."""
    parsed = parse(NEEDED | {"enc1_vocab_size": "3", "enc1_layers": "2", "enc1_max_seq_len": "5"})
    assert parsed.hyperparameters.encoders[0] == parsed.hyperparameters.encoders[1]
    assert set(parsed.warnings) == {
        "enc1_vocab_size=3 has no effect: enc1_network=enc0 takes enc0_vocab_size=10",
        "enc1_layers=2 has no effect: enc1_network=enc0 takes enc0_layers=auto",
    }


def test_numbering_from_one_gives_same_configuration() -> None:
    """enc1_* and enc2_* without enc0_* are the enc0_* and enc1_* of the built-in; a warning says so."""
    from_zero = {
        **{"enc0_network": "bilstm", "enc0_max_seq_len": "5", "enc0_vocab_size": "10", "enc0_layers": "2"},
        **{"enc1_network": "hcnn", "enc1_max_seq_len": "7", "enc1_vocab_size": "20", "enc1_layers": "3"},
    }
    from_one = {f"enc{int(key[3]) + 1}{key[4:]}": value for key, value in from_zero.items()}
    parsed = parse(from_one)
    assert parsed.hyperparameters == parse(from_zero).hyperparameters
    assert parsed.warnings == ("The encoders are counted from 1: enc1 reads in0, enc2 reads in1",)


def test_numbering_from_one_second_copies_first() -> None:
    """`enc2_network` is enc1 by default, and warnings use the names of the user."""
    expected = parse(NEEDED).hyperparameters
    assert parse(NEEDED_FROM_ONE).hyperparameters == expected
    parsed = parse(NEEDED_FROM_ONE | {"enc2_network": "enc1", "enc2_vocab_size": "3"})
    assert parsed.hyperparameters == expected
    assert "enc2_vocab_size=3 has no effect: enc2_network=enc1 takes enc1_vocab_size=10" in parsed.warnings


def test_numbering_from_one_errors_use_names_of_the_user() -> None:
    """Every error names the keys and choices as the user numbers them."""
    assert errors_of(NEEDED_FROM_ONE | {"enc2_network": "enc0"}) == (
        "enc2_network: got 'enc0', wanted one of enc1, hcnn, bilstm, pooled_embedding, none",
    )
    assert errors_of(NEEDED_FROM_ONE | {"enc1_vocabsize": "3"}) == (
        "enc1_vocabsize: no such hyperparameter, the nearest is enc1_vocab_size",
    )
    assert errors_of({"enc2_vocab_size": "3"}) == (
        "No value(s) were specified for 'enc1_max_seq_len' which are required hyperparameter(s), "
        "wanted an integer from 1 to 5000",
        "No value(s) were specified for 'enc1_vocab_size' which are required hyperparameter(s), "
        "wanted an integer from 2 to 3000000",
    )
    unlike = {"enc2_network": "pooled_embedding", "enc2_max_seq_len": "1", "enc2_vocab_size": "9"}
    assert errors_of(NEEDED_FROM_ONE | unlike)[0].startswith(
        "enc1_network=hcnn gives 4096 numbers by enc_dim and enc2_network=pooled_embedding gives 300 numbers by "
        "enc2_token_embedding_dim"
    )


def test_mixed_encoder_numbering_is_refused() -> None:
    """enc2_* together with enc0_* is refused, and so is enc3_*."""
    assert error_of(enc2_network="hcnn") == (
        "enc2_network: the encoders of this configuration are counted from 0, wanted enc0_* and enc1_*"
    )
    assert errors_of(NEEDED_FROM_ONE | {"enc3_layers": "1"}) == (
        "enc3_layers: the encoders of this configuration are counted from 1, wanted enc1_* and enc2_*",
    )


# ----------------------------------------------------------------------------------------------------------------------
# Round trips.
# ----------------------------------------------------------------------------------------------------------------------


def values_of(name: str) -> st.SearchStrategy[Any]:
    """Generate valid values of a row, plain or as text, including the default."""
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
        case IntegerList(low):
            legal = st.sets(st.integers(low, 4)).map(lambda numbers: ", ".join(map(str, sorted(numbers))))
        case Ignored():
            legal = st.text()
    return legal.flatmap(lambda value: st.sampled_from([value, value if isinstance(value, str) else str(value)]))


CONFIGURATIONS = st.fixed_dictionaries(
    {name: values_of(name) for name in NEEDED}, optional={name: values_of(name) for name in TABLE if name not in NEEDED}
)


@given(CONFIGURATIONS)
def test_to_dict_and_parse_round_trip(values: dict[str, object]) -> None:
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


def test_derived_properties() -> None:
    """Regression has one score, classification one per class; a pooled encoding has the dimension of its tokens."""
    assert read(num_classes="7").scores == 7
    regression = read(num_classes="7", output_layer="mean_squared_error")
    assert (regression.regression, regression.scores) == (True, 1)
    pooled = read(enc0_network="pooled_embedding", enc0_token_embedding_dim="8", enc_dim="64")
    assert [pooled.encoding_dim(side) for side in (0, 1)] == [8, 8]
    projected = read(**pooled.to_dict() | {"pooled_projection": "tanh"})
    assert [projected.encoding_dim(side) for side in (0, 1)] == [64, 64]


def test_projection_has_the_units_of_a_token_embedding_unless_enc_dim_is_given() -> None:
    pooled = {"enc0_network": "pooled_embedding", "pooled_projection": "tanh"}
    assert read(**pooled).enc_dim == 300
    assert read(**pooled, enc0_token_embedding_dim="2").enc_dim == 4  # the smallest
    assert read(**pooled, enc_dim="4096").enc_dim == 4096
    assert read(**pooled, enc1_network="none").enc_dim == 300
    second = {"enc1_network": "hcnn", "enc1_max_seq_len": "5", "enc1_vocab_size": "10"}
    assert read(**pooled, **second).enc_dim == read(enc0_network="pooled_embedding").enc_dim == 4096


def test_options_of_another_loss_or_encoder_are_warned_about() -> None:
    given = {"temperature": "0.05", "sampled_candidates": "0", "token_pooling": "sum", "pooled_projection": "none"}
    assert parse(NEEDED | given).warnings == (
        "temperature=0.05 has no effect: ranking_loss is none",
        "token_pooling=sum has no effect: no encoder is pooled_embedding",
    )
    ranking = {"ranking_loss": "in_batch_softmax", "output_layer": "mean_squared_error", "mlp_layers": "0"}
    used = {"enc0_network": "pooled_embedding", "comparator_list": "cosine"}
    assert not parse(NEEDED | given | ranking | used).warnings


@pytest.mark.parametrize("row", TABLE.values(), ids=list(TABLE))
def test_rows_of_the_table_are_consistent(row: Any) -> None:
    """Every default parses, every tuning range is within the valid range, and every row has a help text."""
    if row.default not in (None, REQUIRED):
        row.kind.parse(row.default)
    if isinstance(row.tunable, Integer | Real):
        inside = row.kind if isinstance(row.kind, Integer | Real) else Integer(row.kind.low, row.kind.high)
        assert inside.low <= row.tunable.low < row.tunable.high <= inside.high
    if isinstance(row.tunable, Choice):
        assert set(row.tunable.choices) <= set(row.kind.choices)
    assert row.help.endswith(".")
    assert (row in table.OURS) is (row.name in OURS)


def test_tuning_ranges_equal_the_built_in() -> None:
    """The tuning ranges are the documented ones, and those of extensions that change the network."""
    assert {name: row.tunable for name, row in TABLE.items() if row.tunable} == {
        **{"dropout": Real(0, 1), "early_stopping_patience": Integer(1, 5), "epochs": Integer(4, 20)},
        **{"early_stopping_tolerance": Real(0.001, 0.1), "enc_dim": Integer(4, 4096), "mlp_dim": Integer(16, 1024)},
        **{f"enc{side}_cnn_filter_width": Integer(1, 5) for side in (0, 1)},
        **{f"enc{side}_layers": Integer(1, 4) for side in (0, 1)},
        **{f"enc{side}_token_embedding_dim": Integer(5, 300) for side in (0, 1)},
        **{"learning_rate": Real(1e-6, 1), "mini_batch_size": Integer(1, 8192), "mlp_layers": Integer(1, 4)},
        **{"mlp_activation": Choice(("tanh", "relu", "linear")), "weight_decay": Real(0, 1)},
        "token_pooling": Choice(("mean", "sqrtn", "sum")),
        "pooled_projection": Choice(("tanh", "relu", "linear", "none")),
        "optimizer": Choice(("adagrad", "adam", "rmsprop", "sgd", "adadelta")),
    }


def test_comparators_have_the_kernels_order() -> None:
    """Kernels know comparators by their position."""
    assert COMPARATORS == ("hadamard", "concat", "abs_diff", "cosine")
