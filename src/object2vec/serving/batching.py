"""Who works when: one pass at a time in a process, and requests that wait for theirs share the next.

Several passes at a time would only fight for the CPU, and with what answers /ping. A request that comes alone is
answered at once, and while its pass runs others gather for the next. That one waits a little for as many as shared the
last one or came meanwhile: clients that were answered soon come again, and much of what a pass costs it costs but once.
What can be looked up waits for no one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from time import perf_counter, sleep
from typing import Final

from object2vec.serving.instances import Answers
from object2vec.serving.predictor import ROWS, Question, answer_together

#: How long a pass waits for as many as were there around the last one: a part of what that took, seconds at the most.
PART: Final = 0.25
LONGEST: Final = 0.01
#: How long until it looks again, in seconds.
MOMENT: Final = 0.0005


@dataclass(eq=False, slots=True)
class _Waiting:
    question: Question
    answers: Answers | None = None


class Turns:
    """The turns of a process's requests."""

    def __init__(self) -> None:
        self._turn = Lock()
        self._waiting: deque[_Waiting] = deque()
        self._around, self._took = 1, 0.0  # requests in the last pass or come meanwhile; the seconds that it took

    def answer(self, question: Question) -> Iterator[Answers]:
        """The answers in parts; a long question waits for a turn with each."""
        return map(self._answer, question.parts())

    def _answer(self, question: Question) -> Answers:
        return question.looked_up() or self._in_turn(question)

    def _in_turn(self, question: Question) -> Answers:
        mine = _Waiting(question)
        self._waiting.append(mine)
        with self._turn:
            until = perf_counter() + min(PART * self._took, LONGEST)
            while mine.answers is None and len(self._waiting) < self._around and perf_counter() < until:
                sleep(MOMENT)
            return mine.answers or self._pass(mine)

    def _pass(self, mine: _Waiting) -> Answers:
        """One pass for `mine` and for what else goes with it, as far as there is room; where it fails, for none."""
        together = [mine]
        room = ROWS - mine.question.count
        for _ in range(len(self._waiting)):
            other = self._waiting.popleft()
            if other is mine or other.answers is not None:
                continue
            if other.question.count <= room and other.question.goes_with(mine.question):
                together.append(other)
                room -= other.question.count
            else:
                self._waiting.append(other)
        started = perf_counter()
        found = answer_together([waiting.question for waiting in together])
        self._around, self._took = len(together) + len(self._waiting), perf_counter() - started
        for waiting, answers in zip(together, found, strict=True):
            waiting.answers = answers
        return found[0]
