"""Choose between one thread and all of them for training steps, by measuring both from time to time.

A second thread pays in large steps on an idle machine. In small steps it costs more than it gives, and where other
processes use the cores, threads wait for the one that has no core.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

import torch

#: A trial measures this many blocks with each count in turn. A block has a step at least, and takes this long.
BLOCKS: Final = 3
BLOCK_SECONDS: Final = 0.02
#: Time from one trial to the next: at least this, and this many times as long as a trial takes.
INTERVAL_SECONDS: Final = 1.0
INTERVAL_TRIALS: Final = 10
#: All threads are used if they make steps faster by this factor.
GAIN: Final = 1.05


class ThreadTuner:
    """Sets torch's number of threads to 1 or `most`, whichever makes steps faster.

    Call `start` and `stop` around each part of a step, and `finish_step` at its end.
    """

    def __init__(
        self,
        most: int,
        *,
        clock: Callable[[], float] = time.perf_counter,
        set_threads: Callable[[int], None] = torch.set_num_threads,
    ) -> None:
        self.most = self.threads = most
        self._clock = clock
        self._set_threads = set_threads
        self._started = self._seconds = 0.0
        self._work = 0
        self._rates: dict[int, list[float]] | None = None  # by number of threads, in a trial
        self._trial_started = 0.0
        self._next_trial = 0.0

    def start(self) -> None:
        """Start to measure a part of a step."""
        self._started = self._clock()

    def stop(self) -> None:
        """Stop to measure a part of a step."""
        self._seconds += self._clock() - self._started

    def finish_step(self, work: int) -> None:
        """Count a step with its units of work, and choose the number of threads for the next one."""
        if self.most == 1:
            return
        self._work += work
        now = self._clock()
        if self._rates is None:
            if now >= self._next_trial:
                self._trial_started = now
                self._rates = {1: [], self.most: []}
                self._use(self._other)
        elif self._seconds >= BLOCK_SECONDS:
            self._rates[self.threads].append(self._work / self._seconds)
            if min(map(len, self._rates.values())) < BLOCKS:
                self._use(self._other)
            else:
                self._end_trial(self._rates, now)

    def restore(self) -> None:
        """Let torch use all threads again."""
        if self.threads != self.most:
            self._use(self.most)

    @property
    def _other(self) -> int:
        return self.most if self.threads == 1 else 1

    def _end_trial(self, rates: dict[int, list[float]], now: float) -> None:
        gain = statistics.median(all_ / one for one, all_ in zip(rates[1], rates[self.most], strict=True))
        self._use(self.most if gain > GAIN else 1)
        self._rates = None
        self._next_trial = now + max(INTERVAL_SECONDS, INTERVAL_TRIALS * (now - self._trial_started))

    def _use(self, threads: int) -> None:
        """Use this number of threads from now on, and measure again."""
        self.threads = threads
        self._set_threads(threads)
        self._seconds, self._work = 0.0, 0
