"""Threads that run jobs, and can be left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from pytest_finetune.evaluate.pool import Pool


def drained(pool: Pool) -> list[tuple[str, object]]:
    found = []
    end = time.monotonic() + 5
    while len(pool) and time.monotonic() < end:
        found += pool.results(0.05)
    return found


def two_results(number: int) -> Iterator[int]:
    yield number
    yield -number


def test_all_results_of_all_jobs_come_back_in_their_order() -> None:
    pool = Pool(3)
    for number in range(1, 20):
        pool.submit(str(number), two_results(number))
    found = drained(pool)
    pool.close()
    assert len(found) == 38
    for number in range(1, 20):
        assert [result for name, result in found if name == str(number)] == [number, -number]


def test_what_a_job_raises_comes_after_its_results() -> None:
    def fails() -> Iterator[int]:
        yield 1
        raise KeyError("no")

    pool = Pool(1)
    pool.submit("job", fails())
    pool.submit("next", iter([2]))
    (_, first), (_, error), last = drained(pool)
    pool.close()
    assert first == 1
    assert isinstance(error, KeyError)
    assert last == ("next", 2)


def test_a_job_that_is_left_behind_says_nothing_more_and_blocks_nobody() -> None:
    released = threading.Event()

    def late() -> Iterator[int]:
        released.wait(10)
        yield 1

    pool = Pool(1)
    pool.submit("late", late())
    pool.submit("next", iter([2]))
    assert pool.results(0.1) == []
    assert pool.overdue(0.05) == ["late"]
    assert drained(pool) == [("next", 2)]
    released.set()
    assert pool.results(0.2) == []
    assert len(pool) == 0
    pool.close()
