"""From records to rows: every rule that a row, two rows, or a split can break is checked here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_finetune.core.fingerprint import canonical_json, digest, row_id
from pytest_finetune.dataset.rows import SPLITS, DataRow, Problem, Record
from pytest_finetune.dataset.splits import Placement, split_named
from pytest_finetune.errors import UsageError

_ROWS_PER_LABEL = 5  # a field with fewer rows for each of its values is an answer, not a label
_VALUES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Columns:
    """Which fields play which part; ``inputs`` is None where each record knows its own."""

    inputs: tuple[str, ...] | None
    label: str | None
    group: str | None
    split: str | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of reading a dataset once: rows that may be used, unless there are problems.

    Attributes:
        rows: All rows, each in its split.
        problems: What is wrong with them.
        empty_splits: What is wrong with the splits; a suite, of which all rows are asked, may be too small for them.
    """

    rows: tuple[DataRow, ...]
    problems: tuple[Problem, ...]
    empty_splits: tuple[Problem, ...]


def load(items: Iterable[Record | Problem], columns: Columns, placement: Placement, name: str) -> Loaded:
    """Turn what was read into rows, each in its split, and list everything that is wrong.

    Args:
        items: what a source read.
        columns: the parts that fields play.
        placement: how rows are drawn into splits where the data does not say.
        name: what stands for the whole dataset in messages.
    """
    rows: list[DataRow] = []
    problems: list[Problem] = []
    named = columns.split is not None
    for item in items:
        if isinstance(item, Record):
            named = named or item.split is not None
        for made in [item] if isinstance(item, Problem) else _made(item, columns, placement):
            if isinstance(made, Problem):
                problems.append(made)
            else:
                rows.append(made)
    if named and all(row.split != "dev" for row in rows):
        rows = placement.with_dev(rows)
    problems += _duplicates(rows) or _leaks(rows)
    empty = [] if problems else _empty_splits(rows, named, name)
    rows = rows if columns.label else _with_inferred_label(rows, columns)
    return Loaded(tuple(rows), tuple(problems), tuple(empty))


# --- one row ------------------------------------------------------------------------------------------------


def _made(record: Record, columns: Columns, placement: Placement) -> Sequence[DataRow | Problem]:
    inputs = columns.inputs or record.inputs
    if not inputs:
        return [_problem(record, "does not say which fields are inputs: call .with_inputs(…), or pass inputs=")]
    columns = replace(columns, inputs=inputs)
    problems = list(_field_problems(record, columns))
    if problems:
        return problems
    try:
        return [_row(record, columns, inputs, placement)]
    except UsageError as error:
        return list(_value_problems(record, columns)) or [_problem(record, str(error))]


def _field_problems(record: Record, columns: Columns) -> Iterator[Problem]:
    named = [name for name in (columns.label, columns.group, columns.split) if name is not None]
    for name in (*(columns.inputs or ()), *named):
        if name not in record.fields:
            yield _missing(record, name)
        elif name in named and record.fields[name] in (None, ""):
            yield _problem(record, f"field {name!r} has no value")


def _value_problems(record: Record, columns: Columns) -> Iterator[Problem]:
    for name, value in record.fields.items():
        try:
            split_named(value) if name == columns.split else canonical_json(value)
        except UsageError as error:
            yield _problem(record, f"field {name!r}: {error}")


def _row(record: Record, columns: Columns, inputs: tuple[str, ...], placement: Placement) -> DataRow:
    fields = {name: value for name, value in record.fields.items() if name != columns.split}
    input_id = digest({name: fields[name] for name in inputs})[:16]
    named = record.split if columns.split is None else record.fields[columns.split]
    row = DataRow(
        row_id=row_id(fields),
        input_id=input_id,
        fields=fields,
        inputs=inputs,
        split="",
        file=record.file,
        line=record.line,
        group=_as_text(fields[columns.group]) if columns.group else None,
        label=_as_text(fields[columns.label]) if columns.label else None,
    )
    return replace(row, split=placement.drawn(row.key) if named is None else split_named(named))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value).decode()


def _problem(row: Record | DataRow, message: str) -> Problem:
    return Problem(row.file, row.line, message)


def _missing(row: Record | DataRow, name: str) -> Problem:
    return _problem(row, f"field {name!r} is missing (there are: {', '.join(row.fields) or 'none'})")


# --- rows beside each other ---------------------------------------------------------------------------------


def _duplicates(rows: Iterable[DataRow]) -> list[Problem]:
    first: dict[str, DataRow] = {}
    return [
        _problem(row, f"is the same row as {first[row.row_id].where} (duplicate id {row.row_id}): keep one")
        for row in rows
        if first.setdefault(row.row_id, row) is not row
    ]


def _leaks(rows: Iterable[DataRow]) -> list[Problem]:
    """What is asked in one split must not be asked in another, nor a group be in two."""
    first: dict[tuple[str, str], DataRow] = {}
    problems: list[Problem] = []
    for row in rows:
        same_inputs = first.setdefault(("inputs", row.input_id), row)
        same_group = first.setdefault(("group", row.group), row) if row.group is not None else row
        if same_inputs.split != row.split:
            problems.append(_leak(row, "has the inputs of", same_inputs))
        elif same_group.split != row.split:
            problems.append(_leak(row, f"is of the same group ({row.group!r}) as", same_group))
    return problems


def _leak(row: DataRow, what: str, other: DataRow) -> Problem:
    return _problem(row, f"in {row.split}, {what} {other.where} in {other.split}: keep them in one split")


def _empty_splits(rows: Sequence[DataRow], named: bool, name: str) -> list[Problem]:
    advice = (
        "no row names it"
        if named
        else f"{len(rows)} rows are too few for it; add some, or choose its rows by split= or from_files"
    )
    present = {row.split for row in rows}
    return [Problem(name, None, f"the {split} split is empty: {advice}") for split in SPLITS if split not in present]


def _with_inferred_label(rows: list[DataRow], columns: Columns) -> list[DataRow]:
    """The one field beside the inputs is the label, if it has few values."""
    others = {name for row in rows for name in row.fields if name not in (*row.inputs, columns.group)}
    if len(others) != 1:
        return rows
    (name,) = others
    values = [row.fields.get(name) for row in rows]
    if not all(isinstance(value, str | int) for value in values) or len(set(values)) * _ROWS_PER_LABEL > len(rows):
        return rows
    return [replace(row, label=_as_text(row.fields[name])) for row in rows]


# --- what a task asks of its rows ---------------------------------------------------------------------------


def missing_fields(rows: Iterable[DataRow], fields: Iterable[str]) -> list[Problem]:
    """Rows in which one of ``fields`` is missing or null."""
    fields = tuple(fields)
    problems: list[Problem] = []
    for row in rows:
        problems += [_missing(row, name) for name in fields if name not in row.fields]
        problems += [
            _problem(row, f"field {name!r} has no value") for name in fields if row.fields.get(name, "") is None
        ]
    return problems


def literal_problems(rows: Iterable[DataRow], field: str, allowed: Sequence[object], name: str) -> list[Problem]:
    """Values outside of a Literal, and values of it that no training row shows; of a list, its items."""
    known = {canonical_json(value): value for value in allowed}
    unseen = dict(known)
    problems: list[Problem] = []
    for row in rows:
        for value in _items(row.fields.get(field)):
            form = canonical_json(value)
            if row.split == "train":
                unseen.pop(form, None)
            if form not in known and value is not None:
                problems.append(_problem(row, f"field {field!r}: {value!r} is not one of {_listed(allowed)}"))
    advice = "add such rows to it, or take the value out of the Literal"
    return problems + [
        Problem(name, None, f"field {field!r}: no row of the train split shows {value!r}; {advice}")
        for value in unseen.values()
    ]


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else [value]


def _listed(values: Sequence[object]) -> str:
    shown = ", ".join(map(repr, values[:_VALUES_SHOWN]))
    return shown if len(values) <= _VALUES_SHOWN else f"{shown}, … ({len(values)} values)"
