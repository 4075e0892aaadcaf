"""The size of the file: the oldest go, and nothing of this run."""

from __future__ import annotations

from pathlib import Path

from tests.unit.store.answers import METRIC, answer, answered, asked_at, claim, read, saying, sql

from pytest_finetune.core.records import Usage
from pytest_finetune.store import Calls, Store

LIMIT = 400_000
KEYS = [f"{number:03}" for number in range(100)]


def fill(path: Path) -> None:
    """A hundred old answers of 10 kB, the first the oldest."""
    with Store.create(path) as store:
        claim(store, *KEYS, limit=100, cap=100)
        store.save([answered(key, saying(key * 3300)) for key in KEYS])
        store.save_scores({(key, "r1"): 1.0 for key in KEYS}, METRIC)
    sql(path, "UPDATE prediction SET asked_at = 1000 + key")


def kept(path: Path) -> list[str]:
    return [str(key) for (key,) in sql(path, "SELECT key FROM prediction ORDER BY key")]


def test_the_oldest_go_until_the_file_is_well_within_the_limit(path: Path) -> None:
    fill(path)
    with Store.create(path, limit=LIMIT):
        pass
    left = kept(path)
    assert left == KEYS[-len(left) :]
    assert 0.7 * LIMIT < path.stat().st_size <= 0.8 * LIMIT
    assert sql(path, "SELECT count(*) FROM score") == [(len(left),)]
    assert [file.name for file in path.parent.iterdir()] == ["rows.sqlite"]


def test_a_file_within_the_limit_is_left_alone(path: Path) -> None:
    fill(path)
    with Store.create(path, limit=10**9):
        pass
    with Store.create(path):
        pass
    assert kept(path) == KEYS


def test_what_any_process_of_this_run_has_used_stays(path: Path) -> None:
    fill(path)
    with Store.create(path, limit=LIMIT) as controller:
        with Store.open(path) as worker:
            assert list(read(worker, *KEYS[:3])) == KEYS[:3]
            answer(worker, "new", saying("new"))
        assert list(read(controller, KEYS[5])) == [KEYS[5]]
    left = kept(path)
    assert left[:4] == [*KEYS[:3], KEYS[5]]
    assert left[-1] == "new"
    assert len(left) < 40


def test_what_an_earlier_run_has_used_goes(path: Path) -> None:
    fill(path)
    with Store.create(path) as store:
        read(store, KEYS[0])
    with Store.create(path, limit=LIMIT):
        pass
    assert KEYS[0] not in kept(path)
    assert sql(path, "SELECT * FROM used") == []


def test_all_of_this_run_stays_however_large_it_is(path: Path) -> None:
    with Store.create(path, limit=1) as store:
        for key in "abc":
            answer(store, key, saying(key * 9000))
    assert kept(path) == ["a", "b", "c"]


def test_recorded_calls_grow_old_as_answers_do(path: Path) -> None:
    fill(path)
    with Store.create(path), Calls(path) as calls:
        for key in ("old", "used"):
            calls.record(key, f'"{key * 9000}"', purpose="training", model="large", usage=Usage(1, 1))
    sql(path, "UPDATE call SET asked_at = 5")
    with Store.create(path, limit=LIMIT), Calls(path) as calls:
        assert calls.recall("used") is not None
        calls.record("new", '""', purpose="judge", model="large", usage=None)
    assert sql(path, "SELECT key FROM call ORDER BY key") == [("new",), ("used",)]


def test_what_another_run_is_asking_for_stays(path: Path) -> None:
    with Store.create(path) as busy:
        claim(busy, "k")
        asked_at(path, k=1.0)
        with Store.create(path, limit=1):
            pass
        busy.save([answered("k", saying("new"))])
        assert list(read(busy, "k")) == ["k"]
