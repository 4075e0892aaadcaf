"""Reading records: from files of four formats, and from objects in memory."""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pytest_finetune.dataset.rows import Problem, Record
from pytest_finetune.errors import MissingExtra


class Source(Protocol):
    """Where records come from."""

    @property
    def name(self) -> str:
        """What stands for the whole of it in messages."""
        ...

    def read(self, base: Path) -> Iterator[Record | Problem]:
        """Read everything; what cannot be read is a problem, not an exception."""
        ...


@dataclass(frozen=True)
class Files:
    """Data files, each with the split that it stands for, if any; relative to ``base`` of ``read``."""

    paths: tuple[tuple[Path, str | None], ...]

    @property
    def name(self) -> str:
        """The files' paths."""
        return ", ".join(str(path) for path, _ in self.paths)

    def read(self, base: Path) -> Iterator[Record | Problem]:
        """Read the files one after another."""
        for path, split in self.paths:
            found = False
            for item in _read_file(base / path, str(path), split):
                found = True
                yield item
            if not found:
                yield Problem(str(path), None, "holds no rows")


@dataclass(frozen=True)
class Objects:
    """Mappings or ``dspy.Example`` objects, in one sequence or in one for each split."""

    objects: Iterable[Any] | Mapping[str, Iterable[Any]]
    name: str

    def read(self, base: Path) -> Iterator[Record | Problem]:  # noqa: ARG002  # nothing is on disk
        """Go through the objects."""
        if isinstance(self.objects, Mapping):
            for split, objects in self.objects.items():
                yield from _records(objects, f"{self.name}[{split!r}]", split)
        else:
            yield from _records(self.objects, self.name, None)


def _records(objects: Iterable[Any], name: str, split: str | None) -> Iterator[Record | Problem]:
    features = getattr(objects, "features", None) or {}
    for number, item in enumerate(objects, start=1):
        if hasattr(item, "with_inputs"):
            yield Record(dict(item.items()), name, number, split, _input_names(item))
        elif isinstance(item, Mapping):
            fields = {field: _label_name(features.get(field), value) for field, value in item.items()}
            yield Record(fields, name, number, split)
        else:
            yield Problem(name, number, f"is not a dspy.Example or a dict (found: {type(item).__name__})")


def _input_names(example: Any) -> tuple[str, ...] | None:
    try:
        return tuple(sorted(example.inputs().keys()))
    except ValueError:
        return None


def _label_name(feature: Any, value: Any) -> Any:
    """Hugging Face keeps a label as a number (-1: none) and its name aside; programs answer with names."""
    if not hasattr(feature, "int2str"):
        return value
    return feature.int2str(value) if value is not None and value >= 0 else None


def _read_file(path: Path, file: str, split: str | None) -> Iterator[Record | Problem]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        yield Problem(file, None, f"has an unknown ending: use one of {', '.join(_READERS)}")
        return
    try:
        for item in reader(path, file):
            yield item if isinstance(item, Problem) else Record(item[1], file, item[0], split)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        yield Problem(file, line, f"byte 0x{error.object[error.start]:02x} is not UTF-8: save the file as UTF-8")
    except OSError as error:
        yield Problem(file, None, f"cannot be read: {error.strerror} ({path})")


_Read = Iterator["tuple[int, Mapping[str, Any]] | Problem"]


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8-sig")


def _jsonl(path: Path, file: str) -> _Read:
    # Not splitlines(): it also splits at U+2028 and the like, which are allowed inside JSON strings.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            try:
                yield _object(_parse(line), file, number)
            except (ValueError, RecursionError) as error:
                yield Problem(file, number, f"is not JSON: {_reason(error)}")


def _json(path: Path, file: str) -> _Read:
    text = _text(path)
    try:
        items = _parse(text)
    except (ValueError, RecursionError) as error:
        line = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        yield Problem(file, None, f"is not JSON: {_reason(error)}{line} (one object a line? then name it .jsonl)")
        return
    if not isinstance(items, list):
        yield Problem(file, None, f"is not a list of objects (found: {type(items).__name__})")
        return
    for number, item in enumerate(items, start=1):
        yield _object(item, file, number)


def _parse(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant)


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return str(error) if isinstance(error, ValueError) else "nested too deeply"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _object(item: Any, file: str, number: int) -> tuple[int, Mapping[str, Any]] | Problem:
    if isinstance(item, dict):
        return number, item
    return Problem(file, number, f"is not an object of fields (found: {type(item).__name__})")


def _csv(path: Path, file: str) -> _Read:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            yield Problem(file, 1, f"the column {twice[0]!r} is there twice")
            return
        yield from _csv_rows(reader, header, file)
    except csv.Error as error:
        yield Problem(file, reader.line_num, f"is not CSV: {error}")


def _csv_rows(reader: Any, header: list[str], file: str) -> _Read:
    first = reader.line_num + 1
    for values in reader:
        if values and len(values) != len(header):
            counts = f"values: {len(values)}, columns: {len(header)}"
            yield Problem(file, first, f"{counts}; quote each value that holds a comma")
        elif values:
            yield first, dict(zip(header, values, strict=True))
        first = reader.line_num + 1


def _parquet(path: Path, file: str) -> _Read:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise MissingExtra(f"{file}: reading Parquet needs pyarrow; run `pip install pyarrow`") from None
    try:
        rows = parquet.read_table(path).to_pylist()
    except ValueError as error:
        yield Problem(file, None, f"is not Parquet: {error}")
        return
    yield from enumerate(rows, start=1)


_READERS: dict[str, Callable[[Path, str], _Read]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
