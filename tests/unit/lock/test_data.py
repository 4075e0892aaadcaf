from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_finetune.core.fingerprint import data_fingerprint
from pytest_finetune.errors import LockError
from pytest_finetune.lock import Artifacts, Data, Entry
from pytest_finetune.lock.data import SPLITS, KnownRow, changes_between, get_data, put_data, row_changes

MakeEntry = Callable[..., Entry]


def row(text: str, label: str, split: str, line: int = 0) -> KnownRow:
    """A row by two hashes, which here tell what they are of."""
    where = f"tickets.jsonl:{line}" if line else ""
    return KnownRow(f"{text:0>16}", f"{text}{label:0>{16 - len(text)}}", split, where)


def pinned(rows: list[KnownRow]) -> Data:
    ids = {split: [one.row_id for one in rows if one.split == split] for split in SPLITS}
    return Data.model_validate(
        {split: data_fingerprint(ids[split]) for split in SPLITS}
        | {f"{name}_rows": len(ids[name]) for name in SPLITS}
    )


ROWS = [row(f"{number:x}", "a", SPLITS[number % 3]) for number in range(1, 10)]
DRAWN = st.dictionaries(
    st.integers(0, 30).map(lambda number: f"{number:016x}"),
    st.tuples(st.sampled_from(SPLITS), st.sets(st.integers(0, 2), min_size=1)),
).map(
    lambda drawn: [
        KnownRow(text, f"{label}{text[1:]}", split) for text, (split, labels) in drawn.items() for label in labels
    ]
)


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts.beside(tmp_path / "models.lock")


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ([], [], {}),
        ([row("1", "a", "test")], [row("1", "b", "test", 7)], {"data.test": "1 row changed (tickets.jsonl:7)"}),
        ([], [row("1", "a", "dev", 3)], {"data.dev": "1 row added (tickets.jsonl:3)"}),
        ([row("1", "a", "train"), row("2", "a", "train")], [], {"data.train": "2 rows removed"}),
        (
            [row("1", "a", "train")],
            [row("1", "a", "test", 4)],
            {
                "data.train": "1 row moved to test (tickets.jsonl:4)",
                "data.test": "1 row moved here from train (tickets.jsonl:4)",
            },
        ),
        (
            [row("1", "a", "train")],
            [row("1", "b", "dev", 4)],
            {
                "data.train": "1 row moved to dev (tickets.jsonl:4)",
                "data.dev": "1 row moved here from train (tickets.jsonl:4)",
            },
        ),
        (
            [row("1", "a", "test"), row("2", "a", "test")],
            [row("1", "a", "test", 1), row("2", "b", "test", 2), row("2", "c", "test", 3)],
            {"data.test": "1 row changed (tickets.jsonl:2), 1 added (tickets.jsonl:3)"},
        ),
    ],
    ids=["nothing", "a label", "a row more", "rows less", "a split", "a split and a label", "the same asked twice"],
)
def test_what_became_of_rows_is_told(before: list[KnownRow], now: list[KnownRow], said: dict[str, str]) -> None:
    assert row_changes(before, now) == said


def test_the_first_places_of_each_kind_are_named() -> None:
    before = [row(f"{number:x}", "a", "test") for number in range(8)]
    changed = [row(f"{number:x}", "b", "test", number) for number in range(1, 6)]
    added = [row("c", "a", "test", 9)]
    assert row_changes(before, [before[0], *changed, *added]) == {
        "data.test": "5 rows changed (tickets.jsonl:1, tickets.jsonl:2, tickets.jsonl:3, …),"
        " 1 added (tickets.jsonl:9), 2 removed"
    }


def test_other_fields_as_inputs_change_no_row() -> None:
    assert row_changes(ROWS, [one._replace(input_id="f" * 16) for one in ROWS]) == {}


@given(DRAWN, DRAWN)
def test_it_is_told_of_those_splits_that_differ_and_adds_up(before: list[KnownRow], now: list[KnownRow]) -> None:
    was, is_now = pinned(before), pinned(now)
    said = row_changes(before, now)
    assert {*said} == {f"data.{split}" for split in SPLITS if getattr(was, split) != getattr(is_now, split)}
    for split in SPLITS:
        counts = Counter[str]()
        for part in said[f"data.{split}"].split(", ") if f"data.{split}" in said else ():
            number, kind = part.replace(" rows ", " ").replace(" row ", " ").split(" ", 1)
            counts["more" if kind == "added" or "here" in kind else "same" if kind == "changed" else "less"] += int(
                number
            )
        rows = (getattr(was, f"{split}_rows"), getattr(is_now, f"{split}_rows"))
        assert rows[0] + counts["more"] - counts["less"] == rows[1]


def test_rows_are_kept_as_a_line_each_without_places(artifacts: Artifacts) -> None:
    ref = put_data(artifacts, [row("2", "b", "test", 9), row("1", "a", "train", 4)])
    assert artifacts.path(ref).read_text() == (
        "0000000000000001 100000000000000a train\n0000000000000002 200000000000000b test\n"
    )
    assert artifacts.path(ref).name.startswith("data-")


def test_rows_come_back_in_whatever_order_they_were(artifacts: Artifacts) -> None:
    ref = put_data(artifacts, ROWS)
    assert put_data(artifacts, ROWS[::-1]) == ref
    assert get_data(artifacts, ref, pinned(ROWS)) == tuple(ROWS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0000000000000001 100000000000000a train\nhello\n", ":2: is no row (two hashes and a split)"),
        ("0000000000000001 100000000000000a valid\n", ":1: is no row"),
        ("é", ":1: is no row"),
        ("", " has other rows of the train split than the lock pins: take back the committed lock"),
    ],
)
def test_a_file_that_is_not_of_this_data_is_refused(artifacts: Artifacts, text: str, problem: str) -> None:
    ref = artifacts.put_bytes("data", text.encode())
    with pytest.raises(LockError) as error:
        get_data(artifacts, ref, pinned(ROWS))
    assert f"{artifacts.path(ref)}{problem}" in str(error.value)


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_is_held_against_the_lock(artifacts: Artifacts, split: str) -> None:
    lost = next(one for one in ROWS if one.split == split)
    ref = put_data(artifacts, [one for one in ROWS if one is not lost])
    with pytest.raises(LockError, match=f"has other rows of the {split} split than the lock pins"):
        get_data(artifacts, ref, pinned(ROWS))


def test_of_two_versions_it_is_told_where_both_files_are_there(artifacts: Artifacts, entry: MakeEntry) -> None:
    def version(rows: list[KnownRow], ref: str | None) -> Entry:
        made = entry(data=pinned(rows))
        return made.model_copy(update={"artifacts": made.artifacts.model_copy(update={"data": ref})})

    old = version(ROWS, put_data(artifacts, ROWS))
    new = version(ROWS[1:], put_data(artifacts, ROWS[1:]))
    assert changes_between(artifacts, old, new) == {"data.dev": "1 row removed"}
    assert changes_between(artifacts, old, version(ROWS[1:], None)) == {}
    assert changes_between(artifacts, version(ROWS, None), new) == {}
    assert old.artifacts.data is not None
    artifacts.path(old.artifacts.data).unlink()
    assert changes_between(artifacts, old, new) == {}
