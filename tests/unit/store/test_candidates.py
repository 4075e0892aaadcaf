"""How many candidates a set of rows has judged: counted in the store, once for each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.unit.store.answers import ANSWER, answer

from pytest_finetune.store import Store, StoredText


def test_each_candidate_of_a_set_of_rows_has_the_number_it_got_first(path: Path) -> None:
    with Store.create(path) as store:
        assert [store.count_candidate("rows", name) for name in ("a", "b", "a", "c", "b")] == [1, 2, 1, 3, 2]
        assert store.count_candidate("other rows", "b") == 1
    with Store.create(path, text=StoredText.HASH) as store:
        assert [store.count_candidate("rows", name) for name in ("c", "d")] == [3, 4]


def test_processes_at_once_agree(path: Path) -> None:
    def count(worker: int) -> list[int]:
        with Store.open(path) as store:
            return [store.count_candidate("rows", name) for name in ("a", f"only of {worker}", "b")]

    with Store.create(path), ThreadPoolExecutor(8) as pool:
        counted = list(pool.map(count, range(8)))
    assert len({numbers[0] for numbers in counted}) == 1
    assert len({numbers[2] for numbers in counted}) == 1
    assert sorted({number for numbers in counted for number in numbers}) == list(range(1, 11))


def test_the_count_outlives_the_rows(path: Path) -> None:
    with Store.create(path) as store:
        answer(store, "k", ANSWER)
        store.count_candidate("rows", "a")
    with Store.create(path, oldest=10**12, limit=1) as store:
        assert store.count_candidate("rows", "b") == 2
