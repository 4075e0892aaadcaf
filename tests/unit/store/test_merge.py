"""Merging stores: the same result in any order, and nothing is lost or changed at the sources."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.store.answers import ANSWER, ERROR, answer, asked_at, claim, read, saying, sql

from pytest_finetune.core.records import Row, Usage
from pytest_finetune.errors import EvidenceError
from pytest_finetune.store import Calls, Store, StoredText
from pytest_finetune.store.merge import Merged, merge


@dataclass(frozen=True)
class Held:
    """What a store holds under one key."""

    row: Row
    asked_at: float
    scores: tuple[tuple[str, float], ...] = ()


def make(path: Path, held: Mapping[str, Held], text: StoredText = StoredText.FULL) -> Path:
    with Store.create(path, text=text) as store:
        for key, one in held.items():
            answer(store, key, one.row, dict(one.scores))
    asked_at(path, **{key: one.asked_at for key, one in held.items()})
    return path


def content(path: Path) -> list[list[tuple[object, ...]]]:
    queries = (
        "SELECT key, state, output, error, asked_at, task FROM prediction WHERE state IS NOT NULL ORDER BY key",
        "SELECT key, row_id, metric, value FROM score ORDER BY key, row_id, metric",
        "SELECT key, response, asked_at FROM call ORDER BY key",
        "SELECT rows, candidate, number FROM candidate ORDER BY rows, candidate",
    )
    return [sql(path, query) for query in queries]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


EARLY, LATE = Held(saying("early"), 1.0, (("m", 1.0),)), Held(saying("late"), 2.0, (("m", 0.0), ("n", 0.5)))
FAILED = Held(ERROR, 0.5)


def test_candidates_that_were_judged_anywhere_count(folder: Path) -> None:
    for name, candidates in (("one", "ab"), ("other", "cb")):
        with Store.create(folder / name) as store:
            for candidate in candidates:
                store.count_candidate("rows", candidate)
    merge(folder / "both", [folder / "one", folder / "other"])
    with Store.create(folder / "both") as store:
        assert [store.count_candidate("rows", candidate) for candidate in "abcd"] == [1, 2, 1, 4]


@pytest.mark.parametrize("swapped", [False, True])
def test_answers_stand_before_errors_and_the_earlier_before_the_later(folder: Path, swapped: bool) -> None:
    one = make(folder / "one", {"a": EARLY, "b": FAILED, "c": LATE})
    two = make(folder / "two", {"a": LATE, "b": LATE, "d": replace(EARLY, row=saying("same"))})
    into = folder / "project" / "rows.sqlite"
    merged = merge(into, [two, one] if swapped else [one, two])
    assert merged == Merged((3, 3), total=4, differed=1)
    rows, scores, *_ = content(into)
    assert [(key, output) for key, _, output, *_ in rows] == [
        ("a", "early"),
        ("b", "late"),
        ("c", "late"),
        ("d", "same"),
    ]
    of_late = [("m", 0.0), ("n", 0.5)]
    expected = [("a", ("m", 1.0)), *(("b", it) for it in of_late), *(("c", it) for it in of_late), ("d", ("m", 1.0))]
    assert [(key, (metric, value)) for key, _, metric, value in scores] == expected


def test_of_two_answers_at_once_the_smaller_is_kept(folder: Path) -> None:
    one = make(folder / "one", {"k": replace(EARLY, row=saying("b"))})
    two = make(folder / "two", {"k": replace(EARLY, row=saying("a"))})
    for order in ([one, two], [two, one]):
        merge(folder / "into", order)
        assert content(folder / "into")[0][0][2] == "a"


def test_two_copies_of_an_answer_bring_the_scores_of_both(folder: Path) -> None:
    one = make(folder / "one", {"k": EARLY})
    two = folder / "two"
    shutil.copy(one, two)
    with Store.create(two) as store:
        store.save_scores({("k", "r1"): 0.25, ("k", "r2"): 0.75}, "n")
    assert merge(one, [two]) == Merged((1,), total=1, differed=0)
    assert content(one)[1] == [("k", "r1", "m", 1.0), ("k", "r1", "n", 0.25), ("k", "r2", "n", 0.75)]


def test_what_is_being_asked_for_is_not_taken_and_is_answered_by_a_merge(folder: Path) -> None:
    one, two = make(folder / "one", {"a": EARLY}), make(folder / "two", {"b": EARLY})
    with Store.create(two) as busy, Store.create(one) as asking:
        claim(busy, "c")
        claim(asking, "b")
        merge(one, [two])
        assert list(read(asking, "a", "b", "c")) == ["a", "b"]
        assert claim(asking, "c") == ["c"]


def test_the_rows_of_a_process_that_was_killed_are_taken(folder: Path) -> None:
    source, killed = folder / "source", folder / "killed"
    with Store.create(source) as store:
        answer(store, "k", ANSWER)
        for suffix in ("", "-wal"):  # as they are, before the journal has been taken into the file
            shutil.copy(f"{source}{suffix}", f"{killed}{suffix}")
    assert merge(folder / "into", [killed]).total == 1


def test_recorded_calls_are_merged_and_the_earlier_is_kept(folder: Path) -> None:
    paths = [make(folder / name, {}) for name in ("one", "two")]
    for number, path in enumerate(paths):
        with Store.create(path), Calls(path) as calls:
            for key in ("both", f"only {number}"):
                calls.record(key, f"{number}", purpose="judge", model="large", usage=Usage(1, 1))
        sql(path, f"UPDATE call SET asked_at = {9 - number}")  # noqa: S608  # our own
    merge(folder / "into", paths)
    assert content(folder / "into")[2] == [("both", "1", 8.0), ("only 0", "0", 9.0), ("only 1", "1", 8.0)]


def test_where_hashes_are_kept_no_text_comes_in(folder: Path) -> None:
    one = make(folder / "one", {"k": EARLY})
    two = make(folder / "two", {"k": EARLY}, StoredText.HASH)
    merge(folder / "into" / "rows.sqlite", [one, two], text=StoredText.HASH)
    assert all(b"early" not in file.read_bytes() for file in (folder / "into").iterdir())
    with Store.open(folder / "into" / "rows.sqlite") as store:
        assert list(read(store, "k", metric="m")) == ["k"]


def test_of_two_copies_the_one_that_can_be_read_is_kept(folder: Path) -> None:
    paths = [make(folder / "full", {"k": EARLY}), make(folder / "hashed", {"k": EARLY}, StoredText.HASH)]
    for order in (paths, paths[::-1]):
        into = folder / f"into {order[0].name}"
        assert merge(into, order) == Merged((1, 1), total=1, differed=0)
        assert content(into)[0][0][2] == "early"


def test_sources_of_schema_1_are_read_and_no_source_is_changed(folder: Path) -> None:
    old = folder / "old"
    connection = sqlite3.connect(old)
    connection.executescript(Path(__file__).with_name("schema_1.sql").read_text(encoding="utf-8"))
    connection.close()
    new = make(folder / "new", {"k": EARLY})
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert merge(folder / "into" / "rows.sqlite", [old, new]) == Merged((2, 1), total=3, differed=0)
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before


BAD = {
    "damaged": (b"no rows " * 999, r"bad is damaged \(file is not a database\)"),
    "empty": (b"", r"bad is empty, so it is no row store: give another path"),
}


@pytest.mark.parametrize("kind", ["damaged", "empty", "newer", "foreign"])
def test_a_bad_source_is_named_before_anything_is_written(folder: Path, kind: str) -> None:
    good, bad = make(folder / "good", {"k": EARLY}), folder / "bad"
    message = {
        "newer": r"bad is of a newer pytest-finetune \(schema 99",
        "foreign": r"bad is a database of another program",
    }.get(kind) or BAD[kind][1]
    if kind == "newer":
        shutil.copy(good, bad)
        sql(bad, "PRAGMA user_version = 99")
    elif kind == "foreign":
        sql(bad, "CREATE TABLE customers (name TEXT)")
    else:
        bad.write_bytes(BAD[kind][0])
    into = make(folder / "into", {"a": LATE})
    before = into.read_bytes()
    with pytest.raises(EvidenceError, match=message):
        merge(into, [good, bad])
    with pytest.raises(EvidenceError, match=message):
        merge(folder / "new" / "rows.sqlite", [good, bad])
    assert into.read_bytes() == before
    assert not (folder / "new").exists()


rows = st.one_of(
    st.builds(lambda error: replace(ERROR, error=error), st.sampled_from(["server: a", "server: b"])),
    st.builds(saying, st.sampled_from(["a", "b", ""])),
)
scores = st.dictionaries(st.sampled_from("mn"), st.sampled_from([0.0, 0.5, 1.0])).map(lambda it: tuple(it.items()))
holdings = st.dictionaries(
    st.sampled_from("xy"), st.builds(Held, rows, st.sampled_from([1.0, 2.0]), scores), max_size=2
)


@settings(max_examples=15, deadline=None)
@given(st.lists(holdings, min_size=3, max_size=3))
def test_the_order_does_not_matter_and_neither_does_a_second_time(held: list[dict[str, Held]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [make(folder / f"{number}", one) for number, one in enumerate(held)]
        at_once = merge(folder / "at once", paths)
        expected = content(folder / "at once")
        for number, order in enumerate(itertools.permutations(paths)):
            into = folder / f"into {number}"
            assert merge(into, order).differed == at_once.differed
            assert content(into) == expected
            merge(into, order[:1])
            assert content(into) == expected
        for path in paths:
            merge(folder / "step by step", [path])
        assert content(folder / "step by step") == expected
