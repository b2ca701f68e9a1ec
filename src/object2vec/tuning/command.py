"""The verb `tune`: its arguments, and the calls that it makes."""

from __future__ import annotations

import argparse
import json
import logging
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from object2vec.errors import UserError

if TYPE_CHECKING:
    from object2vec.training.graceful_shutdown import Stop
    from object2vec.tuning.objective import Objective
    from object2vec.tuning.ranges import Range
    from object2vec.tuning.search import Plan, Trial

EPILOG: Final = """METRIC is validation:cross_entropy, validation:accuracy or validation:mean_squared_error, or one of
`object2vec evaluate` on the validation pairs, such as ndcg@10 or macro_f1. Test pairs are not read."""
#: Shortest time that a tuning job accepts.
MIN_SECONDS: Final = 120
#: Sizes in place of those of the data, which the ranges do not depend on.
ANY_SIZES: Final = {"max_seq_len": 1, "vocab_size": 2}
MAX_SEED: Final = 2**31 - 1
#: Significant digits of printed metrics.
DIGITS: Final = 4


def add_arguments(parser: argparse.ArgumentParser, **types: Callable[[str], Any]) -> None:
    """Add the arguments of the verb; `types` are those of a `path`, an `output` and a `count`."""
    text = "model directory to write: the best model, and trials.json"
    parser.add_argument("--out", type=types["output"], metavar="DIR", help=text)
    text = "ranges to search, as `describe ranges` prints them (default: around the hyperparameters)"
    parser.add_argument("--ranges", type=types["path"], metavar="FILE", help=text)
    text = "what to optimize (default: ndcg@10 if training draws negatives, otherwise the validation loss)"
    parser.add_argument("--objective", metavar="METRIC", help=text)
    parser.add_argument("--trials", type=types["count"], default=20, metavar="N", help="trials (default: %(default)s)")
    parser.add_argument("--minutes", type=types["count"], metavar="N", help="end after N minutes (default: no limit)")
    text = "seed of the drawn values (default: %(default)s)"
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=text)
    text = "for a ranking metric: pairs with at least this label are to be found (default: 1 for two classes)"
    parser.add_argument("--relevant", type=float, metavar="LABEL", help=text)
    text = "for a ranking metric: candidates to sample for each in0 (default: all)"
    parser.add_argument("--candidates", type=types["count"], metavar="N", help=text)
    parser.add_argument("--resume", action="store_true", help="continue the search whose trials are in OUT")
    text = "print the configuration of a tuning job of SageMaker instead; needs no data"
    parser.add_argument("--print-sagemaker", action="store_true", help=text)


def tune(arguments: argparse.Namespace, given: Mapping[str, object], stop: Stop) -> None:
    """Run the verb, until `stop`; `given` are hyperparameters besides those of the data.

    Raises:
        UserError: an argument, the data or a hyperparameter cannot be used.
        AlgorithmError: no trial had a value.
    """
    from object2vec.hyperparameters import parse
    from object2vec.prepare.files import read_prepared
    from object2vec.tuning.objective import CHANNEL, default_objective, parse_objective
    from object2vec.tuning.ranges import default_ranges, read_ranges

    if not arguments.print_sagemaker and not (arguments.data and arguments.out):
        raise UserError("tune needs --data and --out, or --print-sagemaker")
    if not 0 <= arguments.seed <= MAX_SEED:
        raise UserError(f"--seed is {arguments.seed}, wanted a number from 0 to {MAX_SEED}")
    channels, values = read_prepared(arguments.data) if arguments.data else ({}, _any_sizes(given))
    values |= given
    configured = parse(values).hyperparameters
    objective = (
        parse_objective(arguments.objective, configured)
        if arguments.objective
        else default_objective(configured, of_epochs=arguments.print_sagemaker)
    )
    ranges = read_ranges(arguments.ranges, values) if arguments.ranges else default_ranges(values)
    objective.check_ranges(ranges)
    if arguments.print_sagemaker:
        sys.stdout.write(json.dumps(_tuning_job(arguments, objective, ranges, values), indent=2) + "\n")
        return
    if CHANNEL not in channels:
        raise UserError(f"{arguments.data} has no {CHANNEL} pairs, wanted some: they choose the best model")

    from object2vec.tuning.search import Plan

    plan = Plan(
        channels={name: path for name, path in channels.items() if name != "test"},
        hyperparameters=values,
        ranges=ranges,
        objective=objective,
        relevant=arguments.relevant,
        candidates=arguments.candidates,
        seed=arguments.seed,
    )
    _search(arguments, plan, given, stop)


def _search(arguments: argparse.Namespace, plan: Plan, given: Mapping[str, object], stop: Stop) -> None:
    """Search, and print each trial when it ends, and the best one at the end."""
    from tqdm import tqdm

    from object2vec.artifact import check_writable
    from object2vec.training.console import write
    from object2vec.training.report import log_as
    from object2vec.tuning.search import Search

    check_writable(arguments.out)
    search, table = Search(plan, arguments.out), Table(plan)
    log_as("quiet")
    if arguments.resume:
        search.resume()
    write(table.titles, sys.stdout)
    for trial in search.trials:
        write(table.row(trial), sys.stdout)

    def on_trial(trial: Trial) -> None:
        logging.getLogger("object2vec").setLevel(logging.ERROR)  # the warnings of all trials are the same
        write(table.row(trial), sys.stdout)
        bar.update()

    limits = {"initial": len(search.trials), "total": arguments.trials}
    with tqdm(**limits, unit="trial", disable=not sys.stderr.isatty(), leave=False) as bar:
        search.run(
            arguments.trials,
            stop,
            seconds=60.0 * (arguments.minutes or math.inf),
            on_epoch=lambda number, epoch, value: bar.set_postfix_str(f"trial {number} epoch {epoch} {value:.4g}"),
            on_trial=on_trial,
        )
    if best := search.best:
        settings = {**given, **search.settings(best.drawn)}
        words = " ".join(shlex.quote(f"{name}={value}") for name, value in settings.items())
        found = f"{plan.objective.name} {best.value:#.{DIGITS}g}"
        sys.stdout.write(f"best: trial {best.number}, {found}; its model is in {arguments.out}. To train it again:\n")
        sys.stdout.write(f"object2vec train --data {arguments.data} --hyperparameters {words} --out model\n")


class Table:
    """The table of trials: a row for each, with its drawn values."""

    def __init__(self, plan: Plan) -> None:
        self._names = {each.name: max(len(each.name), DIGITS + 5) for each in plan.ranges}
        self._width = max(len(plan.objective.name), len("complete"))
        self._best: float | None = None
        self._minimize = plan.objective.minimize
        names = "".join(f"  {name:>{width}}" for name, width in self._names.items())
        self.titles = f"trial  {plan.objective.name:>{self._width}}  epochs  seconds{names}  * best so far"

    def row(self, trial: Trial) -> str:
        """Return the row of a trial, marked if it is the best so far."""
        value = trial.state if trial.value is None else f"{trial.value:#.{DIGITS}g}"
        better = trial.value is not None and (
            self._best is None or (trial.value < self._best if self._minimize else trial.value > self._best)
        )
        self._best = trial.value if better else self._best
        cells = "".join(f"  {trial.drawn[name]:>{width}}" for name, width in self._names.items())
        counts = f"{len(trial.epochs):>6}  {trial.seconds:>7.1f}"
        return f"{trial.number:>5}  {value:>{self._width}}  {counts}{cells}{'  *' if better else ''}"


def _any_sizes(given: Mapping[str, object]) -> dict[str, object]:
    """Return hyperparameters that only data decides, for a configuration without data."""
    from object2vec.hyperparameters import typed

    return {typed(f"enc{side}_{name}", given): value for side in (0, 1) for name, value in ANY_SIZES.items()}


def _tuning_job(
    arguments: argparse.Namespace, objective: Objective, ranges: Sequence[Range], values: Mapping[str, object]
) -> dict[str, Any]:
    """Return the HyperParameterTuningJobConfig of this search.

    Raises:
        UserError: the objective is no metric of a training job, or there are more ranges than a tuning job takes.
    """
    from object2vec.tuning.ranges import to_sagemaker

    if not objective.of_epochs:
        raise UserError(
            f"--objective is {objective.name}, wanted for a tuning job a metric of epochs, such as validation:…"
        )
    limits = {"MaxNumberOfTrainingJobs": arguments.trials, "MaxParallelTrainingJobs": 1}
    if arguments.minutes:
        limits["MaxRuntimeInSeconds"] = max(MIN_SECONDS, 60 * arguments.minutes)
    better = "Minimize" if objective.minimize else "Maximize"
    return {
        "Strategy": "Bayesian",
        "HyperParameterTuningJobObjective": {"Type": better, "MetricName": objective.name},
        "ResourceLimits": limits,
        "ParameterRanges": to_sagemaker(ranges, values),
        "TrainingJobEarlyStoppingType": "Auto",
        "RandomSeed": arguments.seed,
    }
