"""Requests that outlive an outage: only such as may safely be repeated are made through here."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TypeVar

from pytest_finetune.errors import EndpointError, TrainingError

Answer = TypeVar("Answer")
Report = Callable[[str], None]

DAILY_LIMIT = "daily_rate_limit_exceeded"
_LASTING = frozenset({DAILY_LIMIT, "insufficient_quota"})


class Interrupted(Exception):
    """Waiting was ended from outside."""


class Pending(TrainingError):
    """A job was handed in and goes on, and nobody waits for it; a later run takes it up."""


def passing(error: Exception) -> bool:
    """Say whether the trouble may pass by itself: no answer, a 5xx, or a limit that is not the daily one."""
    import openai

    if isinstance(error, openai.APIStatusError) and error.status_code in (408, 429):
        return error.code not in _LASTING
    return isinstance(error, openai.APIConnectionError | openai.InternalServerError)


def asked_wait(error: Exception) -> float | None:
    """Seconds after which an endpoint asks to be tried again, in the header ``Retry-After`` of its answer.

    Returns:
        None where it asks for nothing, or in a form that is neither of the two of RFC 9110, section 10.2.3 (seconds,
        with or without a fraction, and a date).
    """
    response = getattr(error, "response", None)
    told = None if response is None else response.headers.get("retry-after")
    if told is None:
        return None
    try:
        seconds = float(told)
    except ValueError:
        try:
            then = parsedate_to_datetime(told).astimezone(timezone.utc)
        except (ValueError, OverflowError):  # such as the end of the year 9999, west of Greenwich
            return None
        seconds = (then - datetime.now(timezone.utc)).total_seconds()
    return seconds if math.isfinite(seconds) and seconds > 0 else None


@dataclass
class Patience:
    """How long one waits between requests, and for how long an endpoint may be away.

    Attributes:
        first: Seconds before the first repetition; each later wait is ``growth`` times as long.
        longest: Seconds that no wait exceeds, unless the endpoint asks for a longer one.
        growth: See ``first``.
        outage: Seconds without any answer after which one gives up.
        settling: Seconds after which a request whose answer was lost shows in the endpoint's lists.
        answer: Seconds for one request, an upload included.
        asked: Seconds that are waited at most because an endpoint asks for it; see `asked_wait`.
        to_the_end: A job is followed until it ends; else it is handed in, and taken up by a later run.
        stop: Set from another thread, it ends every wait.
    """

    first: float = 0.05
    longest: float = 20.0
    growth: float = 1.5
    outage: float = 24 * 3600.0
    settling: float = 5.0
    answer: float = 120.0
    asked: float = 600.0
    to_the_end: bool = True
    stop: threading.Event = field(default_factory=threading.Event)

    def waits(self) -> Iterator[None]:
        """Yield for ever, at growing intervals.

        Raises:
            Interrupted: When ``stop`` is set.
        """
        pause = self.first
        while True:
            yield
            self._rest(pause)
            pause = min(self.longest, pause * self.growth)

    def settle(self) -> None:
        """Wait until what an endpoint did with a lost request can be seen.

        Raises:
            Interrupted: When ``stop`` is set.
        """
        self._rest(self.settling)

    def _rest(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Interrupted

    def ask(self, request: Callable[[], Answer], endpoint: str, report: Report) -> Answer:
        """Make a request that may be repeated, until it is answered.

        Args:
            request: Makes it.
            endpoint: Its name, for messages.
            report: Is told when the endpoint goes away and comes back.

        Raises:
            EndpointError: If there was no answer for as long as ``outage``.
            Exception: What the request raises, if it is a refusal.
        """
        import openai

        began, away = time.monotonic(), False
        for _ in self.waits():
            try:
                answer = request()
            except openai.OpenAIError as error:
                if not passing(error):
                    raise
                if time.monotonic() - began > self.outage:
                    raise EndpointError(
                        f"endpoint {endpoint!r} gave no answer for {_spelt(self.outage)}: {error}"
                    ) from error
                if not away:
                    report(f"Endpoint {endpoint!r} does not answer ({error}); trying again until it does.")
                away = True
                self._rest(min(asked_wait(error) or 0.0, self.asked))
            else:
                if away:
                    report(f"Endpoint {endpoint!r} answers again.")
                return answer
        raise AssertionError  # waits() never ends


def _spelt(seconds: float) -> str:
    return f"{seconds:g} seconds" if seconds < 3600 else f"{seconds / 3600:g} hours"
