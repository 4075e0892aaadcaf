from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_finetune.dataset import SPLITS, DataRow, Dataset
from pytest_finetune.dataset.splits import Placement
from pytest_finetune.errors import DatasetError, UsageError

LABELS = ("billing", "technical", "account")


def made(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"text": f"ticket {n}", "category": LABELS[n % 3], "customer": f"customer {n % 97}"}
        for n in range(start, start + count)
    ]


def placed(rows: list[dict[str, Any]], **options: Any) -> dict[str, str]:
    dataset = Dataset.from_examples(rows, inputs=["text"], **options)
    return {row.row_id: split for split in SPLITS for row in dataset.rows(split)}


@settings(max_examples=30, deadline=None)
@given(more=st.integers(1, 300), options=st.sampled_from([{}, {"group": "customer"}, {"label": "category"}]))
def test_adding_rows_moves_none_of_the_others(more: int, options: dict[str, str]) -> None:
    before = placed(made(300), **options)
    after = placed(made(more, start=300) + made(300)[::-1], **options)
    assert {row_id: after[row_id] for row_id in before} == before


@settings(max_examples=30, deadline=None)
@given(salt=st.text(st.characters(codec="utf-8"), max_size=5))
def test_a_group_stays_together(salt: str) -> None:
    dataset = Dataset.from_examples(made(600), inputs=["text"], group="customer", salt=salt, shares=(1, 1, 1))
    splits = {(row.group, split) for split in SPLITS for row in dataset.rows(split)}
    assert len(splits) == 97


def test_a_corrected_label_moves_nothing() -> None:
    rows = made(300)
    corrected = [row | {"category": "account"} for row in rows]
    assert list(placed(corrected).values()) != []
    assert _by_text(corrected) == _by_text(rows)


def _by_text(rows: list[dict[str, Any]]) -> dict[str, str]:
    dataset = Dataset.from_examples(rows, inputs=["text"])
    return {row.fields["text"]: split for split in SPLITS for row in dataset.rows(split)}


@pytest.mark.parametrize("salt", ["", "a", "b"])
def test_shares_are_near_80_10_10_for_the_whole_and_for_each_label(salt: str) -> None:
    dataset = Dataset.from_examples(made(6000), inputs=["text"], label="category", salt=salt)
    counts = Counter((row.label, split) for split in SPLITS for row in dataset.rows(split))
    for label in LABELS:
        # Four standard deviations of a binomial with n = 2000, p = 0.1: 54.
        assert {split: counts[label, split] for split in SPLITS} == {
            "train": pytest.approx(1600, abs=72),
            "dev": pytest.approx(200, abs=54),
            "test": pytest.approx(200, abs=54),
        }


def test_shares_can_be_set() -> None:
    counts = Counter(placed(made(3000), shares=(2, 1, 1)).values())
    assert counts == {
        "train": pytest.approx(1500, abs=110),
        "dev": pytest.approx(750, abs=95),
        "test": pytest.approx(750, abs=95),
    }


@pytest.mark.parametrize("shares", [(80, 20), (80, 20, 0), (1, 1, -1), (1, 1, float("nan"))])
def test_impossible_shares_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="give three positive numbers for train, dev and test"):
        Dataset.from_file("tickets.jsonl", inputs=["text"], shares=shares)


def test_splits_never_change_between_releases() -> None:
    placement = Placement.of("salt", (80, 10, 10))
    drawn = [(key, placement.drawn(key)) for key in "abcdefghijklmnopqrst"]
    assert [pair for pair in drawn if pair[1] != "train"] == [
        ("d", "dev"),
        ("o", "test"),
        ("s", "test"),
        ("t", "dev"),
    ]


def test_another_salt_draws_other_splits_in_another_order() -> None:
    one, other = (Dataset.from_examples(made(300), inputs=["text"], salt=salt) for salt in ("", "x"))
    assert one.fingerprint("test") != other.fingerprint("test")


def test_rows_come_in_an_order_of_their_own() -> None:
    rows = made(300)
    one = Dataset.from_examples(rows, inputs=["text"])
    reordered = Dataset.from_examples(rows[::-1], inputs=["text"])
    order = [row.row_id for row in one.rows("test")]
    assert [row.row_id for row in reordered.rows("test")] == order
    assert [row.line for row in one.rows("test")] != sorted(row.line for row in one.rows("test"))
    assert reordered.fingerprint("test") == one.fingerprint("test")


def test_the_same_question_is_in_one_split_whatever_its_answers() -> None:
    rows = [row | {"category": label} for row in made(300) for label in ("yes", "no")]
    dataset = Dataset.from_examples(rows, inputs=["text"])
    found = {(row.input_id, split) for split in SPLITS for row in dataset.rows(split)}
    assert len(found) == 300


NAMES = ["train", "dev", "test", "Validation", " val "]


def test_a_column_names_the_splits_and_is_no_field() -> None:
    rows = [{"text": str(n), "category": "a", "part": NAMES[n % 5]} for n in range(50)]
    dataset = Dataset.from_examples(rows, inputs=["text"], split="part")
    assert {split: len(dataset.rows(split)) for split in SPLITS} == {"train": 10, "dev": 30, "test": 10}
    assert {tuple(row.fields) for row in dataset.rows("dev")} == {("text", "category")}


def test_without_a_dev_split_it_is_drawn_from_the_training_rows() -> None:
    rows = [row | {"part": "test" if n % 4 == 0 else "train"} for n, row in enumerate(made(3000))]
    dataset = Dataset.from_examples(rows, inputs=["text"], split="part")
    assert len(dataset.rows("test")) == 750
    assert len(dataset.rows("dev")) == pytest.approx(250, abs=60)


def _groups(rows: tuple[DataRow, ...]) -> set[str | None]:
    return {row.group for row in rows}


def test_a_drawn_dev_split_keeps_groups_together() -> None:
    rows = [row | {"part": "test" if n >= 2910 else "train"} for n, row in enumerate(made(2910))]
    rows += [{"text": f"new {n}", "category": "billing", "customer": "new", "part": "test"} for n in range(9)]
    dataset = Dataset.from_examples(rows, inputs=["text"], split="part", group="customer")
    assert _groups(dataset.rows("train")) & _groups(dataset.rows("dev")) == set()


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(UsageError, match="'valid' is not a split: use train, dev, test or all"):
        Dataset.from_examples(made(10), inputs=["text"]).rows("valid")


def test_too_few_rows_for_a_split_is_an_error() -> None:
    with pytest.raises(DatasetError, match="split is empty: 3 rows are too few for it"):
        placed(made(3))
