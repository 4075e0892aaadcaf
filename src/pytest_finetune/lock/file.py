"""Reading and writing ``models.lock``: the same lock is the same bytes, and a write is whole or not at all."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import tomli_w
from pydantic import ValidationError

from pytest_finetune.core.records import Inconclusive, Tier
from pytest_finetune.core.shell import typed
from pytest_finetune.core.text import encoded
from pytest_finetune.errors import LockError, UsageError
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.model import VERSION, Entry, Lock, Version
from pytest_finetune.lock.writing import write_whole

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HEADER = """\
# The models that the gate pins. Commit this file together with the folder of artifacts beside it.
# Written by pytest-finetune: edits by hand are not kept.
#   build again:  pytest --ft-retrain
#   gate:         pytest --finetune-models=FILE

"""
_LARGEST = 16 << 20  # bytes; a thousand entries have about 3 MB
_DEEPEST = 50  # a parameter of a user's recipe may be nested
_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*"""
_DOTTED = re.compile(rf"(?<![\w-])(?:{_PART}){{{_DEEPEST}}}")  # tomllib takes time by the square of a key's parts
_TOLD = 20  # things that are wrong with it, in one message
_PATIENCE = 60.0  # seconds that a writer waits for another
_CONFLICT = re.compile(r"^(?:<{7}|\|{7}|={7}|>{7})(?: .*)?$", re.MULTILINE)
_FIRST = ("task", "stage", "model", "served_as", "served_models", "state", "score", "gate", "job", "predictors")
_EMPTY: tuple[object, ...] = ({}, (), [])
_USUAL = {"state": "candidate", "inconclusive": Inconclusive.OBSERVED, "tier": Tier.CRITICAL, "repeats": 1}


def read_lock(path: Path) -> Lock:
    """Read a lock.

    Args:
        path: of the file.

    Raises:
        LockError: If the file is missing, empty, too large, in conflict, not TOML, of a newer format, or says what no
            lock says; with the line where there is one, and what to do.
    """
    return parse_lock(lock_text(path), path)


def parse_lock(text: str, path: Path) -> Lock:
    """Read the text of a lock, such as one that git keeps.

    Args:
        text: of the file.
        path: how messages call it.

    Raises:
        LockError: As `read_lock`.
    """
    if not text.strip():
        raise LockError(f"{path} is empty: {_restore(path)}")
    if (line := conflict_in(text)) is not None:
        raise LockError(
            f"{path}:{line}: a git merge left its conflict markers here: resolve them with "
            f"`pytest-finetune lock fix --lock {typed(path)}`, or take one side's file with `git checkout --ours -- "
            f"{typed(path)}`, then pytest --ft-retrain the tasks of the other"
        )
    try:
        document = _loaded(text)
    except (ValueError, RecursionError) as error:
        raise LockError(f"{path} is not valid TOML: {error}: {_restore(path)}") from None
    _check_version(path, document)
    try:
        return Lock.model_validate(document)
    except ValidationError as error:
        raise LockError(f"{_told(path, text, document, error)}\n{_restore(path)}") from None
    except (LockError, UsageError, ArithmeticError, RecursionError) as error:
        raise LockError(f"{path}: {error}") from None


def render(lock: Lock) -> str:
    """Write a lock as TOML: one key a line, blocks sorted by task and stage."""
    blocks = [_block(entry) for entry in lock.models]
    document = {"version": lock.version} | ({"model": blocks} if blocks else {})
    return _HEADER + tomli_w.dumps(document)


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock: a crash leaves the old file or the new one.

    Raises:
        LockError: If the file cannot be written.
        UsageError: If a text in it is not Unicode.
    """
    with _only_writer(path):
        _replace(path, lock)


def update_lock(path: Path, entries: Iterable[Entry]) -> Lock:
    """Put entries into a lock, made where it does not exist; what they replace goes into their history.

    Returns:
        The lock as it was written.

    Raises:
        LockError: If the file cannot be read or written, or an entry was retired.
    """
    new = tuple(entries)
    return edit_lock(path, lambda lock: lock.with_entries(new))


def edit_lock(path: Path, change: Callable[[Lock], Lock]) -> Lock:
    """Change a lock, made where it does not exist; other writers wait meanwhile, so nothing is lost.

    Args:
        path: of the file.
        change: what it is to say, by what it says.

    Returns:
        The lock as it was written.

    Raises:
        LockError: If the file cannot be read or written.
    """
    with _only_writer(path):
        lock = change(read_lock(path) if path.exists() else Lock())
        _replace(path, lock)
    return lock


def conflict_in(text: str) -> int | None:
    """The first line at which a git merge left a conflict marker."""
    marker = _CONFLICT.search(text)
    return None if marker is None else _line(text, marker.start())


def lock_text(path: Path) -> str:
    """The text of a lock's file, whatever it says.

    Raises:
        LockError: If it cannot be read, or is too large for a lock.
    """
    if not path.exists():
        raise LockError(f"{path} does not exist: build the models and the lock with `pytest --ft-retrain`")
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)  # a link may lead to what has no end
        if len(content) > _LARGEST:
            raise LockError(f"{path} has more than {_LARGEST >> 20} MB, so it is no lock: {_restore(path)}")
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise LockError(f"{path} cannot be read: {error.strerror}: name a file that can be") from error
    except UnicodeDecodeError:
        raise LockError(f"{path} is not UTF-8 text: {_restore(path)}") from None


def _restore(path: Path) -> str:
    return (
        f"take the last good one with `git checkout -- {typed(path)}`, or build it again with `pytest --ft-retrain`"
    )


def _loaded(text: str) -> dict[str, Any]:
    """The document, if it is within bounds."""
    if _DOTTED.search(text):
        raise ValueError(f"a key has more than {_DEEPEST} parts")
    document = tomllib.loads(text)
    _check_values(document)
    return document


def _check_values(value: object, depth: int = 0) -> None:
    """Refuse what can be read and not be written: integers beyond TOML's 64 bits, and tables without a bottom."""
    if depth > _DEEPEST:
        raise ValueError(f"its values are nested more than {_DEEPEST} deep")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_values(item, depth + 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("an integer has more than 64 bits")


def _check_version(path: Path, document: dict[str, Any]) -> None:
    version = document.get("version")
    if type(version) is not int:
        raise LockError(f"{path} has no `version = {VERSION}`, so it is no lock: {_restore(path)}")
    if version > VERSION:
        raise LockError(
            f"{path} has format {version}, this pytest-finetune reads up to {VERSION}: "
            "pip install --upgrade pytest-finetune"
        )


def _told(path: Path, text: str, document: dict[str, Any], error: ValidationError) -> str:
    """One line for each thing that is wrong, with the line of its block."""
    starts = [match.start() for match in re.finditer(r"^\[\[model\]\]", text, re.MULTILINE)]
    lines = [f"… and {error.error_count() - _TOLD} more"] if error.error_count() > _TOLD else []
    for problem in reversed(error.errors(include_url=False, include_input=False)[:_TOLD]):
        where, place = str(path), problem["loc"]
        if len(place) > 1 and place[0] == "model" and isinstance(place[1], int) and place[1] < len(starts):
            block = document["model"][place[1]]
            names = [block.get(key, "?") for key in ("task", "stage")] if isinstance(block, dict) else ["?"]
            name = "/".join(map(str, names))
            where, place = f"{path}:{_line(text, starts[place[1]])}: [[model]] {name}", place[2:]
        message = "unknown key" if problem["type"] == "extra_forbidden" else problem["msg"]
        lines.append(f"{where}: {'.'.join(map(str, place))}: {message}")
    return "\n".join(reversed(lines))


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _block(entry: Entry) -> dict[str, Any]:
    """What the block of an entry holds; earlier versions come last."""
    block = _version(entry)
    if entry.previous:
        block["previous"] = [_version(version) for version in entry.previous]
    return block


def _version(version: Version) -> dict[str, Any]:
    """A version in the order a reviewer reads it; what is not set, empty, or as usual, is left out."""
    dumped = version.model_dump(exclude_none=True, exclude={"previous"})
    dumped["gate"] = [_said(claim) for claim in dumped["gate"]]
    dumped["artifacts"]["suites"] = dict(sorted(dumped["artifacts"]["suites"].items()))
    dumped["artifacts"] = _said(dumped["artifacts"])
    held = _said(dumped)
    return {key: held[key] for key in (*_FIRST, *held) if key in held}


def _said(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value not in _EMPTY and _USUAL.get(key) != value}


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    guard = Artifacts.beside(path).guard()
    try:
        with filelock.FileLock(guard, timeout=_PATIENCE):
            yield
    except filelock.Timeout:
        raise LockError(
            f"{path}: another process has been writing it for {_PATIENCE:.0f} s: wait for it or end it, and try again"
        ) from None


def _replace(path: Path, lock: Lock) -> None:
    target = path.resolve()  # a symbolic link stays one
    try:
        write_whole(target, encoded(render(lock)))
        _sync_folder(target.parent)
    except OSError as error:
        raise LockError(
            f"{path} cannot be written: {error.strerror}: see to it that its folder can be written"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make the new name last, too; Windows neither can nor needs to."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
