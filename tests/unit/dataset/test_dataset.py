from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dspy
import pytest
from syrupy.assertion import SnapshotAssertion

from pytest_finetune.dataset import SPLITS, Dataset
from pytest_finetune.errors import DatasetError, UsageError

LABELS = ["billing", "technical", "account"]


def made(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"text": f"ticket {n}", "category": LABELS[n % 3]} for n in range(start, start + count)]


def write(folder: Path, name: str, rows: list[Any]) -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def test_importing_datasets_and_metrics_loads_nothing_heavy() -> None:
    code = (
        "import sys, pytest_finetune.dataset, pytest_finetune.metrics\n"
        "pytest_finetune.dataset.Dataset.from_file('x.jsonl', inputs=['text'])\n"
        "print([name for name in ('dspy', 'openai', 'pydantic', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_splits_are_dspy_examples() -> None:
    dataset = Dataset.from_examples(made(300), inputs=["text"])
    first = dataset.rows("test")[0]
    example = dataset.test[0]
    assert isinstance(example, dspy.Example)
    assert example.toDict() == dict(first.fields)
    assert example.inputs().toDict() == {"text": first.fields["text"]}
    assert example.labels().toDict() == {"category": first.fields["category"]}
    assert [len(part) for part in (dataset.train, dataset.dev, dataset.test)] == [
        len(dataset.rows(split)) for split in SPLITS
    ]


def test_fields_may_bear_the_names_of_an_examples_own_parts() -> None:
    rows = [{"base": f"b{n}", "labels": "l", "self": "s"} for n in range(100)]
    dataset = Dataset.from_examples(rows, inputs=["base"])
    assert dataset.test[0]["base"] == dataset.rows("test")[0].fields["base"]


@pytest.mark.parametrize(
    ("rows", "options", "expected"),
    [
        (made(300), {}, set(LABELS)),
        (made(300), {"label": "category"}, set(LABELS)),
        ([row | {"id": n} for n, row in enumerate(made(300))], {}, {None}),
        ([{"text": f"q{n}", "answer": f"a{n}"} for n in range(300)], {}, {None}),
        ([{"text": f"q{n}", "stars": n % 2} for n in range(300)], {}, {"0", "1"}),
    ],
    ids=["the only other field", "named", "two other fields", "many values", "numbers"],
)
def test_labels(rows: list[dict[str, Any]], options: dict[str, Any], expected: set[str | None]) -> None:
    dataset = Dataset.from_examples(rows, inputs=["text"], **options)
    assert {row.label for split in SPLITS for row in dataset.rows(split)} == expected


def test_a_fingerprint_tells_every_change_of_a_split(tmp_path: Path) -> None:
    def prints(rows: list[dict[str, Any]]) -> dict[str, str]:
        dataset = Dataset.from_file(write(tmp_path, "t.jsonl", rows), inputs=["text"]).resolve(tmp_path)
        return {split: dataset.fingerprint(split) for split in SPLITS}

    rows = made(300)
    before = prints(rows)
    assert prints(rows[::-1]) == before
    corrected = [row | {"category": "account"} if row["text"] == "ticket 1" else row for row in rows]
    assert sum(before[split] != prints(corrected)[split] for split in SPLITS) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": "text"}, r"inputs='text': give a list of field names"),
        ({"inputs": []}, r"inputs=\[\]: give a list of field names"),
        ({"inputs": ["text"], "label": "text"}, "field 'text' is named twice"),
        ({"inputs": ["text"], "split": "text"}, "field 'text' is named twice"),
        ({"inputs": ["text"], "label": "x", "group": "x"}, "field 'x' is named twice"),
    ],
)
def test_impossible_columns_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Dataset.from_file("tickets.jsonl", **options)


def test_bad_rows_are_listed_up_to_ten(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    rows = [
        {"category": "billing", "customer": "c", "part": "train"},
        {"text": "a", "category": None, "customer": "", "part": "train"},
        {"text": "b", "category": "billing", "customer": "c", "part": "holdout"},
        {"text": "c", "category": "billing", "customer": "c", "part": 3},
        *([{"text": "d"}] * 10),
    ]
    dataset = Dataset.from_file(
        write(tmp_path, "tickets.jsonl", rows),
        inputs=["text"],
        label="category",
        group="customer",
        split="part",
    )
    with pytest.raises(DatasetError) as caught:
        dataset.resolve(tmp_path).check()
    assert str(caught.value) == snapshot


def test_duplicates_name_both_lines(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    name = write(tmp_path, "tickets.jsonl", [*made(20), *made(2)])
    with pytest.raises(DatasetError) as caught:
        Dataset.from_file(name, inputs=["text"]).resolve(tmp_path).rows("train")
    assert str(caught.value) == snapshot


def test_rows_shared_by_two_files_are_leaks(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    test = [{"text": "ticket 3", "category": "other"}, {"text": "new", "category": "billing"}]
    dataset = Dataset.from_files(
        train=write(tmp_path, "train.jsonl", made(20)),
        dev=write(tmp_path, "dev.jsonl", made(20, start=20)),
        test=write(tmp_path, "test.jsonl", test),
        inputs=["text"],
    )
    with pytest.raises(DatasetError) as caught:
        dataset.resolve(tmp_path).rows("test")
    assert str(caught.value) == snapshot


def test_a_group_in_two_named_splits_is_a_leak(snapshot: SnapshotAssertion) -> None:
    rows = [
        {"text": f"{part} {n}", "category": "a", "customer": f"{part} {n % 5}", "part": part}
        for part in SPLITS
        for n in range(10)
    ]
    rows[-1]["customer"] = "train 0"
    dataset = Dataset.from_examples(rows, inputs=["text"], group="customer", split="part")
    with pytest.raises(DatasetError) as caught:
        dataset.rows("test")
    assert str(caught.value) == snapshot


def test_a_split_that_no_row_names_is_an_error(snapshot: SnapshotAssertion) -> None:
    rows = [row | {"part": "train"} for row in made(100)]
    with pytest.raises(DatasetError) as caught:
        Dataset.from_examples(rows, inputs=["text"], split="part").rows("test")
    assert str(caught.value) == snapshot


def test_outputs_of_the_program_must_be_there(snapshot: SnapshotAssertion) -> None:
    rows = made(40)
    rows[3]["category"] = None
    dataset = Dataset.from_examples(rows, inputs=["text"])
    dataset.rows("train")
    with pytest.raises(DatasetError) as caught:
        dataset.check(fields=["category", "priority"])
    assert str(caught.value) == snapshot


def test_values_outside_of_a_literal_and_values_never_trained(snapshot: SnapshotAssertion) -> None:
    rows = [*made(100), {"text": "odd", "category": "Billing"}, {"text": "odder", "category": 3}]
    dataset = Dataset.from_examples(rows, inputs=["text"])
    with pytest.raises(DatasetError) as caught:
        dataset.check(literals={"category": [*LABELS, "refund"]})
    assert str(caught.value) == snapshot


def test_a_literal_that_only_the_test_split_shows_is_an_error() -> None:
    rows = [row | {"part": SPLITS[n % 3]} for n, row in enumerate(made(30))]
    rows.append({"text": "rare", "category": "refund", "part": "test"})
    dataset = Dataset.from_examples(rows, inputs=["text"], split="part")
    with pytest.raises(DatasetError, match="no row of the train split shows 'refund'"):
        dataset.check(literals={"category": [*LABELS, "refund"]})


def test_literals_in_lists_are_checked_item_by_item() -> None:
    rows = [{"text": str(n), "tags": ["new", "urgent"] if n % 2 else []} for n in range(100)]
    dataset = Dataset.from_examples(rows, inputs=["text"])
    dataset.check(literals={"tags": ["new", "urgent"]})
    with pytest.raises(DatasetError, match="'urgent' is not one of 'new'"):
        dataset.check(literals={"tags": ["new"]})


def test_good_data_passes() -> None:
    dataset = Dataset.from_examples(made(100), inputs=["text"])
    dataset.check(fields=["category"], literals={"category": LABELS})
