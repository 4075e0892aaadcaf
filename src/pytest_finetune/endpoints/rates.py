"""How many requests and tokens a minute an endpoint is asked for, over all calls of the run."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import cache


class Bucket:
    """A token bucket of one second's burst, which gives out waits: who takes too much waits until it is paid back.

    Args:
        per_minute: How much flows in.
        clock: Tells seconds.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._most = self._level = max(1.0, self._rate)
        self._clock = clock
        self._at = clock()
        self._lock = threading.Lock()

    def take(self, amount: float) -> float:
        """Take an amount, or give it back if it is negative.

        Returns:
            Seconds to wait before it may be used. They differ for each taker, so that none overtakes another.
        """
        with self._lock:
            now = self._clock()
            self._level = min(self._most, self._level + (now - self._at) * self._rate)
            self._at = now
            self._level -= amount
            return max(0.0, -self._level / self._rate)


class Rates:
    """The limits of one endpoint in one process.

    Args:
        requests: A minute; None: no limit.
        tokens: A minute, prompt and answer together; None: no limit.
    """

    def __init__(self, requests: float | None = None, tokens: float | None = None) -> None:
        self._requests = None if requests is None else Bucket(requests)
        self._tokens = None if tokens is None else Bucket(tokens)

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited at all."""
        return self._tokens is not None

    def request(self, tokens: float = 0.0) -> float:
        """Book a request and the tokens that it may use; give the seconds to wait before it is sent."""
        waits = [0.0]
        if self._requests is not None:
            waits.append(self._requests.take(1.0))
        if self._tokens is not None and tokens:
            waits.append(self._tokens.take(tokens))
        return max(waits)

    def settle(self, booked: float, used: float) -> None:
        """Put the tokens that an answer used in the place of those that were booked for it."""
        if self._tokens is not None:
            self._tokens.take(used - booked)


@cache
def rates_of(endpoint: str, requests: float | None, tokens: float | None) -> Rates:  # noqa: ARG001  # the cache goes by its name
    """The limits of an endpoint, shared by all that call it in this process."""
    share = processes()
    return Rates(*(None if limit is None else limit / share for limit in (requests, tokens)))


def processes() -> int:
    """How many workers of pytest-xdist share a limit; leases share that of the rows themselves."""
    return int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
