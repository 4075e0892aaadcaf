"""What is read (records), what comes of it (rows), and what is wrong with it (problems)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_finetune.errors import DatasetError

SPLITS = ("train", "dev", "test")
SHOWN = 10  # problems listed in one error; the rest is counted

_LINE_BY_LINE = (".jsonl", ".ndjson", ".csv")


def place(file: str, line: int | None) -> str:
    """Say where a row is: an editor follows ``file:line``, which only files read line by line have."""
    if line is None:
        return file
    return f"{file}:{line}" if file.lower().endswith(_LINE_BY_LINE) else f"{file}, record {line}"


@dataclass(frozen=True, slots=True)
class Record:
    """What one line of a file, or one object, holds, before anything is checked.

    Attributes:
        fields: names and values, as they were read.
        file: the file as the user wrote it, or what stands in for it.
        line: the line in a JSONL or CSV file, elsewhere the number of the record; both from 1.
        split: the split that the file or the key stands for.
        inputs: names of the input fields, where the record itself knows them.
    """

    fields: Mapping[str, Any]
    file: str
    line: int
    split: str | None = None
    inputs: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class DataRow:
    """One row of a dataset.

    Attributes:
        row_id: hash of all fields (but the ``split`` column): the row's identity wherever it is named.
        input_id: hash of the input fields alone: rows that ask the same have the same.
        fields: names and values.
        inputs: names of the input fields.
        split: ``"train"``, ``"dev"`` or ``"test"``.
        file: the file as the user wrote it, or what stands in for it.
        line: the line in a JSONL or CSV file, elsewhere the number of the record; both from 1.
        group: what must stay in one split; None where there are no groups.
        label: the label, as text; None where the dataset has none.
    """

    row_id: str
    input_id: str
    fields: Mapping[str, Any]
    inputs: tuple[str, ...]
    split: str
    file: str
    line: int
    group: str | None = None
    label: str | None = None

    @property
    def where(self) -> str:
        """The row's file and line."""
        return place(self.file, self.line)

    @property
    def key(self) -> str:
        """What decides the row's split: its group, or else what it asks."""
        return self.input_id if self.group is None else f"group {self.group}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where; ``line`` is None if it is wrong with the whole file."""

    file: str
    line: int | None
    message: str


def dataset_error(problems: Sequence[Problem]) -> DatasetError:
    """One error for everything that is wrong, in the order of the files' lines."""
    files = list(dict.fromkeys(problem.file for problem in problems))
    ordered = sorted(problems, key=lambda p: (files.index(p.file), p.line is None, p.line or 0))
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"  {place(problem.file, problem.line)}: {problem.message}" for problem in ordered[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  … and {len(problems) - SHOWN} more")
    return DatasetError("\n".join([f"The dataset cannot be used ({count}); correct it and run again:", *lines]))
