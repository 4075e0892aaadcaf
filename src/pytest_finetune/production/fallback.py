"""Another model answers while the first one fails, and the first is tried again after a while."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pytest_finetune.errors import UsageError


@dataclass(frozen=True, slots=True)
class Served:
    """How many calls were answered by which program.

    Attributes:
        primary: Answers of the primary.
        fallback: Answers of the fallback.
        errors: Calls at which the primary failed and the fallback did not.
        opened: How often the primary was given up for a while.
    """

    primary: int = 0
    fallback: int = 0
    errors: int = 0
    opened: int = 0


class Fallback:
    """Goes back to another program after a number of errors, and recovers: a circuit breaker.

    A call at which the primary fails is answered by the fallback. After ``errors`` of them within ``window`` seconds
    the primary is left alone for ``rest`` seconds; then one call tries it: if that succeeds it is back, else it rests
    again (Nygard, Release It!, second edition, 2018, chapter 5, "Circuit Breaker"). A call at which the fallback
    fails too raises its error and does not count: the fault is the input's.

    Args:
        primary: The program that is to answer; called with the inputs, as a DSPy module is.
        fallback: The one that answers in its place, such as that of the model before.
        errors: So many within the window give the primary up.
        window: Seconds.
        rest: Seconds after which the primary is tried again.
        clock: Gives seconds that never go back.

    Raises:
        UsageError: If ``errors`` is less than 1.
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
        if errors < 1:
            raise UsageError(f"errors={errors!r}: give how many errors give the primary up, at least 1")
        self.primary = primary
        self.fallback = fallback
        self.errors = errors
        self.window = window
        self.rest = rest
        self._clock = clock
        self._guard = threading.Lock()
        self._failures: deque[float] = deque(maxlen=errors)
        self._rests_until: float | None = None
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
        if not self._tries():
            return self._answered(self.fallback(**inputs))
        try:
            answer = self.primary(**inputs)
        except Exception:  # noqa: BLE001  # a program may raise anything
            answer = self.fallback(**inputs)
            self._failed()
            return self._answered(answer)
        self._succeeded()
        return answer

    async def acall(self, **inputs: Any) -> Any:
        """The same, with the programs' ``acall``."""
        if not self._tries():
            return self._answered(await self.fallback.acall(**inputs))
        try:
            answer = await self.primary.acall(**inputs)
        except Exception:  # noqa: BLE001  # a program may raise anything
            answer = await self.fallback.acall(**inputs)
            self._failed()
            return self._answered(answer)
        self._succeeded()
        return answer

    def _tries(self) -> bool:
        """Whether this call asks the primary; of a primary that has rested, one call at a time does.

        The next rest begins with the trial: if the trial never ends, another one is made after it.
        """
        now = self._clock()
        with self._guard:
            if self._rests_until is None:
                return True
            if now < self._rests_until:
                return False
            self._rests_until = now + self.rest
            return True

    def _succeeded(self) -> None:
        with self._guard:
            self._counts = replace(self._counts, primary=self._counts.primary + 1)
            if self._rests_until is not None:
                self._rests_until = None
                self._failures.clear()

    def _failed(self) -> None:
        now = self._clock()
        with self._guard:
            self._counts = replace(self._counts, errors=self._counts.errors + 1)
            self._failures.append(now)
            if self._rests_until is not None:
                self._rests_until = now + self.rest
            elif len(self._failures) == self.errors and now - self._failures[0] <= self.window:
                self._rests_until = now + self.rest
                self._counts = replace(self._counts, opened=self._counts.opened + 1)

    def _answered(self, answer: Any) -> Any:
        with self._guard:
            self._counts = replace(self._counts, fallback=self._counts.fallback + 1)
        return answer
