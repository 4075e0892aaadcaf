"""Hashes in the place of texts: nothing can be read in the file, and what is scored is not asked again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.store.answers import ANSWER, ERROR, METRIC, UNREAD, answer, answered, claim, read, saying, sql, wanted

from pytest_finetune.core.records import Row, Usage
from pytest_finetune.store import Calls, Store, StoredText
from pytest_finetune.store.database import join

HASH = StoredText.HASH
WORDS = "the patient's name"
HASHED = "sha256:" + hashlib.sha256(WORDS.encode()).hexdigest()


@pytest.fixture
def hashing(path: Path) -> Iterator[Store]:
    with Store.create(path, text=HASH) as store:
        yield store


def in_the_files(path: Path, text: str = WORDS) -> list[str]:
    """The names of the files that hold a text: the store and the journals beside it."""
    return [file.name for file in path.parent.iterdir() if text.encode() in file.read_bytes()]


def test_a_hash_is_all_that_is_kept_of_an_answer_and_the_class_all_of_an_error(hashing: Store, path: Path) -> None:
    answer(hashing, "a", saying(WORDS), {METRIC: 1.0})
    answer(hashing, "b", saying(WORDS), {METRIC: 1.0})
    answer(hashing, "c", replace(UNREAD, output=WORDS, error=f"refused: {WORDS}"))
    answer(hashing, "d", replace(ERROR, error=f"server: {WORDS}"))
    found = {key: (row.output, row.error) for key, (row, _) in read(hashing, "a", "b", "c", "d").items()}
    assert found == {
        "a": (HASHED, None),
        "b": (HASHED, None),
        "c": (HASHED, "refused"),
        "d": (None, "server"),
    }
    assert in_the_files(path) == []


def test_a_row_is_kept_in_other_files_as_it_is_in_this_one(path: Path, hashing: Store) -> None:
    row = replace(UNREAD, output=WORDS)
    kept = hashing.kept(row)
    assert (kept.output, kept.error) == (HASHED, "refused")
    assert hashing.kept(kept) == kept
    with Store.create(path) as store:
        assert store.kept(row) is row


def test_a_hash_is_given_only_where_all_its_scores_are(hashing: Store) -> None:
    answer(hashing, "k", ANSWER, {METRIC: 1.0})
    assert list(read(hashing, "k")) == ["k"]
    assert read(hashing, "k", metric="other") == {}
    assert hashing.read({"k": ["r1", "the same input, another label"]}, METRIC) == {}
    assert claim(hashing, "k") == []
    assert claim(hashing, "k", metric="other") == ["k"]


def test_an_answer_that_comes_again_keeps_the_scores_of_all_metrics(hashing: Store) -> None:
    answer(hashing, "k", ANSWER, {METRIC: 1.0})
    claim(hashing, "k", metric="other")
    hashing.save([answered("k", ANSWER)])
    hashing.save_scores({("k", "r1"): 0.5}, "other")
    assert list(read(hashing, "k")) == list(read(hashing, "k", metric="other")) == ["k"]


def test_an_answer_is_nobody_elses_until_it_is_scored(hashing: Store, path: Path) -> None:
    with Store.open(path, text=HASH) as other:
        answer(hashing, "k", ANSWER)
        assert other.claim(wanted("k"), METRIC, limit=9, cap=9) == ([], {})
        hashing.save_scores({("k", "r1"): 1.0}, METRIC)
        assert list(other.claim(wanted("k"), METRIC, limit=9, cap=9)[1]) == ["k"]


def test_an_answer_that_was_never_scored_is_asked_again(hashing: Store, path: Path) -> None:
    answer(hashing, "k", ANSWER)
    hashing.release()
    with Store.open(path, text=HASH) as other:
        assert claim(other, "k") == ["k"]
        hashing.save_scores({("k", "r1"): 1.0}, METRIC)  # too late
        assert read(other, "k") == {}


def test_the_texts_of_a_full_store_are_gone_when_it_is_opened_for_hashes(path: Path) -> None:
    filler = [f"{number:064}" for number in range(40)]
    with Store.create(path) as store, Calls(path) as calls:
        answer(store, "k", saying(WORDS), {METRIC: 1.0})
        claim(store, *filler, limit=99, cap=99)
        store.save([answered(key, replace(UNREAD, output=WORDS * 200, error=f"refused: {WORDS}")) for key in filler])
        calls.record("c", f'"{WORDS}"', purpose="judge", model="large", usage=Usage(1, 1))
    with Store.create(path, oldest=1e12) as store:  # which leaves the old answer in a part of a page
        answer(store, filler[0], ERROR)
    assert in_the_files(path) == ["rows.sqlite"]
    with Store.create(path, text=HASH) as store:
        assert in_the_files(path) == []
        assert read(store, "k")["k"][0].output == HASHED
        assert store.scores(["k"], METRIC) == {("k", "r1"): 1.0}
    assert sql(path, "SELECT count(*) FROM call") == [(0,)]
    assert sql(path, "SELECT DISTINCT error FROM prediction WHERE state = 'format_error'") == [("refused",)]


def test_what_is_replaced_is_overwritten_at_once(path: Path) -> None:
    with Store.create(path) as store:
        answer(store, "k", saying(WORDS * 2000))
    connection = join(path)
    connection.execute("UPDATE prediction SET output = ''")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert in_the_files(path) == []
    connection.close()


def test_calls_are_neither_recorded_nor_recalled(hashing: Store, path: Path) -> None:
    with Calls(path, text=HASH) as calls:
        calls.record("c", f'"{WORDS}"', purpose="judge", model="large", usage=None)
        assert calls.recall("c") is None
    assert sql(path, "SELECT count(*) FROM call") == [(0,)]
    assert claim(hashing, "k") == ["k"]


@pytest.mark.parametrize("output", ["", "sha256:", "half a \ud83d", HASHED[:-1]])
def test_every_text_is_hashed_once(hashing: Store, output: str) -> None:
    row: Row = hashing.kept(saying(output))
    assert row.output == "sha256:" + hashlib.sha256(output.encode("utf-8", "surrogatepass")).hexdigest()
    assert hashing.kept(row) == row
