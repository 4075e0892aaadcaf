"""Threads that run jobs, and can be left behind.

``concurrent.futures`` waits for its threads when the interpreter ends, however long a request hangs: with it,
Ctrl-C could not stop within two seconds.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from pytest_finetune.calls.traffic import Stopped
from pytest_finetune.errors import UsageError

_END = object()


class Pool:
    """At most so many daemon threads; results come back in one queue, in the order in which they were made.

    A job is an iterator of results, each of which is there as soon as it is made.

    Args:
        threads: At most.
    """

    def __init__(self, threads: int) -> None:
        self._most = threads
        self._threads = 0
        self._jobs: queue.SimpleQueue[tuple[str, Iterator[Any]] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._started: dict[str, float] = {}  # the jobs that have not ended; 0.0 while they wait

    def __len__(self) -> int:
        """Jobs that have not ended."""
        return len(self._started)

    def submit(self, name: str, job: Iterator[Any]) -> None:
        """Run a job; its results, and the exception that it raised, come back under its name."""
        self._started[name] = 0.0
        self._jobs.put((name, job))
        self._start_threads()

    def results(self, timeout: float) -> list[tuple[str, Any]]:
        """Wait for a result, then give all that are there; none if none comes in time."""
        found: list[tuple[str, Any]] = []
        try:
            found.append(self._results.get(timeout=timeout))
            while True:
                found.append(self._results.get_nowait())
        except queue.Empty:
            return [(name, result) for name, result in found if self._is_news(name, result)]

    def overdue(self, seconds: float) -> list[str]:
        """Leave behind the jobs that have run longer than this, each with its thread; give their names."""
        before = time.monotonic() - seconds
        late = [name for name, start in self._started.items() if 0.0 < start < before]
        for name in late:
            del self._started[name]
        self._threads -= len(late)
        self._start_threads()
        return late

    def close(self) -> None:
        """Let the threads end as soon as they are free."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _is_news(self, name: str, result: Any) -> bool:
        """Whether the job was not left behind, and has not merely ended."""
        if result is _END:
            self._started.pop(name, None)
        return result is not _END and name in self._started

    def _start_threads(self) -> None:
        while self._threads < min(self._most, len(self._started)):
            self._threads += 1
            threading.Thread(target=self._work, name=f"finetune-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            name, job = item
            self._started[name] = time.monotonic()
            try:
                for result in job:
                    self._results.put((name, result))
            except (Exception, Stopped) as error:  # noqa: BLE001  # whoever wants the result decides
                self._results.put((name, error))
            except BaseException as error:  # noqa: BLE001  # sys.exit() or pytest.fail() in a program or a metric
                kind = type(error).__name__
                self._results.put(
                    (name, UsageError(f"{name}: raised {kind}, which no program or metric may: {error}"))
                )
            self._results.put((name, _END))
