from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
import pytest
from syrupy.assertion import SnapshotAssertion

from pytest_finetune.dataset import SPLITS, DataRow, Dataset
from pytest_finetune.errors import DatasetError, MissingExtra

LABELS = ("billing", "technical")
ROWS = [{"text": f"ticket {number}", "category": LABELS[number % 2]} for number in range(200)]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def csv_text(rows: list[dict[str, Any]]) -> str:
    return "text,category\n" + "".join(f'"{row["text"]}",{row["category"]}\n' for row in rows)


def everything(dataset: Dataset) -> list[DataRow]:
    return [row for split in SPLITS for row in dataset.rows(split)]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def written(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return written


Write = Callable[[str, str | bytes], Path]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tickets.jsonl", lines(ROWS)),
        ("bom.jsonl", "\ufeff" + lines(ROWS)),
        ("windows.jsonl", lines(ROWS).replace("\n", "\r\n\r\n")),
        ("tickets.json", json.dumps(ROWS, indent=1)),
        ("tickets.csv", csv_text(ROWS)),
        ("bom.csv", "\ufeff" + csv_text(ROWS).replace("\n", "\r\n")),
    ],
)
def test_the_same_rows_from_every_format(write: Write, name: str, content: str) -> None:
    dataset = Dataset.from_file(write(name, content), inputs=["text"])
    assert sorted((row.fields["text"], row.fields["category"]) for row in everything(dataset)) == sorted(
        (row["text"], row["category"]) for row in ROWS
    )
    from_memory = Dataset.from_examples([dspy.Example(row).with_inputs("text") for row in ROWS])
    assert {split: dataset.fingerprint(split) for split in SPLITS} == {
        split: from_memory.fingerprint(split) for split in SPLITS
    }


def test_rows_of_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "tickets.parquet")
    dataset = Dataset.from_file("tickets.parquet", inputs=["text"]).resolve(tmp_path)
    assert {row.fields["text"] for row in everything(dataset)} == {row["text"] for row in ROWS}


def test_parquet_without_pyarrow_says_what_to_install(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    path = write("tickets.parquet", b"PAR1")
    with pytest.raises(MissingExtra, match=r"tickets.parquet: .* run `pip install pyarrow`"):
        Dataset.from_file(path, inputs=["text"]).rows("test")


def test_a_line_separator_inside_text_does_not_end_a_jsonl_row(write: Write) -> None:
    rows = [{"text": f"one\u2028two {number}", "category": "a"} for number in range(100)]
    path = write("t.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    assert len(everything(Dataset.from_file(path, inputs=["text"]))) == 100


def test_rows_know_where_they_stand(write: Write) -> None:
    content = "text,category\n" + "".join(f'"two\nlines {number}",a\n' for number in range(100))
    rows = everything(Dataset.from_file(write("t.csv", content), inputs=["text"]))
    assert {row.line for row in rows} == set(range(2, 202, 2))
    assert {row.where.rpartition("/")[2] for row in rows if row.line == 4} == {"t.csv:4"}


def test_paths_start_at_the_folder_of_the_tasks_file(write: Write, tmp_path: Path) -> None:
    write("tickets.jsonl", lines(ROWS))
    dataset = Dataset.from_file("tickets.jsonl", inputs=["text"]).resolve(tmp_path)
    assert {row.file for row in everything(dataset)} == {"tickets.jsonl"}


def test_making_a_dataset_reads_nothing() -> None:
    dataset = Dataset.from_file("no/such/file.jsonl", inputs=["text"])
    with pytest.raises(DatasetError, match=r"no/such/file.jsonl: cannot be read: No such file or directory"):
        dataset.rows("train")


def test_examples_say_their_own_inputs() -> None:
    examples = [dspy.Example(q=str(n), context="c", a="x").with_inputs("q", "context") for n in range(100)]
    dataset = Dataset.from_examples(examples)
    assert {row.inputs for row in everything(dataset)} == {("context", "q")}
    assert {row.where for row in everything(dataset)} == {f"examples, record {n}" for n in range(1, 101)}


def test_a_mapping_names_the_splits() -> None:
    data = {"train": ROWS[:100], "validation": ROWS[100:150], "test": ROWS[150:]}
    dataset = Dataset.from_huggingface(data, inputs=["text"])
    assert {split: len(dataset.rows(split)) for split in SPLITS} == {"train": 100, "dev": 50, "test": 50}


@dataclass
class ClassLabel:
    """Stands in for the ``datasets`` library's type of a labelled column."""

    names: tuple[str, ...]

    def int2str(self, value: int) -> str:
        return self.names[value]


class Table(list[dict[str, Any]]):
    """Stands in for ``datasets.Dataset``: rows, and the types of the columns."""

    features = {"category": ClassLabel(LABELS), "text": str}  # noqa: RUF012  # as the library has it


def test_class_labels_of_hugging_face_become_their_names() -> None:
    table = Table({"text": row["text"], "category": LABELS.index(row["category"])} for row in ROWS)
    dataset = Dataset.from_huggingface(table, inputs=["text"])
    assert dataset.fingerprint("test") == Dataset.from_examples(ROWS, inputs=["text"]).fingerprint("test")


def test_mappings_with_bad_keys(snapshot: SnapshotAssertion) -> None:
    data: dict[str, list[dict[Any, Any]]] = {"train": [{"text": "a", 1: "b"}], "unsupervised": [{"text": "b"}]}
    with pytest.raises(DatasetError) as caught:
        Dataset.from_huggingface(data, inputs=["text"]).rows("train")
    assert str(caught.value) == snapshot


def test_an_unlabelled_row_of_hugging_face_has_no_value() -> None:
    table = Table([{"text": "hi", "category": -1}])
    with pytest.raises(DatasetError, match="field 'category' has no value"):
        Dataset.from_huggingface(table, inputs=["text"], label="category").rows("test")


BROKEN: dict[str, str | bytes] = {
    "empty.jsonl": "",
    "empty.csv": "",
    "header.csv": "text,category\n",
    "broken.jsonl": '{"text": "a"\n[1]\n{"text": NaN}\n{"text": "\\ud800", "category": "a"}\n' + "[" * 100_000,
    "latin1.jsonl": lines(ROWS[:2]).encode() + '{"text": "café"}'.encode("latin-1"),
    "object.json": '{"rows": []}',
    "lines.json": '{"text": "a"}\n{"text": "b"}\n',
    "items.json": '[{"text": "a", "category": "x"}, 3]',
    "ragged.csv": 'text,category\n"a, b",x\na, b,x\nc\n',
    "open.csv": 'text,category\n"a,x\n',
    "twice.csv": "text,text\na,b\n",
    "rows.xlsx": "PK",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(write: Write, tmp_path: Path, name: str, snapshot: SnapshotAssertion) -> None:
    write(name, BROKEN[name])
    with pytest.raises(DatasetError) as caught:
        Dataset.from_file(name, inputs=["text"]).resolve(tmp_path).rows("train")
    assert str(caught.value) == snapshot


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    dataset = Dataset.from_files(train="train.jsonl", test="test.jsonl", inputs=["text"]).resolve(tmp_path)
    with pytest.raises(DatasetError) as caught:
        dataset.rows("train")
    assert str(caught.value).replace(str(tmp_path), "FOLDER") == snapshot


def test_objects_that_are_no_rows(snapshot: SnapshotAssertion) -> None:
    examples = [dspy.Example(text="a", category="b"), "text", dspy.Example(q=object()).with_inputs("q")]
    with pytest.raises(DatasetError) as caught:
        Dataset.from_examples(examples).rows("train")
    assert str(caught.value) == snapshot
