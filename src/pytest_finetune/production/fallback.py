"""Another model answers while the first one fails, and the first is tried again after a while."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pytest_finetune.errors import UsageError
from pytest_finetune.production.arguments import check_seconds


@dataclass(frozen=True, slots=True)
class Served:
    """How many calls were answered by which program.

    Attributes:
        primary: Answers of the primary.
        fallback: Answers of the fallback.
        errors: Calls at which the primary failed and the fallback did not.
        format_errors: Calls at which the primary's answer could not be read, and the fallback's could.
        opened: How often the primary was given up for a while.
        failed: Calls that nobody answered: the fallback failed, too.
    """

    primary: int = 0
    fallback: int = 0
    errors: int = 0
    format_errors: int = 0
    opened: int = 0
    failed: int = 0


class Fallback:
    """Goes back to another program after a number of errors, and recovers: a circuit breaker.

    A call at which the primary fails is answered by the fallback. After ``errors`` of them within ``window`` seconds
    the primary is left alone for ``rest`` seconds; then one call tries it: if that succeeds it is back, else it rests
    again (Nygard, Release It!, second edition, 2018, chapter 5, "Circuit Breaker"). Calls that were under way when
    that was decided are answered and change nothing: they tell of the time before.

    Two kinds of failure give nothing up. A call at which the fallback fails, too, raises its error: the fault is the
    input's, or the endpoint's that both share. And what the gate calls a format error (an answer that the adapter
    cannot read, a prompt that is too long) is answered by the fallback and counted apart: the primary was accepted
    with its share of these, so that under load a fixed number of them is no sign that it is down.

    Args:
        primary: The program that is to answer; called with the inputs, as a DSPy module is.
        fallback: The one that answers in its place, such as that of the model before.
        errors: So many within the window give the primary up.
        window: Seconds.
        rest: Seconds after which the primary is tried again.
        clock: Gives seconds that never go back.

    Raises:
        UsageError: If ``errors`` is no whole number from 1, or ``window`` or ``rest`` no number above 0.
    """

    def __init__(
        self,
        primary: Any,
        fallback: Any,
        *,
        errors: int = 5,
        window: float = 60.0,
        rest: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if type(errors) is not int or errors < 1:
            raise UsageError(
                f"errors={errors!r}: give how many errors give the primary up, a whole number, at least 1"
            )
        check_seconds("window", window)
        check_seconds("rest", rest)
        self.primary = primary
        self.fallback = fallback
        self.errors = errors
        self.window = window
        self.rest = rest
        self._clock = clock
        self._guard = threading.Lock()
        self._failures: deque[float] = deque(maxlen=errors)
        self._rests_until: float | None = None
        self._turn = 0  # goes on whenever the primary is given up, tried or back
        self._counts = Served()

    @property
    def counts(self) -> Served:
        """What was served so far, all at one moment."""
        with self._guard:
            return self._counts

    @property
    def open(self) -> bool:
        """Whether the primary is given up at the moment."""
        with self._guard:
            return self._rests_until is not None

    def __call__(self, **inputs: Any) -> Any:
        """Ask the primary, else the fallback; ``inputs`` are those of both."""
        turn = self._begin()
        if turn is None:
            with self._falling_back():
                return self.fallback(**inputs)
        try:
            answer = self.primary(**inputs)
        except Exception as error:  # noqa: BLE001  # a program may raise anything
            with self._falling_back(turn, error):
                return self.fallback(**inputs)
        self._succeeded(turn)
        return answer

    async def acall(self, **inputs: Any) -> Any:
        """The same, with the programs' ``acall``."""
        turn = self._begin()
        if turn is None:
            with self._falling_back():
                return await self.fallback.acall(**inputs)
        try:
            answer = await self.primary.acall(**inputs)
        except Exception as error:  # noqa: BLE001  # a program may raise anything
            with self._falling_back(turn, error):
                return await self.fallback.acall(**inputs)
        self._succeeded(turn)
        return answer

    def _begin(self) -> int | None:
        """The turn of a call that asks the primary; of a primary that has rested, one call at a time does.

        The next rest begins with the trial: if the trial never ends, another one is made after it.
        """
        now = self._clock()
        with self._guard:
            if self._rests_until is None:
                return self._turn
            if now < self._rests_until:
                return None
            self._rests_until = now + self.rest
            self._turn += 1
            return self._turn

    @contextmanager
    def _falling_back(self, turn: int | None = None, failure: Exception | None = None) -> Iterator[None]:
        """Around a call of the fallback: what becomes of it says what the primary's failure was."""
        try:
            yield
        except Exception:
            with self._guard:
                self._count("failed")
            raise
        with self._guard:
            if turn is None or failure is None:
                self._count("fallback")
            elif _is_format_error(failure):
                self._count("fallback", "format_errors")
                self._is_up(turn)
            else:
                self._count("fallback", "errors")
                self._is_down(turn)

    def _succeeded(self, turn: int) -> None:
        with self._guard:
            self._count("primary")
            self._is_up(turn)

    def _is_up(self, turn: int) -> None:
        if turn == self._turn and self._rests_until is not None:
            self._rests_until = None
            self._turn += 1
            self._failures.clear()

    def _is_down(self, turn: int) -> None:
        if turn != self._turn:
            return
        now = self._clock()
        self._failures.append(now)
        if self._rests_until is not None:
            self._rests_until = now + self.rest
        elif len(self._failures) == self.errors and now - self._failures[0] <= self.window:
            self._rests_until = now + self.rest
            self._turn += 1
            self._count("opened")

    def _count(self, *names: str) -> None:
        self._counts = replace(self._counts, **{name: getattr(self._counts, name) + 1 for name in names})


def _is_format_error(error: Exception) -> bool:
    """Whether the model is at fault for this one input; a program that is not DSPy's has no such errors."""
    known = sys.modules.get("dspy.utils.exceptions")
    return known is not None and isinstance(error, (known.AdapterParseError, known.ContextWindowExceededError))
