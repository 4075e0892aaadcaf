"""Recorded calls: found again by any process, until they are too old."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.unit.store.answers import sql

from pytest_finetune.core.records import Usage
from pytest_finetune.errors import EvidenceError
from pytest_finetune.store import Calls, Store


@pytest.fixture
def calls(path: Path) -> Iterator[Calls]:
    with Store.create(path), Calls(path) as opened:
        yield opened


def record(calls: Calls, key: str, response: str) -> None:
    calls.record(key, response, purpose="training", model="large", usage=Usage(5, 2, 0.5))


def test_what_is_recorded_is_recalled_by_every_later_process(path: Path) -> None:
    with Store.create(path), Calls(path) as calls:
        record(calls, "k", '{"a": 1}')
    with Store.create(path), Calls(path) as calls:
        assert (calls.recall("k"), calls.recall("other")) == ('{"a": 1}', None)
    found = sql(path, "SELECT purpose, model, usage FROM call")
    assert found == [("training", "large", '{"prompt_tokens": 5, "completion_tokens": 2, "cost": 0.5}')]


def test_the_first_answer_stays(calls: Calls) -> None:
    record(calls, "k", "1")
    record(calls, "k", "2")
    assert calls.recall("k") == "1"


def test_an_answer_that_is_too_old_is_replaced(path: Path) -> None:
    with Store.create(path), Calls(path) as calls:
        record(calls, "k", "1")
    sql(path, "UPDATE call SET asked_at = 1000")
    with Calls(path, oldest=1000.0) as calls:
        assert calls.recall("k") == "1"
    with Calls(path, oldest=1001.0) as calls:
        assert calls.recall("k") is None
        record(calls, "k", "2")
        assert calls.recall("k") == "2"


def test_many_threads_use_it(calls: Calls) -> None:
    def work(number: int) -> str | None:
        record(calls, f"k{number % 10}", f"{number % 10}")
        return calls.recall(f"k{number % 10}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(200))) == [str(number % 10) for number in range(200)]


def test_it_is_made_by_the_row_store_only(path: Path) -> None:
    with pytest.raises(EvidenceError, match="does not exist"):
        Calls(path)


def test_what_calls_use_on_average_is_told_by_purpose_and_model(calls: Calls) -> None:
    assert calls.mean_usage("judge", "big") is None
    for key, usage in {"a": Usage(100, 1, None), "b": Usage(300, 3, 0.1), "c": None}.items():
        calls.record(key, "{}", purpose="judge", model="big", usage=usage)
    calls.record("d", "{}", purpose="training", model="big", usage=Usage(9, 9, None))
    assert calls.mean_usage("judge", "big") == (200.0, 2.0)
    assert calls.mean_usage("judge", "small") is None
