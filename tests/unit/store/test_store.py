"""The row store: what is kept, who may ask, and what happens to those who die."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_finetune.core.records import Row, RowState, Usage
from pytest_finetune.errors import EvidenceError
from pytest_finetune.store import Store
from pytest_finetune.store.database import VERSION

ANSWER = Row(
    "r1",
    "baseline",
    0,
    RowState.SCORED,
    output='{"colour":"grün"}',
    usage=Usage(12, 3, 0.25),
    latency=0.5,
    served_model="small-2026",
)
ERROR = Row("r2", "baseline", 0, RowState.ERROR, error="server: oh")
CLAIM_AND_DIE = """
import os, sys
from pathlib import Path
from pytest_finetune.store import Store
assert Store.open(Path(sys.argv[1])).claim(["k"], limit=1, cap=9)[0] == ["k"]
os._exit(9)
"""


def claim(store: Store, *keys: str, limit: int = 9, cap: int = 9) -> list[str]:
    return store.claim(list(keys), limit=limit, cap=cap)[0]


def answer(store: Store, key: str, row: Row) -> None:
    assert claim(store, key) == [key]
    store.save([(key, row, 1)])


def claim_and_die(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CLAIM_AND_DIE, str(path)], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (9, b"")


def sql(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    with connection:
        found = connection.execute(statement).fetchall()
    connection.close()
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "rows.sqlite"


def test_what_is_saved_is_read_by_every_later_process(path: Path) -> None:
    before = time.time()
    with Store.create(path) as store:
        answer(store, "k", ANSWER)
    assert [file.name for file in path.parent.iterdir()] == ["rows.sqlite"]
    with Store.open(path) as store:
        row, asked_at = store.read(["other", "k"])["k"]
    assert row == ANSWER
    assert before <= asked_at <= time.time()


def test_a_claimed_row_is_nobody_elses(path: Path) -> None:
    with Store.create(path) as one, Store.open(path) as other:
        assert claim(one, "a", "b", "c", limit=2) == ["a", "b"]
        assert claim(other, "a", "b", "c") == ["c"]
        one.save([("a", ANSWER, 1)])
        mine, done = other.claim(["a", "b"], limit=9, cap=9)
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
        one.save([("k", ANSWER, 1)])
        other.save([("k", ERROR, 1)])
        assert one.read(["k"])["k"][0] == ANSWER


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
        mine, done = store.claim(["k"], limit=9, cap=9)
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
        assert store.read(["k"])["k"][0] == ERROR
    with Store.open(path, since=start) as worker_of_the_same_run:
        assert claim(worker_of_the_same_run, "k") == []
    with Store.create(path) as store:
        assert store.read(["k"]) == {}
        answer(store, "k", ANSWER)
        assert store.read(["k"])["k"][0] == ANSWER


def test_an_answer_that_is_too_old_is_asked_again_and_its_scores_go(path: Path) -> None:
    with Store.create(path) as store:
        answer(store, "k", ANSWER)
        store.save_scores({("k", "r1"): 1.0}, "m")
    with Store.create(path, oldest=time.time() + 60) as store:
        assert store.read(["k"]) == {}
        assert claim(store, "k") == ["k"]
        assert store.scores(["k"], "m") == {}


def test_scores_are_kept_by_answer_row_and_metric(path: Path) -> None:
    with Store.create(path) as store:
        answer(store, "k", ANSWER)
        store.save_scores({("k", "r1"): 0.25, ("k", "r2"): 1.0}, "m")
        store.save_scores({("k", "r1"): 0.5}, "n")
        assert store.scores(["k", "other"], "m") == {("k", "r1"): 0.25, ("k", "r2"): 1.0}
        assert store.scores(["k"], "n") == {("k", "r1"): 0.5}
        assert store.read(["k"])["k"][0].score is None


def test_ten_thousand_keys_are_no_trouble(path: Path) -> None:
    keys = [f"{number:064}" for number in range(10_000)]
    with Store.create(path) as store:
        assert claim(store, *keys, limit=10_000, cap=10_000) == keys
        store.save([(key, ANSWER, 1) for key in keys])
        assert list(store.read(keys)) == keys


@pytest.mark.parametrize("damage", ["cut", "noise", "text"])
def test_a_damaged_file_is_named_with_the_way_out_and_left_alone(path: Path, damage: str) -> None:
    with Store.create(path) as store:
        store.claim([f"{number:064}" for number in range(500)], limit=500, cap=500)
    content = path.read_bytes()
    broken = {
        "cut": content[:6000],
        "noise": content[:4096] + b"\xa5" * (len(content) - 4096),
        "text": b"no rows " * 99,
    }
    path.write_bytes(broken[damage])
    with pytest.raises(EvidenceError, match=r"rows\.sqlite is damaged .*mv '.*rows\.sqlite' '.*\.damaged'$"):
        Store.create(path)
    assert path.read_bytes() == broken[damage]


def test_a_row_that_no_longer_makes_sense_is_damage(path: Path) -> None:
    with Store.create(path) as store:
        answer(store, "k", ANSWER)
        sql(path, "UPDATE prediction SET usage = '{'")
        with pytest.raises(EvidenceError, match=r"damaged \(row k: "):
            store.read(["k"])


def test_a_file_of_the_future_is_refused(path: Path) -> None:
    Store.create(path).close()
    sql(path, f"PRAGMA user_version = {VERSION + 1}")
    for way in (Store.create, Store.open):
        with pytest.raises(EvidenceError, match=rf"newer pytest-finetune \(schema {VERSION + 1}, this one knows"):
            way(path)


def test_a_file_of_the_past_is_upgraded_by_who_begins_and_by_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.create(path) as store:
        answer(store, "k", ANSWER)
    monkeypatch.setattr("pytest_finetune.store.database.VERSION", VERSION + 1)
    upgrades = "pytest_finetune.store.database.UPGRADES"
    monkeypatch.setattr(upgrades, ("",) * VERSION + ("ALTER TABLE prediction ADD COLUMN colour TEXT",))
    with pytest.raises(EvidenceError, match="older version"):
        Store.open(path)
    with Store.create(path) as store:
        assert store.read(["k"])["k"][0] == ANSWER
    assert sql(path, "SELECT colour FROM prediction") == [(None,)]


def test_a_database_of_another_program_is_not_touched(path: Path) -> None:
    path.parent.mkdir()
    sql(path, "CREATE TABLE customers (name TEXT)")
    with pytest.raises(EvidenceError, match="another program"):
        Store.create(path)
    assert sql(path, "SELECT name FROM sqlite_master") == [("customers",)]


def test_a_missing_file_is_not_made_by_a_worker(path: Path) -> None:
    with pytest.raises(EvidenceError, match="does not exist"):
        Store.open(path)
    assert not path.exists()


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EvidenceError, match="cannot be used"):
        Store.create(tmp_path / "file" / "rows.sqlite")


def test_leases_name_this_machine(path: Path) -> None:
    with Store.create(path) as store:
        claim(store, "k")
        [(owner,)] = sql(path, "SELECT owner FROM prediction")
    assert str(owner).startswith(f"{socket.gethostname()}:{os.getpid()}:")
