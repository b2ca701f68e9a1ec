"""A search: trains with drawn values, keeps the best model, and records all trials.

The values of a trial depend only on the seed, the number of the trial and the trials before it. A search that is
continued therefore has the same trials as one that was not interrupted.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from object2vec import api
from object2vec.atomic_files import checksum
from object2vec.data.files import read_object, write_output
from object2vec.data.jsonlines import read_channel
from object2vec.data.sequences import Pairs
from object2vec.errors import AlgorithmError, HyperparameterError, Object2VecError, UserError
from object2vec.extras import import_extra
from object2vec.hyperparameters import parse
from object2vec.hyperparameters.kinds import Choice, Integer, Real
from object2vec.training.checks import Job
from object2vec.training.graceful_shutdown import Stop
from object2vec.training.job import run
from object2vec.tuning.objective import CHANGE_VALIDATION, CHANNEL, EVALUATION_METRICS, RANKING_METRICS, Objective
from object2vec.tuning.ranges import Range, Value, paired

#: The record of all trials, next to the best model.
TRIALS_FILE: Final = "trials.json"
#: Significant digits of a drawn number.
DIGITS: Final = 4
#: Finished trials before a trial may be pruned.
TRIALS_BEFORE_PRUNING: Final = 5
#: Percentage of trials at an epoch, the best ones, that are not pruned. The validation loss says less of other metrics.
KEPT_BY_OBJECTIVE: Final = 50.0
KEPT_BY_LOSS: Final = 75.0

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One training of a search, with its drawn values.

    `epochs` has the metric of each epoch by which trials are pruned. `value` is that of the objective, None for a trial
    that was pruned or failed; `error` says why it failed.
    """

    number: int
    state: State
    value: float | None
    drawn: Mapping[str, Value]
    epochs: Sequence[float]
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to search: everything that the trials depend on."""

    channels: Mapping[str, Path]
    hyperparameters: Mapping[str, object]
    ranges: Sequence[Range]
    objective: Objective
    relevant: float | None = None
    candidates: int | None = None
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values, with checksums in place of files."""
        files = {name: path for name, path in self.channels.items() if path.is_file()}
        document = {
            "objective": self.objective.name,
            "direction": "minimize" if self.objective.minimize else "maximize",
            "relevant": self.relevant,
            "candidates": self.candidates,
            "seed": self.seed,
            "hyperparameters": dict(self.hyperparameters),
            "ranges": {each.name: {**asdict(each.kind), "log": each.log} for each in self.ranges},
            "data": {name: checksum(path) for name, path in files.items()},
        }
        return dict(json.loads(json.dumps(document, default=str)))


class _TrialStop(Stop):
    """Stops one trial: if it is pruned, at the end of the search's time, or on a request to end the search."""

    def __init__(self, search: Stop, deadline: float) -> None:
        super().__init__()
        self._search = search
        self._deadline = deadline

    def __call__(self) -> bool:
        return super().__call__() or self.search_ends

    @property
    def pruned(self) -> bool:
        return super().__call__()

    @property
    def search_ends(self) -> bool:
        return self._search() or time.monotonic() > self._deadline


class Search:
    """A search that writes into the folder `out`. `trials` are the ones that have ended."""

    def __init__(self, plan: Plan, out: Path) -> None:
        self.plan = plan
        self.out = out
        self.trials: list[Trial] = []
        self._optuna = import_extra("optuna", "tune")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self._header = plan.to_json()
        self._configured = parse(plan.hyperparameters).hyperparameters
        self._prunes = not any(each.row in CHANGE_VALIDATION for each in plan.ranges)

    def resume(self) -> None:
        """Read the trials of an earlier run from the folder, if there are any.

        Raises:
            UserError: they cannot be read, or are of a search with another plan.
        """
        path = self.out / TRIALS_FILE
        if not path.exists():
            return
        wanted = f"wanted the {TRIALS_FILE} of an earlier search"
        document = read_object(path, wanted)
        for name, value in self._header.items():
            if document.get(name) != value:
                raise UserError(
                    f"{path} is of another search: {name} is not the same; wanted the same, or another --out"
                )
        try:
            self.trials = [Trial(**values) for values in document["trials"]]
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: its trials cannot be read, {wanted}") from error

    @property
    def best(self) -> Trial | None:
        """The trial with the best value, the first of equal ones."""
        sign = 1 if self.plan.objective.minimize else -1
        complete = [(sign * trial.value, trial.number) for trial in self.trials if trial.value is not None]
        return self.trials[min(complete)[1]] if complete else None

    def settings(self, drawn: Mapping[str, Value]) -> dict[str, Value]:
        """Return the hyperparameters that a trial with these values changes."""
        return paired(drawn, self.plan.ranges, self.plan.hyperparameters)

    def run(
        self,
        count: int,
        stop: Stop,
        *,
        seconds: float = math.inf,
        on_epoch: Callable[[int, int, float], object] = lambda *_: None,
        on_trial: Callable[[Trial], object] = lambda _: None,
    ) -> None:
        """Run trials until there are `count`, until `seconds` have passed, or on `stop`.

        The last two drop the running trial, but the time never drops a first one. After each trial, the folder has the
        best model so far and the record of all trials. `on_epoch` gets the trial, the epoch and its metric.

        Raises:
            UserError: the first trial cannot be run, or the objective is not defined for the pairs.
            AlgorithmError: no trial had a value.
        """
        self._check_labels()
        deadline = time.monotonic() + seconds
        stop.training = True  # the first Ctrl-C ends the search and keeps the best model
        while len(self.trials) < count:
            trial_stop = _TrialStop(stop, deadline if self.best else math.inf)
            with tempfile.TemporaryDirectory(prefix="object2vec-") as folder:
                stop.emergency_save = partial(shutil.rmtree, folder, ignore_errors=True)
                trial = None if trial_stop() else self._run_trial(Path(folder), trial_stop, on_epoch)
                if trial is None:
                    break
                self.trials.append(trial)
                if self.best is trial:
                    api.load(folder).save(self.out)
            document = {**self._header, "trials": [asdict(trial) for trial in self.trials]}
            write_output(self.out / TRIALS_FILE, json.dumps(document, indent=1) + "\n")
            on_trial(trial)
        if self.best is None and self.trials:
            raise AlgorithmError(
                f"no trial had a value; trial {self.trials[-1].number} failed: {self.trials[-1].error}"
            )

    def _check_labels(self) -> None:
        """Check that the validation pairs can be ranked, before a model is trained.

        Raises:
            UserError: none is a positive, or the labels do not say which are.
        """
        plan, metric = self.plan, self.plan.objective.metric
        if plan.objective.of_epochs or metric not in RANKING_METRICS or metric in EVALUATION_METRICS[False]:
            return
        labels = self._pairs[1].labels
        if plan.relevant is None and not np.isin(labels, (0, 1)).all():
            raise UserError(f"a label is {labels.max():g}, wanted 0 and 1, or --relevant LABEL, to rank by {metric}")
        if not (labels >= (1 if plan.relevant is None else plan.relevant)).any():
            raise UserError(f"no validation pair has the label of a positive, wanted one to rank by {metric}")

    def _run_trial(self, folder: Path, stop: _TrialStop, on_epoch: Callable[[int, int, float], object]) -> Trial | None:
        """Train with new values into a folder; return None if the search ends before the trial does."""
        number, started = len(self.trials), time.monotonic()
        asked = self._ask()
        drawn = {each.name: _rounded(asked.params[each.name], each.kind) for each in self.plan.ranges}
        history: list[Mapping[str, Any]] = []
        epochs: list[float] = []

        def finish_epoch(record: Mapping[str, Any]) -> None:
            history.append(record)
            epochs.append(self.plan.objective.of_epoch(record, **self._stopping))
            asked.report(epochs[-1], len(epochs) - 1)
            on_epoch(number, len(epochs) - 1, epochs[-1])
            ends = len(epochs) == configuration.hyperparameters.epochs
            if not ends and self._prunes and asked.should_prune():
                stop.request()

        value, error = None, ""
        try:
            configuration = parse({**self.plan.hyperparameters, **self.settings(drawn)})
            channels = self.plan.channels
            job = Job(configuration=configuration, channels=channels, model_dir=folder, on_epoch=finish_epoch)
            run(job, stop=stop, style="quiet")
            if stop.search_ends:
                return None
            if not stop.pruned:
                value = self._value(folder, history)
        except Object2VecError as problem:
            if number == 0 and isinstance(problem, UserError) and not isinstance(problem, HyperparameterError):
                raise
            error = "; ".join(str(problem).splitlines())
        state: State = "failed" if error else "pruned" if value is None else "complete"
        seconds = round(time.monotonic() - started, 1)
        return Trial(number=number, state=state, value=value, drawn=drawn, epochs=epochs, seconds=seconds, error=error)

    @property
    def _stopping(self) -> dict[str, Any]:
        """What decides the best epoch of a trial."""
        configured = self._configured
        return {"regression": configured.squared_error, "metric": configured.early_stopping_metric}

    def _value(self, folder: Path, history: Sequence[Mapping[str, Any]]) -> float:
        objective, plan = self.plan.objective, self.plan
        if objective.of_epochs:
            return objective.of_best_epoch(history, **self._stopping)
        train, validation = self._pairs
        found = api.load(folder).evaluate(
            validation, train, relevant=plan.relevant, candidates=plan.candidates, seed=plan.seed
        )
        return objective.of_evaluation(found)

    @cached_property
    def _pairs(self) -> list[Pairs]:
        return [read_channel(name, self.plan.channels[name], self._configured) for name in ("train", CHANNEL)]

    def _ask(self) -> Any:
        """Return the next trial of optuna: of a new study with all trials so far, which depends on nothing else."""
        optuna, objective = self._optuna, self.plan.objective
        distributions = {each.name: self._distribution(each) for each in self.plan.ranges}
        seed = int(np.random.SeedSequence((self.plan.seed, len(self.trials))).generate_state(1)[0])
        kept = KEPT_BY_OBJECTIVE if objective.of_epochs else KEPT_BY_LOSS
        pruner = optuna.pruners.PercentilePruner(
            kept, n_startup_trials=TRIALS_BEFORE_PRUNING, n_warmup_steps=max(1, self._configured.epochs // 4)
        )
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=pruner,
            direction="minimize" if objective.minimize else "maximize",
        )
        states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
        for trial in self.trials:
            found = optuna.trial.create_trial(
                state=optuna.trial.TrialState[states[trial.state]],
                value=trial.value,
                params=dict(trial.drawn),
                distributions=distributions,
                intermediate_values=dict(enumerate(trial.epochs)),
            )
            study.add_trial(found)
        if not self.trials:
            with suppress(ValueError):  # the configuration is outside the ranges
                values = self._configured.to_dict()
                study.enqueue_trial({each.name: each.kind.parse(str(values[each.row])) for each in self.plan.ranges})
        return study.ask(distributions)

    def _distribution(self, each: Range) -> Any:
        distributions = self._optuna.distributions
        match each.kind:
            case Integer(low, high):
                return distributions.IntDistribution(low, high, log=each.log)
            case Real(low, high):
                return distributions.FloatDistribution(low, high, log=each.log)
            case Choice(choices):
                return distributions.CategoricalDistribution(choices)


def _rounded(value: Value, kind: Integer | Real | Choice) -> Value:
    """Return a drawn value with few digits, inside its range."""
    return min(max(float(f"{value:.{DIGITS}g}"), kind.low), kind.high) if isinstance(kind, Real) else value
