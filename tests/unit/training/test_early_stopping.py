"""Early stopping decides and prints as the built-in's log does."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.training.early_stopping import EarlyStopping

#: The validation losses of a run of the built-in, with patience 2 and tolerance 0.01, and the lines that it printed.
LOSSES = [0.20847056439872516, 0.19760655043488842, 0.20252395598059994, 0.18128, 0.19688, 0.19300, 0.19765]


def judged(losses: list[float], *, patience: int, tolerance: float) -> tuple[EarlyStopping, list[list[str]]]:
    """Judge losses until training stops; the lines of each epoch."""
    early_stopping = EarlyStopping(patience=patience, tolerance=tolerance)
    lines: list[list[str]] = []
    for loss in losses:
        lines.append(early_stopping.judge(loss))
        if early_stopping.stop:
            break
    return early_stopping, lines


def test_the_losses_of_the_built_in_get_its_decisions() -> None:
    """The printed losses are judged as they were: epochs 2, 4, 5 and 6 bad, 3 good, training stopped at epoch 6."""
    early_stopping, lines = judged([*LOSSES, 0.1, 0.1], patience=2, tolerance=0.01)
    assert early_stopping.losses == LOSSES
    assert early_stopping.stop
    counts = [line.rpartition("Bad count:")[2] for epoch in lines for line in epoch if "Bad count" in line]
    assert counts == ["1", "1", "2", "3"]
    bad = [epoch for epoch, printed in enumerate(lines) if any("Bad epoch:" in line for line in printed)]
    assert bad == [2, 4, 5, 6]
    assert lines[:2] == [[], []]
    assert min(range(7), key=LOSSES.__getitem__) == 3


def test_the_lines_of_an_epoch() -> None:
    """A judged epoch prints what the built-in printed, a good one without the last line, the last with one more."""
    _, lines = judged(LOSSES, patience=2, tolerance=0.01)
    assert lines[2] == [
        "patience losses: [0.20847056439872516, 0.19760655043488842]",
        "min patience losses: 0.19760655043488842",
        "current loss: 0.20252395598059994",
        "absolute loss difference: 0.004917405545711517",
        "Bad epoch: loss has not improved (enough). Bad count:1",
    ]
    assert lines[3][:3] == [
        "patience losses: [0.19760655043488842, 0.20252395598059994]",
        "min patience losses: 0.19760655043488842",
        "current loss: 0.18128",
    ]
    assert len(lines[3]) == 4
    assert lines[6][-2:] == [
        "Bad epoch: loss has not improved (enough). Bad count:3",
        "Bad epochs exceeded patience. Stopping training early!",
    ]


@pytest.mark.parametrize(("fall", "good"), [(0.25, True), (0.24, False), (0.5, True), (0.0, False), (-1.0, False)])
def test_a_fall_by_the_tolerance_is_enough(fall: float, good: bool) -> None:
    """An epoch is good if its loss is below the window's least by the tolerance or more; a rise never is."""
    early_stopping, _ = judged([1.0, 1.0 - fall], patience=1, tolerance=0.25)
    assert early_stopping.bad == (0 if good else 1)


def test_the_window_slides() -> None:
    """Only the last `patience` losses count, not the best of all: after a good old epoch, 0.8 after 0.9 is good."""
    early_stopping, _ = judged([0.1, 0.9, 0.9, 0.8], patience=2, tolerance=0.01)
    assert early_stopping.bad == 0


@given(st.lists(st.floats(0, 10), max_size=12), st.integers(1, 5), st.floats(1e-6, 0.1))
def test_training_stops_after_more_bad_epochs_than_patience(
    losses: list[float], patience: int, tolerance: float
) -> None:
    """For any losses, training stops at the first epoch that ends a run of `patience` + 1 bad ones."""
    early_stopping, lines = judged(losses, patience=patience, tolerance=tolerance)
    run = 0
    for epoch in range(len(early_stopping.losses)):
        window = losses[max(0, epoch - patience) : epoch]
        if len(window) == patience:
            least = min(window)
            improved = losses[epoch] < least and math.fabs(losses[epoch] - least) >= tolerance
            run = 0 if improved else run + 1
        assert (epoch == len(lines) - 1 and early_stopping.stop) is (run == patience + 1)
