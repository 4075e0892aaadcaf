"""Retries and the limit of requests under way, without a network."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_finetune.calls.traffic import Stopped, Traffic
from pytest_finetune.evaluate import Retries


@given(
    attempt=st.integers(1, 20),
    attempts=st.integers(1, 20),
    first=st.floats(0.001, 10),
    longest=st.floats(0.001, 100),
)
def test_waits_double_with_jitter_up_to_the_longest(
    attempt: int, attempts: int, first: float, longest: float
) -> None:
    wait = Retries(attempts, first, longest).wait(attempt, None)
    if attempt >= attempts:
        assert wait is None
    else:
        full = min(longest, first * 2 ** (attempt - 1))
        assert wait is not None
        assert full / 2 <= wait <= full


@given(asked_for=st.floats(0, 120))
def test_what_the_endpoint_asks_for_is_waited_unless_it_is_too_long(asked_for: float) -> None:
    wait = Retries(longest=60).wait(1, asked_for)
    if asked_for > 60:
        assert wait is None
    else:
        assert wait is not None
        assert asked_for <= wait <= asked_for * 1.1


def test_the_limit_gives_way_once_a_second_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = Traffic(10)
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(5):
        traffic.refused()
    assert traffic.limit == 7
    now += 1.0
    traffic.refused()
    assert traffic.limit == 4
    for _ in range(8):
        traffic.answered()
    assert traffic.limit == 6
    for _ in range(100):
        traffic.answered()
    assert traffic.limit == 10


def test_the_limit_never_falls_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = Traffic(2)
    for second in range(20):
        monkeypatch.setattr(time, "monotonic", lambda now=second: 100.0 + now)
        traffic.refused()
    assert traffic.limit == 1


def test_no_more_are_under_way_than_the_limit() -> None:
    traffic, under_way, most = Traffic(3), [0], [0]
    lock = threading.Lock()

    def ask() -> None:
        with traffic.slot():
            with lock:
                under_way[0] += 1
                most[0] = max(most[0], under_way[0])
            time.sleep(0.01)
            with lock:
                under_way[0] -= 1

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [3]


def test_the_end_wakes_those_who_wait_and_tells_them_why() -> None:
    traffic, ended = Traffic(1), []

    def wait_for_a_slot() -> None:
        try:
            with traffic.slot():
                pass
        except Stopped as stop:
            ended.append(f"slot: {stop}")

    def pause() -> None:
        try:
            traffic.pause(60)
        except Stopped as stop:
            ended.append(f"pause: {stop}")

    with traffic.slot():
        threads = [threading.Thread(target=target) for target in (wait_for_a_slot, pause)]
        for thread in threads:
            thread.start()
        traffic.stop("$2 of $2 are spent")
        traffic.stop("closed")
        for thread in threads:
            thread.join(timeout=5)
    assert sorted(ended) == ["pause: $2 of $2 are spent", "slot: $2 of $2 are spent"]
