"""The command `object2vec`: its verbs, from `prepare` to `describe`.

It parses arguments and calls the same functions as the image. Slow imports happen in the verb that needs them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Literal

from object2vec import __version__
from object2vec.data.channels import CHANNELS, PAIR_CHANNELS
from object2vec.data.files import local_path, read_object, write_output
from object2vec.data.media_types import JSON, JSON_LINES
from object2vec.errors import Object2VecError, UserError, shortened
from object2vec.explore.command import EXPLORE
from object2vec.hyperparameters import parse
from object2vec.hyperparameters.recipes import RECIPES, to_text
from object2vec.ops import library
from object2vec.prepare import command
from object2vec.prepare.files import read_prepared
from object2vec.retrieval import command as retrieval
from object2vec.sagemaker.specification import IMAGE, algorithm, metrics, ranges
from object2vec.serving.headers import MODES
from object2vec.storage import S3Address, localized, parse_address
from object2vec.threads import set_thread_defaults
from object2vec.training.graceful_shutdown import INTERRUPTED_STATUS, Stop, handle_termination_signals
from object2vec.tuning import command as tuning

#: The exit status of a shell: 128 + the signal's number.
BROKEN_PIPE_STATUS: Final = 128 + signal.SIGPIPE
#: The limit of Linux, see limits.h.
MAX_PATH_CHARACTERS: Final = 4096


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        with localized(vars(arguments)) as values:
            interrupted = arguments.verb(argparse.Namespace(**values))
        if not interrupted:
            return 0
    except Object2VecError as error:
        for sentence in str(error).splitlines():
            sys.stderr.write(f"object2vec: error: {sentence}\n")
        return error.exit_code
    except BrokenPipeError:  # the reader of the output has ended, as `head` does
        return BROKEN_PIPE_STATUS
    except KeyboardInterrupt:
        pass
    sys.stderr.write("object2vec: interrupted\n")
    return INTERRUPTED_STATUS


class _Version(argparse.Action):
    """Print the version and the build of the kernels, and warn if there are none."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        kernels = library.load()
        sys.stdout.write(f"object2vec {__version__} (kernels: {kernels.build})\n")
        if kernels.warning:
            sys.stderr.write(f"object2vec: warning: {kernels.warning}\n")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="object2vec", description="Learn embeddings of objects from pairs.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and the build of the kernels")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    _add_prepare(verbs)
    _add_train(verbs)
    _add_tune(verbs)
    _add_serve(verbs)
    _add_predict(verbs)
    _add_evaluate(verbs)
    for name, verb in (retrieval.VERBS | {"explore": EXPLORE}).items():
        _add_retrieval(verbs, name, verb)
    _add_describe(verbs)
    return parser


# ----------------------------------------------------------------------------------------------------------------------
# prepare
# ----------------------------------------------------------------------------------------------------------------------


def _add_prepare(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "prepare",
        help="make channels of pairs from a table",
        description="Make channels of pairs, a schema and hyperparameters from a table.",
        epilog=command.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser, path=_path, output=partial(_path, output=True))
    parser.set_defaults(verb=command.prepare)


# ----------------------------------------------------------------------------------------------------------------------
# train
# ----------------------------------------------------------------------------------------------------------------------

LOGS: Final = {
    "sagemaker": "the lines of SageMaker's built-in algorithm",
    "plain": "one table row per epoch",
    "quiet": "only warnings and errors",
}


def _add_train(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "train",
        help="train a model on pairs",
        description="Train a model on pairs, and write a model directory for `serve` and `predict`.",
        epilog='Each line of a channel is a pair: {"in0": [6, 17, 606], "in1": [16, 21, 13], "label": 1}',
    )
    streamed = partial(_path, streamed=True)
    for name, text in CHANNELS.items():
        kind = "DIR" if name == "auxiliary" else "PATH"
        parser.add_argument(f"--{name}", type=streamed if name in PAIR_CHANNELS else _path, metavar=kind, help=text)
    _add_data(parser)
    output = partial(_path, output=True)
    parser.add_argument("--out", type=output, required=True, metavar="DIR", help="model directory to write")
    text = "write checkpoints to DIR (default: OUT.checkpoints), and continue from the newest one"
    parser.add_argument("--resume", type=partial(_path, both=True), nargs="?", const=Path(), metavar="DIR", help=text)
    text = f"{_describe_choices(LOGS)} (default on a terminal: plain with a progress bar, elsewhere: sagemaker)"
    parser.add_argument("--log", choices=LOGS, metavar="|".join(LOGS), help=text)
    parser.set_defaults(verb=_train)


def _train(arguments: argparse.Namespace) -> bool:
    """Run the verb; return whether Ctrl-C ended training."""
    stop = Stop()
    with handle_termination_signals(stop, signal.SIGTERM, signal.SIGINT):
        set_thread_defaults(repeatable=True)
        channels, hyperparameters = read_prepared(arguments.data) if arguments.data else ({}, {})
        configuration = parse(hyperparameters | _given_hyperparameters(arguments))

        from object2vec.training.checks import Job, check_job

        given = {name: getattr(arguments, name) for name in CHANNELS}
        next_to_out = arguments.out.with_name(f"{arguments.out.resolve().name}.checkpoints")
        job = Job(
            configuration=configuration,
            channels=channels | {name: path for name, path in given.items() if path is not None},
            model_dir=arguments.out,
            checkpoint_dir=next_to_out if arguments.resume == Path() else arguments.resume,
        )
        check_job(job)

        from object2vec.training.job import run  # takes seconds to import
        from object2vec.training.report import log_as

        style = arguments.log or _log_style()
        log_as(style)
        run(job, stop=stop, style=style)
    return stop.interrupted


def _log_style() -> Literal["bar", "sagemaker"]:
    """Return the style for a terminal if both outputs are terminals with a cursor, else the built-in's."""
    terminal = sys.stdout.isatty() and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return "bar" if terminal else "sagemaker"


def _given_hyperparameters(arguments: argparse.Namespace) -> dict[str, object]:
    """Read the recipe, JSON files and `NAME=VALUE` arguments; later ones override earlier ones."""
    wanted = 'wanted for --hyperparameters a JSON file like {"epochs": "10"}, or NAME=VALUE'
    values: dict[str, object] = {"recipe": arguments.recipe} if arguments.recipe else {}
    for word in map(str, arguments.hyperparameters):
        name, equals, value = word.partition("=")
        if equals and "/" not in name and not os.path.exists(word):  # noqa: PTH110 -- no error if it is too long
            values[name] = value
        elif len(word) > MAX_PATH_CHARACTERS:
            raise UserError(f"{shortened(word)}: too long for the name of a file, {wanted}")
        else:
            values |= read_object(local_path(word), wanted)
    return values


# ----------------------------------------------------------------------------------------------------------------------
# tune
# ----------------------------------------------------------------------------------------------------------------------


def _add_tune(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "tune",
        help="search hyperparameters",
        description="Train with many settings, each drawn with regard to the earlier ones, and keep the best model.",
        epilog=tuning.EPILOG,
    )
    _add_data(parser)
    tuning.add_arguments(parser, path=_path, output=partial(_path, both=True), count=_positive)
    parser.set_defaults(verb=_tune)


def _tune(arguments: argparse.Namespace) -> bool:
    """Run the verb; return whether Ctrl-C ended the search."""
    stop = Stop()
    with handle_termination_signals(stop, signal.SIGTERM, signal.SIGINT):
        set_thread_defaults(repeatable=True)
        tuning.tune(arguments, _given_hyperparameters(arguments), stop)
    return stop.interrupted


# ----------------------------------------------------------------------------------------------------------------------
# serve
# ----------------------------------------------------------------------------------------------------------------------


def _add_serve(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "serve",
        help="answer HTTP requests with a model",
        description="Answer POST /invocations and GET /ping with a model. SageMaker's environment variables apply "
        "unless an argument overrides them.",
    )
    _add_model(parser)
    _add_mode(parser)
    text = "address to listen on (default: %(default)s, this machine only)"
    parser.add_argument("--host", default="127.0.0.1", help=text)
    parser.add_argument("--port", type=_positive, metavar="N", help="port to listen on (default: 8080)")
    text = "number of processes (default: one per CPU, or one on a GPU)"
    parser.add_argument("--workers", type=_positive, metavar="N", help=text)
    parser.set_defaults(verb=_serve)


def _serve(arguments: argparse.Namespace) -> None:
    from object2vec.archive import find_model
    from object2vec.artifact import check_model
    from object2vec.sagemaker.serving import read_settings
    from object2vec.serving.server import start

    names = ("model", "mode", "host", "port", "workers")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    settings = replace(read_settings(os.environ), **given)
    if not settings.multi_model and (model := find_model(settings.model)).is_dir():
        check_model(model)
    start(settings)


# ----------------------------------------------------------------------------------------------------------------------
# predict
# ----------------------------------------------------------------------------------------------------------------------


#: Warnings of `predict`, after the number of sides that they are about.
INPUT_WARNINGS: Final = {
    "no_tokens": "sides have no tokens: they are empty, or for pooled_embedding hold only id 0",
    "truncated": "sides are longer than max_seq_len: the tokens after it are not read",
    "unknown": "sides have a raw value that was not in training",
    "bad_lines": "lines cannot be answered and are skipped",
}


def _add_predict(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "predict",
        help="compute scores or embeddings for a file",
        description="Answer a file as a server answers a request: scores for pairs, embeddings for single sides.",
    )
    _add_model(parser)
    _add_mode(parser)
    types = f"{JSON_LINES} or {JSON}"
    text = "input file, - for standard input (default)"
    parser.add_argument("--input", default="-", metavar="FILE", help=text)
    text = "output file, - for standard output (default)"
    parser.add_argument("--output", type=partial(_word, output=True), default="-", metavar="FILE", help=text)
    text = f"type of the input: {types}, or text/csv (default: by the suffix of FILE, else {JSON_LINES})"
    parser.add_argument("--content-type", metavar="TYPE", help=text)
    text = f"type of the output: {types}, or application/x-npy (default: as the input)"
    parser.add_argument("--accept", metavar="TYPE", help=text)
    text = "write lines that cannot be answered to FILE, and continue"
    parser.add_argument("--skip-bad-lines", type=partial(_word, output=True), dest="skipped", metavar="FILE", help=text)
    parser.set_defaults(verb=_predict, mode="classification")


def _predict(arguments: argparse.Namespace) -> None:
    set_thread_defaults()
    from object2vec.serving.offline import predict

    settings = {name: getattr(arguments, name) for name in ("content_type", "accept", "mode", "skipped")}
    warned = predict(arguments.model, str(arguments.input), str(arguments.output), **settings)
    for kind, text in INPUT_WARNINGS.items():
        if count := warned[kind]:
            sys.stderr.write(f"object2vec: warning: {count} {text}\n")


# ----------------------------------------------------------------------------------------------------------------------
# evaluate
# ----------------------------------------------------------------------------------------------------------------------


def _add_evaluate(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "evaluate",
        help="measure a model on held-out pairs",
        description="Print the metrics of a model on held-out pairs, next to those of simple baselines.",
    )
    _add_model(parser)
    streamed = partial(_path, streamed=True)
    text = "folder that `prepare` wrote, a channel, or a table with the model's columns"
    parser.add_argument("--data", type=streamed, required=True, metavar="PATH", help=text)
    text = "pairs that the model was trained on: for baselines, and not to rank them (default: those in DATA)"
    parser.add_argument("--train", type=streamed, metavar="PATH", help=text)
    text = "rank in1 for each in0; pairs with at least this label are to be found (default: 1 for two classes)"
    parser.add_argument("--relevant", type=float, metavar="LABEL", help=text)
    text = "candidates to sample for each in0 (default: all)"
    parser.add_argument("--candidates", type=_positive, metavar="N", help=text)
    parser.add_argument("--seed", type=int, default=0, help="seed of sampled candidates (default: %(default)s)")
    output = partial(_path, output=True)
    parser.add_argument("--json", type=output, metavar="FILE", help="write the metrics as JSON")
    parser.add_argument("--html", type=output, metavar="FILE", help="write a page with metrics and plots")
    parser.set_defaults(verb=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> None:
    set_thread_defaults()
    from object2vec.api import load

    settings = {name: getattr(arguments, name) for name in ("relevant", "candidates", "seed")}
    found = load(arguments.model).evaluate(arguments.data, arguments.train, **settings)
    sys.stdout.write(f"{found}\n")
    if arguments.json:
        write_output(arguments.json, json.dumps(found.to_dict(), indent=2) + "\n")
    if arguments.html:
        write_output(arguments.html, found.to_html(str(arguments.model)))


# ----------------------------------------------------------------------------------------------------------------------
# index, neighbors, recommend, embed, mine, explore
# ----------------------------------------------------------------------------------------------------------------------


def _add_retrieval(verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, verb: retrieval.Verb) -> None:
    parser = verbs.add_parser(name, help=verb.help, description=verb.description)
    if name == "explore":
        parser.add_argument("model", type=_path, metavar="MODEL", help="model directory, or a .tar.gz of it")
    else:
        _add_model(parser, updated=name == "index")
    verb.add(parser, streamed=partial(_path, streamed=True), output=partial(_word, output=True), count=_positive)
    parser.set_defaults(verb=partial(_with_model, verb))


def _with_model(verb: retrieval.Verb, arguments: argparse.Namespace) -> None:
    set_thread_defaults()
    from object2vec.api import load

    verb.run(load(arguments.model), arguments)


# ----------------------------------------------------------------------------------------------------------------------
# describe
# ----------------------------------------------------------------------------------------------------------------------

DESCRIPTIONS: Final = {
    "algorithm": "a request to CreateAlgorithm",
    "metrics": "the MetricDefinitions of a training job",
    "ranges": "the ParameterRanges of a tuning job",
    "recipes": "settings for kinds of data, and when to use them",
}


def _add_describe(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "describe",
        help="print recipes, and descriptions of the algorithm for SageMaker",
        description=f"Print a description, those for SageMaker as JSON: {_describe_choices(DESCRIPTIONS)}.",
    )
    parser.add_argument("what", choices=DESCRIPTIONS, metavar="|".join(DESCRIPTIONS))
    parser.add_argument("--image", default=IMAGE, help="registry address of the image, for `algorithm`")
    parser.set_defaults(verb=_describe)


def _describe_choices(texts: Mapping[str, str]) -> str:
    return "; ".join(f"`{name}` is {text}" for name, text in texts.items())


def _describe(arguments: argparse.Namespace) -> None:
    if arguments.what == "recipes":
        sys.stdout.write(to_text())
        return
    described = {"algorithm": algorithm(arguments.image), "metrics": metrics(), "ranges": ranges()}
    sys.stdout.write(json.dumps(described[arguments.what], indent=2) + "\n")


# ----------------------------------------------------------------------------------------------------------------------
# Arguments of several verbs
# ----------------------------------------------------------------------------------------------------------------------


def _add_data(parser: argparse.ArgumentParser) -> None:
    text = "folder that `prepare` wrote: channels, schema and hyperparameters"
    parser.add_argument("--data", type=partial(_path, streamed=True), metavar="DIR", help=text)
    kind = "FILE|NAME=VALUE"
    needed = "Required without --data: enc0_max_seq_len and enc0_vocab_size"
    text = f"JSON files and single values; later ones override earlier ones. {needed}"
    parser.add_argument("--hyperparameters", type=_word, nargs="+", default=[], metavar=kind, help=text)
    text = "defaults for a kind of data, see `object2vec describe recipes`"
    parser.add_argument("--recipe", choices=RECIPES, help=text)


def _add_model(parser: argparse.ArgumentParser, *, updated: bool = False) -> None:
    text = "model directory, or a folder that contains it" + ("" if updated else ", or a .tar.gz of it")
    kind = partial(_path, updated=True) if updated else _path
    parser.add_argument("--model", type=kind, required=True, metavar="PATH", help=text)


def _add_mode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=MODES, help="reply to a pair: its scores (default), or embeddings")


def _path(
    text: str, *, output: bool = False, both: bool = False, updated: bool = False, streamed: bool = False
) -> Path | S3Address:
    """Return a path, which S3 may hold: it is read there if it is `streamed`, and copied otherwise."""
    try:
        if streamed:
            return local_path(text, streamed=True)
        address = parse_address(text, output=output, both=both, updated=updated)
        return address or local_path(text, output=output or both)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _word(text: str, *, output: bool = False) -> str | S3Address:
    """Return text that can be a path or something else, unless it is an address."""
    return parse_address(text, output=output) or text


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer from 1 to 65535")
    return int(text)
