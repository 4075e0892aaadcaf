"""The row store: what is kept, who may ask, and what happens to those who die."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.unit.store.answers import (
    ANSWER,
    ERROR,
    METRIC,
    answer,
    answered,
    asked_at,
    claim,
    read,
    saying,
    sql,
    wanted,
)

from pytest_finetune.core.records import Row, RowState
from pytest_finetune.errors import EvidenceError
from pytest_finetune.store import Store

CLAIM_AND_DIE = """
import os, sys
from pathlib import Path
from pytest_finetune.store import Store
assert Store.open(Path(sys.argv[1])).claim({"k": ["r1"]}, "m", limit=1, cap=9)[0] == ["k"]
os._exit(9)
"""


def claim_and_die(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CLAIM_AND_DIE, str(path)], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (9, b"")


def test_what_is_saved_is_read_by_every_later_process(path: Path) -> None:
    before = time.time()
    with Store.create(path) as store:
        answer(store, "k", ANSWER)
    assert [file.name for file in path.parent.iterdir()] == ["rows.sqlite"]
    with Store.open(path) as store:
        row, asked_at = read(store, "other", "k")["k"]
    assert row == ANSWER
    assert before <= asked_at <= time.time()


def test_a_claimed_row_is_nobody_elses(path: Path) -> None:
    with Store.create(path) as one, Store.open(path) as other:
        assert claim(one, "a", "b", "c", limit=2) == ["a", "b"]
        assert claim(other, "a", "b", "c") == ["c"]
        one.save([answered("a", ANSWER)])
        mine, done = other.claim(wanted("a", "b"), METRIC, limit=9, cap=9)
        assert (mine, list(done)) == ([], ["a"])
        one.release()
        assert claim(other, "a", "b") == ["b"]


def test_the_cap_holds_for_all_together(path: Path) -> None:
    with Store.create(path) as one, Store.open(path) as other:
        assert claim(one, "a", "b", "c", cap=2) == ["a", "b"]
        assert claim(other, "c", "d", cap=3) == ["c"]
        assert claim(other, "d", cap=3) == []


def test_a_lease_ends_unless_it_is_renewed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(path) as one, Store.open(path) as other:
        monkeypatch.setattr("pytest_finetune.store.store.LEASE", -1.0)
        claim(one, "a", "b")
        monkeypatch.undo()
        sql(path, "UPDATE prediction SET lease = lease + 60 WHERE key = 'b'")
        assert claim(other, "a", "b") == ["a"]
        one.renew()
        assert claim(other, "b") == []


def test_who_lost_a_lease_and_answers_first_is_heard(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(path) as one, Store.open(path) as other:
        monkeypatch.setattr("pytest_finetune.store.store.LEASE", -1.0)
        claim(one, "k")
        claim(other, "k")
        one.save([answered("k", ANSWER)])
        other.save([answered("k", ERROR)])
        assert read(one, "k")["k"][0] == ANSWER


def test_what_a_dead_process_held_is_free_at_once(path: Path) -> None:
    with Store.create(path) as store:
        claim_and_die(path)
        assert claim(store, "k") == ["k"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="cannot be seen on this system")
def test_what_a_killed_process_held_is_free_before_its_parent_looks(path: Path) -> None:
    with Store.create(path) as store:
        killed = subprocess.Popen([sys.executable, "-c", CLAIM_AND_DIE, str(path)], stdout=subprocess.PIPE)
        assert killed.stdout is not None
        assert killed.stdout.read() == b""  # it has ended
        deadline = time.monotonic() + 5
        while not claim(store, "k"):
            assert time.monotonic() < deadline
        assert killed.returncode is None
        killed.communicate()


def test_what_a_process_elsewhere_held_is_free_when_its_lease_ends(path: Path) -> None:
    with Store.create(path) as store:
        claim(store, "k")
        sql(path, "UPDATE prediction SET owner = 'far.example:1:aa'")
        assert claim(store, "k") == []
        sql(path, "UPDATE prediction SET lease = 0")
        assert claim(store, "k") == ["k"]


def test_a_row_that_kills_three_processes_is_an_error(path: Path) -> None:
    with Store.create(path) as store:
        for _ in range(3):
            claim_and_die(path)
        mine, done = store.claim(wanted("k"), METRIC, limit=9, cap=9)
        assert mine == []
        assert done["k"][0].state is RowState.ERROR
        assert done["k"][0].error == "crash: 3 processes in a row ended while they asked for this row"


def test_rows_given_back_kill_nobody(path: Path) -> None:
    with Store.create(path) as store:
        for _ in range(5):
            assert claim(store, "k") == ["k"]
            store.release()


def test_an_error_stands_for_this_run_and_is_asked_again_by_the_next(path: Path) -> None:
    start = time.time()
    with Store.create(path, since=start) as store:
        answer(store, "k", ERROR)
        assert claim(store, "k") == []
        assert read(store, "k")["k"][0] == ERROR
    with Store.open(path, since=start) as worker_of_the_same_run:
        assert claim(worker_of_the_same_run, "k") == []
    with Store.create(path) as store:
        assert read(store, "k") == {}
        answer(store, "k", ANSWER)
        assert read(store, "k")["k"][0] == ANSWER


@pytest.mark.parametrize(
    ("again", "scores"),
    [(saying("another"), {}), (ERROR, {}), (ANSWER, {("k", "r1"): 1.0})],
    ids=["new", "error", "same"],
)
def test_an_answer_that_is_too_old_is_asked_again_and_scored_again_if_it_is_another(
    path: Path, again: Row, scores: dict[tuple[str, str], float]
) -> None:
    with Store.create(path) as store:
        answer(store, "k", ANSWER, {METRIC: 1.0})
        asked_at(path, k=1000.0)
    with Store.create(path, oldest=1001.0) as store:
        assert read(store, "k") == {}
        answer(store, "k", again)
        assert store.scores(["k"], METRIC) == scores


def test_an_answer_that_came_too_late_takes_no_scores_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(path) as one, Store.open(path) as other:
        monkeypatch.setattr("pytest_finetune.store.store.LEASE", -1.0)
        claim(one, "k")
        answer(other, "k", ANSWER, {METRIC: 1.0})
        one.save([answered("k", saying("another"))])
        assert other.scores(["k"], METRIC) == {("k", "r1"): 1.0}


def test_the_task_and_the_model_of_an_answer_are_written_down(path: Path) -> None:
    with Store.create(path) as store:
        claim(store, "k")
        store.save([answered("k", ANSWER, "tickets", "ft:small")])
    assert sql(path, "SELECT task, model, attempts FROM prediction") == [("tickets", "ft:small", 1)]


def test_scores_are_kept_by_answer_row_and_metric(path: Path) -> None:
    with Store.create(path) as store:
        answer(store, "k", ANSWER)
        store.save_scores({("k", "r1"): 0.25, ("k", "r2"): 1.0}, "m")
        store.save_scores({("k", "r1"): 0.5}, "n")
        assert store.scores(["k", "other"], "m") == {("k", "r1"): 0.25, ("k", "r2"): 1.0}
        assert store.scores(["k"], "n") == {("k", "r1"): 0.5}
        assert read(store, "k")["k"][0].score is None


def test_ten_thousand_keys_are_no_trouble(path: Path) -> None:
    keys = [f"{number:064}" for number in range(10_000)]
    with Store.create(path) as store:
        assert claim(store, *keys, limit=10_000, cap=10_000) == keys
        store.save([answered(key, ANSWER) for key in keys])
        assert list(read(store, *keys)) == keys


def test_a_row_that_no_longer_makes_sense_is_damage(path: Path) -> None:
    with Store.create(path) as store:
        answer(store, "k", ANSWER)
        sql(path, "UPDATE prediction SET usage = '{'")
        with pytest.raises(EvidenceError, match=r"damaged \(row k: "):
            read(store, "k")


def test_leases_name_this_machine(path: Path) -> None:
    with Store.create(path) as store:
        claim(store, "k")
        [(owner,)] = sql(path, "SELECT owner FROM prediction")
    assert str(owner).startswith(f"{socket.gethostname()}:{os.getpid()}:")
