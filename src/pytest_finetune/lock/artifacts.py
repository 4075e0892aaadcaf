"""Files beside the lock, named by what they hold: program states, rows, training data.

A file's name is its kind and the beginning of its SHA-256; the lock holds the whole of it, and what is read is held
against it. Files are input from others: sizes are bounded, links are not followed, and nothing is run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pytest_finetune.core.fingerprint import canonical_json, plain
from pytest_finetune.core.records import Row, RowState, Usage
from pytest_finetune.core.shell import typed
from pytest_finetune.core.text import encoded
from pytest_finetune.errors import LockError
from pytest_finetune.lock.model import Lock
from pytest_finetune.lock.writing import write_whole

Kind = Literal["program", "rows", "training", "data"]
_SUFFIXES: dict[Kind, str] = {"program": ".json", "rows": ".jsonl", "training": ".jsonl", "data": ".txt"}
_REF = re.compile(r"sha256:([0-9a-f]{64})")
_LARGEST = 90 << 20  # bytes; GitHub refuses files of 100 MB
_IN_THE_NAME = 16  # hexadecimal digits: two artifacts of a kind share them with a chance of 2e-19
_BESIDE = ".d"
_GUARD = ".writing"
_HOUSEKEEPING = {
    ".gitattributes": "# The lock knows these files by their bytes.\n* -text\n",
    ".gitignore": f"{_GUARD}\n*.new\n",
}


@dataclass(frozen=True, slots=True)
class Artifacts:
    """A folder of artifacts.

    Attributes:
        folder: where they are; made when the first is put there.
        largest: the most bytes that an artifact may have.
    """

    folder: Path
    largest: int = _LARGEST

    @classmethod
    def beside(cls, lock_path: Path) -> Artifacts:
        """Give the artifacts of a lock: ``models.lock`` has them in ``models.lock.d``."""
        return cls(lock_path.with_name(f"{lock_path.name}{_BESIDE}"))

    @property
    def repair(self) -> str:
        """What to do where the lock and its files do not fit each other."""
        lock = typed(self.folder.with_name(self.folder.name.removesuffix(_BESIDE)))
        return (
            f"take back the committed lock and its folder with `git checkout -- {lock} {typed(self.folder)}`, or"
            " build again with `pytest --ft-retrain`"
        )

    def put_json(self, kind: Kind, value: object) -> str:
        """Keep a value as JSON that reviewers can read; give its reference, ``sha256:…``."""
        text = json.dumps(plain(value), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
        return self.put_bytes(kind, encoded(f"{text}\n"))

    def put_bytes(self, kind: Kind, data: bytes) -> str:
        """Keep bytes; give their reference, ``sha256:…``.

        Args:
            kind: what it is, for the file's name.
            data: what to keep.

        Raises:
            LockError: If it is too large, or cannot be written.
        """
        ref = f"sha256:{hashlib.sha256(data).hexdigest()}"
        path = self._named(kind, ref)
        if len(data) > self.largest:
            raise LockError(
                f"{path} would have {len(data):,} bytes, and an artifact may have {self.largest:,}: "
                "use fewer or shorter rows"
            )
        try:
            self._make_folder()
            if not path.is_file() or path.read_bytes() != data:
                _write(path, data)
        except OSError as error:
            raise LockError(
                f"{path} cannot be written: {error.strerror}: see to it that its folder can be written"
            ) from error
        return ref

    def get_json(self, ref: str) -> Any:
        """Give the value that ``put_json`` kept.

        Raises:
            LockError: As ``get_bytes``, and if it is not JSON.
        """
        try:
            return json.loads(self.get_bytes(ref))
        except (ValueError, RecursionError):
            raise LockError(f"{self.path(ref)} is not JSON: {self.repair}") from None

    def get_bytes(self, ref: str) -> bytes:
        """Give what ``put_bytes`` kept.

        Raises:
            LockError: If the file is missing, too large, a link, or not what the lock knows.
        """
        path = self.path(ref)
        try:
            self._refuse_link(path)
            if path.stat().st_size > self.largest:
                raise LockError(
                    f"{path} has more than {self.largest:,} bytes, the most for an artifact: {self.repair}"
                )
            data = path.read_bytes()
        except OSError as error:
            raise LockError(f"{path} cannot be read: {error.strerror}: {self.repair}") from error
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != ref:
            raise LockError(f"{path} was changed: its SHA-256 is not the one in the lock: {self.repair}")
        return data

    def path(self, ref: str) -> Path:
        """Give the file of a reference.

        Raises:
            LockError: If there is none, or the reference is none.
        """
        self._refuse_link(self.folder)
        candidates = [self._named(kind, ref) for kind in _SUFFIXES]
        for path in candidates:
            if path.is_symlink() or path.exists():
                return path
        raise LockError(f"{self.folder} has no file for {ref}: {self.repair}")

    def put_rows(self, rows: Iterable[Row]) -> str:
        """Keep the rows of one stage, sorted by row and repeat; give their reference.

        Latency, the id of the served model and the text of errors are left out: a second run gives others, and the
        same answers are to be the same file.
        """
        ordered = sorted(rows, key=lambda row: (row.row_id, row.repeat))
        return self.put_bytes("rows", b"".join(canonical_json(_line(row)) + b"\n" for row in ordered))

    def get_rows(self, ref: str, stage: str) -> tuple[Row, ...]:
        """Give the rows that ``put_rows`` kept, for the stage that they are of.

        Raises:
            LockError: As ``get_bytes``, and with the line that is no row.
        """
        lines = self.get_bytes(ref).splitlines()  # of bytes: text would be split at U+2028, too
        return tuple(self._row(ref, stage, number, line) for number, line in enumerate(lines, start=1))

    def unreferenced(self, lock: Lock) -> tuple[Path, ...]:
        """Give the files that no version of a stage, and no verdict about one, refers to."""
        held = {self._named(kind, ref) for ref in _references(lock) for kind in _SUFFIXES}
        here = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return tuple(path for path in here if path not in held and not path.name.startswith("."))

    def check(self, lock: Lock) -> int:
        """Make sure that every file which a lock refers to is there as the lock knows it; give their number.

        Raises:
            LockError: As ``get_bytes``.
        """
        refs = sorted(set(_references(lock)))
        for ref in refs:
            self.get_bytes(ref)
        return len(refs)

    def guard(self) -> Path:
        """Give the file by which writers of the lock wait for each other.

        Raises:
            LockError: If the folder cannot be made.
        """
        try:
            self._make_folder()
        except OSError as error:
            raise LockError(
                f"{self.folder} cannot be made: {error.strerror}: see to it that its folder can be written"
            ) from error
        return self.folder / _GUARD

    def _named(self, kind: Kind, ref: str) -> Path:
        match = _REF.fullmatch(ref)
        if match is None:
            raise LockError(
                f"{ref!r} is no reference to an artifact (sha256: and 64 hexadecimal digits): {self.repair}"
            )
        return self.folder / f"{kind}-{match[1][:_IN_THE_NAME]}{_SUFFIXES[kind]}"

    def _refuse_link(self, path: Path) -> None:
        """What is in the folder stays in it: a link would lead whoever wrote it out of there."""
        if path.is_symlink():
            raise LockError(f"{path} is a symbolic link, which artifacts never are: {self.repair}")

    def _make_folder(self) -> None:
        for path in (self.folder, self.folder / _GUARD):
            self._refuse_link(path)
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in _HOUSEKEEPING.items():
            if not (self.folder / name).exists():
                _write(self.folder / name, text.encode())

    def _row(self, ref: str, stage: str, number: int, line: bytes) -> Row:
        try:
            return _RowLine.model_validate_json(line).row(stage)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            told = ": ".join([*(str(part) for part in problem["loc"]), problem["msg"]])
            raise LockError(f"{self.path(ref)}:{number}: {told}: {self.repair}") from None


def _references(lock: Lock) -> Iterator[str]:
    """Every artifact that a lock refers to, also what earlier versions are made of, and what verdicts rest on."""
    for entry in lock.models:
        for version in entry.versions:
            yield from version.artifacts.refs()
            yield from (ref for claim in version.gate for ref in claim.rows)


def _write(path: Path, data: bytes) -> None:
    """Write a file whole: writers of the same content may meet here."""
    write_whole(path, data, f".{os.getpid()}.new")


class _Counts(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class _RowLine(BaseModel):
    """One line of a rows artifact."""

    model_config = ConfigDict(extra="forbid", strict=True)

    row_id: str
    repeat: int = Field(ge=0)
    state: RowState
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    output: str | None = None
    usage: _Counts | None = None

    def row(self, stage: str) -> Row:
        usage = None if self.usage is None else Usage(**self.usage.model_dump())
        return Row(self.row_id, stage, self.repeat, self.state, self.score, self.output, usage)


def _line(row: Row) -> dict[str, Any]:
    kept = {name: getattr(row, name) for name in _RowLine.model_fields}
    return {name: value for name, value in kept.items() if value is not None}
