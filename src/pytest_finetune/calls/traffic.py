"""How many requests are under way at once, and when one is repeated."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Stopped(BaseException):
    """The evaluation is over. Not an Exception, so that no program takes it for a failure of its own."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How patiently a request is repeated that failed for infrastructure.

    Attributes:
        attempts: Requests in all, for each call of a program.
        first: Seconds before the second attempt; doubled each time, and drawn between half and all of it.
        longest: Never wait longer than this; where the endpoint asks for more, the row is an error.
    """

    attempts: int = 6
    first: float = 0.5
    longest: float = 60.0

    def wait(self, attempt: int, asked_for: float | None) -> float | None:
        """Seconds before the attempt after this one (1 for the first); None: give up."""
        if attempt >= self.attempts or (asked_for is not None and asked_for > self.longest):
            return None
        if asked_for is not None:
            return asked_for * random.uniform(1.0, 1.1)  # noqa: S311  # no secret
        return min(self.longest, self.first * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311


class Traffic:
    """How many requests may be under way: fewer after a 429, slowly more while all is well.

    As TCP does it: a 429 takes the limit down by 30 %, at most once a second, since those under way then were sent
    under the old limit; as many answers as the limit is raise it by one.

    Args:
        most: The limit to begin with, never passed.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._limit = float(most)
        self._under_way = 0
        self._lowered = 0.0
        self._free = threading.Condition()
        self._over = threading.Event()
        self._why = ""

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        return max(1, int(self._limit))

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait until a request may be sent.

        Raises:
            Stopped: The evaluation is over.
        """
        with self._free:
            self._free.wait_for(lambda: self._over.is_set() or self._under_way < self.limit)
            if self._over.is_set():
                raise Stopped(self._why)
            self._under_way += 1
        try:
            yield
        finally:
            with self._free:
                self._under_way -= 1
                self._free.notify()

    def answered(self) -> None:
        """A request came back well."""
        if self._limit < self.most:
            with self._free:
                self._limit = min(float(self.most), self._limit + 1.0 / self._limit)
                self._free.notify()

    def refused(self) -> None:
        """The endpoint said that it was asked too often."""
        with self._free:
            now = time.monotonic()
            if now - self._lowered >= 1.0:
                self._lowered = now
                self._limit = max(1.0, self._limit * 0.7)

    def pause(self, seconds: float) -> None:
        """Wait, unless the evaluation ends.

        Raises:
            Stopped: The evaluation is over.
        """
        if self._over.wait(seconds):
            raise Stopped(self._why)

    def stop(self, why: str = "") -> None:
        """Let no further request begin.

        Args:
            why: What those are told who were about to make one.
        """
        self._why = self._why or why
        self._over.set()
        with self._free:
            self._free.notify_all()
