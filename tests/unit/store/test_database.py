"""The file: what is wrong with it is said, and what is old is upgraded."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.unit.store.answers import ANSWER, answer, claim, read, sql

from pytest_finetune.core.records import Row, RowState, Usage
from pytest_finetune.errors import EvidenceError
from pytest_finetune.store import Calls, Store
from pytest_finetune.store.database import VERSION

SCHEMA_1 = Path(__file__).with_name("schema_1.sql")  # dumped from a file that version 0.1.0 has written
ANSWER_1 = Row(
    "r1",
    "baseline",
    0,
    RowState.SCORED,
    output='{"category":"grün"}',
    usage=Usage(12, 3, 0.25),
    latency=0.5,
    served_model="small-2026",
)
ANSWER_2 = Row(
    "r2",
    "finetuned",
    0,
    RowState.FORMAT_ERROR,
    output="I think it is green",
    usage=Usage(9, 4),
    latency=0.25,
    error="unparseable: the answer does not have the fields that the adapter asked for",
)


@pytest.mark.parametrize("damage", ["cut", "noise", "text"])
def test_a_damaged_file_is_named_with_the_way_out_and_left_alone(path: Path, damage: str) -> None:
    with Store.create(path) as store:
        claim(store, *[f"{number:064}" for number in range(500)], limit=500, cap=500)
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
        assert read(store, "k")["k"][0] == ANSWER
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


def test_a_file_of_schema_1_keeps_its_rows_and_gets_what_is_new(path: Path) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA_1.read_text(encoding="utf-8"))
    connection.close()
    keys = {"a" * 64: ["r1"], "b" * 64: ["r2"], "c" * 64: ["r3"]}
    with Store.create(path) as store:
        found = store.read(keys, "m1")
        assert store.scores(list(keys), "m1") == {("a" * 64, "r1"): 1.0}
        assert store.claim(keys, "m1", limit=9, cap=9)[0] == ["c" * 64]
    assert found == {
        "a" * 64: (ANSWER_1, 1_763_630_000.5),
        "b" * 64: (ANSWER_2, 1_763_630_000.5),
    }
    assert sql(path, "SELECT DISTINCT task, model FROM prediction") == [("", "")]
    assert sql(path, "PRAGMA user_version") == [(VERSION,)]
    Calls(path).close()
